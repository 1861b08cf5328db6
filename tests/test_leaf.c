/* Leaves and the tree over them, each against what a plain comparison says. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "index/ft_suffix_writer.h"

/* A text of codes and some of its suffixes in order. */
typedef struct block {
    uint32_t *codes;
    size_t n;
    unsigned bits;
    ft_codes text;
    unsigned char *packed;
    uint64_t position[FT_LEAF_RANKS];
    ft_ranked ranked[FT_LEAF_RANKS];
    size_t count;
    ft_leaf_shape shape;
    unsigned char bytes[16 * 48 + 112 + 8];
    ft_leaf leaf;
} block;

static uint32_t code_at(const block *b, uint64_t i)
{
    return i < b->n ? b->codes[i] : 0;
}

static const block *sorting;
static int compare_positions(const void *x, const void *y)
{
    const uint64_t p = *(const uint64_t *)x, q = *(const uint64_t *)y;
    for (size_t i = 0;; i++) {
        const uint32_t a = code_at(sorting, p + i), c = code_at(sorting, q + i);
        if (a != c)
            return a < c ? -1 : 1;
        if (a == 0)
            return p < q ? -1 : p > q;
    }
}

static ft_ranked ranked_after(const block *b, uint64_t p, uint64_t q)
{
    for (unsigned i = 0; i < FT_SHARED_MAX; i++) {
        const uint32_t x = code_at(b, p + i), y = code_at(b, q + i);
        unsigned bit = 0;
        while (x != y && (x >> (b->bits - 1 - bit) & 1) == (y >> (b->bits - 1 - bit) & 1))
            bit++;
        if (x != y)
            return ft_ranked_make(q, i, bit);
        if (x == 0)
            break;
    }
    return ft_ranked_make(q, FT_SHARED_MAX, 0);
}

/* `copies`: of one stretch, so that suffixes are equal for long. */
static void block_random(block *b, ft_random *r, unsigned bits, uint32_t alphabet, size_t n, unsigned copies)
{
    *b = (block){.n = n, .bits = bits};
    b->codes = calloc(n, sizeof(*b->codes));
    const uint32_t all = bits == 32 ? UINT32_MAX : ((uint32_t)1 << bits) - 1,
                   base = all >= alphabet ? all - alphabet : 0;
    for (size_t i = 0; i < n; i++)
        b->codes[i] = ft_random_below(r, 60) == 0 ? 0 : base + 1 + (uint32_t)ft_random_below(r, alphabet);
    const size_t length = n / (copies + 1);
    for (unsigned c = 1; c <= copies && length; c++) {
        memcpy(b->codes + c * length, b->codes, length * sizeof(*b->codes));
        b->codes[c * length + ft_random_below(r, length)] = base + 1 + (uint32_t)ft_random_below(r, alphabet);
    }
    b->codes[n - 1] = 0;
    b->packed = calloc(ft_packed_bytes(n, bits) + 8, 1);
    for (size_t i = 0; i < n; i++)
        ft_packed_set(b->packed, bits, i, b->codes[i]);
    b->text = (ft_codes){b->packed, bits, n, NULL};
    /* A window of the sorted suffixes. */
    uint64_t *order = calloc(n, sizeof(*order));
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    sorting = b;
    qsort(order, n, sizeof(*order), compare_positions);
    const size_t from = (size_t)ft_random_below(r, n);
    b->count = n - from < FT_LEAF_RANKS ? n - from : FT_LEAF_RANKS;
    for (size_t i = 0; i < b->count; i++) {
        b->position[i] = order[from + i];
        b->ranked[i] = i ? ranked_after(b, order[from + i - 1], order[from + i]) : ft_ranked_make(order[from], 0, 0);
    }
    free(order);
    b->shape = ft_leaf_shape_of(bits, ft_bit_width(n));
    ft_leaf_encode(b->bytes, &b->shape, b->ranked, b->count);
    ft_leaf_open(&b->leaf, b->bytes, &b->shape, &b->text, (unsigned)b->count);
}

