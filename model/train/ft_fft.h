/* ft_fft: the discrete Fourier transform of a power of two of complex numbers, float64.
 * Source  Cooley and Tukey 1965; each twiddle factor is computed alone, so that the error
 *         stays near log2(n) roundings. */
#ifndef FT_FFT_H
#define FT_FFT_H
#include <stddef.h>

/* z [n][2]: real and imaginary parts, in place; n a power of two. twiddles [n] is the
 * caller's, filled by ft_fft_twiddles for this n. inverse: without the factor 1 / n. */
void ft_fft_twiddles(double *twiddles, size_t n);
void ft_fft(double *z, size_t n, const double *twiddles, int inverse);
#endif
