#include "model/kernels/ft_kernels.h"

#include "base/ft_cpu.h"

static void use_scalar(ft_kernels *k)
{
    *k = (ft_kernels){
        .matmul = {{ft_matmul_f32_scalar, ft_matmul_bf16_scalar, ft_matmul_f16_scalar, ft_matmul_i8_scalar,
                    ft_matmul_i4_scalar},
                   {ft_matmul_f32_scalar, ft_matmul_bf16_bf16_scalar, ft_matmul_f16_scalar, ft_matmul_i8_scalar,
                    ft_matmul_i4_scalar}},
        .prepare = {ft_prepare_f32, ft_prepare_bf16_scalar, ft_prepare_i8_scalar},
        .narrow = {ft_narrow_f32_scalar, ft_narrow_f16_scalar, ft_narrow_bf16_scalar},
        .page = {ft_page_f32_scalar, ft_page_f16_scalar, ft_page_bf16_scalar},
        .rms_norm = ft_rms_norm_scalar,
        .softmax = ft_softmax_scalar,
        .silu = ft_silu_scalar,
        .rotate = ft_rotate_scalar,
        .add_scaled = ft_add_scaled_scalar,
    };
}

#if defined(__x86_64__)
static void use_avx2(ft_kernels *k)
{
    *k = (ft_kernels){
        .matmul = {{ft_matmul_f32_avx2, ft_matmul_bf16_avx2, ft_matmul_f16_avx2, ft_matmul_i8_scalar,
                    ft_matmul_i4_scalar},
                   {ft_matmul_f32_avx2, ft_matmul_bf16_bf16_avx2, ft_matmul_f16_avx2, ft_matmul_i8_scalar,
                    ft_matmul_i4_scalar}},
        .prepare = {ft_prepare_f32, ft_prepare_bf16_scalar, ft_prepare_i8_scalar},
        .narrow = {ft_narrow_f32_scalar, ft_narrow_f16_scalar, ft_narrow_bf16_scalar},
        .page = {ft_page_f32_avx2, ft_page_f16_avx2, ft_page_bf16_avx2},
        .rms_norm = ft_rms_norm_avx2,
        .softmax = ft_softmax_avx2,
        .silu = ft_silu_avx2,
        .rotate = ft_rotate_avx2,
        .add_scaled = ft_add_scaled_avx2,
    };
}

static void use_avx512(ft_kernels *k)
{
    *k = (ft_kernels){
        .matmul = {{ft_matmul_f32_avx512, ft_matmul_bf16_avx512, ft_matmul_f16_avx512, ft_matmul_i8_scalar,
                    ft_matmul_i4_scalar},
                   {ft_matmul_f32_avx512, ft_matmul_bf16_bf16_avx512, ft_matmul_f16_avx512, ft_matmul_i8_scalar,
                    ft_matmul_i4_scalar}},
        .prepare = {ft_prepare_f32, ft_prepare_bf16_scalar, ft_prepare_i8_scalar},
        .narrow = {ft_narrow_f32_scalar, ft_narrow_f16_scalar, ft_narrow_bf16_scalar},
        .page = {ft_page_f32_avx512, ft_page_f16_avx512, ft_page_bf16_avx512},
        .rms_norm = ft_rms_norm_avx512,
        .softmax = ft_softmax_avx512,
        .silu = ft_silu_avx512,
        .rotate = ft_rotate_avx512,
        .add_scaled = ft_add_scaled_avx512,
    };
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
#endif
}
