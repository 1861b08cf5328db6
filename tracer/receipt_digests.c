/* Digests of a model: read once, found by the identity of its files ever after. */
#include "tracer/ft_receipt.h"
#include "tracer/tracer_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ft_digest_text(const ft_digest *d, char out[FT_DIGEST_TEXT])
{
    static const char head[] = "sha256:";
    memcpy(out, head, sizeof(head) - 1);
    ft_digest_hex(d, out + sizeof(head) - 1);
}

static json_t *text_json(const ft_digest *d)
{
    char text[FT_DIGEST_TEXT];
    ft_digest_text(d, text);
    return json_string(text);
}

json_t *ft_model_digests_json(const ft_model_digests *d)
{
    int failed = 0;
    json_t *out = json_object(), *experts = json_array();
    put(out, "model", text_json(&d->model), &failed);
    put(out, "config", text_json(&d->config), &failed);
    for (size_t e = 0; e < d->expert_count; e++)
        failed |= json_array_append_new(experts, d->unread >> e & 1 ? json_null() : text_json(&d->experts[e])) != 0;
    put(out, "experts", experts, &failed);
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

static ft_code known(ft_store *s, const char *name, json_t **out, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = ft_store_note_get(s, name, &text, st);
    if (!rc)
        rc = ft_json_parse(out, text.data, text.size, name, st);
    ft_buffer_release(&text);
    return rc;
}

static ft_code read_now(ft_store *s, const char *name, const ft_model *m, uint64_t without, const ft_progress *progress,
                        json_t **out, ft_status *st)
{
    ft_model_digests digests;
    ft_buffer text = {0};
    ft_code rc = ft_model_digests_read(m, without, progress, &digests, st);
    if (rc)
        return rc;
    *out = ft_model_digests_json(&digests);
    rc = *out ? ft_json_write(*out, &text, st) : ft_fail(st, FT_ERR_MEM, "digests of the model: out of memory");
    if (!rc)
        rc = ft_store_note_put(s, name, text.data, text.size, st);
    ft_buffer_release(&text);
    return rc;
}

static const char mark[] = "-without-";

void ft_model_identity_text(const ft_model *m, uint64_t opted_out, char out[FT_MODEL_IDENTITY])
{
    const ft_digest d = ft_model_identity(m);
    ft_digest_text(&d, out);
    if (opted_out)
        snprintf(out + FT_DIGEST_TEXT - 1, FT_MODEL_IDENTITY - FT_DIGEST_TEXT + 1, "%s%" PRIx64, mark, opted_out);
}

/* Whether `identity` names these files; *without: the experts that it leaves out. */
static int names_files(const char *identity, const ft_model *m, uint64_t *without)
{
    char here[FT_MODEL_IDENTITY];
    if (!m)
        return 0;
    ft_model_identity_text(m, 0, here);
    const size_t n = strlen(here), marked = sizeof(mark) - 1;
    if (strncmp(identity, here, n) != 0 || (identity[n] && strncmp(identity + n, mark, marked) != 0))
        return 0;
    *without = identity[n] ? strtoull(identity + n + marked, NULL, 16) : 0;
    return 1;
}

ft_code ft_receipt_digests(ft_store *s, const char *identity, const ft_model *m, uint64_t opted_out,
                           const ft_progress *progress, json_t **out, ft_status *st)
{
    char name[FT_MODEL_IDENTITY + 10], here[FT_MODEL_IDENTITY] = "";
    uint64_t without = 0;
    *out = NULL;
    if (m && !identity)
        ft_model_identity_text(m, opted_out, here);
    if (!identity)
        identity = here;
    if (!identity[0] || strlen(identity) >= FT_MODEL_IDENTITY)
        return ft_fail(st, FT_ERR_NOT_FOUND, "no model is named whose digests could be found");
    snprintf(name, sizeof(name), "digests %s", identity);
    ft_code rc = known(s, name, out, st);
    if (rc != FT_ERR_NOT_FOUND)
        return rc;
    if (!names_files(identity, m, &without))
        return ft_fail(st, FT_ERR_NOT_FOUND,
                       "the model that wrote this was replaced before its digests were read; open its files to make "
                       "them known");
    if (opted_out & ~without)
        return ft_fail(st, FT_ERR_NOT_FOUND,
                       "expert %d has opted out since this was written, before the model's digests were read: its "
                       "weights are not read any more",
                       __builtin_ctzll(opted_out & ~without));
    rc = read_now(s, name, m, without, progress, out, st);
    if (rc) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}
