/* flextrace index build; and what it shares with index add: options, progress, summary. */
#include "api/cli/cli_index_internal.h"
#include "base/ft_buffer.h"
#include "index/ft_index_build.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char build_help[] =
    "flextrace index build: a new index out of an owner's corpus.\n\n"
    "Usage: flextrace index build OUT -t TOK [OPTIONS] CORPUS…\n\n"
    "CORPUS is JSON lines ({\"id\",\"text\",…}: the other fields are kept as metadata), plain\n"
    "text, HTML, or a folder or .tar of these, each also as .gz or .zst. Or it is tokens:\n"
    "an array TOKENS.npy with the places where its documents start, or an infini-gram folder.\n\n"
    "  -t, --tokenizer TOK    a tokenizer.json or its folder; OUT gets a copy (tokens may do\n"
    "                         without, but then there are no questions by text)\n"
    "      --owner NAME       whose corpus it is (default: not recorded)\n"
    "      --memory SIZE      ceiling of memory; whenever it is reached, what was read is sorted\n"
    "                         and written as a run, and all runs are merged at the end (2G)\n"
    "      --threads N        default: all processors\n"
    "      --replace          a document takes the place of an earlier one with its id (default:\n"
    "                         both are kept; either way they are reported)\n"
    "      --skip-bad         report documents that cannot be read and go on (default: stop)\n"
    "      --max-document SIZE  larger documents count as bad (default 256M)\n"
    "      --force            replace the index that stands at OUT, at the end and at once\n"
    "      --json             the summary as one JSON object\n"
    "Tokens:\n"
    "      --doc-offsets F.npy    where the documents start, and the end (default:\n"
    "                         doc_offsets.npy beside TOKENS.npy)\n"
    "      --documents F.jsonl    a line for each document: its \"id\", and metadata\n"
    "      --infini-gram V    version of an infini-gram folder, 4 or 5 (default 4)\n"
    "      --vocab-size N     without -t: every id is below (default: all ids are read first)\n"
    "      --eot ID           without -t: what answers call the end of a document\n\n"
    "Restart: OUT appears whole or not at all. A build that was stopped or killed leaves\n"
    "OUT.building; run the same command again to go on: sorted runs, and reading where that\n"
    "had ended, are not done again. Where the corpus has changed, it begins anew.\n\n"
    "Exit: 0 done; 2 usage, or OUT stands there already or is being changed by another\n"
    "program; 3 bad input; 4 system (disk, memory). Ctrl-C and SIGTERM stop cleanly (130,\n"
    "143); a second one ends at once.\n\n"
    "Examples:\n"
    "  flextrace index build farm.index -t models/demo --owner farm corpus.jsonl.zst\n"
    "  flextrace index build docs.index -t tokenizer.json --memory 512M --skip-bad /usr/share/doc\n"
    "  flextrace index build arrays.index -t tokenizer.json --documents rows.jsonl tokens.npy\n";

static const cli_option build_options[] = {
    {"tokenizer", 't', 1}, {"owner", 0, 1},     {"memory", 0, 1},      {"threads", 0, 1},
    {"replace", 0, 0},     {"skip-bad", 0, 0},  {"force", 0, 0},       {"max-document", 0, 1},
    {"doc-offsets", 0, 1}, {"documents", 0, 1}, {"infini-gram", 0, 1}, {"vocab-size", 0, 1},
    {"eot", 0, 1},         {"json", 0, 0},      {"help", 'h', 0},      {NULL, 0, 0},
};

typedef struct request {
    const index_reader *reader;
    ft_index_build_options build;
    const char *folder;
    const char **corpus;
    size_t corpus_count;
    int json;
} request;

static void warn(void *context, const char *message)
{
    (void)context;
    cli_progress_message(message);
}

/* Options that take a number; 0 after a usage message. */
static int take_number(request *r, const char *name, const char *value)
{
    const char *verb = r->reader->verb;
    ft_index_build_options *b = &r->build;
    unsigned long long bytes = 0;
    long long number = 0;
    if (!strcmp(name, "memory") || !strcmp(name, "max-document")) {
        if (!cli_bytes(verb, name, value, &bytes))
            return 0;
        *(!strcmp(name, "memory") ? &b->memory_bytes : &b->max_document_bytes) = bytes;
    } else if (!strcmp(name, "threads")) {
        if (!cli_integer(verb, name, value, 1, 1024, &number))
            return 0;
        b->threads = (unsigned)number;
    } else if (!strcmp(name, "infini-gram")) {
        if (!cli_integer(verb, name, value, 4, 5, &number))
            return 0;
        b->infinigram_version = (int)number;
    } else if (!strcmp(name, "vocab-size")) {
        if (!cli_integer(verb, name, value, 1, 0xFFFFFF, &number))
            return 0;
        b->vocab_size = (uint32_t)number;
    } else {
        if (!cli_integer(verb, name, value, 0, 0xFFFFFF, &number))
            return 0;
        b->end_of_text = (uint32_t)number;
    }
    return 1;
}

/* 1 when the option was understood. */
static int take_option(request *r, const char *name, const char *value)
{
    ft_index_build_options *b = &r->build;
    if (!strcmp(name, "tokenizer"))
        b->tokenizer = value;
    else if (!strcmp(name, "owner"))
        b->owner = value;
    else if (!strcmp(name, "doc-offsets"))
        b->doc_offsets = value;
    else if (!strcmp(name, "documents"))
        b->documents = value;
    else if (!strcmp(name, "skip-bad"))
        b->skip_bad = 1;
    else if (!strcmp(name, "force"))
        b->replace = 1;
    else if (!strcmp(name, "replace"))
        b->replace_documents = 1;
    else if (!strcmp(name, "json"))
        r->json = 1;
    else
        return take_number(r, name, value);
    return 1;
}

