#include "index/ft_run.h"

#include "base/ft_buffer.h"
#include "index/ft_spool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHARED_BITS = 7, BIT_BITS = 5, AHEAD = 24, WRITE_RECORDS = 1 << 16 };

/* --- In memory ------------------------------------------------------------------------- */

static ft_code memory_position(const ft_merge_source *s, uint64_t i, uint64_t *out, ft_status *st)
{
    (void)st;
    const ft_run *run = (const ft_run *)(const void *)s;
    *out = run->base + (uint64_t)run->order[i];
    return FT_OK;
}

static inline void prefetch_code(const ft_codes *text, uint64_t position)
{
    __builtin_prefetch(text->packed + (position * text->bits >> 3));
}

static ft_code memory_read(const ft_merge_source *s, uint64_t from, size_t n, int first, ft_merge_item *out,
                           ft_status *st)
{
    (void)st;
    const ft_run *run = (const ft_run *)(const void *)s;
    const ft_codes *text = run->text;
    const int32_t *order = run->order + from;
    uint64_t before = from && !first ? run->base + (uint64_t)order[-1] : UINT64_MAX;
    for (size_t i = 0; i < n && i < AHEAD; i++)
        prefetch_code(text, run->base + (uint64_t)order[i]);
    for (size_t i = 0; i < n; i++) {
        if (from + i + AHEAD < s->count)
            prefetch_code(text, run->base + (uint64_t)order[i + AHEAD]);
        const uint64_t at = run->base + (uint64_t)order[i];
        out[i] = (ft_merge_item){.position = at};
        if (before != UINT64_MAX) {
            int equal;
            const uint64_t shared = ft_codes_shared(text, before, at, 0, FT_SHARED_MAX, &equal);
            if (equal || shared == FT_SHARED_MAX) {
                out[i].shared = FT_SHARED_MAX;
            } else {
                out[i].shared = (unsigned char)shared;
                out[i].code = ft_codes_get(text, at + shared);
                out[i].bit = (unsigned char)ft_codes_bit(out[i].code, ft_codes_get(text, before + shared), text->bits);
            }
        }
        before = at;
    }
    return FT_OK;
}

/* Large blocks that are read at random want large pages. */
static void *alloc_large(size_t bytes)
{
    enum { HUGE = 2 << 20 };
    void *block = bytes < HUGE ? malloc(bytes ? bytes : 1)
                               : aligned_alloc(HUGE, (bytes + HUGE - 1) / HUGE * HUGE);
    if (block && bytes >= HUGE)
        (void)madvise(block, bytes, MADV_HUGEPAGE); /* where there are none, small ones do */
    return block;
}

ft_code ft_run_sort(ft_run *out, uint32_t *tokens, size_t n, size_t documents, uint32_t vocab_size,
                    const ft_sort_watch *watch, ft_status *st)
{
    *out = (ft_run){.fd = -1, .code_bits = ft_bit_width(vocab_size), .position_bits = ft_bit_width(n)};
    out->source = (ft_merge_source){.count = n, .position = memory_position, .read = memory_read};
    /* Each end of a document becomes a symbol of its own, below all tokens. */
    uint32_t end = 0;
    for (size_t i = 0; i < n; i++)
        tokens[i] = tokens[i] == FT_END_TOKEN ? end++ : tokens[i] + (uint32_t)documents;
    out->order = alloc_large(n * sizeof(*out->order));
    if (!out->order)
        return ft_fail(st, FT_ERR_MEM, "no memory to sort %zu tokens; give less with --memory", n);
    ft_code rc = ft_suffix_sort(out->order, tokens, n, documents + vocab_size, watch, st);
    if (rc)
        ft_run_close(out);
    return rc;
}

/* --- In a file --------------------------------------------------------------------------- */

static void set_shape(ft_run *run)
{
    run->bytes = (run->position_bits + run->code_bits + SHARED_BITS + BIT_BITS + 7) / 8;
}

static inline uint64_t pack(const ft_run *run, uint64_t position, uint32_t code, unsigned shared, unsigned bit)
{
    return position | ((uint64_t)code | ((uint64_t)shared | (uint64_t)bit << SHARED_BITS) << run->code_bits)
                          << run->position_bits;
}

static ft_merge_item unpack(const ft_run *run, uint64_t record)
{
    const uint64_t rest = record >> run->position_bits, tail = rest >> run->code_bits;
    return (ft_merge_item){.position = run->base + (record & (((uint64_t)1 << run->position_bits) - 1)),
                           .code = (uint32_t)(rest & (((uint64_t)1 << run->code_bits) - 1)),
                           .shared = tail & FT_SHARED_MAX,
                           .bit = tail >> SHARED_BITS & ((1 << BIT_BITS) - 1)};
}

