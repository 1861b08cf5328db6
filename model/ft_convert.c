#define _GNU_SOURCE
#include "model/ft_convert.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_threads.h"
#include "model/convert_internal.h"
#include "model/kernels/ft_float.h"
#include "model/model_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DEFAULT_MEMORY = 512 << 20,
    CHUNK_WEIGHTS = 8 << 20, /* a piece of work; about a tenth of a second */
    COPY_BYTES = 1 << 20,    /* what is copied goes through in blocks of this */
    HEADERS_MEMORY = 64 << 20,
};

/* --- One job, chunk by chunk ------------------------------------------------------------
 *
 * A job's rows go through in blocks of 16, many blocks to a chunk. Three chunks are under
 * way: while one is converted, block by block on all threads, the one after it is read,
 * and the one before it is hashed and written. */

typedef struct chunk {
    size_t first, blocks; /* blocks of the job */
    char *in, *in_scales, *out, *out_scales;
} chunk;

typedef struct run {
    const ft_convert_job *job;
    ft_tensor_file *file;
    int fd; /* of the source */
    const char *source_path;
    size_t blocks, per_chunk;
    /* Bytes of one block, of what comes in and goes out. */
    size_t in_bytes, in_scale_bytes, out_bytes, out_scale_bytes;
    chunk chunks[3];
    float *wide; /* [threads, 16, cols] */
    ft_hasher in_hash, out_hash, out_scale_hash;
    size_t step;
    atomic_size_t bad_row; /* SIZE_MAX: none */
    ft_status read_st, write_st;
    ft_code read_rc, write_rc;
} run;

static int is_copy(const ft_convert_job *j)
{
    return j->type == FT_WEIGHT_TYPES;
}

static size_t element_bytes(ft_weight_type t)
{
    return t == FT_WEIGHT_F32 ? 4 : 2;
}

static void measure_blocks(run *r)
{
    const ft_convert_job *j = r->job;
    if (is_copy(j)) {
        r->blocks = j->cols / COPY_BYTES + (j->cols % COPY_BYTES != 0);
        r->in_bytes = r->out_bytes = COPY_BYTES;
        return;
    }
    r->blocks = ft_quant_blocks(j->rows);
    if (ft_is_quantized(j->type)) {
        r->in_bytes = ft_quant_block_bytes(j->type, j->cols);
        r->in_scale_bytes = ft_quant_scale_bytes(j->cols);
    } else {
        r->in_bytes = FT_BLOCK_ROWS * j->cols * element_bytes(j->type);
    }
    if (ft_is_quantized(j->to)) {
        r->out_bytes = ft_quant_block_bytes(j->to, j->cols);
        r->out_scale_bytes = ft_quant_scale_bytes(j->cols);
    } else {
        r->out_bytes = FT_BLOCK_ROWS * j->cols * element_bytes(j->to);
    }
}

/* Rows of blocks first … first + blocks - 1. */
static size_t rows_in(const ft_convert_job *j, size_t first, size_t blocks)
{
    const size_t left = j->rows - first * FT_BLOCK_ROWS;
    return left < blocks * FT_BLOCK_ROWS ? left : blocks * FT_BLOCK_ROWS;
}

/* Bytes of a chunk; the last block may be short. */
static size_t bytes_of(const run *r, const chunk *c, int outgoing)
{
    const ft_convert_job *j = r->job;
    const size_t block = outgoing ? r->out_bytes : r->in_bytes;
    const ft_weight_type type = outgoing ? j->to : j->type;
    if (is_copy(j)) {
        const size_t left = j->cols - c->first * COPY_BYTES;
        return left < c->blocks * COPY_BYTES ? left : c->blocks * COPY_BYTES;
    }
    return ft_is_quantized(type) ? c->blocks * block : rows_in(j, c->first, c->blocks) * j->cols * element_bytes(type);
}

