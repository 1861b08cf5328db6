/* flextrace index stat, flextrace index verify */
#include "api/cli/cli_index_stat.h"
#include "base/ft_file.h"
#include "base/ft_threads.h"

#include <inttypes.h>
#include <string.h>

static const char stat_verb[] = "index stat";

static const char stat_help[] = "flextrace index stat: what is in a corpus, before anybody searches it.\n\n"
                                "Usage: flextrace index stat INDEX [OPTIONS]\n\n"
                                "From the manifest, at once: documents, tokens, bytes of text and on disk, segments,\n"
                                "owner, the digest of the tokenizer, the Merkle root of this state of the corpus.\n"
                                "From the corpus: lengths of documents; byte-identical and near-duplicate documents\n"
                                "(shingles of 5 tokens, Jaccard similarity 0.8 and more); sources and licences from\n"
                                "the metadata; the commonest n-grams. Takes some\n"
                                "0.06 s a million tokens, divided by the threads.\n\n"
                                "      --quick            the manifest's facts alone\n"
                                "      --deep             all of it, however long it takes (default: up to 250\n"
                                "                         million tokens, beyond that the manifest's facts alone)\n"
                                "      --json             one JSON object\n"
                                "      --html FILE        also writes a page that needs nothing but a browser\n"
                                "      --top N            entries of each list, 1 to 1000 (default 10)\n"
                                "      --max-n N          longest n-gram, 1 to 16 tokens (default 5)\n"
                                "      --memory SIZE      ceiling: 192 bytes a document, and the sources (default 2G)\n"
                                "      --threads N        default: all processors\n"
                                "  -t, --tokenizer TOK    for the text of n-grams (default: the copy in the index)\n"
                                "      --infini-gram V    version of an infini-gram folder (default 4)\n\n"
                                "What is a duplicate, a source, a licence: docs/index-stat.md.\n\n"
                                "Examples:\n"
                                "  flextrace index stat farm.index\n"
                                "  flextrace index stat farm.index --json --quick\n"
                                "  flextrace index stat farm.index --html farm.html --top 50 --max-n 8\n";

static const char verify_help[] =
    "flextrace index verify: every checksum, the order of the suffix array, the Merkle root.\n\n"
    "Usage: flextrace index verify INDEX [--infini-gram 4|5]\n\n"
    "Exit 0 when all of it holds; otherwise 1 and the first fault, with file and place.\n"
    "Needs 4 bytes of memory for each token. An infini-gram folder has no checksums:\n"
    "there the order and the places of documents are checked.\n\n"
    "Example:\n  flextrace index verify farm.index && echo whole\n";

static const cli_option options[] = {{"json", 0, 0}, {"infini-gram", 0, 1}, {"help", 'h', 0}, {NULL, 0, 0}};

typedef struct request {
    const char *folder;
    ft_infinigram_options infinigram;
    int json, helped;
} request;

/* CLI_OK when there is something to do. */
static int read_request(request *r, const char *verb, const char *help, int argc, char **argv)
{
    cli_args args = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    const char *name, *value;
    int got;
    *r = (request){.infinigram = {.version = 4, .end_of_text = FT_NO_TOKEN}};
    while ((got = cli_next(&args, &name, &value)) == 1) {
        long long version;
        if (!name && r->folder)
            return cli_usage(verb, "one INDEX at a time; '%.60s' is too many", value);
        if (!name) {
            r->folder = value;
        } else if (!strcmp(name, "help")) {
            fputs(help, stdout);
            r->helped = 1;
            return CLI_OK;
        } else if (!strcmp(name, "json")) {
            r->json = 1;
        } else {
            if (!cli_integer(verb, name, value, 4, 5, &version))
                return CLI_USAGE;
            r->infinigram.version = (int)version;
        }
    }
    if (got < 0)
        return CLI_USAGE;
    return r->folder ? CLI_OK : cli_usage(verb, "which INDEX?");
}

/* --- stat ----------------------------------------------------------------------------- */

