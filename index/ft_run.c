#include "index/ft_run.h"

#include "base/ft_buffer.h"
#include "index/ft_spool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHARED_BITS = 7, BIT_BITS = 5, AHEAD = 32, WRITE_RECORDS = 1 << 16 };

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

/* What a run in memory keeps of a suffix: shared, bit, and the code behind, where a
 * vocabulary leaves it room. */
static inline uint32_t pack_shared(unsigned shared, unsigned bit, uint32_t code)
{
    return shared | bit << SHARED_BITS | code << (SHARED_BITS + BIT_BITS);
}

/* Bits of a code that is kept so, else 0: then the text is asked. */
static unsigned kept_bits(unsigned code_bits)
{
    return SHARED_BITS + BIT_BITS + code_bits <= 32 ? code_bits : 0;
}

static void ask_codes(const ft_run *run, ft_merge_item *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        items[i].code = ft_codes_get(run->text, items[i].position + items[i].shared);
}

static ft_code memory_read(const ft_merge_source *s, uint64_t from, size_t n, int first, ft_merge_item *out,
                           ft_status *st)
{
    (void)first;
    (void)st;
    const ft_run *run = (const ft_run *)(const void *)s;
    const int32_t *order = run->order + from;
    for (size_t i = 0; i < n; i++) {
        if (from + i + AHEAD < s->count)
            __builtin_prefetch(&run->shared[order[i + AHEAD]]);
        const uint32_t v = run->shared[order[i]];
        out[i] = (ft_merge_item){.position = run->base + (uint64_t)order[i],
                                 .code = v >> (SHARED_BITS + BIT_BITS),
                                 .shared = v & FT_SHARED_MAX,
                                 .bit = v >> SHARED_BITS & ((1 << BIT_BITS) - 1)};
        /* Where it is compared, it is so behind what it shares. */
        prefetch_code(run->text, out[i].position + out[i].shared);
    }
    if (!run->kept_bits)
        ask_codes(run, out, n);
    return FT_OK;
}

/* Where two suffixes part: what is kept besides the length of what they share; or that it is said to be long. */
static uint32_t describe_parting(const ft_run *run, uint32_t before, uint32_t here, uint32_t documents)
{
    if (before < documents && here < documents) /* both end */
        return FT_SHARED_MAX;
    const uint32_t old = before < documents ? 0 : before - documents + 1;
    const uint32_t code = here < documents ? 0 : here - documents + 1;
    return pack_shared(0, ft_codes_bit(old, code, run->code_bits), run->kept_bits ? code : 0);
}

/* By position, that of the suffix before it in order. */
static void link_before(ft_run *run, size_t n)
{
    uint32_t *shared = run->shared;
    for (size_t i = 1; i < n; i++) {
        if (i + AHEAD < n)
            __builtin_prefetch(&shared[run->order[i + AHEAD]], 1);
        shared[run->order[i]] = (uint32_t)run->order[i - 1];
    }
    shared[run->order[0]] = UINT32_MAX;
}

/* What all suffixes share, in the order of the text: from one position to the next it falls by at most one, so that
 * all comparisons together are linear; and where the suffix before moves on by one too, it falls by exactly one and
 * ends at the same two symbols, which are not read again (Kärkkäinen, Manzini and Puglisi, "Permuted
 * longest-common-prefix array", CPM 2009). Symbols below `documents` are ends: no two are alike. */
static void measure(ft_run *run, const uint32_t *text, size_t n, uint32_t documents)
{
    uint32_t *shared = run->shared;
    link_before(run, n);
    size_t length = 0;
    uint32_t last = UINT32_MAX, parting = 0; /* of the position before */
    for (size_t p = 0; p < n; p++) {
        if (p + AHEAD < n && shared[p + AHEAD] != UINT32_MAX)
            __builtin_prefetch(&text[shared[p + AHEAD] + (length > AHEAD ? length - AHEAD : 0)]);
        const uint32_t before = shared[p];
        if (before == UINT32_MAX) {
            length = 0;
            parting = 0;
        } else {
            const int same_parting = length > 0 && before == last + 1 && last != UINT32_MAX;
            length -= length > 0;
            if (!same_parting) {
                while (text[p + length] == text[before + length])
                    length++;
                parting = describe_parting(run, text[before + length], text[p + length], documents);
            }
        }
        shared[p] = length < FT_SHARED_MAX ? parting | (uint32_t)length : FT_SHARED_MAX;
        last = before;
    }
}

ft_code ft_run_sort(ft_run *out, uint32_t *tokens, size_t n, size_t documents, uint32_t vocab_size,
                    const ft_sort_watch *watch, ft_status *st)
{
    *out = (ft_run){.fd = -1, .code_bits = ft_bit_width(vocab_size), .position_bits = ft_bit_width(n)};
    out->kept_bits = kept_bits(out->code_bits);
    out->source = (ft_merge_source){.count = n, .position = memory_position, .read = memory_read};
    /* Each end of a document becomes a symbol of its own, below all tokens. */
    uint32_t end = 0;
    for (size_t i = 0; i < n; i++)
        tokens[i] = tokens[i] == FT_END_TOKEN ? end++ : tokens[i] + (uint32_t)documents;
    out->order = ft_alloc_large(n * sizeof(*out->order));
    ft_code rc = out->order ? ft_suffix_sort(out->order, tokens, n, documents + vocab_size, watch, st) : FT_ERR_MEM;
    if (!rc && !(out->shared = ft_alloc_large(n * sizeof(*out->shared))))
        rc = FT_ERR_MEM;
    if (!rc)
        measure(out, tokens, n, (uint32_t)documents);
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

static inline uint64_t pack(const ft_run *run, uint64_t position, uint32_t code, unsigned shared, unsigned bit)
{
    return position | ((uint64_t)code | ((uint64_t)shared | (uint64_t)bit << SHARED_BITS) << run->kept_bits)
                          << run->position_bits;
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
        for (size_t i = from; i < to; i++) {
            if (i + AHEAD < n)
                __builtin_prefetch(&run->shared[run->order[i + AHEAD]]);
            const uint32_t at = (uint32_t)run->order[i], v = run->shared[at];
            const uint64_t record = pack(run, at, v >> (SHARED_BITS + BIT_BITS), v & FT_SHARED_MAX,
                                         v >> SHARED_BITS & ((1 << BIT_BITS) - 1));
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

ft_code ft_run_spill(ft_run *run, const char *path, const ft_sort_watch *watch, ft_status *st)
{
    set_shape(run);
    ft_code rc = set_path(run, path, O_CREAT | O_TRUNC, st);
    if (!rc)
        rc = write_records(run, watch, st);
    free(run->order);
    free(run->shared);
    run->order = NULL;
    run->shared = NULL;
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
    free(run->shared);
    free(run->path);
    *run = (ft_run){.fd = -1};
}
