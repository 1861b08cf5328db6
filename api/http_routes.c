/* The table of routes. docs/http.md describes each. */
#include "api/http_internal.h"
#include "api/routes_internal.h"

#include <stdio.h>
#include <string.h>

static const ft_route routes[] = {
    {"GET", "/livez", FT_FACE_OWN, FT_ROUTE_QUICK | FT_ROUTE_ALWAYS, ft_route_livez},
    {"GET", "/readyz", FT_FACE_OWN, FT_ROUTE_ALWAYS, ft_route_readyz},
    {"GET", "/health", FT_FACE_OPENAI, FT_ROUTE_QUICK | FT_ROUTE_ALWAYS, ft_route_health},
    {"GET", "/health/", FT_FACE_ATTRIBUTION, FT_ROUTE_QUICK | FT_ROUTE_ALWAYS, ft_route_health_empty},
    {"GET", "/metrics", FT_FACE_OWN, FT_ROUTE_ALWAYS, ft_route_metrics},
    {"GET", "/version", FT_FACE_OWN, FT_ROUTE_QUICK | FT_ROUTE_ALWAYS, ft_route_version},

    {"GET", "/v1/models", FT_FACE_OPENAI, FT_ROUTE_QUICK, ft_route_models},
    {"GET", "/v1/models/{}", FT_FACE_OPENAI, FT_ROUTE_QUICK, ft_route_model},
    {"POST", "/v1/completions", FT_FACE_OPENAI, 0, ft_route_completions},

    {"POST", "/v1/chat/completions", FT_FACE_OPENAI, 0, ft_route_chat},
    {"POST", "/tokenize", FT_FACE_OPENAI, 0, ft_route_tokenize},
    {"POST", "/detokenize", FT_FACE_OPENAI, 0, ft_route_detokenize},
    {"GET", "/tokenizer_info", FT_FACE_OPENAI, 0, ft_route_tokenizer_info},

    {"GET", "/v1/owners", FT_FACE_OWN, 0, ft_route_owners}, /* not quick: it counts the newest documents */
    {"GET", "/v1/demo", FT_FACE_OWN, 0, ft_route_demo},
    {"GET", "/v1/traces", FT_FACE_OWN, 0, ft_route_traces},
    {"POST", "/v1/traces", FT_FACE_OWN, 0, ft_route_trace_new},
    {"GET", "/v1/traces/{}", FT_FACE_OWN, 0, ft_route_trace},
    {"GET", "/v1/traces/{}/receipt", FT_FACE_OWN, 0, ft_route_receipt},
    {"GET", "/v1/traces/{}/receipt/salt", FT_FACE_OWN, 0, ft_route_receipt_salt},
    {"GET", "/v1/keys", FT_FACE_OWN, FT_ROUTE_QUICK, ft_route_keys},
    {"GET", "/v1/traces/{}/routing", FT_FACE_OWN, 0, ft_route_trace_routing},
    {"GET", "/v1/routing", FT_FACE_OWN, 0, ft_route_routing},

    {"GET", "/v1/compliance/outputs", FT_FACE_OWN, 0, ft_route_outputs},
    {"GET", "/v1/compliance/verbatim", FT_FACE_OWN, 0, ft_route_verbatim},
    {"GET", "/v1/compliance/experts", FT_FACE_OWN, 0, ft_route_experts_used},
    {"GET", "/v1/compliance/optouts", FT_FACE_OWN, 0, ft_route_optouts_proved},
    {"GET", "/v1/compliance/usage", FT_FACE_OWN, 0, ft_route_usage},
    {"GET", "/v1/compliance/access", FT_FACE_OWN, 0, ft_route_access},
    {"GET", "/v1/compliance/export", FT_FACE_OWN, 0, ft_route_export},
    {"GET", "/v1/compliance/verify", FT_FACE_OWN, 0, ft_route_store_verify},
    {"GET", "/v1/compliance/state", FT_FACE_OWN, 0, ft_route_state},
    {"GET", "/v1/compliance/retention", FT_FACE_OWN, 0, ft_route_retention},
    {"PUT", "/v1/compliance/retention", FT_FACE_OWN, 0, ft_route_retention_set},
    {"DELETE", "/v1/compliance/retention", FT_FACE_OWN, 0, ft_route_retention_withdraw},
    {"GET", "/v1/jobs", FT_FACE_OWN, 0, ft_route_jobs},
    {"GET", "/v1/jobs/{}", FT_FACE_OWN, 0, ft_route_job},
    {"DELETE", "/v1/jobs/{}", FT_FACE_OWN, 0, ft_route_job_cancel},
    {"POST", "/v1/takedowns", FT_FACE_OWN, 0, ft_route_takedown_new},
    {"GET", "/v1/takedowns", FT_FACE_OWN, 0, ft_route_takedowns},
    {"GET", "/v1/takedowns/{}", FT_FACE_OWN, 0, ft_route_takedown},
    {"GET", "/v1/takedowns/{}/certificate", FT_FACE_OWN, 0, ft_route_takedown_certificate},
    {"GET", "/v1/takedowns/{}/verify", FT_FACE_OWN, 0, ft_route_takedown_verify},

    {"GET", "/indexes", FT_FACE_ATTRIBUTION, FT_ROUTE_QUICK, ft_route_indexes},
    {"POST", "/{}/attribution", FT_FACE_ATTRIBUTION, 0, ft_route_attribution},
    {"GET", "/{}/documents", FT_FACE_ATTRIBUTION, 0, ft_route_documents},
    {"GET", "/{}/documents/", FT_FACE_ATTRIBUTION, 0, ft_route_documents},
    {"GET", "/{}/documents/{}", FT_FACE_ATTRIBUTION, 0, ft_route_document},
    {"GET", "/{}/count", FT_FACE_ATTRIBUTION, 0, ft_route_count},

    {"GET", "/", FT_FACE_INFINIGRAM, FT_ROUTE_QUICK, ft_route_root},
    {"POST", "/", FT_FACE_INFINIGRAM, 0, ft_route_infinigram},
    {"GET", "/{}", FT_FACE_OWN, FT_ROUTE_QUICK | FT_ROUTE_FILES, ft_route_page_file},
};

