/* flextrace audit export, import, routing. */
#include "api/cli/cli_audit_internal.h"
#include "api/compliance_internal.h"
#include "base/ft_file.h"
#include "base/ft_npy.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static const char export_help[] =
    "Usage: flextrace audit export STORE|FEDERATION [--format jsonl|csv|npy] [-o FILE|FOLDER] [FILTER]\n\n"
    "jsonl (default): every trace on a line, with \"routing_packed\": its routing as the store keeps it, base64; the "
    "last\n"
    "line is {\"exported\": N}. `audit import` reads it. csv: a line a span. npy: a folder of arrays, for it -o is "
    "needed.\n"
    "      --no-routing        jsonl without routing\n" CLI_FILTER_HELP;

typedef struct exporter {
    cli_store s;
    FILE *out;
    const char *format, *path;
    int no_routing;
    ft_store_filter filter;
    uint64_t count;
    ft_buffer text, packed;
    /* npy: columns */
    uint32_t *tokens;
    uint64_t *offsets, *times;
    float *shares;
    size_t token_count, token_capacity, row_capacity, share_capacity, time_capacity, experts;
    json_t *ids, *parameters; /* parameters: of the filter, as they were given */
} exporter;

static ft_code system_failed(ft_status *st)
{
    return ft_fail(st, FT_ERR_IO, "the export could not be written");
}

static ft_code write_text(exporter *x, ft_status *st)
{
    fwrite(x->text.data, 1, x->text.size, x->out);
    x->count++;
    return ferror(x->out) ? system_failed(st) : FT_OK;
}

static ft_code export_line(void *context, const char *id, json_t *row, ft_status *st)
{
    exporter *x = context;
    (void)row;
    ft_buffer_reset(&x->text);
    ft_code rc = ft_export_json(x->s.store, id, x->no_routing ? NULL : &x->packed, &x->text, st);
    if (rc == FT_ERR_NOT_FOUND) /* deleted meanwhile */
        return FT_OK;
    if (!rc)
        rc = ft_buffer_append(&x->text, "\n", 1, st);
    return rc ? rc : write_text(x, st);
}

static ft_code export_csv(void *context, const char *id, json_t *row, ft_status *st)
{
    exporter *x = context;
    (void)id;
    ft_buffer_reset(&x->text);
    const ft_code rc = ft_export_csv(row, &x->text, st);
    return rc ? rc : write_text(x, st);
}

/* Columns: response tokens one trace after another, where each trace begins in them, its time, its experts' shares. */
static ft_code export_columns(void *context, const char *id, json_t *row, ft_status *st)
{
    exporter *x = context;
    json_t *trace = NULL;
    const json_t *experts = json_object_get(row, "experts");
    const size_t n = x->count;
    if (!n)
        x->experts = json_array_size(experts);
    ft_buffer_reset(&x->text);
    ft_code rc = ft_store_get_text(x->s.store, id, &x->text, st);
    if (!rc)
        rc = ft_json_parse(&trace, x->text.data, x->text.size, id, st);
    const json_t *ids = json_object_get(json_object_get(trace, "response"), "ids");
    const size_t tokens = json_array_size(ids);
    if (!rc)
        rc = ft_array_grow((void **)&x->tokens, &x->token_capacity, x->token_count + tokens, sizeof(*x->tokens), st);
    if (!rc)
        rc = ft_array_grow((void **)&x->offsets, &x->row_capacity, n + 2, sizeof(*x->offsets), st);
    if (!rc)
        rc = ft_array_grow((void **)&x->times, &x->time_capacity, n + 1, sizeof(*x->times), st);
    if (!rc)
        rc = ft_array_grow((void **)&x->shares, &x->share_capacity, (n + 1) * x->experts, sizeof(*x->shares), st);
    if (!rc) {
        x->offsets[0] = 0;
        for (size_t i = 0; i < tokens; i++) /* what was redacted has no id any more */
            x->tokens[x->token_count++] = json_is_integer(json_array_get(ids, i))
                                              ? (uint32_t)json_integer_value(json_array_get(ids, i))
                                              : UINT32_MAX;
        x->offsets[n + 1] = x->token_count;
        (void)ft_trace_id_time(id, &x->times[n]);
        for (size_t e = 0; e < x->experts; e++)
            x->shares[n * x->experts + e] =
                (float)json_number_value(json_object_get(json_array_get(experts, e), "share"));
        (void)json_array_append_new(x->ids, json_string(id));
        x->count++;
    }
    json_decref(trace);
    return rc;
}

