/* ft_safetensors: the named tensors of a checkpoint, mapped: one .safetensors file
 * or the shards that an index names.
 *
 * Layout    u64 length n (little-endian), n bytes of JSON {"name": {"dtype",
 *           "shape", "data_offsets": [begin, end]}, …}, then the data. The tensors
 *           must tile the data without a gap or an overlap.
 * Lifetime  views live until ft_weights_close.
 * Cost      opening reads the headers; of the data not one page is touched.
 * Threads   immutable once open.
 * Source    huggingface/safetensors, README "Format". */
#ifndef FT_SAFETENSORS_H
#define FT_SAFETENSORS_H
#include "base/ft_buffer.h"
#include "base/ft_digest.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

enum { FT_TENSOR_MAX_DIMS = 8 };

typedef struct ft_tensor {
    const char *name;
    const char *dtype; /* as the file writes it: "F32", "BF16", … */
    unsigned dims;
    size_t shape[FT_TENSOR_MAX_DIMS];
    const void *data; /* no alignment is promised */
    size_t bytes;
    size_t file;     /* number of the file it lies in */
    uint64_t offset; /* its place there */
    int used;        /* set by ft_weights_find */
} ft_tensor;

typedef struct ft_weights ft_weights;

/* Maps model.safetensors of the folder, or the shards of model.safetensors.index.json.
 *   FT_ERR_NOT_FOUND    neither is there, or a shard or a tensor that the index names is missing
 *   FT_ERR_FORMAT       a header that lies; names the file and the tensor */
FT_CHECKED ft_code ft_weights_open(ft_weights **out, const char *folder, ft_status *st);
/* One .safetensors file of any name. */
FT_CHECKED ft_code ft_weights_open_file(ft_weights **out, const char *path, ft_status *st);
void ft_weights_close(ft_weights *w);

/* Sorted by name, byte by byte. */
const ft_tensor *ft_weights_tensors(const ft_weights *w, size_t *count);
/* NULL where there is none. Marks the tensor as used. */
const ft_tensor *ft_weights_find(ft_weights *w, const char *name);
size_t ft_weights_files(const ft_weights *w);
const char *ft_weights_file(const ft_weights *w, size_t i, uint64_t *bytes); /* its path; bytes may be NULL */
/* What "__metadata__" of that file says under `key`, or NULL. */
const char *ft_weights_metadata(const ft_weights *w, size_t file, const char *key);

/* SHA-256 over one record a tensor, in byte order of the names: name, dtype and
 * shape as text, each ended by NUL, then the SHA-256 of its bytes. */
FT_CHECKED ft_code ft_weights_digest(const ft_weights *w, ft_digest *out, ft_status *st);
/* Appends one such record; `data` is the digest of the tensor's bytes. */
FT_CHECKED ft_code ft_tensor_record(ft_buffer *out, const char *name, const char *dtype, const size_t *shape,
                                    unsigned dims, const ft_digest *data, ft_status *st);
#endif
