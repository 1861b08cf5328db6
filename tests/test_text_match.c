/* Text queries against a plain scan of every document's bytes. */
#include "tests/corpus_fixture.h"
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "base/ft_utf8.h"
#include "index/ft_index_build.h"
#include "index/ft_text_match.h"
#include "text/ft_case.h"
#include "text/ft_tokenizer.h"

#include <utf8proc.h>

/* --- The plain scan ------------------------------------------------------------------------ */

/* A document's text, and where each of its tokens begins. */
typedef struct document {
    unsigned char *text;
    size_t bytes, tokens;
    size_t *starts; /* [tokens + 1] */
} document;

/* All documents of a set, in order. `t` NULL: a token is a byte. */
typedef struct library {
    document *documents;
    size_t count;
    ft_index_set set;
    const ft_tokenizer *t;
} library;

static void read_document(document *d, const ft_index *ix, uint64_t number, const ft_tokenizer *t)
{
    ft_doc_ref ref;
    ft_status st;
    size_t room = 0;
    assert_ok(ft_index_document(ix, number, &ref, &st), st);
    uint32_t *ids = calloc((size_t)ref.length + 1, sizeof(*ids));
    ft_index_document_tokens(ix, &ref, 0, (size_t)ref.length, ids, &d->tokens);
    d->starts = calloc(d->tokens + 1, sizeof(*d->starts));
    for (size_t i = 0; i < d->tokens; i++) {
        size_t n = 1;
        const char byte = (char)ids[i], *text = t ? ft_tokenizer_token_bytes(t, ids[i], &n, NULL) : &byte;
        while (d->bytes + n + 1 > room)
            d->text = realloc(d->text, room = room * 2 + 1000);
        memcpy(d->text + d->bytes, text, n);
        d->bytes += n;
        d->starts[i + 1] = d->bytes;
    }
    free(ids);
}

static library library_of(ft_index_set set, const ft_tokenizer *t)
{
    library l = {.set = set, .t = t};
    for (size_t i = 0; i < set.count; i++) {
        const uint64_t n = ft_index_get_info(set.indexes[i]).documents;
        l.documents = realloc(l.documents, (l.count + (size_t)n) * sizeof(*l.documents));
        for (uint64_t d = 0; d < n; d++) {
            l.documents[l.count] = (document){0};
            read_document(&l.documents[l.count++], set.indexes[i], d, t);
        }
    }
    return l;
}

static void library_release(library *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->documents[i].text);
        free(l->documents[i].starts);
    }
    free(l->documents);
}

/* Simple case folding by another library's tables: its full folding where that is one
 * character, else lower case. */
static uint32_t plain_fold(uint32_t c)
{
    utf8proc_int32_t out[8];
    int boundclass = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, out, 8, UTF8PROC_CASEFOLD, &boundclass);
    switch (c) {
    case 0x130:
        return c;
    case 0x1FD3: /* these three are simple foldings since Unicode 15.1 */
        return 0x390;
    case 0x1FE3:
        return 0x3B0;
    case 0xFB05:
        return 0xFB06;
    }
    return n == 1 ? (uint32_t)out[0] : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}

/* Bytes of the text at p that equal the query, 0 where it does not. */
static size_t equal_length(const unsigned char *p, size_t left, const char *query, size_t n, int ignore_case)
{
    if (!ignore_case)
        return left >= n && memcmp(p, query, n) == 0 ? n : 0;
    size_t at = 0;
    for (size_t i = 0; i < n;) {
        if (at == left)
            return 0;
        const ft_utf8_step q = ft_utf8_next(query + i, n - i), t = ft_utf8_next((const char *)p + at, left - at);
        if (!q.valid) {
            if ((unsigned char)query[i++] != p[at++])
                return 0;
            continue;
        }
        if (!t.valid || plain_fold(q.code_point) != plain_fold(t.code_point))
            return 0;
        i += q.length;
        at += t.length;
    }
    return at;
}

static size_t token_with(const document *d, size_t byte)
{
    size_t i = 0;
    while (d->starts[i + 1] <= byte)
        i++;
    return i;
}

static int by_place(const void *a, const void *b)
{
    const ft_text_occurrence *x = a, *y = b;
    if (x->document != y->document)
        return x->document < y->document ? -1 : 1;
    return x->byte < y->byte ? -1 : x->byte > y->byte;
}

