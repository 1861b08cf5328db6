/* What text/ft_bpe_train.h and `flextrace tokenizer train` promise. */
#include "tests/ft_test.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_random.h"
#include "base/ft_utf8.h"
#include "text/ft_bpe_train.h"
#include "text/ft_tokenizer.h"
#include "text/pattern_internal.h"
#include "text/tokenizer_internal.h"

/* --- The plain loop: every pair counted anew for every merge ---------------------------------------- */

enum { MOST_WORDS = 600, MOST_LENGTH = 64, MOST_MERGES = 200, MOST_ENTRIES = 258 + MOST_MERGES };

typedef struct plain {
    uint32_t words[MOST_WORDS][MOST_LENGTH];
    size_t sizes[MOST_WORDS], count;
    char entries[MOST_ENTRIES][MOST_LENGTH + 1];
    size_t entry_sizes[MOST_ENTRIES], entries_count;
    ft_bpe_train_merge merges[MOST_MERGES];
    size_t merges_count;
} plain;

static void plain_alphabet(plain *p)
{
    p->entries_count = 2;
    for (uint32_t letter = 0; letter < 0x150; letter++)
        if (ft_letter_byte(letter) >= 0) {
            p->entries[p->entries_count][0] = (char)ft_letter_byte(letter);
            p->entry_sizes[p->entries_count++] = 1;
        }
    assert_int_equal(p->entries_count, FT_BPE_LEAST_SIZE);
}

/* Words are not even put together: each occurrence stands for itself. */
static void plain_add(plain *p, const char *pattern, const char *text, size_t n)
{
    ft_cutter *cutter;
    ft_status st = {0};
    uint32_t ends[MOST_WORDS];
    assert_ok(ft_cutter_new(&cutter, pattern, strlen(pattern), &st), st);
    const size_t count = ft_cutter_cut(cutter, text, 0, n, ends, MOST_WORDS);
    for (size_t i = 0, at = 0; i < count; at = ends[i++]) {
        assert_true(p->count < MOST_WORDS && ends[i] - at <= MOST_LENGTH);
        for (size_t k = at; k < ends[i]; k++)
            for (uint32_t id = 2; id < FT_BPE_LEAST_SIZE; id++)
                if (p->entries[id][0] == text[k])
                    p->words[p->count][k - at] = id;
        p->sizes[p->count++] = ends[i] - at;
    }
    ft_cutter_free(cutter);
}

static uint64_t plain_best(const plain *p, uint32_t *left, uint32_t *right)
{
    static uint32_t counts[MOST_ENTRIES][MOST_ENTRIES];
    uint64_t best = 0;
    memset(counts, 0, sizeof(counts));
    for (size_t w = 0; w < p->count; w++)
        for (size_t i = 1; i < p->sizes[w]; i++)
            counts[p->words[w][i - 1]][p->words[w][i]]++;
    for (uint32_t a = 0; a < p->entries_count; a++)
        for (uint32_t b = 0; b < p->entries_count; b++)
            if (counts[a][b] > best) {
                best = counts[a][b];
                *left = a;
                *right = b;
            }
    return best;
}

static uint32_t plain_entry(plain *p, uint32_t left, uint32_t right)
{
    char bytes[2 * MOST_LENGTH];
    const size_t n = p->entry_sizes[left] + p->entry_sizes[right];
    memcpy(bytes, p->entries[left], p->entry_sizes[left]);
    memcpy(bytes + p->entry_sizes[left], p->entries[right], p->entry_sizes[right]);
    for (uint32_t id = 2; id < p->entries_count; id++)
        if (p->entry_sizes[id] == n && !memcmp(p->entries[id], bytes, n))
            return id;
    memcpy(p->entries[p->entries_count], bytes, n);
    p->entry_sizes[p->entries_count] = n;
    return (uint32_t)p->entries_count++;
}

static void plain_run(plain *p, size_t size, uint64_t least)
{
    uint32_t left = 0, right = 0;
    while (p->entries_count < size && plain_best(p, &left, &right) >= least) {
        const uint32_t id = plain_entry(p, left, right);
        p->merges[p->merges_count++] = (ft_bpe_train_merge){left, right, id};
        for (size_t w = 0; w < p->count; w++) {
            size_t to = 0;
            for (size_t i = 0; i < p->sizes[w]; to++) {
                const int here = i + 1 < p->sizes[w] && p->words[w][i] == left && p->words[w][i + 1] == right;
                p->words[w][to] = here ? id : p->words[w][i];
                i += here ? 2 : 1;
            }
            p->sizes[w] = to;
        }
    }
}

