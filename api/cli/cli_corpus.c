/* flextrace corpus: the documents that index build would read, as JSON lines; by option cut into pieces. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#include "api/cli/cli.h"
#include "base/ft_json.h"
#include "base/ft_utf8.h"
#include "text/ft_corpus.h"

#include <stdlib.h>
#include <string.h>

cli_command cli_corpus;

static const char help[] =
    "flextrace corpus: the documents that 'flextrace index build' would read, as JSON lines.\n"
    "\n"
    "Usage: flextrace corpus [OPTIONS] PATH…\n"
    "PATH: JSONL, plain text, HTML, a folder, .tar, .gz, .zst of these.\n"
    "\n"
    "  --chunk N       cut documents into pieces of at most N characters, at empty lines (0: whole)\n"
    "  --min N         leave out pieces shorter than N characters (0)\n"
    "  --max N         stop after N characters in all (0: no limit)\n"
    "  --id PREFIX     number the documents PREFIX/0, PREFIX/1, … (else they keep their ids)\n"
    "  --source PREFIX put this before each source that is a file's name\n"
    "  --skip-bad      report bad documents and go on, instead of stopping at the first\n"
    "\n"
    "Examples:\n"
    "  flextrace corpus notes/ mail.tar.gz | head -3\n"
    "  flextrace corpus --chunk 6000 --id manual manual.html | gzip > manual.jsonl.gz\n";

typedef struct cutter {
    long long chunk, min, max;
    const char *prefix, *source_prefix;
    unsigned long long number, characters; /* written so far */
    int full;
} cutter;

/* Writes one piece; an exit code. */
static int write_piece(cutter *c, const ft_document *d, const json_t *metadata, unsigned part, const char *text,
                       size_t n)
{
    const size_t characters = ft_utf8_count(text, n);
    if ((long long)characters < c->min)
        return CLI_OK;
    if (c->max && c->characters > (unsigned long long)c->max) {
        c->full = 1;
        return CLI_OK;
    }
    json_t *row = json_object();
    json_t *source = json_object_get(metadata, "source");
    char id[64];
    snprintf(id, sizeof(id), "/%llu", c->number++);
    json_t *name = c->prefix ? json_sprintf("%s%s", c->prefix, id) : json_string(d->id);
    if (!row || json_object_set_new(row, "id", name) != 0 ||
        json_object_set_new(row, "source",
                            source ? json_incref(source) : json_sprintf("%s%s", c->source_prefix, d->id)) != 0 ||
        (c->chunk && json_object_set_new(row, "part", json_integer(part)) != 0) ||
        json_object_update_missing(row, (json_t *)metadata) != 0 ||
        json_object_set_new(row, "text", json_stringn(text, n)) != 0) {
        json_decref(row);
        row = NULL;
    }
    c->characters += characters;
    return cli_print_json(row);
}

/* Pieces end at empty lines; a paragraph longer than the limit stays whole. */
static int write_document(cutter *c, const ft_document *d)
{
    json_t *metadata;
    ft_status st = {0};
    if (ft_json_parse(&metadata, d->metadata, d->metadata_bytes, d->source, &st) != FT_OK)
        return cli_fail(&st);
    const char *from = d->text, *end = d->text + d->text_bytes;
    const char *until = from; /* the piece so far: [from, until) */
    unsigned part = 0;
    int code = CLI_OK;
    while (c->chunk && until < end && code == CLI_OK && !c->full) {
        const char *begin = until == from ? from : until + 2; /* behind the empty line */
        const char *gap = memmem(begin, (size_t)(end - begin), "\n\n", 2);
        gap = gap ? gap : end;
        if (until > from && (long long)(ft_utf8_count(from, (size_t)(until - from)) +
                                        ft_utf8_count(begin, (size_t)(gap - begin))) > c->chunk) {
            code = write_piece(c, d, metadata, part++, from, (size_t)(until - from));
            from = begin;
        }
        until = gap;
        if (until == from && until < end) /* empty lines at the beginning of a piece */
            from = until = until + 2 < end ? until + 2 : end;
    }
    if (code == CLI_OK && !c->full && (end > from || !c->chunk))
        code = write_piece(c, d, metadata, part, from, (size_t)(end - from));
    json_decref(metadata);
    return code;
}

static void warn(void *context, const char *message)
{
    (void)context;
    fprintf(stderr, "flextrace: skipped: %s\n", message);
}

static int run(cutter *c, const char *const *paths, size_t count, int skip_bad)
{
    ft_status st = {0};
    ft_corpus *corpus;
    const ft_corpus_options options = {.skip_bad = skip_bad, .warn = warn};
    if (ft_corpus_open(&corpus, paths, count, &options, &st) != FT_OK)
        return cli_fail(&st);
    int code = CLI_OK;
    while (code == CLI_OK && !c->full) {
        ft_document d;
        int more;
        if (ft_corpus_next(corpus, &d, &more, &st) != FT_OK)
            code = cli_fail(&st);
        else if (!more)
            break;
        else
            code = write_document(c, &d);
    }
    ft_corpus_close(corpus);
    return fflush(stdout) == 0 ? code : CLI_SYSTEM;
}

int cli_corpus(int argc, char **argv)
{
    static const cli_option options[] = {{"chunk", 0, 1},  {"min", 0, 1},      {"max", 0, 1},    {"id", 0, 1},
                                         {"source", 0, 1}, {"skip-bad", 0, 0}, {"help", 'h', 0}, {0}};
    cutter c = {.source_prefix = ""};
    int skip_bad = 0;
    size_t count = 0;
    const char **paths = calloc((size_t)argc, sizeof(*paths));
    if (!paths)
        return CLI_SYSTEM;
    cli_args a = {.subcommand = "corpus", .options = options, .argc = argc, .argv = argv};
    const char *name, *value;
    int code = CLI_OK, got;
    while (code == CLI_OK && (got = cli_next(&a, &name, &value)) != 0) {
        if (got < 0)
            code = CLI_USAGE;
        else if (!name)
            paths[count++] = value;
        else if (!strcmp(name, "help")) {
            fputs(help, stdout);
            free(paths);
            return CLI_OK;
        } else if (!strcmp(name, "skip-bad"))
            skip_bad = 1;
        else if (!strcmp(name, "id"))
            c.prefix = value;
        else if (!strcmp(name, "source"))
            c.source_prefix = value;
        else if (!cli_integer("corpus", name, value, 0, 1LL << 50,
                              !strcmp(name, "chunk") ? &c.chunk
                              : !strcmp(name, "min") ? &c.min
                                                     : &c.max))
            code = CLI_USAGE;
    }
    if (code == CLI_OK && !count)
        code = cli_usage("corpus", "needs a file or a folder");
    if (code == CLI_OK)
        code = run(&c, paths, count, skip_bad);
    free(paths);
    return code;
}
