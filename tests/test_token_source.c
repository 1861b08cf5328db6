/* Documents that are tokens already: arrays and infini-gram folders, against a plain reading of the same files. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_npy.h"
#include "base/ft_random.h"
#include "index/ft_input_fingerprint.h"
#include "index/ft_token_source.h"
#include "text/ft_corpus.h"
#include "text/ft_tokenizer.h"

#include <unistd.h>

enum { END_OF_TEXT = 100257, VOCAB = 100278, GOLDEN_DOCUMENTS = 77, GOLDEN_TOKENS = 61701 };

/* --- Fixtures ------------------------------------------------------------------------- */

/* Paths of ft_test come from a few buffers in turn; one that is used for long is copied. */
typedef char path_room[4096];
static const char *keep(path_room room, const char *path)
{
    snprintf(room, sizeof(path_room), "%s", path);
    return room;
}

static const char *write_array(const char *name, ft_npy_type type, const void *values, size_t n)
{
    ft_status st;
    const char *path = ft_test_path(name);
    assert_ok(ft_npy_write(path, type, 1, &n, values, &st), st);
    return path;
}

/* The 64-bit values, narrowed to the type. */
static const char *write_values(const char *name, ft_npy_type type, const uint64_t *values, size_t n)
{
    unsigned char *bytes = calloc(n + 1, 8);
    const size_t width = type == FT_NPY_UINT8                            ? 1
                         : type == FT_NPY_UINT16                         ? 2
                         : type == FT_NPY_INT64 || type == FT_NPY_UINT64 ? 8
                                                                         : 4;
    for (size_t i = 0; i < n; i++)
        memcpy(bytes + i * width, &values[i], width);
    const char *path = write_array(name, type, bytes, n);
    free(bytes);
    return path;
}

/* Reads on from where the source stands and compares with documents first.. of the plain arrays. */
static void check_documents(ft_token_source *s, const uint64_t *tokens, const uint64_t *offsets, uint64_t first,
                            uint64_t count)
{
    ft_status st;
    ft_token_document d;
    int more;
    for (uint64_t i = first; i < count; i++) {
        assert_int_equal(ft_token_source_get_info(s).next_document, i);
        assert_ok(ft_token_source_next(s, &d, &more, &st), st);
        assert_true(more);
        assert_int_equal(d.number, i);
        assert_int_equal(d.count, offsets[i + 1] - offsets[i]);
        for (size_t k = 0; k < d.count; k++)
            assert_int_equal(d.tokens[k], tokens[offsets[i] + k]);
        char number[24];
        snprintf(number, sizeof(number), "%llu", (unsigned long long)i);
        assert_string_equal(d.id, number);
        assert_string_equal(d.metadata, "{}");
        assert_int_equal(d.metadata_bytes, 2);
    }
    for (int twice = 0; twice < 2; twice++) {
        assert_ok(ft_token_source_next(s, &d, &more, &st), st);
        assert_false(more);
    }
}

static ft_code open_and_close(const char *tokens, const char *offsets, uint32_t vocab, ft_status *st)
{
    ft_token_source *s = (ft_token_source *)st; /* not NULL: open has to clear it */
    const ft_code rc = ft_token_source_open_arrays(&s, tokens, offsets, NULL, vocab, st);
    assert_true((s == NULL) == (rc != FT_OK));
    ft_token_source_close(s);
    return rc;
}

static void assert_says(const ft_status *st, const char *const *words)
{
    for (; *words; words++)
        if (!strstr(st->msg, *words))
            fail_msg("'%s' lacks '%s'", st->msg, *words);
}
#define assert_names(st, ...) assert_says(&(st), (const char *const[]){__VA_ARGS__, NULL})

/* --- Arrays ---------------------------------------------------------------------------- */

