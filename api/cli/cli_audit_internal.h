/* cli_audit_internal: what the verbs of `flextrace audit` share. */
#ifndef FT_CLI_AUDIT_INTERNAL_H
#define FT_CLI_AUDIT_INTERNAL_H
#include "api/cli/cli.h"
#include "tracer/ft_audit.h"
#include "tracer/ft_federation.h"

/* A store's folder, or a federation that names one. */
typedef struct cli_store {
    ft_federation *federation; /* NULL where the folder was given */
    ft_store *store;
} cli_store;
ft_code cli_store_open(cli_store *out, const char *path, ft_status *st);
void cli_store_close(cli_store *s);

/* --from, --to, --owner, --expert, --document, --key, --verdict, --min-tokens, --min-share, --without, --model,
 * --text. */
#define CLI_FILTER_OPTIONS                                                                                             \
    {"from", 0, 1}, {"to", 0, 1}, {"owner", 0, 1}, {"expert", 0, 1}, {"document", 0, 1}, {"key", 0, 1},                \
        {"verdict", 0, 1}, {"min-tokens", 0, 1}, {"min-share", 0, 1}, {"without", 0, 1},                               \
        {"model", 0, 1},                                                                                               \
    {                                                                                                                  \
        "text", 0, 1                                                                                                   \
    }
#define CLI_FILTER_HELP                                                                                                \
    "      --from T, --to T    RFC 3339 or a day; from included, to not\n"                                             \
    "      --owner NAME        a span stands in this owner's index …\n"                                              \
    "      --document ID       … in this document …\n"                                                             \
    "      --verdict V         … has this verdict …\n"                                                             \
    "      --min-tokens N      … and at least so many tokens\n"                                                      \
    "      --key NAME          who asked\n"                                                                            \
    "      --expert E          number of an expert that took part; --min-share S: with at least this share\n"          \
    "      --without NAME      owner that was opted out\n"                                                            \
    "      --model NAME        which model wrote it\n"                                                                \
    "      --text TEXT         the response holds these characters, 1 to 1,000 bytes; every trace that fits otherwise\n" \
    "                          is read for it\n"
/* 1: it was one of them; 0: it was not; -1: its value is wrong, which was printed. */
int cli_take_filter(const char *verb, ft_store_filter *f, const char *name, const char *value);
/* When all were taken: CLI_OK, or CLI_USAGE after printing what would be ignored otherwise. */
int cli_check_filter(const char *verb, const ft_store_filter *f);

cli_command cli_audit_export, cli_audit_import, cli_audit_routing, cli_audit_left, cli_audit_summary;

#endif
