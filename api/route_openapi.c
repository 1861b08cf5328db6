/* GET /openapi.json: every route that the server has, out of the table of routes itself (OpenAPI 3.1). What a route
 * takes and gives in full stands in docs/http.md; here are its path, parameters, media types and the shape of its
 * errors. */
#include "api/routes_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PATH = 200 };

static const struct {
    const char *tag, *about, *media, *schema;
} faces[] = {
    [FT_FACE_OWN] = {"flextrace", "flextrace's own routes; an error is a problem (RFC 9457)",
                     "application/problem+json", "Problem"},
    [FT_FACE_OPENAI] = {"openai", "what clients of OpenAI's API ask for, with its errors", "application/json",
                        "OpenAIError"},
    [FT_FACE_ATTRIBUTION] = {"infinigram-api", "what OLMoTrace's interface asks for", "application/problem+json",
                             "Problem"},
    [FT_FACE_INFINIGRAM] = {"infini-gram", "infini-gram's own endpoint", "application/json", "InfinigramError"},
};

/* What the segment at `at` of a pattern is called; it begins with "{}". */
static const char *segment_name(const ft_route *r, const char *at)
{
    static const char documents[] = "/documents/";
    const size_t before = (size_t)(at - r->pattern);
    if (r->flags & FT_ROUTE_FILES)
        return "file";
    if (before == 1)
        return "index";
    return before >= sizeof(documents) - 1 && !strncmp(at - (sizeof(documents) - 1), documents, sizeof(documents) - 1)
               ? "number"
               : "id";
}

static void write_path(const ft_route *r, char out[MAX_PATH])
{
    size_t n = 0;
    for (const char *p = r->pattern; *p && n < MAX_PATH - 20; p++)
        if (*p == '{')
            n += (size_t)snprintf(out + n, MAX_PATH - n, "{%s}", segment_name(r, p++));
        else
            out[n++] = *p;
    out[n] = '\0';
}

/* "get_v1_traces_id" */
static void write_name(const char *method, const char *path, char out[MAX_PATH + 12])
{
    size_t n = 0;
    for (const char *p = method; *p; p++)
        out[n++] = (char)tolower((unsigned char)*p);
    for (const char *p = path; *p && n < MAX_PATH + 10; p++)
        if (*p != '{' && *p != '}')
            out[n++] = *p == '/' || *p == '.' ? '_' : *p;
    out[n] = '\0';
}

/* --- What a route takes ------------------------------------------------------------------------------- */

static const char *type_of(const ft_route *r, const char *name)
{
    static const char *const whole[] = {"limit",     "min_tokens", "documents", "bucket",
                                        "token_ids", "page",       "page_size", "maximum_document_display_length",
                                        "size",      NULL};
    if (r->run == ft_route_receipt_consistency) /* elsewhere these are times */
        return "integer";
    for (size_t i = 0; whole[i]; i++)
        if (!strcmp(whole[i], name))
            return "integer";
    return !strcmp(name, "min_share") ? "number" : "string";
}

static void add_parameter(json_t *list, const ft_route *r, const char *name, const char *where)
{
    const int in_path = !strcmp(where, "path");
    json_array_append_new(list, json_pack("{s:s,s:s,s:b,s:{s:s}}", "name", name, "in", where, "required", in_path,
                                          "schema", "type", in_path ? "string" : type_of(r, name)));
}

/* The next word of a list; NULL behind the last. */
static const char *next_word(const char **list, char word[64])
{
    *list += strspn(*list, " ");
    const size_t n = strcspn(*list, " ");
    if (!n)
        return NULL;
    snprintf(word, 64, "%.*s", (int)n, *list);
    *list += n;
    return word;
}

static json_t *parameters_of(const ft_route *r)
{
    char word[64];
    json_t *list = json_array();
    for (const char *p = strchr(r->pattern, '{'); p; p = strchr(p + 1, '{'))
        add_parameter(list, r, segment_name(r, p), "path");
    for (const char *p = r->query ? r->query : ""; next_word(&p, word);)
        add_parameter(list, r, word, "query");
    return list;
}

