/* flextrace attack: what a model gives away of the texts it was trained on. */
#include "api/cli/cli.h"
#include "api/cli/cli_model_args.h"

#include "base/ft_buffer.h"
#include "base/ft_json.h"
#include "index/ft_index.h"
#include "model/eval/ft_extraction.h"

#include <stdlib.h>
#include <string.h>

cli_command cli_attack;

static const char help[] =
    "Usage: flextrace attack extraction MODEL --corpus C... [-i INDEX...] [OPTIONS]\n\n"
    "Prompts the model with the beginnings of documents and tells which of them it recites: the\n"
    "data extraction attack of the FlexOlmo paper, with its settings as defaults. A document leaks\n"
    "when one of its samples is at least 0.9 similar (normalized Levenshtein) to what follows in it.\n\n"
    "  --corpus C          documents: JSONL, text, HTML, folders, archives; may be given several times\n"
    "  -i, --index INDEX   the owner's own index: looks up what was recited; operands after it too\n"
    "  -o RECORD.jsonl     a line a document as it is done; the same command goes on behind them\n"
    "  --documents N       so many, drawn by the seed (default 0: all)\n"
    "  --prefix N          tokens of a document that are the prompt (32)\n"
    "  -n, --new-tokens N  tokens of a sample, at most as many as the document goes on (256)\n"
    "  --samples N         for each document (10)\n"
    "  --least N           documents that go on for fewer tokens are left out (32)\n"
    "  --top-k K --top-p P --temperature T   of the draw (50, 0.95, 1)\n"
    "  --threshold X       similarity from which on a document leaks (0.9)\n"
    "  --on tokens|text    what is compared: tokens (default), or the text's characters\n"
    "  --seed S            (1); the same seed draws the same, on any number of threads\n"
    "  --without LIST      as if these experts did not exist: numbers separated by commas\n"
    "  -t, --tokenizer TOK default: the tokenizer in the model's folder\n"
    "  --threads N         0: one for each processor (default)\n"
    "  --json              {\"documents\",\"leaked\",\"rate\",\"leaks\":[{\"id\",\"similarity\",\"sample\",\"text\",\n"
    "                      \"index\"?}], …}\n"
    "Exit code 0 also where documents leak.\n\n"
    "Examples:\n"
    "  flextrace attack extraction merged --corpus news.jsonl --documents 500 -o news.attack.jsonl\n"
    "  flextrace attack extraction merged --corpus news.jsonl -i news.index --json\n";

enum { MOST_INDEXES = 64, MOST_PLACES = 1000 };

typedef struct request {
    const char *model_path, *tokenizer_path, **corpora, *folders[MOST_INDEXES];
    size_t corpus_count, index_count;
    ft_extraction_options o;
    unsigned threads;
    int json, indexes_follow;
    ft_model *model;
    ft_tokenizer *tokenizer;
    ft_pool *pool;
    ft_eval_text text;
    ft_index *indexes[MOST_INDEXES];
    ft_extraction result;
} request;

/* --- Opening ------------------------------------------------------------------------------------- */

static ft_code open_indexes(request *r, ft_status *st)
{
    ft_code rc = FT_OK;
    const ft_digest used = ft_tokenizer_digest(r->tokenizer);
    for (size_t i = 0; i < r->index_count && !rc; i++) {
        rc = ft_index_open(&r->indexes[i], r->folders[i], st);
        if (rc)
            break;
        const ft_index_info info = ft_index_get_info(r->indexes[i]);
        if (memcmp(&info.tokenizer_digest, &used, sizeof(used)) != 0)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: built with another tokenizer than %s; rebuild it with -t %s",
                         r->folders[i], ft_tokenizer_path(r->tokenizer), ft_tokenizer_path(r->tokenizer));
    }
    return rc;
}

static ft_code open_all(request *r, const ft_progress *show, ft_status *st)
{
    ft_code rc = ft_tokenizer_open(&r->tokenizer, r->tokenizer_path ? r->tokenizer_path : r->model_path, st);
    if (!rc)
        rc = ft_model_open(&r->model, r->model_path, st);
    if (!rc)
        rc = open_indexes(r, st);
    if (!rc)
        rc = ft_eval_text_open(&r->text, r->corpora, r->corpus_count, r->tokenizer,
                               ft_model_get_config(r->model)->vocab, 0, show, st);
    return rc ? rc : ft_pool_new(&r->pool, r->threads, st);
}

