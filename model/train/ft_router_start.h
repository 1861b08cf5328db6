/* ft_router_start: what a router knows before training, and how its biases are folded away after it.
 *
 * The constant direction. Of the states x [hidden] that a layer's FFN reads, on public text, let m be the mean and S
 * the second moment. c = S^-1 m is the least-squares solution of c.x = 1: a row whose product with a public state is
 * about 1. It is the public expert's router row, the same for all owners, and serves as the bias that a router
 * without biases lacks. Where the model has a constant channel (ft_parameters_constant), c is e_0 / its number and
 * c.x is 1 exactly. It stands beside the public model, in router.safetensors:
 *   model.layers.N.mlp.gate.weight [1, hidden]   c
 *   model.layers.N.mlp.public_mean [1, hidden]   m; may be missing
 *   metadata "public_tokens"                     how many states it was made from
 *
 * An owner's row and bias before training; o the owner, p the public text, d = row - c:
 *   FT_ROUTER_PUBLIC        d = 0, bias 0: nothing of the owner is read
 *   FT_ROUTER_MEAN          d = m_o / |m_o| - m_p / |m_p|, bias 0: rows are mean embeddings, as in FlexOlmo (Shi et
 *                           al. 2025, 3.3), here of hidden states, shifted so that the public one is c
 *   FT_ROUTER_DISCRIMINANT  d = Sigma^-1 (m_o - m_p), bias -(m_o + m_p).d / 2; Sigma is the pooled covariance of both
 *                           texts, with a ridge: Fisher's linear discriminant
 *   FT_ROUTER_WHITENED      d = a S^-1 (m_o - m_p) and a bias such that the mean margin over the public row is
 *                           +1.5 on the owner's text and -1.5 on public text
 * A bias above 0 is folded at once.
 * All but FT_ROUTER_PUBLIC read means of the owner's states: a private run does not use them.
 * Memory  8 bytes * layers * hidden^2 for a second moment, twice that for the discriminant. */
#ifndef FT_ROUTER_START_H
#define FT_ROUTER_START_H
#include "model/train/ft_train_data.h"
#include "model/train/ft_trainer.h"

FT_API_BEGIN

typedef struct ft_router_public {
    size_t layers, hidden;
    float *row;  /* [layers, hidden]: c */
    float *mean; /* [layers, hidden]: m, or NULL where it is not known */
    uint64_t tokens;
} ft_router_public;

/* `t`: the public model, dense or of one expert, without `recompute`. At most `windows` of `length` tokens are read.
 *   FT_ERR_FORMAT  states that leave S without an inverse; a model of more than one expert */
FT_CHECKED ft_code ft_router_public_make(ft_router_public *out, ft_trainer *t, ft_train_data *text, size_t length,
                                         size_t windows, ft_status *st);
FT_CHECKED ft_code ft_router_public_save(const ft_router_public *r, const char *path, ft_status *st);
/*   FT_ERR_FORMAT  rows of another model's shape */
FT_CHECKED ft_code ft_router_public_open(ft_router_public *out, const char *path, const ft_model_config *c,
                                         ft_status *st);
void ft_router_public_close(ft_router_public *r); /* a zeroed struct is allowed */

typedef enum ft_router_init {
    FT_ROUTER_PUBLIC,
    FT_ROUTER_MEAN,
    FT_ROUTER_DISCRIMINANT,
    FT_ROUTER_WHITENED
} ft_router_init;

typedef struct ft_router_start_options {
    ft_router_init init;
    ft_train_data *owner, *public; /* public: of discriminant and whitened; of mean where r->mean is NULL */
    size_t length, windows;
} ft_router_start_options;

/* Sets row 1 and the bias of `pair`, and row 0 where `set_public` (a dense public model has none). `t`: the
 * public model, as above; NULL for FT_ROUTER_PUBLIC.
 *   FT_ERR_FORMAT  two texts that do not differ, or states without an inverse */
FT_CHECKED ft_code ft_router_start(ft_parameters *pair, const ft_router_public *r, int set_public, ft_trainer *t,
                                   const ft_router_start_options *o, ft_status *st);

/* row += min(bias, 0) c, for each expert from 1 on; the biases are gone from p afterwards. */
void ft_router_fold(ft_parameters *p, const ft_router_public *r);

/* What folding changes. */
typedef struct ft_fold_report {
    double exact, folded; /* bits a byte */
    double agreement;     /* share of (token, layer) whose first choice is the same */
    uint64_t tokens;
} ft_fold_report;
/* Folds the trainer's biases, and measures on `text` before and after: at most `windows` windows of it, packed as in
 * training; bits a token times the whole text's tokens a byte. */
FT_CHECKED ft_code ft_router_fold_measured(ft_trainer *t, const ft_router_public *r, ft_train_data *text, size_t length,
                                           size_t windows, ft_fold_report *out, ft_status *st);

FT_API_END
#endif
