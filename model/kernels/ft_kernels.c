#include "model/kernels/ft_kernels.h"

#include "base/ft_cpu.h"

/* A family puts its versions over those of the one before it. */

static void use_products(ft_kernels *k, ft_matmul_fn *bf16_bf16, ft_matmul_fn *i8, ft_matmul_fn *i4)
{
    k->matmul[FT_COMPUTE_BFLOAT16][FT_WEIGHT_BF16] = bf16_bf16;
    for (int c = 0; c < FT_COMPUTE_TYPES; c++) {
        k->matmul[c][FT_WEIGHT_I8] = i8;
        k->matmul[c][FT_WEIGHT_I4] = i4;
    }
}

static void use_float_products(ft_kernels *k, ft_matmul_fn *f32, ft_matmul_fn *bf16, ft_matmul_fn *f16)
{
    for (int c = 0; c < FT_COMPUTE_TYPES; c++) {
        k->matmul[c][FT_WEIGHT_F32] = f32;
        k->matmul[c][FT_WEIGHT_F16] = f16;
    }
    k->matmul[FT_COMPUTE_FLOAT32][FT_WEIGHT_BF16] = bf16;
}

static void use_scalar(ft_kernels *k)
{
    *k = (ft_kernels){
        .prepare = {ft_prepare_f32, ft_prepare_bf16_scalar, ft_prepare_i8_scalar},
        .narrow = {ft_narrow_f32_scalar, ft_narrow_f16_scalar, ft_narrow_bf16_scalar},
        .page = {ft_page_f32_scalar, ft_page_f16_scalar, ft_page_bf16_scalar},
        .rms_norm = ft_rms_norm_scalar,
        .softmax = ft_softmax_scalar,
        .silu = ft_silu_scalar,
        .rotate = ft_rotate_scalar,
        .add_scaled = ft_add_scaled_scalar,
    };
    use_float_products(k, ft_matmul_f32_scalar, ft_matmul_bf16_scalar, ft_matmul_f16_scalar);
    use_products(k, ft_matmul_bf16_bf16_scalar, ft_matmul_i8_scalar, ft_matmul_i4_scalar);
}

#if defined(__x86_64__)
static void use_avx2(ft_kernels *k)
{
    *k = (ft_kernels){
        .prepare = {ft_prepare_f32, ft_prepare_bf16_avx2, ft_prepare_i8_avx2},
        .narrow = {ft_narrow_f32_scalar, ft_narrow_f16_avx2, ft_narrow_bf16_avx2},
        .page = {ft_page_f32_avx2, ft_page_f16_avx2, ft_page_bf16_avx2},
        .rms_norm = ft_rms_norm_avx2,
        .softmax = ft_softmax_avx2,
        .silu = ft_silu_avx2,
        .rotate = ft_rotate_avx2,
        .add_scaled = ft_add_scaled_avx2,
    };
    use_float_products(k, ft_matmul_f32_avx2, ft_matmul_bf16_avx2, ft_matmul_f16_avx2);
    use_products(k, ft_matmul_bf16_bf16_avx2, ft_matmul_i8_avx2, ft_matmul_i4_avx2);
}

/* Without VNNI, whole numbers have nothing to gain from wider lanes. */
static void use_avx512(ft_kernels *k)
{
    *k = (ft_kernels){
        .prepare = {ft_prepare_f32, ft_prepare_bf16_avx512, ft_prepare_i8_avx512},
        .narrow = {ft_narrow_f32_scalar, ft_narrow_f16_avx512, ft_narrow_bf16_avx512},
        .page = {ft_page_f32_avx512, ft_page_f16_avx512, ft_page_bf16_avx512},
        .rms_norm = ft_rms_norm_avx512,
        .softmax = ft_softmax_avx512,
        .silu = ft_silu_avx512,
        .rotate = ft_rotate_avx512,
        .add_scaled = ft_add_scaled_avx512,
    };
    use_float_products(k, ft_matmul_f32_avx512, ft_matmul_bf16_avx512, ft_matmul_f16_avx512);
    use_products(k, ft_matmul_bf16_bf16_avx512, ft_matmul_i8_avx2, ft_matmul_i4_avx2);
}
#endif

void ft_kernels_init(ft_kernels *k, unsigned isa)
{
    (void)isa;
    use_scalar(k);
#if defined(__x86_64__)
    if (isa & FT_ISA_AVX2)
        use_avx2(k);
    if (isa & FT_ISA_AVX512)
        use_avx512(k);
    if (isa & FT_ISA_AVX512_DOT)
        use_products(k, ft_matmul_bf16_bf16_avx512dot, ft_matmul_i8_avx512dot, ft_matmul_i4_avx512dot);
    if (isa & FT_ISA_AMX) {
        use_products(k, ft_matmul_bf16_bf16_amx, ft_matmul_i8_avx512dot, ft_matmul_i4_avx512dot);
        k->gated = ft_gated_bf16_amx;
        k->scores[FT_KV_BF16] = ft_pages_scores_bf16_amx;
        k->mix[FT_KV_BF16] = ft_pages_mix_bf16_amx;
        k->dense = 32;
    }
#endif
}
