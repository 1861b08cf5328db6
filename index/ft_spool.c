#include "index/ft_spool.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

static uint32_t block_bytes(const ft_spool *s)
{
    return s->bits * (FT_SPOOL_CODES / 8);
}

static ft_code put_tail(ft_spool *s, ft_status *st);

/* --- Files ---------------------------------------------------------------------------- */

static ft_code file_failed(const ft_spool *s, const char *name, ft_status *st)
{
    return ft_fail(st, FT_ERR_IO, "%s/%s: cannot write: %s", s->folder, name, strerror(errno));
}

/* Opens an appending file, cut to `bytes`. */
static ft_code open_file(const ft_spool *s, const char *name, uint64_t bytes, FILE **out, ft_status *st)
{
    char *path = ft_path_join(s->folder, name);
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    *out = fopen(path, bytes ? "r+be" : "w+be");
    ft_code rc = FT_OK;
    if (!*out || ftruncate(fileno(*out), (off_t)bytes) != 0 || fseeko(*out, (off_t)bytes, SEEK_SET) != 0)
        rc = file_failed(s, name, st);
    free(path);
    return rc;
}

/* The blocks that stand, with their checksums, which are computed anew; the unfinished
 * one comes back into `tail`. */
static ft_code reopen_tokens(ft_spool *s, ft_status *st)
{
    const size_t blocks = (size_t)(s->mark.codes / FT_SPOOL_CODES);
    char *path = ft_path_join(s->folder, "tokens");
    uint64_t *checksums = ft_alloc_array(blocks, sizeof(*checksums));
    ft_map map = {0};
    ft_code rc =
        path && checksums ? ft_map_open(&map, path, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    const uint64_t needed = FT_SECTION_PAYLOAD + ft_packed_bytes(s->mark.codes, s->bits);
    if (!rc && map.bytes < needed)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: shorter than what was written", path);
    for (size_t i = 0; i < blocks && !rc; i++)
        checksums[i] = XXH3_64bits(map.data + FT_SECTION_PAYLOAD + (uint64_t)i * block_bytes(s), block_bytes(s));
    s->tail_count = (size_t)(s->mark.codes % FT_SPOOL_CODES);
    if (!rc) {
        const unsigned char *at = map.data + FT_SECTION_PAYLOAD + (uint64_t)blocks * block_bytes(s);
        for (size_t i = 0; i < s->tail_count; i++) {
            uint64_t v = 0; /* the file may end behind the last code */
            const uint64_t bit = (uint64_t)i * s->bits, byte = bit >> 3;
            const size_t whole = (size_t)(map.data + map.bytes - (at + byte));
            memcpy(&v, at + byte, whole < 8 ? whole : 8);
            s->tail[i] = (uint32_t)(v >> (bit & 7) & (((uint64_t)1 << s->bits) - 1)) - 1; /* 0 becomes FT_END_TOKEN */
        }
    }
    ft_map_close(&map);
    if (!rc)
        rc = ft_section_writer_reopen(&s->tokens, s->folder, FT_SECTION_TOKENS, block_bytes(s), checksums, blocks, st);
    free(checksums);
    free(path);
    return rc;
}

ft_code ft_spool_open(ft_spool *out, const char *folder, uint32_t vocab_size, const ft_spool_mark *from, ft_pool *pool,
                      ft_status *st)
{
    *out = (ft_spool){.vocab_size = vocab_size, .bits = ft_bit_width(vocab_size), .pool = pool, .tokens = {.fd = -1}};
    if (from)
        out->mark = *from;
    out->folder = strdup(folder);
    out->tail = ft_alloc_array(FT_SPOOL_CODES, sizeof(*out->tail));
    ft_code rc = out->folder && out->tail ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc)
        rc = open_file(out, "spool-documents", out->mark.documents * sizeof(ft_document_record), &out->documents, st);
    if (!rc)
        rc = open_file(out, "spool-texts", out->mark.texts, &out->texts, st);
    if (!rc)
        rc = out->mark.codes ? reopen_tokens(out, st)
                             : ft_section_writer_open(&out->tokens, folder, FT_SECTION_TOKENS, 0, block_bytes(out), st);
    if (!rc)
        rc = put_tail(out, st); /* reopening cut it off: a second kill must find it */
    if (rc)
        ft_spool_close(out);
    return rc;
}

void ft_spool_close(ft_spool *s)
{
    if (s->documents)
        fclose(s->documents);
    if (s->texts)
        fclose(s->texts);
    ft_section_writer_suspend(&s->tokens);
    free(s->folder);
    free(s->tail);
    *s = (ft_spool){.tokens = {.fd = -1}};
}

