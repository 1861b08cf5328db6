/* What a damaged index gets: an error that names the file, or a wrong answer; never a
 * read outside it. What a build that fails leaves: nothing. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "index/ft_index.h"
#include "index/ft_index_build.h"
#include "index/ft_index_update.h"
#include "index/ft_query.h"
#include "index/ft_section.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { VOCAB = 300, DOCUMENTS = 40 };

static const char *const files[] = {
    "manifest.json",
    "segment-000001/tokens",
    "segment-000001/suffixes",
    "segment-000001/bounds",
    "segment-000001/tree",
    "segment-000001/documents",
    "segment-000001/texts",
    "segment-000001/ids",
    "segment-000001/removed-documents-000002",
    "segment-000001/removed-ranks-000002",
};
enum { FILES = sizeof(files) / sizeof(*files) };

static char folder[4096];

/* A small index, its documents drawn by `seed`. */
static ft_code write_index(const char *path, uint64_t seed, const ft_progress *progress, ft_status *st)
{
    ft_random r;
    ft_random_init(&r, seed);
    ft_index_writer *w;
    const ft_index_writer_options o = {.vocab_size = VOCAB, .end_of_text = 7, .progress = progress};
    ft_code rc = ft_index_writer_new(&w, path, &o, st);
    if (rc)
        return rc;
    for (unsigned d = 0; d < DOCUMENTS && !rc; d++) {
        uint32_t tokens[50];
        char id[20];
        const size_t n = (size_t)ft_random_below(&r, 50);
        for (size_t i = 0; i < n; i++)
            tokens[i] = (uint32_t)ft_random_below(&r, d % 2 ? 4 : VOCAB);
        snprintf(id, sizeof(id), "d%u", d);
        rc = ft_index_writer_add(w, tokens, n, id, "{\"a\":1}", n, st);
    }
    if (!rc)
        return ft_index_writer_finish(w, NULL, st);
    ft_index_writer_abandon(w);
    return rc;
}

/* Every fifth document of an index. */
static void remove_some(const char *path)
{
    ft_status st;
    ft_index_removal *r;
    assert_ok(ft_index_removal_begin(&r, path, 1, &st), st);
    for (uint64_t d = 0; d < DOCUMENTS; d += 5) {
        ft_doc_ref doc;
        assert_ok(ft_index_document(ft_index_removal_index(r), d, &doc, &st), st);
        assert_ok(ft_index_removal_add(r, &doc, &st), st);
    }
    assert_ok(ft_index_removal_commit(r, NULL, &st), st);
    ft_index_removal_end(r);
}

static void fresh_index(const char *name)
{
    ft_status st;
    snprintf(folder, sizeof(folder), "%s", ft_test_path(name));
    assert_ok(ft_folder_remove(folder, &st), st);
    assert_ok(write_index(folder, 1, NULL, &st), st);
    remove_some(folder);
}

static void file_path(char *out, size_t file)
{
    snprintf(out, 4200, "%s/%s", folder, files[file]);
}

static void told(ft_code rc)
{
    assert_in_range(rc, FT_OK, FT_ERR_CANCELLED);
}

