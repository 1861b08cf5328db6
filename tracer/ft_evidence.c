#include "tracer/ft_evidence.h"

#include <string.h>

ft_thresholds ft_thresholds_default(void)
{
    return (ft_thresholds){.verbatim_tokens = 6,
                           .verbatim_nats = 40,
                           .routing_excess = 0.40,
                           .routing_ratio = 3,
                           .causal_nats = 3,
                           .causal_nats_per_token = 0.3};
}

const char *ft_verdict_name(ft_verdict v)
{
    static const char *const names[] = {[FT_VERDICT_NONE] = "none",
                                        [FT_VERDICT_PUBLIC] = "public",
                                        [FT_VERDICT_SHARED] = "shared",
                                        [FT_VERDICT_INFLUENCED] = "influenced",
                                        [FT_VERDICT_VERBATIM] = "verbatim"};
    return names[v];
}

static int speaks_verbatim(const ft_owner_evidence *e)
{
    return e->has_index && e->count > 0;
}

static int speaks_by_routing(const ft_owner_evidence *e, const ft_thresholds *t)
{
    return e->has_routing && e->has_usual && e->share - e->usual >= t->routing_excess &&
           e->share >= t->routing_ratio * e->usual;
}

/* An expert that had less of the weight than usual was not at work, whatever leaving it out did. */
static int speaks_by_cause(const ft_owner_evidence *e, size_t length, const ft_thresholds *t)
{
    const double loss = e->logprob - e->without;
    return e->has_causal && loss >= t->causal_nats && loss >= t->causal_nats_per_token * (double)length &&
           !(e->has_routing && e->has_usual && e->share <= e->usual);
}

/* Words that the public corpus holds are everybody's: an expert that foretells them better than the public one does is
 * not their source. Words that other owners' corpora hold, and this one's does not, are not this owner's either: its
 * expert may well foretell them, as one of a kind with theirs. docs/attribution.md has what both rules do to false
 * names. */
static int may_be_accused(const ft_owner_evidence *e, int held, int held_by_public)
{
    return e->is_public || (!held_by_public && (!held || !e->has_index || e->count > 0));
}

/* Who speaks, by one kind of evidence; what follows from one owner and from several. */
typedef struct kind {
    ft_verdict one;
    const char *rule_one, *rule_several, *rule_public;
    int public_wins; /* where the public corpus holds it, nobody else is named */
} kind;

static const kind by_text = {FT_VERDICT_VERBATIM, "verbatim-one", "verbatim-several", "verbatim-public", 1};
static const kind by_cause = {FT_VERDICT_INFLUENCED, "causal-one", "causal-several", "causal-public", 0};
static const kind by_routing = {FT_VERDICT_INFLUENCED, "routing-one", "routing-several", "routing-public", 0};

/* `named` says who speaks; those that are not named in the end are taken off. 0: nobody does. */
static int conclude(const kind *k, const ft_owner_evidence *owners, size_t count, uint8_t *named, ft_judgement *out)
{
    size_t private = 0, public = 0;
    for (size_t i = 0; i < count; i++) {
        private += named[i] && !owners[i].is_public;
        public += named[i] && owners[i].is_public;
    }
    if (!private && !public)
        return 0;
    const int is_public = !private || (public && k->public_wins);
    for (size_t i = 0; i < count; i++)
        named[i] &= owners[i].is_public ? is_public : !is_public;
    *out = is_public      ? (ft_judgement){FT_VERDICT_PUBLIC, k->rule_public}
           : private == 1 ? (ft_judgement){k->one, k->rule_one}
                          : (ft_judgement){FT_VERDICT_SHARED, k->rule_several};
    return 1;
}

ft_judgement ft_judge(size_t length, double unigram_logprob, const ft_owner_evidence *owners, size_t count,
                      const ft_thresholds *t, uint8_t *named)
{
    ft_judgement out = {FT_VERDICT_NONE, "none"};
    int caused = 0, held = 0, held_by_public = 0;
    for (size_t i = 0; i < count; i++) {
        named[i] = (uint8_t)speaks_verbatim(&owners[i]);
        caused |= owners[i].has_causal;
        held |= named[i];
        held_by_public |= named[i] && owners[i].is_public;
    }
    const int improbable = length >= t->verbatim_tokens && -unigram_logprob >= t->verbatim_nats;
    if (improbable && conclude(&by_text, owners, count, named, &out))
        return out;
    /* Where causal evidence was asked for it decides, and routing alone accuses nobody. */
    for (size_t i = 0; i < count; i++) {
        const int speaks = caused ? speaks_by_cause(&owners[i], length, t) : speaks_by_routing(&owners[i], t);
        named[i] = (uint8_t)(speaks && may_be_accused(&owners[i], held, held_by_public));
    }
    if (conclude(caused ? &by_cause : &by_routing, owners, count, named, &out))
        return out;
    for (size_t i = 0; i < count; i++)
        named[i] = (uint8_t)(held_by_public && owners[i].is_public);
    if (held_by_public)
        out = (ft_judgement){FT_VERDICT_PUBLIC, "common-public"};
    return out;
}
