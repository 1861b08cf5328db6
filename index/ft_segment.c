/* A segment of ours as a part: opening it. */
#include "index/ft_part.h"

#include <inttypes.h>
#include <stdlib.h>

static ft_code disagree(const ft_part *p, ft_section_kind kind, const char *what, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "%s: %s does not agree with the other files of the segment",
                   p->section[kind].path, what);
}

/* Counts and widths of the sections against each other. */
static ft_code check_sections(const ft_part *p, uint32_t vocab_size, ft_status *st)
{
    const ft_section *s = p->section;
    for (ft_section_kind k = FT_SECTION_TOKENS; k < FT_SECTION_CORE_KINDS; k++)
        if (s[k].segment != s[FT_SECTION_TOKENS].segment)
            return disagree(p, k, "the segment's number", st);
    const uint64_t n = s[FT_SECTION_TOKENS].count, documents = s[FT_SECTION_IDS].count;
    const unsigned code_bits = ft_bit_width(vocab_size), pointer_bits = ft_bit_width(n);
    const ft_section *suffixes = &s[FT_SECTION_SUFFIXES];
    if (s[FT_SECTION_TOKENS].unit_bits != code_bits ||
        s[FT_SECTION_TOKENS].payload_bytes != ft_packed_bytes(n, code_bits))
        return disagree(p, FT_SECTION_TOKENS, "the width of a token", st);
    if (suffixes->count != n || suffixes->unit_bits != pointer_bits || n >= (uint64_t)1 << 48 ||
        suffixes->payload_bytes != ft_leaf_count(n) * ft_leaf_shape_of(code_bits, pointer_bits).bytes)
        return disagree(p, FT_SECTION_SUFFIXES, "the number of suffixes", st);
    if (s[FT_SECTION_BOUNDS].count != (uint64_t)vocab_size + 1 || s[FT_SECTION_BOUNDS].unit_bits != pointer_bits ||
        s[FT_SECTION_BOUNDS].payload_bytes != ft_packed_bytes((uint64_t)vocab_size + 1, pointer_bits))
        return disagree(p, FT_SECTION_BOUNDS, "the number of bounds", st);
    if (s[FT_SECTION_DOCUMENTS].count != documents + 1 || s[FT_SECTION_DOCUMENTS].unit_bits != 128 ||
        s[FT_SECTION_DOCUMENTS].payload_bytes != (documents + 1) * sizeof(ft_document_record) || documents > n)
        return disagree(p, FT_SECTION_DOCUMENTS, "the number of documents", st);
    if (s[FT_SECTION_IDS].unit_bits != 128 || s[FT_SECTION_IDS].payload_bytes != documents * sizeof(ft_id_record))
        return disagree(p, FT_SECTION_IDS, "the size of a record", st);
    if (s[FT_SECTION_TEXTS].unit_bits != 8)
        return disagree(p, FT_SECTION_TEXTS, "the width", st);
    return FT_OK;
}

/* The bounds decide where searches begin: they are read whole, their checksum too. */
static ft_code check_bounds(const ft_part *p, ft_status *st)
{
    const ft_section *s = &p->section[FT_SECTION_BOUNDS];
    ft_code rc = ft_section_check_blocks(s, NULL, st);
    uint64_t before = p->documents;
    for (uint64_t id = 0; id <= p->vocab_size && !rc; id++) {
        const uint64_t bound = ft_packed_get(p->bounds, s->unit_bits, id);
        if (bound < before || bound > p->n || (id == 0 && bound != p->documents) ||
            (id == p->vocab_size && bound != p->n))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: the bound of token %" PRIu64 " is out of order", s->path, id);
        before = bound;
    }
    return rc;
}

/* Lists of what is removed; all their numbers are checked by verify. */
static ft_code open_removed(ft_part *p, uint64_t generation, ft_status *st)
{
    ft_section *s = p->section;
    ft_numbers *lists[] = {&p->removed_documents, &p->removed_ranks};
    const uint64_t most[] = {p->documents, p->n};
    for (unsigned i = 0; i < 2; i++) {
        const ft_section_kind kind = FT_SECTION_REMOVED_DOCUMENTS + i;
        ft_code rc = ft_section_open(&s[kind], p->folder, kind, generation, st);
        if (rc)
            return rc;
        if (s[kind].segment != s[FT_SECTION_TOKENS].segment)
            return disagree(p, kind, "the segment's number", st);
        if (s[kind].count > most[i] || s[kind].unit_bits != ft_bit_width(most[i]) ||
            s[kind].payload_bytes != ft_packed_bytes(s[kind].count, s[kind].unit_bits))
            return disagree(p, kind, "the number of entries", st);
        *lists[i] = (ft_numbers){s[kind].payload, s[kind].unit_bits, s[kind].count};
    }
    return FT_OK;
}

ft_code ft_part_open_segment(ft_part *out, const char *folder, uint32_t vocab_size, uint64_t removed, ft_status *st)
{
    *out = (ft_part){.vocab_size = vocab_size, .end = UINT32_MAX, .token_bytes = vocab_size <= 0xFFFF ? 2 : 3};
    ft_part *p = out;
    const ft_section *s = p->section;
    p->folder = strdup(folder);
    ft_code rc = p->folder ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    for (ft_section_kind k = FT_SECTION_TOKENS; k < FT_SECTION_CORE_KINDS && !rc; k++)
        rc = ft_section_open(&p->section[k], folder, k, 0, st);
    if (!rc)
        rc = check_sections(p, vocab_size, st);
    if (!rc) {
        p->n = s[FT_SECTION_TOKENS].count;
        p->documents = s[FT_SECTION_IDS].count;
        p->text = (ft_codes){s[FT_SECTION_TOKENS].payload, s[FT_SECTION_TOKENS].unit_bits, p->n, NULL};
        p->shape = ft_leaf_shape_of(p->text.bits, s[FT_SECTION_SUFFIXES].unit_bits);
        p->suffixes = s[FT_SECTION_SUFFIXES].payload;
        p->bounds = s[FT_SECTION_BOUNDS].payload;
        p->records = (const ft_document_record *)(const void *)s[FT_SECTION_DOCUMENTS].payload;
        rc = check_bounds(p, st);
    }
    if (!rc)
        rc = ft_tree_open(&p->tree, &s[FT_SECTION_TREE], p->suffixes, &p->shape, &p->text, st);
    if (!rc && removed)
        rc = open_removed(p, removed, st);
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
