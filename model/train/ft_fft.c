#include "model/train/ft_fft.h"

#include <math.h>

void ft_fft_twiddles(double *twiddles, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        twiddles[2 * i] = cos(2 * acos(-1) * (double)i / (double)n);
        twiddles[2 * i + 1] = -sin(2 * acos(-1) * (double)i / (double)n);
    }
}

static void swap(double *a, double *b)
{
    const double real = a[0], imaginary = a[1];
    a[0] = b[0];
    a[1] = b[1];
    b[0] = real;
    b[1] = imaginary;
}

static void reverse_bits(double *z, size_t n)
{
    for (size_t i = 1, j = 0; i < n; i++) {
        size_t bit = n >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j)
            swap(z + 2 * i, z + 2 * j);
    }
}

void ft_fft(double *z, size_t n, const double *twiddles, int inverse)
{
    const double sign = inverse ? -1 : 1;
    reverse_bits(z, n);
    for (size_t half = 1; half < n; half *= 2)
        for (size_t start = 0; start < n; start += 2 * half)
            for (size_t k = 0; k < half; k++) {
                const double *w = twiddles + 2 * k * (n / (2 * half));
                double *a = z + 2 * (start + k), *b = a + 2 * half;
                const double real = b[0] * w[0] - sign * b[1] * w[1];
                const double imaginary = sign * b[0] * w[1] + b[1] * w[0];
                b[0] = a[0] - real;
                b[1] = a[1] - imaginary;
                a[0] += real;
                a[1] += imaginary;
            }
}
