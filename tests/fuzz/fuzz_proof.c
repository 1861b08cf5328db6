/* A signed note and a proof of the log of receipts of any bytes are read or refused in one line, and show nothing of a
 * log whose key did not sign them. The first byte: 0 a note, 1 a proof of inclusion, 2 of consistency. */
#include "tracer/ft_receipt_log.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const ft_public_key key = {{1, 2, 3}};

static void check_refusal(ft_code rc, const ft_status *st)
{
    if ((rc != FT_ERR_FORMAT && rc != FT_ERR_MEM) || strncmp(st->msg, "here", 4) != 0 || strchr(st->msg, '\n'))
        abort();
}

static void read_note(const char *text, size_t n)
{
    ft_log_head h;
    ft_status st = {0};
    uint64_t by;
    const ft_code rc = ft_log_head_open(&h, text, n, "here", &key, 1, &by, &st);
    if (rc)
        check_refusal(rc, &st);
    else if (by || !h.origin[0] || h.tree.size > UINT64_C(1) << 62)
        abort();
}

/* Nobody signed its head; with a head that the caller trusts, what it shows must at least be possible. */
static void read_proof(const json_t *proof, int inclusion)
{
    static const ft_digest leaf = {{4, 5, 6}};
    static const ft_log_head old = {.origin = "o", .tree = {3, {{7}}}}, new = {.origin = "o", .tree = {9, {{8}}}};
    ft_log_check c;
    ft_status st = {0};
    ft_code rc = inclusion ? ft_receipt_proof_check(proof, &leaf, &key, 1, "here", &c, &st)
                           : ft_receipt_consistency_check(proof, &old, NULL, &key, 1, "here", &c, &st);
    if (rc)
        check_refusal(rc, &st);
    else if (!c.problem[0])
        abort();
    rc = inclusion ? FT_ERR_FORMAT : ft_receipt_consistency_check(proof, &old, &new, &key, 1, "here", &c, &st);
    if (!rc && !c.problem[0]) /* a collision of SHA-256 */
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    json_t *proof = NULL;
    if (n == 0)
        return 0;
    const char *text = (const char *)data + 1;
    if (data[0] % 3 == 0)
        read_note(text, n - 1);
    else if (ft_json_parse(&proof, text, n - 1, "here", NULL) == FT_OK)
        read_proof(proof, data[0] % 3 == 1);
    json_decref(proof);
    return 0;
}