/* --- Adding ----------------------------------------------------------------------------- */

ft_code ft_spool_document(ft_spool *s, uint64_t start, const char *id, const char *metadata, uint64_t text_bytes,
                          ft_status *st)
{
    const ft_document_record record = {start, s->mark.texts};
    const size_t id_bytes = strlen(id) + 1, metadata_bytes = strlen(metadata) + 1;
    if (fwrite(&record, sizeof(record), 1, s->documents) != 1)
        return file_failed(s, "spool-documents", st);
    if (fwrite(id, id_bytes, 1, s->texts) != 1 || fwrite(metadata, metadata_bytes, 1, s->texts) != 1)
        return file_failed(s, "spool-texts", st);
    s->mark.documents++;
    s->mark.texts += id_bytes + metadata_bytes;
    s->mark.text_bytes += text_bytes;
    return FT_OK;
}

/* The codes of n ids, `bits` each, lowest bit first; out holds 8 bytes more. */
static size_t pack(unsigned char *out, const uint32_t *tokens, size_t n, unsigned bits)
{
    unsigned char *to = out;
    uint64_t held = 0;
    unsigned held_bits = 0;
    for (size_t i = 0; i < n; i++) {
        held |= (uint64_t)(uint32_t)(tokens[i] + 1) << held_bits; /* FT_END_TOKEN becomes 0 */
        held_bits += bits;
        while (held_bits >= 32) {
            const uint32_t low = (uint32_t)held;
            memcpy(to, &low, sizeof(low));
            to += sizeof(low);
            held >>= 32;
            held_bits -= 32;
        }
    }
    memcpy(to, &held, sizeof(held));
    return (size_t)(to - out) + (held_bits + 7) / 8;
}

typedef struct pack_job {
    ft_spool *spool;
    const uint32_t *tokens; /* whole blocks */
    size_t first;           /* number of the first of them */
    atomic_int failed;
    ft_code rc;
    ft_status st;
} pack_job;

static ft_code pack_block(ft_spool *s, size_t number, const uint32_t *tokens, size_t n, ft_status *st)
{
    unsigned char *bytes = malloc(block_bytes(s) + 16);
    if (!bytes)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    const size_t size = pack(bytes, tokens, n, s->bits);
    ft_code rc = ft_section_writer_block(&s->tokens, number, bytes, size, st);
    free(bytes);
    return rc;
}

static void pack_task(void *context, size_t task, unsigned worker)
{
    (void)worker;
    pack_job *j = context;
    ft_status st;
    ft_code rc = pack_block(j->spool, j->first + task, j->tokens + task * FT_SPOOL_CODES, FT_SPOOL_CODES, &st);
    if (rc && !atomic_exchange(&j->failed, 1)) {
        j->rc = rc;
        j->st = st;
    }
}

static ft_code put_blocks(ft_spool *s, const uint32_t *tokens, size_t blocks, ft_status *st)
{
    pack_job j = {.spool = s, .tokens = tokens, .first = (size_t)(s->mark.codes / FT_SPOOL_CODES)};
    ft_code rc = ft_section_writer_announce(&s->tokens, j.first + blocks, st);
    if (rc)
        return rc;
    ft_pool_run(s->pool, blocks, pack_task, &j);
    if (j.rc && st)
        *st = j.st;
    if (!j.rc)
        s->mark.codes += (uint64_t)blocks * FT_SPOOL_CODES;
    return j.rc;
}

ft_code ft_spool_tokens(ft_spool *s, const uint32_t *tokens, size_t n, ft_status *st)
{
    ft_code rc = FT_OK;
    if (s->tail_count) {
        const size_t room = FT_SPOOL_CODES - s->tail_count, take = n < room ? n : room;
        memcpy(s->tail + s->tail_count, tokens, take * sizeof(*tokens));
        s->tail_count += take;
        tokens += take;
        n -= take;
        s->mark.codes += take;
        if (s->tail_count < FT_SPOOL_CODES)
            return FT_OK;
        s->mark.codes -= FT_SPOOL_CODES; /* put_blocks counts from the last whole block */
        s->tail_count = 0;
        rc = put_blocks(s, s->tail, 1, st);
    }
    const size_t blocks = n / FT_SPOOL_CODES, rest = n % FT_SPOOL_CODES;
    if (!rc && blocks)
        rc = put_blocks(s, tokens, blocks, st);
    if (rc)
        return rc;
    if (rest)
        memcpy(s->tail, tokens + (n - rest), rest * sizeof(*tokens));
    s->tail_count = rest;
    s->mark.codes += rest;
    return FT_OK;
}