/* Every width of tokens and of offsets, empty documents among them, from every place. */
static void arrays_of_every_width_give_the_same_documents(void **state)
{
    (void)state;
    static const ft_npy_type token_types[] = {FT_NPY_UINT8,  FT_NPY_UINT16, FT_NPY_INT32,
                                              FT_NPY_UINT32, FT_NPY_INT64,  FT_NPY_UINT64};
    static const ft_npy_type offset_types[] = {FT_NPY_UINT64, FT_NPY_INT64, FT_NPY_UINT32, FT_NPY_INT32};
    enum { TOKENS = 1500, DOCUMENTS = 40, HIGH = 255 };
    uint64_t tokens[TOKENS], offsets[DOCUMENTS + 1] = {0};
    ft_random r;
    ft_random_init(&r, 5);
    for (size_t i = 0; i < TOKENS; i++)
        tokens[i] = ft_random_below(&r, HIGH);
    tokens[777] = HIGH - 1;
    for (size_t i = 1; i < DOCUMENTS; i++)
        offsets[i] = offsets[i - 1] + (i % 7 ? ft_random_below(&r, 40) : 0);
    offsets[DOCUMENTS] = TOKENS;
    for (size_t t = 0; t < 6; t++)
        for (size_t o = 0; o < 4; o++) {
            ft_status st;
            ft_token_source *s;
            const char *t_path = write_values("t.npy", token_types[t], tokens, TOKENS);
            const char *o_path = write_values("o.npy", offset_types[o], offsets, DOCUMENTS + 1);
            assert_ok(ft_token_source_open_arrays(&s, t_path, o_path, NULL, HIGH, &st), st);
            const ft_token_source_info info = ft_token_source_get_info(s);
            assert_int_equal(info.documents, DOCUMENTS);
            assert_int_equal(info.tokens, TOKENS);
            assert_int_equal(info.token_bytes, t == 0 ? 1 : t == 1 ? 2 : t < 4 ? 4 : 8);
            check_documents(s, tokens, offsets, 0, DOCUMENTS);
            assert_int_equal(ft_token_source_get_info(s).tokens_read, TOKENS);
            assert_int_equal(ft_token_source_get_info(s).max_id, HIGH - 1);
            ft_token_source_close(s);
            for (uint64_t skipped = 0; skipped <= DOCUMENTS + 1; skipped += 13) {
                assert_ok(ft_token_source_open_arrays(&s, t_path, o_path, NULL, HIGH, &st), st);
                ft_token_source_skip(s, skipped / 2);
                ft_token_source_skip(s, skipped - skipped / 2);
                assert_ok(ft_token_source_check(s, NULL, &st), st);
                check_documents(s, tokens, offsets, skipped, DOCUMENTS);
                ft_token_source_skip(s, UINT64_MAX);
                assert_int_equal(ft_token_source_get_info(s).next_document, DOCUMENTS);
                ft_token_source_close(s);
            }
        }
}

static void ids_of_32_bits_are_views_into_the_file(void **state)
{
    (void)state;
    ft_status st;
    ft_token_source *s;
    ft_token_document a, b;
    int more;
    assert_ok(ft_token_source_open_arrays(&s, write_values("t.npy", FT_NPY_UINT32, (uint64_t[]){1, 2, 3, 4, 5}, 5),
                                          write_values("o.npy", FT_NPY_UINT64, (uint64_t[]){0, 2, 5}, 3), NULL, 6, &st),
              st);
    assert_ok(ft_token_source_next(s, &a, &more, &st), st);
    assert_ok(ft_token_source_next(s, &b, &more, &st), st);
    assert_ptr_equal(b.tokens, a.tokens + 2);
    ft_token_source_close(s);
}

/* NumPy aligns what it writes; a header of another length must not matter. */
static void a_header_of_odd_length_is_read_too(void **state)
{
    (void)state;
    ft_status st;
    ft_token_source *s;
    size_t n;
    const uint64_t tokens[] = {1, 70000, 3}, offsets[] = {0, 3};
    char *bytes = ft_test_read(write_values("t.npy", FT_NPY_UINT32, tokens, 3), &n), *odd = malloc(n);
    const size_t header = n - 12;
    memcpy(odd, bytes, header - 2); /* one blank less before the line's end */
    odd[8] = (char)(odd[8] - 1);
    memcpy(odd + header - 2, bytes + header - 1, n - header + 1);
    const char *path = ft_test_write("odd.npy", odd, n - 1);
    assert_ok(ft_token_source_open_arrays(&s, path, write_values("o.npy", FT_NPY_UINT64, offsets, 2), NULL, 80000, &st),
              st);
    check_documents(s, tokens, offsets, 0, 1);
    ft_token_source_close(s);
    free(bytes);
    free(odd);
}

static void nothing_at_all_is_no_documents_or_empty_ones(void **state)
{
    (void)state;
    ft_status st;
    ft_token_source *s;
    const uint64_t zeros[3] = {0};
    const char *none = write_values("t.npy", FT_NPY_INT32, zeros, 0);
    for (size_t documents = 0; documents < 3; documents++) {
        const char *offsets = write_values("o.npy", FT_NPY_INT64, zeros, documents + 1);
        assert_ok(ft_token_source_open_arrays(&s, none, offsets, NULL, 10, &st), st);
        assert_ok(ft_token_source_check(s, NULL, &st), st);
        check_documents(s, zeros, zeros, 0, documents);
        assert_int_equal(ft_token_source_get_info(s).max_id, 0);
        ft_token_source_close(s);
    }
}