static ft_code read_at(const run *r, char *out, size_t n, uint64_t at, ft_status *st)
{
    while (n) {
        const ssize_t got = pread(r->fd, out, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return ft_fail(st, FT_ERR_IO, "%s: cannot read: %s", r->source_path,
                           got ? strerror(errno) : "it became shorter");
        out += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return FT_OK;
}

static void read_chunk(run *r, chunk *c)
{
    const ft_convert_job *j = r->job;
    r->read_rc = read_at(r, c->in, bytes_of(r, c, 0), j->from->offset + j->from_at + (uint64_t)c->first * r->in_bytes,
                         &r->read_st);
    if (!r->read_rc && j->from_scales)
        r->read_rc = read_at(r, c->in_scales, c->blocks * r->in_scale_bytes,
                             j->from_scales->offset + (uint64_t)c->first * r->in_scale_bytes, &r->read_st);
}

static void write_chunk(run *r, const chunk *c)
{
    const ft_convert_job *j = r->job;
    const char *out = is_copy(j) ? c->in : c->out;
    const size_t n = bytes_of(r, c, 1), scales = c->blocks * r->out_scale_bytes;
    ft_hasher_add(&r->out_hash, out, n);
    ft_hasher_add(&r->out_scale_hash, c->out_scales, scales);
    r->write_rc = ft_tensor_file_put(r->file, j->spec, (uint64_t)c->first * r->out_bytes, out, n, &r->write_st);
    if (!r->write_rc && scales)
        r->write_rc = ft_tensor_file_put(r->file, j->spec + 1, (uint64_t)c->first * r->out_scale_bytes, c->out_scales,
                                         scales, &r->write_st);
}

/* --- One block ------------------------------------------------------------------------------ */

static void widen(const run *r, const chunk *c, size_t block, size_t rows, float *out)
{
    const ft_convert_job *j = r->job;
    const char *in = c->in + block * r->in_bytes;
    if (ft_is_quantized(j->type)) {
        for (size_t i = 0; i < rows; i++)
            ft_dequantize_row(j->type, in, c->in_scales + block * r->in_scale_bytes, i, j->cols, out + i * j->cols);
        return;
    }
    const ft_matrix m = {.data = in, .type = j->type, .rows = rows, .cols = j->cols};
    for (size_t i = 0; i < rows; i++)
        ft_matrix_widen_row(&m, i, out + i * j->cols);
}

/* Rounds; SIZE_MAX, or the first row with a value that does not fit. */
static size_t narrow(ft_weight_type to, const float *x, size_t rows, size_t cols, char *out)
{
    for (size_t i = 0; i < rows * cols; i++) {
        const uint16_t h = to == FT_WEIGHT_F16 ? ft_f16_of(x[i]) : ft_bf16_of(x[i]);
        if (to == FT_WEIGHT_F16 && (h & 0x7fff) == 0x7c00 && ft_float_bits(x[i]) << 1 != 0xff000000u)
            return i / cols;
        if (to == FT_WEIGHT_F32)
            memcpy(out + i * 4, &x[i], 4);
        else
            memcpy(out + i * 2, &h, 2);
    }
    return SIZE_MAX;
}

static void lower(atomic_size_t *least, size_t value)
{
    size_t seen = atomic_load(least);
    while (value < seen && !atomic_compare_exchange_weak(least, &seen, value))
        ;
}

static void convert_block(run *r, const chunk *c, size_t block, unsigned worker)
{
    const ft_convert_job *j = r->job;
    const size_t rows = rows_in(j, c->first + block, 1);
    float *x = r->wide + worker * FT_BLOCK_ROWS * j->cols;
    size_t bad = SIZE_MAX;
    widen(r, c, block, rows, x);
    char *out = c->out + block * r->out_bytes;
    if (!ft_is_quantized(j->to))
        bad = narrow(j->to, x, rows, j->cols, out);
    else if (ft_quantize_block(j->to, x, rows, j->cols, (uint8_t *)out,
                               (uint16_t *)(void *)(c->out_scales + block * r->out_scale_bytes), &bad) == FT_OK)
        bad = SIZE_MAX;
    if (bad != SIZE_MAX)
        lower(&r->bad_row, (c->first + block) * FT_BLOCK_ROWS + bad);
}

/* --- The pipeline ---------------------------------------------------------------------------- */

static size_t chunks_of(const run *r)
{
    return (r->blocks + r->per_chunk - 1) / r->per_chunk;
}

/* Chunk `number` of the job, where it lies among the three; blocks 0 where there is none. */
static chunk *chunk_at(run *r, size_t number)
{
    chunk *c = &r->chunks[number % 3];
    const size_t left = r->blocks - number * r->per_chunk;
    c->first = number * r->per_chunk;
    c->blocks = left < r->per_chunk ? left : r->per_chunk;
    return c;
}

enum { READ, HASH, WRITE, FIXED_TASKS };

static void step_task(void *context, size_t task, unsigned worker)
{
    run *r = context;
    const size_t s = r->step, n = chunks_of(r);
    if (task == READ && s < n)
        read_chunk(r, chunk_at(r, s));
    if (task == HASH && s >= 1 && s <= n) {
        const chunk *c = &r->chunks[(s - 1) % 3];
        ft_hasher_add(&r->in_hash, c->in, bytes_of(r, c, 0));
    }
    if (task == WRITE && s >= 2)
        write_chunk(r, &r->chunks[(s - 2) % 3]);
    if (task >= FIXED_TASKS)
        convert_block(r, &r->chunks[(s - 1) % 3], task - FIXED_TASKS, worker);
}

static ft_code run_chunks(run *r, ft_pool *pool, uint64_t *done, uint64_t total, const ft_convert_options *o,
                          ft_status *st)
{
    const size_t n = chunks_of(r);
    for (r->step = 0; r->step < n + 2; r->step++) {
        const int converting = r->step >= 1 && r->step <= n && !is_copy(r->job);
        const size_t blocks = converting ? r->chunks[(r->step - 1) % 3].blocks : 0;
        ft_pool_run(pool, FIXED_TASKS + blocks, step_task, r);
        if (r->read_rc || r->write_rc) {
            *st = r->read_rc ? r->read_st : r->write_st;
            return st->code;
        }
        const size_t bad = atomic_load(&r->bad_row);
        if (bad != SIZE_MAX)
            return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %.120s: row %zu holds a value that %s cannot hold",
                           r->source_path, r->job->from->name, bad,
                           ft_is_quantized(r->job->to) ? "a group with a float16 scale" : "float16");
        if (r->step >= 1 && r->step <= n)
            *done += bytes_of(r, &r->chunks[(r->step - 1) % 3], 0);
        if (ft_progress_report(o->progress, "convert", *done, total, "bytes"))
            return ft_fail(st, FT_ERR_CANCELLED, "convert: stopped; the same command goes on");
    }
    return FT_OK;
}

/* --- Memory ------------------------------------------------------------------------------------ */

/* Buffers of one size for all jobs of the plan: three chunks, and rows for each thread. */
typedef struct room {
    char *in[3], *in_scales[3], *out[3], *out_scales[3];
    float *wide;
    size_t in_bytes, out_bytes, scale_bytes, wide_bytes; /* of one chunk; of a thread */
} room;

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* How many blocks of this job a chunk of that many bytes takes. */
static size_t blocks_within(const run *r, const room *z)
{
    size_t n = z->in_bytes / r->in_bytes;
    if (z->out_bytes / larger(r->out_bytes, 1) < n && !is_copy(r->job))
        n = z->out_bytes / r->out_bytes;
    const size_t scales = larger(r->in_scale_bytes, r->out_scale_bytes);
    if (scales && z->scale_bytes / scales < n)
        n = z->scale_bytes / scales;
    return n;
}

/* The least room: one block of each job. More, up to a chunk, where the memory allows. */
static ft_code make_room(room *z, const ft_convert_plan *p, const ft_convert_options *o, unsigned threads,
                         ft_status *st)
{
    size_t least_out = 0, least_scales = 0, cols = 0;
    size_t least_in = COPY_BYTES;
    for (size_t i = 0; i < p->count; i++) {
        run r = {.job = &p->jobs[i]};
        measure_blocks(&r);
        least_in = larger(least_in, r.in_bytes);
        if (is_copy(r.job))
            continue;
        least_out = larger(least_out, r.out_bytes);
        least_scales = larger(least_scales, larger(r.in_scale_bytes, r.out_scale_bytes));
        cols = larger(cols, p->jobs[i].cols);
    }
    const size_t memory = o->memory_bytes ? o->memory_bytes : DEFAULT_MEMORY;
    const size_t wide = threads * FT_BLOCK_ROWS * cols * sizeof(float);
    const size_t least = 3 * (least_in + least_out + 2 * least_scales) + wide + HEADERS_MEMORY;
    if (memory < least)
        return ft_fail(st, FT_ERR_LIMIT, "convert: %zu MB of memory do not do; %zu MB would (--memory)", memory >> 20,
                       (least >> 20) + 1);
    const size_t factor = (memory - wide - HEADERS_MEMORY) / (3 * (least_in + least_out + 2 * least_scales));
    const size_t useful = (size_t)CHUNK_WEIGHTS * 4 / least_in + 1, times = factor < useful ? factor : useful;
    *z = (room){.in_bytes = least_in * times, .out_bytes = least_out * times, .scale_bytes = least_scales * times};
    int ok = 1;
    for (int i = 0; i < 3; i++) {
        z->in[i] = malloc(z->in_bytes);
        z->out[i] = malloc(larger(z->out_bytes, 1));
        z->in_scales[i] = malloc(larger(z->scale_bytes, 1));
        z->out_scales[i] = malloc(larger(z->scale_bytes, 1));
        ok = ok && z->in[i] && z->out[i] && z->in_scales[i] && z->out_scales[i];
    }
    z->wide = malloc(larger(wide, 1));
    return ok && z->wide ? FT_OK : ft_fail(st, FT_ERR_MEM, "convert: out of memory");
}

static void free_room(room *z)
{
    for (int i = 0; i < 3; i++) {
        free(z->in[i]);
        free(z->out[i]);
        free(z->in_scales[i]);
        free(z->out_scales[i]);
    }
    free(z->wide);
}

/* --- All jobs ------------------------------------------------------------------------------------ */

typedef struct work {
    const ft_convert_options *o;
    ft_convert_plan plan;
    ft_convert_result *result;
    ft_pool *pool;
    room room;
    int *fds; /* of the source's files; -1: not yet open */
    uint64_t done, total;
    ft_digest id; /* what this work is: see identify */
} work;

static ft_code source_fd(work *w, size_t file, int *fd, ft_status *st)
{
    uint64_t bytes;
    const char *path = ft_weights_file(w->plan.from, file, &bytes);
    if (w->fds[file] < 0)
        w->fds[file] = open(path, O_RDONLY | O_CLOEXEC);
    *fd = w->fds[file];
    return *fd < 0 ? ft_fail(st, FT_ERR_IO, "%s: cannot open: %s", path, strerror(errno)) : FT_OK;
}

static uint64_t job_bytes(const ft_convert_job *j)
{
    if (is_copy(j))
        return j->cols;
    if (ft_is_quantized(j->type))
        return j->from->bytes;
    return (uint64_t)j->rows * j->cols * element_bytes(j->type);
}

static ft_code convert_job(work *w, ft_tensor_file *f, const ft_convert_job *j, ft_status *st)
{
    uint64_t bytes;
    run r = {.job = j, .file = f, .wide = w->room.wide};
    ft_code rc = source_fd(w, j->from->file, &r.fd, st);
    if (rc)
        return rc;
    r.source_path = ft_weights_file(w->plan.from, j->from->file, &bytes);
    measure_blocks(&r);
    r.per_chunk = blocks_within(&r, &w->room);
    for (int i = 0; i < 3; i++) {
        r.chunks[i].in = w->room.in[i];
        r.chunks[i].in_scales = w->room.in_scales[i];
        r.chunks[i].out = w->room.out[i];
        r.chunks[i].out_scales = w->room.out_scales[i];
    }
    ft_hasher_init(&r.in_hash);
    ft_hasher_init(&r.out_hash);
    ft_hasher_init(&r.out_scale_hash);
    atomic_init(&r.bad_row, SIZE_MAX);
    rc = run_chunks(&r, w->pool, &w->done, w->total, w->o, st);
    if (rc)
        return rc;
    ft_tensor_spec *s = &f->specs[j->spec];
    s[0].source_digest = ft_hasher_end(&r.in_hash);
    s[0].digest = ft_hasher_end(&r.out_hash);
    rc = ft_tensor_file_done(f, j->spec, st);
    if (rc || !ft_is_quantized(j->to))
        return rc;
    s[1].source_digest = s[0].source_digest;
    s[1].digest = ft_hasher_end(&r.out_scale_hash);
    return ft_tensor_file_done(f, j->spec + 1, st);
}

static ft_code convert_shard(work *w, const char *folder, const ft_convert_shard *s, ft_status *st)
{
    ft_tensor_file f;
    char *path = folder ? ft_path_join(folder, s->name) : strdup(s->name);
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "convert: out of memory");
    ft_code rc = ft_tensor_file_open(&f, path, w->plan.specs + s->first_spec, s->specs, &w->id, st);
    for (size_t i = 0; i < s->jobs && !rc; i++) {
        const ft_convert_job *j = &w->plan.jobs[s->first_job + i];
        const ft_tensor_spec *spec = &f.specs[j->spec];
        const size_t made = ft_is_quantized(j->to) ? 2 : 1;
        if (spec[0].done && spec[made - 1].done) {
            w->result->resumed += made;
            w->done += job_bytes(j);
        } else {
            rc = convert_job(w, &f, j, st);
        }
    }
    if (!rc)
        rc = ft_tensor_file_commit(&f, st);
    ft_tensor_file_close(&f);
    free(path);
    return rc;
}

