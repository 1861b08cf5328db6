#include "index/ft_section.h"

#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

static const char magic[8] = {'f', 't', 'I', 'n', 'd', 'e', 'x', '\n'};
static const char zeros[FT_SECTION_PAYLOAD];

const char *ft_section_name(ft_section_kind kind)
{
    static const char *const names[FT_SECTION_KINDS] = {"",          "tokens", "suffixes", "directory",
                                                        "documents", "texts",  "ids"};
    return names[kind];
}

static uint64_t header_checksum(const ft_section_header *h)
{
    return XXH3_64bits(h, offsetof(ft_section_header, checksum));
}

static uint64_t block_count(uint64_t payload_bytes)
{
    return payload_bytes / FT_SECTION_BLOCK + (payload_bytes % FT_SECTION_BLOCK != 0);
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
        return ft_fail(st, FT_ERR_FORMAT, "%s: format version %u, this program reads %d", path, h->version,
                       FT_SECTION_VERSION);
    if (h->kind != kind)
        return ft_fail(st, FT_ERR_FORMAT, "%s: holds section %u, expected %d (%s)", path, h->kind, (int)kind,
                       ft_section_name(kind));
    if (h->block_bytes != FT_SECTION_BLOCK)
        return ft_fail(st, FT_ERR_FORMAT, "%s: blocks of %u bytes, expected %d", path, h->block_bytes,
                       FT_SECTION_BLOCK);
    if (h->unit_bits < 1 || h->unit_bits > 128 || h->payload_bytes > map->bytes ||
        h->count >= (uint64_t)1 << FT_POINTER_BITS_MAX || h->payload_bytes != ft_packed_bytes(h->count, h->unit_bits))
        return ft_fail(st, FT_ERR_FORMAT, "%s: %" PRIu64 " entries of %u bits do not make %" PRIu64 " bytes", path,
                       h->count, h->unit_bits, h->payload_bytes);
    const uint64_t want = checksums_at(h->payload_bytes) + (block_count(h->payload_bytes) + 1) * sizeof(uint64_t);
    if (map->bytes != want)
        return ft_fail(st, FT_ERR_FORMAT, "%s: %" PRIu64 " bytes, expected %" PRIu64 "; truncated or damaged", path,
                       map->bytes, want);
    return FT_OK;
}

ft_code ft_section_open(ft_section *out, const char *folder, ft_section_kind kind, ft_status *st)
{
    *out = (ft_section){0};
    char *path = ft_path_join(folder, ft_section_name(kind));
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    ft_section_header h;
    ft_code rc = ft_map_open(&out->map, path, st);
    if (!rc)
        rc = check_header(&out->map, &h, kind, path, st);
    if (!rc) {
        const uint64_t at = checksums_at(h.payload_bytes), bytes = block_count(h.payload_bytes) * sizeof(uint64_t);
        uint64_t stored;
        memcpy(&stored, out->map.data + at + bytes, sizeof(stored));
        if (stored != XXH3_64bits(out->map.data + at, bytes))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: byte %" PRIu64 ": the list of checksums is damaged", path, at);
    }
    if (rc) {
        ft_section_close(out);
    } else {
        out->payload = out->map.data + FT_SECTION_PAYLOAD;
        out->count = h.count;
        out->payload_bytes = h.payload_bytes;
        out->segment = h.segment;
        out->unit_bits = h.unit_bits;
    }
    free(path);
    return rc;
}

void ft_section_close(ft_section *s)
{
    ft_map_close(&s->map);
    *s = (ft_section){0};
}

ft_code ft_section_check_blocks(const ft_section *s, const char *folder, ft_section_kind kind, ft_status *st)
{
    const unsigned char *checksums = s->map.data + checksums_at(s->payload_bytes);
    for (uint64_t b = 0; b < block_count(s->payload_bytes); b++) {
        const uint64_t at = b * FT_SECTION_BLOCK, left = s->payload_bytes - at;
        uint64_t stored;
        memcpy(&stored, checksums + b * sizeof(stored), sizeof(stored));
        if (stored != XXH3_64bits(s->payload + at, left < FT_SECTION_BLOCK ? left : FT_SECTION_BLOCK))
            return ft_fail(st, FT_ERR_FORMAT, "%s/%s: byte %" PRIu64 ": the checksum of this block fails", folder,
                           ft_section_name(kind), FT_SECTION_PAYLOAD + at);
    }
    return FT_OK;
}