/* Every kind of question; the answers do not matter. */
static void ask_everything(const ft_index *ix)
{
    const ft_index_set set = {&ix, 1};
    const ft_index_info info = ft_index_get_info(ix);
    const uint32_t pat[] = {1, 2, 1, 0, 3, 299, 5, 1};
    uint32_t out[64];
    size_t longest[8], copied;
    ft_match m[8];
    ft_status st;
    ft_doc_ref doc;
    ft_place places[64];
    for (uint32_t id = 0; id < VOCAB; id++)
        (void)ft_index_unigram(ix, id);
    ft_index_match_all(ix, pat, 8, longest, m);
    (void)ft_index_longest_suffix(ix, pat, 8, m);
    for (unsigned p = 0; p < info.parts; p++)
        for (uint64_t rank = 0; rank < info.tokens + info.documents; rank++) {
            const uint64_t pos = ft_index_position(ix, p, rank);
            ft_index_tokens(ix, p, pos, 64, out);
            if (ft_index_document_at(ix, p, pos, &doc, &st) == FT_OK)
                ft_index_document_tokens(ix, &doc, 0, 64, out, &copied);
        }
    for (uint64_t d = 0; d <= info.documents; d++)
        if (ft_index_document(ix, d, &doc, &st) == FT_OK && doc.id_bytes)
            told(ft_index_document_by_id(ix, doc.id, &doc, &st));
    for (size_t n = 0; n < 3; n++) {
        ft_distribution d;
        ft_window w;
        if (ft_query_ntd(set, pat, n, (int)n % 2, &d, &st) == FT_OK)
            ft_distribution_release(&d);
        size_t found;
        (void)ft_query_occurrences(set, pat, n, 64, places, &found);
        for (size_t i = 0; i < found; i++)
            told(ft_query_context(set, &places[i], n, 5, &w, &st));
    }
    const ft_ngram ngrams[] = {{pat, 1}, {pat + 1, 1}, {pat, 2}, {pat + 3, 1}};
    const ft_clause clauses[] = {{ngrams, 2}, {ngrams + 2, 2}};
    for (uint64_t diff = 0; diff < 2000; diff = diff * 4 + 3) {
        ft_cnf_result r;
        if (ft_query_cnf(set, clauses, 2, diff, 50000, &r, &st) == FT_OK)
            ft_cnf_result_release(&r);
    }
    told(ft_index_verify(ix, &st));
}

static void a_file_that_is_missing_cut_or_longer_is_found_at_opening(void **state)
{
    (void)state;
    for (size_t f = 0; f < FILES; f++)
        for (int fault = 0; fault < 5; fault++) {
            char path[4200];
            ft_status st;
            ft_index *ix = (ft_index *)&st;
            fresh_index("cut");
            file_path(path, f);
            size_t n;
            char *bytes = ft_test_read(path, &n);
            const size_t kept[] = {0, n / 2, n - 1, n + 1};
            bytes = realloc(bytes, n + 2);
            if (fault == 4)
                remove(path);
            else
                ft_test_write(path, bytes, kept[fault]);
            const ft_code rc = ft_index_open(&ix, folder, &st);
            assert_null(ix);
            assert_int_equal(rc, fault == 4 && f == 0 ? FT_ERR_NOT_FOUND : FT_ERR_FORMAT);
            assert_non_null(strstr(st.msg, fault == 4 && f == 0 ? "manifest.json" : files[f]));
            free(bytes);
        }
}

static void every_flipped_bit_is_found_by_opening_or_by_verify(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 31);
    fresh_index("flip");
    for (size_t f = 0; f < FILES; f++) {
        char path[4200];
        size_t n;
        file_path(path, f);
        char *bytes = ft_test_read(path, &n);
        for (unsigned round = 0; round < 120; round++) {
            /* Half of them where the payload is: the rest is mostly padding. */
            const size_t from = f && round % 2 ? 4096 : 0, at = from + (size_t)ft_random_below(&r, n - from);
            ft_status st;
            ft_index *ix;
            const char was = bytes[at];
            bytes[at] ^= (char)(1 << ft_random_below(&r, 8));
            ft_test_write(path, bytes, n);
            ft_code rc = ft_index_open(&ix, folder, &st);
            if (!rc) {
                ask_everything(ix);
                rc = ft_index_verify_sampled(ix, 1 + round, round, &st);
                if (rc == FT_ERR_FORMAT)
                    rc = ft_index_verify(ix, &st);
                ft_index_close(ix);
            }
            if (rc != FT_ERR_FORMAT)
                fail_msg("%s: a flip at byte %zu of %zu passed", files[f], at, n);
            assert_non_null(strstr(st.msg, folder));
            bytes[at] = was;
            ft_test_write(path, bytes, n);
        }
        free(bytes);
    }
}

