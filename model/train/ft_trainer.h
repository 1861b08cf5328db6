/* ft_trainer: losses and gradients of a FlexOlmo or OLMo 2 model, and its updates.
 *
 *   loss = ce + z_loss * z + domain_loss * domain
 *   ce = mean over the labelled tokens of -log softmax(logits)[label]
 *   z  = mean over layers of the mean over tokens of (log sum_e exp l_e)^2, l the router's
 *        logits after the bias; 0 for a dense model
 *   domain = mean over layers of the mean over all tokens of -log p_e, p the router's probabilities, e the expert whose
 *        domain the token's text is; a token without one adds nothing
 *
 * Activations are float32; sums of a loss or a norm are float64. The result of a step is a
 * function of weights and batch, not of the number of threads.
 * Lifetime  the trainer owns its parameters.
 * Threads   one owner; it works on its own pool. */
#ifndef FT_TRAINER_H
#define FT_TRAINER_H
#include "model/train/ft_adamw.h"
#include "model/train/ft_parameters.h"

FT_API_BEGIN

typedef struct ft_trainer ft_trainer;

typedef struct ft_trainer_options {
    ft_train_mode mode;
    unsigned threads; /* 0: one for each processor */
    double z_loss, domain_loss;
    double router_rate; /* of the router's rows and biases, as a share of the learning rate; 0 counts as 1 */
    int bfloat16;       /* products of weights and activations in bfloat16; private steps stay float32 */
    int recompute;      /* keep a layer's input alone, and make the rest again on the way back: a third more work */
} ft_trainer_options;

/* ids, labels [sequences, length]; labels are shifted already (label t is what follows id t), a
 * negative one is not counted. begin [sequences, length] (NULL: all 0): the position in its
 * sequence where a token's document starts; attention stays within it. */
typedef struct ft_batch {
    const int32_t *ids, *labels;
    const uint32_t *begin;
    const int32_t *domains; /* [sequences, length]: an expert, or negative for none; NULL: none */
    size_t sequences, length;
} ft_batch;

typedef struct ft_losses {
    double ce, z, domain, loss;
    size_t labelled;
} ft_losses;

FT_CHECKED ft_code ft_trainer_open(ft_trainer **out, const char *folder, const ft_trainer_options *o, ft_status *st);
/* Of parameters that are there already: they are the trainer's from here on, also on failure, and *p is zeroed. */
FT_CHECKED ft_code ft_trainer_new(ft_trainer **out, ft_parameters *p, const ft_trainer_options *o, ft_status *st);
void ft_trainer_close(ft_trainer *t);
/* Gives back activations and the optimizer's state, after the last step: weights and gradients stay. */
void ft_trainer_rest(ft_trainer *t);
ft_parameters *ft_trainer_parameters(ft_trainer *t);

/* Bytes that the process takes at its peak for batches of this shape: weights, gradients, the optimizer's
 * state, activations, and 32 MiB for the program itself. private: with ghost norms. */
FT_CHECKED ft_code ft_trainer_bytes(uint64_t *out, const ft_trainer *t, size_t sequences, size_t length, int private,
                                    ft_status *st);
/* Keeps that and `besides` (the data) under `ceiling`: halves *micro, the most sequences at a time, and, where
 * that does not do, sets recompute. What it decides depends on these figures alone, so that a run that
 * goes on decides the same.
 *   FT_ERR_LIMIT  one sequence is too much; says what it would take */
FT_CHECKED ft_code ft_trainer_fit(ft_trainer *t, uint64_t ceiling, uint64_t besides, size_t length, int private,
                                  size_t *micro, ft_status *st);

/* FT_ERR_ARG an id outside the vocabulary or a begin after its token, FT_ERR_MEM the activations,
 * FT_ERR_LIMIT a sequence beyond the model's positions. */
FT_CHECKED ft_code ft_trainer_evaluate(ft_trainer *t, const ft_batch *b, ft_losses *out, ft_status *st);

/* Adds weight times the loss's gradient to the parameters' grad. */
FT_CHECKED ft_code ft_trainer_gradient(ft_trainer *t, const ft_batch *b, double weight, ft_losses *out, ft_status *st);
/* Of a part of a larger batch, which has the share of_labels of its labelled tokens and of_tokens of all its tokens:
 * the parts' gradients add up to the batch's, for ce is a mean over labelled tokens, z and domain over all. */
FT_CHECKED ft_code ft_trainer_gradient_part(ft_trainer *t, const ft_batch *b, double of_labels, double of_tokens,
                                            ft_losses *out, ft_status *st);

/* DP-SGD: each sequence is an example, its loss the mean over its own labelled tokens, without
 * z. Adds sum_i min(1, clip / |g_i|) g_i to the gradients. norms, losses (may be NULL)
 * [sequences]. Norms are ghost norms: no example's gradient is ever made. */
FT_CHECKED ft_code ft_trainer_clipped(ft_trainer *t, const ft_batch *b, double clip, double *norms, double *losses,
                                      ft_losses *out, ft_status *st);

/* The same of one example that is several sequences, all of `b`: the mean over all its labelled tokens. Its gradient
 * is summed over the sequences, `micro` at a time, beside the others', then clipped: one gradient more in memory. norm
 * may be NULL. */
FT_CHECKED ft_code ft_trainer_clipped_whole(ft_trainer *t, const ft_batch *b, size_t micro, double clip, double *norm,
                                            ft_losses *out, ft_status *st);

/* One AdamW step of everything trained, gradients times `scale`; steps count from 1.
 * Biases are kept at 0 or below. */
FT_CHECKED ft_code ft_trainer_update(ft_trainer *t, const ft_adamw *o, uint64_t step, double scale, ft_status *st);
/* The optimizer's moments of parameter i [count], NULL before the first update or where frozen. */
float *ft_trainer_moment(ft_trainer *t, size_t i, int second);
FT_CHECKED ft_code ft_trainer_make_moments(ft_trainer *t, ft_status *st);

FT_API_END
#endif
