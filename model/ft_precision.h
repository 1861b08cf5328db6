/* ft_precision: how numbers are kept and computed with: weights, the inputs of products, the
 * key-value cache. The types themselves: bfloat16 and float16 are IEEE float32 and float16
 * shortened to 16 bits; I8 and I4 stand in groups that share a scale (model/ft_quantize.h). */
#ifndef FT_PRECISION_H
#define FT_PRECISION_H

typedef enum ft_weight_type {
    FT_WEIGHT_F32,
    FT_WEIGHT_BF16,
    FT_WEIGHT_F16,
    FT_WEIGHT_I8,
    FT_WEIGHT_I4,
    FT_WEIGHT_TYPES
} ft_weight_type;

/* FT_COMPUTE_FLOAT32: as exact as float32 allows. FT_COMPUTE_BFLOAT16: what products with
 * bfloat16 weights read is rounded to bfloat16; sums stay float32. */
typedef enum ft_compute { FT_COMPUTE_FLOAT32, FT_COMPUTE_BFLOAT16, FT_COMPUTE_TYPES } ft_compute;

typedef enum ft_kv_type { FT_KV_F32, FT_KV_F16, FT_KV_BF16, FT_KV_TYPES } ft_kv_type;

#endif
