/* The tokenizer's handle, and encoding. */
#include "text/ft_tokenizer.h"

#include "base/ft_utf8.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

struct ft_encoder {
    const ft_tokenizer *t;
    ft_work work;
    ft_bpe bpe;
    ft_buffer repaired;  /* the text with its invalid bytes replaced */
    uint32_t *positions; /* [repaired + 1] where each byte of it stood */
    size_t positions_capacity;
};

void ft_tokenizer_close(ft_tokenizer *t)
{
    if (!t)
        return;
    ft_steps_release(t);
    free(t->path);
    ft_buffer_release(&t->strings);
    ft_buffer_release(&t->bytes);
    free(t->spelling);
    free(t->decoded);
    free(t->flags);
    free(t->by_spelling);
    free(t->by_bytes);
    free(t->merges);
    free(t->merges_seen);
    free(t->added);
    free(t->by_content);
    free(t->raw.nodes);
    free(t->normalized.nodes);
    ft_classes_free(t->word);
    ft_classes_free(t->space);
    free(t);
}

uint32_t ft_tokenizer_vocab_size(const ft_tokenizer *t)
{
    return t->size;
}

uint32_t ft_tokenizer_end_of_text(const ft_tokenizer *t)
{
    return t->end_of_text;
}

ft_digest ft_tokenizer_digest(const ft_tokenizer *t)
{
    return t->digest;
}

const char *ft_tokenizer_path(const ft_tokenizer *t)
{
    return t->path;
}

const char *ft_tokenizer_token_bytes(const ft_tokenizer *t, uint32_t id, size_t *n, int *is_special)
{
    const int known = id < t->size && t->flags[id] & FT_TOKEN_USED;
    *n = known ? t->decoded[id].size : 0;
    if (is_special)
        *is_special = known && t->flags[id] & FT_TOKEN_SPECIAL;
    return known && t->bytes.data ? t->bytes.data + t->decoded[id].at : "";
}

uint32_t ft_tokenizer_token_id(const ft_tokenizer *t, const char *content)
{
    const ft_added_token *added = ft_added_find(t, content, strlen(content));
    return added ? added->id : ft_vocabulary_find(t, content, strlen(content));
}

void ft_encoding_release(ft_encoding *e)
{
    free(e->ids);
    free(e->starts);
    free(e->ends);
    *e = (ft_encoding){0};
}

ft_code ft_encoder_new(ft_encoder **out, const ft_tokenizer *t, ft_status *st)
{
    *out = NULL;
    ft_encoder *e = calloc(1, sizeof(*e));
    if (!e)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    e->t = t;
    e->work.t = t;
    ft_code rc = ft_matcher_new(&e->work.matcher, st);
    if (!rc)
        rc = ft_bpe_init(&e->bpe, t, st);
    if (rc) {
        ft_encoder_free(e);
        return rc;
    }
    *out = e;
    return FT_OK;
}

void ft_encoder_free(ft_encoder *e)
{
    if (!e)
        return;
    ft_work_release(&e->work);
    ft_bpe_release(&e->bpe);
    ft_buffer_release(&e->repaired);
    free(e->positions);
    free(e);
}

ft_code ft_encoding_grow(ft_encoding *out, size_t more, int offsets, ft_status *st)
{
    const size_t needed = out->count + more;
    if (needed <= out->capacity && (!offsets || needed <= out->offsets_capacity))
        return FT_OK;
    size_t starts = out->offsets_capacity, ends = starts;
    ft_code rc = ft_array_grow((void **)&out->ids, &out->capacity, needed, sizeof(*out->ids), st);
    if (rc || !offsets)
        return rc;
    rc = ft_array_grow((void **)&out->starts, &starts, needed, sizeof(*out->starts), st);
    if (!rc)
        rc = ft_array_grow((void **)&out->ends, &ends, needed, sizeof(*out->ends), st);
    if (!rc)
        out->offsets_capacity = ends;
    return rc;
}

static ft_code put_token(ft_encoding *out, uint32_t id, ft_span32 span, int offsets, ft_status *st)
{
    ft_code rc = ft_encoding_grow(out, 1, offsets, st);
    if (rc)
        return rc;
    out->ids[out->count] = id;
    if (offsets) {
        out->starts[out->count] = span.start;
        out->ends[out->count] = span.end;
    }
    out->count++;
    return FT_OK;
}

/* A piece that is an added token, or one that the splitters have left. */
static ft_code encode_piece(ft_encoder *e, const ft_piece *p, int bytes, int offsets, ft_encoding *out, ft_status *st)
{
    const ft_layer *l = ft_work_layer(&e->work);
    if (p->token != FT_NO_TOKEN)
        return put_token(out, p->token, ft_piece_origin(l, p, p->start, p->end), offsets, st);
    ft_code rc = ft_bpe_piece(&e->bpe, l->text + p->start, p->end - p->start, bytes, st);
    uint32_t at = p->start;
    for (size_t i = 0; !rc && i < e->bpe.count; i++) {
        const ft_span32 span = offsets ? ft_piece_origin(l, p, at, at + e->bpe.sizes[i]) : (ft_span32){0};
        rc = put_token(out, e->bpe.ids[i], span, offsets, st);
        at += e->bpe.sizes[i];
    }
    return rc;
}

/* Spaces at one end of a token's spelling, as the post-processor counts them. */
static size_t count_spaces(const ft_tokenizer *t, const char *text, size_t n, int from_the_end)
{
    size_t count = 0;
    for (size_t at = from_the_end ? n : 0; from_the_end ? at > 0 : at < n; count++) {
        unsigned length = 0;
        if (from_the_end)
            do
                at--;
            while (((unsigned char)text[at] & 0xC0) == 0x80);
        const uint32_t c = ft_utf8_decode((const unsigned char *)text + at, &length);
        if (c != ft_byte_letter(' ') && !ft_class_of(t->space, c))
            break;
        at += from_the_end ? 0 : length;
    }
    return count;
}

