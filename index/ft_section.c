#define _GNU_SOURCE
#include "index/ft_section.h"

#include "base/ft_buffer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

static const char magic[8] = {'f', 't', 'I', 'n', 'd', 'e', 'x', '\n'};

static const char *const names[FT_SECTION_KINDS] = {
    "", "tokens", "suffixes", "bounds", "tree", "documents", "texts", "ids", "removed-documents", "removed-ranks"};

void ft_section_name(ft_section_kind kind, uint64_t generation, char name[FT_SECTION_NAME_MAX])
{
    if (generation)
        snprintf(name, FT_SECTION_NAME_MAX, "%s-%06" PRIu64, names[kind], generation);
    else
        snprintf(name, FT_SECTION_NAME_MAX, "%s", names[kind]);
}

static char *section_path(const char *folder, ft_section_kind kind, uint64_t generation)
{
    char name[FT_SECTION_NAME_MAX];
    ft_section_name(kind, generation, name);
    return ft_path_join(folder, name);
}

static uint64_t header_checksum(const ft_section_header *h)
{
    return XXH3_64bits(h, offsetof(ft_section_header, checksum));
}

static uint64_t block_count(uint64_t payload_bytes, uint32_t block_bytes)
{
    return payload_bytes / block_bytes + (payload_bytes % block_bytes != 0);
}

/* Offset of the checksums in the file. */
static uint64_t checksums_at(uint64_t payload_bytes)
{
    return (FT_SECTION_PAYLOAD + payload_bytes + 7) & ~(uint64_t)7;
}

/* --- Reading -------------------------------------------------------------------- */

static ft_code check_header(const ft_map *map, ft_section_header *h, ft_section_kind kind, const char *path,
                            ft_status *st)
{
    if (map->bytes < FT_SECTION_PAYLOAD)
        return ft_fail(st, FT_ERR_FORMAT, "%s: %" PRIu64 " bytes, too short for a header", path, map->bytes);
    memcpy(h, map->data, sizeof(*h));
    if (memcmp(h->magic, magic, sizeof(magic)) != 0)
        return ft_fail(st, FT_ERR_FORMAT, "%s: not a file of a flextrace index", path);
    if (h->checksum != header_checksum(h))
        return ft_fail(st, FT_ERR_FORMAT, "%s: byte 0: the header's checksum fails", path);
    if (h->version != FT_SECTION_VERSION)
        return ft_fail(st, FT_ERR_FORMAT, "%s: format version %u, this program reads %d; build the index again", path,
                       h->version, FT_SECTION_VERSION);
    if (h->kind != kind)
        return ft_fail(st, FT_ERR_FORMAT, "%s: holds section %u, expected %d (%s)", path, h->kind, (int)kind,
                       names[kind]);
    if (h->block_bytes < 1 || h->block_bytes > FT_SECTION_BLOCK_MAX || h->unit_bits < 1 || h->unit_bits > 128 ||
        h->payload_bytes > map->bytes || h->count >= (uint64_t)1 << FT_POINTER_BITS_MAX)
        return ft_fail(st, FT_ERR_FORMAT, "%s: byte 0: the header's numbers are out of range", path);
    const uint64_t want =
        checksums_at(h->payload_bytes) + (block_count(h->payload_bytes, h->block_bytes) + 1) * sizeof(uint64_t);
    if (map->bytes != want)
        return ft_fail(st, FT_ERR_FORMAT, "%s: %" PRIu64 " bytes, expected %" PRIu64 "; truncated or damaged", path,
                       map->bytes, want);
    return FT_OK;
}

/* Bytes [from, from + n) will be read one after another, unlike most: one read of the
 * disk, or a few, instead of one for each page. No error matters. */
static void read_ahead(const ft_map *map, uint64_t from, uint64_t n)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)map->data + from) / page * page;
    (void)madvise((void *)begin, (uintptr_t)map->data + from + n - begin, MADV_WILLNEED);
}

static ft_code check_list(const ft_map *map, const ft_section_header *h, const char *path, ft_status *st)
{
    const uint64_t at = checksums_at(h->payload_bytes);
    const uint64_t bytes = block_count(h->payload_bytes, h->block_bytes) * sizeof(uint64_t);
    uint64_t stored;
    read_ahead(map, at, bytes + sizeof(stored));
    memcpy(&stored, map->data + at + bytes, sizeof(stored));
    if (stored != XXH3_64bits(map->data + at, bytes))
        return ft_fail(st, FT_ERR_FORMAT, "%s: byte %" PRIu64 ": the list of checksums is damaged", path, at);
    return FT_OK;
}

