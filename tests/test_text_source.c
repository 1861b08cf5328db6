/* Documents made by many threads are those of one reader: the same tokens, order, messages
 * and counts, and the same index. */
#include "tests/ft_test.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_random.h"
#include "index/ft_index_build.h"
#include "index/ft_text_source.h"

enum { OPERANDS = 9 };

/* What reading gave, as text: a line a document, or a warning behind "!". */
typedef struct log_of {
    ft_buffer lines;
    ft_corpus_counts counts;
    ft_code rc;
    ft_status st;
} log_of;

static void note(void *context, const char *message)
{
    ft_status st;
    assert_ok(ft_buffer_printf(&((log_of *)context)->lines, &st, "!%s\n", message), st);
}

static ft_code note_document(void *context, const ft_text_document *d, ft_status *st)
{
    ft_buffer *lines = &((log_of *)context)->lines;
    ft_code rc = ft_buffer_printf(lines, st, "%s|%s|%llu:", d->id, d->metadata, (unsigned long long)d->text_bytes);
    for (size_t i = 0; i < d->count && !rc; i++)
        rc = ft_buffer_printf(lines, st, " %u", d->ids[i]);
    return rc ? rc : ft_buffer_append_str(lines, "\n", st);
}

/* --- A corpus of every kind, much of it bad ------------------------------------------------- */

static void write_rows(const char *name, ft_random *r, unsigned rows)
{
    static const char *const kinds[] = {
        "{\"id\":\"%u\",\"text\":\"plain row, with an \\u00e9 and a \\n line\",\"note\":[1,{\"a\":2}]}\n",
        "{\"text\":\"no id %u \xC3\xA4\xE2\x82\xAC\"}\r\n",
        "{\"id\":%u,\"text\":\"\"}\n",
        "   \n%.0u\n",
        "{\"id\":\"%u\",\"text\":\"unfinished\n",
        "{\"id\":\"%u\",\"text\":\"a byte \xFF that is none\"}\n",
        "{\"id\":\"%u\",\"a\":1,\"a\":2,\"text\":\"twice\"}\n",
        "{\"id\":\"%u\"}\n",
        ("{\"id\":\"%u\",\"text\":\"0123456789012345678901234567890123456789012345678901234567890123456789"
         "0123456789012345678901234567890123456789012345678901234567890123456789\"}\n"),
    };
    ft_buffer text = {0};
    ft_status st;
    for (unsigned i = 0; i < rows; i++) {
        const size_t kind = ft_random_below(r, 3) ? ft_random_below(r, 3) : ft_random_below(r, 9);
        char line[400];
        snprintf(line, sizeof(line), kinds[kind], i);
        assert_ok(ft_buffer_append_str(&text, line, &st), st);
    }
    ft_test_write(name, text.data ? text.data : "", text.size);
    ft_buffer_release(&text);
}

static void write_text(const char *name, const char *text)
{
    ft_test_write(name, text, strlen(text));
}