/* --- Training ------------------------------------------------------------------------------------------ */

static ft_bpe_train *trained(const ft_bpe_train_options *o, const char *text, size_t n)
{
    ft_bpe_train *t;
    ft_status st = {0};
    assert_ok(ft_bpe_train_new(&t, o, &st), st);
    assert_ok(ft_bpe_train_add(t, text, n, &st), st);
    assert_ok(ft_bpe_train_run(t, NULL, &st), st);
    return t;
}

static size_t random_text(ft_random *r, char *text, size_t most)
{
    static const char *const alphabets[] = {"a ", "ab ", "aab  \n", "abc 1'", "xyzxyzxyz .\t", "\xc3\xa9\xc3\xa8 a"};
    const char *letters = alphabets[ft_random_below(r, 6)];
    size_t n = 0, run = 0;
    while (n < most) {
        const size_t i = ft_random_below(r, strlen(letters));
        const char c = letters[i];
        if ((unsigned char)c >= 0x80) { /* whole characters alone */
            if (n + 2 > most)
                break;
            text[n++] = '\xc3';
            text[n++] = letters[i | 1];
            run += 2;
        } else {
            text[n++] = c;
            run = c == ' ' ? 0 : run + 1;
        }
        if (run > 40 && n < most) {
            text[n++] = ' ';
            run = 0;
        }
    }
    return n;
}

static void merges_are_those_of_counting_everything_anew(void **state)
{
    (void)state;
    static const struct {
        const char *name, *pattern;
    } splits[] = {{"cl100k", ft_pattern_cl100k}, {"qwen2", ft_pattern_qwen2}, {"gpt2", ft_pattern_gpt2}};
    plain *p = malloc(sizeof(*p));
    assert_non_null(p);
    for (uint64_t seed = 1; seed <= 60; seed++) {
        ft_random r;
        char text[400];
        size_t count;
        ft_random_init(&r, seed);
        const size_t n = random_text(&r, text, 50 + ft_random_below(&r, 350)), split = seed % 3;
        const ft_bpe_train_options o = {.size = FT_BPE_LEAST_SIZE + ft_random_below(&r, 120),
                                        .split = splits[split].name,
                                        .least_count = 1 + seed % 3};
        memset(p, 0, sizeof(*p));
        plain_alphabet(p);
        plain_add(p, splits[split].pattern, text, n);
        plain_run(p, o.size, o.least_count);
        ft_bpe_train *t = trained(&o, text, n);
        const ft_bpe_train_merge *merges = ft_bpe_train_merges(t, &count);
        if (count != p->merges_count || ft_bpe_train_size(t) != p->entries_count)
            fail_msg("seed %llu: %zu merges, %zu entries; plainly %zu and %zu", (unsigned long long)seed, count,
                     ft_bpe_train_size(t), p->merges_count, p->entries_count);
        for (size_t i = 0; i < count; i++)
            if (memcmp(&merges[i], &p->merges[i], sizeof(merges[i])) != 0)
                fail_msg("seed %llu: merge %zu is (%u, %u) %u; plainly (%u, %u) %u", (unsigned long long)seed, i,
                         merges[i].left, merges[i].right, merges[i].id, p->merges[i].left, p->merges[i].right,
                         p->merges[i].id);
        ft_bpe_train_free(t);
    }
    free(p);
}

static void documents_in_any_order_give_the_same_files(void **state)
{
    (void)state;
    static const char *const texts[] = {"the cat sat on the mat", "the mat sat on the hat; the hat",
                                        "cats and hats and mats"};
    char *first = NULL;
    for (int turn = 0; turn < 3; turn++) {
        const ft_bpe_train_options o = {.size = 290};
        ft_bpe_train *t;
        ft_status st = {0};
        assert_ok(ft_bpe_train_new(&t, &o, &st), st);
        for (int i = 0; i < 3; i++)
            assert_ok(ft_bpe_train_add(t, texts[(i + turn) % 3], strlen(texts[(i + turn) % 3]), &st), st);
        assert_ok(ft_bpe_train_run(t, NULL, &st), st);
        assert_ok(ft_bpe_train_write(t, ft_test_path("order"), &st), st);
        ft_bpe_train_free(t);
        char *file = ft_test_read(ft_test_path("order/tokenizer.json"), NULL);
        assert_non_null(file);
        if (first)
            assert_string_equal(file, first);
        else
            first = strdup(file);
        free(file);
    }
    free(first);
}