/* What takes a few seconds is counted unasked; a line of progress shows where it may take more. */
#define UNASKED_TOKENS UINT64_C(250000000)
#define UNASKED_DOCUMENTS UINT64_C(5000000)
#define SILENT_TOKENS UINT64_C(5000000)

static const cli_option stat_options[] = {{"quick", 0, 0},       {"deep", 0, 0},    {"json", 0, 0},
                                          {"html", 0, 1},        {"top", 0, 1},     {"max-n", 0, 1},
                                          {"memory", 0, 1},      {"threads", 0, 1}, {"tokenizer", 't', 1},
                                          {"infini-gram", 0, 1}, {"help", 'h', 0},  {NULL, 0, 0}};

typedef struct stat_request {
    const char *folder, *html, *tokenizer;
    ft_infinigram_options infinigram;
    ft_index_stat_options deep;
    unsigned threads;
    int json, quick, asked; /* asked: for what only the corpus tells */
    int helped;
} stat_request;

/* An option with a number; 1 when it was understood. */
static int take_stat_number(stat_request *r, const char *name, const char *value)
{
    static const struct {
        const char *name;
        long long low, high;
    } known[] = {{"top", 1, FT_STAT_MAX_TOP}, {"max-n", 1, FT_STAT_MAX_N}, {"threads", 1, 1024}, {"infini-gram", 4, 5}};
    long long number;
    size_t i = 0;
    while (strcmp(known[i].name, name) != 0)
        i++;
    if (!cli_integer(stat_verb, name, value, known[i].low, known[i].high, &number))
        return 0;
    switch (i) {
    case 0:
        r->deep.top = (unsigned)number;
        break;
    case 1:
        r->deep.max_n = (unsigned)number;
        break;
    case 2:
        r->threads = (unsigned)number;
        break;
    default:
        r->infinigram.version = (int)number;
    }
    r->asked |= i < 2;
    return 1;
}

/* 1 when the option was understood. */
static int take_stat_option(stat_request *r, const char *name, const char *value)
{
    unsigned long long bytes;
    if (!strcmp(name, "quick")) {
        r->quick = 1;
    } else if (!strcmp(name, "deep")) {
        r->asked = 1;
    } else if (!strcmp(name, "json")) {
        r->json = 1;
    } else if (!strcmp(name, "html")) {
        r->html = value;
        r->asked = 1;
    } else if (!strcmp(name, "tokenizer")) {
        r->tokenizer = value;
    } else if (!strcmp(name, "memory")) {
        if (!cli_bytes(stat_verb, name, value, &bytes))
            return 0;
        r->deep.memory_bytes = bytes;
    } else {
        return take_stat_number(r, name, value);
    }
    return 1;
}

/* CLI_OK when there is something to do. */
static int read_stat_request(stat_request *r, int argc, char **argv)
{
    cli_args args = {.subcommand = stat_verb, .options = stat_options, .argc = argc, .argv = argv};
    const char *name, *value;
    int got;
    *r = (stat_request){.infinigram = {.version = 4, .end_of_text = FT_NO_TOKEN}, .deep = {.top = 10}};
    while ((got = cli_next(&args, &name, &value)) == 1) {
        if (!name && r->folder)
            return cli_usage(stat_verb, "one INDEX at a time; '%.60s' is too many", value);
        if (!name) {
            r->folder = value;
        } else if (!strcmp(name, "help")) {
            fputs(stat_help, stdout);
            r->helped = 1;
            return CLI_OK;
        } else if (!take_stat_option(r, name, value)) {
            return CLI_USAGE;
        }
    }
    if (got < 0)
        return CLI_USAGE;
    if (r->quick && r->asked)
        return cli_usage(stat_verb, "--quick goes without --deep, --html, --top and --max-n");
    return r->folder ? CLI_OK : cli_usage(stat_verb, "which INDEX?");
}