static void close_all(request *r)
{
    ft_extraction_release(&r->result);
    for (size_t i = 0; i < MOST_INDEXES; i++)
        ft_index_close(r->indexes[i]);
    ft_eval_text_close(&r->text);
    ft_pool_free(r->pool);
    ft_model_close(r->model);
    ft_tokenizer_close(r->tokenizer);
    free(r->corpora);
}

/* --- What the owner's index says ------------------------------------------------------------------- */

/* The longest run of tokens that stands in an index, and where. */
typedef struct found {
    size_t index, start, length;
    ft_match match;
} found;

static ft_code look(const request *r, const ft_extracted *x, found *best, ft_status *st)
{
    size_t *longest = ft_alloc_array(x->count, sizeof(*longest));
    ft_code rc = longest ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    best->length = 0;
    for (size_t i = 0; i < r->index_count && !rc; i++) {
        ft_index_match_all(r->indexes[i], x->ids, x->count, longest, NULL);
        for (size_t t = 0; t < x->count; t++)
            if (longest[t] > best->length) {
                best->index = i;
                best->start = t;
                best->length = longest[t];
            }
    }
    if (!rc && best->length)
        ft_index_find(r->indexes[best->index], x->ids + best->start, best->length, &best->match);
    free(longest);
    return rc;
}

/* The document that holds the run; the attacked one where it is among them. */
static ft_code name_document(const request *r, const found *f, const char *id, ft_doc_ref *out, int *same,
                             ft_status *st)
{
    const ft_index *ix = r->indexes[f->index];
    size_t seen = 0;
    ft_code rc = FT_OK;
    *same = 0;
    for (unsigned part = 0; part < ft_index_get_info(ix).parts && !*same && !rc; part++)
        for (uint64_t k = f->match.part[part].lo; k < f->match.part[part].hi && seen < MOST_PLACES && !*same && !rc;
             k++, seen++) {
            ft_doc_ref d;
            rc = ft_index_document_at(ix, part, ft_index_position(ix, part, k), &d, st);
            *same = !rc && d.id_bytes == strlen(id) && !memcmp(d.id, id, d.id_bytes);
            if (!rc && (!seen || *same))
                *out = d;
        }
    return rc;
}

static ft_code confirm(const request *r, const ft_extracted *x, json_t *row, ft_status *st)
{
    found f;
    ft_doc_ref d = {.id = ""};
    int same = 0;
    ft_code rc = look(r, x, &f, st);
    if (!rc && f.length)
        rc = name_document(r, &f, r->text.documents[x->document].id, &d, &same, st);
    if (rc)
        return rc;
    json_t *o =
        json_pack("{s:b, s:I, s:I}", "confirmed", same, "tokens", (json_int_t)f.length, "of", (json_int_t)x->count);
    if (o && f.length) {
        json_object_set_new(o, "index", json_string(r->folders[f.index]));
        json_object_set_new(o, "owner", json_string(ft_index_get_info(r->indexes[f.index]).owner));
        json_object_set_new(o, "document", ft_json_text(d.id, d.id_bytes));
    }
    return json_object_set_new(row, "index", o) ? ft_fail(st, FT_ERR_MEM, "out of memory") : FT_OK;
}

/* --- The report ------------------------------------------------------------------------------------ */

static ft_code leak_row(const request *r, const ft_extracted *x, json_t **out, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = ft_tokenizer_decode(r->tokenizer, x->ids, x->count, 0, &text, st);
    if (!rc)
        *out = json_pack("{s:s, s:f, s:I, s:I, s:o}", "id", r->text.documents[x->document].id, "similarity",
                         x->similarity, "sample", (json_int_t)x->sample, "tokens", (json_int_t)x->wanted, "text",
                         ft_json_text(text.data ? text.data : "", text.size));
    ft_buffer_release(&text);
    if (!rc && !*out)
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    return rc || !r->index_count ? rc : confirm(r, x, *out, st);
}

