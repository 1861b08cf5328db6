/* An envelope of any bytes is read or refused in one line; what is read verifies under no key that did not
 * sign it, and its payload is a statement or refused in one line. The first byte: even, the rest is an envelope; odd,
 * it is the payload of one. */
#include "tracer/ft_receipt.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_refusal(ft_code rc, const ft_status *st)
{
    if ((rc != FT_ERR_FORMAT && rc != FT_ERR_MEM) || !strstr(st->msg, "here") || strchr(st->msg, '\n'))
        abort();
}

static void read_statement(const ft_envelope *e)
{
    ft_receipt r;
    ft_status st = {0};
    const ft_code rc = ft_receipt_read(&r, e, "here", &st);
    if (rc)
        check_refusal(rc, &st);
    else if (!r.type || !r.predicate || (r.is_generation && r.output_count && !r.output))
        abort();
    ft_receipt_release(&r);
}

/* What we would write of it is read as the same, and written so again. */
static void write_again(const ft_envelope *e)
{
    ft_envelope f;
    ft_buffer text = {0}, twice = {0};
    if (ft_dsse_write(&text, e, NULL) == FT_OK) {
        if (ft_dsse_parse(&f, text.data, text.size, "here", NULL) == FT_OK &&
            (f.payload.size != e->payload.size || f.signature_count != e->signature_count ||
             ft_dsse_write(&twice, &f, NULL) != FT_OK || twice.size != text.size ||
             memcmp(twice.data, text.data, text.size) != 0))
            abort();
        ft_envelope_release(&f);
    }
    ft_buffer_release(&text);
    ft_buffer_release(&twice);
}

static void read_envelope(const char *text, size_t n)
{
    static const ft_public_key key = {{1, 2, 3}};
    ft_envelope e;
    ft_status st = {0};
    uint64_t by = 0;
    const ft_code rc = ft_dsse_parse(&e, text, n, "here", &st);
    if (rc) {
        check_refusal(rc, &st);
    } else {
        if (ft_dsse_verify(&e, &key, 1, &by, &st) != FT_OK || by)
            abort();
        read_statement(&e);
        write_again(&e);
    }
    ft_envelope_release(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    if (data[0] & 1) {
        ft_envelope e = {.type_bytes = sizeof(FT_RECEIPT_PAYLOAD_TYPE) - 1};
        strcpy(e.type, FT_RECEIPT_PAYLOAD_TYPE);
        if (ft_buffer_append(&e.payload, data + 1, n - 1, NULL) == FT_OK)
            read_statement(&e);
        ft_envelope_release(&e);
    } else {
        read_envelope((const char *)data + 1, n - 1);
    }
    return 0;
}
