#define _GNU_SOURCE
#include "base/ft_cpu.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>

/* clang 14 does not know "f16c" as a feature name, so the bit is read directly. */
static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* The matrix unit's registers are saved only for processes that asked for them. */
static int has_amx(void)
{
#if defined(__linux__)
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, TILE_DATA = 18, ARCH_REQ_XCOMP_PERM = 0x1023 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_BF16) && (d & AMX_TILE) &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
#else
    return 0;
#endif
}
#endif

static unsigned machine_isa(void)
{
    unsigned isa = FT_ISA_SCALAR;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
        isa |= FT_ISA_AVX2;
    if ((isa & FT_ISA_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        isa |= FT_ISA_AVX512;
        if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16"))
            isa |= FT_ISA_AVX512_DOT;
        if ((isa & FT_ISA_AVX512_DOT) && has_amx())
            isa |= FT_ISA_AMX;
    }
#endif
    return isa;
}

unsigned ft_cpu_isa(void)
{
    const char *wish = getenv("FLEXTRACE_ISA");
    const unsigned isa = machine_isa();
    if (wish && !strcmp(wish, "scalar"))
        return FT_ISA_SCALAR;
    if (wish && !strcmp(wish, "avx2"))
        return isa & FT_ISA_AVX2;
    if (wish && !strcmp(wish, "avx512"))
        return isa & (FT_ISA_AVX2 | FT_ISA_AVX512);
    if (wish && !strcmp(wish, "avx512-dot"))
        return isa & ~(unsigned)FT_ISA_AMX;
    return isa;
}

const char *ft_cpu_family_name(unsigned isa)
{
    return isa & FT_ISA_AMX          ? "amx"
           : isa & FT_ISA_AVX512_DOT ? "avx512-dot"
           : isa & FT_ISA_AVX512   ? "avx512"
           : isa & FT_ISA_AVX2     ? "avx2"
                                   : "scalar";
}

unsigned ft_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    const int n = CPU_COUNT(&set);
    return n > 0 ? (unsigned)n : 1;
}
