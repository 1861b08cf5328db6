/* flextrace audit left: what is left of documents that were taken down. */
#include "api/cli/cli_audit_internal.h"
#include "tracer/ft_erasure.h"

#include <string.h>

static const char left_help[] =
    "Usage: flextrace audit left FEDERATION TAKEDOWN [--json]\n\n"
    "Looks for what is left of a takedown's documents: in the owner's indexes, in the store, and who had exports\n"
    "before. TAKEDOWN is the certificate's id (tkd_…). Exit 1: something is left, or could not be looked into.\n"
    "      --json              the report as JSON\n";

static const char *text_of(const json_t *v, const char *name)
{
    const char *text = json_string_value(json_object_get(v, name));
    return text ? text : "-";
}

static long long number_of(const json_t *v, const char *name)
{
    return (long long)json_integer_value(json_object_get(v, name));
}

static void print_left(const json_t *report)
{
    const json_t *store = json_object_get(report, "store"), *exports = json_object_get(report, "exports"), *one;
    size_t i;
    json_array_foreach(json_object_get(report, "indexes"), i, one)
    {
        printf("%-12s index %s: %lld visible, %lld until compaction, %lld bytes that no manifest names\n",
               text_of(one, "verdict"), text_of(one, "index"), number_of(one, "visible"), number_of(one, "removed"),
               number_of(one, "unnamed_bytes"));
    }
    printf("%-12s store: %lld outputs hold or cite them, %lld named and not redacted\n", text_of(store, "verdict"),
           number_of(store, "outputs"), number_of(store, "named_and_unredacted"));
    printf("%-12s exports before: %lld\n", text_of(exports, "verdict"), number_of(exports, "count"));
    json_array_foreach(json_object_get(exports, "data"), i, one)
    {
        printf("             %s by %s, %s\n", text_of(one, "time"), text_of(one, "who"), text_of(one, "by"));
    }
    json_array_foreach(json_object_get(report, "not_reached"), i, one)
    {
        printf("%-12s %s\n", text_of(one, "verdict"), text_of(one, "what"));
    }
    printf("%s: %s\n", text_of(report, "id"), text_of(report, "verdict"));
}

static ft_code make_report(const char *path, const char *id, json_t **report, ft_status *st)
{
    cli_store s;
    json_t *certificate = NULL;
    ft_code rc = cli_store_open(&s, path, st);
    if (!rc && !s.federation)
        rc = ft_fail(st, FT_ERR_ARG, "%s: a store alone has no indexes; name the federation", path);
    if (!rc)
        rc = ft_store_log(s.store, "local", "erasure.verify", json_pack("{s:s}", "takedown", id), st);
    if (!rc)
        rc = ft_erasure_find(s.store, id, &certificate, st);
    if (!rc)
        rc = ft_erasure_check(s.federation, s.store, certificate, report, st);
    json_decref(certificate);
    cli_store_close(&s);
    return rc;
}

int cli_audit_left(int argc, char **argv)
{
    static const cli_option options[] = {{"json", 0, 0}, {"help", 'h', 0}, {0}};
    static const char verb[] = "audit left";
    cli_args a = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    const char *name, *value, *path = NULL, *id = NULL;
    ft_status st = {0};
    json_t *report = NULL;
    int json = 0, more;
    while ((more = cli_next(&a, &name, &value)) > 0) {
        if (!name && path && id)
            return cli_usage(verb, "takes one FEDERATION and one TAKEDOWN");
        if (!name && path)
            id = value;
        else if (!name)
            path = value;
        else if (!strcmp(name, "json"))
            json = 1;
        else {
            fputs(left_help, stdout);
            return CLI_OK;
        }
    }
    if (more < 0)
        return CLI_USAGE;
    if (!id)
        return cli_usage(verb, "needs a FEDERATION and the id of a TAKEDOWN");
    if (make_report(path, id, &report, &st))
        return cli_fail(&st);
    const int clean = json_is_true(json_object_get(report, "clean"));
    int code = CLI_OK;
    if (json) {
        code = cli_print_json(report);
    } else {
        print_left(report);
        json_decref(report);
    }
    return code ? code : clean ? CLI_OK : CLI_CHECK_FAILED;
}