/* What makes two runs the same work: the options, and the source's files as the system
 * knows them. */
static ft_code identify(work *w, ft_status *st)
{
    ft_buffer b = {0};
    ft_code rc = ft_buffer_printf(&b, st, "convert 1 %d %d\n", (int)w->o->to, (int)w->o->head);
    for (size_t i = 0; i < ft_weights_files(w->plan.from) && !rc; i++) {
        uint64_t bytes;
        const char *path = ft_weights_file(w->plan.from, i, &bytes);
        char *real = realpath(path, NULL);
        struct stat info = {0};
        if (!real || stat(path, &info) != 0)
            rc = ft_fail(st, FT_ERR_IO, "%s: %s", path, strerror(errno));
        else
            rc = ft_buffer_printf(&b, st, "%s %" PRIu64 " %lld.%09ld\n", real, bytes, (long long)info.st_mtim.tv_sec,
                                  info.st_mtim.tv_nsec);
        free(real);
    }
    if (!rc)
        w->id = ft_digest_of(b.data, b.size);
    ft_buffer_release(&b);
    return rc;
}

/* --- Digests of the whole --------------------------------------------------------------------------- */

static ft_code add_to_hash(void *context, const void *bytes, size_t n, ft_status *st)
{
    (void)st;
    ft_hasher_add(context, bytes, n);
    return FT_OK;
}

