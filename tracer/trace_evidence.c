/* The evidence for each owner of a span, as a trace shows it. */
#include "base/ft_buffer.h"
#include "tracer/trace_maker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Everyone that a span may be laid to: the owners, then the experts that nobody owns. */
typedef struct party {
    const char *name;
    char fallback[FT_EXPERT_NAME];
    size_t owner; /* SIZE_MAX: none */
    int expert;   /* -1: none */
} party;

/* What is collected for one span. */
typedef struct collecting {
    trace_maker *m;
    const ft_span *span;
    size_t number;        /* of the span */
    double *shares;       /* [experts] over the span; NULL: no routing */
    double *layer_shares; /* [layers, experts] */
    party *parties;
    size_t count;
    ft_owner_evidence *evidence; /* [count] */
} collecting;

static size_t list_parties(const trace_maker *m, party *out)
{
    size_t count = 0;
    for (size_t o = 0; o < m->scope->owner_count; o++)
        out[count++] = (party){.name = m->scope->owners[o].name, .owner = o, .expert = m->scope->owners[o].expert};
    for (size_t e = 0; e < m->experts; e++) {
        int owned = 0;
        for (size_t o = 0; o < m->scope->owner_count; o++)
            owned |= m->scope->owners[o].expert == (int)e;
        if (owned)
            continue;
        out[count] = (party){.owner = SIZE_MAX, .expert = (int)e};
        out[count].name = ft_trace_expert_name(m->scope, e, out[count].fallback);
        count++;
    }
    return count;
}

/* --- Verbatim ------------------------------------------------------------------------- */

/* The longest piece of the span that stands in one of the owner's indexes, the first of equals. */
static void find_piece(const collecting *c, size_t owner, size_t *start, size_t *end)
{
    const trace_maker *m = c->m;
    *start = *end = c->span->start;
    for (size_t i = 0; i < m->flat.count; i++) {
        if (m->flat.owners[i] != owner)
            continue;
        const size_t *longest = m->spans.index_longest + i * m->spans.n;
        for (size_t l = c->span->start; l < c->span->end; l++) {
            const size_t r = longest[l] < c->span->end - l ? l + longest[l] : c->span->end;
            if (r - l > *end - *start || (r - l == *end - *start && l < *start)) {
                *start = l;
                *end = r;
            }
        }
    }
}

static json_t *verbatim_json(const collecting *c, const party *p, ft_owner_evidence *e)
{
    const trace_maker *m = c->m;
    size_t start, end;
    if (p->owner == SIZE_MAX || !m->scope->owners[p->owner].index_count)
        return json_null();
    e->has_index = 1;
    for (size_t i = 0; i < m->flat.count; i++)
        if (m->flat.owners[i] == p->owner)
            e->count += m->spans.index_counts[c->number * m->flat.count + i];
    if (e->count) {
        start = c->span->start;
        end = c->span->end;
    } else {
        find_piece(c, p->owner, &start, &end);
    }
    double logprob = 0;
    for (size_t t = start; t < end; t++)
        logprob += m->spans.logprobs[t];
    return json_pack("{s:I,s:I,s:I,s:I,s:f}", "count", (json_int_t)e->count, "start", (json_int_t)start, "end",
                     (json_int_t)end, "length", (json_int_t)(end - start), "unigram_logprob_sum", logprob);
}

/* --- Routing --------------------------------------------------------------------------- */

/* Each layer's shares over the span's tokens. */
static void find_layer_shares(const collecting *c, const ft_routing *r)
{
    const size_t from = c->m->input->prompt_count + c->span->start, to = c->m->input->prompt_count + c->span->end;
    for (size_t l = 0; l < r->layers; l++) {
        double *shares = c->layer_shares + l * r->experts, total = 0;
        for (size_t t = from ? from : 1; t < to && t <= r->tokens; t++) /* row t - 1 wrote token t */
            for (size_t k = 0; k < r->top_k; k++) {
                const size_t at = ((t - 1) * r->layers + l) * r->top_k + k;
                if (r->expert_ids[at] < r->experts) {
                    shares[r->expert_ids[at]] += (double)r->weights[at];
                    total += (double)r->weights[at];
                }
            }
        for (size_t e = 0; total > 0 && e < r->experts; e++)
            shares[e] /= total;
    }
}

static json_t *routing_evidence(const collecting *c, const party *p, ft_owner_evidence *e)
{
    trace_maker *m = c->m;
    const ft_usual *usual = m->scope->usual;
    if (!c->shares || p->expert < 0 || (size_t)p->expert >= m->experts)
        return json_null();
    e->has_routing = 1;
    e->share = c->shares[p->expert];
    e->has_usual = usual && usual->tokens && usual->experts == m->experts;
    if (e->has_usual)
        e->usual = ft_usual_share(usual, (size_t)p->expert, m->input->without);
    json_t *out = json_object(), *layers = json_array();
    put(out, "share", json_real(e->share), &m->failed);
    put(out, "usual", e->has_usual ? json_real(e->usual) : json_null(), &m->failed);
    put(out, "excess", e->has_usual ? json_real(e->share - e->usual) : json_null(), &m->failed);
    put(out, "ratio", e->has_usual && e->usual > 0 ? json_real(e->share / e->usual) : json_null(), &m->failed);
    for (size_t l = 0; l < m->input->routing->layers; l++)
        m->failed |= json_array_append_new(layers, json_real(c->layer_shares[l * m->experts + (size_t)p->expert])) != 0;
    put(out, "layers", layers, &m->failed);
    return out;
}

