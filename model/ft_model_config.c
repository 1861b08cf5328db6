/* config.json and generation_config.json: what they say, what transformers puts
 * where they are silent, and a refusal of what we do not compute. */
#include "model/ft_model.h"

#include "base/ft_file.h"
#include "base/ft_json.h"
#include "model/ft_quantize.h"

#include <stdlib.h>
#include <string.h>

enum { CONFIG_MAX_BYTES = 1 << 20 };

/* Defaults of FlexOlmoConfig and Olmo2Config in transformers 5.23. */
typedef struct family {
    const char *architecture, *model_type;
    int64_t vocab, max_position, pad, end_of_text;
    double eps, theta;
    int sparse;
} family;
static const family families[] = {
    {"FlexOlmoForCausalLM", "flex_olmo", 100352, 4096, 100277, 100257, 1e-6, 500000, 1},
    {"Olmo2ForCausalLM", "olmo2", 50304, 2048, 1, 50279, 1e-5, 10000, 0},
};
enum { FAMILIES = sizeof(families) / sizeof(families[0]) };

static int is_null(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return !v || json_is_null(v);
}

/* "key is VALUE, which …" with the value as JSON. */
static ft_code unsupported(const json_t *object, const char *key, const char *only, ft_status *st)
{
    char *value = json_dumps(json_object_get(object, key), JSON_COMPACT | JSON_ENCODE_ANY);
    const ft_code rc =
        ft_fail(st, FT_ERR_UNSUPPORTED, "'%s' is %.80s; supported: %s", key, value ? value : "something else", only);
    free(value);
    return rc;
}

/* Keys that change the computation. Absent, null, false, or one of these values. */
static ft_code refuse_what_we_do_not_compute(const json_t *c, ft_status *st)
{
    static const char *const off[] = {"attention_bias",          "mlp_bias",
                                      "sliding_window",          "clip_qkv",
                                      "quantization_config",     "attn_logit_softcapping",
                                      "final_logit_softcapping", "per_layer_config",
                                      "is_encoder_decoder"};
    for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++)
        if (!is_null(c, off[i]) && !json_is_false(json_object_get(c, off[i])))
            return unsupported(c, off[i], "none", st);
    const char *act = json_string_value(json_object_get(c, "hidden_act"));
    if (!is_null(c, "hidden_act") && (!act || (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)))
        return unsupported(c, "hidden_act", "\"silu\"", st);
    const json_t *rotary = json_object_get(c, "partial_rotary_factor");
    if (!is_null(c, "partial_rotary_factor") && json_number_value(rotary) != 1.0)
        return unsupported(c, "partial_rotary_factor", "1.0", st);
    if (is_null(c, "layer_types"))
        return FT_OK;
    const json_t *types = json_object_get(c, "layer_types");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (!type || strcmp(type, "full_attention") != 0)
            return unsupported(c, "layer_types", "\"full_attention\" in every layer", st);
    }
    return FT_OK;
}

/* What `model convert` wrote about its layout. The tensors say for themselves what they
 * are; this is where a later layout would be told from the one that we read. */
static ft_code check_quantization(const json_t *c, ft_status *st)
{
    const json_t *q = json_object_get(c, "flextrace_quantization");
    int64_t version = 0, group = 0;
    if (!q)
        return FT_OK;
    if (!json_is_object(q))
        return ft_fail(st, FT_ERR_FORMAT, "'flextrace_quantization' must be an object");
    ft_code rc = ft_json_get_int(q, "version", 1, INT32_MAX, &version, st);
    if (!rc)
        rc = ft_json_get_int(q, "group", 1, INT32_MAX, &group, st);
    if (!rc && (version != 1 || group != FT_GROUP))
        rc = unsupported(c, "flextrace_quantization", "version 1, group 32", st);
    return rc;
}