/* Each bad value at each place that matters to the loop over vectors. */
static void a_token_outside_the_vocabulary_is_named_with_its_place(void **state)
{
    (void)state;
    static const struct {
        ft_npy_type type;
        uint64_t bad;
        const char *shown;
    } cases[] = {
        {FT_NPY_UINT32, 1000, "token id 1000"},          {FT_NPY_UINT32, UINT32_MAX, "token id 4294967295"},
        {FT_NPY_INT32, (uint64_t)-1, "token id -1 is"},  {FT_NPY_INT64, (uint64_t)-7, "token id -7 is"},
        {FT_NPY_INT64, (uint64_t)1 << 32, "4294967296"}, {FT_NPY_UINT64, UINT64_MAX, "18446744073709551615"},
        {FT_NPY_UINT16, 65535, "token id 65535"},
    };
    enum { TOKENS = 70 };
    const uint64_t offsets[] = {0, 5, 5, 40, TOKENS};
    path_room room;
    const char *o_path = keep(room, write_values("o.npy", FT_NPY_UINT64, offsets, 5));
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++)
        for (size_t at = 0; at < TOKENS; at++) {
            uint64_t tokens[TOKENS] = {0};
            char place[40];
            ft_status st;
            ft_token_source *s;
            ft_token_document d;
            int more, failures = 0, documents = 0;
            tokens[at] = cases[c].bad;
            tokens[TOKENS - 1 - at] = 999; /* the largest that is allowed */
            snprintf(place, sizeof(place), "t.npy: element %zu:", at);
            assert_ok(ft_token_source_open_arrays(&s, write_values("t.npy", cases[c].type, tokens, TOKENS), o_path,
                                                  NULL, 1000, &st),
                      st);
            assert_int_equal(ft_token_source_check(s, NULL, &st), FT_ERR_FORMAT);
            assert_names(st, place, cases[c].shown);
            for (int i = 0; i < 4; i++) { /* the documents beside it are read all the same */
                const ft_code rc = ft_token_source_next(s, &d, &more, &st);
                documents += more;
                failures += rc == FT_ERR_FORMAT;
                if (rc)
                    assert_names(st, place, cases[c].shown);
            }
            assert_int_equal(failures, 1);
            assert_int_equal(documents, 3);
            ft_token_source_close(s);
        }
}

static void without_a_vocabulary_the_largest_id_is_told(void **state)
{
    (void)state;
    ft_status st;
    ft_token_source *s;
    const uint64_t offsets[] = {0, 3};
    const char *o_path = write_values("o.npy", FT_NPY_UINT64, offsets, 2);
    const char *t_path = write_values("t.npy", FT_NPY_UINT32, (uint64_t[]){7, INT32_MAX, 3}, 3);
    assert_ok(ft_token_source_open_arrays(&s, t_path, o_path, NULL, 0, &st), st);
    assert_ok(ft_token_source_check(s, NULL, &st), st);
    assert_int_equal(ft_token_source_get_info(s).max_id, INT32_MAX);
    ft_token_source_close(s);
    t_path = write_values("t.npy", FT_NPY_INT32, (uint64_t[]){7, 3, (uint64_t)INT32_MIN}, 3);
    assert_ok(ft_token_source_open_arrays(&s, t_path, o_path, NULL, 0, &st), st);
    assert_int_equal(ft_token_source_check(s, NULL, &st), FT_ERR_FORMAT);
    assert_names(st, "element 2", "-2147483648 is negative");
    ft_token_source_close(s);
}

static void offsets_that_contradict_themselves_or_the_tokens_are_named(void **state)
{
    (void)state;
    static const struct {
        uint64_t offsets[4];
        const char *place, *what;
    } cases[] = {
        {{1, 2, 5, 9}, "element 0:", "offset 1,"},
        {{0, 5, 4, 9}, "element 2:", "at least 5"},
        {{0, 5, 10, 9}, "element 2:", "number of tokens, 9"},
        {{0, 5, 6, 8}, "element 3:", "number of tokens, 9"},
        {{0, 5, 6, 10}, "element 3:", "number of tokens, 9"},
        {{0, (uint64_t)-1, 6, 9}, "element 1:", "offset -1,"},
        {{(uint64_t)-1, 1, 6, 9}, "element 0:", "offset -1,"},
    };
    static const ft_npy_type types[] = {FT_NPY_INT64, FT_NPY_INT32};
    path_room room;
    const char *tokens = keep(room, write_values("t.npy", FT_NPY_UINT16, (uint64_t[9]){0}, 9));
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++)
        for (size_t t = 0; t < 2; t++) {
            ft_status st;
            const char *offsets = write_values("o.npy", types[t], cases[c].offsets, 4);
            assert_int_equal(open_and_close(tokens, offsets, 10, &st), FT_ERR_FORMAT);
            assert_names(st, "o.npy: ", cases[c].place, cases[c].what);
        }
}