static ft_code make_report(const request *r, json_t **out, ft_status *st)
{
    const ft_extraction *x = &r->result;
    json_t *leaks = json_array();
    ft_code rc = FT_OK;
    double sum = 0;
    for (size_t i = 0; i < x->count && !rc; i++) {
        json_t *row = NULL;
        sum += x->documents[i].similarity;
        if (!x->documents[i].leaks)
            continue;
        rc = leak_row(r, &x->documents[i], &row, st);
        if (rc)
            json_decref(row);
        else
            json_array_append_new(leaks, row);
    }
    if (!rc)
        *out = json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:s, s:f, s:I, s:O}", "model", r->model_path, "candidates",
                         (json_int_t)x->candidates, "documents", (json_int_t)x->count, "leaked", (json_int_t)x->leaked,
                         "rate", (double)x->leaked / (double)x->count, "mean_best_similarity", sum / (double)x->count,
                         "on", r->o.on_text ? "text" : "tokens", "threshold", r->o.threshold, "samples",
                         (json_int_t)r->o.samples, "leaks", leaks);
    json_decref(leaks);
    return !rc && !*out ? ft_fail(st, FT_ERR_MEM, "out of memory") : rc;
}

static void print_leak(const json_t *row)
{
    const json_t *index = json_object_get(row, "index");
    printf("%10.3f %7lld  %s", json_number_value(json_object_get(row, "similarity")),
           (long long)json_integer_value(json_object_get(row, "tokens")),
           json_string_value(json_object_get(row, "id")));
    if (index) {
        const char *owner = json_string_value(json_object_get(index, "owner"));
        const char *document = json_string_value(json_object_get(index, "document"));
        printf("  %s: %lld of %lld tokens in a row",
               json_is_true(json_object_get(index, "confirmed")) ? "confirmed" : "not confirmed",
               (long long)json_integer_value(json_object_get(index, "tokens")),
               (long long)json_integer_value(json_object_get(index, "of")));
        if (document)
            printf(" stand in %s%s%s", document, owner && *owner ? " of " : "", owner ? owner : "");
    }
    putchar('\n');
}

static int show(const request *r, json_t *report)
{
    if (r->json)
        return cli_print_json(json_incref(report));
    size_t i;
    const json_t *row, *leaks = json_object_get(report, "leaks");
    printf("%zu of %zu documents leak (%.2f %%): one of %zu samples at least %g similar; mean of the best %.3f\n",
           r->result.leaked, r->result.count, 100 * json_number_value(json_object_get(report, "rate")), r->o.samples,
           r->o.threshold, json_number_value(json_object_get(report, "mean_best_similarity")));
    if (json_array_size(leaks))
        printf("\nsimilarity  tokens  document\n");
    json_array_foreach(leaks, i, row)
    {
        print_leak(row);
    }
    return CLI_OK;
}

static int work(request *r)
{
    ft_status st = {0};
    json_t *report = NULL;
    const ft_progress progress = cli_progress();
    ft_code rc = open_all(r, &progress, &st);
    if (!rc)
        rc = ft_extraction_run(&r->result, r->model, r->tokenizer, r->pool, &r->text, &r->o, &progress, &st);
    cli_progress_end();
    if (!rc)
        rc = make_report(r, &report, &st);
    const int code = rc ? cli_fail(&st) : show(r, report);
    json_decref(report);
    return code;
}

/* --- Options ---------------------------------------------------------------------------------------- */

/* 1: understood, 0: a usage error was printed, -1: no number. */
static int take_number(request *r, const char *name, const char *value)
{
    ft_extraction_options *o = &r->o;
    long long n = 0;
    const struct {
        const char *name;
        long long low, high;
        size_t *out;
    } whole[] = {{"documents", 0, 1LL << 40, &o->documents},
                 {"prefix", 1, 1 << 20, &o->prefix},
                 {"new-tokens", 1, 1 << 20, &o->new_tokens},
                 {"samples", 1, 1 << 20, &o->samples},
                 {"least", 1, 1 << 20, &o->least}};
    for (size_t i = 0; i < sizeof(whole) / sizeof(*whole); i++)
        if (!strcmp(name, whole[i].name)) {
            if (!cli_integer("attack extraction", name, value, whole[i].low, whole[i].high, &n))
                return 0;
            *whole[i].out = (size_t)n;
            return 1;
        }
    if (!strcmp(name, "threshold"))
        return cli_number("attack extraction", name, value, 0, 1, &o->threshold);
    if (!strcmp(name, "threads")) {
        const int ok = cli_integer("attack extraction", name, value, 0, 1024, &n);
        r->threads = (unsigned)n;
        return ok;
    }
    if (!cli_is_sampling_option(name))
        return -1;
    ft_sampling s = {.temperature = o->temperature, .top_k = o->top_k, .top_p = o->top_p, .seed = o->seed};
    int seeded = 0;
    if (!cli_take_sampling_option("attack extraction", name, value, &s, &seeded))
        return 0;
    o->temperature = s.temperature;
    o->top_k = s.top_k;
    o->top_p = s.top_p;
    o->seed = seeded ? s.seed : o->seed;
    return 1;
}

