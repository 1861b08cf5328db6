/* Answers: JSON, bytes, and each face's shape of an error. */
#include "api/http_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char out_of_memory[] =
    "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"param\":null,"
    "\"code\":null}}";

static void answer(ft_request *q, unsigned status, const char *type, const void *bytes, size_t n,
                   enum MHD_ResponseMemoryMode mode)
{
    if (q->answered)
        return;
    q->response = MHD_create_response_from_buffer(n, (void *)bytes, mode);
    q->status = status;
    q->answered = 1;
    ft_answer_header(q, "Content-Type", type);
}

void ft_answer_bytes(ft_request *q, unsigned status, const char *type, const void *bytes, size_t n)
{
    answer(q, status, type, bytes, n, MHD_RESPMEM_MUST_COPY);
}

void ft_answer_static(ft_request *q, unsigned status, const char *type, const void *bytes, size_t n)
{
    answer(q, status, type, bytes, n, MHD_RESPMEM_PERSISTENT);
}

static void answer_json_as(ft_request *q, unsigned status, const char *type, json_t *value)
{
    ft_buffer text = {0};
    if (q->answered) {
        json_decref(value);
        return;
    }
    if (value && ft_json_write(value, &text, NULL) == FT_OK && ft_buffer_append(&text, "\n", 1, NULL) == FT_OK) {
        answer(q, status, type, text.data, text.size, MHD_RESPMEM_MUST_FREE);
        if (!q->response)
            ft_buffer_release(&text);
    } else {
        ft_buffer_release(&text);
        answer(q, 503, "application/json", out_of_memory, sizeof(out_of_memory) - 1, MHD_RESPMEM_PERSISTENT);
    }
    json_decref(value);
}

void ft_answer_json(ft_request *q, unsigned status, json_t *value)
{
    answer_json_as(q, status, "application/json", value);
}

void ft_answer_header(ft_request *q, const char *name, const char *value)
{
    if (q->header_count >= FT_MAX_HEADERS)
        return;
    char *copy = strdup(value);
    if (!copy)
        return;
    for (char *p = copy; *p; p++)
        if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
            *p = '?';
    q->headers[q->header_count].name = name;
    q->headers[q->header_count++].value = copy;
}

/* --- Errors ------------------------------------------------------------------ */

static const struct {
    unsigned status;
    const char *title, *openai_type;
} statuses[] = {
    {400, "Bad request", "invalid_request_error"},
    {401, "Unauthorized", "invalid_request_error"},
    {403, "Forbidden", "permission_error"},
    {404, "Not found", "invalid_request_error"},
    {405, "Method not allowed", "invalid_request_error"},
    {408, "Request timeout", "invalid_request_error"},
    {409, "Conflict", "invalid_request_error"},
    {413, "Request too large", "invalid_request_error"},
    {415, "Unsupported media type", "invalid_request_error"},
    {421, "Misdirected request", "invalid_request_error"},
    {422, "Invalid request", "invalid_request_error"},
    {429, "Too many requests", "rate_limit_error"},
    {500, "Server error", "server_error"},
    {503, "Server overloaded", "unavailable_error"},
};

static size_t status_row(unsigned status)
{
    size_t i = 0;
    while (i + 1 < sizeof(statuses) / sizeof(*statuses) && statuses[i].status != status)
        i++;
    return i;
}

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

static json_t *printable(const char *message)
{
    return ft_json_text(message, strlen(message));
}

json_t *ft_openai_error(unsigned status, const char *code, const char *param, json_t *more, const char *message)
{
    json_t *e =
        json_pack("{s:o,s:s,s:o,s:o}", "message", printable(message), "type", statuses[status_row(status)].openai_type,
                  "param", text_or_null(param), "code", text_or_null(code));
    if (e && more)
        (void)json_object_update(e, more);
    json_decref(more);
    return json_pack("{s:o}", "error", e);
}

int ft_request_has_body(const ft_request *q)
{
    return !strcmp(q->method, "POST") || !strcmp(q->method, "PUT");
}

/* Where the other side's validation says that a field stands. */
static const char *place_of(const ft_request *q, const char *param)
{
    return ft_request_has_body(q) ? "body" : !strcmp(param, "document_index") ? "path" : "query";
}

/* infinigram-api's list of what is wrong; its clients read it whenever the status is 422. Without a field it is the
 * whole body. */
