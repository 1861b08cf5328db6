/* ft_model: an immutable FlexOlmo or OLMo 2 checkpoint: config.json and mapped
 * safetensors, tensor names resolved once into typed pointers, shapes checked
 * strictly against the config.
 *
 * Units     a layer is 0 … layers-1; an expert is its number in the checkpoint
 *           (0 is public). A dense Olmo2ForCausalLM has experts 0.
 * Lifetime  close after the last session on it.
 * Threads   any number of sessions may share a model.
 * Source    Hugging Face transformers 5.23, modeling_flex_olmo.py and
 *           modeling_olmo2.py; Shi et al., "FlexOlmo", 2025 (arXiv 2507.07024). */
#ifndef FT_MODEL_H
#define FT_MODEL_H
#include "base/ft_digest.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef struct ft_model ft_model;

enum { FT_MAX_EXPERTS = 64, FT_MAX_TOP_K = 64 };

typedef enum ft_rope_type {
    FT_ROPE_DEFAULT,
    FT_ROPE_LINEAR,
    FT_ROPE_DYNAMIC,
    FT_ROPE_YARN,
    FT_ROPE_LLAMA3
} ft_rope_type;

typedef struct ft_rope_config {
    ft_rope_type type;
    double theta, factor, attention_factor;   /* attention_factor 0: derived from factor */
    double beta_fast, beta_slow;              /* yarn */
    double mscale, mscale_all_dim;            /* yarn; 0: absent */
    int truncate;                             /* yarn */
    double low_freq_factor, high_freq_factor; /* llama3 */
    size_t original_max_position;
} ft_rope_config;

typedef struct ft_model_config {
    char architecture[40]; /* "FlexOlmoForCausalLM" or "Olmo2ForCausalLM" */
    size_t hidden, intermediate, layers, heads, kv_heads, head_dim;
    size_t experts, top_k; /* 0, 0 for a dense model */
    size_t vocab, max_position;
    double rms_norm_eps;
    int norm_topk_prob, tie_word_embeddings;
    uint32_t end_of_text[8]; /* eos_token_id: one or a list */
    size_t end_of_text_count;
    uint32_t pad, bos; /* FT_NO_ID where absent */
    ft_rope_config rope;
} ft_model_config;
enum { FT_NO_ID = UINT32_MAX };

/* `folder` holds config.json and model.safetensors, or shards with an index.
 *   FT_ERR_NOT_FOUND    a file or tensor is missing (named)
 *   FT_ERR_FORMAT       a header that lies, or a shape that contradicts the config
 *   FT_ERR_UNSUPPORTED  an architecture or option that we do not compute; named */
FT_CHECKED ft_code ft_model_open(ft_model **out, const char *folder, ft_status *st);
/* The same for looking at: shapes are checked, nothing of the weights is read. No
 * session may be opened on such a model. */
FT_CHECKED ft_code ft_model_inspect(ft_model **out, const char *folder, ft_status *st);
void ft_model_close(ft_model *m);
const ft_model_config *ft_model_get_config(const ft_model *m);
const char *ft_model_folder(const ft_model *m);

/* config.json alone. */
FT_CHECKED ft_code ft_model_config_read(ft_model_config *out, const char *folder, ft_status *st);

typedef struct ft_model_sizes {
    uint64_t parameters, active_parameters; /* active: less the experts that a token does not choose */
    uint64_t weight_bytes;                  /* as stored */
    uint64_t kv_bytes_per_token;            /* as this build caches them */
    const char *weight_type; /* "float32", "bfloat16", "float16", "int8", "int4" (attention and experts) or "mixed" */
} ft_model_sizes;
ft_model_sizes ft_model_get_sizes(const ft_model *m);
/* 1 where routers have the extension mlp.gate.expert_bias [experts - 1]: min(b, 0) is added to the logits
 * of experts 1 and up. Programs that do not know it compute another model. */
int ft_model_has_expert_bias(const ft_model *m);

/* The files it is mapped from, and the tensors in them that no part of the
 * architecture asks for (buffers such as rotary_emb.inv_freq apart). */
size_t ft_model_file_count(const ft_model *m);
const char *ft_model_file(const ft_model *m, size_t i, uint64_t *bytes);
size_t ft_model_unexpected_count(const ft_model *m);
const char *ft_model_unexpected(const ft_model *m, size_t i); /* NULL from the count on */

/* Experts are mapped apart: the whole pages inside an expert's tensors are mappings
 * of their own, without readahead, and nothing touches those of an expert that takes
 * no part. Where one does, this has the system read them, all at once: call it before
 * the weights are used. Threads: any; after the first call for an expert it costs one load. */
void ft_model_expert_want(const ft_model *m, size_t layer, size_t expert);
/* For measuring: the i-th stretch of whole pages of an expert's tensors in a layer:
 * its bytes and where it begins; 0 from the last one on. */
size_t ft_model_expert_pages(const ft_model *m, size_t layer, size_t expert, size_t i, const void **at);

/* SHA-256 over every tensor's name, dtype, shape and the SHA-256 of its bytes, in
 * byte order of the names: the same for one file or many shards. Reads all weights. */
FT_CHECKED ft_code ft_model_digest(const ft_model *m, ft_digest *out, ft_status *st);

FT_API_END
#endif
