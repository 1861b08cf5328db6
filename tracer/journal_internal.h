/* The journal's file, for those who write it and those who read it when a store is opened; docs/store.md draws it. */
#ifndef FT_JOURNAL_INTERNAL_H
#define FT_JOURNAL_INTERNAL_H
#include "base/ft_file.h"
#include "tracer/store_internal.h"

enum {
    JOURNAL_BLOCK = 4096, /* nothing that was synced lies in a block that is written again */
    JOURNAL_RECORDS = 2 * JOURNAL_BLOCK,
    JOURNAL_CAPACITY = 4 << 20,
    JOURNAL_META = LMDB_PAGE_HEADER + (int)sizeof(lmdb_meta)
};

/* Stands twice, in the first two blocks: one that was torn, or damaged, does no harm. */
typedef struct journal_head {
    char magic[8];           /* "FTJRNL1" */
    uint64_t number;         /* of the generation */
    uint64_t has_state;      /* 0: none yet, and no record is of this generation */
    unsigned char nonce[16]; /* of the generation's records */
    journal_end state_end;   /* what LMDB has as "end" in the state */
    unsigned char meta[JOURNAL_META];
    unsigned char digest[16]; /* XXH3 of what is before */
} journal_head;
_Static_assert(sizeof(journal_head) == 248, "as docs/store.md draws it");

typedef struct record_head {
    char magic[8];      /* "FTRECORD" */
    uint64_t at, bytes; /* where it stands, and how much follows */
    uint64_t operations;
    unsigned char nonce[16];
    unsigned char content[16]; /* XXH3 of what follows */
    unsigned char digest[16];  /* XXH3 of what is before */
} record_head;
_Static_assert(sizeof(record_head) == 80, "as docs/store.md draws it");

/* One operation in a record; then trace, routing, summary, text and note, the last with its end. */
typedef struct record_op {
    uint64_t time_ms, trace, routing, summary, text, note;
    uint8_t kind, keep;
    char id[FT_TRACE_ID];
    char zero[7];
} record_op;
_Static_assert(sizeof(record_op) == 88, "as docs/store.md draws it");

static inline uint64_t journal_blocks(uint64_t n)
{
    return (n + JOURNAL_BLOCK - 1) / JOURNAL_BLOCK * JOURNAL_BLOCK;
}

/* 0 or errno; written whole. */
int journal_write(int fd, const void *bytes, size_t n, uint64_t at);
/* Opens the journal, if it is not open; with `make` it is made where there is none. ENOENT: there is none. */
int journal_open(ft_store *s, int make);
/* The newer head; MDB_CORRUPTED: neither is whole. *block says where it stands. */
int journal_head_read(int fd, journal_head *out, int *block);
/* Bytes of a whole record of the generation at `at`; 0: there is none. */
uint64_t journal_record_at(const ft_map *file, uint64_t at, const journal_head *generation);

#endif
