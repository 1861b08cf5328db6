/* flextrace version */
#include "api/cli/cli.h"
#include "base/ft_cpu.h"

cli_command cli_version;

int cli_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("flextrace %s, kernels %s, %u processors\n", FT_VERSION, ft_cpu_family_name(ft_cpu_isa()), ft_cpu_count());
    return CLI_OK;
}