/* --- Writing --------------------------------------------------------------------- */

ft_code ft_section_writer_open(ft_section_writer *w, const char *folder, ft_section_kind kind, uint64_t segment,
                               uint64_t count, unsigned unit_bits, uint64_t payload_bytes, ft_status *st)
{
    *w = (ft_section_writer){.payload_bytes = payload_bytes};
    assert(payload_bytes == ft_packed_bytes(count, unit_bits));
    ft_section_header h = {.version = FT_SECTION_VERSION,
                           .kind = kind,
                           .segment = segment,
                           .count = count,
                           .payload_bytes = payload_bytes,
                           .unit_bits = unit_bits,
                           .block_bytes = FT_SECTION_BLOCK};
    memcpy(h.magic, magic, sizeof(magic));
    h.checksum = header_checksum(&h);
    char *path = ft_path_join(folder, ft_section_name(kind));
    w->block = malloc(FT_SECTION_BLOCK);
    ft_code rc = path && w->block ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc)
        rc = ft_file_writer_open(&w->file, path, st);
    if (!rc)
        rc = ft_file_writer_put(&w->file, &h, sizeof(h), st);
    if (!rc)
        rc = ft_file_writer_put(&w->file, zeros, FT_SECTION_PAYLOAD - sizeof(h), st);
    if (rc)
        ft_section_writer_abandon(w);
    free(path);
    return rc;
}

static ft_code flush_block(ft_section_writer *w, ft_status *st)
{
    if (!w->used)
        return FT_OK;
    ft_code rc =
        ft_array_grow((void **)&w->checksums, &w->checksum_capacity, w->checksum_count + 1, sizeof(*w->checksums), st);
    if (rc)
        return rc;
    w->checksums[w->checksum_count++] = XXH3_64bits(w->block, w->used);
    rc = ft_file_writer_put(&w->file, w->block, w->used, st);
    w->used = 0;
    return rc;
}

ft_code ft_section_writer_put(ft_section_writer *w, const void *bytes, size_t n, ft_status *st)
{
    const unsigned char *from = bytes;
    w->written += n;
    while (n) {
        const size_t room = FT_SECTION_BLOCK - w->used, take = n < room ? n : room;
        memcpy(w->block + w->used, from, take);
        w->used += take;
        from += take;
        n -= take;
        if (w->used == FT_SECTION_BLOCK) {
            ft_code rc = flush_block(w, st);
            if (rc)
                return rc;
        }
    }
    return FT_OK;
}

ft_code ft_section_writer_commit(ft_section_writer *w, ft_status *st)
{
    assert(w->written == w->payload_bytes);
    ft_code rc = flush_block(w, st);
    const uint64_t at = FT_SECTION_PAYLOAD + w->payload_bytes, bytes = w->checksum_count * sizeof(*w->checksums);
    const uint64_t all = XXH3_64bits(w->checksums, bytes);
    if (!rc)
        rc = ft_file_writer_put(&w->file, zeros, checksums_at(w->payload_bytes) - at, st);
    if (!rc)
        rc = ft_file_writer_put(&w->file, w->checksums, bytes, st);
    if (!rc)
        rc = ft_file_writer_put(&w->file, &all, sizeof(all), st);
    if (!rc)
        rc = ft_file_writer_commit(&w->file, st);
    ft_section_writer_abandon(w);
    return rc;
}

void ft_section_writer_abandon(ft_section_writer *w)
{
    ft_file_writer_abandon(&w->file);
    free(w->block);
    free(w->checksums);
    *w = (ft_section_writer){0};
}
