/* flextrace version */
#include "api/cli/cli.h"
#include "base/ft_cpu.h"

cli_command cli_version;

static const char help[] = "Usage: flextrace version\n\n"
                           "The version, the family of kernels that this processor runs (the bits of a model's\n"
                           "output hold within one), and the processors to use.\n"
                           "FLEXTRACE_ISA=scalar|avx2|avx512|avx512-dot|amx chooses a lower family.\n\n"
                           "Example:\n"
                           "  flextrace version\n";

int cli_version(int argc, char **argv)
{
    static const cli_option options[] = {{"help", 'h', 0}, {NULL, 0, 0}};
    cli_args a = {.subcommand = "version", .options = options, .argc = argc, .argv = argv};
    const char *name, *value;
    const int more = cli_next(&a, &name, &value);
    if (more < 0)
        return CLI_USAGE;
    if (more && !name)
        return cli_usage("version", "takes no operand such as '%.60s'", value);
    if (more) {
        fputs(help, stdout);
        return CLI_OK;
    }
    printf("flextrace %s, kernels %s, %u processors\n", FT_VERSION, ft_cpu_family_name(ft_cpu_isa()), ft_cpu_count());
    return CLI_OK;
}
