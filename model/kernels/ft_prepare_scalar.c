#include "model/kernels/ft_float.h"
#include "model/kernels/ft_prepare.h"

#include <math.h>

void ft_prepare_f32(void *out, const float *x, size_t n)
{
    memcpy(out, x, n * sizeof(*x));
}

void ft_prepare_bf16_scalar(void *out, const float *x, size_t n)
{
    uint16_t *h = out;
    for (size_t i = 0; i < n; i++)
        h[i] = ft_bf16_of(x[i]);
    ft_prepare_pad(out, n);
}

void ft_prepare_i8_scalar(void *out, const float *x, size_t n)
{
    ft_group *group = out;
    for (size_t at = 0; at < n; at += FT_GROUP, group++) {
        uint32_t most = 0; /* magnitudes order like their bits, infinities and NaNs last */
        for (size_t i = 0; i < FT_GROUP; i++) {
            const uint32_t size = ft_float_bits(x[at + i]) & FT_FLOAT_MAGNITUDE;
            most = size > most ? size : most;
        }
        *group = (ft_group){.scale = ft_group_scale(most)};
        const float by = ft_group_inverse(most);
        int32_t sum = 0;
        for (size_t i = 0; by != 0 && i < FT_GROUP; i++)
            sum += group->q[i] = (int8_t)rintf(x[at + i] * by);
        group->start = -8 * sum;
    }
}
