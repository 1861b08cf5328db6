/* ft_evidence: what speaks for each owner of a span, and the verdict that follows.
 *
 * Three kinds of evidence stand side by side: verbatim (the owner's corpus holds it),
 * routing (its expert had a larger share of the mixing weight than it usually has), causal (the
 * span becomes less probable without its expert). docs/attribution.md has the rules.
 *
 * Threads  plain functions of their arguments. */
#ifndef FT_EVIDENCE_H
#define FT_EVIDENCE_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

/* From where on evidence counts. federation.yaml's `evidence` sets them. */
typedef struct ft_thresholds {
    /* A span of fewer tokens, or more probable under the unigram model, may stand anywhere by chance. */
    uint64_t verbatim_tokens;
    double verbatim_nats;
    /* Share of mixing weight above the usual one, as difference and as ratio: both. */
    double routing_excess, routing_ratio;
    /* Log-probability that the span loses without the expert, in all and a token: both. */
    double causal_nats, causal_nats_per_token;
} ft_thresholds;
/* 6, 40; 0.40, 3; 3.0, 0.3: docs/attribution.md, "Does it tell the truth?". */
ft_thresholds ft_thresholds_default(void);

/* What speaks for one owner of a span. */
typedef struct ft_owner_evidence {
    int is_public; /* the owner of expert 0, from which all others started */
    /* Verbatim. */
    int has_index;
    uint64_t count; /* occurrences of the whole span in the owner's indexes */
    /* Routing: shares of mixing weight over the span. */
    int has_routing, has_usual;
    double share, usual;
    /* Causal: log-probability of the span with the expert and without, nats. */
    int has_causal;
    double logprob, without;
} ft_owner_evidence;

typedef enum ft_verdict {
    FT_VERDICT_NONE,       /* nothing names an owner */
    FT_VERDICT_PUBLIC,     /* it is the public corpus's or the public expert's */
    FT_VERDICT_SHARED,     /* several owners, none more than another */
    FT_VERDICT_INFLUENCED, /* one owner's expert */
    FT_VERDICT_VERBATIM,   /* one owner's corpus */
} ft_verdict;
/* "none", "public", "shared", "influenced", "verbatim". */
const char *ft_verdict_name(ft_verdict v);

typedef struct ft_judgement {
    ft_verdict verdict;
    const char *rule; /* docs/attribution.md's name of it */
} ft_judgement;

/* `length` tokens, `unigram_logprob` nats (0 or less). named [count] is set to 1 for each owner that the
 * verdict names, else 0. */
ft_judgement ft_judge(size_t length, double unigram_logprob, const ft_owner_evidence *owners, size_t count,
                      const ft_thresholds *t, uint8_t *named);

FT_API_END
#endif