/* Paths of JSONL, gzip, zstd, a folder of texts and pages, tars; one gzip is cut off. */
static void write_corpus(const char *const **paths, ft_random *r)
{
    static char names[OPERANDS][4200];
    static const char *list[OPERANDS];
    static const char *const files[OPERANDS] = {"a.jsonl", "b.jsonl.gz",   "folder",      "c.jsonl.zst", "t.tar",
                                                "u.tgz",   "cut.jsonl.gz", "empty.jsonl", "d.jsonl"};
    char folder[4096];
    ft_status st;
    strcpy(folder, ft_test_path("corpus"));
    assert_int_equal(ft_folder_remove(folder, NULL), FT_OK);
    const char *const folders[] = {"corpus", "corpus/folder", "corpus/folder/deeper"};
    for (int i = 0; i < 3; i++)
        assert_ok(ft_folder_make(ft_test_path(folders[i]), &st), st);
    write_rows("corpus/a.jsonl", r, 60);
    write_rows("corpus/b.jsonl", r, 60);
    write_rows("corpus/c.jsonl", r, 40);
    write_rows("corpus/d.jsonl", r, 3);
    write_rows("corpus/cut.jsonl", r, 50);
    write_rows("corpus/folder/rows.ndjson", r, 20);
    write_text("corpus/empty.jsonl", "");
    write_text("corpus/folder/crlf.txt", "\xEF\xBB\xBF"
                                         "one\r\ntwo\rthree\r\n\r");
    write_text("corpus/folder/empty.txt", "");
    ft_test_write("corpus/folder/nul.txt", "a\nb\0c", 5);
    write_text("corpus/folder/latin.txt", "caf\xE9");
    write_text("corpus/folder/large.txt", "0123456789012345678901234567890123456789012345678901234567890123456789"
                                          "0123456789012345678901234567890123456789012345678901234567890123456789"
                                          "0123456789012345678901234567890123456789012345678901234567890123456789");
    write_text("corpus/folder/page.html", "<title>A page</title><p>one &amp; two<p>three");
    write_text("corpus/folder/deeper/plain.txt", "some text in a folder");
    char command[13000];
    snprintf(command, sizeof(command),
             "cd %s && gzip -n b.jsonl cut.jsonl && head -c 200 cut.jsonl.gz >x && mv x cut.jsonl.gz && "
             "tar cf t.tar folder a.jsonl && tar czf u.tgz folder b.jsonl.gz && gzip -n folder/latin.txt",
             folder);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    snprintf(command, sizeof(command), "cd %s && zstd -q --rm c.jsonl 2>/dev/null || mv %s/c.jsonl %s/c.jsonl.zst",
             folder, folder, folder); /* without zstd: a file that is none */
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    for (size_t i = 0; i < OPERANDS; i++) {
        snprintf(names[i], sizeof(names[i]), "%s/%s", folder, files[i]);
        list[i] = names[i];
    }
    *paths = list;
}

static ft_corpus_options options_of(log_of *log, int skip_bad)
{
    return (ft_corpus_options){.skip_bad = skip_bad, .max_document_bytes = 200, .warn = note, .warn_context = log};
}

/* By one reader, one document after another; the first `skip` are passed over. */
static void read_one_by_one(log_of *log, const char *const *paths, int skip_bad, uint64_t skip, const ft_tokenizer *t)
{
    ft_corpus *c;
    ft_encoder *e;
    ft_encoding ids = {0};
    ft_document d;
    int more;
    const ft_corpus_options o = options_of(log, skip_bad);
    assert_ok(ft_encoder_new(&e, t, &log->st), log->st);
    assert_ok(ft_corpus_open(&c, paths, OPERANDS, &o, &log->st), log->st);
    while (!(log->rc = ft_corpus_next(c, &d, &more, &log->st)) && more) {
        if (skip) {
            skip--;
            continue;
        }
        assert_ok(ft_encoder_encode_ids(e, d.text, d.text_bytes, &ids, &log->st), log->st);
        char *metadata = strndup(d.metadata, d.metadata_bytes);
        const ft_text_document made = {ids.ids, ids.count, d.id, metadata, d.text_bytes};
        assert_ok(note_document(log, &made, &log->st), log->st);
        free(metadata);
    }
    log->counts = ft_corpus_progress(c);
    ft_corpus_close(c);
    ft_encoding_release(&ids);
    ft_encoder_free(e);
}

static void read_together(log_of *log, const char *const *paths, int skip_bad, uint64_t skip, const ft_tokenizer *t,
                          unsigned threads, size_t batch_bytes)
{
    ft_text_source *s;
    ft_pool *pool;
    int more = 1;
    const ft_corpus_options o = options_of(log, skip_bad);
    assert_ok(ft_pool_new(&pool, threads, &log->st), log->st);
    assert_ok(ft_text_source_open(&s, paths, OPERANDS, &o, t, pool, batch_bytes, &log->st), log->st);
    ft_text_source_skip(s, skip);
    while (more && !log->rc)
        log->rc = ft_text_source_next(s, note_document, log, &more, &log->st);
    log->counts = ft_text_source_progress(s);
    ft_text_source_close(s);
    ft_pool_free(pool);
}

static void same_log(const log_of *got, const log_of *want, int whole)
{
    assert_string_equal(got->lines.data ? got->lines.data : "", want->lines.data ? want->lines.data : "");
    assert_int_equal(got->rc, want->rc);
    if (want->rc)
        assert_string_equal(got->st.msg, want->st.msg);
    assert_int_equal(got->counts.documents, want->counts.documents);
    assert_int_equal(got->counts.bytes, want->counts.bytes);
    assert_int_equal(got->counts.bad, want->counts.bad);
    assert_int_equal(got->counts.input_total, want->counts.input_total);
    if (whole) /* else some was read ahead */
        assert_int_equal(got->counts.input_bytes, want->counts.input_bytes);
}