/* That of the source: what was hashed on the way, and what was not (in pieces, or not at
 * all because an index left it out). */
static ft_code digest_source(work *w, ft_status *st)
{
    const ft_weights *from = w->plan.from;
    size_t count;
    const ft_tensor *t = ft_weights_tensors(from, &count);
    ft_buffer records = {0};
    ft_digest *known = ft_alloc_array(count, sizeof(*known));
    char *is_known = ft_alloc_array(count, 1);
    ft_code rc = known && is_known ? FT_OK : ft_fail(st, FT_ERR_MEM, "convert: out of memory");
    for (size_t i = 0; i < w->plan.count && !rc; i++) {
        const ft_convert_job *j = &w->plan.jobs[i];
        if (job_bytes(j) != j->from->bytes)
            continue;
        known[j->from - t] = w->plan.specs[w->plan.shards[j->shard].first_spec + j->spec].source_digest;
        is_known[j->from - t] = 1;
    }
    for (size_t i = 0; i < count && !rc; i++) {
        ft_hasher h;
        ft_hasher_init(&h);
        if (!is_known[i] && !(rc = ft_tensor_stream(from, &t[i], add_to_hash, &h, st)))
            known[i] = ft_hasher_end(&h);
        if (!rc)
            rc = ft_tensor_record(&records, t[i].name, t[i].dtype, t[i].shape, t[i].dims, &known[i], st);
    }
    if (!rc)
        w->result->source = ft_digest_of(records.data, records.size);
    free(known);
    free(is_known);
    ft_buffer_release(&records);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const ft_tensor_spec *const *)a)->name, (*(const ft_tensor_spec *const *)b)->name);
}

