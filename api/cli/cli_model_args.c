#include "api/cli/cli_model_args.h"

#include "api/cli/cli.h"
#include "base/ft_file.h"
#include "model/ft_model.h"

#include <stdlib.h>

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