static ft_code put_tail(ft_spool *s, ft_status *st)
{
    if (!s->tail_count)
        return FT_OK;
    const size_t number = (size_t)(s->mark.codes / FT_SPOOL_CODES);
    ft_code rc = ft_section_writer_announce(&s->tokens, number + 1, st);
    return rc ? rc : pack_block(s, number, s->tail, s->tail_count, st);
}

ft_code ft_spool_flush(ft_spool *s, ft_status *st)
{
    if (fflush(s->documents) != 0)
        return file_failed(s, "spool-documents", st);
    if (fflush(s->texts) != 0)
        return file_failed(s, "spool-texts", st);
    return put_tail(s, st);
}

ft_code ft_spool_read(const ft_spool *s, uint64_t from, size_t n, uint32_t *out, ft_status *st)
{
    enum { AT_ONCE = 1 << 16 }; /* codes; a multiple of 8 */
    ft_code rc = FT_OK;
    unsigned char *bytes = malloc((size_t)AT_ONCE * 4 + 16);
    if (!bytes)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    while (n && !rc) {
        const uint64_t skip = from % 8, first = from - skip; /* begins at a byte */
        const size_t take = n < AT_ONCE - skip ? n : AT_ONCE - (size_t)skip;
        const size_t size = (size_t)ft_packed_bytes(skip + take, s->bits);
        const off_t at = (off_t)(FT_SECTION_PAYLOAD + first / 8 * s->bits);
        size_t have = 0;
        while (have < size && !rc) {
            const ssize_t got = pread(s->tokens.fd, bytes + have, size - have, at + (off_t)have);
            if (got <= 0 && !(got < 0 && errno == EINTR))
                rc = ft_fail(st, FT_ERR_IO, "%s/tokens: cannot read: %s", s->folder,
                             got ? strerror(errno) : "the file ends");
            have += got > 0 ? (size_t)got : 0;
        }
        for (size_t i = 0; i < take && !rc; i++)
            out[i] = (uint32_t)ft_packed_get(bytes, s->bits, skip + i) - 1;
        from += take;
        out += take;
        n -= take;
    }
    free(bytes);
    return rc;
}

/* --- Ids ---------------------------------------------------------------------------------- */

static int compare_ids(const void *a, const void *b)
{
    const ft_id_record *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->document < y->document ? -1 : x->document > y->document;
}

typedef struct ids_job {
    ft_spool *spool;
    const ft_document_record *documents;
    const char *texts;
    ft_spool_twice *twice;
    void *context;
} ids_job;

static const char *id_of(const ids_job *j, uint64_t document)
{
    return j->texts + j->documents[document].text;
}

/* Those of equal hash whose ids are the same, and not by chance. */
static ft_code tell_twice(const ids_job *j, const ft_id_record *ids, size_t count, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 1; i < count && !rc; i++) {
        size_t k = i;
        while (k > 0 && ids[k - 1].hash == ids[i].hash &&
               strcmp(id_of(j, ids[k - 1].document), id_of(j, ids[i].document)) != 0)
            k--;
        if (k > 0 && ids[k - 1].hash == ids[i].hash)
            rc = j->twice(j->context, ids[k - 1].document, ids[i].document, id_of(j, ids[i].document), st);
    }
    return rc;
}

/* Sorted by hash, in as many passes over the ids as the memory wants. */
static ft_code write_ids(const ids_job *j, uint64_t memory_bytes, ft_section_writer *w, ft_status *st)
{
    const uint64_t count = j->spool->mark.documents, room = memory_bytes / sizeof(ft_id_record);
    unsigned pass_bits = 0;
    while (pass_bits < 20 && (count >> pass_bits) > room / 2 && count > 1024)
        pass_bits++;
    ft_id_record *ids = NULL;
    size_t capacity = 0;
    ft_code rc = FT_OK;
    for (uint64_t pass = 0; pass < (uint64_t)1 << pass_bits && !rc; pass++) {
        size_t have = 0;
        for (uint64_t i = 0; i < count && !rc; i++) {
            const char *id = id_of(j, i);
            const uint64_t hash = XXH3_64bits(id, strlen(id));
            if (pass_bits && hash >> (64 - pass_bits) != pass)
                continue;
            rc = ft_array_grow((void **)&ids, &capacity, have + 1, sizeof(*ids), st);
            if (!rc)
                ids[have++] = (ft_id_record){hash, i};
        }
        if (!rc && have)
            qsort(ids, have, sizeof(*ids), compare_ids);
        if (!rc && j->twice)
            rc = tell_twice(j, ids, have, st);
        if (!rc)
            rc = ft_section_writer_put(w, ids, have * sizeof(*ids), st);
    }
    free(ids);
    return rc;
}