static int fits(const char *pattern, const char *path, char segment[2][256])
{
    unsigned taken = 0;
    while (*pattern && (*pattern == *path || *pattern == '{')) {
        if (*pattern != '{') {
            pattern++;
            path++;
            continue;
        }
        const size_t n = strcspn(path, "/");
        if (n == 0 || n >= sizeof(segment[0]))
            return 0;
        snprintf(segment[taken++], sizeof(segment[0]), "%.*s", (int)n, path);
        path += n;
        pattern += 2;
    }
    return !*pattern && !*path;
}

/* Paths of the OpenAI API that we have not, and helpers that its clients probe. */
static int is_openai_path(const char *path)
{
    static const char *const starts[] = {"/v1/chat/",     "/v1/completions", "/v1/embeddings", "/v1/models",
                                         "/v1/responses", "/tokenize",       "/detokenize",    "/tokenizer_info"};
    for (size_t i = 0; i < sizeof(starts) / sizeof(*starts); i++)
        if (!strncmp(path, starts[i], strlen(starts[i])))
            return 1;
    return 0;
}

const ft_route *ft_route_find(const char *method, const char *path, char segment[2][256], char allowed[32],
                              ft_face *face)
{
    allowed[0] = '\0';
    *face = is_openai_path(path) ? FT_FACE_OPENAI : FT_FACE_OWN;
    for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++) {
        const ft_route *r = &routes[i];
        if (!fits(r->pattern, path, segment) || (r->flags & FT_ROUTE_FILES && (*allowed || !ft_page_has_kind(path))))
            continue; /* the page's files come last: what another route has is none of them */
        const int head = !strcmp(r->method, "GET") && !strcmp(method, "HEAD");
        if (head || !strcmp(r->method, method)) {
            *face = r->face;
            return r;
        }
        *face = r->face;
        const size_t n = strlen(allowed);
        snprintf(allowed + n, 32 - n, "%s%s", n ? ", " : "", !strcmp(r->method, "GET") ? "GET, HEAD" : r->method);
    }
    return NULL;
}