static ft_code digest_result(work *w, ft_status *st)
{
    const size_t count = w->plan.spec_count;
    const ft_tensor_spec **sorted = ft_alloc_array(count, sizeof(*sorted));
    if (!sorted)
        return ft_fail(st, FT_ERR_MEM, "convert: out of memory");
    for (size_t i = 0; i < count; i++)
        sorted[i] = &w->plan.specs[i];
    qsort((void *)sorted, count, sizeof(*sorted), by_name);
    ft_buffer records = {0};
    ft_code rc = FT_OK;
    for (size_t i = 0; i < count && !rc; i++) {
        const ft_tensor_spec *s = sorted[i];
        w->result->bytes += s->bytes;
        rc = ft_tensor_record(&records, s->name, s->dtype, s->shape, s->dims, &s->digest, st);
    }
    if (!rc)
        w->result->result = ft_digest_of(records.data, records.size);
    w->result->tensors = count;
    free((void *)sorted);
    ft_buffer_release(&records);
    return rc;
}

/* --- Folders and files -------------------------------------------------------------------------------- */

/* All shards into `folder`, or one file (NULL). */
static ft_code convert_all(work *w, const char *folder, ft_status *st)
{
    const size_t files = ft_weights_files(w->plan.from);
    w->fds = ft_alloc_array(files, sizeof(*w->fds));
    if (!w->fds)
        return ft_fail(st, FT_ERR_MEM, "convert: out of memory");
    for (size_t i = 0; i < files; i++)
        w->fds[i] = -1;
    for (size_t i = 0; i < w->plan.count; i++)
        w->total += job_bytes(&w->plan.jobs[i]);
    ft_code rc = ft_pool_new(&w->pool, w->o->threads, st);
    if (!rc)
        rc = make_room(&w->room, &w->plan, w->o, ft_pool_size(w->pool), st);
    if (!rc)
        rc = identify(w, st);
    for (size_t i = 0; i < w->plan.shard_count && !rc; i++)
        rc = convert_shard(w, folder, &w->plan.shards[i], st);
    if (!rc)
        rc = digest_source(w, st);
    if (!rc)
        rc = digest_result(w, st);
    w->result->source_bytes = w->total;
    for (size_t i = 0; i < files; i++)
        if (w->fds[i] >= 0)
            close(w->fds[i]);
    free(w->fds);
    free_room(&w->room);
    ft_pool_free(w->pool);
    return rc;
}

