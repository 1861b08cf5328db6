#include "model/ft_rope.h"

#include <math.h>

/* theta^(2i/D), in float32 as torch.pow gives it. */
static float power(double theta, size_t i, size_t head_dim)
{
    const float exponent = (float)(2 * i) / (float)head_dim;
    return (float)pow((double)(float)theta, (double)exponent);
}

/* YaRN's 0.1 m ln(s) + 1. */
static double yarn_scale(double factor, double m)
{
    return factor <= 1 ? 1.0 : 0.1 * m * log(factor) + 1.0;
}

/* Dimension that turns `rotations` times over the original context. */
static double yarn_dimension(const ft_rope_config *r, double rotations, size_t head_dim)
{
    const double pi = 3.14159265358979323846;
    return (double)head_dim * log((double)r->original_max_position / (rotations * 2 * pi)) / (2 * log(r->theta));
}

static void yarn(const ft_rope_config *r, size_t head_dim, float *inv_freq, float *scaling)
{
    double low = yarn_dimension(r, r->beta_fast, head_dim), high = yarn_dimension(r, r->beta_slow, head_dim);
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = low > 0 ? low : 0;
    high = high < (double)head_dim - 1 ? high : (double)head_dim - 1;
    if (low == high)
        high += 0.001;
    for (size_t i = 0; i < head_dim / 2; i++) {
        const float pos = power(r->theta, i, head_dim);
        float ramp = ((float)i - (float)low) / (float)(high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        const float keep = 1 - ramp;
        inv_freq[i] = 1 / ((float)r->factor * pos) * (1 - keep) + 1 / pos * keep;
    }
    double attention = r->attention_factor;
    if (!(attention > 0) && r->mscale != 0 && r->mscale_all_dim != 0)
        attention = yarn_scale(r->factor, r->mscale) / yarn_scale(r->factor, r->mscale_all_dim);
    else if (!(attention > 0))
        attention = yarn_scale(r->factor, 1);
    *scaling = (float)attention;
}

/* Llama 3.1: short waves stay, long ones are stretched, between them a blend. */
static float llama3(const ft_rope_config *r, float inv)
{
    const double context = (double)r->original_max_position;
    const float wave = (float)(2 * 3.14159265358979323846) / inv;
    const float longest = (float)(context / r->low_freq_factor), shortest = (float)(context / r->high_freq_factor);
    if (wave > longest)
        return inv / (float)r->factor;
    if (wave < shortest)
        return inv;
    const float smooth =
        ((float)context / wave - (float)r->low_freq_factor) / (float)(r->high_freq_factor - r->low_freq_factor);
    return (1 - smooth) * inv / (float)r->factor + smooth * inv;
}

void ft_rope_frequencies(const ft_rope_config *r, size_t head_dim, size_t max_position, float *inv_freq, float *scaling)
{
    *scaling = 1;
    double theta = r->theta;
    if (r->type == FT_ROPE_YARN) {
        yarn(r, head_dim, inv_freq, scaling);
        return;
    }
    if (r->type == FT_ROPE_DYNAMIC && head_dim > 2) { /* its formula at a length of max_position */
        const double length = (double)max_position;
        theta *= pow(r->factor * length / length - (r->factor - 1), (double)head_dim / ((double)head_dim - 2));
    }
    for (size_t i = 0; i < head_dim / 2; i++) {
        const float inv = 1 / power(theta, i, head_dim);
        inv_freq[i] = r->type == FT_ROPE_LINEAR   ? inv / (float)r->factor
                      : r->type == FT_ROPE_LLAMA3 ? llama3(r, inv)
                                                  : inv;
    }
}

void ft_rope_angles(float *cosines, float *sines, size_t position, const float *inv_freq, size_t half, float scaling)
{
    for (size_t i = 0; i < half; i++) {
        const float angle = (float)position * inv_freq[i];
        cosines[i] = (float)cos((double)angle) * scaling;
        sines[i] = (float)sin((double)angle) * scaling;
    }
}
