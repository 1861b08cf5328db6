/* ft_convert: a checkpoint in another precision: int8 or int4 (ft_quantize.h), or
 * bfloat16, float16, float32.
 *
 * To int8 and int4 go the matrices of attention, experts and head; router, norms and
 * embedding stay as they are, and so does what has no whole groups. With int4 the head is
 * int8 unless asked for otherwise: no norm and no other layer stands behind its errors. A
 * tied head becomes one of its own. Fused experts are taken apart. Of a folder, shared tensors and each
 * expert go into files of their own, with an index: model-shared-1.safetensors,
 * model-expert3-1.safetensors; a lone .safetensors file (what an owner hands over) gives
 * one file. Each tensor is converted for itself: an expert alone gives the same bytes as
 * within the whole.
 *
 * Memory    `memory_bytes`, whatever the size of the checkpoint.
 * Restart   what was killed goes on when it is asked for again: the work stands in
 *           OUT.partial (OUT.part and OUT.journal of a file), which becomes OUT at the
 *           end. The same source and options give the same bytes. */
#ifndef FT_CONVERT_H
#define FT_CONVERT_H
#include "base/ft_digest.h"
#include "base/ft_progress.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef enum ft_convert_type {
    FT_CONVERT_DEFAULT, /* of the head: as the rest, but int8 beside int4 */
    FT_CONVERT_FLOAT32,
    FT_CONVERT_BFLOAT16,
    FT_CONVERT_FLOAT16,
    FT_CONVERT_INT8,
    FT_CONVERT_INT4,
    FT_CONVERT_KEEP, /* of the head: as it is */
} ft_convert_type;

typedef struct ft_convert_options {
    ft_convert_type to, head;
    size_t memory_bytes; /* 0: 512 MiB */
    unsigned threads;    /* 0: all processors */
    const ft_progress *progress;
} ft_convert_options;

typedef struct ft_convert_result {
    uint64_t source_bytes, bytes;
    size_t tensors, resumed;  /* tensors written; of them found finished */
    ft_digest source, result; /* as ft_model_digest gives them */
} ft_convert_result;

/* `out` must not be there, or be an empty folder.
 *   FT_ERR_FORMAT     the source is no whole checkpoint, or holds a value that does not fit (named)
 *   FT_ERR_LIMIT      the memory does not do (says what would)
 *   FT_ERR_CANCELLED  by progress; what is finished is kept */
FT_CHECKED ft_code ft_convert(const char *source, const char *out, const ft_convert_options *o, ft_convert_result *r,
                              ft_status *st);

/* --- Verification ------------------------------------------------------------------ */

typedef struct ft_verify_result {
    uint64_t bytes;
    size_t tensors, hashed;   /* hashed: those that the file's metadata has a digest of */
    size_t wrong, not_finite; /* tensors whose bytes do not have it; that hold NaN or infinity */
    char first_wrong[200], first_not_finite[200];
    ft_digest digest; /* ft_model_digest's */
    int index_agrees; /* with the digest of the whole in the index: 1, 0; -1: it has none */
} ft_verify_result;

/* Reads all of a checkpoint's folder, or of one .safetensors file. Findings are a
 * result, not a failure. */
FT_CHECKED ft_code ft_verify(const char *source, const ft_progress *progress, ft_verify_result *r, ft_status *st);

FT_API_END
#endif
