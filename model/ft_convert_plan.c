#include "base/ft_buffer.h"
#include "model/convert_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t shard_bytes = 1 << 30; /* a file is closed when it has grown so large */

ft_weight_type ft_convert_weight_type(ft_convert_type type)
{
    static const ft_weight_type types[] = {[FT_CONVERT_DEFAULT] = FT_WEIGHT_TYPES, [FT_CONVERT_FLOAT32] = FT_WEIGHT_F32,
                                           [FT_CONVERT_BFLOAT16] = FT_WEIGHT_BF16, [FT_CONVERT_FLOAT16] = FT_WEIGHT_F16,
                                           [FT_CONVERT_INT8] = FT_WEIGHT_I8,       [FT_CONVERT_INT4] = FT_WEIGHT_I4,
                                           [FT_CONVERT_KEEP] = FT_WEIGHT_TYPES};
    return types[type];
}

const char *ft_convert_name(ft_convert_type type)
{
    static const char *const names[] = {[FT_CONVERT_DEFAULT] = "default",   [FT_CONVERT_FLOAT32] = "float32",
                                        [FT_CONVERT_BFLOAT16] = "bfloat16", [FT_CONVERT_FLOAT16] = "float16",
                                        [FT_CONVERT_INT8] = "int8",         [FT_CONVERT_INT4] = "int4",
                                        [FT_CONVERT_KEEP] = "keep"};
    return names[type];
}

static const char *dtype_of(ft_weight_type type)
{
    return type == FT_WEIGHT_F32 ? "F32" : type == FT_WEIGHT_BF16 ? "BF16" : type == FT_WEIGHT_F16 ? "F16" : "U8";
}

ft_weight_type ft_dtype_type(const char *dtype)
{
    for (ft_weight_type t = FT_WEIGHT_F32; t <= FT_WEIGHT_F16; t++)
        if (!strcmp(dtype, dtype_of(t)))
            return t;
    return FT_WEIGHT_TYPES;
}

/* --- What a name says ---------------------------------------------------------------- */

typedef struct meaning {
    int layer, expert; /* -1: none */
    int matrix, head;  /* one that is quantized; the head */
    int fused;         /* 1: gate above up, 2: down; of all experts */
} meaning;

static int ends_with(const char *name, size_t n, const char *end)
{
    const size_t m = strlen(end);
    return n >= m && !memcmp(name + n - m, end, m);
}

/* `n` bytes of `name`: without ".weight" and the like. */
static meaning understand(const char *name, size_t n)
{
    static const char *const attention[] = {".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj",
                                            ".self_attn.o_proj"};
    static const char *const ffn[] = {".gate_proj", ".up_proj", ".down_proj"};
    meaning m = {.layer = -1, .expert = -1};
    int used = 0;
    m.head = n == 7 && !memcmp(name, "lm_head", 7);
    m.matrix = m.head;
    if (sscanf(name, "model.layers.%9d.%n", &m.layer, &used) != 1 || !used)
        return m;
    int expert, rest = 0;
    if (sscanf(name + used, "mlp.experts.%9d.%n", &expert, &rest) == 1 && rest)
        m.expert = expert;
    for (size_t i = 0; i < 4; i++)
        m.matrix = m.matrix || ends_with(name, n, attention[i]);
    for (size_t i = 0; i < 3; i++)
        m.matrix = m.matrix || (!strncmp(name + used, "mlp.", 4) && ends_with(name, n, ffn[i]));
    if (ends_with(name, n, ".mlp.experts.gate_up_proj"))
        m.fused = 1;
    if (ends_with(name, n, ".mlp.experts.down_proj"))
        m.fused = 2;
    return m;
}

/* --- Jobs ------------------------------------------------------------------------------ */

typedef struct planner {
    ft_convert_plan *p;
    const ft_model_config *config; /* NULL: of a lone file */
    const ft_convert_options *o;
    ft_status *st;
} planner;

