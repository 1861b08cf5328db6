/* What the verbs of `flextrace receipt` share. argv[0] is the verb. */
#ifndef FT_CLI_RECEIPT_INTERNAL_H
#define FT_CLI_RECEIPT_INTERNAL_H
#include "api/cli/cli.h"
#include "tracer/ft_keyring.h"
#include "tracer/ft_receipt.h"
#include "tracer/ft_receipt_log.h"

cli_command cli_receipt_verify, cli_receipt_replay, cli_receipt_make, cli_receipt_salt, cli_receipt_log,
    cli_receipt_entries, cli_receipt_proof, cli_receipt_consistency;

/* Which keys signed: a set of bits of the ring. FT_OK with an objection in *why ("" : none) where fewer
 * than `needed` of them did, or one of those may not vouch for its time. */
FT_CHECKED ft_code receipt_check_signatures(const ft_envelope *e, const ft_keyring *ring, unsigned needed,
                                            uint64_t *signed_by, char why[200], ft_status *st);
/* The ring's keys, as many as it has. */
void receipt_ring_keys(const ft_keyring *ring, ft_public_key keys[FT_MAX_KEYS]);
/* A log's head bears no time, so a key that was revoked at any time vouches for none: *problem says so where no other
 * key signed it, and stays as it is else. */
void receipt_check_head(const ft_keyring *ring, uint64_t signed_by, char problem[320]);
/* The head of a log out of a file, as a note or as the JSON that it stands in; *problem: it was not signed by a key of
 * the ring. */
FT_CHECKED ft_code receipt_read_head(const ft_keyring *ring, const char *path, ft_log_head *out, char problem[320],
                                     ft_status *st);
/* Reads a file that holds one envelope. */
FT_CHECKED ft_code receipt_read_file(ft_envelope *out, const char *path, ft_status *st);
/* "flextrace: PATH: WHAT", exit code 1. */
int receipt_says_no(const char *path, const char *what);
#endif
