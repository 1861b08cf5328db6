/* Text under work: layers and pieces (see tokenizer_internal.h). */
#include "base/ft_utf8.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

void ft_work_release(ft_work *w)
{
    for (int i = 0; i < 2; i++) {
        ft_buffer_release(&w->layers[i].owned);
        free(w->layers[i].begin);
        free(w->layers[i].end);
    }
    free(w->pieces.items);
    free(w->next.items);
    ft_matcher_free(w->matcher);
    free(w->changes.items);
    free(w->chars);
    free(w->spans);
    free(w->merged);
    *w = (ft_work){0};
}

ft_code ft_pieces_push(ft_pieces *list, ft_piece piece, ft_status *st)
{
    if (list->count == list->capacity) {
        ft_code rc = ft_array_grow((void **)&list->items, &list->capacity, list->count + 1, sizeof(*list->items), st);
        if (rc)
            return rc;
    }
    list->items[list->count++] = piece;
    return FT_OK;
}

/* A layer that owns nothing yet has its arrays, but they do not count: `owned` says so. */
int ft_layer_is_original(const ft_layer *l)
{
    return l->text != l->owned.data || !l->text;
}

ft_code ft_work_start(ft_work *w, const char *text, size_t n, ft_status *st)
{
    if (n > INT32_MAX)
        return ft_fail(st, FT_ERR_LIMIT, "a text of %zu bytes is too long: at most 2147483647", n);
    w->now = 0;
    ft_layer *l = ft_work_layer(w);
    l->text = n ? text : "";
    l->size = n;
    l->gaps = 0;
    w->pieces.count = 0;
    return n ? ft_pieces_push(&w->pieces, (ft_piece){0, (uint32_t)n, 0, (uint32_t)n, FT_NO_TOKEN}, st) : FT_OK;
}

void ft_layer_origin(const ft_layer *l, size_t at, uint32_t *begin, uint32_t *end)
{
    if (!ft_layer_is_original(l)) {
        *begin = l->begin[at];
        *end = l->end[at];
        return;
    }
    size_t first = at, last = at + 1;
    while (first > 0 && ((unsigned char)l->text[first] & 0xC0) == 0x80)
        first--;
    while (last < l->size && ((unsigned char)l->text[last] & 0xC0) == 0x80)
        last++;
    *begin = (uint32_t)first;
    *end = (uint32_t)last;
}

ft_span32 ft_piece_origin(const ft_layer *l, const ft_piece *p, uint32_t start, uint32_t end)
{
    ft_span32 span = {0};
    uint32_t unused;
    if (start >= end) /* the reference's answer: the same numbers, within the piece */
        return (ft_span32){.start = p->from + (start - p->start), .end = p->from + (end - p->start)};
    ft_layer_origin(l, start, &span.start, &unused);
    ft_layer_origin(l, end - 1, &unused, &span.end);
    return span;
}

ft_piece ft_piece_slice(const ft_layer *l, const ft_piece *p, uint32_t start, uint32_t end)
{
    const ft_span32 span = ft_piece_origin(l, p, start, end);
    return (ft_piece){start, end, span.start, span.end, FT_NO_TOKEN};
}

static ft_layer *other_layer(ft_work *w)
{
    return &w->layers[!w->now];
}

ft_code ft_layer_begin(ft_work *w, ft_status *st)
{
    ft_layer *l = other_layer(w);
    ft_buffer_reset(&l->owned);
    l->text = NULL;
    l->size = 0;
    l->gaps = ft_work_layer(w)->gaps;
    w->next.count = 0;
    return ft_buffer_reserve(&l->owned, ft_work_layer(w)->size + 16, st);
}

/* Room for origins of every byte of the layer being written. */
static ft_code grow_origins(ft_layer *l, size_t more, ft_status *st)
{
    if (l->owned.size + more > INT32_MAX)
        return ft_fail(st, FT_ERR_LIMIT, "normalization makes the text longer than 2147483647 bytes");
    ft_code rc = ft_array_grow((void **)&l->begin, &l->begin_capacity, l->owned.size + more, sizeof(*l->begin), st);
    if (!rc)
        rc = ft_array_grow((void **)&l->end, &l->end_capacity, l->owned.size + more, sizeof(*l->end), st);
    return rc;
}

ft_code ft_layer_put(ft_work *w, uint32_t c, uint32_t begin, uint32_t end, ft_status *st)
{
    ft_layer *l = other_layer(w);
    const size_t before = l->owned.size;
    ft_code rc = grow_origins(l, 4, st);
    if (!rc)
        rc = ft_utf8_append(&l->owned, c, st);
    if (rc)
        return rc;
    for (size_t i = before; i < l->owned.size; i++) {
        l->begin[i] = begin;
        l->end[i] = end;
    }
    l->gaps |= begin == end;
    return FT_OK;
}

ft_code ft_layer_copy(ft_work *w, uint32_t start, uint32_t end, ft_status *st)
{
    const ft_layer *from = ft_work_layer(w);
    ft_layer *l = other_layer(w);
    const size_t n = end - start, before = l->owned.size;
    ft_code rc = grow_origins(l, n, st);
    if (!rc)
        rc = ft_buffer_append(&l->owned, from->text + start, n, st);
    if (rc)
        return rc;
    if (!n)
        return FT_OK;
    if (!ft_layer_is_original(from)) {
        memcpy(l->begin + before, from->begin + start, n * sizeof(*l->begin));
        memcpy(l->end + before, from->end + start, n * sizeof(*l->end));
        return FT_OK;
    }
    for (size_t i = start; i < end;) {
        unsigned length;
        ft_utf8_decode((const unsigned char *)from->text + i, &length);
        for (size_t k = i; k < i + length; k++) {
            l->begin[before + k - start] = (uint32_t)i;
            l->end[before + k - start] = (uint32_t)(i + length);
        }
        i += length;
    }
    return FT_OK;
}

