/* ft_cpu: what the processor that runs us can do. Kernels are chosen with it
 * once, when a handle is opened. */
#ifndef FT_CPU_H
#define FT_CPU_H
#include "base/ft_status.h"

FT_API_BEGIN

enum {
    FT_ISA_SCALAR = 0,
    FT_ISA_AVX2 = 1 << 0,      /* with FMA and F16C */
    FT_ISA_AVX512 = 1 << 1,    /* with AVX2: F, BW, DQ, VL */
    FT_ISA_AVX512_DOT = 1 << 2, /* with AVX512: both VNNI and BF16, dot products of bytes and of bfloat16 */
    FT_ISA_AMX = 1 << 3         /* with AVX512_DOT: the matrix unit's bfloat16, and the system's leave to use it */
};

/* The set of FT_ISA_ flags of this machine, less those that the environment
 * variable FLEXTRACE_ISA (scalar, avx2, avx512, avx512-dot) rules out. The variable exists
 * so that a replay can use the family of kernels that a receipt names. */
unsigned ft_cpu_isa(void);

/* Name of the widest family in `isa`: "scalar", "avx2", "avx512", "avx512-dot" or "amx". */
const char *ft_cpu_family_name(unsigned isa);

/* Processors this process may run on, at least 1. */
unsigned ft_cpu_count(void);

FT_API_END
#endif
