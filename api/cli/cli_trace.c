/* flextrace trace: spans, documents and owners of given texts or tokens. */
#include "api/cli/cli.h"
#include "api/cli/cli_evidence.h"
#include "api/cli/cli_model_args.h"
#include "api/cli/cli_render.h"

#include "base/ft_file.h"
#include "base/ft_json.h"
#include "model/ft_session.h"
#include "tracer/ft_federation.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cli_command cli_trace;

enum { MAX_INDEXES = 256 };

static const char help[] =
    "Usage: flextrace trace -i INDEX... [OPTIONS]      rows on standard input\n"
    "       flextrace trace FEDERATION [OPTIONS]       the same, with its indexes, owners and model\n"
    "       flextrace trace ... --text TEXT            one text, for people\n"
    "\n"
    "Finds the spans of a response that stand word for word in some corpus, whose they are,\n"
    "and the documents that hold them. Several indexes are searched as one. Each input row\n"
    "answers one JSON line (docs/trace.md has every field).\n"
    "\n"
    "A row:\n"
    "  \"ids\" | \"text\"             the response: tokens, or text (needs a tokenizer)\n"
    "  \"prompt\" | \"prompt_ids\"    what came before it; for ranking and routing, not traced\n"
    "  \"delim_ids\"                tokens that may close a span, not stand inside one\n"
    "                             (default: those whose text holds a newline or a period)\n"
    "  \"min_len\" 1                shortest span, tokens\n"
    "  \"max_cnt\" 1000000          spans more frequent than this are dropped\n"
    "  \"enforce_bow\" true         spans begin and end at words\n"
    "  \"density\" 0.05             keep the best ceil(density x tokens) spans; 0 keeps all\n"
    "  \"rank\" \"unigram\"           best: least probable (\"unigram\") or longest (\"length\")\n"
    "  \"max_documents\" 10         for each span\n"
    "  \"snippet_tokens\" 80        of a document around the match\n"
    "\n"
    "Options:\n"
    "  -i, --index INDEX          an index of ours or an infini-gram folder; operands after it too\n"
    "      --owner NAME=INDEX     the same, and whose it is (default: the owner recorded in the\n"
    "                             index, else the folder's name)\n"
    "  -t, --tokenizer TOK        tokenizer.json or its folder (default: the model's, else the index's)\n"
    "  -m, --model MODEL          read the text with this model: adds routing and experts' shares\n"
    "      --bow FILE             ids of the tokens that begin a word, one a line (default: from the tokenizer)\n"
    "      --infini-gram 4|5      version of infini-gram folders (default 4)\n"
    "      --eot ID               their end-of-text id (default: the tokenizer's)\n"
    "      --text TEXT            trace this text and show the result; --json for one JSON object\n"
    "      --prompt TEXT          goes with --text\n"
    "      --documents N          documents shown for each span with --text (default 3)\n"
    "      --causal               how much less probable each span is without each expert, by one more\n"
    "                             pass of the model for each of them; a row asks with \"causal\": true\n"
    "      --threads N            for the model (default: all processors)\n"
    "      --compute TYPE, --kv-type TYPE, --kv-memory BYTES   of the model, as with generate\n"
    "                             (default: federation.yaml's, else float32)\n"
    "\n"
    "Examples:\n"
    "  echo '{\"text\":\"And it came to pass, that the king\"}' | flextrace trace -i scripture.index\n"
    "  flextrace trace -i a.index b.index -t tokenizer.json < rows.jsonl > traces.jsonl\n"
    "  flextrace trace demo/federation.yaml --text \"In the beginning God created\"\n";

static const cli_option options[] = {
    {"index", 'i', 1},  {"owner", 0, 1},       {"tokenizer", 't', 1}, {"model", 'm', 1},
    {"bow", 0, 1},      {"infini-gram", 0, 1}, {"eot", 0, 1},         {"text", 0, 1},
    {"prompt", 'p', 1}, {"documents", 0, 1},   {"threads", 0, 1},     {"json", 0, 0},
    {"causal", 0, 0},   CLI_ENGINE_OPTIONS,    {"help", 'h', 0},      {NULL, 0, 0},
};