/* The page [from, from + limit) of a query with `count` occurrences. */
static void check_page(const ft_text_matcher *m, const library *l, ft_text_query q, const ft_text_matches *all)
{
    ft_text_matches page;
    ft_status st;
    assert_ok(ft_text_match(m, l->set, &q, &page, &st), st);
    assert_int_equal(page.count, all->count);
    const uint64_t left = q.from < all->count ? all->count - q.from : 0;
    assert_int_equal(page.listed, left < q.limit ? left : q.limit);
    for (size_t i = 0; i < page.listed; i++)
        assert_memory_equal(&page.occurrences[i], &all->occurrences[q.from + i], sizeof(page.occurrences[i]));
    ft_text_matches_release(&page);
}

static uint64_t check_query(const ft_text_matcher *m, const library *l, const char *query, size_t n, int ignore_case)
{
    ft_text_matches all;
    ft_status st;
    ft_text_query q = {.text = query, .bytes = n, .ignore_case = ignore_case, .limit = 100000};
    assert_ok(ft_text_match(m, l->set, &q, &all, &st), st);
    ft_text_occurrence *sorted = calloc(all.listed + 1, sizeof(*sorted));
    if (all.listed) {
        memcpy(sorted, all.occurrences, all.listed * sizeof(*sorted));
        qsort(sorted, all.listed, sizeof(*sorted), by_place);
    }
    size_t want = 0;
    for (size_t i = 0; i < l->count; i++) {
        const document *d = &l->documents[i];
        for (size_t at = 0; at < d->bytes; at++) {
            const size_t bytes = equal_length(d->text + at, d->bytes - at, query, n, ignore_case);
            if (!bytes)
                continue;
            if (want >= all.listed || sorted[want].document != i || sorted[want].byte != at)
                fail_msg("'%.*s' (%zu bytes, case %d) stands in document %zu at byte %zu: not found", (int)n, query, n,
                         ignore_case, i, at);
            const ft_text_occurrence *o = &sorted[want++];
            assert_int_equal(o->bytes, bytes);
            assert_int_equal(o->token, token_with(d, at));
            assert_int_equal(o->tokens, token_with(d, at + bytes - 1) - o->token + 1);
            assert_int_equal(o->token_byte, d->starts[o->token]);
        }
    }
    if (all.count != want || all.listed != want)
        fail_msg("'%.*s' (%zu bytes, case %d): %zu times, counted %zu, listed %zu", (int)n, query, n, ignore_case, want,
                 (size_t)all.count, all.listed);
    q.limit = 0;
    check_page(m, l, q, &all);
    for (q.limit = 1 + want / 3, q.from = 0; q.from <= want; q.from += q.limit)
        check_page(m, l, q, &all);
    free(sorted);
    ft_text_matches_release(&all);
    return want;
}

/* --- Queries ----------------------------------------------------------------------------------- */

/* Turns some letters into another form of theirs. */
static size_t change_case(ft_random *r, char *query, size_t n, size_t room)
{
    char out[4000];
    size_t used = 0;
    for (size_t i = 0; i < n && used + 4 < sizeof(out) && used + 4 < room;) {
        const ft_utf8_step s = ft_utf8_next(query + i, n - i);
        uint32_t forms[FT_CASE_FORMS];
        const size_t count = s.valid ? ft_case_forms(s.code_point, forms) : 0;
        if (count) {
            used += (size_t)utf8proc_encode_char((utf8proc_int32_t)forms[ft_random_below(r, count)],
                                                 (utf8proc_uint8_t *)out + used);
            i += s.length;
        } else {
            out[used++] = query[i++];
        }
    }
    memcpy(query, out, used);
    return used;
}

/* Cut out of a document at any byte, sometimes altered. */
static size_t some_query(ft_random *r, const library *l, char *query, size_t room)
{
    const document *d = &l->documents[ft_random_below(r, l->count)];
    if (d->bytes == 0)
        return 0;
    const size_t at = (size_t)ft_random_below(r, d->bytes);
    static const size_t lengths[] = {1, 2, 3, 6, 12, 40, 300};
    size_t n = 1 + (size_t)ft_random_below(r, lengths[ft_random_below(r, 7)]);
    n = n < d->bytes - at ? n : d->bytes - at;
    n = n < room ? n : room;
    memcpy(query, d->text + at, n);
    const uint64_t how = ft_random_below(r, 10);
    if (how == 0) /* probably absent */
        query[ft_random_below(r, n)] = (char)ft_random_below(r, 256);
    if (how == 1 && n + 1 < room) {
        memmove(query + 1, query, n++);
        query[0] = ' ';
    }
    return how < 5 ? n : change_case(r, query, n, room);
}