ft_code ft_section_open(ft_section *out, const char *folder, ft_section_kind kind, uint64_t generation, ft_status *st)
{
    *out = (ft_section){.path = section_path(folder, kind, generation)};
    if (!out->path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    ft_section_header h;
    ft_code rc = ft_map_open(&out->map, out->path, st);
    if (!rc && out->map.bytes) /* pages are read one by one where queries need them; no error matters */
        (void)madvise((void *)(uintptr_t)out->map.data, (size_t)out->map.bytes, MADV_RANDOM);
    if (!rc)
        rc = check_header(&out->map, &h, kind, out->path, st);
    if (!rc)
        rc = check_list(&out->map, &h, out->path, st);
    if (rc) {
        ft_section_close(out);
        return rc;
    }
    out->payload = out->map.data + FT_SECTION_PAYLOAD;
    out->count = h.count;
    out->payload_bytes = h.payload_bytes;
    out->segment = h.segment;
    out->unit_bits = h.unit_bits;
    out->block_bytes = h.block_bytes;
    return FT_OK;
}

void ft_section_close(ft_section *s)
{
    ft_map_close(&s->map);
    free(s->path);
    *s = (ft_section){0};
}

static int block_is_sound(const ft_section *s, uint64_t block)
{
    const uint64_t at = block * s->block_bytes, left = s->payload_bytes - at;
    uint64_t stored;
    read_ahead(&s->map, FT_SECTION_PAYLOAD + at, left < s->block_bytes ? left : s->block_bytes);
    memcpy(&stored, s->map.data + checksums_at(s->payload_bytes) + block * sizeof(stored), sizeof(stored));
    return stored == XXH3_64bits(s->payload + at, left < s->block_bytes ? left : s->block_bytes);
}

static ft_code block_fault(const ft_section *s, uint64_t block, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "%s: byte %" PRIu64 ": the checksum of this block fails", s->path,
                   FT_SECTION_PAYLOAD + block * s->block_bytes);
}

typedef struct block_check {
    const ft_section *section;
    _Atomic uint64_t fault; /* first damaged block, or their number */
} block_check;

static void check_block(void *context, size_t task, unsigned worker)
{
    (void)worker;
    block_check *c = context;
    if (block_is_sound(c->section, task))
        return;
    uint64_t first = atomic_load(&c->fault);
    while (task < first && !atomic_compare_exchange_weak(&c->fault, &first, task))
        continue;
}

ft_code ft_section_check_blocks(const ft_section *s, ft_pool *pool, ft_status *st)
{
    const uint64_t blocks = block_count(s->payload_bytes, s->block_bytes);
    block_check c = {s, blocks};
    ft_pool_run(pool, (size_t)blocks, check_block, &c);
    const uint64_t fault = atomic_load(&c.fault);
    return fault < blocks ? block_fault(s, fault, st) : FT_OK;
}

ft_code ft_section_check_range(const ft_section *s, uint64_t from, uint64_t to, ft_status *st)
{
    for (uint64_t b = from / s->block_bytes; b * s->block_bytes < to && b * s->block_bytes < s->payload_bytes; b++)
        if (!block_is_sound(s, b))
            return block_fault(s, b, st);
    return FT_OK;
}

/* --- Writing --------------------------------------------------------------------- */

static ft_code writer_failed(const ft_section_writer *w, const char *what, ft_status *st)
{
    return ft_fail(st, FT_ERR_IO, "%s: cannot %s: %s", w->path, what, strerror(errno));
}

static ft_code write_at(const ft_section_writer *w, const void *bytes, size_t n, uint64_t at, ft_status *st)
{
    const char *from = bytes;
    while (n) {
        const ssize_t wrote = pwrite(w->fd, from, n, (off_t)at);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return writer_failed(w, "write", st);
        from += wrote;
        at += (uint64_t)wrote;
        n -= (size_t)wrote;
    }
    return FT_OK;
}

static ft_code open_file(ft_section_writer *w, const char *folder, uint64_t generation, int flags, ft_status *st)
{
    w->path = section_path(folder, w->kind, generation);
    w->block = malloc(w->block_bytes);
    if (!w->path || !w->block)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    w->fd = open(w->path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0666);
    return w->fd < 0 ? writer_failed(w, "create", st) : FT_OK;
}

ft_code ft_section_writer_open(ft_section_writer *w, const char *folder, ft_section_kind kind, uint64_t generation,
                               uint32_t block_bytes, ft_status *st)
{
    assert(block_bytes > 0 && block_bytes <= FT_SECTION_BLOCK_MAX);
    *w = (ft_section_writer){.fd = -1, .kind = kind, .block_bytes = block_bytes};
    ft_code rc = open_file(w, folder, generation, O_TRUNC, st);
    if (rc)
        ft_section_writer_abandon(w);
    return rc;
}

