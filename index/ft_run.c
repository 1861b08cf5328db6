#include "index/ft_run.h"

#include "base/ft_buffer.h"
#include "base/ft_cpu.h"
#include "index/ft_spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHARED_BITS = 7, BIT_BITS = 5, WRITE_RECORDS = 1 << 16, FEW = 64 };

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

/* Bits of a code that is kept in a file, else 0: then the text is asked. */
static unsigned kept_bits(unsigned code_bits)
{
    return SHARED_BITS + BIT_BITS + code_bits <= 32 ? code_bits : 0;
}

static void ask_codes(const ft_run *run, ft_merge_item *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        items[i].code = ft_codes_get(run->text, items[i].position + items[i].shared);
}

/* What suffixes share is not kept: it is read off the text as they are asked for. */
static ft_code memory_read(const ft_merge_source *s, uint64_t from, size_t n, int first, ft_merge_item *out,
                           ft_status *st)
{
    (void)first;
    (void)st;
    const ft_run *run = (const ft_run *)(const void *)s;
    const int32_t *order = run->order + from;
    const size_t alone = from == 0 && n; /* nothing stands before the first of all */
    if (alone)
        out[0] = (ft_merge_item){.position = run->base + (uint64_t)order[0]};
    run->partings.describe(&run->partings, run->text, run->base, order + alone, n - alone, s->count - from - n,
                           out + alone);
    return FT_OK;
}

ft_code ft_run_sort(ft_run *out, uint32_t *tokens, size_t n, size_t documents, uint32_t vocab_size,
                    const ft_sort_watch *watch, ft_status *st)
{
    *out = (ft_run){.fd = -1, .code_bits = ft_bit_width(vocab_size), .position_bits = ft_bit_width(n)};
    out->kept_bits = kept_bits(out->code_bits);
    out->source = (ft_merge_source){.count = n, .position = memory_position, .read = memory_read};
    ft_partings_init(&out->partings, out->code_bits, ft_cpu_isa());
    out->symbols = tokens;
    out->documents = documents;
    /* Each end of a document becomes a symbol of its own, below all tokens. */
    uint32_t end = 0;
    for (size_t i = 0; i < n; i++)
        tokens[i] = tokens[i] == FT_END_TOKEN ? end++ : tokens[i] + (uint32_t)documents;
    out->order = ft_alloc_large(n * sizeof(*out->order));
    ft_code rc = out->order ? ft_suffix_sort(out->order, tokens, n, documents + vocab_size, watch, st) : FT_ERR_MEM;
    if (rc == FT_ERR_MEM)
        rc = ft_fail(st, rc, "no memory to sort %zu tokens; give less with --memory", n);
    if (rc)
        ft_run_close(out);
    return rc;
}

/* --- In a file --------------------------------------------------------------------------- */

static void set_shape(ft_run *run)
{
    run->bytes = (run->position_bits + run->kept_bits + SHARED_BITS + BIT_BITS + 7) / 8;
}

static inline uint64_t pack(const ft_run *run, const ft_merge_item *item)
{
    const uint64_t code = run->kept_bits ? item->code : 0, tail = item->shared | (uint64_t)item->bit << SHARED_BITS;
    return (item->position - run->base) | (code | tail << run->kept_bits) << run->position_bits;
}

static ft_merge_item unpack(const ft_run *run, uint64_t record)
{
    const uint64_t rest = record >> run->position_bits, tail = rest >> run->kept_bits;
    return (ft_merge_item){.position = run->base + (record & (((uint64_t)1 << run->position_bits) - 1)),
                           .code = (uint32_t)(rest & (((uint64_t)1 << run->kept_bits) - 1)),
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
        prefetch_code(run->text, out[i].position + out[i].shared);
    }
    if (!rc && !run->kept_bits)
        ask_codes(run, out, n);
    return rc;
}

static void become_file(ft_run *run)
{
    run->source.position = file_position;
    run->source.read = file_read;
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

static ft_code write_records(ft_run *run, const ft_sort_watch *watch, ft_status *st)
{
    const size_t n = (size_t)run->source.count;
    unsigned char *bytes = malloc((size_t)WRITE_RECORDS * run->bytes + 8);
    if (!bytes)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", run->path);
    ft_code rc = FT_OK;
    for (size_t from = 0; from < n && !rc; from += WRITE_RECORDS) {
        const size_t to = n - from < WRITE_RECORDS ? n : from + WRITE_RECORDS;
        unsigned char *end = bytes;
        for (size_t at = from; at < to && !rc; at += FT_MERGE_READ) {
            ft_merge_item items[FT_MERGE_READ];
            const size_t some = to - at < FT_MERGE_READ ? to - at : FT_MERGE_READ;
            rc = memory_read(&run->source, at, some, 0, items, st);
            for (size_t i = 0; i < some; i++, end += run->bytes) {
                const uint64_t record = pack(run, &items[i]);
                memcpy(end, &record, sizeof(record));
            }
        }
        if (!rc)
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

/* The symbols to codes, in their own place: a code has at most 24 bits, a symbol 32. `out` has 8 bytes more. */
static void pack_symbols(unsigned char *out, const uint32_t *symbols, size_t n, uint32_t documents, unsigned bits)
{
    uint64_t held = 0;
    unsigned held_bits = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t code = symbols[i] < documents ? 0 : symbols[i] - documents + 1;
        held |= (uint64_t)code << held_bits;
        held_bits += bits;
        if (held_bits >= 32) {
            const uint32_t low = (uint32_t)held;
            memcpy(out, &low, sizeof(low));
            out += sizeof(low);
            held >>= 32;
            held_bits -= 32;
        }
    }
    memcpy(out, &held, sizeof(held));
}

ft_code ft_run_spill(ft_run *run, const char *path, const ft_sort_watch *watch, ft_status *st)
{
    const size_t n = (size_t)run->source.count;
    unsigned char few[FEW * sizeof(uint32_t) + 8]; /* too few to leave 8 bytes behind them */
    unsigned char *packed = n < FEW ? few : (unsigned char *)run->symbols;
    const ft_codes codes = {packed, run->code_bits, n, NULL};
    assert(run->code_bits <= 24 && run->base == 0);
    pack_symbols(packed, run->symbols, n, (uint32_t)run->documents, run->code_bits);
    run->symbols = NULL;
    run->text = &codes;
    set_shape(run);
    ft_code rc = set_path(run, path, O_CREAT | O_TRUNC, st);
    if (!rc)
        rc = write_records(run, watch, st);
    run->text = NULL;
    free(run->order);
    run->order = NULL;
    become_file(run);
    return rc;
}

ft_code ft_run_open(ft_run *out, const char *path, uint64_t n, uint32_t vocab_size, ft_status *st)
{
    *out = (ft_run){.fd = -1, .code_bits = ft_bit_width(vocab_size), .position_bits = ft_bit_width(n)};
    out->kept_bits = kept_bits(out->code_bits);
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