static ft_code out_of_memory(ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "convert: out of memory");
}

/* name[0..n) and a suffix, in the plan's arena; NULL when memory is out. */
static char *name_with(ft_convert_plan *p, const char *name, size_t n, const char *suffix)
{
    const size_t more = strlen(suffix) + 1; /* with its end */
    char *full = ft_arena_array(p->arena, n + more, 1);
    if (full) {
        memcpy(full, name, n);
        memcpy(full + n, suffix, more);
    }
    return full;
}

static ft_code add_spec(planner *c, const char *name, size_t bytes_of_name, const char *suffix, const char *dtype,
                        const char *source, unsigned dims, const size_t *shape, uint64_t bytes)
{
    ft_convert_plan *p = c->p;
    ft_code rc = ft_array_grow((void **)&p->specs, &p->spec_capacity, p->spec_count + 1, sizeof(*p->specs), c->st);
    if (rc)
        return rc;
    char *full = name_with(p, name, bytes_of_name, suffix);
    if (!full)
        return out_of_memory(c->st);
    ft_tensor_spec *s = &p->specs[p->spec_count++];
    *s = (ft_tensor_spec){.name = full, .dtype = dtype, .source = source, .dims = dims, .bytes = bytes};
    memcpy(s->shape, shape, dims * sizeof(*shape));
    return FT_OK;
}

static ft_code add_job(planner *c, ft_convert_job job)
{
    ft_convert_plan *p = c->p;
    const ft_code rc = ft_array_grow((void **)&p->jobs, &p->capacity, p->count + 1, sizeof(*p->jobs), c->st);
    if (!rc) {
        job.spec = p->spec_count; /* its tensors come next */
        p->jobs[p->count++] = job;
    }
    return rc;
}

static ft_code add_copy(planner *c, const ft_tensor *t, meaning m)
{
    ft_code rc = add_job(c, (ft_convert_job){.from = t,
                                             .type = FT_WEIGHT_TYPES,
                                             .to = FT_WEIGHT_TYPES,
                                             .rows = 1,
                                             .cols = t->bytes,
                                             .layer = m.layer,
                                             .expert = m.expert});
    return rc ? rc : add_spec(c, t->name, strlen(t->name), "", t->dtype, t->name, t->dims, t->shape, t->bytes);
}

/* One matrix `name` (without suffix) into `job.to`. */
static ft_code add_matrix(planner *c, ft_convert_job job, const char *name, size_t n)
{
    ft_code rc = add_job(c, job);
    if (rc)
        return rc;
    /* An expert of a fused tensor, and a tied head, count as the tensor that they might have been. */
    char *source = name_with(c->p, name, n, job.from_scales ? ".qweight" : ".weight");
    if (!source)
        return out_of_memory(c->st);
    if (!ft_is_quantized(job.to))
        return add_spec(c, name, n, ".weight", dtype_of(job.to), source, 2, (size_t[]){job.rows, job.cols},
                        (uint64_t)job.rows * job.cols * (job.to == FT_WEIGHT_F32 ? 4 : 2));
    const size_t blocks = ft_quant_blocks(job.rows), groups = job.cols / FT_GROUP;
    rc = add_spec(c, name, n, ".qweight", "U8", source, 3, (size_t[]){blocks, groups, ft_quant_group_bytes(job.to)},
                  (uint64_t)blocks * ft_quant_block_bytes(job.to, job.cols));
    return rc ? rc
              : add_spec(c, name, n, ".scales", "F16", source, 3, (size_t[]){blocks, groups, FT_BLOCK_ROWS},
                         (uint64_t)blocks * ft_quant_scale_bytes(job.cols));
}

static ft_convert_type head_type(const ft_convert_options *o)
{
    if (o->head != FT_CONVERT_DEFAULT)
        return o->head;
    return o->to == FT_CONVERT_INT4 ? FT_CONVERT_INT8 : o->to;
}