ft_code ft_section_writer_reopen(ft_section_writer *w, const char *folder, ft_section_kind kind, uint32_t block_bytes,
                                 const uint64_t *checksums, size_t blocks, ft_status *st)
{
    *w = (ft_section_writer){.fd = -1, .kind = kind, .block_bytes = block_bytes};
    ft_code rc = open_file(w, folder, 0, 0, st);
    if (!rc)
        rc = ft_section_writer_announce(w, blocks, st);
    if (!rc && ftruncate(w->fd, (off_t)(FT_SECTION_PAYLOAD + (uint64_t)blocks * block_bytes)) != 0)
        rc = writer_failed(w, "cut", st);
    if (rc) {
        ft_section_writer_suspend(w);
        return rc;
    }
    if (blocks)
        memcpy(w->checksums, checksums, blocks * sizeof(*checksums));
    w->payload_bytes = (uint64_t)blocks * block_bytes;
    return FT_OK;
}

ft_code ft_section_writer_announce(ft_section_writer *w, size_t blocks, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&w->checksums, &w->block_capacity, blocks, sizeof(*w->checksums), st);
    if (!rc)
        w->block_count = blocks;
    return rc;
}

ft_code ft_section_writer_block(ft_section_writer *w, size_t number, const void *bytes, size_t n, ft_status *st)
{
    assert(number < w->block_count && n <= w->block_bytes);
    const uint64_t at = FT_SECTION_PAYLOAD + (uint64_t)number * w->block_bytes;
    w->checksums[number] = XXH3_64bits(bytes, n);
    ft_code rc = write_at(w, bytes, n, at, st);
    /* The disk begins now, so that the sync at the end finds little to do. */
    if (!rc)
        (void)sync_file_range(w->fd, (off_t)at, (off_t)n, SYNC_FILE_RANGE_WRITE);
    return rc;
}

static ft_code flush_block(ft_section_writer *w, ft_status *st)
{
    if (!w->used)
        return FT_OK;
    ft_code rc = ft_section_writer_announce(w, w->block_count + 1, st);
    if (!rc)
        rc = ft_section_writer_block(w, w->block_count - 1, w->block, w->used, st);
    w->used = 0;
    return rc;
}

ft_code ft_section_writer_put(ft_section_writer *w, const void *bytes, size_t n, ft_status *st)
{
    const unsigned char *from = bytes;
    w->payload_bytes += n;
    while (n) {
        const size_t room = w->block_bytes - w->used, take = n < room ? n : room;
        memcpy(w->block + w->used, from, take);
        w->used += take;
        from += take;
        n -= take;
        if (w->used == w->block_bytes) {
            ft_code rc = flush_block(w, st);
            if (rc)
                return rc;
        }
    }
    return FT_OK;
}

static ft_code write_trailer(ft_section_writer *w, ft_status *st)
{
    static const char zeros[8];
    const uint64_t end = FT_SECTION_PAYLOAD + w->payload_bytes, at = checksums_at(w->payload_bytes);
    const size_t bytes = w->block_count * sizeof(*w->checksums);
    const uint64_t all = XXH3_64bits(w->checksums, bytes);
    ft_code rc = write_at(w, zeros, (size_t)(at - end), end, st);
    if (!rc)
        rc = write_at(w, w->checksums, bytes, at, st);
    return rc ? rc : write_at(w, &all, sizeof(all), at + bytes, st);
}

static ft_code write_header(ft_section_writer *w, uint64_t segment, uint64_t count, unsigned unit_bits, ft_status *st)
{
    union {
        ft_section_header h;
        char page[FT_SECTION_PAYLOAD];
    } first = {.page = {0}};
    ft_section_header *h = &first.h;
    memcpy(h->magic, magic, sizeof(magic));
    h->version = FT_SECTION_VERSION;
    h->kind = w->kind;
    h->segment = segment;
    h->count = count;
    h->payload_bytes = w->payload_bytes;
    h->unit_bits = unit_bits;
    h->block_bytes = w->block_bytes;
    h->checksum = header_checksum(h);
    return write_at(w, first.page, sizeof(first.page), 0, st);
}

ft_code ft_section_writer_commit(ft_section_writer *w, uint64_t segment, uint64_t count, unsigned unit_bits,
                                 uint64_t payload_bytes, ft_status *st)
{
    ft_code rc = flush_block(w, st);
    w->payload_bytes = payload_bytes;
    assert(rc || w->block_count == block_count(payload_bytes, w->block_bytes));
    if (!rc)
        rc = write_trailer(w, st);
    if (!rc)
        rc = write_header(w, segment, count, unit_bits, st);
    if (!rc && fsync(w->fd) != 0)
        rc = writer_failed(w, "sync", st);
    if (rc)
        ft_section_writer_abandon(w);
    else
        ft_section_writer_suspend(w);
    return rc;
}

void ft_section_writer_suspend(ft_section_writer *w)
{
    if (w->path && w->fd >= 0)
        close(w->fd);
    free(w->path);
    free(w->block);
    free(w->checksums);
    *w = (ft_section_writer){.fd = -1};
}

void ft_section_writer_abandon(ft_section_writer *w)
{
    if (w->path && w->fd >= 0)
        unlink(w->path);
    ft_section_writer_suspend(w);
}