static void what_is_written_opens_and_gives_back_any_text(void **state)
{
    (void)state;
    static const char corpus[] =
        "\"quoted\" \\back\\slash\\ 12345 don't \xc3\xa9t\xc3\xa9 \"quoted\" \\back\\slash\\ 12345\n\n\t"
        "don't \xc3\xa9t\xc3\xa9 \"quoted\" {}{}{} <|endoftext|> <|endoftext|>";
    static const char *const splits[] = {"cl100k", "qwen2", "gpt2"};
    for (int s = 0; s < 3; s++) {
        const ft_bpe_train_options o = {.size = 330, .split = splits[s]};
        ft_bpe_train *t = trained(&o, corpus, strlen(corpus));
        ft_tokenizer *tokenizer;
        ft_encoder *e;
        ft_encoding ids = {0};
        ft_buffer back = {0};
        ft_status st = {0};
        assert_ok(ft_bpe_train_write(t, ft_test_path("round"), &st), st);
        assert_ok(ft_tokenizer_open(&tokenizer, ft_test_path("round"), &st), st);
        assert_int_equal(ft_tokenizer_vocab_size(tokenizer), ft_bpe_train_size(t));
        assert_int_equal(ft_tokenizer_end_of_text(tokenizer), 0);
        assert_int_equal(ft_tokenizer_token_id(tokenizer, "<|pad|>"), 1);
        assert_ok(ft_encoder_new(&e, tokenizer, &st), st);
        for (unsigned byte = 0; byte < 256; byte++) { /* every byte is there */
            size_t n, found = 0;
            for (uint32_t id = 2; id < FT_BPE_LEAST_SIZE; id++) {
                const char *b = ft_tokenizer_token_bytes(tokenizer, id, &n, NULL);
                found += n == 1 && (unsigned char)*b == byte;
            }
            assert_int_equal(found, 1);
        }
        for (uint64_t seed = 1; seed <= 50; seed++) {
            ft_random r;
            size_t n = 0;
            ft_random_init(&r, seed + 1000);
            back.size = 0;
            ft_buffer text = {0};
            while (n++ < 100)
                assert_ok(
                    ft_utf8_append(&text, (uint32_t)ft_random_below(&r, ft_random_below(&r, 2) ? 128 : 0xD800), &st),
                    st);
            assert_ok(ft_encoder_encode(e, text.data, text.size, &ids, &st), st);
            assert_ok(ft_tokenizer_decode(tokenizer, ids.ids, ids.count, 0, &back, &st), st);
            assert_int_equal(back.size, text.size);
            assert_memory_equal(back.data, text.data, text.size);
            ft_buffer_release(&text);
        }
        assert_ok(ft_encoder_encode(e, corpus, strlen(corpus), &ids, &st), st);
        assert_true(ids.count < strlen(corpus) / 2); /* merges were made, and are used */
        ft_encoding_release(&ids);
        ft_buffer_release(&back);
        ft_encoder_free(e);
        ft_tokenizer_close(tokenizer);
        ft_bpe_train_free(t);
    }
}

static void sizes_and_splits_that_there_are_not_are_refused(void **state)
{
    (void)state;
    ft_bpe_train *t;
    ft_status st = {0};
    assert_int_equal(ft_bpe_train_new(&t, &(ft_bpe_train_options){.size = 257}, &st), FT_ERR_ARG);
    assert_null(t);
    assert_non_null(strstr(st.msg, "258"));
    assert_int_equal(ft_bpe_train_new(&t, &(ft_bpe_train_options){.size = 258, .split = "words"}, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "not 'words'"));
    assert_ok(ft_bpe_train_new(&t, &(ft_bpe_train_options){.size = 300}, &st), st);
    assert_int_equal(ft_bpe_train_run(t, NULL, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "no text"));
    ft_bpe_train_free(t);
}

