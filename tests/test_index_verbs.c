/* flextrace index build, add, remove and compact, as they are called from a shell. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_npy.h"
#include "index/ft_index.h"
#include "text/ft_tokenizer.h"

#include <dirent.h>

static const char *tokenizer(void)
{
    return ft_test_source("demo/model");
}

/* "flextrace index VERB NAME MORE FILE", FILE with this text (NULL: none). */
static int verb(const char *what, const char *name, const char *more, const char *text, char **out, char **err)
{
    char command[16000];
    const char *file = text ? ft_test_write("rows.jsonl", text, strlen(text)) : "";
    snprintf(command, sizeof(command), "$FLEXTRACE index %s %s %s %s", what, ft_test_path(name), more, file);
    return ft_test_shell(command, out, err);
}

static int build(const char *name, const char *more, const char *text, char **out, char **err)
{
    char options[9000];
    snprintf(options, sizeof(options), "-t %s --threads 2 %s", tokenizer(), more);
    return verb("build", name, options, text, out, err);
}

static void expect(int wanted, int code, const char *err)
{
    if (code != wanted)
        fail_msg("exit %d, not %d: %s", code, wanted, err);
}

static json_t *parse(const char *text)
{
    json_t *row;
    ft_status st;
    assert_ok(ft_json_parse(&row, text, strlen(text), "output", &st), st);
    return row;
}

/* Runs a verb with --json, expects the exit code, and gives an integer of what it says. */
static int64_t number(const char *what, const char *name, const char *more, const char *text, int code,
                      const char *field)
{
    char *out, *err, options[6000];
    snprintf(options, sizeof(options), "%s --json", more);
    const int got =
        !strcmp(what, "build") ? build(name, options, text, &out, &err) : verb(what, name, options, text, &out, &err);
    expect(code, got, err);
    json_t *row = parse(out);
    const int64_t value = json_integer_value(json_object_get(row, field));
    json_decref(row);
    free(out);
    free(err);
    return value;
}

static int64_t count(const char *name, const char *text)
{
    char command[9000], *out, *err;
    snprintf(command, sizeof(command), "echo '{\"op\":\"count\",\"text\":\"%s\"}' | $FLEXTRACE index query %s", text,
             ft_test_path(name));
    const int code = ft_test_shell(command, &out, &err);
    expect(0, code, err);
    json_t *row = parse(out);
    const int64_t n = json_integer_value(json_object_get(row, "count"));
    json_decref(row);
    free(out);
    free(err);
    return n;
}

/* A verb that must fail with this exit code, one line and these words. */
static void refused(const char *what, const char *name, const char *more, const char *text, int code, const char *words)
{
    char *err;
    const int got =
        !strcmp(what, "build") ? build(name, more, text, NULL, &err) : verb(what, name, more, text, NULL, &err);
    expect(code, got, err);
    const char *line = strstr(err, "flextrace: ");
    if (!line || !strstr(line, words) || strchr(line, '\n') != err + strlen(err) - 1)
        fail_msg("%s %s: '%s'", what, more, err);
    free(err);
}

static void digest_of(const char *name, ft_digest *out)
{
    ft_index *ix;
    ft_status st;
    assert_ok(ft_index_open(&ix, ft_test_path(name), &st), st);
    assert_ok(ft_index_verify(ix, &st), st);
    *out = ft_index_get_info(ix).root;
    ft_index_close(ix);
}

static const char rows[] = "{\"id\":\"a\",\"text\":\"the cat sat on the mat\",\"year\":1910,\"by\":\"Ann\"}\n"
                           "{\"id\":\"b\",\"text\":\"the cat ran\",\"year\":1911,\"by\":\"Ben\",\"open\":true}\n"
                           "{\"id\":\"c\",\"text\":\"a dog sat\",\"year\":\"1910\",\"tags\":[\"x\",\"y\"]}\n"
                           "{\"id\":\"d\",\"text\":\"the cat sat\",\"by\":\"J\\u00fcrg\",\"note\":\"a=b\"}\n";
static const char more_rows[] = "{\"id\":\"e\",\"text\":\"the cat sat down\"}\n{\"id\":\"a\",\"text\":\"the end\"}\n";

/* --- Adding --------------------------------------------------------------------------- */