/* What a matrix of this meaning becomes; FT_WEIGHT_TYPES: it stays. */
static ft_weight_type target(const planner *c, meaning m, size_t cols)
{
    const ft_weight_type t = ft_convert_weight_type(m.head ? head_type(c->o) : c->o->to);
    return ft_is_quantized(t) && (!m.matrix || cols % FT_GROUP) ? FT_WEIGHT_TYPES : t;
}

/* A fused tensor's experts, one after another: gate and up, or down. */
static ft_code add_fused(planner *c, const ft_tensor *t, meaning m)
{
    const ft_weight_type type = ft_dtype_type(t->dtype);
    if (t->dims != 3 || type == FT_WEIGHT_TYPES || (m.fused == 1 && t->shape[1] % 2))
        return ft_fail(c->st, FT_ERR_FORMAT, "tensor %.120s: not a float tensor of [experts, rows, columns]", t->name);
    const size_t parts = m.fused == 1 ? 2 : 1, rows = t->shape[1] / parts, cols = t->shape[2];
    const uint64_t bytes = (uint64_t)rows * cols * (type == FT_WEIGHT_F32 ? 4 : 2);
    ft_code rc = FT_OK;
    m.matrix = 1;
    for (size_t e = 0; e < t->shape[0] && !rc; e++)
        for (size_t i = 0; i < parts && !rc; i++) {
            char name[100];
            const ft_weight_type to = target(c, m, cols);
            const int n = snprintf(name, sizeof(name), "model.layers.%d.mlp.experts.%zu.%s", m.layer, e,
                                   m.fused == 2 ? "down_proj"
                                   : i          ? "up_proj"
                                                : "gate_proj");
            rc = add_matrix(c,
                            (ft_convert_job){.from = t,
                                             .type = type,
                                             .to = to == FT_WEIGHT_TYPES ? type : to,
                                             .rows = rows,
                                             .cols = cols,
                                             .from_at = (e * parts + i) * bytes,
                                             .layer = m.layer,
                                             .expert = (int)e},
                            name, (size_t)n);
        }
    return rc;
}

/* A float tensor that is not one of the matrices: only its type may change. */
static ft_code add_other(planner *c, const ft_tensor *t, meaning m)
{
    const ft_weight_type type = ft_dtype_type(t->dtype);
    size_t cols = t->dims ? t->shape[t->dims - 1] : 1, rows = 1;
    for (unsigned d = 0; d + 1 < t->dims; d++)
        rows *= t->shape[d];
    const ft_weight_type to = target(c, m, cols);
    if (type == FT_WEIGHT_TYPES || to == FT_WEIGHT_TYPES || to == type || !t->bytes)
        return add_copy(c, t, m);
    ft_code rc = add_job(
        c, (ft_convert_job){
               .from = t, .type = type, .to = to, .rows = rows, .cols = cols, .layer = m.layer, .expert = m.expert});
    return rc ? rc
              : add_spec(c, t->name, strlen(t->name), "", dtype_of(to), t->name, t->dims, t->shape,
                         (uint64_t)rows * cols * (to == FT_WEIGHT_F32 ? 4 : 2));
}

static const ft_tensor *find(const ft_weights *w, const char *name, size_t n, const char *suffix)
{
    char full[300];
    if (n + strlen(suffix) >= sizeof(full))
        return NULL;
    memcpy(full, name, n);
    memcpy(full + n, suffix, strlen(suffix) + 1);
    return ft_weights_find((ft_weights *)(uintptr_t)w, full);
}

/* Rows of a matrix: its packed blocks do not say how many of the last 16 there are. */
static size_t rows_of(const ft_model_config *c, const char *name, size_t n)
{
    if (ends_with(name, n, "lm_head"))
        return c->vocab;
    if (ends_with(name, n, "q_proj"))
        return c->heads * c->head_dim;
    if (ends_with(name, n, "k_proj") || ends_with(name, n, "v_proj"))
        return c->kv_heads * c->head_dim;
    return ends_with(name, n, "gate_proj") || ends_with(name, n, "up_proj") ? c->intermediate : c->hidden;
}