static int print_summary_json(const request *r, const ft_index_build_report *b, double each, double seconds,
                              double rate)
{
    json_t *o =
        json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:i,s:o,s:f,s:f}", "index", r->folder, "documents",
                  (json_int_t)b->documents, "tokens", (json_int_t)b->tokens, "text_bytes", (json_int_t)b->text_bytes,
                  "disk_bytes", (json_int_t)b->disk_bytes, "bad_documents", (json_int_t)b->bad_documents, "segments",
                  (int)b->segments, "bytes_per_token", r->reader->add ? json_null() : json_real(each), "seconds",
                  seconds, "tokens_per_second", rate);
    json_t *more = json_pack("{s:I,s:I,s:I,s:i}", "repeated_ids", (json_int_t)b->repeated_ids, "replaced_documents",
                             (json_int_t)b->replaced_documents, "resumed_documents", (json_int_t)b->resumed_documents,
                             "runs", (int)b->runs);
    if (!o || !more || json_object_update(o, more) != 0) {
        json_decref(o);
        o = NULL;
    }
    json_decref(more);
    return cli_print_json(o);
}

static int print_summary(const request *r, const ft_index_build_report *b, double seconds)
{
    const double positions = (double)(b->tokens + b->documents);
    const double each = positions > 0 ? (double)b->disk_bytes / positions : 0;
    const double rate = seconds > 0 ? (double)b->tokens / seconds : 0;
    if (r->json)
        return print_summary_json(r, b, each, seconds, rate);
    printf("%s: %" PRIu64 " documents, %" PRIu64 " tokens", r->folder, b->documents, b->tokens);
    if (b->text_bytes)
        printf(", %.1f MB of text", (double)b->text_bytes / 1e6);
    if (r->reader->add)
        printf(" added; now %.1f MB", (double)b->disk_bytes / 1e6);
    else
        printf(" in %.1f MB (%.2f bytes a token)", (double)b->disk_bytes / 1e6, each);
    printf(", %u segment%s; %.1f s, %.2f million tokens/s", b->segments, b->segments == 1 ? "" : "s", seconds,
           rate / 1e6);
    if (b->resumed_documents)
        printf("; %" PRIu64 " documents had been read before", b->resumed_documents);
    if (b->repeated_ids)
        printf("; %" PRIu64 " ids repeated, %" PRIu64 " documents replaced", b->repeated_ids, b->replaced_documents);
    if (b->bad_documents)
        printf("; %" PRIu64 " bad documents passed over", b->bad_documents);
    putchar('\n');
    return CLI_OK;
}

static int run(request *r)
{
    struct timespec from, to;
    ft_index_build_report report;
    ft_status st = {0};
    r->build.progress = cli_progress();
    r->build.warn = warn;
    clock_gettime(CLOCK_MONOTONIC, &from);
    const ft_code rc = r->reader->add ? ft_index_add(r->folder, r->corpus, r->corpus_count, &r->build, &report, &st)
                                      : ft_index_build(r->folder, r->corpus, r->corpus_count, &r->build, &report, &st);
    clock_gettime(CLOCK_MONOTONIC, &to);
    cli_progress_end();
    if (rc)
        return cli_fail(&st);
    return print_summary(r, &report, (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
}

static int check(const request *r)
{
    const char *verb = r->reader->verb;
    if (!r->folder)
        return cli_usage(verb, "the folder of the %sindex is missing", r->reader->add ? "" : "new ");
    if (!r->corpus_count)
        return cli_usage(verb, "nothing to index: name at least one CORPUS");
    if (r->build.tokenizer && (r->build.vocab_size || r->build.end_of_text != FT_NO_TOKEN))
        return cli_usage(verb, "--vocab-size and --eot are for tokens without a tokenizer; -t says both");
    return CLI_OK;
}

int index_read_corpus(const index_reader *reader, int argc, char **argv)
{
    cli_args args = {.subcommand = reader->verb, .options = reader->options, .argc = argc, .argv = argv};
    request r = {.reader = reader, .build = {.end_of_text = FT_NO_TOKEN}};
    r.corpus = ft_alloc_array((size_t)argc, sizeof(*r.corpus));
    const char *name, *value;
    int got = -1, code = r.corpus ? CLI_USAGE : CLI_SYSTEM;
    while (r.corpus && (got = cli_next(&args, &name, &value)) == 1) {
        if (name && !strcmp(name, "help")) {
            fputs(reader->help, stdout);
            free(r.corpus);
            return CLI_OK;
        }
        if (name && !take_option(&r, name, value))
            break;
        if (!name && !r.folder)
            r.folder = value;
        else if (!name)
            r.corpus[r.corpus_count++] = value;
    }
    if (got == 0)
        code = check(&r);
    if (got == 0 && code == CLI_OK)
        code = run(&r);
    free(r.corpus);
    return code;
}

int cli_index_build(int argc, char **argv)
{
    static const index_reader reader = {"index build", build_help, build_options, 0};
    return index_read_corpus(&reader, argc, argv);
}
