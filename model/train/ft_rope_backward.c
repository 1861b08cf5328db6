#include "model/train/ft_rope_backward.h"
#include "model/train/train_clones.h"

FT_CLONES void ft_rope_turn(float *x, size_t rows, size_t heads, size_t half, size_t first, size_t length,
                            const float *cos, const float *sin, int back)
{
    const float sign = back ? -1 : 1;
    for (size_t t = 0; t < rows; t++) {
        const float *c = cos + (first + t) % length * half, *s = sin + (first + t) % length * half;
        for (size_t h = 0; h < heads; h++, x += 2 * half)
            for (size_t i = 0; i < half; i++) {
                const float a = x[i], b = x[i + half];
                x[i] = a * c[i] - sign * b * s[i];
                x[i + half] = b * c[i] + sign * a * s[i];
            }
    }
}
