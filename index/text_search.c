/* Which tokens can begin the query, and which can go on with it. */
#include "base/ft_buffer.h"
#include "index/text_match_internal.h"

#include <stdlib.h>

void ft_text_search_release(ft_text_search *s)
{
    for (uint32_t i = 0; s->follow && i < s->automaton.states; i++)
        if (s->follow[i]) {
            free(s->follow[i]->steps);
            free(s->follow[i]->ends);
            free(s->follow[i]);
        }
    free(s->follow);
    free(s->starts);
    free(s->offset_of);
    ft_text_automaton_release(&s->automaton);
    *s = (ft_text_search){0};
}

/* --- Beginning in the middle of a token --------------------------------------------------- */

/* The query from byte `at` of the vocabulary's text, which belongs to token `id`. */
static ft_code try_start(ft_text_search *s, size_t *capacity, uint32_t id, uint32_t at, ft_status *st)
{
    const ft_text_vocabulary *v = s->vocabulary;
    const uint32_t state = ft_text_automaton_run(&s->automaton, 0, v->text + at, v->at[id + 1] - at, NULL);
    if (state == FT_TEXT_NOWHERE)
        return FT_OK;
    ft_code rc = ft_array_grow((void **)&s->starts, capacity, s->start_count + 1, sizeof(*s->starts), st);
    if (!rc)
        s->starts[s->start_count++] = (ft_text_start){.state = state, .token = id, .offset = at - v->at[id]};
    return rc;
}

/* By token, then offset. One pass over the vocabulary's bytes: about a millisecond for
 * 100,000 tokens, and most of what a query for rare words costs. */
static ft_code find_starts(ft_text_search *s, size_t *capacity, ft_status *st)
{
    const ft_text_vocabulary *v = s->vocabulary;
    const unsigned char *begins = s->automaton.begins;
    const uint32_t bytes = v->at[v->size];
    uint32_t id = 0;
    ft_code rc = FT_OK;
    for (uint32_t at = 0; at < bytes && !rc; at++) {
        if (!begins[v->text[at]])
            continue;
        while (v->at[id + 1] <= at)
            id++;
        if (at != v->at[id])
            rc = try_start(s, capacity, id, at, st);
    }
    return rc;
}

/* By state, and as they were within a state: a count of each, then each to its place.
 * States are few here, no more than the longest token has bytes and forms. */
static ft_code sort_starts(ft_text_search *s, ft_status *st)
{
    uint32_t highest = 0;
    for (size_t i = 0; i < s->start_count; i++)
        highest = s->starts[i].state > highest ? s->starts[i].state : highest;
    size_t *at = ft_alloc_array((size_t)highest + 2, sizeof(*at));
    ft_text_start *sorted = ft_alloc_array(s->start_count, sizeof(*sorted));
    if (!at || !sorted) {
        free(at);
        free(sorted);
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    for (size_t i = 0; i < s->start_count; i++)
        at[s->starts[i].state + 1]++;
    for (uint32_t i = 0; i < highest; i++)
        at[i + 1] += at[i];
    for (size_t i = 0; i < s->start_count; i++)
        sorted[at[s->starts[i].state]++] = s->starts[i];
    free(at);
    free(s->starts);
    s->starts = sorted;
    return FT_OK;
}

ft_code ft_text_search_init(ft_text_search *out, const ft_text_vocabulary *v, const char *query, size_t n,
                            int ignore_case, int reversed, ft_status *st)
{
    size_t capacity = 0;
    *out = (ft_text_search){.vocabulary = v};
    ft_code rc = ft_text_automaton_compile(&out->automaton, query, n, ignore_case, reversed, st);
    if (!rc) {
        out->follow = ft_alloc_array(out->automaton.states, sizeof(*out->follow));
        out->offset_of = ft_alloc_array(v->size, sizeof(*out->offset_of));
        if (!out->follow || !out->offset_of)
            rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    if (!rc)
        rc = find_starts(out, &capacity, st);
    if (!rc)
        rc = sort_starts(out, st);
    if (rc)
        ft_text_search_release(out);
    return rc;
}

/* --- Going on with a whole token ------------------------------------------------------------ */

/* A state of the automaton, and the strings that lead there from where the search began. */
typedef struct node {
    uint32_t state, depth;
    ft_text_run run;
} node;
typedef struct node_stack {
    node *nodes;
    size_t count, capacity;
} node_stack;

static ft_code push(node_stack *k, node n, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&k->nodes, &k->capacity, k->count + 1, sizeof(n), st);
    if (!rc)
        k->nodes[k->count++] = n;
    return rc;
}

/* Strings of the node that are used up. */
static ft_code add_steps(ft_text_follow *f, const ft_text_vocabulary *v, node *n, ft_status *st)
{
    ft_code rc = FT_OK;
    for (; n->run.lo < n->run.hi && !rc; n->run.lo++) {
        const uint32_t token = v->sorted[n->run.lo];
        uint32_t bytes;
        (void)ft_text_of(v, token, &bytes);
        if (bytes > n->depth)
            break;
        rc = ft_array_grow((void **)&f->steps, &f->steps_capacity, f->step_count + 1, sizeof(*f->steps), st);
        if (!rc)
            f->steps[f->step_count++] = (ft_text_step){.token = token, .state = n->state};
    }
    f->choices = f->step_count;
    return rc;
}

static ft_code add_end(ft_text_follow *f, ft_text_run run, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&f->ends, &f->ends_capacity, f->end_count + 1, sizeof(*f->ends), st);
    if (!rc)
        f->ends[f->end_count++] = run;
    return rc;
}

/* The automaton and the sorted strings side by side, byte by byte. */
static ft_code descend(const ft_text_search *s, ft_text_follow *f, node_stack *k, ft_status *st)
{
    const ft_text_automaton *a = &s->automaton;
    ft_code rc = FT_OK;
    while (k->count && !rc) {
        node n = k->nodes[--k->count];
        if (n.state == ft_text_automaton_end(a)) {
            rc = add_end(f, n.run, st);
            continue;
        }
        if (n.depth)
            rc = add_steps(f, s->vocabulary, &n, st);
        for (uint32_t e = a->first[n.state]; e < a->first[n.state + 1] && !rc; e++) {
            const ft_text_run run = ft_text_vocabulary_narrow(s->vocabulary, n.run, n.depth, a->edges[e].byte);
            if (run.lo < run.hi)
                rc = push(k, (node){.state = a->edges[e].to, .depth = n.depth + 1, .run = run}, st);
        }
    }
    return rc;
}

ft_code ft_text_search_follow(ft_text_search *s, uint32_t state, const ft_text_follow **out, ft_status *st)
{
    *out = s->follow[state];
    if (*out)
        return FT_OK;
    ft_text_follow *f = s->follow[state] = calloc(1, sizeof(*f));
    if (!f)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    node_stack k = {0};
    ft_code rc = push(&k, (node){.state = state, .run = {0, s->vocabulary->sorted_count}}, st);
    if (!rc)
        rc = descend(s, f, &k, st);
    free(k.nodes);
    for (size_t i = 0; i < f->end_count; i++)
        f->choices += f->ends[i].hi - f->ends[i].lo;
    *out = f;
    return rc;
}