static json_t *body_of(const ft_route *r)
{
    char word[64];
    if (strcmp(r->method, "POST") != 0 && strcmp(r->method, "PUT") != 0)
        return NULL;
    json_t *needed = json_array();
    for (const char *p = r->body ? r->body : ""; next_word(&p, word);)
        json_array_append_new(needed, json_string(word));
    return json_pack("{s:b,s:{s:{s:{s:s,s:o}}}}", "required", 1, "content", "application/json", "schema", "type",
                     "object", "required", needed);
}

/* --- What it gives ---------------------------------------------------------------------------------------- */

static json_t *responses_of(const ft_route *r)
{
    char type[64];
    json_t *content = json_object();
    for (const char *p = r->types ? r->types : "application/json"; next_word(&p, type);)
        json_object_set_new(content, type, json_object());
    json_t *good = json_pack("{s:s}", "description", "done");
    if (json_object_size(content))
        json_object_set(good, "content", content);
    json_decref(content);
    char reference[80];
    snprintf(reference, sizeof(reference), "#/components/schemas/%s", faces[r->face].schema);
    return json_pack("{s:o,s:{s:s,s:{s:{s:{s:s}}}}}", "2XX", good, "default", "description", "refused, or failed",
                     "content", faces[r->face].media, "schema", "$ref", reference);
}

static json_t *operation_of(const ft_route *r, const char *path)
{
    char name[MAX_PATH + 12];
    write_name(r->method, path, name);
    json_t *body = body_of(r);
    json_t *o = json_pack("{s:s,s:[s],s:s,s:o,s:o}", "operationId", name, "tags", faces[r->face].tag, "summary",
                          r->about, "parameters", parameters_of(r), "responses", responses_of(r));
    if (body && json_object_set_new(o, "requestBody", body) != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* --- All of it ---------------------------------------------------------------------------------------------- */

static json_t *text_fields(const char *required, const char *const *fields)
{
    json_t *properties = json_object();
    for (size_t i = 0; fields[i]; i++)
        json_object_set_new(properties, fields[i],
                            json_pack("{s:s}", "type", strcmp(fields[i], "status") ? "string" : "integer"));
    return json_pack("{s:s,s:[s],s:o}", "type", "object", "required", required, "properties", properties);
}

static json_t *schemas(void)
{
    static const char *const problem[] = {"type", "title", "status", "detail", "instance", NULL};
    static const char *const plain[] = {"error", NULL};
    return json_pack("{s:o,s:{s:s,s:[s],s:{s:{s:s,s:[s,s],s:{s:{s:s},s:{s:s},s:{s:[s,s]},s:{s:[s,s]}}}}},s:o}",
                     "Problem", text_fields("status", problem),                              /* */
                     "OpenAIError", "type", "object", "required", "error", "properties",     /* */
                     "error", "type", "object", "required", "message", "type", "properties", /* */
                     "message", "type", "string", "type", "type", "string",                  /* */
                     "param", "type", "string", "null", "code", "type", "string", "null",    /* */
                     "InfinigramError", text_fields("error", plain));
}

void ft_route_openapi(ft_request *q)
{
    size_t count;
    const ft_route *routes = ft_routes(&count);
    json_t *paths = json_object(), *tags = json_array();
    for (size_t i = 0; i < count; i++) {
        char path[MAX_PATH], method[12] = "";
        write_path(&routes[i], path);
        for (size_t k = 0; routes[i].method[k] && k < sizeof(method) - 1; k++)
            method[k] = (char)tolower((unsigned char)routes[i].method[k]);
        if (!json_object_get(paths, path))
            json_object_set_new(paths, path, json_object());
        json_object_set_new(json_object_get(paths, path), method, operation_of(&routes[i], path));
    }
    for (size_t i = 0; i < sizeof(faces) / sizeof(*faces); i++)
        json_array_append_new(tags, json_pack("{s:s,s:s}", "name", faces[i].tag, "description", faces[i].about));
    ft_answer_json(q, 200,
                   json_pack("{s:s,s:{s:s,s:s,s:s},s:o,s:o,s:{s:o}}", "openapi", "3.1.0", "info", "title", "flextrace",
                             "version", FT_VERSION, "description",
                             "Answers, and whose expert and documents stand behind them. HEAD goes wherever GET does.",
                             "tags", tags, "paths", paths, "components", "schemas", schemas()));
}