static ft_code write_array(const exporter *x, const char *name, ft_npy_type type, unsigned dims, const size_t *shape,
                           const void *data, ft_status *st)
{
    char *path = ft_path_join(x->path, name);
    const ft_code rc =
        path ? ft_npy_write(path, type, dims, shape, data, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    free(path);
    return rc;
}

static ft_code write_columns(const exporter *x, ft_status *st)
{
    static const uint64_t zero;
    ft_buffer text = {0};
    const size_t rows = (size_t)x->count, tokens = x->token_count, offsets = rows + 1, shares[2] = {rows, x->experts};
    ft_code rc = ft_folder_make(x->path, st);
    if (!rc)
        rc = write_array(x, "tokens.npy", FT_NPY_UINT32, 1, &tokens, x->tokens, st);
    if (!rc)
        rc = write_array(x, "offsets.npy", FT_NPY_UINT64, 1, &offsets, x->offsets ? x->offsets : &zero, st);
    if (!rc)
        rc = write_array(x, "created_ms.npy", FT_NPY_UINT64, 1, &rows, x->times, st);
    if (!rc)
        rc = write_array(x, "shares.npy", FT_NPY_FLOAT32, 2, shares, x->shares, st);
    if (!rc)
        rc = ft_json_write(x->ids, &text, st);
    char *path = rc ? NULL : ft_path_join(x->path, "ids.json");
    if (!rc)
        rc = path ? ft_file_write(path, text.data, text.size, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    free(path);
    ft_buffer_release(&text);
    return rc;
}

static ft_code run_export(exporter *x, const char *store, ft_status *st)
{
    const int jsonl = !strcmp(x->format, "jsonl"), csv = !strcmp(x->format, "csv");
    ft_code rc = cli_store_open(&x->s, store, st);
    if (!rc)
        rc = ft_store_log(x->s.store, "local", "export",
                          json_pack("{s:s,s:O}", "format", x->format, "parameters", x->parameters), st);
    if (rc)
        return rc;
    x->out = stdout;
    if ((jsonl || csv) && x->path && !(x->out = fopen(x->path, "w")))
        return ft_fail(st, FT_ERR_IO, "%s: cannot be written", x->path);
    if (csv) {
        rc = ft_csv_head(&x->text, ft_export_columns, st);
        if (!rc)
            fwrite(x->text.data, 1, x->text.size, x->out);
    }
    if (!rc)
        rc = ft_store_walk(x->s.store, &x->filter, !jsonl, jsonl ? export_line : csv ? export_csv : export_columns, x,
                           st);
    if (!rc && jsonl)
        fprintf(x->out, "{\"exported\":%llu}\n", (unsigned long long)x->count);
    if (x->out != stdout && fclose(x->out) != 0 && !rc)
        rc = system_failed(st);
    return !rc && !jsonl && !csv ? write_columns(x, st) : rc;
}

/* By the name that HTTP has for it. */
static void note_parameter(json_t *parameters, const char *option, const char *value)
{
    char name[40];
    snprintf(name, sizeof(name), "%s", strcmp(option, "text") ? option : "q");
    for (char *dash = name; (dash = strchr(dash, '-')) != NULL;)
        *dash = '_';
    (void)json_object_set_new(parameters, name, json_string(value));
}

int cli_audit_export(int argc, char **argv)
{
    static const cli_option options[] = {{"format", 'f', 1}, {"output", 'o', 1}, {"no-routing", 0, 0},
                                         {"help", 'h', 0},   CLI_FILTER_OPTIONS, {0}};
    static const char verb[] = "audit export";
    cli_args a = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    exporter x = {.format = "jsonl", .filter = ft_store_filter_all(), .ids = json_array(), .parameters = json_object()};
    const char *name, *value, *store = NULL;
    ft_status st = {0};
    int more, code = CLI_OK, taken;
    while (code == CLI_OK && (more = cli_next(&a, &name, &value)) != 0) {
        if (more < 0)
            code = CLI_USAGE;
        else if (!name && store)
            code = cli_usage(verb, "takes one STORE, not '%.60s' too", value);
        else if (!name)
            store = value;
        else if (!strcmp(name, "format"))
            x.format = value;
        else if (!strcmp(name, "output"))
            x.path = value;
        else if (!strcmp(name, "no-routing"))
            x.no_routing = 1;
        else if ((taken = cli_take_filter(verb, &x.filter, name, value)) == 0) {
            fputs(export_help, stdout);
            json_decref(x.ids);
            json_decref(x.parameters);
            return CLI_OK;
        } else if (taken < 0)
            code = CLI_USAGE;
        else
            note_parameter(x.parameters, name, value);
    }
    if (code == CLI_OK && !store)
        code = cli_usage(verb, "needs a STORE or FEDERATION");
    else if (code == CLI_OK && strcmp(x.format, "jsonl") != 0 && strcmp(x.format, "csv") != 0 &&
             strcmp(x.format, "npy") != 0)
        code = cli_usage(verb, "--format must be jsonl, csv or npy, not '%.40s'", x.format);
    else if (code == CLI_OK && !strcmp(x.format, "npy") && !x.path)
        code = cli_usage(verb, "--format npy needs -o FOLDER");
    else if (code == CLI_OK && x.no_routing && strcmp(x.format, "jsonl") != 0)
        code = cli_usage(verb, "--no-routing goes with --format jsonl: %s has none", x.format);
    else if (code == CLI_OK)
        code = cli_check_filter(verb, &x.filter);
    if (code == CLI_OK && run_export(&x, store, &st))
        code = cli_fail(&st);
    cli_store_close(&x.s);
    ft_buffer_release(&x.text);
    ft_buffer_release(&x.packed);
    free(x.tokens);
    free(x.offsets);
    free(x.times);
    free(x.shares);
    json_decref(x.ids);
    json_decref(x.parameters);
    return code;
}

/* --- Import ---------------------------------------------------------------------------------------------------------
 */

static ft_code import_line(ft_store *s, json_t *trace, ft_status *st)
{
    const char *id = json_string_value(json_object_get(trace, "id"));
    const json_t *packed = json_object_get(trace, "routing_packed");
    const size_t n = json_string_length(packed);
    unsigned char *bytes = n ? malloc(n) : NULL;
    size_t size = 0;
    ft_code rc = id ? FT_OK : ft_fail(st, FT_ERR_FORMAT, "a line without a trace's \"id\"");
    if (!rc && n &&
        (!bytes ||
         sodium_base642bin(bytes, n, json_string_value(packed), n, NULL, &size, NULL, sodium_base64_VARIANT_ORIGINAL)))
        rc = ft_fail(st, FT_ERR_FORMAT, "trace %.40s: its routing_packed is no base64", id);
    char copy[FT_TRACE_ID] = "";
    if (!rc && strlen(id) < sizeof(copy))
        memcpy(copy, id, strlen(id) + 1);
    (void)json_object_del(trace, "routing_packed");
    if (!rc)
        rc = ft_store_put_packed(s, copy, trace, bytes, size, st);
    free(bytes);
    return rc;
}

int cli_audit_import(int argc, char **argv)
{
    ft_status st = {0};
    cli_store s = {0};
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    uint64_t number = 0, count = 0;
    int64_t promised = -1;
    if (argc != 2 || argv[1][0] == '-') {
        fputs("Usage: flextrace audit import STORE|FEDERATION <FILE\n\nReads JSON lines of `audit export` into a "
              "store, which is made where it is new; a trace that is there\nis replaced. The last line of an export "
              "says how many there are: a file that was cut is told.\n",
              argc == 2 && argv[1][1] != 'x' ? stdout : stderr);
        return argc == 2 ? CLI_OK : CLI_USAGE;
    }
    ft_code rc = ft_path_exists(argv[1]) ? cli_store_open(&s, argv[1], &st) : ft_store_open(&s.store, argv[1], 0, &st);
    while (!rc && (n = getline(&line, &room, stdin)) > 0) {
        json_t *v = NULL;
        char where[40];
        snprintf(where, sizeof(where), "line %llu", (unsigned long long)++number);
        rc = ft_json_parse(&v, line, (size_t)n, where, &st);
        if (!rc && json_object_get(v, "exported")) {
            promised = json_integer_value(json_object_get(v, "exported"));
        } else if (!rc) {
            rc = import_line(s.store, v, &st);
            count += !rc;
        }
        if (rc)
            ft_status_prefix(&st, "standard input: %s", where);
        json_decref(v);
    }
    if (!rc && promised != (int64_t)count)
        rc = ft_fail(
            &st, FT_ERR_FORMAT,
            "standard input: %llu traces were imported, but the last line does not promise so many: the file was cut",
            (unsigned long long)count);
    if (s.store) {
        ft_status ignored;
        const ft_code logged = ft_store_log(s.store, "local", "import", json_pack("{s:I}", "traces", (json_int_t)count),
                                            rc ? &ignored : &st);
        rc = rc ? rc : logged;
    }
    cli_store_close(&s);
    free(line);
    if (rc)
        return cli_fail(&st);
    printf("%llu traces imported\n", (unsigned long long)count);
    return CLI_OK;
}

/* --- Routing
 * ---------------------------------------------------------------------------------------------------------- */

static const char routing_help[] =
    "Usage: flextrace audit routing STORE|FEDERATION TRACE_ID -o FILE.npy\n"
    "       flextrace audit routing STORE|FEDERATION [FILTER] [--bucket SECONDS] [--token-ids]\n\n"
    "With a trace's id: mixing weights [tokens, layers, experts], float32, 0 where an expert was not chosen:\n"
    "  import numpy\n"
    "  weights = numpy.load(\"FILE.npy\")\n"
    "Without: over all traces that fit, as JSON: shares per expert, layer and owner of the spans, co-activation,\n"
    "entropy; with --bucket shares over time, with --token-ids shares of every token id.\n" CLI_FILTER_HELP;

static ft_code one_array(ft_store *s, const char *id, const char *path, ft_status *st)
{
    ft_stored_routing r;
    float *dense = NULL;
    ft_code rc = ft_store_log(s, "local", "routing.read", json_pack("{s:s}", "trace", id), st);
    if (!rc)
        rc = ft_store_get_routing(s, id, &r, st);
    if (rc)
        return rc;
    const size_t shape[3] = {r.view.tokens, r.view.layers, r.view.experts};
    rc = ft_routing_dense(&r.view, &dense, st);
    if (!rc)
        rc = ft_npy_write(path, FT_NPY_FLOAT32, 3, shape, dense, st);
    free(dense);
    ft_stored_routing_release(&r);
    return rc;
}

/* `parameters` is consumed. */
static ft_code many(ft_store *s, const ft_store_filter *f, const ft_study_options *o, json_t *parameters, json_t **out,
                    ft_status *st)
{
    ft_routing_study *y = NULL;
    ft_code rc = ft_store_log(s, "local", "routing.study", json_pack("{s:o}", "parameters", parameters), st);
    if (!rc)
        rc = ft_routing_study_new(&y, o, st);
    if (!rc)
        rc = ft_routing_study_add(y, s, f, st);
    if (!rc)
        rc = ft_routing_study_json(y, out, st);
    ft_routing_study_free(y);
    return rc;
}

int cli_audit_routing(int argc, char **argv)
{
    static const cli_option options[] = {{"output", 'o', 1}, {"bucket", 0, 1},   {"token-ids", 0, 0},
                                         {"help", 'h', 0},   CLI_FILTER_OPTIONS, {0}};
    static const char verb[] = "audit routing";
    cli_args a = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    const char *name, *value, *store = NULL, *id = NULL, *path = NULL, *of_many = NULL;
    ft_store_filter filter = ft_store_filter_all();
    ft_study_options how = {0};
    ft_status st = {0};
    json_t *parameters = json_object(), *out = NULL;
    long long number;
    int more = 0, taken, code = CLI_OK;
    while (code == CLI_OK && (more = cli_next(&a, &name, &value)) > 0) {
        if (!name && id)
            code = cli_usage(verb, "'%.60s' is one operand too many", value);
        else if (!name)
            *(store ? &id : &store) = value;
        else if (!strcmp(name, "output"))
            path = value;
        else if (!strcmp(name, "token-ids"))
            how.per_token = 1;
        else if (!strcmp(name, "bucket")) {
            code = cli_integer(verb, name, value, 1, 1LL << 30, &number) ? CLI_OK : CLI_USAGE;
            how.bucket_ms = code ? 0 : (uint64_t)number * 1000;
        } else if ((taken = cli_take_filter(verb, &filter, name, value)) < 0)
            code = CLI_USAGE;
        else if (!taken) {
            fputs(routing_help, stdout);
            json_decref(parameters);
            return CLI_OK;
        }
        if (name && strcmp(name, "output") != 0) {
            of_many = name;
            note_parameter(parameters, name, value ? value : "1");
        }
    }
    if (code == CLI_OK && more < 0)
        code = CLI_USAGE;
    else if (code == CLI_OK && (!store || (id != NULL) != (path != NULL)))
        code = cli_usage(verb, store ? "a TRACE_ID and -o FILE.npy go together" : "needs a STORE or FEDERATION");
    else if (code == CLI_OK && id && of_many)
        code = cli_usage(verb, "--%s is of many traces: leave it or the TRACE_ID out", of_many);
    if (code == CLI_OK)
        code = cli_check_filter(verb, &filter);
    if (code == CLI_OK) {
        cli_store s;
        ft_code rc = cli_store_open(&s, store, &st);
        if (!rc)
            rc = id ? one_array(s.store, id, path, &st)
                    : many(s.store, &filter, &how, json_incref(parameters), &out, &st);
        cli_store_close(&s);
        code = rc ? cli_fail(&st) : out ? cli_print_json(out) : CLI_OK;
    }
    json_decref(parameters);
    return code;
}
