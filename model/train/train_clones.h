/* train_clones: element-wise loops of training compiled for wider vectors too, the best chosen
 * when the program is loaded. Nothing is fused or reordered (-ffp-contract=off), so that every
 * clone gives the same bits. Sums run in FT_LANES accumulators for the same reason. */
#ifndef FT_TRAIN_CLONES_H
#define FT_TRAIN_CLONES_H
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) &&                           \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FT_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define FT_CLONES
#endif
enum { FT_LANES = 16 };
#endif