static void block_release(block *b)
{
    free(b->codes);
    free(b->packed);
}

static size_t some_ids(const block *b, ft_random *r, uint32_t *ids, size_t max)
{
    const size_t length = 1 + (size_t)ft_random_below(r, ft_random_below(r, 2) ? max : 12);
    const uint64_t at = ft_random_below(r, 4) ? b->position[ft_random_below(r, b->count)] : ft_random_below(r, b->n);
    const uint32_t vocab = ((uint32_t)1 << b->bits) - 1;
    size_t n = 0;
    for (; n < length && code_at(b, at + n); n++)
        ids[n] = code_at(b, at + n) - 1;
    if (n && ft_random_below(r, 2)) {
        const size_t change = (size_t)ft_random_below(r, n);
        ids[change] =
            ft_random_below(r, 2) ? (uint32_t)ft_random_below(r, vocab) : code_at(b, ft_random_below(r, b->n)) - 1;
        ids[change] = ids[change] < vocab ? ids[change] : 0;
    }
    while (n < length && ft_random_below(r, 2))
        ids[n++] = (uint32_t)ft_random_below(r, vocab);
    return n;
}

/* Plainly: how many tokens suffix i shares with the pattern, and the sign of suffix - pattern. */
static int compare_plainly(const block *b, size_t i, const uint32_t *ids, size_t length, size_t *shared)
{
    for (*shared = 0; *shared < length; ++*shared) {
        const uint32_t code = code_at(b, b->position[i] + *shared);
        if (code != ids[*shared] + 1)
            return code < ids[*shared] + 1 ? -1 : 1;
    }
    return 0;
}

static void check_block(const block *b, ft_random *r)
{
    uint32_t ids[400];
    for (unsigned round = 0; round < 60; round++) {
        const size_t length = some_ids(b, r, ids, 390);
        size_t lower = 0, most = 0, shared, begin = 0, end = 0;
        for (size_t i = 0; i < b->count; i++) {
            const int sign = compare_plainly(b, i, ids, length, &shared);
            lower += sign < 0;
            most = shared > most ? shared : most;
        }
        const ft_leaf_place p = ft_leaf_find(&b->leaf, ids, length, (size_t)ft_random_below(r, most + 1));
        assert_int_equal(p.shared, most);
        assert_int_equal(p.lower, lower);
        assert_in_range(p.at, 0, b->count - 1);
        compare_plainly(b, p.at, ids, length, &shared);
        assert_int_equal(shared, most);
        const size_t prefix = (size_t)ft_random_below(r, most + 1);
        unsigned lo, hi;
        for (size_t i = 0; i < b->count; i++) {
            const int sign = compare_plainly(b, i, ids, prefix, &shared);
            begin += sign < 0;
            end += sign <= 0;
        }
        ft_leaf_around(&b->leaf, ids, prefix, p.at, &lo, &hi);
        assert_int_equal(lo, begin);
        assert_int_equal(hi, end);
    }
}

static void a_leaf_answers_as_a_plain_comparison(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 61);
    static const unsigned widths[] = {1, 2, 3, 8, 12, 16, 17, 24};
    for (unsigned round = 0; round < 400; round++) {
        block b;
        const unsigned bits = widths[round % 8];
        const uint32_t all = ((uint32_t)1 << bits) - 1, alphabet = round % 3 == 0 ? 2 : round % 3 == 1 ? 5 : 5000;
        const size_t n = 1 + (size_t)ft_random_below(&r, round % 5 ? 1500 : 100);
        block_random(&b, &r, bits, alphabet < all ? alphabet : all, n, (unsigned)(round / 8 % 4) * 9);
        for (size_t i = 0; i < b.count; i++)
            assert_int_equal(ft_leaf_position(b.bytes, &b.shape, i), b.position[i]);
        check_block(&b, &r);
        block_release(&b);
    }
}