/* Forms of one, two, three and four bytes, whole and cut. */
static const char *const typed[] = {"k",   "K",    "\u212A",  "s",       "\u017F",    "\u017Fe",    "é",
                                    "É",   "ß",    "ẞ",       "ς",       "Σ",         "\U00010400", "\U00010428x",
                                    "i",   "İ",    "ı",       "\u1E9B",  "\xA9",      "\xC3",       "\xF0\x90\x90",
                                    "THE", "aAaa", "strasse", "σίσυφοσ", "\x90\x80x", "the sea",    " sea "};

static void check_many(const library *l, ft_random *r, int queries)
{
    ft_text_matcher *m;
    ft_status st;
    uint64_t occurrences = 0;
    assert_ok(ft_text_matcher_new(&m, l->set, l->t, &st), st);
    for (size_t i = 0; i < 2 * sizeof(typed) / sizeof(*typed); i++)
        (void)check_query(m, l, typed[i / 2], strlen(typed[i / 2]), (int)(i & 1));
    for (int i = 0; i < queries; i++) {
        char query[1000];
        const size_t n = some_query(r, l, query, sizeof(query));
        if (n == 0)
            continue;
        occurrences += check_query(m, l, query, n, 0);
        occurrences += check_query(m, l, query, n, 1);
    }
    assert_true(occurrences > (uint64_t)queries);
    ft_text_matcher_free(m);
}

/* --- Corpora --------------------------------------------------------------------------------------- */

static ft_tokenizer *open_tokenizer(const char *name)
{
    ft_tokenizer *t;
    ft_status st;
    assert_ok(ft_tokenizer_open(&t, ft_test_shared(name), &st), st);
    return t;
}

/* Pieces that share letters, split characters over tokens, and differ by case. */
static size_t some_text(ft_random *r, char *text, size_t room)
{
    static const char *const pieces[] = {
        "a",         "aa",          "A",         " ",      "  ",     "the",      " the",    " The",
        "THE ",      "sea",         "\n",        "straße", "STRAẞE", "\u017Fea", "kelp",    "KELP",
        "\u212Aelp", "é",           "É",         "日本語", "日",     "本",       "🙂",      "🙃",
        "ΣΊΣΥΦΟΣ",   "σίσυφος",     "ς",         "İı",     "Iil",    "\u1E9Bx",  "the sea", "in the beginning",
        "\001",      "\U00010400x", "\U00010428"};
    size_t n = 0;
    for (uint64_t k = ft_random_below(r, 60); k; k--) {
        const char *p = pieces[ft_random_below(r, sizeof(pieces) / sizeof(*pieces))];
        if (n + strlen(p) > room)
            break;
        memcpy(text + n, p, strlen(p));
        n += strlen(p);
    }
    return n;
}

/* An index whose documents are tokens in any order, not only as the tokenizer cuts;
 * few distinct ones, so that runs repeat. */
static ft_index *random_index(const char *name, const ft_tokenizer *t, ft_random *r, size_t documents, int canonical)
{
    ft_status st;
    ft_index_writer *w;
    ft_encoder *e;
    ft_encoding encoding = {0};
    ft_index *ix;
    uint32_t some[40];
    const uint32_t vocab = ft_tokenizer_vocab_size(t) + 10; /* ten that the tokenizer does not know */
    char folder[4096];
    snprintf(folder, sizeof(folder), "%s", ft_test_path(name));
    assert_ok(ft_folder_remove(folder, &st), st);
    const ft_index_writer_options o = {.vocab_size = vocab, .end_of_text = FT_NO_TOKEN};
    assert_ok(ft_index_writer_new(&w, folder, &o, &st), st);
    assert_ok(ft_encoder_new(&e, t, &st), st);
    for (size_t i = 0; i < 40; i++) {
        static const char *const often[] = {"a",  "Ġ", "Ġthe", "the", "th", "e",
                                            "Ġt", "h", "s",    "Ġs",  "ea", "<|endoftext|>"};
        some[i] = i < 12 ? ft_tokenizer_token_id(t, often[i]) : (uint32_t)ft_random_below(r, vocab);
        if (some[i] == FT_NO_TOKEN)
            some[i] = 0;
    }
    some[39] = some[38] = vocab - 1;
    for (size_t d = 0; d < documents; d++) {
        char text[600];
        assert_ok(ft_encoder_encode(e, text, some_text(r, text, sizeof(text)), &encoding, &st), st);
        for (size_t i = 0; i < encoding.count && !canonical; i++)
            encoding.ids[i] = some[ft_random_below(r, ft_random_below(r, 2) ? 12 : 40)];
        assert_ok(ft_index_writer_add(w, encoding.ids, encoding.count, "", NULL, 0, &st), st);
    }
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
    assert_ok(ft_index_open(&ix, folder, &st), st);
    ft_encoding_release(&encoding);
    ft_encoder_free(e);
    return ix;
}