/* What the command was asked for, and all that it opened. */
typedef struct tracing {
    const char *paths[MAX_INDEXES], *names[MAX_INDEXES]; /* name NULL: from the index */
    char *named[MAX_INDEXES];                            /* copies of --owner's values */
    size_t path_count;
    const char *federation_path, *tokenizer_path, *model_path, *bow_path, *text, *prompt;
    int infini_version, json, causal;
    long long end_of_text, threads, documents;

    ft_federation *federation;
    ft_snapshot *snapshot; /* of its indexes, for all rows */
    ft_tokenizer *own_tokenizer;
    ft_model *own_model;
    ft_index *indexes[MAX_INDEXES];
    const ft_index *by_owner[MAX_INDEXES]; /* the same, owner by owner */
    ft_owner owners[FT_MAX_OWNERS];
    ft_trace_scope scope;
    ft_token_set bow;
    int has_bow;
    ft_encoder *encoder;
    ft_pool *pool;
    cli_engine how;
    ft_engine *engine; /* of the model; one for all rows */
} tracing;

/* --- Opening ------------------------------------------------------------------ */

static ft_code open_tokenizer(tracing *t, const char *path, ft_status *st)
{
    const ft_code rc = ft_tokenizer_open(&t->own_tokenizer, path, st);
    t->scope.tokenizer = t->own_tokenizer;
    return rc;
}

/* An index of ours was built with one tokenizer; another one's ids mean nothing in it. */
static ft_code check_tokenizer(const tracing *t, size_t i, ft_status *st)
{
    const ft_index_info info = ft_index_get_info(t->indexes[i]);
    if (info.is_infinigram || !t->scope.tokenizer)
        return FT_OK;
    const ft_digest digest = ft_tokenizer_digest(t->scope.tokenizer);
    if (!memcmp(&digest, &info.tokenizer_digest, sizeof(digest)))
        return FT_OK;
    return ft_fail(st, FT_ERR_FORMAT, "%s: built with another tokenizer than %s; rebuild it with -t %s", t->paths[i],
                   ft_tokenizer_path(t->scope.tokenizer), ft_tokenizer_path(t->scope.tokenizer));
}

static ft_code open_infinigram(tracing *t, size_t i, ft_status *st)
{
    const ft_tokenizer *tokenizer = t->scope.tokenizer;
    ft_infinigram_options o = {.version = t->infini_version, .end_of_text = FT_NO_TOKEN};
    if (tokenizer) {
        o.vocab_size = ft_tokenizer_vocab_size(tokenizer);
        o.end_of_text = ft_tokenizer_end_of_text(tokenizer);
    }
    if (t->end_of_text >= 0)
        o.end_of_text = (uint32_t)t->end_of_text;
    return ft_index_open_infinigram(&t->indexes[i], t->paths[i], &o, st);
}

/* Ours first: they may bring the tokenizer that infini-gram folders lack. */
static ft_code open_indexes(tracing *t, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < t->path_count; i++) {
        if (ft_index_is_infinigram(t->paths[i]))
            continue;
        rc = ft_index_open(&t->indexes[i], t->paths[i], st);
        if (!rc && !t->scope.tokenizer && ft_index_get_info(t->indexes[i]).tokenizer)
            rc = open_tokenizer(t, ft_index_get_info(t->indexes[i]).tokenizer, st);
        if (!rc)
            rc = check_tokenizer(t, i, st);
    }
    for (size_t i = 0; !rc && i < t->path_count; i++)
        if (!t->indexes[i])
            rc = open_infinigram(t, i, st);
    return rc;
}

/* "a/b/c/" is called "c". */
static const char *folder_name(tracing *t, size_t i)
{
    size_t end = strlen(t->paths[i]);
    while (end > 1 && t->paths[i][end - 1] == '/')
        end--;
    size_t start = end;
    while (start && t->paths[i][start - 1] != '/')
        start--;
    t->named[i] = strndup(t->paths[i] + start, end - start);
    return t->named[i];
}