/* X.qweight with its X.scales. */
static ft_code add_quantized(planner *c, const ft_tensor *q, size_t n)
{
    const ft_tensor *scales = find(c->p->from, q->name, n, ".scales");
    const meaning m = understand(q->name, n);
    ft_weight_type type;
    if (!ft_quant_is_packed(q, scales, &type))
        return ft_fail(c->st, FT_ERR_FORMAT, "tensor %.120s: not packed as we pack, or without its scales", q->name);
    ft_convert_job job = {.from = q,
                          .from_scales = scales,
                          .type = type,
                          .cols = q->shape[1] * FT_GROUP,
                          .layer = m.layer,
                          .expert = m.expert};
    job.to = target(c, m, job.cols);
    if (m.head && c->o->head == FT_CONVERT_DEFAULT && ft_is_quantized(job.to))
        job.to = job.type; /* packed again it would only lose */
    if (job.to == FT_WEIGHT_TYPES || job.to == job.type) {
        const ft_code rc = add_copy(c, q, m);
        return rc ? rc : add_copy(c, scales, m);
    }
    if (!c->config)
        return ft_fail(c->st, FT_ERR_UNSUPPORTED,
                       "tensor %.120s: is quantized already; convert from the file that it was made from", q->name);
    job.rows = rows_of(c->config, q->name, n);
    if (ft_quant_blocks(job.rows) != q->shape[0])
        return ft_fail(c->st, FT_ERR_FORMAT, "tensor %.120s: has %zu blocks of rows; the config asks for %zu rows",
                       q->name, q->shape[0], job.rows);
    return add_matrix(c, job, q->name, n);
}

static ft_code add_tensor(planner *c, const ft_tensor *t)
{
    const size_t n = strlen(t->name);
    if (ends_with(t->name, n, ".qweight"))
        return add_quantized(c, t, n - 8);
    if (ends_with(t->name, n, ".scales") && find(c->p->from, t->name, n - 7, ".qweight"))
        return FT_OK; /* with its qweight */
    const size_t base = ends_with(t->name, n, ".weight") ? n - 7 : n;
    const meaning m = understand(t->name, base);
    if (m.fused)
        return add_fused(c, t, m);
    const ft_weight_type type = ft_dtype_type(t->dtype);
    if (!m.matrix || base == n || t->dims != 2 || type == FT_WEIGHT_TYPES)
        return add_other(c, t, m);
    const ft_weight_type to = target(c, m, t->shape[1]);
    if (to == FT_WEIGHT_TYPES || to == type || !t->bytes)
        return add_copy(c, t, m);
    return add_matrix(c,
                      (ft_convert_job){.from = t,
                                       .type = type,
                                       .to = to,
                                       .rows = t->shape[0],
                                       .cols = t->shape[1],
                                       .layer = m.layer,
                                       .expert = m.expert},
                      t->name, base);
}

/* The embedding once more, as a quantized head. */
static ft_code add_tied_head(planner *c)
{
    const ft_tensor *embed = find(c->p->from, "model.embed_tokens", 18, ".weight");
    const meaning m = {.layer = -1, .expert = -1, .matrix = 1, .head = 1};
    if (!embed || embed->dims != 2 || find(c->p->from, "lm_head", 7, ".weight") ||
        find(c->p->from, "lm_head", 7, ".qweight"))
        return FT_OK;
    const ft_weight_type to = target(c, m, embed->shape[1]), type = ft_dtype_type(embed->dtype);
    if (!ft_is_quantized(to) || type == FT_WEIGHT_TYPES)
        return FT_OK;
    c->p->has_head = 1;
    return add_matrix(c,
                      (ft_convert_job){.from = embed,
                                       .type = type,
                                       .to = to,
                                       .rows = embed->shape[0],
                                       .cols = embed->shape[1],
                                       .layer = -1,
                                       .expert = -1},
                      "lm_head", 7);
}