static json_t *validation_errors(const ft_request *q, const char *param, const char *message)
{
    json_t *where = param ? json_pack("[s,s]", place_of(q, param), param) : json_pack("[s]", "body");
    return json_pack("[{s:o,s:o,s:s}]", "loc", where, "msg", printable(message), "type", "value_error");
}

/* RFC 9457. A field of the body that is at fault is pointed at by a JSON Pointer in
 * `errors`, one of the URL is named. */
static json_t *problem(const ft_request *q, unsigned status, const char *name, const char *param, json_t *more,
                       const char *message)
{
    char type[120] = "about:blank", instance[200];
    if (name)
        snprintf(type, sizeof(type), "%s%s", q->face == FT_FACE_ATTRIBUTION ? "" : "urn:flextrace:problem:", name);
    snprintf(instance, sizeof(instance), "urn:flextrace:request:%s", q->id);
    const char *title = statuses[status_row(status)].title;
    if (q->face == FT_FACE_ATTRIBUTION && status == 500)
        title = "infini-gram error";
    json_t *p = json_pack("{s:s,s:s,s:i,s:o,s:s}", "type", type, "title", title, "status", (int)status, "detail",
                          printable(message), "instance", instance);
    if (p && q->face == FT_FACE_ATTRIBUTION && status == 422)
        (void)json_object_set_new(p, "errors", validation_errors(q, param, message));
    else if (p && param) {
        json_t *one =
            ft_request_has_body(q)
                ? json_pack("{s:o,s:o}", "detail", printable(message), "pointer", json_sprintf("#/%s", param))
                : json_pack("{s:o,s:s}", "detail", printable(message), "parameter", param);
        (void)json_object_set_new(p, "errors", json_pack("[o]", one));
    }
    if (p && more)
        (void)json_object_update(p, more);
    json_decref(more);
    return p;
}

void ft_refuse_with(ft_request *q, unsigned status, const char *name, const char *param, json_t *more,
                    const char *message)
{
    if (q->answered) {
        json_decref(more);
        return;
    }
    if (status == 503 || status == 429)
        ft_answer_header(q, "Retry-After", "1");
    switch (q->face) {
    case FT_FACE_OPENAI:
        ft_answer_json(q, status, ft_openai_error(status, name, param, more, message));
        return;
    case FT_FACE_INFINIGRAM:
        json_decref(more);
        ft_answer_json(q, status, json_pack("{s:o}", "error", printable(message)));
        return;
    case FT_FACE_ATTRIBUTION:
        if (status == 400) { /* the original's validation answers 422 */
            status = 422;
            name = "request-validation-failed";
        } else if (status == 503) {
            name = "server-overloaded";
        }
        break;
    case FT_FACE_OWN:
        if (status == 400 && param && ft_request_has_body(q)) { /* good JSON, a wrong field */
            status = 422;
            name = name ? name : "invalid-field";
        }
        break;
    }
    answer_json_as(q, status, "application/problem+json", problem(q, status, name, param, more, message));
}

void ft_refuse(ft_request *q, unsigned status, const char *name, const char *param, const char *fmt, ...)
{
    char message[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    ft_refuse_with(q, status, name, param, NULL, message);
}

/* The one table from codes to HTTP. Messages of 500s may name our own files: they
 * go to the log, not to the client. */
void ft_refuse_status(ft_request *q, const char *param, const ft_status *st)
{
    const char *message = st->msg[0] ? st->msg : ft_code_name(st->code);
    switch (st->code) {
    case FT_ERR_ARG:
    case FT_ERR_FORMAT:
        ft_refuse(q, 400, NULL, param, "%s", message);
        return;
    case FT_ERR_UNSUPPORTED:
        ft_refuse(q, 400, q->face == FT_FACE_OPENAI ? "unsupported_parameter" : "unsupported", param, "%s", message);
        return;
    case FT_ERR_NOT_FOUND:
        ft_refuse(q, 404, q->face == FT_FACE_OWN ? "not-found" : NULL, param, "%s", message);
        return;
    case FT_ERR_LIMIT:
    case FT_ERR_MEM:
        ft_refuse(q, 503, "overloaded", param, "%s", message);
        return;
    case FT_ERR_CANCELLED:
        ft_refuse(q, 503, "overloaded", param, "the work was stopped before it ended; try again");
        return;
    case FT_OK:
    case FT_ERR_IO:
        break;
    }
    ft_server_log(q->server, "%s: %s", q->id, message);
    ft_refuse(q, 500, NULL, param, "the server could not do this; its log says why, under request %s", q->id);
}
