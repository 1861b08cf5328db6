#include "model/kernels/ft_kernels.h"

#include "base/ft_cpu.h"

void ft_kernels_init(ft_kernels *k, unsigned isa)
{
    *k = (ft_kernels){.matmul = {ft_matmul_f32_scalar, ft_matmul_bf16_scalar, ft_matmul_f16_scalar},
                      .rms_norm = ft_rms_norm_scalar,
                      .softmax = ft_softmax_scalar,
                      .silu = ft_silu_scalar,
                      .mix = ft_mix_scalar};
    (void)isa;
#if defined(__x86_64__)
    if (isa & FT_ISA_AVX2)
        *k = (ft_kernels){.matmul = {ft_matmul_f32_avx2, ft_matmul_bf16_avx2, ft_matmul_f16_avx2},
                          .rms_norm = ft_rms_norm_avx2,
                          .softmax = ft_softmax_avx2,
                          .silu = ft_silu_avx2,
                          .mix = ft_mix_avx2};
    if (isa & FT_ISA_AVX512)
        *k = (ft_kernels){.matmul = {ft_matmul_f32_avx512, ft_matmul_bf16_avx512, ft_matmul_f16_avx512},
                          .rms_norm = ft_rms_norm_avx512,
                          .softmax = ft_softmax_avx512,
                          .silu = ft_silu_avx512,
                          .mix = ft_mix_avx512};
#endif
}