/* --- Files ------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const ft_convert_job *x = a, *y = b;
    if (x->expert != y->expert)
        return x->expert < y->expert ? -1 : 1;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return x->spec < y->spec ? -1 : x->spec > y->spec; /* by name */
}

static size_t specs_of(const ft_convert_job *j)
{
    return ft_is_quantized(j->to) ? 2 : 1;
}

static ft_code add_shard(planner *c, int expert, size_t number, const char *single)
{
    ft_convert_plan *p = c->p;
    ft_code rc = ft_array_grow((void **)&p->shards, &p->shard_capacity, p->shard_count + 1, sizeof(*p->shards), c->st);
    if (rc)
        return rc;
    char name[80];
    if (expert < 0)
        snprintf(name, sizeof(name), "model-shared-%zu.safetensors", number);
    else
        snprintf(name, sizeof(name), "model-expert%d-%zu.safetensors", expert, number);
    char *kept = single ? ft_arena_text(p->arena, single, strlen(single)) : ft_arena_text(p->arena, name, strlen(name));
    p->shards[p->shard_count++] = (ft_convert_shard){.name = kept};
    return kept ? FT_OK : out_of_memory(c->st);
}

/* Jobs, and their tensors, in the order of their files. */
static ft_code deal_out(planner *c, const char *single)
{
    ft_convert_plan *p = c->p;
    ft_tensor_spec *sorted = ft_alloc_array(p->spec_count, sizeof(*sorted));
    if (!sorted)
        return out_of_memory(c->st);
    if (p->count)
        qsort(p->jobs, p->count, sizeof(*p->jobs), by_place);
    ft_code rc = FT_OK;
    size_t at = 0, number = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < p->count && !rc; i++) {
        ft_convert_job *j = &p->jobs[i];
        const int other = i > 0 && j->expert != j[-1].expert && !single;
        if (i == 0 || other || (bytes >= shard_bytes && !single)) {
            number = other || i == 0 ? 1 : number + 1;
            bytes = 0;
            rc = add_shard(c, j->expert, number, single);
            if (rc)
                break;
            p->shards[p->shard_count - 1].first_job = i;
            p->shards[p->shard_count - 1].first_spec = at;
        }
        ft_convert_shard *s = &p->shards[p->shard_count - 1];
        for (size_t k = 0; k < specs_of(j); k++) {
            sorted[at + k] = p->specs[j->spec + k];
            bytes += sorted[at + k].bytes;
        }
        j->spec = at - s->first_spec;
        j->shard = p->shard_count - 1;
        at += specs_of(j);
        s->jobs++;
        s->specs += specs_of(j);
    }
    free(p->specs);
    p->specs = sorted;
    return rc;
}

ft_code ft_convert_plan_make(ft_convert_plan *p, const ft_weights *from, const ft_convert_options *o,
                             const ft_model_config *config, const char *single, ft_status *st)
{
    *p = (ft_convert_plan){.from = from};
    planner c = {.p = p, .config = config, .o = o, .st = st};
    size_t count;
    const ft_tensor *t = ft_weights_tensors(from, &count);
    ft_code rc = ft_arena_new(&p->arena, 0, st);
    for (size_t i = 0; i < count && !rc; i++)
        rc = add_tensor(&c, &t[i]);
    if (!rc && config && config->tie_word_embeddings)
        rc = add_tied_head(&c);
    if (!rc && !p->count)
        rc = ft_fail(st, FT_ERR_FORMAT, "convert: there are no tensors");
    return rc ? rc : deal_out(&c, single);
}

void ft_convert_plan_release(ft_convert_plan *p)
{
    free(p->jobs);
    free(p->specs);
    free(p->shards);
    ft_arena_free(p->arena);
    *p = (ft_convert_plan){0};
}