static void documents_are_added_as_a_segment_and_ids_that_repeat_are_told(void **state)
{
    (void)state;
    char *err;
    assert_int_equal(number("build", "added", "--owner Ann", rows, 0, "segments"), 1);
    assert_int_equal(count("added", "the cat"), 3);
    assert_int_equal(number("add", "added", "", more_rows, 0, "repeated_ids"), 1);
    assert_int_equal(count("added", "the cat"), 4);
    const int code = verb("add", "added", "", more_rows, NULL, &err);
    expect(0, code, err);
    assert_non_null(strstr(err, "document 'a': this id was there before\n"));
    free(err);
    assert_int_equal(count("added", "the cat"), 5);
    assert_int_equal(number("stat", "added", "", NULL, 0, "segments"), 3);
    assert_int_equal(number("stat", "added", "", NULL, 0, "documents"), 8);
}

static void with_replace_a_document_takes_the_place_of_all_earlier_ones_with_its_id(void **state)
{
    (void)state;
    assert_int_equal(number("build", "replaced", "", rows, 0, "segments"), 1);
    assert_int_equal(number("add", "replaced", "", more_rows, 0, "replaced_documents"), 0); /* "a" twice now */
    assert_int_equal(
        number("add", "replaced", "--replace", "{\"id\":\"a\",\"text\":\"anew\"}\n", 0, "replaced_documents"), 2);
    assert_int_equal(count("replaced", "the end"), 0);
    assert_int_equal(count("replaced", "mat"), count("replaced", " on the mat"));
    assert_int_equal(count("replaced", "anew"), 1);
    assert_int_equal(number("stat", "replaced", "", NULL, 0, "documents"), 5);
    /* Within one call too. */
    assert_int_equal(number("build", "twice", "--replace",
                            "{\"id\":\"a\",\"text\":\"one\"}\n{\"id\":\"a\",\"text\":\"two\"}\n"
                            "{\"id\":\"a\",\"text\":\"three\"}\n",
                            0, "replaced_documents"),
                     2);
    assert_int_equal(count("twice", "one") + count("twice", "two"), 0);
    assert_int_equal(count("twice", "three"), 1);
}

