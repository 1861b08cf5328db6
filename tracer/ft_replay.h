/* ft_replay: what a receipt says was generated, generated once more.
 *
 * Bits hold within one family of kernels and one precision, whatever the number of threads, the
 * batch, or the cache: so either all tokens and the routing are the same, to the last bit, or the
 * receipt does not tell what this model does.
 *
 * A receipt of a text that was given, with routing, is read once in one teacher-forced pass. */
#ifndef FT_REPLAY_H
#define FT_REPLAY_H
#include "model/ft_fingerprint.h"
#include "model/ft_generate.h"
#include "tracer/ft_receipt.h"

FT_API_BEGIN

typedef struct ft_replay_options {
    ft_pool *pool;          /* NULL: one thread */
    const uint32_t *prompt; /* where the receipt holds its hash alone; NULL: the receipt's own */
    size_t prompt_count;
    const volatile int *cancel; /* may be NULL */
} ft_replay_options;

typedef struct ft_replay_result {
    int generated;           /* 1: generated anew; 0: a given text, read anew */
    size_t expected, tokens; /* of the receipt; that came now */
    size_t same_tokens;      /* from the first on */
    int routing_stated, routing_same;
    ft_digest routing; /* of this run, of as many rows as the receipt states */
} ft_replay_result;

/* The experts whose weights the receipt says nobody read: opted out, without a digest. Neither are they to be read
 * for the digests that ft_receipt_compare_model compares. */
uint64_t ft_receipt_unread(const ft_receipt *r);
/* The digests of a model (without ft_receipt_unread) against those of the receipt: "" or what differs. */
void ft_receipt_compare_model(const ft_receipt *r, const ft_model_digests *digests, const ft_tokenizer *t,
                              char differs[200]);

/* `t` may be NULL where the receipt names no stop strings.
 *   FT_ERR_UNSUPPORTED  the receipt's family of kernels is not the one that runs here (named)
 *   FT_ERR_NOT_FOUND    it holds neither prompt nor anything else to run
 *   FT_ERR_FORMAT       its parameters are none, or ids lie outside the vocabulary
 *   FT_ERR_ARG          the prompt that was given is not the receipt's */
FT_CHECKED ft_code ft_receipt_replay(const ft_receipt *r, const ft_model *m, const ft_tokenizer *t,
                                     const ft_replay_options *o, ft_replay_result *out, ft_status *st);

FT_API_END
#endif