static ft_code find_family(const json_t *c, const family **out, ft_status *st)
{
    *out = NULL;
    const char *type = json_string_value(json_object_get(c, "model_type"));
    const json_t *list = json_object_get(c, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    if (!name && !type)
        return ft_fail(st, FT_ERR_FORMAT, "neither 'architectures' nor 'model_type' says what model this is");
    for (size_t i = 0; i < FAMILIES; i++)
        if ((!name || !strcmp(name, families[i].architecture)) && (!type || !strcmp(type, families[i].model_type)))
            *out = &families[i];
    if (!*out)
        return ft_fail(st, FT_ERR_UNSUPPORTED,
                       "architecture '%.60s' (model_type '%.60s') is not supported; supported: FlexOlmoForCausalLM, "
                       "Olmo2ForCausalLM",
                       name ? name : "", type ? type : "");
    return FT_OK;
}

/* An integer that must be from 1 to `high`; `value` holds the default (0: none). */
static ft_code read_size(const json_t *c, const char *key, int64_t value, int64_t high, size_t *out, ft_status *st)
{
    const ft_code rc = ft_json_get_int(c, key, 1, high, &value, st);
    if (!rc && value == 0)
        return ft_fail(st, FT_ERR_FORMAT, "'%s' is missing", key);
    *out = (size_t)value;
    return rc;
}

static ft_code read_sizes(ft_model_config *out, const json_t *c, const family *f, ft_status *st)
{
    /* Far above every model there is, far below where a product of two overflows. */
    const int64_t wide = 1 << 24, few = 1 << 12;
    ft_code rc = read_size(c, "vocab_size", f->vocab, wide, &out->vocab, st);
    if (!rc)
        rc = read_size(c, "hidden_size", 4096, wide, &out->hidden, st);
    if (!rc)
        rc = read_size(c, "intermediate_size", 11008, wide, &out->intermediate, st);
    if (!rc)
        rc = read_size(c, "num_hidden_layers", 32, few, &out->layers, st);
    if (!rc)
        rc = read_size(c, "num_attention_heads", 32, few, &out->heads, st);
    if (!rc)
        rc = read_size(c, "num_key_value_heads", (int64_t)out->heads, few, &out->kv_heads, st);
    if (!rc)
        rc = read_size(c, "max_position_embeddings", f->max_position, 1 << 30, &out->max_position, st);
    if (!rc)
        rc = read_size(c, "head_dim", (int64_t)(out->hidden / out->heads), 1 << 14, &out->head_dim, st);
    if (!rc && out->heads % out->kv_heads)
        rc = ft_fail(st, FT_ERR_FORMAT, "'num_attention_heads' (%zu) is not a multiple of 'num_key_value_heads' (%zu)",
                     out->heads, out->kv_heads);
    if (!rc && out->head_dim % 2)
        rc = ft_fail(st, FT_ERR_FORMAT, "'head_dim' is %zu; rotary positions need an even one", out->head_dim);
    if (rc || !f->sparse)
        return rc;
    int64_t experts = 7;
    rc = ft_json_get_int(c, "num_local_experts", 1, 1 << 20, &experts, st);
    if (!rc)
        rc = ft_json_get_int(c, "num_experts", 1, 1 << 20, &experts, st);
    if (!rc && experts > FT_MAX_EXPERTS)
        rc = ft_fail(st, FT_ERR_UNSUPPORTED, "'num_experts' is %d; this build computes up to %d", (int)experts,
                     FT_MAX_EXPERTS);
    out->experts = (size_t)experts;
    if (!rc)
        rc = read_size(c, "num_experts_per_tok", 5, experts, &out->top_k, st);
    if (!rc && out->top_k > out->experts) /* the default is not checked against the range */
        rc = ft_fail(st, FT_ERR_FORMAT, "'num_experts_per_tok' is missing; its default, %zu, is more than %zu experts",
                     out->top_k, out->experts);
    return rc;
}

/* --- Rotary positions ------------------------------------------------------- */

static ft_code rope_type(ft_rope_config *r, const json_t *p, ft_status *st)
{
    static const char *const names[] = {[FT_ROPE_DEFAULT] = "default",
                                        [FT_ROPE_LINEAR] = "linear",
                                        [FT_ROPE_DYNAMIC] = "dynamic",
                                        [FT_ROPE_YARN] = "yarn",
                                        [FT_ROPE_LLAMA3] = "llama3"};
    const char *name = "default";
    ft_code rc = ft_json_get_string(p, "type", &name, st);
    if (!rc)
        rc = ft_json_get_string(p, "rope_type", &name, st);
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(name, names[i])) {
            r->type = (ft_rope_type)i;
            return FT_OK;
        }
    return ft_fail(st, FT_ERR_UNSUPPORTED,
                   "'rope_type' is \"%.40s\"; supported: default, linear, dynamic, yarn, llama3", name);
}