static ft_code read_records(const ft_run *run, uint64_t from, size_t n, unsigned char *out, ft_status *st)
{
    size_t left = n * run->bytes;
    off_t at = (off_t)(from * run->bytes);
    while (left) {
        const ssize_t got = pread(run->fd, out, left, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return ft_fail(st, FT_ERR_IO, "%s: cannot read: %s", run->path, got ? strerror(errno) : "the file ends");
        out += got;
        at += got;
        left -= (size_t)got;
    }
    return FT_OK;
}

static ft_code file_position(const ft_merge_source *s, uint64_t i, uint64_t *out, ft_status *st)
{
    const ft_run *run = (const ft_run *)(const void *)s;
    uint64_t record = 0;
    ft_code rc = read_records(run, i, 1, (unsigned char *)&record, st);
    *out = unpack(run, record).position;
    return rc;
}

static ft_code file_read(const ft_merge_source *s, uint64_t from, size_t n, int first, ft_merge_item *out,
                         ft_status *st)
{
    (void)first;
    const ft_run *run = (const ft_run *)(const void *)s;
    unsigned char bytes[FT_MERGE_READ * 8 + 8];
    ft_code rc = read_records(run, from, n, bytes, st);
    for (size_t i = 0; i < n && !rc; i++) {
        uint64_t record;
        memcpy(&record, bytes + i * run->bytes, sizeof(record));
        out[i] = unpack(run, record);
        /* Where it is compared, it is so behind what it shares. */
        prefetch_code(run->text, out[i].position + out[i].shared);
    }
    return rc;
}

static void become_file(ft_run *run)
{
    run->source.position = file_position;
    run->source.read = file_read;
}

/* Record of rank i > 0, from the symbols; those below `documents` are ends. */
static inline uint64_t record_of(const ft_run *run, const uint32_t *tokens, size_t n, size_t i, uint32_t documents)
{
    const uint32_t at = (uint32_t)run->order[i], before = (uint32_t)run->order[i - 1];
    const uint32_t *a = tokens + before, *b = tokens + at;
    const size_t room = n - (before > at ? before : at);
    const unsigned most = room < FT_SHARED_MAX ? (unsigned)room : FT_SHARED_MAX;
    unsigned shared = 0;
    while (shared < most && a[shared] == b[shared])
        shared++;
    if (shared >= most || (a[shared] < documents && b[shared] < documents)) /* equal: both end */
        return pack(run, at, 0, FT_SHARED_MAX, 0);
    const uint32_t old = a[shared] < documents ? 0 : a[shared] - documents + 1;
    const uint32_t code = b[shared] < documents ? 0 : b[shared] - documents + 1;
    return pack(run, at, code, shared, ft_codes_bit(old, code, run->code_bits));
}

static ft_code write_all(const ft_run *run, const unsigned char *bytes, size_t n, ft_status *st)
{
    while (n) {
        const ssize_t wrote = write(run->fd, bytes, n);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return ft_fail(st, FT_ERR_IO, "%s: cannot write: %s", run->path, strerror(errno));
        bytes += wrote;
        n -= (size_t)wrote;
    }
    return FT_OK;
}

static ft_code write_records(ft_run *run, const uint32_t *tokens, uint32_t documents, const ft_sort_watch *watch,
                             ft_status *st)
{
    const size_t n = (size_t)run->source.count;
    unsigned char *bytes = malloc((size_t)WRITE_RECORDS * run->bytes + 8);
    if (!bytes)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", run->path);
    ft_code rc = FT_OK;
    for (size_t from = 0; from < n && !rc; from += WRITE_RECORDS) {
        const size_t to = n - from < WRITE_RECORDS ? n : from + WRITE_RECORDS;
        for (size_t i = from; i < to; i++) {
            if (i + AHEAD < n)
                __builtin_prefetch(&tokens[run->order[i + AHEAD]]);
            const uint64_t record =
                i ? record_of(run, tokens, n, i, documents) : pack(run, (uint32_t)run->order[0], 0, 0, 0);
            memcpy(bytes + (i - from) * run->bytes, &record, sizeof(record));
        }
        rc = write_all(run, bytes, (to - from) * run->bytes, st);
        if (!rc && watch && watch->report(watch->context, (double)to / (double)n))
            rc = ft_fail(st, FT_ERR_CANCELLED, "%s: stopped", run->path);
    }
    free(bytes);
    return rc;
}

static ft_code set_path(ft_run *run, const char *path, int flags, ft_status *st)
{
    run->path = strdup(path);
    if (!run->path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    run->fd = open(path, O_RDWR | O_CLOEXEC | flags, 0666);
    return run->fd < 0 ? ft_fail(st, FT_ERR_IO, "%s: cannot open: %s", path, strerror(errno)) : FT_OK;
}

ft_code ft_run_spill(ft_run *run, const uint32_t *tokens, size_t documents, const char *path, const ft_sort_watch *watch,
                     ft_status *st)
{
    set_shape(run);
    ft_code rc = set_path(run, path, O_CREAT | O_TRUNC, st);
    if (!rc)
        rc = write_records(run, tokens, (uint32_t)documents, watch, st);
    free(run->order);
    run->order = NULL;
    become_file(run);
    return rc;
}

ft_code ft_run_open(ft_run *out, const char *path, uint64_t n, uint32_t vocab_size, ft_status *st)
{
    *out = (ft_run){.fd = -1, .code_bits = ft_bit_width(vocab_size), .position_bits = ft_bit_width(n)};
    out->source.count = n;
    set_shape(out);
    become_file(out);
    struct stat info;
    ft_code rc = set_path(out, path, 0, st);
    if (!rc && (fstat(out->fd, &info) != 0 || (uint64_t)info.st_size != n * out->bytes))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: not a run of %" PRIu64 " tokens", path, n);
    if (rc)
        ft_run_close(out);
    return rc;
}

void ft_run_close(ft_run *run)
{
    if (run->path && run->fd >= 0)
        close(run->fd);
    free(run->order);
    free(run->path);
    *run = (ft_run){.fd = -1};
}
