/* An index with any bytes in one of its files, or an infini-gram folder of any bytes,
 * is refused or answers; nothing is read outside the files. The first byte says what
 * the rest is:
 *   0      the manifest's text before its checksum, which is made right
 *   1..5   the payload of tokens, suffixes, documents, texts, ids
 *   6, 7   infini-gram 4, 5: sizes of three files, then tokenized.0, table.0, offset.0
 *   8..11  the payload of bounds, tree, removed-documents, removed-ranks
 * The second byte of a payload, times 32, is the place in it where the bytes go. Its checksums are
 * made right: what the bytes say has to be survived, not found. */
#include "base/ft_file.h"
#include "index/ft_index_build.h"
#include "index/ft_manifest.h"
#include "index/ft_part.h"
#include "index/ft_query.h"
#include "index/ft_removed_write.h"
#include "index/ft_text_match.h"
#include "text/ft_tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { VOCAB = 20, PAYLOAD = 4096 };
static const char *const sections[] = {"",
                                       "tokens",
                                       "suffixes",
                                       "documents",
                                       "texts",
                                       "ids",
                                       "",
                                       "",
                                       "bounds",
                                       "tree",
                                       "removed-documents-000002",
                                       "removed-ranks-000002"};

static char root[64];

static const char *in_root(const char *name) /* four at a time */
{
    static char paths[4][4200];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
    return path;
}

static void put(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(in_root(name), "wb");
    if (!f || (n && fwrite(bytes, 1, n, f) != n) || fclose(f) != 0)
        abort();
}

static void remove_root(void)
{
    if (ft_folder_remove(root, NULL) != FT_OK)
        abort();
}

static void need(ft_code rc)
{
    if (rc)
        abort();
}

/* Documents 1 and 4 of the index are taken out. */
static void take_out(void)
{
    static const uint64_t numbers[] = {1, 4};
    ft_manifest m;
    ft_part part;
    need(ft_part_open_segment(&part, in_root("index/segment-000001"), VOCAB, 0, NULL));
    need(ft_manifest_read(&m, in_root("index"), NULL));
    m.segments[0].removed = m.generation = 2;
    m.segments[0].removed_documents = 2;
    need(ft_removed_write(in_root("index/segment-000001"), 2, &part, numbers, 2, NULL, &m.segments[0].removed_tokens,
                          NULL));
    ft_part_close(&part);
    need(ft_manifest_add_file(&m, in_root("index"), "segment-000001/removed-documents-000002", NULL, NULL));
    need(ft_manifest_add_file(&m, in_root("index"), "segment-000001/removed-ranks-000002", NULL, NULL));
    need(ft_manifest_write(&m, in_root("index"), NULL));
    ft_manifest_release(&m);
}

/* A small index of some leaves in root/index, once. */
static void prepare(void)
{
    static const uint32_t tokens[] = {1, 2, 3, 1, 2, 3, 4, 1, 2, 19, 0, 5};
    if (root[0])
        return;
    snprintf(root, sizeof(root), "/tmp/flextrace-fuzz-XXXXXX");
    if (!mkdtemp(root))
        abort();
    atexit(remove_root);
    ft_index_writer *w;
    const ft_index_writer_options o = {.vocab_size = VOCAB, .end_of_text = 0};
    need(ft_index_writer_new(&w, in_root("index"), &o, NULL));
    for (size_t d = 0; d < 60; d++) {
        const char id[] = {(char)('A' + d), '\0'};
        need(ft_index_writer_add(w, tokens + d % 6, 12 - 2 * (d % 6), id, "{}", 1, NULL));
    }
    need(ft_index_writer_finish(w, NULL, NULL));
    take_out();
    need(ft_folder_make(in_root("gram"), NULL));
}

/* Texts of one to three letters for the 20 ids, so that text is found across tokens. */
static const ft_tokenizer *tokenizer(void)
{
    static const char text[] =
        "{\"version\":\"1.0\",\"added_tokens\":[],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
        "\"trim_offsets\":true,\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
        "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"ba\":3,\"aa\":4,\"bb\":5,\"c\":6,\"abc\":7,\"cab\":8,\"bab\":9,"
        "\"k\":10,\"K\":11,\"s\":12,\"ka\":13,\"d\":14,\"e\":15,\"f\":16,\"g\":17,\"aba\":19},\"merges\":[]}}";
    static ft_tokenizer *t;
    if (!t) {
        put("tokenizer.json", text, sizeof(text) - 1);
        need(ft_tokenizer_open(&t, in_root("tokenizer.json"), NULL));
    }
    return t;
}

static void ask_text(ft_index_set set)
{
    static const char *const queries[] = {"a", "ba", "abab", "bbaabba"};
    ft_text_matcher *m;
    need(ft_text_matcher_new(&m, set, tokenizer(), NULL));
    for (size_t i = 0; i < 8; i++) {
        ft_text_matches found;
        const char *text = queries[i / 2];
        const ft_text_query q = {.text = text, .bytes = strlen(text), .ignore_case = (int)(i & 1), .limit = 30};
        if (ft_text_match(m, set, &q, &found, NULL) == FT_OK) {
            if (found.listed > found.count)
                abort();
            ft_text_matches_release(&found);
        }
    }
    ft_text_matcher_free(m);
}

