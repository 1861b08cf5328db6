/* flextrace audit summary: what the model was trained on, as Article 53(1)(d) of the AI Act asks. */
#include "api/cli/cli_audit_internal.h"
#include "base/ft_file.h"
#include "tracer/ft_summary.h"

#include <string.h>

static const char verb[] = "audit summary";
static const char summary_help[] =
    "Usage: flextrace audit summary FEDERATION [--format json|html] [-o FILE]\n\n"
    "The public summary of training content that Article 53(1)(d) of the AI Act asks for, in the sections of the\n"
    "Commission's template. What can be known is computed from model and indexes; what only people know stands in\n"
    "federation.yaml under `summary:` and each owner's `source:`. \"not_stated\" lists what is missing there.\n"
    "The metadata of all documents are read, some four microseconds each.\n"
    "      --format F          json (default), or html: one page, to read and to print\n"
    "  -o, --output FILE       default: standard output\n\n"
    "Example:\n"
    "  flextrace audit summary demo --format html -o summary.html\n";

typedef struct request {
    const char *path, *file;
    int html;
} request;

static int take(void *context, const char *name, const char *value)
{
    request *r = context;
    if (!name && r->path)
        return cli_usage(verb, "takes one FEDERATION");
    if (!name)
        r->path = value;
    else if (!strcmp(name, "output"))
        r->file = value;
    else if (!strcmp(value, "html") || !strcmp(value, "json"))
        r->html = value[0] == 'h';
    else
        return cli_usage(verb, "--format: '%s' is neither json nor html", value);
    return CLI_OK;
}

/* Orders of opt-out stand in the store, which a server may hold. */
static ft_code read_ordered(const ft_federation *f, const ft_trace_scope *scope, uint64_t *bits, ft_status *st)
{
    const char *folder = ft_federation_store(f);
    char *file = folder ? ft_path_join(folder, "data.mdb") : NULL;
    ft_store *store = NULL;
    json_t *orders = NULL;
    ft_code rc = !folder || file ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc && folder && ft_path_exists(file)) {
        rc = ft_store_open(&store, folder, 0, st);
        if (!rc)
            rc = ft_audit_optouts(store, &orders, st);
        if (!rc)
            *bits |= ft_audit_optout_experts(scope, orders);
    }
    json_decref(orders);
    ft_store_close(store);
    free(file);
    return rc;
}

static ft_code make_summary(const char *path, json_t **out, ft_status *st)
{
    ft_federation *f = NULL;
    ft_code rc = ft_federation_open(&f, path, st);
    if (!rc) {
        ft_snapshot *now = ft_federation_snapshot(f);
        const ft_progress progress = cli_progress();
        ft_summary_options how = {.opted_out = ft_federation_opted_out(f), .progress = &progress};
        rc = read_ordered(f, ft_snapshot_scope(now), &how.opted_out, st);
        if (!rc)
            rc = ft_summary_make(f, ft_snapshot_scope(now), &how, out, st);
        cli_progress_end();
        ft_snapshot_release(now);
    }
    ft_federation_close(f);
    return rc;
}

static ft_code write_summary(const request *r, const json_t *summary, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = r->html ? ft_summary_page(summary, &text, st) : ft_json_write(summary, &text, st);
    if (!rc && !r->html)
        rc = ft_buffer_append(&text, "\n", 1, st);
    if (!rc && r->file)
        rc = ft_file_write(r->file, text.data, text.size, st);
    else if (!rc && (fwrite(text.data, 1, text.size, stdout) != text.size || fflush(stdout)))
        rc = ft_fail(st, FT_ERR_IO, "standard output cannot be written");
    ft_buffer_release(&text);
    return rc;
}

int cli_audit_summary(int argc, char **argv)
{
    static const cli_option options[] = {{"format", 0, 1}, {"output", 'o', 1}, {"help", 'h', 0}, {0}};
    cli_args a = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    request r = {0};
    json_t *summary = NULL;
    ft_status st = {0};
    int helped = 0;
    const int code = cli_take_all(&a, summary_help, take, &r, &helped);
    if (code || helped)
        return code;
    if (!r.path)
        return cli_usage(verb, "needs a FEDERATION");
    ft_code rc = make_summary(r.path, &summary, &st);
    if (!rc)
        rc = write_summary(&r, summary, &st);
    json_decref(summary);
    return rc ? cli_fail(&st) : CLI_OK;
}
