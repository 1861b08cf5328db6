/* Pre-tokenizers: cutting pieces at matches. */
#include "text/tokenizer_internal.h"

#include <string.h>

static ft_code push_span(ft_work *w, size_t *count, uint32_t start, uint32_t end, int match, ft_status *st)
{
    if (*count == w->spans_capacity) {
        ft_code rc = ft_array_grow((void **)&w->spans, &w->spans_capacity, *count + 1, sizeof(*w->spans), st);
        if (rc)
            return rc;
    }
    w->spans[(*count)++] = (ft_span32){start, end, match};
    return FT_OK;
}

/* All of the piece, in matches and what lies between. */
static ft_code find_spans(ft_work *w, const ft_splitter *s, const ft_piece *p, size_t *count, ft_status *st)
{
    const char *text = ft_work_layer(w)->text + p->start;
    uint32_t done = p->start;
    size_t start, end;
    *count = 0;
    ft_code rc = ft_matcher_start(w->matcher, s->regex, text, p->end - p->start, st);
    while (!rc) {
        rc = ft_matcher_next(w->matcher, &start, &end, st);
        if (rc)
            break;
        const uint32_t from = p->start + (uint32_t)start, to = p->start + (uint32_t)end;
        if (done != from)
            rc = push_span(w, count, done, from, s->invert, st);
        if (!rc)
            rc = push_span(w, count, from, to, !s->invert, st);
        done = to;
    }
    if (rc != FT_ERR_NOT_FOUND)
        return rc;
    return done != p->end ? push_span(w, count, done, p->end, s->invert, st) : FT_OK;
}

/* Joins spans as the behaviour says, in place; returns how many are left. */
static size_t join_spans(ft_span32 *spans, size_t count, ft_behavior behavior)
{
    size_t used = 0;
    int previous = 0;
    if (behavior == FT_MERGED_WITH_NEXT) { /* from the back */
        used = count;
        for (size_t i = count; i-- > 0;) {
            const ft_span32 s = spans[i];
            if (s.match && !previous && used < count)
                spans[used].start = s.start;
            else
                spans[--used] = s;
            previous = s.match;
        }
        memmove(spans, spans + used, (count - used) * sizeof(*spans));
        return count - used;
    }
    for (size_t i = 0; i < count; i++) {
        const ft_span32 s = spans[i];
        const int join = behavior == FT_CONTIGUOUS ? s.match == previous : s.match && !previous;
        if (join && used)
            spans[used - 1].end = s.end;
        else
            spans[used++] = s;
        previous = s.match;
    }
    return used;
}

static ft_code split_piece(ft_work *w, const ft_splitter *s, const ft_piece *p, ft_status *st)
{
    size_t count;
    ft_code rc = find_spans(w, s, p, &count, st);
    if (!rc && s->behavior > FT_ISOLATED)
        count = join_spans(w->spans, count, s->behavior);
    const ft_layer *l = ft_work_layer(w);
    for (size_t i = 0; !rc && i < count; i++) {
        const ft_span32 span = w->spans[i];
        if (span.start == span.end || (span.match && s->behavior == FT_REMOVED))
            continue;
        rc = ft_pieces_push(&w->next, ft_piece_slice(l, p, span.start, span.end), st);
    }
    return rc;
}

static ft_code split_pieces(ft_work *w, const ft_splitter *s, ft_status *st)
{
    ft_code rc = FT_OK;
    w->next.count = 0;
    for (size_t i = 0; !rc && i < w->pieces.count; i++) {
        const ft_piece p = w->pieces.items[i];
        rc = p.token == FT_NO_TOKEN ? split_piece(w, s, &p, st) : ft_pieces_push(&w->next, p, st);
    }
    const ft_pieces pieces = w->pieces;
    w->pieces = w->next;
    w->next = pieces;
    return rc;
}

ft_code ft_work_split(ft_work *w, int *bytes, ft_status *st)
{
    ft_code rc = FT_OK;
    *bytes = 0;
    for (size_t i = 0; !rc && i < w->t->splitters_count; i++) {
        const ft_splitter *s = &w->t->splitters[i];
        if (s->add_prefix_space)
            rc = ft_work_prepend(w, " ", 1, 1, st);
        if (!rc && s->regex)
            rc = split_pieces(w, s, st);
        if (!rc && s->to_bytes) {
            *bytes = w->t->byte_level && !ft_work_layer(w)->gaps;
            if (!*bytes)
                rc = ft_work_to_letters(w, st);
        }
    }
    return rc;
}
