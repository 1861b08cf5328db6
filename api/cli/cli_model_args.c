#include "api/cli/cli_model_args.h"

#include "api/cli/cli.h"
#include "base/ft_file.h"
#include "model/ft_model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int cli_experts(const char *subcommand, const char *list, uint64_t *out)
{
    const char *p = list;
    do {
        char *end;
        const unsigned long e = strtoul(p, &end, 10);
        if (*p < '0' || *p > '9' || (*end && *end != ',')) {
            cli_usage(subcommand, "--without must be expert numbers such as 0,3, not '%.40s'", list);
            return 0;
        }
        if (e >= FT_MAX_EXPERTS) {
            cli_usage(subcommand, "--without: there is no expert %.*s; the first is 0",
                      (int)(end - p < 20 ? end - p : 20), p);
            return 0;
        }
        *out |= (uint64_t)1 << e;
        p = *end ? end + 1 : NULL;
    } while (p);
    return 1;
}

int cli_is_federation(const char *path)
{
    if (!ft_path_is_folder(path))
        return ft_path_exists(path);
    char *inside = ft_path_join(path, "federation.yaml");
    const int there = inside && ft_path_exists(inside);
    free(inside);
    return there;
}

int cli_is_engine_option(const char *name)
{
    return !strcmp(name, "compute") || !strcmp(name, "kv-type") || !strcmp(name, "kv-memory");
}

int cli_take_engine_option(const char *subcommand, const char *name, const char *value, cli_engine *e)
{
    ft_status st = {0};
    ft_engine_options o = {0};
    if (!strcmp(name, "kv-memory"))
        return cli_bytes(subcommand, name, value, &e->kv_bytes);
    const int compute = !strcmp(name, "compute");
    *(compute ? &e->compute : &e->kv_type) = value;
    if (ft_engine_options_override(&o, e->compute, e->kv_type, 0, &st) == FT_OK)
        return 1;
    cli_usage(subcommand, "--%s: %s", name, st.msg);
    return 0;
}

ft_engine_options cli_engine_options(const cli_engine *e, const ft_engine_options *from)
{
    ft_engine_options o = from ? *from : (ft_engine_options){0};
    const ft_code rc = ft_engine_options_override(&o, e->compute, e->kv_type, (size_t)e->kv_bytes, NULL);
    assert(rc == FT_OK); /* the names were looked at as they were taken */
    (void)rc;
    return o;
}

int cli_is_sampling_option(const char *name)
{
    return !strcmp(name, "temperature") || !strcmp(name, "top-k") || !strcmp(name, "top-p") || !strcmp(name, "min-p") ||
           !strcmp(name, "seed");
}

int cli_take_sampling_option(const char *subcommand, const char *name, const char *value, ft_sampling *s, int *seeded)
{
    long long n = 0;
    if (!strcmp(name, "temperature"))
        return cli_number(subcommand, name, value, 0, 100, &s->temperature);
    if (!strcmp(name, "top-p"))
        return cli_number(subcommand, name, value, 0, 1, &s->top_p);
    if (!strcmp(name, "min-p"))
        return cli_number(subcommand, name, value, 0, 1, &s->min_p);
    const int seed = !strcmp(name, "seed");
    if (!cli_integer(subcommand, name, value, 0, seed ? INT64_MAX : INT32_MAX, &n))
        return 0;
    if (seed) {
        s->seed = (uint64_t)n;
        *seeded = 1;
    } else {
        s->top_k = n;
    }
    return 1;
}