static void what_is_no_such_array_is_refused_by_name(void **state)
{
    (void)state;
    ft_status st;
    const uint64_t zeros[6] = {0};
    path_room t_room, o_room;
    const char *tokens = keep(t_room, write_values("t.npy", FT_NPY_UINT32, zeros, 0));
    const char *offsets = keep(o_room, write_values("o.npy", FT_NPY_UINT64, zeros, 1));
    assert_ok(open_and_close(tokens, offsets, 10, &st), st);
    assert_int_equal(open_and_close(write_values("f.npy", FT_NPY_FLOAT32, zeros, 0), offsets, 10, &st), FT_ERR_FORMAT);
    assert_names(st, "f.npy", "integers");
    assert_int_equal(open_and_close(tokens, write_values("f.npy", FT_NPY_FLOAT64, zeros, 1), 10, &st), FT_ERR_FORMAT);
    assert_names(st, "f.npy", "uint64, int64");
    assert_int_equal(open_and_close(tokens, write_values("f.npy", FT_NPY_UINT16, zeros, 1), 10, &st), FT_ERR_FORMAT);
    assert_int_equal(open_and_close(tokens, write_values("f.npy", FT_NPY_UINT64, zeros, 0), 10, &st), FT_ERR_FORMAT);
    assert_names(st, "f.npy", "one for the end");
    assert_ok(ft_npy_write(ft_test_path("two.npy"), FT_NPY_UINT32, 2, (size_t[]){2, 3}, zeros, &st), st);
    assert_int_equal(open_and_close(ft_test_path("two.npy"), offsets, 10, &st), FT_ERR_FORMAT);
    assert_names(st, "two.npy", "one dimension");
    assert_int_equal(open_and_close(tokens, ft_test_path("two.npy"), 10, &st), FT_ERR_FORMAT);
    assert_int_equal(open_and_close(ft_test_path("absent.npy"), offsets, 10, &st), FT_ERR_NOT_FOUND);
    assert_names(st, "absent.npy");
    assert_int_equal(open_and_close(tokens, ft_test_path("absent.npy"), 10, &st), FT_ERR_NOT_FOUND);
    assert_int_equal(open_and_close(tokens, ft_test_folder(), 10, &st), FT_ERR_FORMAT);
    size_t n;
    char *bytes = ft_test_read(write_values("whole.npy", FT_NPY_UINT64, zeros, 6), &n);
    for (size_t cut = 0; cut < n; cut++) { /* truncated at every byte */
        ft_test_write("cut.npy", bytes, cut);
        assert_int_equal(open_and_close(tokens, ft_test_path("cut.npy"), 10, &st), FT_ERR_FORMAT);
        assert_names(st, "cut.npy");
        assert_int_equal(open_and_close(ft_test_path("cut.npy"), offsets, 10, &st), FT_ERR_FORMAT);
    }
    free(bytes);
}

/* The lines of a corpus beside its tokens: ids and metadata as ft_corpus reads them. */
static void documents_are_described_by_lines_of_their_own(void **state)
{
    (void)state;
    static const char lines[] = "{\"id\": \"one\", \"text\": \"\\n x\", \"a\": [1, {\"id\": 2}]}\n"
                                "{\"a\":\"\\u00e9\",\"id\":-12}\r\n"
                                "{\"b\":null}\n"
                                "{\"id\":true}";
    static const char *const ids[] = {"one", "-12", "2", "3"};
    static const char *const metadata[] = {"{\"a\": [1, {\"id\": 2}]}", "{\"a\":\"\\u00e9\"}", "{\"b\":null}",
                                           "{\"id\":true}"};
    path_room t_room, o_room;
    const char *t_path = keep(t_room, write_values("t.npy", FT_NPY_UINT16, (uint64_t[]){1, 2, 3}, 3));
    const char *o_path = keep(o_room, write_values("o.npy", FT_NPY_UINT64, (uint64_t[]){0, 1, 1, 2, 3}, 5));
    ft_status st;
    ft_token_source *s;
    ft_token_document d;
    int more;
    for (uint64_t first = 0; first <= 4; first++) {
        assert_ok(ft_token_source_open_arrays(&s, t_path, o_path, ft_test_write("l.jsonl", lines, sizeof(lines) - 1),
                                              10, &st),
                  st);
        ft_token_source_skip(s, first);
        for (uint64_t i = first; i < 4; i++) {
            assert_ok(ft_token_source_next(s, &d, &more, &st), st);
            assert_string_equal(d.id, ids[i]);
            assert_string_equal(d.metadata, metadata[i]);
        }
        ft_token_source_close(s);
    }
    static const struct {
        const char *text, *what; /* opened with four documents */
        int opens;
    } cases[] = {
        {"{}\n{}\n{}\n", "fewer lines than the 4 documents", 0},
        {"{}\n{}\n{}\n{}\n{}", "more lines than the 4 documents", 0},
        {"", "fewer lines", 0},
        {"{}\n\n{}\n{}\n", "l.jsonl: line 2: not a JSON object", 1},
        {"{}\n{\"a\":1,\"a\":2}\n{}\n{}\n", "l.jsonl: line 2: ", 1},
        {"{}\n{\"a\":\"\xff\"}\n{}\n{}\n", "l.jsonl: line 2: not valid UTF-8", 1},
        {"{}\n{\"a\":\n{}\n{}\n", "l.jsonl: line 2: not valid JSON", 1},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        const char *l_path = ft_test_write("l.jsonl", cases[c].text, strlen(cases[c].text));
        ft_code rc = ft_token_source_open_arrays(&s, t_path, o_path, l_path, 10, &st);
        if (cases[c].opens) {
            assert_ok(rc, st);
            assert_ok(ft_token_source_next(s, &d, &more, &st), st);
            rc = ft_token_source_next(s, &d, &more, &st);
            ft_token_source_close(s);
        }
        assert_int_equal(rc, FT_ERR_FORMAT);
        assert_names(st, cases[c].what);
    }
}

static int stop_at_once(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    assert_string_equal(phase, "check");
    assert_string_equal(unit, "tokens");
    assert_true(done <= total);
    ++*(int *)context;
    return 1;
}