static void check_own(const char *tokenizer, uint64_t seed)
{
    ft_random r;
    ft_random_init(&r, seed);
    ft_tokenizer *t = open_tokenizer(tokenizer);
    ft_index *a = random_index("canonical", t, &r, 300, 1), *b = random_index("any", t, &r, 120, 0);
    const ft_index *both[] = {a, b};
    library l = library_of((ft_index_set){both, 2}, t);
    check_many(&l, &r, 400);
    library_release(&l);
    ft_index_close(a);
    ft_index_close(b);
    ft_tokenizer_close(t);
}

static void every_byte_position_is_found_whatever_the_tokens(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    ft_test_need("tokenizers/gpt4o-like-4k/tokenizer.json");
    check_own("tokenizers/bytebpe-4k", 1);
    check_own("tokenizers/gpt4o-like-4k", 2);
}

static ft_index *reopen(ft_index *ix, int version)
{
    char folder[4096];
    ft_status st;
    const ft_infinigram_options o = {.version = version, .end_of_text = UINT32_MAX};
    snprintf(folder, sizeof(folder), "%s", ft_index_get_info(ix).folder);
    ft_index_close(ix);
    assert_ok(ft_index_open_infinigram(&ix, folder, &o, &st), st);
    return ix;
}

/* Few letters, tokens that overlap in every way, and ids 1, 3 and 6 that are no token. */
static const char holes[] =
    "{\"version\":\"1.0\",\"added_tokens\":[],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"trim_offsets\":true,\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
    "\"vocab\":"
    "{\"a\":0,\"b\":2,\"ab\":4,\"aab\":5,\"B\":7,\"ba\":8,\"abab\":9,\"A\":10},\"merges\":[]}}";
enum { HOLES_SIZE = 11 };

/* Ids without text stand between others, alone and many in a row, and matches run over them. */
static void ids_that_stand_for_no_text_are_passed_over(void **state)
{
    (void)state;
    ft_status st;
    ft_tokenizer *t;
    ft_index_writer *w;
    ft_index *own;
    ft_random r;
    ft_random_init(&r, 7);
    assert_ok(ft_tokenizer_open(&t, ft_test_write("holes.json", holes, sizeof(holes) - 1), &st), st);
    assert_int_equal(ft_tokenizer_vocab_size(t), HOLES_SIZE);
    const ft_index_writer_options o = {.vocab_size = HOLES_SIZE + 3, .end_of_text = FT_NO_TOKEN};
    char folder[4096];
    snprintf(folder, sizeof(folder), "%s", ft_test_path("with-holes"));
    assert_ok(ft_index_writer_new(&w, folder, &o, &st), st);
    static fixture_document d[FIXTURE_DOCUMENTS];
    memset(d, 0, sizeof(d));
    for (size_t i = 0; i < FIXTURE_DOCUMENTS; i++) {
        uint32_t ids[FIXTURE_TOKENS];
        const size_t n = (size_t)ft_random_below(&r, i % 2 ? 12 : 100);
        for (size_t k = 0; k < n; k++) {
            ids[k] = (uint32_t)ft_random_below(&r, HOLES_SIZE + 3);
            d[i].ids[k] = (uint32_t)ft_random_below(&r, HOLES_SIZE);
        }
        d[i].count = n;
        assert_ok(ft_index_writer_add(w, ids, n, "", NULL, 0, &st), st);
    }
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
    assert_ok(ft_index_open(&own, folder, &st), st);
    ft_index *gram = fixture_index("gram-with-holes", d, FIXTURE_DOCUMENTS, 1);
    for (int version = 4; version <= 5; version++) {
        gram = reopen(gram, version);
        const ft_index *both[] = {own, gram};
        library l = library_of((ft_index_set){both, 2}, t);
        check_many(&l, &r, 300);
        library_release(&l);
    }
    ft_index_close(gram);
    ft_index_close(own);
    ft_tokenizer_close(t);
}

