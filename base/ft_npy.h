/* ft_npy: NumPy's .npy files, versions 1.0 to 3.0, little-endian, C order.
 * Source: numpy/lib/format.py, "NPY format". */
#ifndef FT_NPY_H
#define FT_NPY_H
#include "base/ft_file.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

enum { FT_NPY_MAX_DIMS = 8 };

typedef enum ft_npy_type {
    FT_NPY_INT32,
    FT_NPY_UINT32,
    FT_NPY_INT64,
    FT_NPY_UINT64,
    FT_NPY_FLOAT32,
    FT_NPY_FLOAT64,
    FT_NPY_UINT8,
    FT_NPY_UINT16
} ft_npy_type;

typedef struct ft_npy {
    ft_npy_type type;
    unsigned dims;
    size_t shape[FT_NPY_MAX_DIMS];
    size_t count;     /* product of shape; 1 for a scalar */
    const void *data; /* view into the mapping, aligned to 16 bytes at least in files that NumPy wrote */
    ft_map map;
} ft_npy;

/* FT_ERR_FORMAT: not .npy, Fortran order, big-endian, another dtype, or a size
 * that contradicts the header. */
FT_CHECKED ft_code ft_npy_open(ft_npy *out, const char *path, ft_status *st);
void ft_npy_close(ft_npy *a);

/* Token ids from an int32 or uint32 array of one dimension, in memory that the
 * caller frees. Negative ids are FT_ERR_FORMAT, with their place. */
FT_CHECKED ft_code ft_npy_read_ids(const char *path, uint32_t **ids, size_t *count, ft_status *st);

/* Appears at `path` whole or not at all. */
FT_CHECKED ft_code ft_npy_write(const char *path, ft_npy_type type, unsigned dims, const size_t *shape,
                                const void *data, ft_status *st);

FT_API_END
#endif