static void a_file_of_another_index_is_found(void **state)
{
    (void)state;
    ft_status st;
    char other[4096];
    snprintf(other, sizeof(other), "%s", ft_test_path("other"));
    assert_ok(write_index(other, 2, NULL, &st), st);
    remove_some(other);
    for (size_t f = 0; f < FILES; f++) {
        char path[4200], from[4300];
        size_t n;
        ft_index *ix;
        fresh_index("swapped");
        file_path(path, f);
        snprintf(from, sizeof(from), "%s/%s", other, files[f]);
        char *bytes = ft_test_read(from, &n);
        ft_test_write(path, bytes, n);
        assert_int_equal(ft_index_open(&ix, folder, &st), FT_ERR_FORMAT);
        free(bytes);
    }
}

/* A manifest changed on purpose, its checksum made right again. */
static ft_code open_with_manifest(const char *from, const char *to, ft_status *st)
{
    char path[4200], text[8192];
    size_t n;
    ft_index *ix;
    fresh_index("edited");
    file_path(path, 0);
    char *bytes = ft_test_read(path, &n);
    char *at = strstr(bytes, from);
    assert_non_null(at);
    snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - bytes), bytes, to, at + strlen(from));
    char *tail = strstr(text, ",\"checksum\"");
    sprintf(tail + 13, "%016llx\"}\n", (unsigned long long)XXH3_64bits(text, (size_t)(tail - text)));
    ft_test_write(path, text, strlen(text));
    free(bytes);
    const ft_code rc = ft_index_open(&ix, folder, st);
    ft_index_close(ix);
    return rc;
}

static void a_manifest_that_lies_is_refused(void **state)
{
    (void)state;
    static const char *const lies[][3] = {
        {"\"segment-000001\"", "\"../elsewhere\"", "'../elsewhere' is not a name"},
        {"\"segment-000001/ids\"", "\"/etc/passwd\"", "'/etc/passwd' is not a name"},
        {"\"segment-000001/removed-ranks-000002\"", "\"segment-000001/../../x\"", "is not a name"},
        {"\"segment-000001/ids\"", "\"a/../../b\"", "is not a name"},
        {"\"version\":3", "\"version\":2", "version 2"},
        {"\"version\":3", "\"version\":\"two\"", "must be an integer"},
        {"flextrace-index", "something-else", "not the manifest"},
        {"\"removed_documents\":8", "\"removed_documents\":7", "root"},
        {"\"removed\":2", "\"removed\":0", "more is removed"},
        {"\"documents\":40", "\"documents\":41", "root"},
        {"\"owner\":\"\"", "\"owner\":\"Eve\"", "root"},
        {"\"vocab_size\":300", "\"vocab_size\":70000", "token bytes"},
        {"\"segments\":[", "\"segments\":[3,", "manifest.json"},
        {"\"files\":[", "\"files\":[{}, ", "is not a name"},
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
        ft_status st = {0};
        const ft_code rc = open_with_manifest(lies[i][0], lies[i][1], &st);
        if (rc != FT_ERR_FORMAT || !strstr(st.msg, lies[i][2]) || !strstr(st.msg, "manifest.json"))
            fail_msg("%s: %s: %s", lies[i][1], ft_code_name(rc), st.msg);
    }
    ft_status st = {0};
    assert_ok(open_with_manifest("\"version\":3", "\"version\":3", &st), st);
}

static void a_failing_allocation_while_opening_is_reported(void **state)
{
    (void)state;
    fresh_index("nomem");
    for (long k = 1;; k++) {
        ft_status st = {0};
        ft_index *ix;
        ft_test_fail_allocation(k);
        const ft_code rc = ft_index_open(&ix, folder, &st);
        const int failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (!failed) {
            assert_ok(rc, st);
            ft_index_close(ix);
            assert_true(k > 10);
            return;
        }
        assert_null(ix);
        assert_int_equal(rc, FT_ERR_MEM);
    }
}

/* --- A tree of several levels ------------------------------------------------------------ */

