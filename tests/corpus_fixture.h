/* A tiny infini-gram folder out of token arrays: an index without tokenizer or
 * builder, so that tests of what stands on an index need neither. */
#ifndef FT_CORPUS_FIXTURE_H
#define FT_CORPUS_FIXTURE_H
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "index/ft_index.h"

enum { FIXTURE_DOCUMENTS = 64, FIXTURE_TOKENS = 400 };

typedef struct fixture_document {
    uint32_t ids[FIXTURE_TOKENS];
    size_t count;
} fixture_document;

/* Version 4, 16-bit tokens (values below 65535). */
typedef struct fixture_shard {
    unsigned char bytes[2 * FIXTURE_DOCUMENTS * (FIXTURE_TOKENS + 1)];
    size_t size;
    uint64_t offsets[FIXTURE_DOCUMENTS];
    size_t documents;
} fixture_shard;

static inline int fixture_before(const fixture_shard *s, uint64_t a, uint64_t b)
{
    const size_t left = s->size - a, right = s->size - b, n = left < right ? left : right;
    const int order = memcmp(s->bytes + a, s->bytes + b, n);
    return order < 0 || (order == 0 && left < right);
}

static inline void fixture_write_shard(const char *folder, unsigned number, fixture_shard *s)
{
    const size_t n = s->size / 2;
    uint64_t *order = calloc(n + 1, sizeof(*order));
    unsigned char *table = calloc(n + 1, 8);
    /* infini-gram's pointers have ceil(log2(size) / 8) bytes. */
    unsigned width = 0, bits = 0;
    while ((UINT64_C(1) << bits) < s->size)
        bits++;
    width = bits ? (bits + 7) / 8 : 1;
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && fixture_before(s, 2 * i, order[at - 1]); at--)
            order[at] = order[at - 1];
        order[at] = 2 * i;
    }
    for (size_t i = 0; i < n; i++)
        for (unsigned k = 0; k < width; k++)
            table[i * width + k] = (unsigned char)(order[i] >> 8 * k);
    char name[4200];
    snprintf(name, sizeof(name), "%s/tokenized.%u", folder, number);
    ft_test_write(name, s->bytes, s->size);
    snprintf(name, sizeof(name), "%s/table.%u", folder, number);
    ft_test_write(name, table, n * width);
    snprintf(name, sizeof(name), "%s/offset.%u", folder, number);
    ft_test_write(name, s->offsets, s->documents * sizeof(s->offsets[0]));
    free(order);
    free(table);
}

/* Document i goes to shard i mod shards. Returns the open index. */
static inline ft_index *fixture_index(const char *name, const fixture_document *documents, size_t count,
                                      unsigned shards)
{
    char folder[4096];
    strcpy(folder, ft_test_path(name));
    assert_int_equal(ft_folder_remove(folder, NULL), FT_OK);
    assert_int_equal(ft_folder_make(folder, NULL), FT_OK);
    fixture_shard *s = malloc(sizeof(*s));
    for (unsigned shard = 0; shard < shards; shard++) {
        memset(s, 0, sizeof(*s));
        for (size_t d = shard; d < count; d += shards) {
            s->offsets[s->documents++] = s->size;
            s->bytes[s->size++] = 0xFF;
            s->bytes[s->size++] = 0xFF;
            for (size_t i = 0; i < documents[d].count; i++) {
                s->bytes[s->size++] = (unsigned char)documents[d].ids[i];
                s->bytes[s->size++] = (unsigned char)(documents[d].ids[i] >> 8);
            }
        }
        fixture_write_shard(folder, shard, s);
    }
    free(s);
    ft_index *ix;
    ft_status st;
    const ft_infinigram_options o = {.version = 4, .end_of_text = UINT32_MAX};
    assert_ok(ft_index_open_infinigram(&ix, folder, &o, &st), st);
    return ix;
}
#endif