static ft_code convert_file(work *w, const char *source, const char *out, ft_status *st)
{
    ft_weights *from;
    ft_code rc = ft_weights_open_file(&from, source, st);
    if (rc)
        return rc;
    rc = ft_convert_plan_make(&w->plan, from, w->o, NULL, out, st);
    if (!rc)
        rc = convert_all(w, NULL, st);
    if (!rc)
        ft_tensor_file_forget(out);
    ft_convert_plan_release(&w->plan);
    ft_weights_close(from);
    return rc;
}

/* Removes what other conversions left in it. */
static ft_code clean_folder(const work *w, const char *folder, ft_status *st)
{
    DIR *d = opendir(folder);
    if (!d)
        return ft_fail(st, FT_ERR_IO, "%s: cannot list: %s", folder, strerror(errno));
    for (const struct dirent *e; (e = readdir(d));) {
        int ours = e->d_name[0] == '.';
        for (size_t i = 0; i < w->plan.shard_count && !ours; i++) {
            const size_t n = strlen(w->plan.shards[i].name);
            ours = !strncmp(e->d_name, w->plan.shards[i].name, n) &&
                   (!e->d_name[n] || !strcmp(e->d_name + n, ".part") || !strcmp(e->d_name + n, ".journal"));
        }
        if (!ours)
            (void)unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
    return FT_OK;
}

/* What stands in `folder` becomes `out`. */
static ft_code put_in_place(const work *w, const char *folder, const char *out, ft_status *st)
{
    for (size_t i = 0; i < w->plan.shard_count; i++) {
        char *path = ft_path_join(folder, w->plan.shards[i].name);
        if (path)
            ft_tensor_file_forget(path);
        free(path);
    }
    ft_code rc = ft_folder_sync(folder, st);
    if (!rc && rename(folder, out) != 0)
        rc = ft_fail(st, FT_ERR_IO, "%s: cannot rename %s to it: %s", out, folder, strerror(errno));
    return rc;
}

static ft_code convert_folder(work *w, const char *source, const char *out, ft_status *st)
{
    ft_model *m;
    char *partial = NULL;
    int lock = -1;
    ft_code rc = ft_model_inspect(&m, source, st);
    if (rc)
        return rc;
    if (asprintf(&partial, "%s.partial", out) < 0) {
        partial = NULL;
        rc = ft_fail(st, FT_ERR_MEM, "convert: out of memory");
    }
    if (!rc)
        rc = ft_convert_plan_make(&w->plan, m->files, w->o, &m->config, NULL, st);
    if (!rc)
        rc = ft_folder_lock(partial, "conversion", &lock, st);
    if (!rc)
        rc = clean_folder(w, partial, st);
    if (!rc)
        rc = convert_all(w, partial, st);
    if (!rc)
        rc = ft_convert_write_rest(source, partial, &w->plan, w->o, w->result, st);
    if (!rc)
        rc = put_in_place(w, partial, out, st);
    if (lock >= 0)
        close(lock);
    free(partial);
    ft_convert_plan_release(&w->plan);
    ft_model_close(m);
    return rc;
}

ft_code ft_convert(const char *source, const char *out, const ft_convert_options *o, ft_convert_result *r,
                   ft_status *st)
{
    *r = (ft_convert_result){0};
    work w = {.o = o, .result = r};
    const int folder = ft_path_is_folder(source);
    /* rename() takes an empty folder's place. */
    if (ft_path_exists(out) && !(folder && ft_path_is_folder(out) && rmdir(out) == 0))
        return ft_fail(st, FT_ERR_ARG, "%s: is there already; name another or remove it", out);
    return folder ? convert_folder(&w, source, out, st) : convert_file(&w, source, out, st);
}
