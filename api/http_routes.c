/* The table of routes. docs/http.md describes each, /openapi.json all of them (route_openapi.c). */
#include "api/http_internal.h"
#include "api/routes_internal.h"

#include <stdio.h>
#include <string.h>

/* Parameters of the URL that several routes have, and what else than JSON they answer with. */
#define FILTER_BUT_WITHOUT "from to owner document verdict min_tokens key expert min_share model q "
#define FILTER FILTER_BUT_WITHOUT "without "
#define PAGE "limit after before order include "
#define CSV "application/json text/csv"

static const ft_route routes[] = {
    {"GET", "/livez", FT_FACE_OWN, FT_ROUTE_QUICK | FT_ROUTE_ALWAYS, ft_route_livez, "The process turns over", NULL,
     NULL, NULL},
    {"GET", "/readyz", FT_FACE_OWN, FT_ROUTE_ALWAYS, ft_route_readyz,
     "Model, indexes and store answer; each check by name", NULL, NULL, NULL},
    {"GET", "/health", FT_FACE_OPENAI, FT_ROUTE_QUICK | FT_ROUTE_ALWAYS, ft_route_health, "The server takes requests",
     NULL, NULL, NULL},
    {"GET", "/health/", FT_FACE_ATTRIBUTION, FT_ROUTE_QUICK | FT_ROUTE_ALWAYS, ft_route_health_empty,
     "The same, without a body", NULL, NULL, ""},
    {"GET", "/metrics", FT_FACE_OWN, FT_ROUTE_ALWAYS, ft_route_metrics, "Prometheus' text format", NULL, NULL,
     "text/plain"},
    {"GET", "/version", FT_FACE_OWN, FT_ROUTE_QUICK | FT_ROUTE_ALWAYS, ft_route_version,
     "Version, kernels, fingerprint", NULL, NULL, NULL},
    {"GET", "/openapi.json", FT_FACE_OWN, FT_ROUTE_QUICK | FT_ROUTE_ALWAYS, ft_route_openapi, "This description", NULL,
     NULL, NULL},

    {"GET", "/v1/models", FT_FACE_OPENAI, FT_ROUTE_QUICK, ft_route_models,
     "The model: its numbers and its experts' states", NULL, NULL, NULL},
    {"GET", "/v1/models/{}", FT_FACE_OPENAI, FT_ROUTE_QUICK, ft_route_model, "One model", NULL, NULL, NULL},
    {"POST", "/v1/completions", FT_FACE_OPENAI, 0, ft_route_completions,
     "Completions; with flextrace.trace also whose they are", NULL, "prompt", "application/json text/event-stream"},

    {"POST", "/v1/chat/completions", FT_FACE_OPENAI, 0, ft_route_chat, "The same of a conversation", NULL, "messages",
     "application/json text/event-stream"},
    {"POST", "/tokenize", FT_FACE_OPENAI, 0, ft_route_tokenize, "A text's tokens", NULL, NULL, NULL},
    {"POST", "/detokenize", FT_FACE_OPENAI, 0, ft_route_detokenize, "The text of tokens", NULL, "tokens", NULL},
    {"GET", "/tokenizer_info", FT_FACE_OPENAI, 0, ft_route_tokenizer_info, "The tokenizer's configuration", NULL, NULL,
     NULL},

    {"GET", "/v1/owners", FT_FACE_OWN, 0, ft_route_owners, "Who takes part, with how much", NULL, NULL,
     NULL}, /* not quick: it counts the newest documents */
    {"GET", "/v1/optouts", FT_FACE_OWN, 0, ft_route_optouts,
     "Whose experts take part in nothing, whatever a request says", NULL, NULL, NULL},
    {"POST", "/v1/optouts", FT_FACE_OWN, 0, ft_route_optout_new, "An order that an owner's expert takes no part", NULL,
     "owner", NULL},
    {"GET", "/v1/optouts/{}", FT_FACE_OWN, 0, ft_route_optout, "An owner's", NULL, NULL, NULL},
    {"DELETE", "/v1/optouts/{}", FT_FACE_OWN, 0, ft_route_optout_withdraw, "Withdraws the order", NULL, NULL, NULL},
    {"GET", "/v1/demo", FT_FACE_OWN, 0, ft_route_demo, "What the page opens with", NULL, NULL, NULL},
    {"GET", "/v1/traces", FT_FACE_OWN, 0, ft_route_traces, "Stored traces, in pages", FILTER PAGE, NULL, NULL},
    {"POST", "/v1/traces", FT_FACE_OWN, 0, ft_route_trace_new, "The trace of a text from anywhere", NULL, NULL, NULL},
    {"GET", "/v1/traces/{}", FT_FACE_OWN, 0, ft_route_trace, "A stored trace; its lineage as W3C PROV",
     "routing format", NULL, NULL},
    {"GET", "/v1/traces/{}/receipt", FT_FACE_OWN, 0, ft_route_receipt, "Its receipt, a DSSE envelope", "prompt", NULL,
     NULL},
    {"GET", "/v1/traces/{}/receipt/salt", FT_FACE_OWN, 0, ft_route_receipt_salt,
     "What opens an owner's hashes in the receipt", "owner", NULL, NULL},
    {"GET", "/v1/receipts/log", FT_FACE_OWN, 0, ft_route_receipt_log, "The signed head of the log of receipts",
     "size format", NULL, "application/json text/plain"},
    {"GET", "/v1/receipts/log/entries", FT_FACE_OWN, 0, ft_route_receipt_entries, "The leaves of the log of receipts",
     "limit after before order", NULL, NULL},
    {"GET", "/v1/receipts/consistency", FT_FACE_OWN, 0, ft_route_receipt_consistency,
     "Proof that the log of receipts begins with what it was", "from to", NULL, NULL},
    {"GET", "/v1/receipts/{}/proof", FT_FACE_OWN, 0, ft_route_receipt_proof, "Proof that a receipt is in the log",
     "leaf size", NULL, NULL},
    {"GET", "/v1/keys", FT_FACE_OWN, FT_ROUTE_QUICK, ft_route_keys, "The public keys that receipts are signed with",
     NULL, NULL, NULL},
    {"GET", "/v1/traces/{}/routing", FT_FACE_OWN, 0, ft_route_trace_routing, "Its routing as arrays", "format values",
     NULL, "application/x-ndjson application/octet-stream text/csv application/json"},
    {"GET", "/v1/routing", FT_FACE_OWN, 0, ft_route_routing, "Routing over all outputs that fit, in numbers",
     FILTER "bucket token_ids", NULL, NULL},

    {"GET", "/v1/compliance/outputs", FT_FACE_OWN, 0, ft_route_outputs, "Outputs that fit", FILTER PAGE "format", NULL,
     CSV},
    {"GET", "/v1/compliance/verbatim", FT_FACE_OWN, 0, ft_route_verbatim,
     "Outputs that repeat what an owner or a document has", FILTER PAGE "format", NULL, CSV},
    {"GET", "/v1/compliance/experts", FT_FACE_OWN, 0, ft_route_experts_used, "Outputs that an expert had a share in",
     FILTER PAGE "format", NULL, CSV},
    {"GET", "/v1/compliance/optouts", FT_FACE_OWN, 0, ft_route_optouts_proved,
     "Outputs while an owner was opted out, with proof from the routing", FILTER_BUT_WITHOUT PAGE "format", NULL, CSV},
    {"GET", "/v1/compliance/usage", FT_FACE_OWN, 0, ft_route_usage, "How an owner was used in a period",
     FILTER "documents format", NULL, CSV},
    {"GET", "/v1/compliance/access", FT_FACE_OWN, 0, ft_route_access, "Who asked what, out of the log",
     "what key from to limit after format", NULL, CSV},
    {"GET", "/v1/compliance/export", FT_FACE_OWN, 0, ft_route_export, "Traces whole, in one stream",
     FILTER "limit after routing format", NULL, "application/x-ndjson application/json text/csv"},
    {"GET", "/v1/compliance/verify", FT_FACE_OWN, 0, ft_route_store_verify, "Whether store and log are as they were",
     NULL, NULL, NULL},
    {"GET", "/v1/compliance/state", FT_FACE_OWN, 0, ft_route_state, "What was active at a time", "at format", NULL,
     CSV},
    {"GET", "/v1/compliance/training-summary", FT_FACE_OWN, 0, ft_route_training_summary,
     "What the model was trained on, as Article 53(1)(d) of the AI Act asks", "format", NULL,
     "application/json text/html"},
    {"GET", "/v1/compliance/retention", FT_FACE_OWN, 0, ft_route_retention, "For how long traces are kept", NULL, NULL,
     NULL},
    {"PUT", "/v1/compliance/retention", FT_FACE_OWN, 0, ft_route_retention_set, "An order for how long; a legal hold",
     NULL, NULL, NULL},
    {"DELETE", "/v1/compliance/retention", FT_FACE_OWN, 0, ft_route_retention_withdraw, "Withdraws it", NULL, NULL,
     NULL},
    {"GET", "/v1/jobs", FT_FACE_OWN, 0, ft_route_jobs, "Takedowns that take long", NULL, NULL, NULL},
    {"GET", "/v1/jobs/{}", FT_FACE_OWN, 0, ft_route_job, "One of them", NULL, NULL, NULL},
    {"DELETE", "/v1/jobs/{}", FT_FACE_OWN, 0, ft_route_job_cancel, "Cancels it", NULL, NULL, NULL},
    {"POST", "/v1/takedowns", FT_FACE_OWN, 0, ft_route_takedown_new, "Erases documents, and redacts traces of them",
     NULL, NULL, NULL},
    {"GET", "/v1/takedowns", FT_FACE_OWN, 0, ft_route_takedowns, "Takedowns",
     "owner document key from to limit after format", NULL, CSV},
    {"GET", "/v1/takedowns/{}", FT_FACE_OWN, 0, ft_route_takedown, "One of them", NULL, NULL, NULL},
    {"GET", "/v1/takedowns/{}/certificate", FT_FACE_OWN, 0, ft_route_takedown_certificate, "Its certificate", NULL,
     NULL, NULL},
    {"GET", "/v1/takedowns/{}/verify", FT_FACE_OWN, 0, ft_route_takedown_verify, "What is left of it, place by place",
     NULL, NULL, NULL},

    {"GET", "/indexes", FT_FACE_ATTRIBUTION, FT_ROUTE_QUICK, ft_route_indexes, "Names of indexes", NULL, NULL, NULL},
    {"POST", "/{}/attribution", FT_FACE_ATTRIBUTION, 0, ft_route_attribution,
     "Spans of a response that stand in an index", NULL, "response", NULL},
    {"GET", "/{}/documents", FT_FACE_ATTRIBUTION, 0, ft_route_documents,
     "Documents by number, or of a text's occurrences",
     "search page page_size maximum_document_display_length document_indexes", NULL, NULL},
    {"GET", "/{}/documents/", FT_FACE_ATTRIBUTION, 0, ft_route_documents, "Documents of a text's occurrences, in pages",
     "search page page_size maximum_document_display_length document_indexes", NULL, NULL},
    {"GET", "/{}/documents/{}", FT_FACE_ATTRIBUTION, 0, ft_route_document, "A document by its number",
     "maximum_document_display_length", NULL, NULL},
    {"GET", "/{}/count", FT_FACE_ATTRIBUTION, 0, ft_route_count, "How often a text occurs", "query", NULL, NULL},

    {"GET", "/", FT_FACE_INFINIGRAM, FT_ROUTE_QUICK, ft_route_root, "What this server is; to a browser, the page", NULL,
     NULL, "application/json text/html"},
    {"POST", "/", FT_FACE_INFINIGRAM, 0, ft_route_infinigram, "infini-gram's questions", NULL, "index query_type",
     NULL},
    {"GET", "/{}", FT_FACE_OWN, FT_ROUTE_QUICK | FT_ROUTE_FILES, ft_route_page_file, "A file of the page", NULL, NULL,
     "text/html text/javascript text/css image/svg+xml"},
};

const ft_route *ft_routes(size_t *count)
{
    *count = sizeof(routes) / sizeof(*routes);
    return routes;
}

int ft_route_takes(const ft_route *r, const char *name)
{
    const size_t n = strlen(name);
    for (const char *p = r->query ? r->query : ""; n && (p = strstr(p, name)) != NULL; p += n)
        if ((p == r->query || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
            return 1;
    return 0;
}

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