static void overlapping_occurrences_count_each(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    ft_status st;
    ft_random r;
    ft_random_init(&r, 3);
    ft_tokenizer *t = open_tokenizer("tokenizers/bytebpe-4k");
    fixture_document d[2] = {0};
    const uint32_t a = ft_tokenizer_token_id(t, "a");
    for (size_t i = 0; i < 100; i++)
        d[i / 50].ids[d[i / 50].count++] = a;
    ft_index *ix = fixture_index("as", d, 2, 1);
    library l = library_of((ft_index_set){(const ft_index *const *)&ix, 1}, t);
    ft_text_matcher *m;
    assert_ok(ft_text_matcher_new(&m, l.set, t, &st), st);
    char as[60];
    memset(as, 'a', sizeof(as));
    for (size_t n = 1; n <= 52; n++)
        assert_int_equal(check_query(m, &l, as, n, 0), n <= 50 ? 2 * (51 - n) : 0);
    assert_int_equal(check_query(m, &l, "AA", 2, 1), 98);
    ft_text_matcher_free(m);
    library_release(&l);
    ft_index_close(ix);
    ft_tokenizer_close(t);
}

static void turn_round(uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        const uint32_t id = ids[i];
        ids[i] = ids[n - 1 - i];
        ids[n - 1 - i] = id;
    }
}

static void infinigram_folders_of_both_versions_answer_alike(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    ft_random r;
    ft_random_init(&r, 4);
    ft_status st;
    ft_tokenizer *t = open_tokenizer("tokenizers/bytebpe-4k");
    ft_encoder *e;
    ft_encoding encoding = {0};
    assert_ok(ft_encoder_new(&e, t, &st), st);
    static fixture_document d[FIXTURE_DOCUMENTS];
    memset(d, 0, sizeof(d));
    for (size_t i = 0; i < FIXTURE_DOCUMENTS; i++) {
        char text[600];
        assert_ok(ft_encoder_encode(e, text, some_text(&r, text, sizeof(text)), &encoding, &st), st);
        for (size_t k = 0; k < encoding.count && k < FIXTURE_TOKENS; k++)
            d[i].ids[d[i].count++] = ft_random_below(&r, 30) ? encoding.ids[k] : (uint32_t)ft_random_below(&r, 4100);
    }
    for (int version = 4; version <= 5; version++) {
        ft_index *ix = reopen(fixture_index("shards", d, FIXTURE_DOCUMENTS, 2), version);
        library l = library_of((ft_index_set){(const ft_index *const *)&ix, 1}, t);
        check_many(&l, &r, 300);
        library_release(&l);
        ft_index_close(ix);
        for (size_t i = 0; i < FIXTURE_DOCUMENTS; i++) /* version 5 stores them so */
            turn_round(d[i].ids, d[i].count);
    }
    ft_encoding_release(&encoding);
    ft_encoder_free(e);
    ft_tokenizer_close(t);
}

static void where_tokens_are_bytes_no_tokenizer_is_needed(void **state)
{
    (void)state;
    ft_test_need("golden/index/infinigram-v4-u8/tokenized.0");
    ft_random r;
    ft_random_init(&r, 5);
    for (int version = 4; version <= 5; version++) {
        ft_index *ix;
        ft_status st;
        const ft_infinigram_options o = {.version = version, .end_of_text = UINT32_MAX};
        assert_ok(ft_index_open_infinigram(&ix, ft_test_shared("golden/index/infinigram-v4-u8"), &o, &st), st);
        library l = library_of((ft_index_set){(const ft_index *const *)&ix, 1}, NULL);
        check_many(&l, &r, 40);
        library_release(&l);
        ft_index_close(ix);
    }
}