/* The fields that belong to the type; the ranges keep logarithms and quotients finite. */
static ft_code rope_fields(ft_rope_config *r, const json_t *p, size_t max_position, ft_status *st)
{
    int64_t original = (int64_t)r->original_max_position;
    ft_code rc = ft_json_get_int(p, "original_max_position_embeddings", 1, 1 << 30, &original, st);
    /* Where it stands beside the rope parameters it has precedence, as in transformers. */
    if (!rc && !r->original_max_position)
        r->original_max_position = original ? (size_t)original : max_position;
    if (!rc)
        rc = ft_json_get_number(p, "factor", 1e-3, 1e6, &r->factor, st);
    if (!rc)
        rc = ft_json_get_number(p, "attention_factor", 1e-6, 1e6, &r->attention_factor, st);
    if (!rc)
        rc = ft_json_get_number(p, "beta_fast", 0, 1e9, &r->beta_fast, st);
    if (!rc)
        rc = ft_json_get_number(p, "beta_slow", 0, 1e9, &r->beta_slow, st);
    if (!rc)
        rc = ft_json_get_number(p, "mscale", 0, 1e6, &r->mscale, st);
    if (!rc)
        rc = ft_json_get_number(p, "mscale_all_dim", 0, 1e6, &r->mscale_all_dim, st);
    if (!rc)
        rc = ft_json_get_bool(p, "truncate", &r->truncate, st);
    if (!rc)
        rc = ft_json_get_number(p, "low_freq_factor", 1e-6, 1e6, &r->low_freq_factor, st);
    if (!rc)
        rc = ft_json_get_number(p, "high_freq_factor", 1e-6, 1e6, &r->high_freq_factor, st);
    if (rc)
        return rc;
    r->beta_fast = r->beta_fast > 0 ? r->beta_fast : 32; /* 0 means absent, as in transformers */
    r->beta_slow = r->beta_slow > 0 ? r->beta_slow : 1;
    if (r->type == FT_ROPE_YARN && json_is_null(json_object_get(p, "factor")))
        r->factor = (double)max_position / (double)r->original_max_position;
    if (r->type != FT_ROPE_DEFAULT && r->factor == 0)
        return ft_fail(st, FT_ERR_FORMAT, "rope parameters: 'factor' is missing");
    if (r->type == FT_ROPE_LLAMA3 && !(r->low_freq_factor > 0 && r->high_freq_factor > r->low_freq_factor))
        return ft_fail(st, FT_ERR_FORMAT,
                       "rope parameters: 'high_freq_factor' (%g) must be above 'low_freq_factor' (%g)",
                       r->high_freq_factor, r->low_freq_factor);
    return FT_OK;
}

static ft_code read_rope(ft_model_config *out, const json_t *c, const family *f, ft_status *st)
{
    ft_rope_config *r = &out->rope;
    *r = (ft_rope_config){.theta = f->theta, .truncate = 1};
    /* "rope_scaling or rope_parameters": the older spelling wins where it says something. */
    const json_t *p = json_object_get(c, "rope_scaling");
    if (!json_object_size(p) && (!p || json_is_null(p) || json_is_object(p)))
        p = json_object_get(c, "rope_parameters");
    if (p && !json_is_null(p) && !json_is_object(p))
        return ft_fail(st, FT_ERR_FORMAT, "rope parameters must be an object");
    const int named = json_object_get(p, "full_attention") || json_object_get(p, "sliding_attention");
    if (named)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "'rope_parameters' differ by layer; supported: one set for all layers");
    const double above_one = 1.0000001; /* YaRN divides by its logarithm */
    ft_code rc = ft_json_get_number(c, "rope_theta", above_one, 1e15, &r->theta, st);
    if (!rc)
        rc = ft_json_get_number(p, "rope_theta", above_one, 1e15, &r->theta, st);
    if (!rc)
        rc = rope_type(r, p, st);
    double rotary = 1;
    if (!rc)
        rc = ft_json_get_number(p, "partial_rotary_factor", 0, 1e9, &rotary, st);
    if (!rc && rotary != 1)
        rc = unsupported(p, "partial_rotary_factor", "1.0", st);
    int64_t original = 0;
    if (!rc)
        rc = ft_json_get_int(c, "original_max_position_embeddings", 1, 1 << 30, &original, st);
    r->original_max_position = (size_t)original;
    return rc ? rc : rope_fields(r, p, out->max_position, st);
}

/* --- Special tokens ---------------------------------------------------------- */

