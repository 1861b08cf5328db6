/* What base/ft_merkle.h promises: the published vectors, and for all small trees agreement with the RFC's recursion. */
#include "tests/ft_test.h"

#include "base/ft_merkle.h"

enum { MOST = 70 };

static ft_digest leaves[MOST];

/* The whole subtrees in the order of their positions, as a store keeps them. */
static ft_digest kept[2 * MOST];
static size_t kept_count, reads;

static ft_code read_kept(void *context, unsigned level, uint64_t number, ft_digest *out, ft_status *st)
{
    (void)context, (void)st;
    const uint64_t at = ft_merkle_position(level, number);
    assert_true(at < kept_count);
    *out = kept[at];
    reads++;
    return FT_OK;
}

static void keep(size_t size)
{
    ft_digest made[FT_MERKLE_LEVELS];
    size_t n;
    assert_int_equal(kept_count, ft_merkle_node_count(size));
    assert_int_equal(ft_merkle_append(read_kept, NULL, size, &leaves[size], made, &n, NULL), FT_OK);
    for (size_t i = 0; i < n; i++)
        kept[kept_count++] = made[i];
}

static void keep_all(void)
{
    kept_count = 0;
    for (size_t i = 0; i < MOST; i++) {
        const unsigned char bytes[2] = {(unsigned char)i, 7};
        leaves[i] = ft_merkle_leaf(FT_MERKLE_SHA256, bytes, 2);
        keep(i);
    }
}

static void assert_hex(const ft_digest *d, const char *want)
{
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(d, hex);
    assert_string_equal(hex, want);
}

/* --- Published ------------------------------------------------------------------------------------ */

static const char *const roots[] = {"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                                    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                                    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
                                    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
                                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                                    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
                                    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
                                    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
                                    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};

/* The eight leaves of the certificate-transparency reference implementation. */
static void keep_reference(void)
{
    static const char *const data[] = {"", "\x00", "\x10", " !", "01", "@ABC", "PQRSTUVW", "`abcdefghijklmno"};
    static const size_t sizes[] = {0, 1, 1, 2, 2, 4, 8, 16};
    kept_count = 0;
    for (size_t i = 0; i < 8; i++) {
        leaves[i] = ft_merkle_leaf(FT_MERKLE_SHA256, data[i], sizes[i]);
        keep(i);
    }
}

static void the_reference_trees_have_their_published_roots(void **state)
{
    (void)state;
    keep_reference();
    for (uint64_t n = 0; n <= 8; n++) {
        ft_digest root;
        assert_int_equal(ft_merkle_root_of(read_kept, NULL, n, &root, NULL), FT_OK);
        assert_hex(&root, roots[n]);
    }
}

typedef struct vector {
    uint64_t a, size;
    const char *nodes[4];
} vector;

