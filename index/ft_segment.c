/* A segment of ours as a part: opening it. */
#include "index/ft_part.h"

#include <inttypes.h>
#include <stdlib.h>

static ft_code disagree(const ft_part *p, ft_section_kind kind, const char *what, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "%s/%s: %s does not agree with the other files of the segment", p->folder,
                   ft_section_name(kind), what);
}

/* Counts and widths of the sections against each other. */
static ft_code check_sections(ft_part *p, uint32_t vocab_size, ft_status *st)
{
    const ft_section *s = p->section;
    for (ft_section_kind k = FT_SECTION_TOKENS; k < FT_SECTION_KINDS; k++)
        if (s[k].segment != s[FT_SECTION_TOKENS].segment)
            return disagree(p, k, "the segment's number", st);
    const unsigned token_bits = vocab_size <= 0xFFFF ? 16 : 24;
    const uint64_t n = s[FT_SECTION_TOKENS].count, documents = s[FT_SECTION_IDS].count;
    if (s[FT_SECTION_TOKENS].unit_bits != token_bits)
        return disagree(p, FT_SECTION_TOKENS, "the width of a token", st);
    if (s[FT_SECTION_SUFFIXES].count != n || s[FT_SECTION_SUFFIXES].unit_bits != ft_bit_width(n))
        return disagree(p, FT_SECTION_SUFFIXES, "the number of suffixes", st);
    if (s[FT_SECTION_DIRECTORY].count != (uint64_t)vocab_size + 1 ||
        s[FT_SECTION_DIRECTORY].unit_bits != ft_bit_width(n))
        return disagree(p, FT_SECTION_DIRECTORY, "the number of bounds", st);
    if (s[FT_SECTION_DOCUMENTS].count != documents + 1 || s[FT_SECTION_DOCUMENTS].unit_bits != 128 || documents > n)
        return disagree(p, FT_SECTION_DOCUMENTS, "the number of documents", st);
    if (s[FT_SECTION_IDS].unit_bits != 128)
        return disagree(p, FT_SECTION_IDS, "the size of a record", st);
    if (s[FT_SECTION_TEXTS].unit_bits != 8)
        return disagree(p, FT_SECTION_TEXTS, "the width", st);
    return FT_OK;
}

/* The directory decides where searches begin: it is read whole, its checksum too. */
static ft_code check_directory(const ft_part *p, ft_status *st)
{
    ft_code rc = ft_section_check_blocks(&p->section[FT_SECTION_DIRECTORY], p->folder, FT_SECTION_DIRECTORY, st);
    uint64_t before = p->documents;
    for (uint64_t id = 0; id <= p->vocab_size && !rc; id++) {
        const uint64_t bound = ft_packed_get(p->bounds, p->bounds_bits, id);
        if (bound < before || bound > p->n || (id == 0 && bound != p->documents) ||
            (id == p->vocab_size && bound != p->n))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s/directory: the bound of token %" PRIu64 " is out of order", p->folder,
                         id);
        before = bound;
    }
    return rc;
}

ft_code ft_part_open_segment(ft_part *out, const char *folder, uint32_t vocab_size, ft_status *st)
{
    *out = (ft_part){.vocab_size = vocab_size};
    ft_part *p = out;
    p->folder = strdup(folder);
    ft_code rc = p->folder ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    for (ft_section_kind k = FT_SECTION_TOKENS; k < FT_SECTION_KINDS && !rc; k++)
        rc = ft_section_open(&p->section[k], folder, k, st);
    if (!rc)
        rc = check_sections(p, vocab_size, st);
    if (!rc) {
        const ft_section *s = p->section;
        p->n = s[FT_SECTION_TOKENS].count;
        p->documents = s[FT_SECTION_IDS].count;
        p->token_bytes = s[FT_SECTION_TOKENS].unit_bits / 8;
        p->end = p->token_bytes == 2 ? 0xFFFF : 0xFFFFFF;
        p->tokens = s[FT_SECTION_TOKENS].payload;
        p->suffixes = s[FT_SECTION_SUFFIXES].payload;
        p->pointer_bits = s[FT_SECTION_SUFFIXES].unit_bits;
        p->bounds = s[FT_SECTION_DIRECTORY].payload;
        p->bounds_bits = s[FT_SECTION_DIRECTORY].unit_bits;
        p->records = (const ft_document_record *)(const void *)s[FT_SECTION_DOCUMENTS].payload;
        rc = check_directory(p, st);
    }
    if (rc)
        ft_part_close(p);
    return rc;
}

void ft_part_close(ft_part *p)
{
    for (int k = 0; k < FT_SECTION_KINDS; k++)
        ft_section_close(&p->section[k]);
    ft_map_close(&p->token_map);
    ft_map_close(&p->suffix_map);
    ft_map_close(&p->offset_map);
    ft_map_close(&p->metadata_map);
    ft_map_close(&p->metaoff_map);
    free(p->folder);
    *p = (ft_part){0};
}
