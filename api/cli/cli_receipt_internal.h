/* What the verbs of `flextrace receipt` share. argv[0] is the verb. */
#ifndef FT_CLI_RECEIPT_INTERNAL_H
#define FT_CLI_RECEIPT_INTERNAL_H
#include "api/cli/cli.h"
#include "tracer/ft_keyring.h"
#include "tracer/ft_receipt.h"

cli_command cli_receipt_verify, cli_receipt_replay, cli_receipt_make, cli_receipt_salt;

/* Which keys signed: a set of bits of the ring. FT_OK with an objection in *why ("" : none) where fewer
 * than `needed` of them did, or one of those may not vouch for its time. */
FT_CHECKED ft_code receipt_check_signatures(const ft_envelope *e, const ft_keyring *ring, unsigned needed,
                                            uint64_t *signed_by, char why[200], ft_status *st);
/* Reads a file that holds one envelope. */
FT_CHECKED ft_code receipt_read_file(ft_envelope *out, const char *path, ft_status *st);
/* "flextrace: PATH: WHAT", exit code 1. */
int receipt_says_no(const char *path, const char *what);
#endif