/* --- Cause ------------------------------------------------------------------------------- */

static double sum_of(const double *row, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += isfinite(row[i]) ? row[i] : 0;
    return sum;
}

static json_t *causal_json(const collecting *c, const party *p, ft_owner_evidence *e)
{
    const ft_causal_result *r = c->m->input->causal;
    const size_t from = c->m->input->prompt_count + c->span->start, to = c->m->input->prompt_count + c->span->end;
    size_t row = 0;
    while (r && row < r->expert_count && (int)r->experts[row] != p->expert)
        row++;
    if (!r || p->expert < 0 || row == r->expert_count || from < r->first || to > r->count)
        return json_null();
    const size_t width = r->count - r->first, n = to - from;
    e->has_causal = 1;
    e->logprob = sum_of(r->logprobs + (from - r->first), n);
    e->without = sum_of(r->logprobs + (row + 1) * width + (from - r->first), n);
    const double loss = e->logprob - e->without;
    return json_pack("{s:f,s:f,s:f,s:f}", "logprob", e->logprob, "without", e->without, "loss", loss, "loss_per_token",
                     loss / (double)n);
}

/* --- Together ------------------------------------------------------------------------------ */

static json_t *party_json(collecting *c, size_t i)
{
    const party *p = &c->parties[i];
    ft_owner_evidence *e = &c->evidence[i];
    int *failed = &c->m->failed;
    json_t *out = json_object();
    e->is_public = p->expert == 0;
    put(out, "owner", json_string_nocheck(p->name), failed);
    put(out, "expert", p->expert < 0 ? json_null() : json_integer(p->expert), failed);
    put(out, "verbatim", verbatim_json(c, p, e), failed);
    put(out, "routing", routing_evidence(c, p, e), failed);
    put(out, "causal", causal_json(c, p, e), failed);
    return out;
}

static void put_verdict(collecting *c, json_t *out, uint8_t *named)
{
    trace_maker *m = c->m;
    const ft_thresholds defaults = ft_thresholds_default();
    const ft_judgement j = ft_judge(c->span->end - c->span->start, c->span->unigram_logprob_sum, c->evidence, c->count,
                                    m->scope->thresholds ? m->scope->thresholds : &defaults, named);
    json_t *owners = json_array();
    for (size_t i = 0; i < c->count; i++)
        if (named[i])
            m->failed |= json_array_append_new(owners, json_string_nocheck(c->parties[i].name)) != 0;
    put(out, "verdict", json_string(ft_verdict_name(j.verdict)), &m->failed);
    put(out, "verdict_rule", json_string(j.rule), &m->failed);
    put(out, "verdict_owners", owners, &m->failed);
}

ft_code put_evidence(trace_maker *m, json_t *out, size_t number, ft_status *st)
{
    const ft_routing *r = m->input->routing;
    const size_t most = m->scope->owner_count + m->experts;
    collecting c = {.m = m, .span = &m->spans.spans[number], .number = number};
    c.parties = ft_alloc_array(most, sizeof(*c.parties));
    c.evidence = ft_alloc_array(most, sizeof(*c.evidence));
    c.layer_shares = ft_alloc_array(r ? r->layers : 0, m->experts * sizeof(*c.layer_shares));
    uint8_t *named = ft_alloc_array(most, sizeof(*named));
    json_t *list = json_array();
    const int room = c.parties && c.evidence && c.layer_shares && named && list;
    if (room) {
        c.count = list_parties(m, c.parties);
        if (r && has_shares(m, c.span->start, c.span->end)) {
            c.shares = m->shares;
            find_layer_shares(&c, r);
        }
        for (size_t i = 0; i < c.count; i++)
            m->failed |= json_array_append_new(list, party_json(&c, i)) != 0;
        put_verdict(&c, out, named);
        put(out, "evidence", json_incref(list), &m->failed);
    }
    json_decref(list);
    free(c.parties);
    free(c.evidence);
    free(c.layer_shares);
    free(named);
    return room ? FT_OK : ft_fail(st, FT_ERR_MEM, "trace: no room for the evidence of %zu parties", most);
}

json_t *evidence_json(trace_maker *m)
{
    const ft_thresholds defaults = ft_thresholds_default(),
                        *t = m->scope->thresholds ? m->scope->thresholds : &defaults;
    const ft_usual *usual = m->scope->usual;
    json_t *thresholds =
        json_pack("{s:I,s:f,s:f,s:f,s:f,s:f}", "verbatim_tokens", (json_int_t)t->verbatim_tokens, "verbatim_nats",
                  t->verbatim_nats, "routing_excess", t->routing_excess, "routing_ratio", t->routing_ratio,
                  "causal_nats", t->causal_nats, "causal_nats_per_token", t->causal_nats_per_token);
    json_t *out = json_object();
    put(out, "thresholds", thresholds, &m->failed);
    put(out, "usual", usual && usual->tokens ? ft_usual_json(usual) : json_null(), &m->failed);
    put(out, "causal", json_boolean(m->input->causal != NULL), &m->failed);
    return out;
}
