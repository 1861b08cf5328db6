/* ft_make_model: a checkpoint of some shape with random weights, written straight into
 * its precision, for benchmarks. What it holds follows from shape, type and --seed alone.
 *
 *   ft_make_model --shape bench|flexolmo-7x7b|bar-5x7b|CONFIG.json --type bf16|int8|int4
 *                 [--seed N] [--threads N] [--holes] OUT
 *
 * --holes writes headers alone, the weights are holes of the files: for what looks at a
 * checkpoint without reading it (`time flextrace model info OUT`).
 *
 * Weights are about normal with a deviation of 0.02 (of int8 and int4: their values and
 * scales are drawn, not rounded), norms are 1. Files are those of `model convert`: what
 * is shared and each expert apart, with an index. */
#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_random.h"
#include "base/ft_threads.h"
#include "model/ft_model.h"
#include "model/ft_model_needs.h"
#include "model/ft_quantize.h"
#include "model/kernels/ft_float.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { PIECE = 4 << 20, TABLE = 65536 };

/* Two bytes of random bits to one element (bf16, f16) or byte (int8, int4). */
typedef struct tables {
    uint16_t bf16[TABLE], scales[TABLE];
    uint8_t int8[TABLE], int4[TABLE];
} tables;

typedef struct entry {
    char name[120];
    const char *dtype;
    size_t shape[3];
    unsigned dims;
    uint64_t bytes;
    enum { NORMAL, ONE, INT8, INT4, SCALES } kind;
} entry;

typedef struct shard { /* 0: shared; e + 1: expert e */
    entry *entries;
    size_t count, capacity;
    char name[80];
    ft_status st;
} shard;

typedef struct maker {
    ft_model_config c;
    ft_weight_type type;
    const char *out;
    uint64_t seed;
    int holes;
    tables *t;
    shard *shards;
    size_t shard_count;
} maker;

static int die(const char *what)
{
    fprintf(stderr, "ft_make_model: %s\n", what);
    exit(2);
}

static void need(ft_code rc, const ft_status *st)
{
    if (rc)
        die(st->msg);
}

/* --- Numbers ------------------------------------------------------------------------- */