/* Runs of one token: neighbours share 120 codes and more, and slots tell little. */
static void a_leaf_of_one_long_run_answers(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 62);
    for (unsigned round = 0; round < 60; round++) {
        block b;
        block_random(&b, &r, round % 2 ? 1 : 17, 1, 200 + 10 * round, 0);
        for (size_t i = 0; i + 1 < b.n; i++)
            b.codes[i] = b.codes[i] ? b.codes[i] : b.codes[0] ? b.codes[0] : 1;
        block_release(&b);
        block_random(&b, &r, round % 2 ? 1 : 17, 1, 200 + 10 * round, round % 3);
        check_block(&b, &r);
        block_release(&b);
    }
}

/* A damaged leaf gives a wrong place, inside the leaf, and ends. */
static void a_leaf_of_any_bytes_stays_inside(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 63);
    for (unsigned round = 0; round < 400; round++) {
        block b;
        uint32_t ids[400];
        block_random(&b, &r, round % 2 ? 17 : 3, 5, 1000, 9);
        for (unsigned k = 0; k < 1 + round; k++)
            b.bytes[ft_random_below(&r, b.shape.bytes)] = (unsigned char)ft_random_u64(&r);
        ft_leaf_open(&b.leaf, b.bytes, &b.shape, &b.text, (unsigned)b.count);
        for (unsigned i = 0; i < 60; i++) {
            const size_t length = some_ids(&b, &r, ids, 390);
            unsigned lo, hi;
            const ft_leaf_place p = ft_leaf_find(&b.leaf, ids, length, (size_t)ft_random_below(&r, 30));
            assert_in_range(p.at, 0, b.count - 1);
            assert_in_range(p.lower, 0, b.count);
            assert_in_range(p.shared, 0, length);
            ft_leaf_around(&b.leaf, ids, p.shared, p.at, &lo, &hi);
            assert_in_range(lo, 0, b.count);
            assert_in_range(hi, 0, b.count);
        }
        block_release(&b);
    }
}

/* --- The tree --------------------------------------------------------------------------- */

static int compare_separators(const void *x, const void *y)
{
    const ft_separator *a = x, *b = y;
    for (unsigned i = 0; i < a->length && i < b->length; i++)
        if (a->codes[i] != b->codes[i])
            return a->codes[i] < b->codes[i] ? -1 : 1;
    return a->length < b->length ? -1 : a->length > b->length;
}

static ft_code put(void *context, const void *bytes, size_t n, ft_status *st)
{
    return ft_section_writer_put(context, bytes, n, st);
}

/* Separators without a text: none is cut. Returns how many are different. */
static size_t random_separators(ft_separator *s, size_t count, ft_random *r, unsigned bits, uint32_t alphabet)
{
    memset(s, 0, count * sizeof(*s));
    for (size_t i = 1; i < count; i++) {
        s[i].length = (unsigned char)(1 + ft_random_below(r, FT_TREE_CODES));
        for (unsigned k = 0; k < s[i].length; k++)
            s[i].codes[k] = ((uint32_t)1 << bits) - 1 - (uint32_t)ft_random_below(r, alphabet);
    }
    qsort(s + 1, count - 1, sizeof(*s), compare_separators);
    size_t kept = 1;
    for (size_t i = 1; i < count; i++)
        if (compare_separators(&s[kept - 1], &s[i]))
            s[kept++] = s[i];
    return kept;
}