static void the_reference_trees_have_their_published_proofs(void **state)
{
    (void)state;
    static const vector inclusion[] = {{0, 1, {NULL}},
                                       {0,
                                        8,
                                        {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                                         "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                                         "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}},
                                       {5,
                                        8,
                                        {"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                                         "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                                         "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}},
                                       {2, 3, {"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"}},
                                       {1,
                                        5,
                                        {"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                                         "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                                         "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}},
                                       {5,
                                        7,
                                        {"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                                         "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
                                         "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}}};
    static const vector consistency[] = {{1, 1, {NULL}},
                                         {1,
                                          8,
                                          {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                                           "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                                           "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}},
                                         {6,
                                          8,
                                          {"0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                                           "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                                           "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}},
                                         {2,
                                          5,
                                          {"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                                           "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}},
                                         {3,
                                          7,
                                          {"0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
                                           "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
                                           "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
                                           "837dbb152e9b079010717e84e865da4ebc0fa198a806d59d31bf15accef22d0e"}},
                                         {4, 8, {"6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}}};
    keep_reference();
    for (size_t i = 0; i < 12; i++) {
        const vector *v = i < 6 ? &inclusion[i] : &consistency[i - 6];
        ft_merkle_proof p;
        size_t n = 0;
        while (n < 4 && v->nodes[n])
            n++;
        assert_int_equal(i < 6 ? ft_merkle_inclusion(read_kept, NULL, v->a, v->size, &p, NULL)
                               : ft_merkle_consistency(read_kept, NULL, v->a, v->size, &p, NULL),
                         FT_OK);
        assert_int_equal(p.count, n);
        for (size_t k = 0; k < n; k++)
            assert_hex(&p.nodes[k], v->nodes[k]);
    }
}

/* --- Against the recursion of the RFC ----------------------------------------------------------------- */

static size_t split(size_t n)
{
    size_t k = 1;
    while (2 * k < n)
        k *= 2;
    return k;
}

static ft_digest mth(size_t lo, size_t hi)
{
    return ft_merkle_root(FT_MERKLE_SHA256, leaves + lo, hi - lo);
}

/* PATH(m, D[lo:hi]) */
static void path(size_t m, size_t lo, size_t hi, ft_merkle_proof *out)
{
    if (hi - lo == 1)
        return;
    const size_t k = split(hi - lo);
    path(m, m < lo + k ? lo : lo + k, m < lo + k ? lo + k : hi, out);
    out->nodes[out->count++] = m < lo + k ? mth(lo + k, hi) : mth(lo, lo + k);
}

/* SUBPROOF(m, D[lo:hi], b) */
static void subproof(size_t m, size_t lo, size_t hi, int b, ft_merkle_proof *out)
{
    if (m == hi) {
        if (!b)
            out->nodes[out->count++] = mth(lo, hi);
        return;
    }
    const size_t k = split(hi - lo);
    if (m <= lo + k)
        subproof(m, lo, lo + k, b, out);
    else
        subproof(m, lo + k, hi, 0, out);
    out->nodes[out->count++] = m <= lo + k ? mth(lo + k, hi) : mth(lo, lo + k);
}

static void assert_same(const ft_merkle_proof *a, const ft_merkle_proof *b)
{
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->nodes, b->nodes, a->count * sizeof(*a->nodes));
}

/* `check` must say no to every change of one bit of the proof, to one node less, and to one more. */
typedef int checker(const void *context, const ft_digest *nodes, size_t count);
static void assert_nothing_else(checker *check, const void *context, const ft_merkle_proof *good)
{
    ft_merkle_proof p = *good;
    for (size_t bit = 0; bit < p.count * 256; bit++) {
        p.nodes[bit / 256].bytes[bit / 8 % 32] ^= (unsigned char)(1 << bit % 8);
        assert_false(check(context, p.nodes, p.count));
        p.nodes[bit / 256].bytes[bit / 8 % 32] ^= (unsigned char)(1 << bit % 8);
    }
    if (p.count) {
        assert_false(check(context, p.nodes, p.count - 1));
        assert_false(check(context, p.nodes + 1, p.count - 1));
    }
    p.nodes[p.count] = p.nodes[p.count ? p.count - 1 : 0];
    assert_false(check(context, p.nodes, p.count + 1));
}

typedef struct claim {
    uint64_t a, b;
    ft_digest one, two;
} claim;

static int check_inclusion(const void *context, const ft_digest *nodes, size_t count)
{
    const claim *c = context;
    return ft_merkle_includes(&c->one, c->a, c->b, &c->two, nodes, count);
}

static int check_consistency(const void *context, const ft_digest *nodes, size_t count)
{
    const claim *c = context;
    return ft_merkle_extends(c->a, &c->one, c->b, &c->two, nodes, count);
}

static void every_leaf_of_every_tree_is_proved_and_nothing_else(void **state)
{
    (void)state;
    keep_all();
    for (size_t n = 1; n <= MOST; n++)
        for (size_t m = 0; m < n; m++) {
            ft_merkle_proof got, want = {.count = 0};
            claim c = {m, n, leaves[m], mth(0, n)};
            reads = 0;
            assert_int_equal(ft_merkle_inclusion(read_kept, NULL, m, n, &got, NULL), FT_OK);
            assert_true(reads <= 14); /* two a level */
            path(m, 0, n, &want);
            assert_same(&got, &want);
            assert_true(check_inclusion(&c, got.nodes, got.count));
            if (n <= 9 || n > MOST - 3) /* every bit */
                assert_nothing_else(check_inclusion, &c, &got);
            c.two = mth(0, n == MOST ? n - 1 : n + 1); /* another root */
            assert_false(check_inclusion(&c, got.nodes, got.count));
            c.two = mth(0, n);
            c.one = leaves[(m + 1) % MOST];
            assert_false(check_inclusion(&c, got.nodes, got.count));
            c.one = leaves[m];
            for (uint64_t other = 0; other <= n; other++) { /* the right bytes at another place */
                c.a = other;
                assert_int_equal(check_inclusion(&c, got.nodes, got.count), other == m);
            }
        }
}

static void every_tree_is_shown_to_begin_with_every_smaller_one_and_nothing_else(void **state)
{
    (void)state;
    keep_all();
    for (size_t to = 0; to <= MOST; to++)
        for (size_t from = 0; from <= to; from++) {
            ft_merkle_proof got, want = {.count = 0};
            claim c = {from, to, mth(0, from), mth(0, to)};
            assert_int_equal(ft_merkle_consistency(read_kept, NULL, from, to, &got, NULL), FT_OK);
            if (from)
                subproof(from, 0, to, 1, &want);
            assert_same(&got, &want);
            assert_true(check_consistency(&c, got.nodes, got.count));
            if (to <= 9 || to > MOST - 3)
                assert_nothing_else(check_consistency, &c, &got);
            c.one.bytes[3] ^= 4; /* another past */
            assert_false(check_consistency(&c, got.nodes, got.count));
            c.one.bytes[3] ^= 4;
            c.two.bytes[31] ^= 128; /* nothing is before every tree */
            assert_int_equal(check_consistency(&c, got.nodes, got.count), !from && to);
            c.two.bytes[31] ^= 128;
            c.a = to + 1;
            assert_false(check_consistency(&c, got.nodes, got.count));
        }
}

static void a_leaf_writes_two_nodes_on_average_and_positions_have_no_gap(void **state)
{
    (void)state;
    keep_all();
    for (size_t n = 0; n <= MOST; n++) {
        ft_digest root;
        const ft_digest want = mth(0, n);
        assert_int_equal(ft_merkle_root_of(read_kept, NULL, n, &root, NULL), FT_OK);
        assert_memory_equal(&root, &want, sizeof(root));
    }
    assert_true(kept_count < (size_t)2 * MOST);
    unsigned char seen[2 * MOST] = {0};
    const uint64_t all = MOST;
    for (unsigned level = 0; all >> level; level++)
        for (uint64_t i = 0; i < all >> level; i++)
            assert_int_equal(seen[ft_merkle_position(level, i)]++, 0);
    for (size_t i = 0; i < kept_count; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(ft_merkle_node_count(UINT64_C(1) << 61), (UINT64_C(1) << 62) - 1);
}

static ft_code fail_third(void *context, unsigned level, uint64_t number, ft_digest *out, ft_status *st)
{
    size_t *left = context;
    if (!*left)
        return ft_fail(st, FT_ERR_IO, "no more");
    (*left)--;
    return read_kept(NULL, level, number, out, st);
}

static void what_cannot_be_read_ends_the_call_and_nothing_is_allocated(void **state)
{
    (void)state;
    keep_all();
    ft_test_fail_allocation(1);
    for (size_t allowed = 0; allowed < 3; allowed++) {
        ft_merkle_proof p;
        ft_digest root, made[FT_MERKLE_LEVELS];
        size_t left = allowed, n;
        assert_int_equal(ft_merkle_inclusion(fail_third, &left, 5, 63, &p, NULL), FT_ERR_IO);
        left = allowed;
        assert_int_equal(ft_merkle_consistency(fail_third, &left, 5, 63, &p, NULL), FT_ERR_IO);
        left = allowed;
        assert_int_equal(ft_merkle_root_of(fail_third, &left, 63, &root, NULL), FT_ERR_IO);
        left = allowed;
        assert_int_equal(ft_merkle_append(fail_third, &left, 63, &leaves[63], made, &n, NULL), FT_ERR_IO);
    }
    assert_false(ft_test_allocation_failed());
    ft_test_fail_allocation(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_trees_have_their_published_roots),
        cmocka_unit_test(the_reference_trees_have_their_published_proofs),
        cmocka_unit_test(every_leaf_of_every_tree_is_proved_and_nothing_else),
        cmocka_unit_test(every_tree_is_shown_to_begin_with_every_smaller_one_and_nothing_else),
        cmocka_unit_test(a_leaf_writes_two_nodes_on_average_and_positions_have_no_gap),
        cmocka_unit_test(what_cannot_be_read_ends_the_call_and_nothing_is_allocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