static void a_check_can_be_stopped(void **state)
{
    (void)state;
    ft_status st;
    ft_token_source *s;
    int calls = 0;
    const uint64_t zeros[6] = {0}, offsets[] = {0, 6};
    assert_ok(ft_token_source_open_arrays(&s, write_values("t.npy", FT_NPY_UINT32, zeros, 6),
                                          write_values("o.npy", FT_NPY_UINT64, offsets, 2), NULL, 10, &st),
              st);
    const ft_progress progress = {stop_at_once, &calls};
    assert_int_equal(ft_token_source_check(s, &progress, &st), FT_ERR_CANCELLED);
    assert_int_equal(calls, 1);
    ft_token_source_close(s);
}

/* Resident bytes of this process that are mapped from files. */
static size_t resident_file_bytes(void)
{
    unsigned long size, resident, shared = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%lu %lu %lu", &size, &resident, &shared) != 3)
        skip();
    fclose(f);
    return shared * (size_t)sysconf(_SC_PAGESIZE);
}

static void reading_does_not_keep_the_file_resident(void **state)
{
    (void)state;
    enum { TOKENS = 48 << 20, DOCUMENTS = 4800 }; /* 192 MiB, a sparse file */
    ft_status st;
    ft_token_source *s;
    ft_token_document d;
    int more = 1;
    uint64_t *offsets = calloc(DOCUMENTS + 1, sizeof(*offsets));
    size_t n, peak = 0;
    char *header = ft_test_read(write_values("h.npy", FT_NPY_UINT32, offsets, 0), &n);
    char *shape = strstr(header + 10, "(0,)");
    assert_non_null(shape);
    memmove(shape + 10, shape + 4, n - (size_t)(shape + 10 - header)); /* blanks at the end make room */
    memcpy(shape, "(50331648,)", 11);
    memcpy(shape + 11, ", }", 3);
    header[n - 1] = '\n';
    const char *path = ft_test_write("large.npy", header, n);
    assert_int_equal(truncate(path, (off_t)n + (off_t)TOKENS * 4), 0);
    for (size_t i = 0; i <= DOCUMENTS; i++)
        offsets[i] = (uint64_t)TOKENS * i / DOCUMENTS;
    assert_ok(ft_token_source_open_arrays(&s, path, write_array("o.npy", FT_NPY_UINT64, offsets, DOCUMENTS + 1), NULL,
                                          10, &st),
              st);
    const size_t before = resident_file_bytes();
    while (more) {
        assert_ok(ft_token_source_next(s, &d, &more, &st), st);
        const size_t now = resident_file_bytes();
        peak = now > peak ? now : peak;
    }
    assert_int_equal(ft_token_source_get_info(s).tokens_read, TOKENS);
    assert_in_range(peak - before, 1 << 20, 48 << 20);
    ft_token_source_close(s);
    unlink(path);
    free(header);
    free(offsets);
}

/* --- Infini-gram ------------------------------------------------------------------------- */

typedef struct golden {
    uint32_t *tokens;
    uint64_t offsets[GOLDEN_DOCUMENTS + 1];
} golden;

static golden read_golden(void)
{
    golden g;
    size_t n;
    ft_npy offsets;
    ft_status st;
    assert_ok(ft_npy_read_ids(ft_test_shared("golden/index/tokens.npy"), &g.tokens, &n, &st), st);
    assert_int_equal(n, GOLDEN_TOKENS);
    assert_ok(ft_npy_open(&offsets, ft_test_shared("golden/index/doc_offsets.npy"), &st), st);
    assert_int_equal(offsets.count, GOLDEN_DOCUMENTS + 1);
    memcpy(g.offsets, offsets.data, sizeof(g.offsets));
    ft_npy_close(&offsets);
    return g;
}

static void the_golden_arrays_and_every_golden_folder_are_the_same_documents(void **state)
{
    (void)state;
    ft_test_need("golden/index/tokens.npy");
    ft_test_need("golden/index/infinigram-v4-u32/tokenized.0");
    static const char *const folders[] = {NULL, "infinigram-v4-u32", "infinigram-v4-u32-2shards", "infinigram-v5-u32"};
    golden g = read_golden();
    for (size_t f = 0; f < 4; f++)
        for (uint64_t first = 0; first <= GOLDEN_DOCUMENTS; first += 19) {
            ft_status st;
            ft_token_source *s;
            ft_token_document d;
            int more;
            char path[100];
            const ft_infinigram_options o = {.version = f == 3 ? 5 : 4, .vocab_size = VOCAB};
            snprintf(path, sizeof(path), "golden/index/%s", folders[f] ? folders[f] : "");
            if (folders[f])
                assert_ok(ft_token_source_open_infinigram(&s, ft_test_shared(path), &o, &st), st);
            else
                assert_ok(ft_token_source_open_arrays(&s, ft_test_shared("golden/index/tokens.npy"),
                                                      ft_test_shared("golden/index/doc_offsets.npy"), NULL, VOCAB, &st),
                          st);
            assert_ok(ft_token_source_check(s, NULL, &st), st);
            const ft_token_source_info info = ft_token_source_get_info(s);
            assert_int_equal(info.documents, GOLDEN_DOCUMENTS);
            assert_int_equal(info.tokens, GOLDEN_TOKENS);
            assert_in_range(info.max_id, 90000, VOCAB - 1);
            ft_token_source_skip(s, first);
            for (uint64_t i = first; i < GOLDEN_DOCUMENTS; i++) {
                assert_ok(ft_token_source_next(s, &d, &more, &st), st);
                assert_true(more);
                assert_int_equal(d.number, i);
                assert_int_equal(d.count, g.offsets[i + 1] - g.offsets[i]);
                assert_memory_equal(d.tokens, g.tokens + g.offsets[i], d.count * sizeof(*d.tokens));
            }
            assert_ok(ft_token_source_next(s, &d, &more, &st), st);
            assert_false(more);
            ft_token_source_close(s);
        }
    free(g.tokens);
}

