/* ft_router_start: router rows of a pair before training, from means of hidden states.
 *
 * Of the states x that a layer's FFN reads: S and m the second moment and mean on public text,
 * m_o the owner's mean, ridge added to S.
 *   c = S^-1 m            a direction whose product with a public state is about 1: the bias that the
 *                         router lacks; it is the public row
 *   row = c + a S^-1 (m_o - m) + b c,  with a, b such that the mean margin over the public row
 *                         is +margin on the owner's text and -margin on public text
 * The public row depends on public text, `length` and `windows` alone, so that it is the same, bit for
 * bit, for all owners who use the same.
 * What it reads of the owner is a mean: a private run does not use it. */
#ifndef FT_ROUTER_START_H
#define FT_ROUTER_START_H
#include "model/train/ft_train_data.h"
#include "model/train/ft_trainer.h"

FT_API_BEGIN

/* `t`: a pair whose expert 1 is still the public FFN, opened without `recompute`. `windows` of
 * `length` tokens of each text are read.
 *   FT_ERR_FORMAT  states that leave S without an inverse, or two texts that do not differ */
FT_CHECKED ft_code ft_router_start(ft_trainer *t, ft_train_data *owner, ft_train_data *public, size_t length,
                                   size_t windows, double margin, ft_status *st);

FT_API_END
#endif
