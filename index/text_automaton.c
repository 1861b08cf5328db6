/* The query as a machine that reads bytes. */
#include "base/ft_buffer.h"
#include "base/ft_utf8.h"
#include "index/text_match_internal.h"
#include "text/ft_case.h"

#include <stdlib.h>
#include <string.h>

void ft_text_automaton_release(ft_text_automaton *a)
{
    free(a->edges);
    free(a->first);
    *a = (ft_text_automaton){0};
}

/* --- One character --------------------------------------------------------------------- */

enum { FORM_BYTES = 4, NODES = 1 + FT_CASE_FORMS * (FORM_BYTES - 1), BEHIND = NODES };

/* A character, or a byte that belongs to none, and its forms. */
typedef struct letter {
    unsigned char form[FT_CASE_FORMS][FORM_BYTES];
    unsigned length[FT_CASE_FORMS];
    size_t forms;
    unsigned bytes; /* of the query */
} letter;

/* The forms as a tree of bytes: edges of node j, to another node or BEHIND the letter. */
typedef struct letter_tree {
    ft_text_edge edge[NODES][FT_CASE_FORMS];
    unsigned edges[NODES];
    unsigned nodes;
} letter_tree;

static void put_form(letter *l, const char *bytes, size_t n, int reversed)
{
    l->length[l->forms] = (unsigned)n;
    for (size_t i = 0; i < n; i++)
        l->form[l->forms][i] = (unsigned char)bytes[reversed ? n - 1 - i : i];
    l->forms++;
}

static ft_code read_letter(letter *l, const char *p, size_t n, int ignore_case, int reversed, ft_status *st)
{
    uint32_t forms[FT_CASE_FORMS];
    const ft_utf8_step s = ignore_case ? ft_utf8_next(p, n) : (ft_utf8_step){.length = 1};
    *l = (letter){.bytes = s.valid ? s.length : 1};
    if (!s.valid) {
        put_form(l, p, 1, reversed);
        return FT_OK;
    }
    const size_t count = ft_case_forms(s.code_point, forms);
    ft_code rc = FT_OK;
    for (size_t i = 0; i < count && !rc; i++) {
        ft_buffer bytes = {0};
        rc = ft_utf8_append(&bytes, forms[i], st);
        if (!rc)
            put_form(l, bytes.data, bytes.size, reversed);
        ft_buffer_release(&bytes);
    }
    return rc;
}

static void plant(letter_tree *t, const letter *l)
{
    *t = (letter_tree){.nodes = 1};
    for (size_t f = 0; f < l->forms; f++) {
        unsigned node = 0;
        for (unsigned i = 0; i < l->length[f]; i++) {
            unsigned e = 0;
            while (e < t->edges[node] && t->edge[node][e].byte != l->form[f][i])
                e++;
            if (e == t->edges[node]) {
                const uint32_t to = i + 1 == l->length[f] ? BEHIND : t->nodes++;
                t->edge[node][t->edges[node]++] = (ft_text_edge){.to = to, .byte = l->form[f][i]};
            }
            node = t->edge[node][e].to;
        }
    }
}

/* --- The chain ------------------------------------------------------------------------------ */

/* Node j of the letter becomes state `states + j`; what is behind it, the next letter's first. */
static ft_code append_letter(ft_text_automaton *a, const letter_tree *t, ft_status *st)
{
    const uint32_t base = a->states;
    /* `first` always has room for the state behind the query, and the end of its edges. */
    for (unsigned node = 0; node < t->nodes; node++) {
        const uint32_t used = a->first[a->states];
        ft_code rc =
            ft_array_grow((void **)&a->edges, &a->edges_capacity, (size_t)used + t->edges[node], sizeof(*a->edges), st);
        if (!rc)
            rc = ft_array_grow((void **)&a->first, &a->first_capacity, (size_t)a->states + 3, sizeof(*a->first), st);
        if (rc)
            return rc;
        for (unsigned e = 0; e < t->edges[node]; e++) {
            const ft_text_edge edge = t->edge[node][e];
            a->edges[used + e] =
                (ft_text_edge){.to = base + (edge.to == BEHIND ? t->nodes : edge.to), .byte = edge.byte};
        }
        a->first[++a->states] = used + t->edges[node];
    }
    return FT_OK;
}

/* Length of the letter that ends at p + n. */
static unsigned last_letter(const char *p, size_t n, int ignore_case)
{
    for (unsigned back = 2; ignore_case && back <= FORM_BYTES && back <= n; back++) {
        const ft_utf8_step s = ft_utf8_next(p + n - back, back);
        if (s.valid && s.length == back)
            return back;
    }
    return 1;
}

ft_code ft_text_automaton_compile(ft_text_automaton *out, const char *query, size_t n, int ignore_case, int reversed,
                                  ft_status *st)
{
    *out = (ft_text_automaton){0};
    ft_code rc = ft_array_grow((void **)&out->first, &out->first_capacity, 2, sizeof(*out->first), st);
    if (!rc)
        out->first[0] = 0;
    while (n && !rc) {
        letter l;
        letter_tree t;
        const size_t at = reversed ? n - last_letter(query, n, ignore_case) : 0;
        rc = read_letter(&l, query + at, n - at, ignore_case, reversed, st);
        if (rc)
            break;
        plant(&t, &l);
        rc = append_letter(out, &t, st);
        n -= l.bytes;
        query += reversed ? 0 : l.bytes;
    }
    if (rc) {
        ft_text_automaton_release(out);
        return rc;
    }
    out->first[out->states + 1] = out->first[out->states]; /* the state behind the query has no edge */
    out->states++;
    for (uint32_t e = out->first[0]; e < out->first[1]; e++)
        out->begins[out->edges[e].byte] = 1;
    return FT_OK;
}

uint32_t ft_text_automaton_run(const ft_text_automaton *a, uint32_t state, const unsigned char *p, uint32_t n,
                               uint32_t *used)
{
    const uint32_t end = ft_text_automaton_end(a);
    uint32_t i = 0;
    for (; i < n && state != end && state != FT_TEXT_NOWHERE; i++) {
        uint32_t e = a->first[state];
        const uint32_t last = a->first[state + 1];
        while (e < last && a->edges[e].byte != p[i])
            e++;
        state = e < last ? a->edges[e].to : FT_TEXT_NOWHERE;
    }
    if (used)
        *used = i;
    return state;
}
