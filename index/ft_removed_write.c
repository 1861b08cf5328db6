#include "index/ft_removed_write.h"

#include "base/ft_buffer.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    REGION = 1 << 12, /* positions that share a bit of the coarse filter, which stays in the cache */
    CHUNK = 1 << 16   /* ranks that are one task; a multiple of 64 */
};

typedef struct scan {
    const ft_part *part;
    uint64_t *positions; /* bit p: the suffix at p is removed */
    uint64_t *regions;   /* bit r: some position of region r is */
    uint64_t *ranks;     /* bit k: the suffix at rank k is */
} scan;

static void set_bit(uint64_t *bits, uint64_t i)
{
    bits[i / 64] |= (uint64_t)1 << i % 64;
}

static int get_bit(const uint64_t *bits, uint64_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

static void scan_chunk(void *context, size_t task, unsigned worker)
{
    (void)worker;
    scan *s = context;
    const uint64_t from = (uint64_t)task * CHUNK, left = s->part->n - from, to = from + (left < CHUNK ? left : CHUNK);
    for (uint64_t rank = from; rank < to; rank++) {
        const uint64_t pos = ft_part_position(s->part, rank);
        if (pos < s->part->n && get_bit(s->regions, pos / REGION) && get_bit(s->positions, pos))
            set_bit(s->ranks, rank);
    }
}

static ft_code mark_documents(scan *s, const uint64_t *numbers, size_t count, uint64_t *suffixes, ft_status *st)
{
    *suffixes = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t start, length;
        if (numbers[i] >= s->part->documents || (i && numbers[i] <= numbers[i - 1]))
            return ft_fail(st, FT_ERR_ARG,
                           "%s: document %" PRIu64 " cannot be removed: no such number, or out of order",
                           s->part->folder, numbers[i]);
        ft_code rc = ft_part_document_range(s->part, numbers[i], &start, &length, st);
        if (rc)
            return rc;
        for (uint64_t pos = start; pos <= start + length; pos++) { /* its end too */
            set_bit(s->positions, pos);
            set_bit(s->regions, pos / REGION);
        }
        *suffixes += length + 1;
    }
    return FT_OK;
}

/* --- Writing rising numbers ------------------------------------------------------------ */

typedef struct list_writer {
    ft_section_writer section;
    unsigned bits, held_bits;
    uint64_t held, count;
} list_writer;

static ft_code put_number(list_writer *w, uint64_t number, ft_status *st)
{
    unsigned char bytes[8];
    size_t n = 0;
    w->held |= number << w->held_bits;
    for (w->held_bits += w->bits; w->held_bits >= 8; w->held_bits -= 8, w->held >>= 8)
        bytes[n++] = (unsigned char)w->held;
    w->count++;
    return ft_section_writer_put(&w->section, bytes, n, st);
}

static ft_code open_list(list_writer *w, const char *folder, ft_section_kind kind, uint64_t generation, uint64_t most,
                         ft_status *st)
{
    *w = (list_writer){.bits = ft_bit_width(most)};
    return ft_section_writer_open(&w->section, folder, kind, generation, FT_SECTION_BLOCK, st);
}

static ft_code close_list(list_writer *w, uint64_t segment, ft_code rc, ft_status *st)
{
    const unsigned char last = (unsigned char)w->held;
    if (!rc && w->held_bits)
        rc = ft_section_writer_put(&w->section, &last, 1, st);
    if (!rc)
        return ft_section_writer_commit(&w->section, segment, w->count, w->bits, ft_packed_bytes(w->count, w->bits),
                                        st);
    ft_section_writer_abandon(&w->section);
    return rc;
}

static ft_code write_documents(const char *folder, uint64_t generation, const ft_part *p, const uint64_t *numbers,
                               size_t count, ft_status *st)
{
    list_writer w;
    ft_code rc = open_list(&w, folder, FT_SECTION_REMOVED_DOCUMENTS, generation, p->documents, st);
    if (rc)
        return rc;
    for (size_t i = 0; i < count && !rc; i++)
        rc = put_number(&w, numbers[i], st);
    return close_list(&w, p->section[FT_SECTION_TOKENS].segment, rc, st);
}

static ft_code write_ranks(const char *folder, uint64_t generation, const scan *s, uint64_t suffixes, ft_status *st)
{
    const ft_part *p = s->part;
    list_writer w;
    ft_code rc = open_list(&w, folder, FT_SECTION_REMOVED_RANKS, generation, p->n, st);
    if (rc)
        return rc;
    for (uint64_t word = 0; word <= (p->n - 1) / 64 && !rc; word++)
        for (uint64_t bits = s->ranks[word]; bits && !rc; bits &= bits - 1)
            rc = put_number(&w, word * 64 + (uint64_t)__builtin_ctzll(bits), st);
    if (!rc && w.count != suffixes)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: %" PRIu64 " of the suffixes to remove stand at no rank; verify the index",
                     p->section[FT_SECTION_SUFFIXES].path, suffixes - w.count);
    return close_list(&w, p->section[FT_SECTION_TOKENS].segment, rc, st);
}

ft_code ft_removed_write(const char *folder, uint64_t generation, const ft_part *part, const uint64_t *numbers,
                         size_t count, ft_pool *pool, uint64_t *tokens, ft_status *st)
{
    assert(!part->bytewise && generation > 0);
    uint64_t suffixes = 0;
    const size_t words = (size_t)(part->n / 64 + 1);
    scan s = {.part = part,
              .positions = ft_alloc_array(words, sizeof(uint64_t)),
              .regions = ft_alloc_array(words / REGION + 1, sizeof(uint64_t)),
              .ranks = ft_alloc_array(words, sizeof(uint64_t))};
    ft_code rc = s.positions && s.regions && s.ranks ? mark_documents(&s, numbers, count, &suffixes, st)
                                                     : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc) {
        ft_pool_run(pool, (size_t)(part->n / CHUNK + (part->n % CHUNK != 0)), scan_chunk, &s);
        rc = write_documents(folder, generation, part, numbers, count, st);
    }
    if (!rc)
        rc = write_ranks(folder, generation, &s, suffixes, st);
    if (!rc)
        *tokens = suffixes - count;
    free(s.positions);
    free(s.regions);
    free(s.ranks);
    return rc;
}
