/* ft_rope: inverse frequencies of rotary position embeddings, for each type of
 * scaling, rounded to float32 where transformers rounds.
 *
 * Source  Su et al., "RoFormer", 2021; Peng et al., "YaRN", 2023 (arXiv 2309.00071);
 *         transformers 5.23, modeling_rope_utils.py. */
#ifndef FT_ROPE_H
#define FT_ROPE_H
#include "model/ft_model.h"

/* inv_freq [head_dim / 2]; cos and sin of position * inv_freq are multiplied by
 * *scaling. FT_ROPE_DYNAMIC is that of a context within max_position. */
void ft_rope_frequencies(const ft_rope_config *r, size_t head_dim, size_t max_position, float *inv_freq,
                         float *scaling);

/* Cosines and sines [half] of a position. Angles are products in float32, as transformers has
 * them; cosine and sine of the rounded angle come from float64 so that no library's float32 ones
 * matter. */
void ft_rope_angles(float *cosines, float *sines, size_t position, const float *inv_freq, size_t half, float scaling);
#endif
