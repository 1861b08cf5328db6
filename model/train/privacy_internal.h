/* privacy_internal: what the accountants' files share. */
#ifndef FT_PRIVACY_INTERNAL_H
#define FT_PRIVACY_INTERNAL_H
#include "model/train/ft_privacy.h"

/* 0 < q <= 1, sigma > 0, steps > 0, delta in (0, 1). */
void ft_privacy_rdp_epsilon(ft_privacy_spent *out, const ft_privacy_mechanism *m, double delta);
FT_CHECKED ft_code ft_privacy_pld_epsilon(ft_privacy_spent *out, const ft_privacy_mechanism *m, double delta,
                                          ft_status *st);

/* log((1 - q) + q exp(u)), 0 < q <= 1. */
double ft_privacy_loss(double q, double u);
#endif