static void more_words_than_the_memory_holds_are_refused(void **state)
{
    (void)state;
    ft_bpe_train *t;
    ft_status st = {0};
    ft_code rc = FT_OK;
    char word[32];
    assert_ok(ft_bpe_train_new(&t, &(ft_bpe_train_options){.size = 300, .memory_bytes = 1 << 20}, &st), st);
    for (unsigned i = 0; i < 1u << 20 && !rc; i++) {
        for (unsigned k = 0; k < 20; k++)
            word[k] = (char)('a' + (i >> k & 1));
        rc = ft_bpe_train_add(t, word, 20, &st);
    }
    assert_int_equal(rc, FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "more than 1 MiB"));
    ft_bpe_train_free(t);
}

static int stop_at_once(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)context, (void)phase, (void)done, (void)total, (void)unit;
    return 1;
}

static void training_stops_when_asked(void **state)
{
    (void)state;
    ft_bpe_train *t;
    ft_status st = {0};
    const ft_progress progress = {.report = stop_at_once};
    assert_ok(ft_bpe_train_new(&t, &(ft_bpe_train_options){.size = 300}, &st), st);
    assert_ok(ft_bpe_train_add(t, "aa aa aa", 8, &st), st);
    assert_int_equal(ft_bpe_train_run(t, &progress, &st), FT_ERR_CANCELLED);
    ft_bpe_train_free(t);
}

static void a_failing_allocation_is_reported_and_nothing_leaks(void **state)
{
    (void)state;
    static const char text[] = "one two three two three three one two three two three three aaaa aaaa aaaa";
    int failed = 1, tried = 0;
    for (long k = 1; failed; k++) {
        const ft_bpe_train_options o = {.size = 300};
        ft_bpe_train *t;
        ft_status st = {0};
        ft_test_fail_allocation(k);
        ft_code rc = ft_bpe_train_new(&t, &o, &st);
        if (!rc)
            rc = ft_bpe_train_add(t, text, strlen(text), &st);
        if (!rc)
            rc = ft_bpe_train_run(t, NULL, &st);
        if (!rc)
            rc = ft_bpe_train_write(t, ft_test_path("fault"), &st);
        failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (failed)
            assert_int_equal(rc, FT_ERR_MEM);
        else
            assert_ok(rc, st);
        ft_bpe_train_free(t);
        tried++;
    }
    assert_true(tried > 10);
}

/* --- The command ------------------------------------------------------------------------------------------ */

static int train(const char *arguments, char **out, char **err)
{
    char command[2048];
    snprintf(command, sizeof(command), "cd '%s' && $FLEXTRACE tokenizer train %s", ft_test_folder(), arguments);
    return ft_test_shell(command, out, err);
}

static void the_command_trains_on_a_corpus_and_replaces_nothing_unasked(void **state)
{
    (void)state;
    static const char rows[] = "{\"text\":\"to be or not to be\"}\n{\"text\":\"that is the question to be\"}\n";
    char *err, *out;
    ft_test_write("rows.jsonl", rows, strlen(rows));
    assert_int_equal(train("rows.jsonl --size 262 -o made", &out, NULL), 0);
    assert_non_null(strstr(out, "made: 262 entries from 9 distinct words"));
    free(out);
    assert_int_equal(train("rows.jsonl --size 263 -o made", NULL, &err), 2);
    assert_non_null(strstr(err, "made/tokenizer.json: there is a tokenizer already"));
    free(err);
    assert_int_equal(train("rows.jsonl --size 100000 -o made --replace", NULL, &err), 0);
    assert_non_null(strstr(err, "no other pair is frequent enough"));
    free(err);
    assert_int_equal(train("rows.jsonl --size 257 -o small", NULL, &err), 2);
    free(err);
    ft_test_write("empty.jsonl", "", 0);
    assert_int_equal(train("empty.jsonl --size 300 -o none", NULL, &err), 3);
    assert_non_null(strstr(err, "no text to train on"));
    free(err);
    assert_false(ft_path_exists(ft_test_path("small")) || ft_path_exists(ft_test_path("none")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_are_those_of_counting_everything_anew),
        cmocka_unit_test(documents_in_any_order_give_the_same_files),
        cmocka_unit_test(what_is_written_opens_and_gives_back_any_text),
        cmocka_unit_test(sizes_and_splits_that_there_are_not_are_refused),
        cmocka_unit_test(more_words_than_the_memory_holds_are_refused),
        cmocka_unit_test(training_stops_when_asked),
        cmocka_unit_test(a_failing_allocation_is_reported_and_nothing_leaks),
        cmocka_unit_test(the_command_trains_on_a_corpus_and_replaces_nothing_unasked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
