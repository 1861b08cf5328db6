/* flextrace index compact */
#include "api/cli/cli_index_internal.h"
#include "index/ft_index_update.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static const char verb[] = "index compact";

static const char help[] = "flextrace index compact: one segment out of all of an index, without what was removed.\n\n"
                           "Usage: flextrace index compact INDEX [--memory SIZE] [--threads N] [--json]\n\n"
                           "The segments' suffix arrays are merged, not sorted again. Afterwards text that was\n"
                           "removed is in no file of the index. Who has the index open goes on with the old state,\n"
                           "whose files leave the disk when it is closed. Needs as much disk again as the index\n"
                           "meanwhile. Where there is one segment, of which nothing was removed, nothing happens.\n\n"
                           "      --memory SIZE      ceiling of memory (default 2G)\n"
                           "      --threads N        default: all processors\n"
                           "      --json             one JSON object\n\n"
                           "Stopped or killed at any instant, the index is the old or the new one; run the same\n"
                           "command again. Exit: 0 done; 2 usage, or another program is changing the index; 3 bad\n"
                           "input; 4 system (disk, memory); 130, 143 stopped by Ctrl-C, SIGTERM.\n\n"
                           "Example:\n  flextrace index compact farm.index\n";

static const cli_option options[] = {
    {"memory", 0, 1}, {"threads", 0, 1}, {"json", 0, 0}, {"help", 'h', 0}, {NULL, 0, 0}};

typedef struct request {
    const char *folder;
    ft_index_compact_options compact;
    int json;
} request;

static int report(const request *r, const ft_index_compact_report *c, double seconds)
{
    if (r->json)
        return cli_print_json(json_pack("{s:s,s:i,s:i,s:I,s:I,s:I,s:f}", "index", r->folder, "segments_before",
                                        (int)c->segments_before, "segments_after", (int)c->segments_after,
                                        "removed_documents", (json_int_t)c->removed_documents, "removed_tokens",
                                        (json_int_t)c->removed_tokens, "disk_bytes", (json_int_t)c->disk_bytes,
                                        "seconds", seconds));
    if (c->segments_before == c->segments_after && !c->removed_documents)
        printf("%s: compact already\n", r->folder);
    else
        printf("%s: %u segments made %u, in %.1f MB; %" PRIu64 " removed documents, %" PRIu64
               " tokens left the files; %.1f s\n",
               r->folder, c->segments_before, c->segments_after, (double)c->disk_bytes / 1e6, c->removed_documents,
               c->removed_tokens, seconds);
    return CLI_OK;
}

static int run(request *r)
{
    struct timespec from, to;
    ft_index_compact_report c;
    ft_status st = {0};
    r->compact.progress = cli_progress();
    clock_gettime(CLOCK_MONOTONIC, &from);
    const ft_code rc = ft_index_compact(r->folder, &r->compact, &c, &st);
    clock_gettime(CLOCK_MONOTONIC, &to);
    cli_progress_end();
    if (rc)
        return cli_fail(&st);
    return report(r, &c, (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
}

/* CLI_OK, or a usage error that has been printed. */
static int take_option(void *context, const char *name, const char *value)
{
    request *r = context;
    unsigned long long bytes;
    long long number;
    if (!name && r->folder)
        return cli_usage(verb, "one INDEX at a time; '%.60s' is too many", value);
    if (!name) {
        r->folder = value;
    } else if (!strcmp(name, "json")) {
        r->json = 1;
    } else if (!strcmp(name, "memory")) {
        if (!cli_bytes(verb, name, value, &bytes))
            return CLI_USAGE;
        r->compact.memory_bytes = bytes;
    } else {
        if (!cli_integer(verb, name, value, 1, 1024, &number))
            return CLI_USAGE;
        r->compact.threads = (unsigned)number;
    }
    return CLI_OK;
}

int cli_index_compact(int argc, char **argv)
{
    cli_args args = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    request r = {0};
    int helped;
    const int code = cli_take_all(&args, help, take_option, &r, &helped);
    if (code != CLI_OK || helped)
        return code;
    return r.folder ? run(&r) : cli_usage(verb, "which INDEX?");
}