/* Takes spaces off both ends of a token's range, character by character. */
static void trim_token(const char *text, size_t leading, size_t trailing, int first, int prefix, size_t *start,
                       size_t *end)
{
    if (leading == 1 && first && prefix)
        leading = 0;
    for (; leading > 0 && *start < *end; leading--)
        do
            ++*start;
        while (*start < *end && ((unsigned char)text[*start] & 0xC0) == 0x80);
    for (; trailing > 0 && *end > *start; trailing--)
        do
            --*end;
        while (*end > *start && ((unsigned char)text[*end] & 0xC0) == 0x80);
}

/* What post-processors with trim_offsets do. An added token counts by the text it took. */
static void trim_offsets(const ft_encoder *e, const char *text, const ft_pieces *added, ft_encoding *out)
{
    const ft_tokenizer *t = e->t;
    const ft_layer *l = &e->work.layers[e->work.now];
    for (size_t k = 0; k < t->trims_count; k++)
        for (size_t i = 0, next = 0; i < out->count; i++) {
            const ft_view32 v = t->spelling[out->ids[i]];
            const char *spelling = t->strings.data + v.at;
            size_t n = v.size;
            if (next < added->count && added->items[next].token == i) {
                spelling = l->text + added->items[next].start;
                n = added->items[next].end - added->items[next].start;
                next++;
            }
            trim_token(text, count_spaces(t, spelling, n, 0), count_spaces(t, spelling, n, 1),
                       i == 0 || out->starts[i] == 0, t->trims[k], &out->starts[i], &out->ends[i]);
        }
}

static ft_code encode_valid(ft_encoder *e, const char *text, size_t n, int offsets, ft_encoding *out, ft_status *st)
{
    ft_work *w = &e->work;
    const int trims = offsets && e->t->trims_count;
    ft_code rc = ft_work_start(w, text, n, st);
    if (!rc)
        rc = ft_work_split_added(w, &e->t->raw, st);
    if (!rc)
        rc = ft_work_normalize(w, st);
    if (!rc)
        rc = ft_work_split_added(w, &e->t->normalized, st);
    const int cut = e->t->cutter && e->t->byte_level && !ft_work_layer(w)->gaps;
    int bytes = cut;
    if (!rc && !cut)
        rc = ft_work_split(w, &bytes, st);
    if (rc)
        return rc;
    w->next.count = 0;
    for (size_t i = 0; !rc && i < w->pieces.count; i++) {
        ft_piece p = w->pieces.items[i];
        if (p.token != FT_NO_TOKEN && trims) {
            ft_piece mark = p; /* which tokens are added ones: their number in the encoding */
            mark.token = (uint32_t)out->count;
            rc = ft_pieces_push(&w->next, mark, st);
        }
        if (!rc && p.token == FT_NO_TOKEN && cut)
            rc = ft_bpe_encode(&e->bpe, ft_work_layer(w), p.start, p.end, offsets, out, st);
        else if (!rc)
            rc = encode_piece(e, &p, bytes, offsets, out, st);
    }
    if (!rc && trims)
        trim_offsets(e, text, &w->next, out);
    return rc;
}

/* Repairs the text and notes for each byte of the result where it stood. */
static ft_code repair(ft_encoder *e, const char *text, size_t n, ft_status *st)
{
    ft_buffer_reset(&e->repaired);
    ft_code rc = ft_utf8_repair(text, n, &e->repaired, NULL, st);
    if (!rc)
        rc = ft_array_grow((void **)&e->positions, &e->positions_capacity, e->repaired.size + 1, sizeof(*e->positions),
                           st);
    if (rc)
        return rc;
    size_t used = 0;
    for (size_t at = 0; at < n;) {
        const ft_utf8_step s = ft_utf8_next(text + at, n - at);
        for (unsigned i = 0; i < (s.valid ? s.length : 3); i++)
            e->positions[used++] = (uint32_t)(at + (s.valid ? i : 0));
        at += s.length;
    }
    e->positions[used] = (uint32_t)n;
    return FT_OK;
}

static int is_valid_utf8(const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        uint64_t word;
        if (n - at >= 8 && (memcpy(&word, text + at, 8), !(word & UINT64_C(0x8080808080808080)))) {
            at += 8;
            continue;
        }
        const ft_utf8_step s = ft_utf8_next(text + at, n - at);
        if (!s.valid)
            return 0;
        at += s.length;
    }
    return 1;
}

static ft_code encode(ft_encoder *e, const char *text, size_t n, int offsets, ft_encoding *out, ft_status *st)
{
    out->count = 0;
    if (n > INT32_MAX)
        return ft_fail(st, FT_ERR_LIMIT, "a text of %zu bytes is too long: at most 2147483647", n);
    if (is_valid_utf8(text, n))
        return encode_valid(e, text, n, offsets, out, st);
    ft_code rc = repair(e, text, n, st);
    if (!rc)
        rc = encode_valid(e, e->repaired.data, e->repaired.size, offsets, out, st);
    for (size_t i = 0; !rc && offsets && i < out->count; i++) {
        out->starts[i] = e->positions[out->starts[i]];
        out->ends[i] = e->positions[out->ends[i]];
    }
    return rc;
}

ft_code ft_encoder_encode(ft_encoder *e, const char *text, size_t n, ft_encoding *out, ft_status *st)
{
    return encode(e, text, n, 1, out, st);
}

ft_code ft_encoder_encode_ids(ft_encoder *e, const char *text, size_t n, ft_encoding *out, ft_status *st)
{
    return encode(e, text, n, 0, out, st);
}