/* --- Sections -------------------------------------------------------------------------------- */

static uint64_t list_hash(const ft_section_writer *w, uint64_t seed)
{
    return XXH3_64bits_withSeed(w->checksums, w->block_count * sizeof(*w->checksums), seed);
}

static ft_code map_spool(const ft_spool *s, const char *name, ft_map *out, ft_status *st)
{
    char *path = ft_path_join(s->folder, name);
    ft_code rc = path ? ft_map_open(out, path, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    free(path);
    return rc;
}

void ft_spool_remove(const char *folder)
{
    static const char *const names[] = {"spool-documents", "spool-texts"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char *path = ft_path_join(folder, names[i]);
        if (path)
            (void)unlink(path); /* what stays is removed as a file that no manifest names */
        free(path);
    }
}

/* The four sections; their blocks first, since the segment's number follows from them. */
static ft_code write_sections(ft_spool *s, const ids_job *j, const ft_map *documents, const ft_map *texts,
                              uint64_t memory_bytes, uint64_t *segment, ft_status *st)
{
    ft_section_writer of_documents = {.fd = -1}, of_texts = {.fd = -1}, of_ids = {.fd = -1};
    const ft_spool_mark *m = &s->mark;
    const uint64_t ids_bytes = m->documents * sizeof(ft_id_record), documents_bytes = (m->documents + 1) * 16;
    ft_code rc = ft_section_writer_open(&of_documents, s->folder, FT_SECTION_DOCUMENTS, 0, FT_SECTION_BLOCK, st);
    if (!rc)
        rc = ft_section_writer_put(&of_documents, documents->data, documents->bytes, st);
    if (!rc)
        rc = ft_section_writer_open(&of_texts, s->folder, FT_SECTION_TEXTS, 0, FT_SECTION_BLOCK, st);
    if (!rc)
        rc = ft_section_writer_put(&of_texts, texts->data, texts->bytes, st);
    if (!rc)
        rc = ft_section_writer_open(&of_ids, s->folder, FT_SECTION_IDS, 0, FT_SECTION_BLOCK, st);
    if (!rc)
        rc = write_ids(j, memory_bytes, &of_ids, st);
    *segment = list_hash(&s->tokens, list_hash(&of_texts, m->codes));
    if (!rc)
        rc = ft_section_writer_commit(&s->tokens, *segment, m->codes, s->bits, ft_packed_bytes(m->codes, s->bits), st);
    if (!rc)
        rc = ft_section_writer_commit(&of_documents, *segment, m->documents + 1, 128, documents_bytes, st);
    if (!rc)
        rc = ft_section_writer_commit(&of_texts, *segment, m->texts, 8, m->texts, st);
    if (!rc)
        rc = ft_section_writer_commit(&of_ids, *segment, m->documents, 128, ids_bytes, st);
    ft_section_writer_abandon(&of_documents);
    ft_section_writer_abandon(&of_texts);
    ft_section_writer_abandon(&of_ids);
    return rc;
}

ft_code ft_spool_commit(ft_spool *s, uint64_t memory_bytes, ft_spool_twice *twice, void *context, uint64_t *segment,
                        ft_status *st)
{
    ft_map documents = {0}, texts = {0};
    const ft_document_record sentinel = {s->mark.codes, s->mark.texts};
    ft_code rc =
        fwrite(&sentinel, sizeof(sentinel), 1, s->documents) == 1 ? FT_OK : file_failed(s, "spool-documents", st);
    if (!rc)
        rc = ft_spool_flush(s, st);
    if (!rc)
        rc = map_spool(s, "spool-documents", &documents, st);
    if (!rc)
        rc = map_spool(s, "spool-texts", &texts, st);
    const ids_job j = {s, (const ft_document_record *)(const void *)documents.data, (const char *)texts.data, twice,
                       context};
    if (!rc)
        rc = write_sections(s, &j, &documents, &texts, memory_bytes, segment, st);
    ft_map_close(&documents);
    ft_map_close(&texts);
    return rc;
}
