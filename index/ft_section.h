/* ft_section: one file of a segment. Internal to index/; docs/index-format.md.
 *
 *   0            header, 128 bytes, then zeros
 *   4096         payload
 *   4096 + p     zeros to a multiple of 8, then XXH3 of each block of the payload
 *                (u64 each), then XXH3 of those checksums (u64)
 *
 * All numbers are little-endian. The checksums behind the payload let a reader
 * load 8 bytes from any payload byte without leaving the mapping. A file's blocks
 * are as long as suits its entries, so that threads can write them side by side. */
#ifndef FT_SECTION_H
#define FT_SECTION_H
#include "base/ft_file.h"
#include "base/ft_status.h"
#include "base/ft_threads.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum ft_section_kind {
    FT_SECTION_TOKENS = 1, /* count codes of unit_bits: id + 1, and 0 where a document ends */
    FT_SECTION_SUFFIXES,   /* count positions by rank, and what each shares with the one before: ft_leaf.h */
    FT_SECTION_BOUNDS,     /* count bounds of unit_bits: first rank of each token id */
    FT_SECTION_TREE,       /* count bytes: separators over the blocks of suffixes, ft_tree.h */
    FT_SECTION_DOCUMENTS,  /* count records, the last one a sentinel: u64 start, u64 place in TEXTS */
    FT_SECTION_TEXTS,      /* for each document: id, NUL, metadata, NUL */
    FT_SECTION_IDS,        /* count records by hash: u64 XXH3 of the id, u64 document number */
    FT_SECTION_CORE_KINDS, /* those above stand in every segment */
    FT_SECTION_REMOVED_DOCUMENTS = FT_SECTION_CORE_KINDS, /* count numbers of unit_bits, rising */
    FT_SECTION_REMOVED_RANKS,                             /* count ranks of unit_bits, rising: their suffixes */
    FT_SECTION_KINDS
} ft_section_kind;

enum {
    FT_SECTION_VERSION = 3,
    FT_SECTION_PAYLOAD = 4096,     /* offset of the payload */
    FT_SECTION_BLOCK = 256 * 1024, /* bytes under one checksum, where nothing else suits better */
    FT_SECTION_BLOCK_MAX = 16 << 20,
    FT_POINTER_BITS_MAX = 57 /* so that 8 bytes hold any packed number at any bit */
};

typedef struct ft_section_header {
    char magic[8]; /* "ftIndex\n" */
    uint32_t version, kind;
    uint64_t segment; /* the same in all files of a segment, so that none can be another's */
    uint64_t count, payload_bytes;
    uint32_t unit_bits, block_bytes;
    uint64_t reserved[9];
    uint64_t checksum; /* XXH3 of all before */
} ft_section_header;
static_assert(sizeof(ft_section_header) == 128, "the header is part of the format");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are read in place");

typedef struct ft_document_record {
    uint64_t start; /* first token; the end-of-document token stands before the next start */
    uint64_t text;
} ft_document_record;
static_assert(sizeof(ft_document_record) == 16, "part of the format");

typedef struct ft_id_record {
    uint64_t hash, document;
} ft_id_record;
static_assert(sizeof(ft_id_record) == 16, "part of the format");

enum { FT_SECTION_NAME_MAX = 40 };
/* The file's name in its segment's folder. What is removed from a segment changes, so
 * those files bear the number of the manifest that first named them; 0 for the others. */
void ft_section_name(ft_section_kind kind, uint64_t generation, char name[FT_SECTION_NAME_MAX]);

/* --- Reading -------------------------------------------------------------- */

typedef struct ft_section {
    ft_map map;
    char *path;
    const unsigned char *payload;
    uint64_t count, payload_bytes, segment;
    unsigned unit_bits;
    uint32_t block_bytes;
} ft_section;

/* Checks size, header and the checksum of the checksums; blocks are checked by
 * ft_section_check_blocks. The mapping is advised for random access. */
