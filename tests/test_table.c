/* Infini-gram's tables, searched for one pattern and for all positions in step, against a
 * plain scan of the text. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "index/ft_index.h"

enum { MOST_TOKENS = 400, MOST_SHARDS = 3, MOST_IDS = 60 };

/* A shard as its files hold it. */
typedef struct shard {
    uint32_t tokens[MOST_TOKENS]; /* separators too; in version 5 each document last to first */
    size_t n;
    uint32_t order[MOST_TOKENS]; /* its suffixes, as the table has them */
} shard;

typedef struct world {
    shard shards[MOST_SHARDS];
    unsigned shard_count, width;
    int version;
    ft_index *ix;
} world;

static uint32_t separator(const world *w)
{
    return w->width == 4 ? UINT32_MAX : ((uint32_t)1 << 8 * w->width) - 1;
}

/* By bytes in memory, as the tables are sorted; a queried id that no suffix has is above all. */
static uint64_t key_of(const world *w, uint32_t token)
{
    uint64_t key = 0;
    for (unsigned i = 0; i < w->width; i++)
        key = key << 8 | (token >> 8 * i & 0xFF);
    return key;
}

static uint64_t query_key(const world *w, uint32_t id)
{
    const int fits = w->width == 4 || id >> 8 * w->width == 0;
    return fits && id != separator(w) ? key_of(w, id) : UINT64_MAX;
}

static const world *sorting;
static const shard *sorted;

static int by_suffix(const void *x, const void *y)
{
    size_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    const int longer = a < b ? 1 : -1;
    for (; a < sorted->n && b < sorted->n; a++, b++)
        if (sorted->tokens[a] != sorted->tokens[b])
            return key_of(sorting, sorted->tokens[a]) < key_of(sorting, sorted->tokens[b]) ? -1 : 1;
    return longer;
}

static void write_file(const char *folder, const char *name, unsigned number, const void *bytes, size_t n)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/%s.%u", folder, name, number);
    ft_test_write(path, bytes, n);
}

static void write_shard(const world *w, const char *folder, unsigned number)
{
    const shard *s = &w->shards[number];
    static unsigned char text[4 * MOST_TOKENS], table[8 * MOST_TOKENS];
    static uint64_t offsets[MOST_TOKENS];
    size_t documents = 0, pointer = 1;
    while ((s->n * w->width - 1) >> 8 * pointer)
        pointer++;
    for (size_t i = 0; i < s->n; i++) {
        const uint64_t at = (uint64_t)s->order[i] * w->width;
        for (size_t k = 0; k < w->width; k++)
            text[i * w->width + k] = (unsigned char)(s->tokens[i] >> 8 * k);
        for (size_t k = 0; k < pointer; k++)
            table[i * pointer + k] = (unsigned char)(at >> 8 * k);
        if (s->tokens[i] == separator(w))
            offsets[documents++] = i * w->width;
    }
    write_file(folder, "tokenized", number, text, s->n * w->width);
    write_file(folder, "table", number, table, s->n * pointer);
    write_file(folder, "offset", number, offsets, documents * sizeof(*offsets));
}

/* Documents over a small alphabet; some are empty, some repeat what is there, ids reach to
 * the width's end. */
static void fill_shard(world *w, shard *s, ft_random *r)
{
    const uint32_t alphabet = 1 + (uint32_t)ft_random_below(r, 6), step = w->width == 1 ? 50 : 12345;
    s->n = 0;
    const size_t most = 1 + ft_random_below(r, MOST_TOKENS - 1);
    do {
        s->tokens[s->n++] = separator(w);
        const size_t left = most > s->n ? most - s->n : 0, length = ft_random_below(r, 80);
        for (size_t i = 0; i < length && i < left; i++) {
            const int again = s->n > 10 && ft_random_below(r, 2);
            const uint32_t before = again ? s->tokens[s->n - 7] : separator(w);
            s->tokens[s->n++] = before != separator(w) ? before : (uint32_t)ft_random_below(r, alphabet) * step;
        }
    } while (s->n < most);
    for (size_t i = 0; i < s->n; i++)
        s->order[i] = (uint32_t)i;
    sorting = w;
    sorted = s;
    qsort(s->order, s->n, sizeof(*s->order), by_suffix);
}

static void make_world(world *w, ft_random *r)
{
    char folder[4096];
    ft_status st;
    strcpy(folder, ft_test_path("table"));
    assert_int_equal(ft_folder_remove(folder, NULL), FT_OK);
    assert_int_equal(ft_folder_make(folder, NULL), FT_OK);
    w->width = 1u << ft_random_below(r, 3);
    w->version = ft_random_below(r, 3) ? 4 : 5;
    w->shard_count = 1 + (unsigned)ft_random_below(r, MOST_SHARDS);
    for (unsigned i = 0; i < w->shard_count; i++) {
        fill_shard(w, &w->shards[i], r);
        write_shard(w, folder, i);
    }
    const ft_infinigram_options o = {.version = w->version, .end_of_text = UINT32_MAX};
    assert_ok(ft_index_open_infinigram(&w->ix, folder, &o, &st), st);
}

/* Mostly what stands somewhere, reversed where documents are; now and then a token that is
 * not there, cannot be there, or is the separator. May be longer than all that there is. */