static void what_cannot_be_searched_is_said(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    ft_status st;
    ft_tokenizer *t = open_tokenizer("tokenizers/bytebpe-4k");
    fixture_document d = {.ids = {5, 6}, .count = 2};
    ft_index *ix = fixture_index("two", &d, 1, 1);
    const ft_index_set set = {(const ft_index *const *)&ix, 1};
    ft_text_matcher *m;
    ft_text_matches out;
    assert_int_equal(ft_text_matcher_new(&m, set, NULL, &st), FT_ERR_ARG);
    assert_null(m);
    assert_ok(ft_text_matcher_new(&m, set, t, &st), st);
    assert_int_equal(ft_text_match(m, set, &(ft_text_query){.text = "", .bytes = 0}, &out, &st), FT_ERR_ARG);
    char *text = calloc(FT_TEXT_QUERY_MAX + 1, 1);
    assert_int_equal(ft_text_match(m, set, &(ft_text_query){.text = text, .bytes = FT_TEXT_QUERY_MAX + 1}, &out, &st),
                     FT_ERR_LIMIT);
    assert_ok(ft_text_match(m, set, &(ft_text_query){.text = text, .bytes = FT_TEXT_QUERY_MAX}, &out, &st), st);
    assert_int_equal(out.count, 0);
    ft_text_matches_release(&out);
    free(text);
    ft_text_matcher_free(m);
    ft_index_close(ix);
    ft_tokenizer_close(t);
}

static void a_query_whose_allocation_fails_leaks_nothing(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    ft_random r;
    ft_random_init(&r, 6);
    ft_status st;
    ft_tokenizer *t = open_tokenizer("tokenizers/bytebpe-4k");
    ft_index *ix = random_index("few", t, &r, 40, 0);
    const ft_index_set set = {(const ft_index *const *)&ix, 1};
    int failed = 1;
    for (long k = 1; failed; k++) {
        ft_text_matcher *m = NULL;
        ft_text_matches out = {0};
        ft_test_fail_allocation(k);
        ft_code rc = ft_text_matcher_new(&m, set, t, &st);
        if (!rc)
            rc = ft_text_match(m, set, &(ft_text_query){.text = "e th", .bytes = 4, .ignore_case = 1, .limit = 5}, &out,
                               &st);
        failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        assert_int_equal(rc, failed ? FT_ERR_MEM : FT_OK);
        assert_true(!failed || !out.occurrences);
        ft_text_matches_release(&out);
        ft_text_matcher_free(m);
    }
    ft_index_close(ix);
    ft_tokenizer_close(t);
}

static void case_forms_are_those_that_fold_alike(void **state)
{
    (void)state;
    uint32_t forms[FT_CASE_FORMS];
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        const size_t n = ft_case_forms(c, forms);
        int itself = 0;
        for (size_t i = 0; i < n; i++) {
            itself += forms[i] == c;
            if (plain_fold(forms[i]) != plain_fold(c) &&
                utf8proc_category((utf8proc_int32_t)c) != UTF8PROC_CATEGORY_CN &&
                utf8proc_category((utf8proc_int32_t)forms[i]) != UTF8PROC_CATEGORY_CN)
                fail_msg("U+%04X is no form of U+%04X", forms[i], c);
        }
        assert_int_equal(itself, 1);
        const uint32_t folded = plain_fold(c);
        int there = 0;
        for (size_t i = 0; i < n; i++)
            there += forms[i] == folded;
        if (!there)
            fail_msg("U+%04X folds to U+%04X, which is not among its forms", c, folded);
    }
    assert_int_equal(ft_case_forms('k', forms), 3);
    assert_int_equal(ft_case_forms('s', forms), 3);
    assert_int_equal(ft_case_forms(0xDF, forms), 2);
    assert_int_equal(ft_case_forms(0x131, forms), 1);
    assert_int_equal(ft_case_forms(0x3B8, forms), 4);
    assert_int_equal(ft_case_forms('-', forms), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_forms_are_those_that_fold_alike),
        cmocka_unit_test(every_byte_position_is_found_whatever_the_tokens),
        cmocka_unit_test(ids_that_stand_for_no_text_are_passed_over),
        cmocka_unit_test(overlapping_occurrences_count_each),
        cmocka_unit_test(infinigram_folders_of_both_versions_answer_alike),
        cmocka_unit_test(where_tokens_are_bytes_no_tokenizer_is_needed),
        cmocka_unit_test(what_cannot_be_searched_is_said),
        cmocka_unit_test(a_query_whose_allocation_fails_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