static int wants_deep(const stat_request *r, const ft_index_info *info)
{
    if (r->quick || r->asked)
        return r->asked;
    if (info->tokens <= UNASKED_TOKENS && info->documents <= UNASKED_DOCUMENTS)
        return 1;
    fprintf(stderr,
            "flextrace: %s: the manifest's facts alone, for %" PRIu64 " tokens take a while; --deep counts the rest\n",
            info->folder, info->tokens);
    return 0;
}

static int report_silently(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)context;
    (void)phase;
    (void)done;
    (void)total;
    (void)unit;
    return cli_interrupted();
}

static ft_code count_deep(const stat_request *r, const ft_index *ix, ft_index_stat **out, ft_status *st)
{
    ft_index_stat_options o = r->deep;
    const ft_progress loud = cli_progress(), quiet = {.report = report_silently};
    o.progress = ft_index_get_info(ix).tokens > SILENT_TOKENS ? &loud : &quiet;
    ft_code rc = ft_pool_new(&o.pool, r->threads, st);
    if (!rc)
        rc = ft_index_stat_make(out, ix, &o, st);
    ft_pool_free(o.pool);
    cli_progress_end();
    return rc;
}

static ft_code write_page(const stat_report *report, const char *path, ft_status *st)
{
    ft_buffer page = {0};
    ft_code rc = stat_page(report, &page, st);
    if (!rc)
        rc = ft_file_write(path, page.data, page.size, st);
    ft_buffer_release(&page);
    return rc;
}

static int show_stat(const stat_request *r, const ft_index *ix, ft_status *st)
{
    stat_report report = {.ix = ix, .info = ft_index_get_info(ix)};
    ft_index_stat *deep = NULL;
    ft_tokenizer *tokenizer = NULL;
    const int is_deep = wants_deep(r, &report.info);
    const char *path = r->tokenizer ? r->tokenizer : report.info.tokenizer;
    ft_code rc = is_deep && path ? ft_tokenizer_open(&tokenizer, path, st) : FT_OK;
    if (!rc && is_deep)
        rc = count_deep(r, ix, &deep, st);
    report.deep = deep;
    report.tokenizer = tokenizer;
    if (!rc && r->html)
        rc = write_page(&report, r->html, st);
    int code = CLI_OK;
    if (rc)
        code = cli_fail(st);
    else if (r->json)
        code = cli_print_json(stat_json(&report));
    else
        stat_print_table(&report);
    ft_index_stat_free(deep);
    ft_tokenizer_close(tokenizer);
    return code;
}

int cli_index_stat(int argc, char **argv)
{
    stat_request r;
    ft_index *ix;
    ft_status st = {0};
    int code = read_stat_request(&r, argc, argv);
    if (code != CLI_OK || r.helped)
        return code;
    if (ft_index_open_any(&ix, r.folder, &r.infinigram, &st) != FT_OK)
        return cli_fail(&st);
    code = show_stat(&r, ix, &st);
    ft_index_close(ix);
    return code;
}

/* --- verify --------------------------------------------------------------------------- */

int cli_index_verify(int argc, char **argv)
{
    request r;
    ft_index *ix = NULL;
    ft_status st = {0};
    const int code = read_request(&r, "index verify", verify_help, argc, argv);
    if (code != CLI_OK || r.helped)
        return code;
    ft_code rc = ft_index_open_any(&ix, r.folder, &r.infinigram, &st);
    if (!rc)
        rc = ft_index_verify(ix, &st);
    ft_index_close(ix);
    if (r.json)
        return cli_print_json(json_pack("{s:b,s:s?}", "valid", !rc, "fault", rc ? st.msg : NULL)) ? CLI_SYSTEM
               : rc == FT_OK                                                                      ? CLI_OK
                                                                                                  : CLI_CHECK_FAILED;
    if (rc == FT_OK)
        printf("%s: whole\n", r.folder);
    if (rc == FT_OK)
        return CLI_OK;
    const int failed = cli_fail(&st);
    return rc == FT_ERR_FORMAT ? CLI_CHECK_FAILED : failed;
}