/* Makes the checksums of a section's file right again. */
static void sign(char *file)
{
    ft_section_header h;
    memcpy(&h, file, sizeof(h));
    const size_t blocks = (size_t)((h.payload_bytes + h.block_bytes - 1) / h.block_bytes);
    uint64_t *sums = (uint64_t *)(void *)(file + (FT_SECTION_PAYLOAD + h.payload_bytes + 7) / 8 * 8);
    for (size_t i = 0; i < blocks; i++) {
        const uint64_t at = i * h.block_bytes, left = h.payload_bytes - at;
        sums[i] = XXH3_64bits(file + FT_SECTION_PAYLOAD + at, left < h.block_bytes ? left : h.block_bytes);
    }
    sums[blocks] = XXH3_64bits(sums, blocks * sizeof(*sums));
}

static void ask_about(const ft_index *ix, ft_random *r)
{
    const ft_index_set set = {&ix, 1};
    const ft_index_info info = ft_index_get_info(ix);
    uint32_t pat[30];
    size_t longest[30];
    ft_match m[30];
    ft_distribution d;
    ft_status st;
    for (unsigned round = 0; round < 20; round++) {
        size_t found;
        ft_place places[10];
        for (unsigned i = 0; i < 30; i++)
            pat[i] = (uint32_t)ft_random_below(r, i < 20 ? 3 : VOCAB);
        ft_index_match_all(ix, pat, 30, longest, round % 2 ? m : NULL);
        for (unsigned i = 0; i < 30 && round % 2; i++) {
            assert_in_range(m[i].part[0].lo, 0, info.tokens + info.documents);
            assert_in_range(m[i].part[0].hi, m[i].part[0].lo, info.tokens + info.documents);
        }
        if (ft_query_ntd(set, pat + round, round % 4, 0, &d, &st) == FT_OK)
            ft_distribution_release(&d);
        (void)ft_query_occurrences(set, pat + round, 1 + round % 10, 10, places, &found);
    }
}

static void a_tree_or_leaves_of_any_bytes_never_lead_outside(void **state)
{
    (void)state;
    static const char *const damaged[] = {"segment-000001/tree", "segment-000001/suffixes", "segment-000001/tokens"};
    ft_random r;
    ft_random_init(&r, 32);
    ft_index_writer *w;
    ft_status st;
    const ft_index_writer_options o = {.vocab_size = VOCAB, .end_of_text = 7};
    snprintf(folder, sizeof(folder), "%s", ft_test_path("levels"));
    assert_ok(ft_index_writer_new(&w, folder, &o, &st), st);
    for (unsigned d = 0; d < 2200; d++) { /* every tenth is the same */
        uint32_t tokens[50];
        char id[20];
        for (size_t i = 0; i < 50; i++)
            tokens[i] = d % 10 == 0 ? (uint32_t)i % 3 : (uint32_t)ft_random_below(&r, d % 2 ? 3 : VOCAB);
        snprintf(id, sizeof(id), "d%u", d);
        assert_ok(ft_index_writer_add(w, tokens, 50, id, NULL, 1, &st), st);
    }
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
    for (unsigned round = 0; round < 240; round++) {
        char path[4200];
        size_t n;
        ft_index *ix;
        snprintf(path, sizeof(path), "%s/%s", folder, damaged[round % 3]);
        char *was = ft_test_read(path, &n), *now = malloc(n);
        memcpy(now, was, n);
        ft_section_header h;
        memcpy(&h, now, sizeof(h));
        const size_t node = FT_SECTION_PAYLOAD + (size_t)ft_random_below(&r, h.payload_bytes) / 4096 * 4096;
        for (unsigned k = 0; k < 1 + round; k++) /* near the beginning of a page half of the time */
            now[k % 2 ? node + (size_t)ft_random_below(&r, 32)
                      : FT_SECTION_PAYLOAD + (size_t)ft_random_below(&r, h.payload_bytes)] = (char)ft_random_u64(&r);
        sign(now);
        ft_test_write(path, now, n);
        if (ft_index_open(&ix, folder, &st) == FT_OK) {
            ask_about(ix, &r);
            ft_index_close(ix);
        }
        ft_test_write(path, was, n);
        free(was);
        free(now);
    }
    ft_index *ix;
    assert_ok(ft_index_open(&ix, folder, &st), st);
    assert_ok(ft_index_verify(ix, &st), st);
    ft_index_close(ix);
}