FT_CHECKED ft_code ft_section_open(ft_section *out, const char *folder, ft_section_kind kind, uint64_t generation,
                                   ft_status *st);
void ft_section_close(ft_section *s);
/* FT_ERR_FORMAT with the file and the byte where the first damaged block starts. */
FT_CHECKED ft_code ft_section_check_blocks(const ft_section *s, ft_pool *pool, ft_status *st);
/* The same for the blocks that hold payload bytes [from, to). */
FT_CHECKED ft_code ft_section_check_range(const ft_section *s, uint64_t from, uint64_t to, ft_status *st);

/* --- Writing ---------------------------------------------------------------- */

/* The file stands at its place from the first byte on, without a header until commit:
 * nothing opens it before. */
typedef struct ft_section_writer {
    int fd; /* -1: closed */
    char *path;
    ft_section_kind kind;
    uint32_t block_bytes;
    uint64_t *checksums;
    size_t block_count, block_capacity; /* blocks written, or announced; room for checksums */
    unsigned char *block;               /* of ft_section_writer_put */
    size_t used;
    uint64_t payload_bytes;
} ft_section_writer;

FT_CHECKED ft_code ft_section_writer_open(ft_section_writer *w, const char *folder, ft_section_kind kind,
                                          uint64_t generation, uint32_t block_bytes, ft_status *st);
/* Opens what an interrupted writer left: `blocks` whole blocks stand, with these checksums. */
FT_CHECKED ft_code ft_section_writer_reopen(ft_section_writer *w, const char *folder, ft_section_kind kind,
                                            uint32_t block_bytes, const uint64_t *checksums, size_t blocks,
                                            ft_status *st);
/* In order, by one thread. */
FT_CHECKED ft_code ft_section_writer_put(ft_section_writer *w, const void *bytes, size_t n, ft_status *st);
/* Instead of put: any thread, any order, each block once; only the last one may be short.
 * Announce how many there will be (in all, so far) before threads start. */
FT_CHECKED ft_code ft_section_writer_announce(ft_section_writer *w, size_t blocks, ft_status *st);
FT_CHECKED ft_code ft_section_writer_block(ft_section_writer *w, size_t number, const void *bytes, size_t n,
                                           ft_status *st);
/* Trailer, header, sync. payload_bytes is what was put, or given as blocks. */
FT_CHECKED ft_code ft_section_writer_commit(ft_section_writer *w, uint64_t segment, uint64_t count, unsigned unit_bits,
                                            uint64_t payload_bytes, ft_status *st);
void ft_section_writer_abandon(ft_section_writer *w); /* removes the file; closed writers are allowed */
void ft_section_writer_suspend(ft_section_writer *w); /* closes and keeps the file, to be reopened */

/* --- Packed numbers ----------------------------------------------------------- */

static inline unsigned ft_bit_width(uint64_t v) /* at least 1 */
{
    return v ? 64 - (unsigned)__builtin_clzll(v) : 1;
}

static inline uint64_t ft_packed_bytes(uint64_t count, unsigned bits) /* count < 2^57 */
{
    return count / 8 * bits + (count % 8 * bits + 7) / 8;
}

/* Reads 8 bytes from `packed`'s byte i * bits / 8. */
static inline uint64_t ft_packed_get(const unsigned char *packed, unsigned bits, uint64_t i)
{
    const uint64_t at = i * bits;
    uint64_t v;
    memcpy(&v, packed + (at >> 3), sizeof(v));
    return v >> (at & 7) & (((uint64_t)1 << bits) - 1);
}

/* Writes into zeros; touches 8 bytes from `packed`'s byte i * bits / 8. */
static inline void ft_packed_set(unsigned char *packed, unsigned bits, uint64_t i, uint64_t value)
{
    const uint64_t at = i * bits;
    uint64_t v;
    memcpy(&v, packed + (at >> 3), sizeof(v));
    v |= value << (at & 7);
    memcpy(packed + (at >> 3), &v, sizeof(v));
}
#endif
