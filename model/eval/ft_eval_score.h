/* ft_eval_score: how probable a model finds given tokens, many timelines at a time.
 *
 * A scorer holds an engine and a number of sessions. ft_scorer_read reads the next tokens
 * of several of them together and gives log2 p of tokens that are known, never the logits
 * themselves: one pass's logits are all that is ever held.
 *
 * Bits of a document (ft_eval_bits). Its first token has nothing before it, and no model here
 * is trained to predict it from nothing: it costs log2(vocabulary) bits, for every model alike. All
 * others, the end of the text among them, are predicted. A document longer than
 * `window` tokens is cut into windows that overlap by half: a token is predicted from at least
 * window / 2 tokens before it, or from all there are.
 *
 * Bits     log2 p depends on the tokens before, experts and kernel family alone (ft_engine.h):
 *          not on batches or threads.
 * Memory   one pass's logits (at most 64 MB, or one row), key-value pages of its sessions (some
 *          512 MB at most, or one session).
 * Threads  one owner. */
#ifndef FT_EVAL_SCORE_H
#define FT_EVAL_SCORE_H
#include "base/ft_progress.h"
#include "base/ft_threads.h"
#include "model/eval/ft_eval_text.h"
#include "model/ft_session.h"

FT_API_BEGIN

typedef struct ft_scorer ft_scorer;

/* Sessions of at most `window` tokens (0: 1024, or the model's positions where those are fewer), without
 * the experts of `without`; `routing` captures it. m and pool (NULL: the caller alone) must outlive it. */
FT_CHECKED ft_code ft_scorer_new(ft_scorer **out, const ft_model *m, ft_pool *pool, size_t window, uint64_t without,
                                 int routing, ft_status *st);
void ft_scorer_free(ft_scorer *s);
size_t ft_scorer_window(const ft_scorer *s);
size_t ft_scorer_sessions(const ft_scorer *s);
/* Session i, to be looked at and rewound between reads. */
ft_session *ft_scorer_session(const ft_scorer *s, size_t i);

/* Session `session` reads ids[0..count). out[t] = log2 p(targets[t]) after ids[t], for t in from … count - 1;
 * targets and out may be NULL where from is count. */
typedef struct ft_score {
    size_t session;
    const uint32_t *ids, *targets;
    size_t count, from;
    float *out;
} ft_score;

/* Sessions differ. FT_ERR_ARG for an id outside the vocabulary, FT_ERR_LIMIT beyond the window, FT_ERR_FORMAT where
 * logits are not finite. */
FT_CHECKED ft_code ft_scorer_read(ft_scorer *s, const ft_score *scores, size_t count, ft_status *st);

/* Where the tokens of a text go: weight[e] is the sum, over tokens and layers, of expert e's share of the mixing
 * weight; first[e] counts how often it has the largest. `decisions` is the number of both. */
typedef struct ft_eval_shares {
    size_t experts;
    uint64_t decisions;
    double weight[FT_MAX_EXPERTS], first[FT_MAX_EXPERTS];
} ft_eval_shares;

/* log2p [text->tokens], of every token of the text. shares (NULL: none) need a scorer with routing; each token that
 * is read counts once. */
FT_CHECKED ft_code ft_eval_bits(ft_scorer *s, const ft_eval_text *text, float *log2p, ft_eval_shares *shares,
                                const ft_progress *progress, ft_status *st);

/* -sum / bytes. */
double ft_eval_bits_per_byte(const ft_eval_text *text, const float *log2p);

FT_API_END
#endif