/* Ids and metadata as ft_corpus reads them from the corpus that the peer indexed; and, of
 * the folder whose tokens are bytes, the text itself. */
static void ids_and_metadata_are_those_of_the_corpus(void **state)
{
    (void)state;
    ft_test_need("golden/index/corpus.jsonl");
    ft_test_need("golden/index/infinigram-v4-u8/tokenized.0");
    static const char *const folders[] = {"infinigram-v4-u32", "infinigram-v4-u32-2shards", "infinigram-v5-u32",
                                          "infinigram-v4-u16", "infinigram-v4-u8"};
    const char *corpus_path = ft_test_shared("golden/index/corpus.jsonl");
    for (size_t f = 0; f < 5; f++) {
        ft_status st;
        ft_token_source *s;
        ft_corpus *corpus;
        char path[100];
        const ft_infinigram_options o = {.version = f == 2 ? 5 : 4, .vocab_size = f == 4 ? 256 : 0};
        snprintf(path, sizeof(path), "golden/index/%s", folders[f]);
        assert_ok(ft_token_source_open_infinigram(&s, ft_test_shared(path), &o, &st), st);
        assert_ok(ft_corpus_open(&corpus, &corpus_path, 1, &(ft_corpus_options){0}, &st), st);
        for (int i = 0; i < GOLDEN_DOCUMENTS; i++) {
            ft_token_document d;
            ft_document want;
            int more;
            assert_ok(ft_corpus_next(corpus, &want, &more, &st), st);
            assert_ok(ft_token_source_next(s, &d, &more, &st), st);
            assert_true(more);
            assert_string_equal(d.id, want.id);
            assert_int_equal(d.metadata_bytes, strlen(d.metadata));
            assert_string_equal(d.metadata, want.metadata);
            for (size_t k = 0; f == 4 && k < d.count; k++)
                assert_int_equal(d.tokens[k], (unsigned char)want.text[k]);
            if (f == 4)
                assert_int_equal(d.count, want.text_bytes);
        }
        ft_corpus_close(corpus);
        ft_token_source_close(s);
    }
}

/* A folder of the peer's kind, of u32 tokens: shard s holds `counts[s]` documents, each one
 * token long: 100 s + its number there; its table is not sorted, which nobody looks at. */
static const char *write_shards(path_room room, const char *name, const unsigned *counts, unsigned shards,
                                const char *metadata)
{
    const char *folder = keep(room, ft_test_path(name));
    ft_status st;
    assert_ok(ft_folder_remove(folder, &st), st);
    assert_ok(ft_folder_make(folder, &st), st);
    for (unsigned s = 0; s < shards; s++) {
        char file[100];
        uint32_t tokens[200];
        uint64_t offsets[100], lines[100];
        const unsigned n = counts[s];
        ft_buffer text = {0};
        for (unsigned i = 0; i < n; i++) {
            tokens[2 * i] = UINT32_MAX;
            tokens[2 * i + 1] = 100 * s + i;
            offsets[i] = 8 * i;
            lines[i] = text.size;
            if (metadata)
                assert_ok(ft_buffer_printf(&text, &st, "%s\n", metadata), st);
        }
        snprintf(file, sizeof(file), "%s/tokenized.%u", name, s);
        ft_test_write(file, tokens, 8 * n);
        snprintf(file, sizeof(file), "%s/table.%u", name, s);
        ft_test_write(file, tokens, (size_t)2 * n * (8 * n - 1 > 255 ? 2 : 1));
        snprintf(file, sizeof(file), "%s/offset.%u", name, s);
        ft_test_write(file, offsets, sizeof(*offsets) * n);
        if (metadata) {
            snprintf(file, sizeof(file), "%s/metadata.%u", name, s);
            ft_test_write(file, text.data, text.size);
            snprintf(file, sizeof(file), "%s/metaoff.%u", name, s);
            ft_test_write(file, lines, sizeof(*lines) * n);
        }
        ft_buffer_release(&text);
    }
    return folder;
}

static const ft_infinigram_options plain = {.version = 4, .vocab_size = 1000};