/* The p-quantile of the normal distribution, by bisection of erfc. */
static double quantile(double p)
{
    double low = -9, high = 9;
    for (int i = 0; i < 60; i++) {
        const double middle = (low + high) / 2;
        if (0.5 * erfc(-middle / sqrt(2)) < p)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

/* int8: the largest of 32 normal values, some 2.1 deviations, is 127 steps; int4: 8. */
static void fill_tables(tables *t)
{
    int nibble[256];
    for (int i = 0; i < 256; i++) {
        const double q = rint(quantile((i + 0.5) / 256) * 8 / 2.1);
        nibble[i] = (int)(q < -8 ? -8 : q > 7 ? 7 : q) + 8;
    }
    for (int i = 0; i < TABLE; i++) {
        const double z = quantile((i + 0.5) / TABLE), q = rint(z * 127 / 2.1);
        const float scale = (float)(0.02 * 2.1 / 8 * (0.8 + 0.4 * i / TABLE));
        t->bf16[i] = ft_bf16_of((float)(0.02 * z));
        t->int8[i] = (uint8_t)((int)(q < -127 ? -127 : q > 127 ? 127 : q) + 128);
        t->int4[i] = (uint8_t)(nibble[i & 255] | nibble[i >> 8] << 4);
        t->scales[i] = ft_f16_of(scale);
    }
}

static void fill(const tables *t, const entry *e, int eight, ft_random *r, void *out, size_t n)
{
    uint8_t *bytes = out;
    uint16_t *pairs = out;
    const size_t count = e->kind == INT8 || e->kind == INT4 ? n : n / 2;
    for (size_t i = 0; i < count; i += 4) {
        const uint64_t bits = ft_random_u64(r);
        for (size_t k = 0; k < 4 && i + k < count; k++) {
            const uint16_t at = (uint16_t)(bits >> 16 * k);
            switch (e->kind) {
            case INT8:
                bytes[i + k] = t->int8[at];
                break;
            case INT4:
                bytes[i + k] = t->int4[at];
                break;
            case SCALES: /* of 127 steps: a sixteenth */
                pairs[i + k] = eight ? (uint16_t)(t->scales[at] - (4 << 10)) : t->scales[at];
                break;
            case ONE:
                pairs[i + k] = 0x3f80;
                break;
            default:
                pairs[i + k] = t->bf16[at];
            }
        }
    }
}

/* --- Tensors ---------------------------------------------------------------------------- */

static entry *add_entry(shard *s, const char *name, const char *suffix)
{
    ft_status st = {0};
    need(ft_array_grow((void **)&s->entries, &s->capacity, s->count + 1, sizeof(*s->entries), &st), &st);
    entry *e = &s->entries[s->count++];
    *e = (entry){.dtype = "BF16", .kind = NORMAL};
    snprintf(e->name, sizeof(e->name), "%s%s", name, suffix);
    return e;
}

static void add_plain(shard *s, const char *name, size_t rows, size_t cols, int one)
{
    entry *e = add_entry(s, name, ".weight");
    e->dims = one ? 1 : 2;
    e->shape[0] = one ? cols : rows;
    e->shape[1] = cols;
    e->bytes = (uint64_t)rows * cols * 2;
    e->kind = one ? ONE : NORMAL;
}

static void add_matrix(shard *s, ft_weight_type type, const char *name, size_t rows, size_t cols)
{
    if (!ft_is_quantized(type) || cols % FT_GROUP) {
        add_plain(s, name, rows, cols, 0);
        return;
    }
    const size_t blocks = ft_quant_blocks(rows), groups = cols / FT_GROUP;
    for (int scales = 0; scales < 2; scales++) {
        entry *e = add_entry(s, name, scales ? ".scales" : ".qweight");
        e->dims = 3;
        e->dtype = scales ? "F16" : "U8";
        e->kind = scales ? SCALES : type == FT_WEIGHT_I8 ? INT8 : INT4;
        e->shape[0] = blocks;
        e->shape[1] = groups;
        e->shape[2] = scales ? FT_BLOCK_ROWS : ft_quant_group_bytes(type);
        e->bytes = (uint64_t)blocks * (scales ? ft_quant_scale_bytes(cols) : ft_quant_block_bytes(type, cols));
    }
}

static const char *named(char out[100], size_t layer, const char *what)
{
    snprintf(out, 100, "model.layers.%zu.%s", layer, what);
    return out;
}

static void add_ffn(maker *m, size_t l, size_t e)
{
    static const char *const parts[] = {"down_proj", "gate_proj", "up_proj"};
    shard *s = &m->shards[m->c.experts ? e + 1 : 0];
    char name[100], what[60];
    for (int p = 0; p < 3; p++) {
        if (m->c.experts)
            snprintf(what, sizeof(what), "mlp.experts.%zu.%s", e, parts[p]);
        else
            snprintf(what, sizeof(what), "mlp.%s", parts[p]);
        add_matrix(s, m->type, named(name, l, what), p ? m->c.intermediate : m->c.hidden,
                   p ? m->c.hidden : m->c.intermediate);
    }
}

static void plan(maker *m)
{
    const ft_model_config *c = &m->c;
    const size_t Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim;
    char n[100];
    m->shard_count = c->experts + 1;
    m->shards = ft_alloc_array(m->shard_count, sizeof(*m->shards));
    if (!m->shards)
        die("out of memory");
    shard *s = m->shards;
    for (size_t i = 0; i < m->shard_count; i++)
        if (i)
            snprintf(s[i].name, sizeof(s[i].name), "model-expert%zu-1.safetensors", i - 1);
        else
            snprintf(s[i].name, sizeof(s[i].name), "model-shared-1.safetensors");
    add_plain(s, "model.embed_tokens", c->vocab, c->hidden, 0);
    for (size_t l = 0; l < c->layers; l++) {
        add_matrix(s, m->type, named(n, l, "self_attn.q_proj"), Q, c->hidden);
        add_matrix(s, m->type, named(n, l, "self_attn.k_proj"), KV, c->hidden);
        add_matrix(s, m->type, named(n, l, "self_attn.v_proj"), KV, c->hidden);
        add_matrix(s, m->type, named(n, l, "self_attn.o_proj"), c->hidden, Q);
        add_plain(s, named(n, l, "self_attn.q_norm"), 1, Q, 1);
        add_plain(s, named(n, l, "self_attn.k_norm"), 1, KV, 1);
        add_plain(s, named(n, l, "post_attention_layernorm"), 1, c->hidden, 1);
        add_plain(s, named(n, l, "post_feedforward_layernorm"), 1, c->hidden, 1);
        if (c->experts)
            add_plain(s, named(n, l, "mlp.gate"), c->experts, c->hidden, 0);
        for (size_t e = 0; e < (c->experts ? c->experts : 1); e++)
            add_ffn(m, l, e);
    }
    add_plain(s, "model.norm", 1, c->hidden, 1);
    if (!c->tie_word_embeddings || ft_is_quantized(m->type))
        add_matrix(s, m->type == FT_WEIGHT_I4 ? FT_WEIGHT_I8 : m->type, "lm_head", c->vocab, c->hidden);
}

/* --- Files ------------------------------------------------------------------------------- */

static ft_code header_of(const shard *s, ft_buffer *b, ft_status *st)
{
    uint64_t at = 0;
    ft_code rc = ft_buffer_append_str(b, "00000000{\"__metadata__\":{\"format\":\"pt\"}", st);
    for (size_t i = 0; i < s->count && !rc; i++) {
        const entry *e = &s->entries[i];
        rc = ft_buffer_printf(b, st, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", e->name, e->dtype);
        for (unsigned d = 0; d < e->dims && !rc; d++)
            rc = ft_buffer_printf(b, st, "%s%zu", d ? "," : "", e->shape[d]);
        if (!rc)
            rc = ft_buffer_printf(b, st, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + e->bytes);
        at += e->bytes;
    }
    if (!rc)
        rc = ft_buffer_append_str(b, "}", st);
    while (!rc && b->size % 4096)
        rc = ft_buffer_append_str(b, " ", st);
    for (int i = 0; i < 8 && !rc; i++)
        b->data[i] = (char)((b->size - 8) >> 8 * i);
    return rc;
}

static uint64_t seed_of(uint64_t seed, const char *name)
{
    uint64_t h = 1469598103934665603u ^ seed;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    return h;
}

static ft_code write_entry(const maker *m, ft_file_writer *w, const entry *e, int eight, char *piece, ft_status *st)
{
    ft_random r;
    ft_random_init(&r, seed_of(m->seed, e->name));
    ft_code rc = FT_OK;
    for (uint64_t left = e->bytes; left && !rc;) {
        const size_t n = left < PIECE ? (size_t)left : PIECE;
        fill(m->t, e, eight, &r, piece, n);
        rc = ft_file_writer_put(w, piece, n, st);
        left -= n;
    }
    return rc;
}

static void write_shard(void *context, size_t number, unsigned worker)
{
    (void)worker;
    maker *m = context;
    shard *s = &m->shards[number];
    ft_buffer header = {0};
    ft_file_writer w = {0};
    char *path = ft_path_join(m->out, s->name), *piece = malloc(PIECE);
    ft_code rc = path && piece ? header_of(s, &header, &s->st) : ft_fail(&s->st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_file_writer_open(&w, path, &s->st);
    if (!rc)
        rc = ft_file_writer_put(&w, header.data, header.size, &s->st);
    uint64_t bytes = 0;
    for (size_t i = 0; i < s->count && !rc; i++) {
        const entry *e = &s->entries[i];
        bytes += e->bytes;
        if (m->holes)
            continue;
        const int eight = e->kind == SCALES && s->entries[i - 1].kind == INT8;
        rc = write_entry(m, &w, e, eight, piece, &s->st);
    }
    if (!rc && m->holes && (fflush(w.stream) || ftruncate(fileno(w.stream), (off_t)(header.size + bytes))))
        rc = ft_fail(&s->st, FT_ERR_IO, "%s: cannot make a file of that size", path);
    if (!rc)
        rc = ft_file_writer_commit(&w, &s->st);
    else
        ft_file_writer_abandon(&w);
    ft_buffer_release(&header);
    free(piece);
    free(path);
}

static void write_text(const maker *m, const char *name, json_t *value)
{
    ft_status st = {0};
    char *path = ft_path_join(m->out, name), *text = json_dumps(value, JSON_INDENT(2));
    if (!path || !text)
        die("out of memory");
    need(ft_file_write(path, text, strlen(text), &st), &st);
    free(path);
    free(text);
    json_decref(value);
}

static void write_index(const maker *m)
{
    json_t *map = json_object();
    json_int_t total = 0;
    for (size_t i = 0; i < m->shard_count; i++)
        for (size_t k = 0; k < m->shards[i].count; k++) {
            total += (json_int_t)m->shards[i].entries[k].bytes;
            json_object_set_new(map, m->shards[i].entries[k].name, json_string(m->shards[i].name));
        }
    write_text(m, "model.safetensors.index.json",
               json_pack("{s:{s:I}, s:o}", "metadata", "total_size", total, "weight_map", map));
}

/* --- Command line -------------------------------------------------------------------------- */

static const char *shape_path(const char *shape, char out[4200])
{
    snprintf(out, 4200, "%s", shape);
    if (!strchr(shape, '/') && !strstr(shape, ".json"))
        snprintf(out, 4200, FT_BENCH_FOLDER "/shapes/%s.json", shape);
    return out;
}

/* The shape's config goes into OUT first: it is read back from there. */
static json_t *read_shape(maker *m, const char *shape)
{
    ft_status st = {0};
    char path[4200];
    json_t *config;
    need(ft_json_read_file(&config, shape_path(shape, path), 1 << 20, &st), &st);
    if (ft_is_quantized(m->type))
        json_object_set_new(config, "flextrace_quantization",
                            json_pack("{s:i, s:s, s:i}", "version", 1, "format",
                                      m->type == FT_WEIGHT_I8 ? "int8" : "int4", "group", FT_GROUP));
    need(ft_folder_make(m->out, &st), &st);
    write_text(m, "config.json", json_incref(config));
    need(ft_model_config_read(&m->c, m->out, &st), &st);
    return config;
}

static void check_disk(const maker *m)
{
    struct statvfs disk;
    uint64_t bytes = 0;
    for (size_t i = 0; i < m->shard_count; i++)
        for (size_t k = 0; k < m->shards[i].count; k++)
            bytes += m->shards[i].entries[k].bytes;
    fprintf(stderr, "%s: %.2f GB in %zu files\n", m->out, (double)bytes / 1e9, m->shard_count);
    if (!m->holes && statvfs(m->out, &disk) == 0 &&
        (double)disk.f_bavail * (double)disk.f_frsize < (double)bytes * 1.02)
        die("the disk does not hold that");
}

static ft_weight_type type_of(const char *text)
{
    if (!strcmp(text, "bf16") || !strcmp(text, "bfloat16"))
        return FT_WEIGHT_BF16;
    if (!strcmp(text, "int8"))
        return FT_WEIGHT_I8;
    return strcmp(text, "int4") ? (ft_weight_type)die("--type must be bf16, int8 or int4") : FT_WEIGHT_I4;
}

int main(int argc, char **argv)
{
    maker m = {.type = FT_WEIGHT_TYPES, .seed = 1};
    const char *shape = NULL;
    unsigned threads = 0;
    for (int i = 1; i < argc; i++) {
        const int has_value = i + 1 < argc;
        if (!strcmp(argv[i], "--shape") && has_value)
            shape = argv[++i];
        else if (!strcmp(argv[i], "--type") && has_value)
            m.type = type_of(argv[++i]);
        else if (!strcmp(argv[i], "--seed") && has_value)
            m.seed = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--threads") && has_value)
            threads = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--holes"))
            m.holes = 1;
        else if (argv[i][0] != '-' && !m.out)
            m.out = argv[i];
        else
            die("usage: ft_make_model --shape NAME|CONFIG.json --type bf16|int8|int4 [--seed N] [--threads N] "
                "[--holes] OUT");
    }
    if (!shape || !m.out || m.type == FT_WEIGHT_TYPES)
        die("usage: ft_make_model --shape NAME|CONFIG.json --type bf16|int8|int4 [--seed N] [--threads N] [--holes] "
            "OUT");
    m.t = malloc(sizeof(*m.t));
    if (!m.t)
        die("out of memory");
    fill_tables(m.t);
    json_t *config = read_shape(&m, shape);
    plan(&m);
    check_disk(&m);
    ft_pool *pool;
    ft_status st = {0};
    need(ft_pool_new(&pool, threads, &st), &st);
    ft_pool_run(pool, m.shard_count, write_shard, &m);
    for (size_t i = 0; i < m.shard_count; i++)
        need(m.shards[i].st.code, &m.shards[i].st);
    write_index(&m);
    ft_pool_free(pool);
    json_decref(config);
    for (size_t i = 0; i < m.shard_count; i++)
        free(m.shards[i].entries);
    free(m.shards);
    free(m.t);
    return 0;
}