static void any_number_of_threads_gives_what_one_reader_gives(void **state)
{
    (void)state;
    static const size_t batches[] = {1, 300, 5000, 1 << 20};
    const char *const *paths;
    ft_tokenizer *t;
    ft_status st;
    ft_random r;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    assert_ok(ft_tokenizer_open(&t, ft_test_shared("tokenizers/bytebpe-4k"), &st), st);
    for (uint64_t seed = 0; seed < 6; seed++) {
        ft_random_init(&r, seed);
        write_corpus(&paths, &r);
        for (int skip_bad = 0; skip_bad < 2; skip_bad++) {
            const uint64_t skip = seed % 3 * 40;
            log_of want = {.rc = FT_OK};
            read_one_by_one(&want, paths, skip_bad, skip, t);
            assert_true(skip_bad ? want.counts.bad > 20 && want.counts.documents > 150 : want.rc == FT_ERR_FORMAT);
            for (unsigned threads = 1; threads <= 4; threads *= 2)
                for (size_t b = 0; b < sizeof(batches) / sizeof(*batches); b++) {
                    log_of got = {.rc = FT_OK};
                    read_together(&got, paths, skip_bad, skip, t, threads, batches[b]);
                    same_log(&got, &want, skip_bad);
                    ft_buffer_release(&got.lines);
                }
            ft_buffer_release(&want.lines);
        }
    }
    ft_tokenizer_close(t);
}

static void an_index_has_the_same_bytes_for_any_number_of_threads(void **state)
{
    (void)state;
    const char *const *paths;
    ft_random r;
    char command[9000], folders[3][4096];
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    ft_random_init(&r, 7);
    write_corpus(&paths, &r);
    for (unsigned i = 0; i < 3; i++) {
        log_of log = {.rc = FT_OK};
        ft_index_build_report report;
        snprintf(folders[i], sizeof(folders[i]), "%s", ft_test_path(((const char *[]){"one", "two", "four"})[i]));
        const ft_index_build_options o = {.tokenizer = ft_test_shared("tokenizers/bytebpe-4k"),
                                          .threads = 1u << i,
                                          .skip_bad = 1,
                                          .warn = note,
                                          .warn_context = &log};
        assert_ok(ft_index_build(folders[i], paths, OPERANDS, &o, &report, &log.st), log.st);
        assert_true(report.documents > 150 && report.bad_documents > 20 && report.repeated_ids > 0);
        ft_buffer_release(&log.lines);
    }
    for (unsigned i = 1; i < 3; i++) {
        snprintf(command, sizeof(command), "diff -r %s %s", folders[0], folders[i]);
        assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    }
}

static ft_code pass_over(void *context, const ft_text_document *d, ft_status *st)
{
    (void)st;
    *(size_t *)context += d->count;
    return FT_OK;
}

/* The k-th allocation of the owner's thread fails, for every k: an error, and nothing leaks. */
static void every_failing_allocation_is_an_error(void **state)
{
    (void)state;
    const char *const *paths;
    ft_tokenizer *t;
    ft_status st;
    ft_random r;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    assert_ok(ft_tokenizer_open(&t, ft_test_shared("tokenizers/bytebpe-4k"), &st), st);
    ft_random_init(&r, 3);
    write_corpus(&paths, &r);
    for (long k = 1; k < 100000; k += 1 + k / 20) {
        ft_text_source *s = NULL;
        int more = 1;
        size_t tokens = 0;
        const ft_corpus_options o = {.skip_bad = 1, .max_document_bytes = 200};
        ft_test_fail_allocation(k);
        ft_code rc = ft_text_source_open(&s, paths, OPERANDS, &o, t, NULL, 500, &st);
        while (!rc && more)
            rc = ft_text_source_next(s, pass_over, &tokens, &more, &st);
        const int failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        ft_text_source_close(s);
        if (!failed)
            break;
        assert_int_equal(rc, FT_ERR_MEM);
    }
    ft_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_threads_gives_what_one_reader_gives),
        cmocka_unit_test(an_index_has_the_same_bytes_for_any_number_of_threads),
        cmocka_unit_test(every_failing_allocation_is_an_error),
    };
    return cmocka_run_group_tests_name("text_source", tests, NULL, NULL);
}