/* Against a plain walk in rounds, from every place; sizes that a builder leaves, and others. */
static void shards_are_walked_in_rounds(void **state)
{
    (void)state;
    static const unsigned cases[][5] = {{7}, {4, 4, 3}, {3, 3, 3, 3}, {1, 9, 4}, {50, 2, 2, 17, 1}, {2, 60, 1, 1, 60}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        unsigned shards = 0, total = 0;
        uint64_t want[300], offsets[301];
        for (; shards < 5 && cases[c][shards]; shards++)
            total += cases[c][shards];
        for (unsigned round = 0, n = 0; n < total; round++)
            for (unsigned s = 0; s < shards; s++)
                if (round < cases[c][s])
                    want[n++] = 100 * s + round;
        for (unsigned i = 0; i <= total; i++)
            offsets[i] = i;
        path_room room;
        const char *folder = write_shards(room, "rounds", cases[c], shards, NULL);
        for (unsigned first = 0; first <= total; first++) {
            ft_status st;
            ft_token_source *s;
            assert_ok(ft_token_source_open_infinigram(&s, folder, &plain, &st), st);
            ft_token_source_skip(s, first);
            check_documents(s, want, offsets, first, total);
            ft_token_source_close(s);
        }
    }
}

static void ids_come_from_metadata_or_path_or_number(void **state)
{
    (void)state;
    static const struct {
        const char *line, *id, *metadata; /* id NULL: the line is refused */
    } cases[] = {
        {"{\"path\": \"a/b.jsonl\", \"linenum\": 12, \"metadata\": {\"id\": \"x/1\", \"y\": 2}}", "x/1", "{\"y\": 2}"},
        {"{\"metadata\":{\"z\":1,\"id\":77},\"path\":\"p\",\"linenum\":0}", "77", "{\"z\":1}"},
        {"{\"path\":\"p\",\"linenum\":0,\"metadata\":{\"z\":1}}", "p:0", "{\"z\":1}"},
        {"{\"metadata\":{\"id\":1.5,\"n\":123456789012345678901234567890},\"linenum\":3,\"path\":\"p\\n\"}", "p\n:3",
         "{\"id\":1.5,\"n\":\"123456789012345678901234567890\"}"},
        {"{\"path\":\"p\",\"linenum\":4,\"metadata\":{\"id\":\"\",\"text\":\"t\"}}", "p:4", "{}"},
        {"{\"path\":\"p\",\"linenum\":4,\"metadata\":null}", "p:4", "{}"},
        {"{\"path\":null,\"linenum\":4,\"metadata\":{\"id\":null,\"a\":[{}]}}", "0", "{\"id\":null,\"a\":[{}]}"},
        {"{\"path\":\"p\"}", "0", "{}"},
        {"{}", "0", "{}"},
        {"{\"path\":\"p\",\"linenum\":4,\"metadata\":{\"a\":1}", NULL, NULL},
        {"[1]", NULL, NULL},
        {"", NULL, NULL},
        {"{\"metadata\":{\"a\":1,\"a\":2}}", NULL, NULL},
        {"{\"metadata\":{},\"metadata\":{}}", NULL, NULL},
        {"{\"path\":\"\xff\"}", NULL, NULL},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        ft_status st;
        ft_token_source *s;
        ft_token_document d;
        int more;
        path_room room;
        const char *folder = write_shards(room, "ids", &(const unsigned){2}, 1, cases[c].line);
        assert_ok(ft_token_source_open_infinigram(&s, folder, &plain, &st), st);
        const ft_code rc = ft_token_source_next(s, &d, &more, &st);
        if (cases[c].id) {
            assert_ok(rc, st);
            assert_string_equal(d.id, cases[c].id);
            assert_string_equal(d.metadata, cases[c].metadata);
            assert_int_equal(d.metadata_bytes, strlen(cases[c].metadata));
        } else {
            assert_int_equal(rc, FT_ERR_FORMAT);
            assert_names(st, "ids/metadata.0: line 1: ");
            assert_int_equal(ft_token_source_next(s, &d, &more, &st), FT_ERR_FORMAT);
            assert_names(st, "ids/metadata.0: line 2: ");
            assert_ok(ft_token_source_check(s, NULL, &st), st); /* of the tokens alone */
        }
        ft_token_source_close(s);
    }
}