static void check_tree(const ft_separator *s, size_t leaves, unsigned bits, ft_random *r, unsigned levels)
{
    ft_status st;
    ft_tree_builder b;
    ft_section_writer w;
    uint64_t bytes;
    assert_ok(ft_section_writer_open(&w, ft_test_folder(), FT_SECTION_TREE, 0, FT_SECTION_BLOCK, &st), st);
    const ft_leaf_shape shape = ft_leaf_shape_of(bits, 30);
    ft_tree_builder_init(&b, &shape, put, &w);
    for (size_t i = 0; i < leaves; i++)
        assert_ok(ft_tree_builder_add(&b, &s[i], &st), st);
    assert_ok(ft_tree_builder_finish(&b, &bytes, &st), st);
    ft_tree_builder_release(&b);
    assert_ok(ft_section_writer_commit(&w, 1, bytes, 8, bytes, &st), st);
    ft_section section;
    ft_tree tree;
    const ft_codes text = {NULL, bits, leaves * FT_LEAF_RANKS, NULL};
    assert_ok(ft_section_open(&section, ft_test_folder(), FT_SECTION_TREE, 0, &st), st);
    assert_ok(ft_tree_open(&tree, &section, NULL, &shape, &text, &st), st);
    assert_in_range(tree.levels, levels, FT_TREE_LEVELS_MAX);
    for (unsigned round = 0; round < 3000; round++) {
        const ft_separator *from = &s[ft_random_below(r, leaves)];
        uint32_t ids[FT_TREE_CODES + 4];
        size_t length = from->length;
        for (size_t i = 0; i < length; i++)
            ids[i] = from->codes[i] - 1;
        switch (ft_random_below(r, 4)) {
        case 0: /* goes on behind the separator */
            for (unsigned i = 0; i < 4; i++)
                ids[length++] = (uint32_t)ft_random_below(r, ((uint32_t)1 << bits) - 1);
            break;
        case 1:
            length = length ? 1 + (size_t)ft_random_below(r, length) : 0;
            break;
        case 2:
            if (length)
                ids[ft_random_below(r, length)] = (uint32_t)ft_random_below(r, ((uint32_t)1 << bits) - 1);
            break;
        default:
            break;
        }
        size_t lower = 0, upper = 0;
        for (size_t lo = 0, hi = leaves; lo < hi;) { /* last not above the pattern */
            const size_t mid = lo + (hi - lo) / 2;
            ft_separator p = {.length = (unsigned char)(length < FT_TREE_CODES ? length : FT_TREE_CODES)};
            for (unsigned i = 0; i < p.length; i++)
                p.codes[i] = ids[i] + 1;
            if (compare_separators(&s[mid], &p) <= 0)
                lower = mid, lo = mid + 1;
            else
                hi = mid;
        }
        for (upper = lower; upper + 1 < leaves; upper++) { /* those that begin with it follow */
            unsigned i = 0;
            while (i < length && i < s[upper + 1].length && s[upper + 1].codes[i] == ids[i] + 1)
                i++;
            if (i < length)
                break;
        }
        assert_int_equal(ft_tree_lower(&tree, ids, length).leaf, lower);
        assert_int_equal(ft_tree_upper(&tree, ids, length).leaf, upper);
    }
    ft_section_close(&section);
}

static void a_tree_leads_to_the_leaf_that_a_plain_search_finds(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 64);
    static const struct {
        unsigned bits, levels;
        uint32_t alphabet;
        size_t leaves;
    } kinds[] = {{17, 1, 9, 1},    {17, 1, 9, 50}, {17, 2, 3, 5000}, {17, 3, 50000, 200000}, {17, 2, 2, 90000},
                 {24, 2, 7, 9000}, {1, 1, 1, 30},  {2, 2, 3, 20000}, {16, 2, 500, 20000},    {8, 2, 200, 20000}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        ft_separator *s = calloc(kinds[i].leaves, sizeof(*s));
        const size_t leaves = random_separators(s, kinds[i].leaves, &r, kinds[i].bits, kinds[i].alphabet);
        check_tree(s, leaves, kinds[i].bits, &r, kinds[i].levels);
        free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leaf_answers_as_a_plain_comparison),
        cmocka_unit_test(a_leaf_of_one_long_run_answers),
        cmocka_unit_test(a_leaf_of_any_bytes_stays_inside),
        cmocka_unit_test(a_tree_leads_to_the_leaf_that_a_plain_search_finds),
    };
    return cmocka_run_group_tests_name("leaf", tests, NULL, NULL);
}