/* What checksums cannot find, because they are right: verify does. */
static void verify_finds_slots_and_separators_that_do_not_follow_from_the_text(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 34);
    fresh_index("signed");
    static const char *const wrong[] = {"segment-000001/tree", "segment-000001/suffixes", "segment-000001/bounds",
                                        "segment-000001/tokens"};
    for (unsigned round = 0; round < 200; round++) {
        char path[4200];
        size_t n;
        ft_status st = {0};
        ft_index *ix;
        snprintf(path, sizeof(path), "%s/%s", folder, wrong[round % 4]);
        char *bytes = ft_test_read(path, &n);
        ft_section_header h;
        memcpy(&h, bytes, sizeof(h));
        const size_t at = FT_SECTION_PAYLOAD + (size_t)ft_random_below(&r, h.payload_bytes);
        const char flip = (char)(1 << ft_random_below(&r, 8));
        bytes[at] ^= flip;
        sign(bytes);
        ft_test_write(path, bytes, n);
        ft_code rc = ft_index_open(&ix, folder, &st);
        if (!rc) {
            rc = ft_index_verify(ix, &st);
            ft_index_close(ix);
        }
        assert_int_equal(rc, FT_ERR_FORMAT);
        if (round % 4 < 2 && strstr(st.msg, "digest")) /* the last check: it would find anything */
            fail_msg("%s, byte %zu: %s", wrong[round % 4], at, st.msg);
        bytes[at] ^= flip;
        sign(bytes);
        ft_test_write(path, bytes, n);
        free(bytes);
    }
}

/* --- Builds that fail ------------------------------------------------------------------ */

static void assert_nothing_remains(const char *path)
{
    char building[4200];
    snprintf(building, sizeof(building), "%s.building", path);
    assert_false(ft_path_exists(path));
    assert_false(ft_path_exists(building));
}

static void a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    struct rlimit was, limited;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &was);
    const char *path = ft_test_path("full");
    char kept[4096];
    snprintf(kept, sizeof(kept), "%s", path);
    for (rlim_t bytes = 0; bytes < 4700; bytes += 470) {
        ft_status st = {0};
        limited = was;
        limited.rlim_cur = bytes;
        setrlimit(RLIMIT_FSIZE, &limited);
        const ft_code rc = write_index(kept, 1, NULL, &st);
        setrlimit(RLIMIT_FSIZE, &was);
        assert_int_equal(rc, FT_ERR_IO);
        assert_non_null(strstr(st.msg, "File too large"));
        assert_nothing_remains(kept);
    }
    signal(SIGXFSZ, handler);
}

static int stop_at_once(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)context;
    (void)phase;
    (void)done;
    (void)total;
    (void)unit;
    return 1;
}

static void a_stopped_build_leaves_nothing(void **state)
{
    (void)state;
    ft_status st;
    const ft_progress progress = {.report = stop_at_once};
    char path[4096];
    snprintf(path, sizeof(path), "%s", ft_test_path("stopped"));
    assert_int_equal(write_index(path, 1, &progress, &st), FT_ERR_CANCELLED);
    assert_nothing_remains(path);
}

static void a_document_that_memory_cannot_hold_is_named(void **state)
{
    (void)state;
    ft_status st;
    ft_index_writer *w;
    enum { N = 400000 };
    uint32_t *tokens = calloc(N, sizeof(*tokens));
    const ft_index_writer_options o = {.vocab_size = VOCAB, .memory_bytes = 20 << 20};
    assert_ok(ft_index_writer_new(&w, ft_test_path("large"), &o, &st), st);
    assert_int_equal(ft_index_writer_add(w, tokens, N, "giant", NULL, 1, &st), FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "giant"));
    assert_non_null(strstr(st.msg, "--memory"));
    ft_index_writer_abandon(w);
    const ft_index_writer_options little = {.vocab_size = VOCAB, .memory_bytes = 1 << 20};
    assert_int_equal(ft_index_writer_new(&w, ft_test_path("large"), &little, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "give at least 18M"));
    assert_nothing_remains(ft_test_path("large"));
    free(tokens);
}