static int add_index(request *r, const char *value)
{
    if (r->index_count == MOST_INDEXES)
        return cli_usage("attack extraction", "at most %d indexes", MOST_INDEXES);
    r->folders[r->index_count++] = value;
    r->indexes_follow = 1;
    return CLI_OK;
}

static int take(void *context, const char *name, const char *given)
{
    request *r = context;
    const char *value = given ? given : ""; /* of a flag */
    if (!name && r->indexes_follow)
        return add_index(r, value);
    if (!name && r->model_path)
        return cli_usage("attack extraction", "one MODEL, not also '%.60s'", value);
    if (!name) {
        r->model_path = value;
        return CLI_OK;
    }
    r->indexes_follow = 0;
    const int number = take_number(r, name, value);
    if (number >= 0)
        return number ? CLI_OK : CLI_USAGE;
    if (!strcmp(name, "corpus"))
        r->corpora[r->corpus_count++] = value;
    else if (!strcmp(name, "index"))
        return add_index(r, value);
    else if (!strcmp(name, "output"))
        r->o.record = value;
    else if (!strcmp(name, "tokenizer"))
        r->tokenizer_path = value;
    else if (!strcmp(name, "json"))
        r->json = 1;
    else if (!strcmp(name, "without"))
        return cli_experts("attack extraction", value, &r->o.without) ? CLI_OK : CLI_USAGE;
    else if (!strcmp(value, "tokens") || !strcmp(value, "text"))
        r->o.on_text = !strcmp(value, "text");
    else
        return cli_usage("attack extraction", "--on is tokens or text, not '%.40s'", value);
    return CLI_OK;
}

static int extraction(int argc, char **argv)
{
    static const cli_option options[] = {
        {"corpus", 0, 1},  {"index", 'i', 1},      {"output", 'o', 1},  {"tokenizer", 't', 1}, {"documents", 0, 1},
        {"prefix", 0, 1},  {"new-tokens", 'n', 1}, {"samples", 0, 1},   {"least", 0, 1},       {"top-k", 0, 1},
        {"top-p", 0, 1},   {"temperature", 0, 1},  {"threshold", 0, 1}, {"on", 0, 1},          {"seed", 0, 1},
        {"without", 0, 1}, {"threads", 0, 1},      {"json", 0, 0},      {"help", 'h', 0},      {NULL, 0, 0}};
    cli_args a = {.subcommand = "attack extraction", .options = options, .argc = argc, .argv = argv};
    request r = {.o = ft_extraction_defaults()};
    int helped = 0, code = CLI_SYSTEM;
    r.corpora = ft_alloc_array((size_t)argc, sizeof(*r.corpora));
    if (r.corpora)
        code = cli_take_all(&a, help, take, &r, &helped);
    if (code == CLI_OK && !helped && (!r.model_path || !r.corpus_count))
        code = cli_usage("attack extraction", "needs a MODEL and --corpus");
    if (code == CLI_OK && !helped)
        code = work(&r);
    close_all(&r);
    return code;
}

int cli_attack(int argc, char **argv)
{
    static const cli_verb verbs[] = {{"extraction", extraction, "which training documents a model recites"}};
    return cli_run_verb("attack", "what a model gives away of the texts it was trained on.", verbs, 1,
                        "  flextrace attack extraction merged --corpus news.jsonl -i news.index\n", argc, argv);
}