static void an_addition_that_cannot_be_leaves_the_index_alone(void **state)
{
    (void)state;
    ft_digest before, after;
    assert_int_equal(number("build", "alone", "", rows, 0, "documents"), 4);
    digest_of("alone", &before);
    refused("add", "alone", "", "", 3, "no document");
    refused("add", "alone", "", "{\"id\":\"x\"\n", 3, "rows.jsonl:1");
    refused("add", "alone", "--vocab-size 3", rows, 2, "unknown option");
    refused("add", "alone", "--memory 1M", rows, 2, "give at least");
    refused("add", "alone", ft_test_path("nothing-there"), NULL, 3, "nothing-there");
    refused("add", "none-such", "", rows, 3, "none-such");
    if (ft_test_shared("tokenizers/bytebpe-4k/tokenizer.json")) {
        char other[5000];
        snprintf(other, sizeof(other), "-t %s", ft_test_shared("tokenizers/bytebpe-4k"));
        refused("add", "alone", other, rows, 3, "another tokenizer");
    }
    digest_of("alone", &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_false(ft_path_exists(ft_test_path("alone/work")));
}

static void a_document_of_50_mb_is_a_document(void **state)
{
    (void)state;
    ft_buffer text = {0};
    ft_status st;
    assert_ok(
        ft_buffer_append_str(&text, "{\"id\":\"small\",\"text\":\"few words\"}\n{\"id\":\"large\",\"text\":\"", &st),
        st);
    for (unsigned i = 0; text.size < 50000000; i++)
        assert_ok(
            ft_buffer_printf(&text, &st, "Line %u of the large one, and what it says is %u. ", i, i * 2654435761u), st);
    assert_ok(ft_buffer_append_str(&text, "The end of it.\"}\n", &st), st);
    assert_int_equal(number("build", "large", "", text.data, 0, "documents"), 2);
    assert_int_equal(count("large", " The end of it"), 1);
    ft_buffer_release(&text);
}

/* --- Tokens --------------------------------------------------------------------------------- */

static void token_arrays_need_their_documents_starts_and_no_tokenizer(void **state)
{
    (void)state;
    ft_status st;
    char arrays[4200], offsets[4200];
    static const uint32_t tokens[] = {5, 6, 7, 5, 6, 9};
    static const uint64_t starts[] = {0, 3, 6};
    const size_t n = 6, ends = 3;
    snprintf(arrays, sizeof(arrays), "%s", ft_test_path("ids.npy"));
    snprintf(offsets, sizeof(offsets), "%s", ft_test_path("doc_offsets.npy"));
    assert_ok(ft_npy_write(arrays, FT_NPY_UINT32, 1, &n, tokens, &st), st);
    char more[9000];
    snprintf(more, sizeof(more), "--eot 3 --vocab-size 100 %s", arrays);
    refused("build --json", "ids", more, NULL, 3, "--doc-offsets");
    assert_ok(ft_npy_write(offsets, FT_NPY_UINT64, 1, &ends, starts, &st), st);
    assert_int_equal(number("build ", "ids", more, NULL, 0, "tokens"), 6);
    assert_int_equal(number("stat", "ids", "", NULL, 0, "end_of_text"), 3);
    assert_int_equal(number("stat", "ids", "", NULL, 0, "vocab_size"), 100);
    assert_int_equal(number("add", "ids", arrays, NULL, 0, "repeated_ids"), 0); /* numbers that nobody chose */
    snprintf(more, sizeof(more), "--vocab-size 9 %s", arrays);
    refused("build ", "few-ids", more, NULL, 3, "element 5");
    assert_int_equal(number("build ", "unknown", arrays, NULL, 0, "documents"), 2);
    assert_int_equal(number("stat", "unknown", "", NULL, 0, "vocab_size"), 10);
    refused("build ", "unknown", arrays, NULL, 2, "--force");
    refused("build ", "no-tokenizer", "--vocab-size 4", rows, 2, "-t TOK");
    refused("build", "both", "--vocab-size 4", rows, 2, "--vocab-size");
    refused("remove", "ids", "--query word", NULL, 2, "tokenizer");
    ft_test_write("described.jsonl", "{\"id\":\"one\",\"by\":\"Ann\"}\n{\"id\":\"two\",\"text\":\"left out\"}\n", 55);
    snprintf(more, sizeof(more), "--documents %s --doc-offsets %s %s", ft_test_path("described.jsonl"), offsets,
             arrays);
    assert_int_equal(number("add", "ids", more, NULL, 0, "documents"), 2);
    assert_int_equal(number("remove", "ids", "--where by=Ann", NULL, 0, "documents"), 1);
    assert_int_equal(number("remove", "ids", "--id two --id one", NULL, 0, "documents"), 1);
}

static void an_infini_gram_folder_is_a_corpus(void **state)
{
    (void)state;
    ft_test_need("golden/index/infinigram-v4-u32/table.0");
    char more[4200];
    snprintf(more, sizeof(more), "--eot 100257 %s", ft_test_shared("golden/index/infinigram-v4-u32-2shards"));
    assert_int_equal(number("build ", "from-4", more, NULL, 0, "documents"), 77);
    snprintf(more, sizeof(more), "--infini-gram 5 --eot 100257 %s", ft_test_shared("golden/index/infinigram-v5-u32"));
    assert_int_equal(number("build ", "from-5", more, NULL, 0, "documents"), 77);
    ft_digest four, five;
    digest_of("from-4", &four);
    digest_of("from-5", &five);
    assert_memory_equal(&four, &five, sizeof(four)); /* one corpus, in reading order */
}

/* --- Removing ---------------------------------------------------------------------------------- */

static void documents_are_removed_by_what_names_them(void **state)
{
    (void)state;
    static const struct {
        const char *selection;
        int64_t documents;
    } cases[] = {
        {"--id a", 1},
        {"--id a --id=c --id a", 2},
        {"--where year=1910", 2}, /* a number, and a string */
        {"--where by=Ann --where open=true", 2},
        {"--where by=Jürg", 1},
        {"--where note=a=b", 1},
        {"--where 'tags=[\"x\",\"y\"]'", 1},
        {"--query 'cat sat'", 2},
        {"--match tokens --query 'cat sat'", 0}, /* it stands with its space */
        {"--match tokens --query ' cat sat'", 2},
        {"--query og --query ' ra'", 2},
        {"--ignore-case --query 'THE CAT S'", 2},
        {"--query ' cat sat' --id b --where by=Ann", 3},
        {"--id z --id b", 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        ft_digest before, dry, after;
        assert_int_equal(number("build", "some", "--force", rows, 0, "documents"), 4);
        digest_of("some", &before);
        char more[400];
        snprintf(more, sizeof(more), "--dry-run %s", cases[i].selection);
        assert_int_equal(number("remove", "some", more, NULL, !cases[i].documents, "documents"), cases[i].documents);
        digest_of("some", &dry);
        assert_memory_equal(&before, &dry, sizeof(before));
        if (!cases[i].documents)
            continue;
        const int64_t got = number("remove", "some", cases[i].selection, NULL, 0, "documents");
        if (got != cases[i].documents)
            fail_msg("%s: %lld", cases[i].selection, (long long)got);
        assert_int_equal(number("stat", "some", "", NULL, 0, "documents"), 4 - got);
        digest_of("some", &after);
        assert_memory_not_equal(&before, &after, sizeof(before));
        /* They are not there any more. */
        assert_int_equal(number("remove", "some", cases[i].selection, NULL, 1, "documents"), 0);
    }
}

static void a_list_of_ids_may_be_a_file(void **state)
{
    (void)state;
    char more[4200], *out, *err;
    assert_int_equal(number("build", "listed", "", rows, 0, "documents"), 4);
    ft_test_write("ids.txt", "a\r\n\nq\nd", 7);
    snprintf(more, sizeof(more), "--ids-file %s", ft_test_path("ids.txt"));
    const int code = verb("remove", "listed", more, NULL, &out, &err);
    expect(0, code, err);
    assert_non_null(strstr(out, "2 documents, "));
    assert_non_null(strstr(err, "no document has the id 'q'"));
    free(out);
    free(err);
    assert_int_equal(count("listed", "the cat"), 1);
    ft_test_write("ids.txt", "b\0c", 3);
    refused("remove", "listed", more, NULL, 3, "NUL");
    assert_int_equal(number("stat", "listed", "", NULL, 0, "documents"), 2);
}

static void what_is_not_there_or_not_said_removes_nothing(void **state)
{
    (void)state;
    ft_digest before, after;
    assert_int_equal(number("build", "still", "", rows, 0, "documents"), 4);
    digest_of("still", &before);
    refused("remove", "still", "--id z", NULL, 1, "no document has the id 'z'");
    refused("remove", "still", "--where by=ann", NULL, 1, "nothing was removed");
    refused("remove", "still", "--where year=191", NULL, 1, "nothing was removed");
    refused("remove", "still", "--query zebra", NULL, 1, "nothing was removed");
    refused("remove", "still", "--query ''", NULL, 2, "--query");
    refused("remove", "still", "--query a --match words", NULL, 2, "--match");
    refused("remove", "still", "--query a --match tokens --ignore-case", NULL, 2, "contradict");
    refused("remove", "still", "--where by", NULL, 2, "FIELD=VALUE");
    refused("remove", "still", "--where =Ann", NULL, 2, "FIELD=VALUE");
    refused("remove", "still", "", NULL, 2, "which documents?");
    refused("remove", "still", "--ids-file /nowhere/ids", NULL, 3, "/nowhere/ids");
    refused("remove", "none-such", "--id a", NULL, 3, "none-such");
    digest_of("still", &after);
    assert_memory_equal(&before, &after, sizeof(before));
}

/* --- Compaction: what was removed is in no file -------------------------------------------------- */

/* 1 where the n bits of `pattern` stand in bytes[0..size), at any bit. */
static int bits_stand_in(const unsigned char *bytes, size_t size, const unsigned char *pattern, size_t n)
{
    for (unsigned shift = 0; shift < 8; shift++) {
        unsigned char moved[80] = {0}, mask[80] = {0};
        for (size_t i = 0; i < n; i++) {
            const size_t to = i + shift;
            moved[to / 8] |= (unsigned char)((pattern[i / 8] >> i % 8 & 1) << to % 8);
            mask[to / 8] |= (unsigned char)(1 << to % 8);
        }
        const size_t length = (n + shift + 7) / 8;
        for (size_t at = 0; at + length <= size; at++) {
            size_t same = 0;
            while (same < length && ((bytes[at + same] ^ moved[same]) & mask[same]) == 0)
                same++;
            if (same == length)
                return 1;
        }
    }
    return 0;
}

/* Files below `folder` in which the bits stand. */
static unsigned files_with(const char *folder, const unsigned char *pattern, size_t bits)
{
    unsigned found = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    const struct dirent *e;
    while ((e = readdir(dir))) {
        size_t n;
        if (e->d_name[0] == '.' || !strncmp(e->d_name, "tokenizer", 9)) /* the vocabulary is no corpus */
            continue;
        char *path = ft_path_join(folder, e->d_name);
        if (ft_path_is_folder(path)) {
            found += files_with(path, pattern, bits);
        } else {
            char *bytes = ft_test_read(path, &n);
            assert_non_null(bytes);
            found += (unsigned)bits_stand_in((const unsigned char *)bytes, n, pattern, bits);
            free(bytes);
        }
        free(path);
    }
    closedir(dir);
    return found;
}

static unsigned files_with_text(const char *folder, const char *text)
{
    return files_with(folder, (const unsigned char *)text, strlen(text) * 8);
}

/* The tokens, plus `add`, in so many bits each. */
static unsigned files_with_tokens(const char *folder, const uint32_t *ids, size_t n, unsigned width, uint32_t add)
{
    unsigned char pattern[64] = {0};
    for (size_t i = 0; i < n * width; i++)
        if ((ids[i / width] + add) >> i % width & 1)
            pattern[i / 8] |= (unsigned char)(1 << i % 8);
    return files_with(folder, pattern, n * width);
}

static void after_compaction_what_was_removed_stands_in_no_file(void **state)
{
    (void)state;
    static const char secret[] = " Zanzibar quarrels with 7719 violet umbrellas";
    char line[400], folder[4200];
    ft_buffer text = {0};
    ft_status st;
    uint32_t ids[4];
    for (unsigned i = 0; i < 300; i++)
        assert_ok(
            ft_buffer_printf(&text, &st, "{\"id\":\"kept/%u\",\"text\":\"Some words that stay, %u of them.\"}\n", i, i),
            st);
    snprintf(folder, sizeof(folder), "%s", ft_test_path("secret"));
    snprintf(line, sizeof(line), "{\"id\":\"hidden/0x5EC\",\"text\":\"Here%s.\",\"mail\":\"eve@nowhere.test\"}\n",
             secret);
    assert_int_equal(number("build", "secret", "", text.data, 0, "documents"), 300);
    assert_int_equal(number("add", "secret", "", line, 0, "documents"), 1);
    assert_ok(ft_buffer_append_str(&text, line, &st), st);
    assert_int_equal(number("add", "secret", "", text.data, 0, "documents"), 301);

    ft_tokenizer *t;
    ft_encoder *encoder;
    ft_encoding e = {0};
    assert_ok(ft_tokenizer_open(&t, tokenizer(), &st), st);
    assert_ok(ft_encoder_new(&encoder, t, &st), st);
    assert_ok(ft_encoder_encode(encoder, secret, strlen(secret), &e, &st), st);
    assert_true(e.count > 5);
    memcpy(ids, e.ids + 1, sizeof(ids));
    unsigned width = 1;
    while (ft_tokenizer_vocab_size(t) >> width)
        width++;
    ft_encoding_release(&e);
    ft_encoder_free(encoder);
    ft_tokenizer_close(t);

    /* The search finds what is there… */
    assert_int_equal(count("secret", secret), 2);
    assert_int_equal(files_with_tokens(folder, ids, 4, width, 1), 2);
    assert_int_equal(files_with_text(folder, "hidden/0x5EC"), 2);
    assert_int_equal(files_with_text(folder, "eve@nowhere.test"), 2);
    assert_int_equal(number("remove", "secret", "--id hidden/0x5EC", NULL, 0, "documents"), 2);
    assert_int_equal(count("secret", secret), 0);
    assert_int_equal(files_with_text(folder, "eve@nowhere.test"), 2); /* still */
    assert_int_equal(number("compact", "secret", "", NULL, 0, "removed_documents"), 2);
    /* … and then it is not, in whatever form. */
    static const unsigned widths[] = {8, 16, 24, 32};
    assert_int_equal(files_with_text(folder, "hidden/0x5EC"), 0);
    assert_int_equal(files_with_text(folder, "eve@nowhere.test"), 0);
    assert_int_equal(files_with_text(folder, secret + 1), 0);
    for (uint32_t add = 0; add < 2; add++) {
        assert_int_equal(files_with_tokens(folder, ids, 4, width, add), 0);
        for (size_t i = 0; i < sizeof(widths) / sizeof(*widths); i++)
            assert_int_equal(files_with_tokens(folder, ids, 4, widths[i], add), 0);
    }
    assert_int_equal(number("stat", "secret", "", NULL, 0, "documents"), 600);
    assert_int_equal(number("stat", "secret", "", NULL, 0, "segments"), 1);
    ft_digest root;
    digest_of("secret", &root);
    ft_buffer_release(&text);
}

static void compaction_makes_one_segment_and_then_has_nothing_to_do(void **state)
{
    (void)state;
    ft_digest before, after;
    assert_int_equal(number("build", "compact", "", rows, 0, "segments"), 1);
    digest_of("compact", &before);
    assert_int_equal(number("compact", "compact", "", NULL, 0, "segments_before"), 1);
    digest_of("compact", &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(number("add", "compact", "", more_rows, 0, "segments"), 2);
    assert_int_equal(number("compact", "compact", "--memory 512M --threads 1", NULL, 0, "segments_after"), 1);
    assert_int_equal(count("compact", "the cat"), 4);
    assert_int_equal(number("remove", "compact", "--query the --query sat", NULL, 0, "documents"), 6);
    assert_int_equal(number("compact", "compact", "", NULL, 0, "segments_after"), 0);
    assert_int_equal(count("compact", "the cat"), 0);
    assert_int_equal(number("add", "compact", "", more_rows, 0, "segments"), 1); /* an empty index is one */
    assert_int_equal(count("compact", "the cat"), 1);
    refused("compact", "none-such", "", NULL, 3, "none-such");
}

static void the_verbs_explain_themselves(void **state)
{
    (void)state;
    static const char *const verbs[] = {"build", "add", "remove", "compact"};
    for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
        char command[200], *out, *err;
        snprintf(command, sizeof(command), "$FLEXTRACE index %s --help", verbs[i]);
        const int code = ft_test_shell(command, &out, &err);
        expect(0, code, err);
        assert_non_null(strstr(out, "Example"));
        assert_non_null(strstr(out, "again"));
        assert_non_null(strstr(out, "Exit"));
        for (const char *line = out; *line; line += strcspn(line, "\n") + 1)
            if (strcspn(line, "\n") > 110)
                fail_msg("%s: %.110s…", verbs[i], line);
        free(out);
        free(err);
        snprintf(command, sizeof(command), "$FLEXTRACE index %s", verbs[i]);
        assert_int_equal(ft_test_shell(command, NULL, NULL), 2);
        snprintf(command, sizeof(command), "$FLEXTRACE index %s --threads 0 x y", verbs[i]);
        assert_int_equal(ft_test_shell(command, NULL, NULL), 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_are_added_as_a_segment_and_ids_that_repeat_are_told),
        cmocka_unit_test(with_replace_a_document_takes_the_place_of_all_earlier_ones_with_its_id),
        cmocka_unit_test(an_addition_that_cannot_be_leaves_the_index_alone),
        cmocka_unit_test(a_document_of_50_mb_is_a_document),
        cmocka_unit_test(token_arrays_need_their_documents_starts_and_no_tokenizer),
        cmocka_unit_test(an_infini_gram_folder_is_a_corpus),
        cmocka_unit_test(documents_are_removed_by_what_names_them),
        cmocka_unit_test(a_list_of_ids_may_be_a_file),
        cmocka_unit_test(what_is_not_there_or_not_said_removes_nothing),
        cmocka_unit_test(after_compaction_what_was_removed_stands_in_no_file),
        cmocka_unit_test(compaction_makes_one_segment_and_then_has_nothing_to_do),
        cmocka_unit_test(the_verbs_explain_themselves),
    };
    return cmocka_run_group_tests_name("index_verbs", tests, NULL, NULL);
}