/* --- Infini-gram ------------------------------------------------------------------------ */

/* One shard of three documents, u16: [S 1 2 3][S][S 2 3], sorted as infini-gram sorts. */
static const uint16_t gram_tokens[] = {0xFFFF, 1, 2, 3, 0xFFFF, 0xFFFF, 2, 3};
static const unsigned char gram_table[] = {2, 12, 4, 14, 6, 0, 10, 8};
static const uint64_t gram_offsets[] = {0, 8, 10};

static void write_gram(void)
{
    ft_status st;
    snprintf(folder, sizeof(folder), "%s", ft_test_path("gram"));
    assert_ok(ft_folder_remove(folder, &st), st);
    assert_ok(ft_folder_make(folder, &st), st);
    ft_test_write("gram/tokenized.0", gram_tokens, sizeof(gram_tokens));
    ft_test_write("gram/table.0", gram_table, sizeof(gram_table));
    ft_test_write("gram/offset.0", gram_offsets, sizeof(gram_offsets));
}

static ft_code open_gram(ft_index **ix, ft_status *st)
{
    const ft_infinigram_options o = {.version = 4, .end_of_text = 9};
    return ft_index_open_infinigram(ix, folder, &o, st);
}

static void an_infinigram_folder_needs_no_metadata(void **state)
{
    (void)state;
    ft_status st;
    ft_index *ix;
    ft_doc_ref doc;
    write_gram();
    assert_ok(open_gram(&ix, &st), st);
    assert_int_equal(ft_index_get_info(ix).token_bytes, 2);
    assert_int_equal(ft_index_get_info(ix).documents, 3);
    assert_ok(ft_index_verify(ix, &st), st);
    assert_ok(ft_index_document(ix, 2, &doc, &st), st);
    assert_int_equal(doc.length, 2);
    assert_string_equal(doc.metadata, "{}");
    assert_int_equal(ft_index_unigram(ix, 2), 2);
    ft_index_close(ix);
}

static void a_sample_of_all_places_finds_what_stands_out_of_order(void **state)
{
    (void)state;
    unsigned char table[sizeof(gram_table)];
    for (size_t i = 0; i < sizeof(table); i++)
        for (size_t k = 0; k < i; k++) {
            ft_status st;
            ft_index *ix;
            write_gram();
            memcpy(table, gram_table, sizeof(table));
            table[i] = gram_table[k];
            table[k] = gram_table[i];
            ft_test_write("gram/table.0", table, sizeof(table));
            assert_ok(open_gram(&ix, &st), st);
            assert_int_equal(ft_index_verify_sampled(ix, 100, i, &st), FT_ERR_FORMAT);
            assert_non_null(strstr(st.msg, "out of order"));
            ft_index_close(ix);
        }
    ft_status st;
    ft_index *ix;
    write_gram();
    assert_ok(open_gram(&ix, &st), st);
    assert_ok(ft_index_verify_sampled(ix, 100, 1, &st), st);
    ft_index_close(ix);
    fresh_index("sampled");
    assert_ok(ft_index_open(&ix, folder, &st), st);
    for (uint64_t places = 0; places < 400; places += 13)
        assert_ok(ft_index_verify_sampled(ix, places, places, &st), st);
    ft_index_close(ix);
}