/* Indexes of one owner's name are that owner's together. */
static ft_code make_owners(tracing *t, ft_status *st)
{
    size_t placed = 0;
    for (size_t i = 0; i < t->path_count; i++) {
        const char *recorded = ft_index_get_info(t->indexes[i]).owner;
        if (!t->names[i])
            t->names[i] = recorded && recorded[0] ? recorded : folder_name(t, i);
        if (!t->names[i])
            return ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    for (size_t i = 0; i < t->path_count; i++) {
        size_t seen = 0;
        while (seen < t->scope.owner_count && strcmp(t->owners[seen].name, t->names[i]) != 0)
            seen++;
        if (seen < t->scope.owner_count)
            continue;
        if (seen == FT_MAX_OWNERS)
            return ft_fail(st, FT_ERR_LIMIT, "more than %d owners", FT_MAX_OWNERS);
        ft_owner *o = &t->owners[t->scope.owner_count++];
        *o = (ft_owner){.name = t->names[i], .description = "", .expert = -1, .indexes = &t->by_owner[placed]};
        for (size_t k = i; k < t->path_count; k++)
            if (!strcmp(t->names[k], t->names[i])) {
                t->by_owner[placed++] = t->indexes[k];
                o->index_count++;
            }
    }
    t->scope.owners = t->owners;
    return FT_OK;
}

static ft_code open_loose(tracing *t, ft_status *st)
{
    static const char *const sentence_ends[] = {"\n", "."};
    ft_code rc = FT_OK;
    if (t->model_path)
        rc = ft_model_open(&t->own_model, t->model_path, st);
    t->scope.model = t->own_model;
    if (!rc && t->tokenizer_path)
        rc = open_tokenizer(t, t->tokenizer_path, st);
    if (!rc && !t->tokenizer_path && t->model_path) {
        rc = open_tokenizer(t, t->model_path, st);
        rc = rc == FT_ERR_NOT_FOUND ? FT_OK : rc; /* tokens in, tokens out */
    }
    if (!rc)
        rc = open_indexes(t, st);
    if (!rc)
        rc = make_owners(t, st);
    if (!rc && t->scope.tokenizer)
        rc = ft_token_set_containing(&t->scope.delimiters, t->scope.tokenizer, sentence_ends, 2, st);
    if (!rc && t->scope.tokenizer)
        rc = ft_token_set_word_starts(&t->scope.word_starts, t->scope.tokenizer, st);
    return rc;
}

/* What federation.yaml says, and what was given here. */
static ft_engine_options engine_options(const tracing *t)
{
    const ft_engine_options of_file = t->federation ? ft_federation_engine(t->federation) : (ft_engine_options){0};
    return cli_engine_options(&t->how, &of_file);
}

static ft_code open_engine(tracing *t, ft_status *st)
{
    ft_engine_options how = engine_options(t);
    how.no_prefix_cache = 1;
    const ft_code rc = ft_pool_new(&t->pool, (unsigned)t->threads, st);
    return rc ? rc : ft_engine_new(&t->engine, t->scope.model, t->pool, &how, st);
}

static ft_code open_all(tracing *t, ft_status *st)
{
    ft_code rc;
    if (t->federation_path) {
        rc = ft_federation_open(&t->federation, t->federation_path, st);
        if (!rc) {
            t->snapshot = ft_federation_snapshot(t->federation);
            t->scope = *ft_snapshot_scope(t->snapshot);
        }
    } else {
        rc = open_loose(t, st);
    }
    if (!rc && t->bow_path) {
        rc = ft_token_set_read(&t->bow, t->bow_path, st);
        t->has_bow = 1;
    }
    if (!rc && t->scope.tokenizer)
        rc = ft_encoder_new(&t->encoder, t->scope.tokenizer, st);
    if (!rc && t->scope.model)
        rc = open_engine(t, st);
    if (!rc && t->federation) {
        const ft_engine_options how = engine_options(t);
        rc = cli_measure_usual(t->federation, t->pool, &how, st);
    }
    return rc;
}

static void close_all(tracing *t)
{
    ft_engine_free(t->engine);
    ft_pool_free(t->pool);
    ft_encoder_free(t->encoder);
    ft_token_set_release(&t->bow);
    if (!t->federation) {
        ft_token_set_release(&t->scope.delimiters);
        ft_token_set_release(&t->scope.word_starts);
    }
    for (size_t i = 0; i < t->path_count; i++) {
        ft_index_close(t->indexes[i]);
        free(t->named[i]);
    }
    ft_tokenizer_close(t->own_tokenizer);
    ft_model_close(t->own_model);
    ft_snapshot_release(t->snapshot);
    ft_federation_close(t->federation);
}

/* --- One row ------------------------------------------------------------------ */

/* What a row asks; the sets are its own where it names them. */
typedef struct request {
    uint32_t *prompt, *response;
    size_t prompt_count, response_count;
    int causal;
    ft_trace_options options;
    ft_token_set delimiters;
} request;

static void request_release(request *r)
{
    free(r->prompt);
    free(r->response);
    ft_token_set_release(&r->delimiters);
}

/* Tokens given as such, or as text. *given says whether either was there. */
static ft_code read_tokens(tracing *t, const json_t *row, const char *ids_field, const char *text_field, uint32_t **ids,
                           size_t *count, int *given, ft_status *st)
{
    const json_t *text = json_object_get(row, text_field), *list = json_object_get(row, ids_field);
    const int has_text = text && !json_is_null(text), has_ids = list && !json_is_null(list);
    *given = has_text || has_ids;
    if (has_text && has_ids)
        return ft_fail(st, FT_ERR_ARG, "'%s' and '%s' exclude each other", ids_field, text_field);
    if (!has_text)
        return ft_json_get_ids(row, ids_field, ids, count, st);
    if (!json_is_string(text))
        return ft_fail(st, FT_ERR_ARG, "'%s' must be a string", text_field);
    if (!t->encoder)
        return ft_fail(st, FT_ERR_ARG, "'%s' needs a tokenizer: give -t TOK, or '%s'", text_field, ids_field);
    ft_encoding e = {0};
    ft_code rc = ft_encoder_encode(t->encoder, json_string_value(text), json_string_length(text), &e, st);
    if (!rc) {
        *ids = e.ids;
        *count = e.count;
        e.ids = NULL;
    }
    ft_encoding_release(&e);
    return rc;
}

static ft_code read_delimiters(tracing *t, const json_t *row, request *r, ft_status *st)
{
    uint32_t *ids = NULL;
    size_t count = 0;
    const json_t *given = json_object_get(row, "delim_ids");
    if (!given || json_is_null(given)) {
        if (!t->scope.tokenizer)
            return ft_fail(st, FT_ERR_ARG, "without a tokenizer 'delim_ids' must be given ([] for none), or -t TOK");
        r->options.rules.delimiters = &t->scope.delimiters;
        return FT_OK;
    }
    ft_code rc = ft_json_get_ids(row, "delim_ids", &ids, &count, st);
    for (size_t i = 0; !rc && i < count; i++)
        rc = ft_token_set_add(&r->delimiters, ids[i], st);
    free(ids);
    r->options.rules.delimiters = &r->delimiters;
    return rc;
}

static ft_code read_rules(tracing *t, const json_t *row, request *r, ft_status *st)
{
    ft_span_rules *rules = &r->options.rules;
    int64_t min_len = (int64_t)rules->min_len, max_cnt = (int64_t)rules->max_cnt;
    int64_t documents = (int64_t)r->options.max_documents, snippet = (int64_t)r->options.snippet_tokens;
    int64_t text = (int64_t)r->options.document_tokens, seed = (int64_t)r->options.sample_seed;
    int enforce_bow = 1;
    const char *rank = "unigram";
    ft_code rc = ft_json_get_int(row, "min_len", 0, INT64_C(1) << 40, &min_len, st);
    if (!rc)
        rc = ft_json_get_int(row, "max_cnt", 0, INT64_MAX, &max_cnt, st);
    if (!rc)
        rc = ft_json_get_number(row, "density", 0, 1, &rules->density, st);
    if (!rc)
        rc = ft_json_get_bool(row, "enforce_bow", &enforce_bow, st);
    if (!rc)
        rc = ft_json_get_string(row, "rank", &rank, st);
    if (!rc)
        rc = ft_json_get_int(row, "max_documents", 0, 1000, &documents, st);
    if (!rc)
        rc = ft_json_get_int(row, "snippet_tokens", 0, 100000, &snippet, st);
    if (!rc)
        rc = ft_json_get_int(row, "document_tokens", 0, 100000, &text, st);
    if (!rc)
        rc = ft_json_get_int(row, "sample_seed", 0, INT64_MAX, &seed, st);
    if (!rc)
        rc = ft_json_get_bool(row, "document_places", &r->options.document_places, st);
    if (!rc && strcmp(rank, "unigram") != 0 && strcmp(rank, "length") != 0)
        rc = ft_fail(st, FT_ERR_ARG, "'rank' must be \"unigram\" or \"length\", not \"%.40s\"", rank);
    if (!rc && enforce_bow && !t->has_bow && !t->scope.tokenizer)
        rc = ft_fail(
            st, FT_ERR_ARG,
            "'enforce_bow' needs to know where words start: give --bow FILE, -t TOK, or \"enforce_bow\": false");
    rules->min_len = (size_t)min_len;
    rules->max_cnt = (uint64_t)max_cnt;
    rules->rank = rank[0] == 'l' ? FT_RANK_LENGTH : FT_RANK_UNIGRAM;
    rules->word_starts = !enforce_bow ? NULL : t->has_bow ? &t->bow : &t->scope.word_starts;
    r->options.max_documents = (size_t)documents;
    r->options.snippet_tokens = (size_t)snippet;
    r->options.document_tokens = (size_t)text;
    r->options.sample_seed = (uint64_t)seed;
    return rc;
}

/* Experts that federation.yaml leaves out of everything. */
static uint64_t opted_out(const tracing *t)
{
    return t->federation ? ft_federation_opted_out(t->federation) : 0;
}

/* Reads prompt and response with the model, for its routing. The session must
 * outlive the routing's views. */
static ft_code read_with_model(tracing *t, const request *r, ft_session **session, ft_routing *routing, ft_status *st)
{
    const size_t count = r->prompt_count + r->response_count;
    const ft_session_options o = {.without = opted_out(t), .max_tokens = count, .capture_routing = 1};
    if (count > ft_model_get_config(t->scope.model)->max_position)
        return ft_fail(st, FT_ERR_LIMIT, "%zu tokens are more than the model's context of %zu", count,
                       ft_model_get_config(t->scope.model)->max_position);
    ft_code rc = ft_session_open_on(session, t->engine, &o, st);
    if (!rc && r->prompt_count)
        rc = ft_session_read(*session, r->prompt, r->prompt_count, &(ft_outputs){0}, NULL, st);
    if (!rc && r->response_count)
        rc = ft_session_read(*session, r->response, r->response_count, &(ft_outputs){0}, NULL, st);
    if (!rc)
        *routing = ft_session_routing(*session);
    return rc;
}

/* What is lost without each expert; *ids is the timeline that it reads. */
static ft_code find_causes(const tracing *t, const request *r, uint32_t **ids, ft_causal **out, ft_status *st)
{
    const size_t count = r->prompt_count + r->response_count;
    const ft_engine_options how = engine_options(t);
    *ids = ft_alloc_array(count, sizeof(**ids));
    if (!*ids)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    if (r->prompt_count)
        memcpy(*ids, r->prompt, r->prompt_count * sizeof(**ids));
    memcpy(*ids + r->prompt_count, r->response, r->response_count * sizeof(**ids));
    const cli_timeline line = {.ids = *ids, .first = r->prompt_count, .count = count, .without = opted_out(t)};
    return cli_find_causes(t->scope.model, t->pool, &how, &line, out, st);
}

static ft_code trace_request(tracing *t, const request *r, json_t **out, ft_status *st)
{
    ft_session *session = NULL;
    ft_causal *pass = NULL;
    uint32_t *timeline = NULL;
    ft_routing routing;
    ft_causal_result causes;
    ft_trace_input in = {.prompt = r->prompt,
                         .prompt_count = r->prompt_count,
                         .response = r->response,
                         .response_count = r->response_count,
                         .without = opted_out(t)};
    ft_code rc = FT_OK;
    if (t->scope.model && ft_model_get_config(t->scope.model)->experts && r->prompt_count + r->response_count) {
        rc = read_with_model(t, r, &session, &routing, st);
        in.routing = &routing;
        if (!rc && (t->causal || r->causal) && r->response_count)
            rc = find_causes(t, r, &timeline, &pass, st);
    }
    if (pass) {
        causes = ft_causal_get(pass);
        in.causal = &causes;
    }
    if (!rc)
        rc = ft_trace_make(&t->scope, &in, &r->options, out, st);
    ft_causal_free(pass);
    ft_session_close(session);
    free(timeline);
    return rc;
}

static json_t *trace_row(void *context, const json_t *row, ft_status *st)
{
    tracing *t = context;
    request r = {.options = ft_trace_options_default(&t->scope)};
    json_t *out = NULL;
    int given = 0, prompt_given = 0;
    ft_code rc = read_tokens(t, row, "ids", "text", &r.response, &r.response_count, &given, st);
    if (!rc && !given)
        rc = ft_fail(st, FT_ERR_ARG, "'ids' or 'text' is missing");
    if (!rc)
        rc = read_tokens(t, row, "prompt_ids", "prompt", &r.prompt, &r.prompt_count, &prompt_given, st);
    if (!rc)
        rc = read_delimiters(t, row, &r, st);
    if (!rc)
        rc = read_rules(t, row, &r, st);
    if (!rc)
        rc = ft_json_get_bool(row, "causal", &r.causal, st);
    if (!rc)
        rc = trace_request(t, &r, &out, st);
    request_release(&r);
    return rc ? NULL : out;
}

/* --- The command ----------------------------------------------------------------- */

/* --text: one trace, drawn for a person unless --json is given. */
static int trace_text(tracing *t)
{
    ft_status st = {0};
    json_t *row = json_pack("{s:o, s:o}", "text", ft_json_text(t->text, strlen(t->text)), "prompt",
                            ft_json_text(t->prompt ? t->prompt : "", t->prompt ? strlen(t->prompt) : 0));
    json_t *trace = row ? trace_row(t, row, &st) : NULL;
    json_decref(row);
    if (!trace)
        return cli_fail(&st);
    if (t->json)
        return cli_print_json(trace);
    cli_view view = cli_view_make(&t->scope);
    cli_render_text(&view, trace);
    cli_render_trace(&view, trace, (size_t)t->documents);
    json_decref(trace);
    return CLI_OK;
}

/* --owner NAME=INDEX. */
static int add_owner(tracing *t, const char *value)
{
    const char *equals = strchr(value, '=');
    if (!equals || equals == value || !equals[1])
        return cli_usage("trace", "--owner must be NAME=INDEX, not '%.60s'", value);
    if (t->path_count == MAX_INDEXES)
        return cli_usage("trace", "more than %d indexes", MAX_INDEXES);
    t->named[t->path_count] = strndup(value, (size_t)(equals - value));
    if (!t->named[t->path_count])
        return CLI_SYSTEM;
    t->names[t->path_count] = t->named[t->path_count];
    t->paths[t->path_count++] = equals + 1;
    return CLI_OK;
}

static int add_path(tracing *t, const char *value)
{
    if (t->path_count == MAX_INDEXES)
        return cli_usage("trace", "more than %d indexes", MAX_INDEXES);
    t->paths[t->path_count++] = value;
    return CLI_OK;
}

/* A folder without federation.yaml, or whatever follows -i, is an index. */
static int add_operand(tracing *t, const char *value)
{
    char *inside = ft_path_is_folder(value) ? ft_path_join(value, "federation.yaml") : NULL;
    const int folder_only = inside && !ft_path_exists(inside);
    free(inside);
    if (t->path_count || folder_only)
        return add_path(t, value);
    if (t->federation_path)
        return cli_usage("trace", "one federation at a time; indexes are named after -i");
    t->federation_path = value;
    return CLI_OK;
}

static int take_option(tracing *t, const char *name, const char *value)
{
    long long version = 4;
    if (cli_is_engine_option(name))
        return cli_take_engine_option("trace", name, value, &t->how) ? CLI_OK : CLI_USAGE;
    if (!strcmp(name, "index"))
        return add_path(t, value);
    if (!strcmp(name, "owner"))
        return add_owner(t, value);
    if (!strcmp(name, "tokenizer"))
        t->tokenizer_path = value;
    else if (!strcmp(name, "model"))
        t->model_path = value;
    else if (!strcmp(name, "bow"))
        t->bow_path = value;
    else if (!strcmp(name, "text"))
        t->text = value;
    else if (!strcmp(name, "prompt"))
        t->prompt = value;
    else if (!strcmp(name, "json"))
        t->json = 1;
    else if (!strcmp(name, "causal"))
        t->causal = 1;
    else if (!strcmp(name, "infini-gram")) {
        if (!cli_integer("trace", name, value, 4, 5, &version))
            return CLI_USAGE;
        t->infini_version = (int)version;
    } else if (!strcmp(name, "eot"))
        return cli_integer("trace", name, value, 0, UINT32_MAX - 1, &t->end_of_text) ? CLI_OK : CLI_USAGE;
    else if (!strcmp(name, "threads"))
        return cli_integer("trace", name, value, 0, 1024, &t->threads) ? CLI_OK : CLI_USAGE;
    else if (!strcmp(name, "documents"))
        return cli_integer("trace", name, value, 0, 1000, &t->documents) ? CLI_OK : CLI_USAGE;
    return CLI_OK;
}

static int check_arguments(const tracing *t)
{
    if (!t->federation_path && !t->path_count)
        return cli_usage("trace", "name an index (-i INDEX) or a federation");
    if (t->federation_path && t->path_count)
        return cli_usage("trace", "'%.60s' stands before -i; a federation brings its own indexes", t->federation_path);
    if (t->federation_path && (t->model_path || t->tokenizer_path))
        return cli_usage("trace", "a federation brings its own model and tokenizer; leave -m and -t out");
    if (t->prompt && !t->text)
        return cli_usage("trace", "--prompt goes with --text; a row names its own \"prompt\"");
    return CLI_OK;
}

int cli_trace(int argc, char **argv)
{
    cli_args args = {.subcommand = "trace", .options = options, .argc = argc, .argv = argv};
    tracing *t = calloc(1, sizeof(*t)); /* too large for some stacks */
    const char *name, *value;
    int more, code = t ? CLI_OK : CLI_SYSTEM;
    if (!t)
        return cli_fail(&(ft_status){.code = FT_ERR_MEM, .msg = "out of memory"});
    *t = (tracing){.infini_version = 4, .end_of_text = -1, .documents = 3};
    while (code == CLI_OK && (more = cli_next(&args, &name, &value)) != 0) {
        if (more < 0)
            code = CLI_USAGE;
        else if (name && !strcmp(name, "help")) {
            fputs(help, stdout);
            goto done;
        } else
            code = name ? take_option(t, name, value) : add_operand(t, value);
    }
    if (code == CLI_OK)
        code = check_arguments(t);
    if (code == CLI_OK) {
        ft_status st = {0};
        code = open_all(t, &st) ? cli_fail(&st) : t->text ? trace_text(t) : cli_batch(trace_row, t);
    }
done:
    close_all(t);
    free(t);
    return code;
}
