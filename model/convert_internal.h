/* convert_internal: a conversion's plan (ft_convert_plan.c), and the work (ft_convert.c). */
#ifndef FT_CONVERT_INTERNAL_H
#define FT_CONVERT_INTERNAL_H
#include "base/ft_arena.h"
#include "model/ft_convert.h"
#include "model/ft_model.h"
#include "model/ft_quantize.h"
#include "model/ft_safetensors.h"
#include "model/ft_tensor_file.h"

/* One matrix, or one tensor that is copied: FT_WEIGHT_TYPES stands for "as bytes". */
typedef struct ft_convert_job {
    const ft_tensor *from, *from_scales; /* scales of a quantized source, else NULL */
    ft_weight_type type, to;
    size_t rows, cols;  /* copied: 1 row of all bytes */
    uint64_t from_at;   /* where it begins in `from`: an expert of a fused tensor */
    int expert;         /* -1: shared */
    int layer;          /* -1: of none */
    size_t spec, shard; /* its first tensor among those of its file; the file */
} ft_convert_job;

typedef struct ft_convert_shard {
    char *name;
    size_t first_job, jobs, first_spec, specs;
} ft_convert_shard;

typedef struct ft_convert_plan {
    const ft_weights *from;
    ft_arena *arena; /* names */
    ft_convert_job *jobs;
    size_t count, capacity;
    ft_tensor_spec *specs; /* of all shards, in order */
    size_t spec_count, spec_capacity;
    ft_convert_shard *shards;
    size_t shard_count, shard_capacity;
    int has_head; /* a tied head was given a tensor of its own */
} ft_convert_plan;

/* `config`: the source's, NULL for a lone file. `single`: one shard, called that. */
FT_CHECKED ft_code ft_convert_plan_make(ft_convert_plan *p, const ft_weights *from, const ft_convert_options *o,
                                        const ft_model_config *config, const char *single, ft_status *st);
void ft_convert_plan_release(ft_convert_plan *p);
ft_weight_type ft_convert_weight_type(ft_convert_type type);
const char *ft_convert_name(ft_convert_type type); /* "int4" … */

/* The type that safetensors' dtype names; FT_WEIGHT_TYPES for what is no weight. */
ft_weight_type ft_dtype_type(const char *dtype);

/* Hands a tensor's bytes to `each` piece by piece, read from its file; `each` may
 * stop it with a code. */
typedef ft_code ft_tensor_piece_fn(void *context, const void *bytes, size_t n, ft_status *st);
FT_CHECKED ft_code ft_tensor_stream(const ft_weights *w, const ft_tensor *t, ft_tensor_piece_fn *each, void *context,
                                    ft_status *st);

/* config.json and the small files beside it, the index: into `folder`. */
FT_CHECKED ft_code ft_convert_write_rest(const char *source, const char *folder, const ft_convert_plan *p,
                                         const ft_convert_options *o, const ft_convert_result *r, ft_status *st);
#endif
