/* flextrace index build */
#include "api/cli/cli_index_internal.h"
#include "base/ft_buffer.h"
#include "index/ft_index_build.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char verb[] = "index build";

static const char help[] =
    "flextrace index build: a new index out of corpus files.\n\n"
    "Usage: flextrace index build OUT -t TOK [OPTIONS] CORPUS…\n\n"
    "CORPUS is JSON lines ({\"id\",\"text\",…}: the other fields are kept as metadata), plain\n"
    "text, HTML, or a folder or .tar of these, each also as .gz or .zst. OUT appears\n"
    "whole or not at all: a build that fails or is stopped leaves nothing. Ctrl-C and SIGTERM\n"
    "stop it cleanly (exit 130, 143); a second one ends it at once.\n\n"
    "  -t, --tokenizer TOK    a tokenizer.json or its folder; OUT gets a copy (required)\n"
    "      --owner NAME       whose corpus it is (default: not recorded)\n"
    "      --memory SIZE      ceiling of memory; a segment is written whenever it is\n"
    "                         reached, so less means more segments (default 2G)\n"
    "      --threads N        default: all processors\n"
    "      --skip-bad         report documents that cannot be read and go on (default: stop)\n"
    "      --max-document SIZE  larger documents count as bad (default 256M)\n"
    "      --force            replace the index that stands at OUT, at the end and at once\n"
    "      --json             the summary as one JSON object\n\n"
    "Examples:\n"
    "  flextrace index build farm.index -t models/demo --owner farm corpus.jsonl.zst\n"
    "  flextrace index build docs.index -t tokenizer.json --memory 512M --skip-bad /usr/share/doc\n";

static const cli_option options[] = {
    {"tokenizer", 't', 1}, {"owner", 0, 1},        {"memory", 0, 1}, {"threads", 0, 1}, {"skip-bad", 0, 0},
    {"force", 0, 0},       {"max-document", 0, 1}, {"json", 0, 0},   {"help", 'h', 0},  {NULL, 0, 0},
};

typedef struct request {
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

/* 1 when the option was understood. */
static int take_option(request *r, const char *name, const char *value)
{
    unsigned long long bytes;
    long long number;
    if (!strcmp(name, "tokenizer")) {
        r->build.tokenizer = value;
    } else if (!strcmp(name, "owner")) {
        r->build.owner = value;
    } else if (!strcmp(name, "memory")) {
        if (!cli_bytes(verb, name, value, &bytes))
            return 0;
        r->build.memory_bytes = bytes;
    } else if (!strcmp(name, "max-document")) {
        if (!cli_bytes(verb, name, value, &bytes))
            return 0;
        r->build.max_document_bytes = bytes;
    } else if (!strcmp(name, "threads")) {
        if (!cli_integer(verb, name, value, 1, 1024, &number))
            return 0;
        r->build.threads = (unsigned)number;
    } else if (!strcmp(name, "skip-bad")) {
        r->build.skip_bad = 1;
    } else if (!strcmp(name, "force")) {
        r->build.replace = 1;
    } else {
        r->json = 1;
    }
    return 1;
}

static int print_summary(const request *r, const ft_index_build_report *b, double seconds)
{
    const double positions = (double)(b->tokens + b->documents);
    const double each = (double)b->disk_bytes / positions, rate = seconds > 0 ? (double)b->tokens / seconds : 0;
    if (r->json)
        return cli_print_json(json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:i,s:f,s:f,s:f}", "index", r->folder, "documents",
                                        (json_int_t)b->documents, "tokens", (json_int_t)b->tokens, "text_bytes",
                                        (json_int_t)b->text_bytes, "disk_bytes", (json_int_t)b->disk_bytes,
                                        "bad_documents", (json_int_t)b->bad_documents, "segments", (int)b->segments,
                                        "bytes_per_token", each, "seconds", seconds, "tokens_per_second", rate));
    printf("%s: %" PRIu64 " documents, %" PRIu64
           " tokens, %.1f MB of text in %.1f MB (%.2f bytes a token), %u segment%s; "
           "%.1f s, %.2f million tokens/s",
           r->folder, b->documents, b->tokens, (double)b->text_bytes / 1e6, (double)b->disk_bytes / 1e6, each,
           b->segments, b->segments == 1 ? "" : "s", seconds, rate / 1e6);
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
    const ft_code rc = ft_index_build(r->folder, r->corpus, r->corpus_count, &r->build, &report, &st);
    clock_gettime(CLOCK_MONOTONIC, &to);
    cli_progress_end();
    if (rc)
        return cli_fail(&st);
    return print_summary(r, &report, (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
}

int cli_index_build(int argc, char **argv)
{
    cli_args args = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    request r = {.corpus = ft_alloc_array((size_t)argc, sizeof(*r.corpus))};
    const char *name, *value;
    int got, code = CLI_USAGE;
    while (r.corpus && (got = cli_next(&args, &name, &value)) == 1) {
        if (name && !strcmp(name, "help")) {
            fputs(help, stdout);
            free(r.corpus);
            return CLI_OK;
        }
        if (name && !take_option(&r, name, value))
            got = -1;
        else if (!name && !r.folder)
            r.folder = value;
        else if (!name)
            r.corpus[r.corpus_count++] = value;
        if (got < 0)
            break;
    }
    if (!r.corpus)
        code = CLI_SYSTEM;
    else if (got == 0 && !r.folder)
        code = cli_usage(verb, "the folder of the new index is missing");
    else if (got == 0 && !r.build.tokenizer)
        code = cli_usage(verb, "-t TOK is missing: text is indexed as tokens");
    else if (got == 0 && !r.corpus_count)
        code = cli_usage(verb, "nothing to index: name at least one CORPUS");
    else if (got == 0)
        code = run(&r);
    free(r.corpus);
    return code;
}
