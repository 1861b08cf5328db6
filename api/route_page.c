/* GET / and the page's files, compiled in or, while they are worked on, from a folder. */
#include "api/routes_internal.h"

#include "base/ft_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nothing but our own files runs, and nothing frames the page: a document that it
 * shows can do no harm even where its escaping had a hole. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                             "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static const struct {
    const char *ending, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".ico", "image/x-icon"},
    {".json", "application/json"},
    {".woff2", "font/woff2"},
    {".txt", "text/plain; charset=utf-8"},
};

/* NULL: not a kind of file that the page has. */
static const char *type_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof(types) / sizeof(*types); i++)
        if (!strcmp(dot, types[i].ending))
            return types[i].type;
    return NULL;
}

int ft_page_has_kind(const char *path)
{
    return type_of(path) != NULL;
}

/* Whether If-None-Match names this tag, perhaps among others. */
static int is_known(const ft_request *q, const char *etag)
{
    const char *known = ft_request_header(q, "If-None-Match");
    return known && (!strcmp(known, "*") || strstr(known, etag));
}

static void answer_file(ft_request *q, const char *type, const char *etag, const void *bytes, size_t n, int compiled_in)
{
    ft_answer_header(q, "Content-Security-Policy", policy);
    ft_answer_header(q, "Referrer-Policy", "no-referrer");
    ft_answer_header(q, "Cache-Control", "no-cache"); /* ask again, with the tag */
    ft_answer_header(q, "ETag", etag);
    if (is_known(q, etag))
        ft_answer_static(q, 304, type, "", 0);
    else if (compiled_in)
        ft_answer_static(q, 200, type, bytes, n);
    else
        ft_answer_bytes(q, 200, type, bytes, n);
}

/* 1 when answered. A name holds no slash: the route takes one segment. */
static int answer_from_folder(ft_request *q, const char *name, const char *type)
{
    char *path = ft_path_join(q->server->options.web_folder, name);
    ft_buffer content = {0};
    const ft_code rc = path ? ft_file_read(path, (size_t)16 << 20, &content, NULL) : FT_ERR_MEM;
    if (!rc) {
        char etag[24], hex[FT_DIGEST_HEX];
        const ft_digest digest = ft_digest_of(content.data, content.size);
        ft_digest_hex(&digest, hex);
        snprintf(etag, sizeof(etag), "\"%.16s\"", hex);
        answer_file(q, type, etag, content.data ? content.data : "", content.size, 0);
    }
    ft_buffer_release(&content);
    free(path);
    return rc == FT_OK;
}

static void answer_named(ft_request *q, const char *name)
{
    const char *type = type_of(name);
    const int plain = name[0] != '.' && !strchr(name, '/');
    if (type && plain && q->server->options.web_folder && answer_from_folder(q, name, type))
        return;
    for (size_t i = 0; type && !q->server->options.web_folder && i < ft_web_file_count; i++)
        if (!strcmp(ft_web_files[i].name, name)) {
            answer_file(q, type, ft_web_files[i].etag, ft_web_files[i].bytes, ft_web_files[i].size, 1);
            return;
        }
    ft_refuse(q, 404, q->face == FT_FACE_OWN ? "not-found" : NULL, NULL,
              "there is nothing at /%s; docs/http.md lists the routes", name);
}

void ft_route_page_file(ft_request *q)
{
    answer_named(q, q->segment[0]);
}

/* A browser gets the page; a client of infini-gram, what can be asked. */
void ft_route_root(ft_request *q)
{
    const char *accept = ft_request_header(q, "Accept");
    ft_answer_header(q, "Vary", "Accept");
    if (accept && strstr(accept, "text/html")) {
        answer_named(q, "index.html");
        return;
    }
    json_t *names = json_array();
    const ft_trace_scope *scope = ft_request_scope(q);
    for (size_t i = 0; i < scope->owner_count; i++)
        if (scope->owners[i].index_count)
            (void)json_array_append_new(names, json_string(scope->owners[i].name));
    (void)json_array_append_new(names, json_string(ft_federation_name(q->server->federation)));
    ft_answer_json(q, 200, json_pack("{s:s,s:s,s:o}", "name", "flextrace", "version", FT_VERSION, "indexes", names));
}