static ft_code read_token(const json_t *c, const char *key, int64_t value, uint32_t *out, ft_status *st)
{
    const json_t *v = json_object_get(c, key);
    if (json_is_null(v))
        value = -1;
    const ft_code rc = ft_json_get_int(c, key, -1, UINT32_MAX - 1, &value, st); /* some configs write -1 for none */
    *out = value < 0 ? FT_NO_ID : (uint32_t)value;
    return rc;
}

/* eos_token_id: absent leaves what there was, null empties it. */
static ft_code read_end_of_text(ft_model_config *out, const json_t *c, ft_status *st)
{
    const json_t *v = json_object_get(c, "eos_token_id");
    if (!v)
        return FT_OK;
    out->end_of_text_count = 0;
    const size_t limit = sizeof(out->end_of_text) / sizeof(out->end_of_text[0]);
    const size_t n = json_is_array(v) ? json_array_size(v) : !json_is_null(v);
    if (n > limit)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "'eos_token_id' lists %zu tokens; supported: up to %zu", n, limit);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_integer(id) || json_integer_value(id) < -1 || json_integer_value(id) >= UINT32_MAX)
            return ft_fail(st, FT_ERR_FORMAT, "'eos_token_id' must be a token id or a list of them");
        if (json_integer_value(id) >= 0)
            out->end_of_text[out->end_of_text_count++] = (uint32_t)json_integer_value(id);
    }
    return FT_OK;
}

/* generation_config.json, where there is one, has the last word on what ends a text. */
static ft_code read_generation_config(ft_model_config *out, const char *folder, ft_status *st)
{
    char *path = ft_path_join(folder, "generation_config.json");
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    json_t *c = NULL;
    ft_code rc = FT_OK;
    if (ft_path_exists(path)) {
        rc = ft_json_read_file(&c, path, CONFIG_MAX_BYTES, st);
        if (!rc && !json_is_object(c))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: must be a JSON object", path);
        else if (!rc && !is_null(c, "eos_token_id") && (rc = read_end_of_text(out, c, st)))
            ft_status_prefix(st, "%s", path);
    }
    json_decref(c);
    free(path);
    return rc;
}

static ft_code read_config(ft_model_config *out, const json_t *c, ft_status *st)
{
    if (!json_is_object(c))
        return ft_fail(st, FT_ERR_FORMAT, "must be a JSON object");
    const family *f;
    ft_code rc = find_family(c, &f, st);
    if (!rc)
        rc = refuse_what_we_do_not_compute(c, st);
    if (!rc)
        rc = check_quantization(c, st);
    if (!rc)
        rc = read_sizes(out, c, f, st);
    if (!rc)
        rc = read_rope(out, c, f, st);
    if (rc)
        return rc;
    memcpy(out->architecture, f->architecture, strlen(f->architecture) + 1);
    out->rms_norm_eps = f->eps;
    rc = ft_json_get_number(c, "rms_norm_eps", 0, 1, &out->rms_norm_eps, st);
    if (!rc && f->sparse)
        rc = ft_json_get_bool(c, "norm_topk_prob", &out->norm_topk_prob, st);
    if (!rc)
        rc = ft_json_get_bool(c, "tie_word_embeddings", &out->tie_word_embeddings, st);
    if (!rc)
        rc = read_token(c, "pad_token_id", f->pad, &out->pad, st);
    if (!rc)
        rc = read_token(c, "bos_token_id", -1, &out->bos, st);
    out->end_of_text[0] = (uint32_t)f->end_of_text;
    out->end_of_text_count = 1;
    return rc ? rc : read_end_of_text(out, c, st);
}

ft_code ft_model_config_read(ft_model_config *out, const char *folder, ft_status *st)
{
    *out = (ft_model_config){0};
    ft_status own = {0};
    if (!st)
        st = &own;
    char *path = ft_path_join(folder, "config.json");
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    json_t *c = NULL;
    ft_code rc = ft_json_read_file(&c, path, CONFIG_MAX_BYTES, st);
    if (!rc && (rc = read_config(out, c, st)))
        ft_status_prefix(st, "%s", path);
    if (!rc)
        rc = read_generation_config(out, folder, st);
    if (rc == FT_ERR_ARG) { /* a field of the wrong type or range: the file's fault, not the caller's */
        rc = FT_ERR_FORMAT;
        if (st)
            st->code = rc;
    }
    json_decref(c);
    free(path);
    return rc;
}