static void a_folder_with_bad_tokens_or_separators_is_named_with_its_place(void **state)
{
    (void)state;
    ft_status st;
    ft_token_source *s;
    const unsigned counts[] = {3, 3};
    path_room room;
    const char *folder = write_shards(room, "bad", counts, 2, NULL);
    const ft_infinigram_options small = {.version = 4, .vocab_size = 102};
    assert_ok(ft_token_source_open_infinigram(&s, folder, &small, &st), st);
    assert_int_equal(ft_token_source_check(s, NULL, &st), FT_ERR_FORMAT);
    assert_names(st, "bad/tokenized.1: byte 20: token id 102", "vocabulary ends at 102");
    ft_token_source_close(s);
    /* The second document's offset is lost: its separator then stands within the first. */
    ft_test_write("bad/offset.0", (uint64_t[]){0, 16}, 16);
    ft_test_write("bad/offset.1", (uint64_t[]){0, 8}, 16);
    assert_ok(ft_token_source_open_infinigram(&s, folder, &plain, &st), st);
    assert_int_equal(ft_token_source_check(s, NULL, &st), FT_ERR_FORMAT);
    assert_names(st, "bad/tokenized.0: byte 8: ", "separator within document 0");
    ft_token_source_close(s);
    ft_test_write("bad/offset.0", (uint64_t[]){0, 12, 16}, 24);
    assert_ok(ft_token_source_open_infinigram(&s, folder, &plain, &st), st);
    assert_int_equal(ft_token_source_check(s, NULL, &st), FT_ERR_FORMAT);
    assert_names(st, "bad/");
    ft_token_source_close(s);
    /* Bytes: the separator is a number like others, below the vocabulary's size. */
    const ft_infinigram_options bytes = {.version = 5, .vocab_size = 256};
    folder = write_shards(room, "bad", &(const unsigned){1}, 1, NULL);
    ft_test_write("bad/tokenized.0", "\xff\x01\xfe\xff\x02", 5);
    ft_test_write("bad/table.0", "01234", 5);
    ft_test_write("bad/offset.0", (uint64_t[]){0}, 8);
    assert_ok(ft_token_source_open_infinigram(&s, folder, &bytes, &st), st);
    assert_int_equal(ft_token_source_check(s, NULL, &st), FT_ERR_FORMAT);
    assert_names(st, "bad/tokenized.0: byte 3: ", "separator within document 0");
    ft_token_source_close(s);
    assert_int_equal(ft_token_source_open_infinigram(&s, ft_test_folder(), &plain, &st), FT_ERR_NOT_FOUND);
    assert_null(s);
}

/* --- Both ------------------------------------------------------------------------------- */

static void memory_that_runs_out_is_said_and_nothing_leaks(void **state)
{
    (void)state;
    const unsigned counts[] = {3, 2};
    path_room room;
    const char *folder = write_shards(room, "memory", counts, 2, "{\"metadata\":{\"id\":\"a\",\"b\":1}}");
    const char *tokens = write_values("t.npy", FT_NPY_UINT16, (uint64_t[]){1, 2, 3}, 3);
    const char *offsets = write_values("o.npy", FT_NPY_UINT64, (uint64_t[]){0, 1, 3}, 3);
    static const char text[] = "{\"id\":\"a\",\"b\":1}\n{}\n";
    const char *lines = ft_test_write("memory.jsonl", text, sizeof(text) - 1);
    for (int kind = 0; kind < 2; kind++) {
        int failed = 1;
        for (long k = 1; failed; k++) {
            ft_status st;
            ft_token_source *s;
            ft_token_document d;
            int more = 1;
            ft_test_fail_allocation(k);
            ft_code rc = kind ? ft_token_source_open_infinigram(&s, folder, &plain, &st)
                              : ft_token_source_open_arrays(&s, tokens, offsets, lines, 10, &st);
            while (!rc && more)
                rc = ft_token_source_next(s, &d, &more, &st);
            failed = ft_test_allocation_failed();
            ft_test_fail_allocation(0);
            assert_true(!rc || rc == FT_ERR_MEM);
            assert_true(failed || !rc);
            ft_token_source_close(s);
            assert_true(k < 200);
        }
    }
}

static void a_source_carries_the_fingerprint_of_its_files(void **state)
{
    (void)state;
    ft_status st;
    uint64_t print;
    ft_token_source *s;
    const char *files[] = {write_values("t.npy", FT_NPY_UINT16, (uint64_t[]){1}, 1),
                           write_values("o.npy", FT_NPY_UINT64, (uint64_t[]){0, 1}, 2)};
    assert_ok(ft_token_source_open_arrays(&s, files[0], files[1], NULL, 10, &st), st);
    assert_ok(ft_input_fingerprint(files, 2, &print, &st), st);
    assert_true(ft_token_source_get_info(s).fingerprint == print);
    ft_token_source_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_of_every_width_give_the_same_documents),
        cmocka_unit_test(ids_of_32_bits_are_views_into_the_file),
        cmocka_unit_test(a_header_of_odd_length_is_read_too),
        cmocka_unit_test(nothing_at_all_is_no_documents_or_empty_ones),
        cmocka_unit_test(a_token_outside_the_vocabulary_is_named_with_its_place),
        cmocka_unit_test(without_a_vocabulary_the_largest_id_is_told),
        cmocka_unit_test(offsets_that_contradict_themselves_or_the_tokens_are_named),
        cmocka_unit_test(what_is_no_such_array_is_refused_by_name),
        cmocka_unit_test(documents_are_described_by_lines_of_their_own),
        cmocka_unit_test(a_check_can_be_stopped),
        cmocka_unit_test(reading_does_not_keep_the_file_resident),
        cmocka_unit_test(the_golden_arrays_and_every_golden_folder_are_the_same_documents),
        cmocka_unit_test(ids_and_metadata_are_those_of_the_corpus),
        cmocka_unit_test(shards_are_walked_in_rounds),
        cmocka_unit_test(ids_come_from_metadata_or_path_or_number),
        cmocka_unit_test(a_folder_with_bad_tokens_or_separators_is_named_with_its_place),
        cmocka_unit_test(memory_that_runs_out_is_said_and_nothing_leaks),
        cmocka_unit_test(a_source_carries_the_fingerprint_of_its_files),
    };
    return cmocka_run_group_tests_name("token_source", tests, NULL, NULL);
}