static void infinigram_files_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    ft_status st;
    ft_index *ix;
    static const uint64_t late[] = {2, 8, 10}, many[] = {0, 8, 10, 0, 0, 0, 0, 0, 0};
    static const struct {
        const char *file;
        const void *bytes;
        size_t n;
        const char *message;
    } faults[] = {
        {"gram/table.0", gram_table, 7, "truncated"},           {"gram/table.0", gram_table, 0, "truncated"},
        {"gram/tokenized.0", gram_tokens, 14, "table.0"},       {"gram/tokenized.0", gram_tokens, 0, "empty"},
        {"gram/tokenized.0", gram_offsets, 16, "no separator"}, {"gram/offset.0", gram_offsets, 23, "whole entries"},
        {"gram/offset.0", gram_offsets, 0, "whole entries"},    {"gram/offset.0", late, sizeof(late), "no separator"},
        {"gram/offset.0", many, sizeof(many), "9 documents"},   {"gram/metaoff.0", gram_offsets, 16, "metaoff.0"},
    };
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        write_gram();
        ft_test_write(faults[i].file, faults[i].bytes, faults[i].n);
        const ft_code rc = open_gram(&ix, &st);
        assert_null(ix);
        if (rc != FT_ERR_FORMAT || !strstr(st.msg, faults[i].message))
            fail_msg("%s, %zu bytes: %s: %s", faults[i].file, faults[i].n, ft_code_name(rc), st.msg);
    }
    const ft_infinigram_options o = {.version = 6};
    assert_int_equal(ft_index_open_infinigram(&ix, folder, &o, &st), FT_ERR_UNSUPPORTED);
    assert_int_equal(ft_index_open_infinigram(&ix, ft_test_folder(), &(ft_infinigram_options){.version = 4}, &st),
                     FT_ERR_NOT_FOUND);
}

static void infinigram_numbers_that_lie_never_lead_outside(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 33);
    static const char *const names[] = {"gram/tokenized.0", "gram/table.0", "gram/offset.0", "gram/metaoff.0"};
    for (unsigned round = 0; round < 400; round++) {
        unsigned char bytes[24];
        ft_status st;
        ft_index *ix;
        write_gram();
        ft_test_write("gram/metadata.0", "{\"a\":1}\n{}\n{}\n", 14);
        const size_t f = round % 4, n = f == 0 ? sizeof(gram_tokens) : f == 1 ? sizeof(gram_table) : 24;
        memcpy(bytes, f == 0 ? (const void *)gram_tokens : f == 1 ? (const void *)gram_table : gram_offsets, n);
        for (unsigned k = 0; k < 3; k++)
            bytes[ft_random_below(&r, n)] = (unsigned char)ft_random_u64(&r);
        ft_test_write("gram/metaoff.0", gram_offsets, sizeof(gram_offsets));
        ft_test_write(names[f], bytes, n);
        const ft_infinigram_options o = {.version = 4 + (int)(round % 8 > 3), .end_of_text = 9};
        if (ft_index_open_infinigram(&ix, folder, &o, &st) == FT_OK) {
            ask_everything(ix);
            ft_index_close(ix);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_is_missing_cut_or_longer_is_found_at_opening),
        cmocka_unit_test(every_flipped_bit_is_found_by_opening_or_by_verify),
        cmocka_unit_test(a_file_of_another_index_is_found),
        cmocka_unit_test(a_manifest_that_lies_is_refused),
        cmocka_unit_test(a_failing_allocation_while_opening_is_reported),
        cmocka_unit_test(a_tree_or_leaves_of_any_bytes_never_lead_outside),
        cmocka_unit_test(verify_finds_slots_and_separators_that_do_not_follow_from_the_text),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(a_stopped_build_leaves_nothing),
        cmocka_unit_test(a_document_that_memory_cannot_hold_is_named),
        cmocka_unit_test(an_infinigram_folder_needs_no_metadata),
        cmocka_unit_test(a_sample_of_all_places_finds_what_stands_out_of_order),
        cmocka_unit_test(infinigram_files_that_contradict_each_other_are_refused),
        cmocka_unit_test(infinigram_numbers_that_lie_never_lead_outside),
    };
    return cmocka_run_group_tests_name("index_faults", tests, NULL, NULL);
}