static void ask(const ft_index *ix)
{
    const ft_index_set set = {&ix, 1};
    const ft_index_info info = ft_index_get_info(ix);
    static const uint32_t pat[] = {1, 2, 3, 255, 1, 19};
    size_t longest[6], found;
    ft_match m[6];
    ft_doc_ref doc;
    ft_place places[40];
    uint32_t shown[40];
    for (int again = 0; again < 5; again++) /* the last ones take it that all is in memory */
        ft_index_match_all(ix, pat, 6, longest, again % 2 ? m : NULL);
    (void)ft_index_longest_suffix(ix, pat, 6, m);
    for (unsigned p = 0; p < info.parts; p++)
        for (uint64_t rank = 0; rank < 40; rank++)
            if (ft_index_document_at(ix, p, ft_index_position(ix, p, rank), &doc, NULL) == FT_OK)
                ft_index_document_tokens(ix, &doc, 0, 40, shown, &found);
    for (uint64_t d = 0; d <= info.documents && d < 100; d++)
        if (ft_index_document(ix, d, &doc, NULL) == FT_OK)
            ft_index_document_tokens(ix, &doc, 0, 40, shown, &found);
    if (ft_index_document_by_id(ix, "D", &doc, NULL) == FT_OK && strcmp(doc.id, "D") != 0)
        abort();
    for (size_t k = 0; k < 3; k++) {
        ft_distribution d;
        ft_window w;
        if (ft_query_ntd(set, pat, k, 0, &d, NULL) == FT_OK)
            ft_distribution_release(&d);
        (void)ft_query_occurrences(set, pat, k, 40, places, &found);
        for (size_t i = 0; i < found; i++)
            if (ft_query_context(set, &places[i], k, 3, &w, NULL) == FT_OK && w.from + w.length > w.doc.length)
                abort();
    }
    const ft_ngram a[] = {{pat, 1}, {pat + 1, 2}};
    const ft_clause clauses[] = {{a, 1}, {a + 1, 1}};
    ft_cnf_result r;
    if (ft_query_cnf(set, clauses, 2, 3, 1, &r, NULL) == FT_OK)
        ft_cnf_result_release(&r);
    ask_text(set);
    if (ft_index_verify(ix, NULL) == FT_OK && info.tokens > (uint64_t)1 << 40)
        abort();
}

static void open_and_ask(const char *folder, int version)
{
    ft_index *ix;
    const ft_infinigram_options o = {.version = version, .end_of_text = 7};
    if (ft_index_open_any(&ix, folder, &o, NULL) == FT_OK)
        ask(ix);
    ft_index_close(ix);
}

/* The section's file with its payload's checksum, and that of the checksums, made right. */
static void sign(char *file)
{
    ft_section_header h;
    memcpy(&h, file, sizeof(h));
    if (h.payload_bytes > h.block_bytes)
        abort(); /* the index is too large for this */
    uint64_t *sums = (uint64_t *)(void *)(file + (PAYLOAD + h.payload_bytes + 7) / 8 * 8);
    if (h.payload_bytes)
        sums[0] = XXH3_64bits(file + PAYLOAD, h.payload_bytes);
    sums[h.payload_bytes > 0] = XXH3_64bits(sums, h.payload_bytes ? sizeof(*sums) : 0);
}

/* The file as it is, `data` over a part of its payload; put back afterwards. */
static void with_payload(const char *name, const uint8_t *data, size_t n)
{
    ft_buffer was = {0}, now = {0};
    ft_section_header h;
    if (n < 1)
        return;
    need(ft_file_read(in_root(name), 0, &was, NULL));
    need(ft_buffer_append(&now, was.data, was.size, NULL));
    memcpy(&h, now.data, sizeof(h));
    const size_t at = (size_t)data[0] * 32, room = at < h.payload_bytes ? (size_t)h.payload_bytes - at : 0;
    memcpy(now.data + PAYLOAD + at, data + 1, n - 1 < room ? n - 1 : room);
    sign(now.data);
    put(name, now.data, now.size);
    open_and_ask(in_root("index"), 4);
    put(name, was.data, was.size);
    ft_buffer_release(&was);
    ft_buffer_release(&now);
}

static void with_manifest(const uint8_t *data, size_t n)
{
    ft_buffer was = {0}, now = {0};
    need(ft_file_read(in_root("index/manifest.json"), 0, &was, NULL));
    need(ft_buffer_append(&now, data, n, NULL));
    need(ft_buffer_printf(&now, NULL, ",\"checksum\":\"%016llx\"}\n", (unsigned long long)XXH3_64bits(data, n)));
    put("index/manifest.json", now.data, now.size);
    open_and_ask(in_root("index"), 4);
    put("index/manifest.json", was.data, was.size);
    ft_buffer_release(&was);
    ft_buffer_release(&now);
}

static void with_gram(int version, const uint8_t *data, size_t n)
{
    static const char *const names[] = {"gram/tokenized.0", "gram/table.0", "gram/offset.0"};
    if (n < 3)
        return;
    const uint8_t *at = data + 3, *end = data + n;
    for (int f = 0; f < 3; f++) {
        const size_t left = (size_t)(end - at), take = data[f] < left ? data[f] : left;
        put(names[f], at, take);
        at += take;
    }
    open_and_ask(in_root("gram"), version);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    prepare();
    if (n == 0)
        return 0;
    const unsigned kind = data[0] % 12;
    char name[80];
    if (kind == 0) {
        with_manifest(data + 1, n - 1);
    } else if (kind == 6 || kind == 7) {
        with_gram(kind == 6 ? 4 : 5, data + 1, n - 1);
    } else {
        snprintf(name, sizeof(name), "index/segment-000001/%s", sections[kind]);
        with_payload(name, data + 1, n - 1);
    }
    return 0;
}