ft_code ft_layer_close_piece(ft_work *w, const ft_piece *old, size_t start, ft_status *st)
{
    const size_t end = other_layer(w)->owned.size;
    if (start == end && old->token == FT_NO_TOKEN)
        return FT_OK;
    ft_piece piece = *old;
    piece.start = (uint32_t)start;
    piece.end = (uint32_t)end;
    return ft_pieces_push(&w->next, piece, st);
}

void ft_layer_swap(ft_work *w)
{
    ft_layer *l = other_layer(w);
    l->text = l->owned.data;
    l->size = l->owned.size;
    w->now = !w->now;
    const ft_pieces pieces = w->pieces;
    w->pieces = w->next;
    w->next = pieces;
}

/* The part of a piece that the reference's `transform` replaces: all of it, unless
 * bytes at its front stand for nothing in the original. */
static ft_span32 transformed_part(const ft_layer *l, const ft_piece *p)
{
    if (!l->gaps)
        return (ft_span32){.start = p->start, .end = p->end};
    if (p->from == p->to)
        return (ft_span32){.start = p->start, .end = p->start};
    uint32_t first = p->start;
    while (first < p->end && l->begin[first] == l->end[first])
        first++;
    return (ft_span32){.start = first, .end = p->end};
}

ft_code ft_layer_transform(ft_work *w, const ft_piece *p, size_t initial_removed, ft_status *st)
{
    const ft_layer *l = ft_work_layer(w);
    const ft_span32 part = transformed_part(l, p);
    const unsigned char *text = (const unsigned char *)l->text;
    ft_code rc = ft_layer_copy(w, p->start, part.start, st);
    unsigned length;
    uint32_t at = part.start; /* the character that the next change replaces */
    for (size_t i = 0; i < initial_removed && at < part.end; i++, at += length)
        ft_utf8_decode(text + at, &length);
    for (size_t i = 0; !rc && i < w->changes.count; i++) {
        const ft_change change = w->changes.items[i];
        uint32_t begin = p->from, end = p->from;
        if (change.change > 0) {
            if (at > p->start)
                ft_layer_origin(l, at - 1, &begin, &end);
        } else if (at >= p->end) {
            return ft_fail(st, FT_ERR_UNSUPPORTED,
                           "the tokenizer's Replace matches nothing at the start of a text: not implemented");
        } else {
            ft_layer_origin(l, at, &begin, &end);
            for (int32_t k = 0; k <= -change.change && at < part.end; k++, at += length)
                ft_utf8_decode(text + at, &length);
        }
        rc = ft_layer_put(w, change.code_point, begin, end, st);
    }
    return rc ? rc : ft_layer_copy(w, part.end, p->end, st);
}

static ft_code add_change(ft_work *w, uint32_t c, int32_t change, ft_status *st)
{
    ft_changes *list = &w->changes;
    ft_code rc = ft_array_grow((void **)&list->items, &list->capacity, list->count + 1, sizeof(*list->items), st);
    if (!rc)
        list->items[list->count++] = (ft_change){c, change};
    return rc;
}

ft_code ft_work_to_letters(ft_work *w, ft_status *st)
{
    ft_code rc = ft_layer_begin(w, st);
    for (size_t i = 0; !rc && i < w->pieces.count; i++) {
        const ft_piece *p = &w->pieces.items[i];
        const size_t start = other_layer(w)->owned.size;
        const unsigned char *text = (const unsigned char *)ft_work_layer(w)->text;
        if (p->token != FT_NO_TOKEN) {
            rc = ft_layer_copy(w, p->start, p->end, st);
        } else {
            w->changes.count = 0;
            for (uint32_t at = p->start; !rc && at < p->end; at++)
                rc = add_change(w, ft_byte_letter(text[at]), (text[at] & 0xC0) == 0x80, st);
            if (!rc)
                rc = ft_layer_transform(w, p, 0, st);
        }
        if (!rc)
            rc = ft_layer_close_piece(w, p, start, st);
    }
    if (!rc)
        ft_layer_swap(w);
    return rc;
}

ft_code ft_work_prepend(ft_work *w, const char *text, size_t n, int missing, ft_status *st)
{
    ft_code rc = ft_layer_begin(w, st);
    for (size_t i = 0; !rc && i < w->pieces.count; i++) {
        const ft_piece *p = &w->pieces.items[i];
        const ft_layer *l = ft_work_layer(w);
        const size_t start = other_layer(w)->owned.size;
        const int has = p->end - p->start >= n && !memcmp(l->text + p->start, text, n);
        uint32_t copy_from = p->start;
        if (p->token == FT_NO_TOKEN && !(missing && has)) {
            uint32_t begin, end;
            ft_layer_origin(l, p->start, &begin, &end);
            for (size_t at = 0; !rc && at < n;) {
                unsigned length;
                const uint32_t c = ft_utf8_decode((const unsigned char *)text + at, &length);
                rc = ft_layer_put(w, c, begin, end, st);
                at += length;
            }
            if (!rc && !n) { /* the reference then takes the first character for a new one */
                unsigned length;
                const uint32_t c = ft_utf8_decode((const unsigned char *)l->text + p->start, &length);
                rc = ft_layer_put(w, c, p->from, p->from, st);
                copy_from += length;
            }
        }
        if (!rc)
            rc = ft_layer_copy(w, copy_from, p->end, st);
        if (!rc)
            rc = ft_layer_close_piece(w, p, start, st);
    }
    if (!rc)
        ft_layer_swap(w);
    return rc;
}
