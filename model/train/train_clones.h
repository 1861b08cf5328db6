/* train_clones: element-wise loops of training compiled for wider vectors too, the best chosen
 * when the program is loaded. Nothing is fused or reordered (-ffp-contract=off), so that every
 * clone gives the same bits. Sums run in FT_LANES accumulators for the same reason. */
#ifndef FT_TRAIN_CLONES_H
#define FT_TRAIN_CLONES_H
#include <stddef.h>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) &&                           \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FT_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define FT_CLONES
#endif
#define FT_CLONE_INLINE static inline __attribute__((always_inline))
enum { FT_LANES = 16, FT_CLONE_CHUNK = 512 };

/* FT_LANES floats as one value, wherever they lie. */
typedef float ft_lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef int ft_lane_bits __attribute__((vector_size(64)));

FT_CLONE_INLINE double ft_clone_total(const ft_lanes *v)
{
    double sum = 0;
    for (size_t i = 0; i < FT_LANES; i++)
        sum += (double)(*v)[i];
    return sum;
}

/* sum of a_i b_i: FT_LANES float32 sums over FT_CLONE_CHUNK elements, these in float64. */
FT_CLONE_INLINE double ft_clone_dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t at = 0; at < n; at += FT_CLONE_CHUNK) {
        const size_t end = n - at < FT_CLONE_CHUNK ? n : at + FT_CLONE_CHUNK;
        ft_lanes lanes = {0};
        size_t i = at;
        for (; i + FT_LANES <= end; i += FT_LANES)
            lanes += *(const ft_lanes *)(a + i) * *(const ft_lanes *)(b + i);
        for (; i < end; i++)
            sum += (double)a[i] * (double)b[i];
        sum += ft_clone_total(&lanes);
    }
    return sum;
}

FT_CLONE_INLINE double ft_clone_sum(const float *a, size_t n)
{
    double sum = 0;
    for (size_t at = 0; at < n; at += FT_CLONE_CHUNK) {
        const size_t end = n - at < FT_CLONE_CHUNK ? n : at + FT_CLONE_CHUNK;
        ft_lanes lanes = {0};
        size_t i = at;
        for (; i + FT_LANES <= end; i += FT_LANES)
            lanes += *(const ft_lanes *)(a + i);
        for (; i < end; i++)
            sum += (double)a[i];
        sum += ft_clone_total(&lanes);
    }
    return sum;
}

/* The largest of x [n], n > 0; *bad becomes NaN where one is no finite number, else 0. */
FT_CLONE_INLINE float ft_clone_max(const float *x, size_t n, float *bad)
{
    ft_lanes most = {0}, wrong = {0};
    float top = x[0], sum = 0;
    size_t i = 0;
    most += top;
    for (; i + FT_LANES <= n; i += FT_LANES) {
        const ft_lanes v = *(const ft_lanes *)(x + i);
        const ft_lane_bits more = v > most;
        wrong += v - v; /* NOLINT(misc-redundant-expression): 0, but for what is not finite */
        most = (ft_lanes)(((ft_lane_bits)v & more) | ((ft_lane_bits)most & ~more));
    }
    for (; i < n; i++) {
        sum += x[i] - x[i]; /* NOLINT(misc-redundant-expression) */
        top = x[i] > top ? x[i] : top;
    }
    for (i = 0; i < FT_LANES; i++) {
        sum += wrong[i];
        top = most[i] > top ? most[i] : top;
    }
    *bad = sum;
    return top;
}
#endif