static size_t draw_response(const world *w, ft_random *r, uint32_t *ids)
{
    const size_t count = ft_random_below(r, MOST_IDS + 1);
    const shard *s = &w->shards[ft_random_below(r, w->shard_count)];
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || ft_random_below(r, 9) == 0)
            at = ft_random_below(r, s->n);
        ids[i] = s->tokens[at % s->n];
        at += w->version == 5 ? s->n - 1 : 1;
        if (ft_random_below(r, 25) == 0)
            ids[i] = ft_random_below(r, 2) ? separator(w) : 70000 + (uint32_t)ft_random_below(r, 9);
    }
    return count;
}

/* Ranks whose suffixes begin with the pattern, or the place where it would stand. */
static ft_range scan(const world *w, const shard *s, const uint32_t *pat, size_t len)
{
    ft_range found = {0, 0};
    for (size_t rank = 0; rank < s->n; rank++) {
        int sign = 0;
        for (size_t i = 0, at = s->order[rank]; i < len && !sign; i++, at++) {
            const uint64_t want = query_key(w, pat[w->version == 5 ? len - 1 - i : i]);
            const uint64_t have = at < s->n ? key_of(w, s->tokens[at]) : 0;
            sign = at >= s->n || have < want ? -1 : have > want;
        }
        found.lo += sign < 0;
        found.hi += sign <= 0;
    }
    return found;
}

static size_t scan_longest(const world *w, const uint32_t *ids, size_t count)
{
    size_t longest = 0;
    for (unsigned k = 0; k < w->shard_count; k++)
        for (size_t len = longest + 1; len <= count; len++) {
            const ft_range found = scan(w, &w->shards[k], ids, len);
            if (found.lo == found.hi)
                break;
            longest = len;
        }
    return longest;
}

static void same_match(const world *w, const ft_match *got, const ft_match *want)
{
    assert_int_equal(got->count, want->count);
    for (unsigned k = 0; k < w->shard_count; k++) {
        assert_int_equal(got->part[k].lo, want->part[k].lo);
        assert_int_equal(got->part[k].hi, want->part[k].hi);
    }
}

static void check_response(const world *w, const uint32_t *ids, size_t count)
{
    static ft_match want[MOST_IDS], matches[MOST_IDS];
    size_t want_longest[MOST_IDS + 1], longest[MOST_IDS + 1];
    ft_stretch stretches[MOST_IDS];
    for (size_t i = 0; i < count; i++) {
        ft_match one;
        want_longest[i] = scan_longest(w, ids + i, count - i);
        want[i].count = 0;
        for (unsigned k = 0; k < w->shard_count; k++) {
            want[i].part[k] = scan(w, &w->shards[k], ids + i, want_longest[i]);
            want[i].count += want[i].part[k].hi - want[i].part[k].lo;
        }
        assert_int_equal(ft_index_longest_prefix(w->ix, ids + i, count - i, &one), want_longest[i]);
        same_match(w, &one, &want[i]);
        stretches[i] = (ft_stretch){i, i + want_longest[i]};
    }
    for (int again = 0; again < 3; again++) {
        ft_index_match_all(w->ix, ids, count, longest, NULL);
        assert_memory_equal(longest, want_longest, count * sizeof(*longest));
        ft_index_match_all(w->ix, ids, count, longest, matches);
        assert_memory_equal(longest, want_longest, count * sizeof(*longest));
        for (size_t i = 0; i < count; i++)
            same_match(w, &matches[i], &want[i]);
        ft_index_expect(w->ix, ids, stretches, count);
    }
}

static void all_positions_in_step_agree_with_a_plain_scan(void **state)
{
    (void)state;
    static world w;
    uint32_t ids[MOST_IDS];
    ft_random r;
    for (uint64_t seed = 0; seed < 400; seed++) {
        ft_random_init(&r, seed);
        make_world(&w, &r);
        for (int k = 0; k < 3; k++)
            check_response(&w, ids, draw_response(&w, &r, ids));
        ft_index_close(w.ix);
    }
}

/* Longer than what is searched at once, so that lengths carry over from chunk to chunk. */
static void a_long_response_is_matched_as_its_positions_are_one_by_one(void **state)
{
    (void)state;
    enum { LONG = 700 };
    static world w;
    static ft_match matches[LONG];
    uint32_t ids[LONG];
    size_t longest[LONG], lengths[LONG];
    ft_random r;
    for (uint64_t seed = 0; seed < 40; seed++) {
        ft_random_init(&r, seed);
        make_world(&w, &r);
        const size_t count = LONG - ft_random_below(&r, 300);
        for (size_t at = 0; at < count;) {
            uint32_t piece[MOST_IDS];
            const size_t drawn = draw_response(&w, &r, piece), n = drawn < count - at ? drawn : count - at;
            memcpy(ids + at, piece, n * sizeof(*ids));
            at += n;
        }
        for (int again = 0; again < 4; again++) {
            ft_index_match_all(w.ix, ids, count, lengths, NULL);
            ft_index_match_all(w.ix, ids, count, longest, matches);
            for (size_t i = 0; i < count; i++) {
                ft_match one;
                assert_int_equal(ft_index_longest_prefix(w.ix, ids + i, count - i, &one), longest[i]);
                assert_int_equal(lengths[i], longest[i]);
                same_match(&w, &matches[i], &one);
            }
        }
        ft_index_close(w.ix);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_positions_in_step_agree_with_a_plain_scan),
        cmocka_unit_test(a_long_response_is_matched_as_its_positions_are_one_by_one),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
