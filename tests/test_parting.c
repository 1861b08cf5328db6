/* Where neighbours part, by each family of instructions, against a plain comparison code by code. */
#include "tests/ft_test.h"

#include "base/ft_cpu.h"
#include "base/ft_random.h"
#include "index/ft_parting.h"

/* The text's packed bytes end with the 8 that may be read behind it. */
typedef struct text {
    uint32_t *codes;
    size_t n;
    ft_codes packed;
} text;

static text make_text(ft_random *r, unsigned bits, uint32_t alphabet, size_t n, uint32_t ends)
{
    text t = {calloc(n, sizeof(uint32_t)), n, {NULL, bits, n, NULL}};
    unsigned char *packed = calloc(ft_packed_bytes(n, bits) + 16, 1), *exact = calloc(ft_packed_bytes(n, bits) + 8, 1);
    const uint32_t top = ((uint32_t)1 << bits) - 1;
    for (size_t i = 0; i < n; i++)
        t.codes[i] = ft_random_below(r, ends) == 0 ? 0 : top - (uint32_t)ft_random_below(r, alphabet) % top;
    for (size_t i = n / 2; i < n; i++) /* the second half repeats the first, with slips */
        if (ft_random_below(r, 40))
            t.codes[i] = t.codes[i - n / 2];
    t.codes[n - 1] = 0;
    for (size_t i = 0; i < n; i++)
        ft_packed_set(packed, bits, i, t.codes[i]);
    memcpy(exact, packed, ft_packed_bytes(n, bits) + 8);
    free(packed);
    t.packed.packed = exact;
    return t;
}

static void release(text *t)
{
    free(t->codes);
    free((void *)(uintptr_t)t->packed.packed);
}

static ft_merge_item describe_plainly(const text *t, size_t before, size_t here)
{
    ft_merge_item item = {.position = here, .shared = FT_SHARED_MAX};
    for (unsigned i = 0; i < FT_SHARED_MAX; i++) {
        const uint32_t x = t->codes[before + i], y = t->codes[here + i];
        if (x != y) {
            item.shared = (unsigned char)i;
            item.code = y;
            while ((x >> (t->packed.bits - 1 - item.bit) & 1) == (y >> (t->packed.bits - 1 - item.bit) & 1))
                item.bit++;
            return item;
        }
        if (x == 0)
            break;
    }
    return item;
}

static void check_text(const text *t, ft_random *r, unsigned isa)
{
    enum { MANY = 300, BEHIND = 50 };
    int32_t order[1 + MANY + BEHIND];
    ft_merge_item got[MANY];
    ft_partings p;
    ft_partings_init(&p, t->packed.bits, isa);
    const size_t base = ft_random_below(r, 4) ? 0 : (size_t)ft_random_below(r, t->n / 2);
    const size_t room = t->n - base;
    order[0] = (int32_t)ft_random_below(r, room);
    for (size_t i = 1; i <= MANY + BEHIND; i++) /* many at the same distance as the two halves, many close to the end */
        do
            order[i] = ft_random_below(r, 3) == 0
                           ? (int32_t)((size_t)(order[i - 1] + (int32_t)(t->n / 2)) % room)
                           : (int32_t)(room - 1 - ft_random_below(r, ft_random_below(r, 2) ? room : 20));
        while (order[i] == order[i - 1]);
    p.describe(&p, &t->packed, base, order + 1, MANY, BEHIND, got);
    for (size_t i = 0; i < MANY; i++) {
        const ft_merge_item want = describe_plainly(t, base + (size_t)order[i], base + (size_t)order[i + 1]);
        if (got[i].position != want.position || got[i].shared != want.shared || got[i].code != want.code ||
            got[i].bit != want.bit)
            fail_msg("%u bits, %zu codes: %d behind %d: shared %u bit %u code %u, expected %u %u %u", t->packed.bits,
                     t->n, order[i + 1], order[i], got[i].shared, got[i].bit, got[i].code, want.shared, want.bit,
                     want.code);
    }
}

static void check_family(unsigned isa)
{
    ft_random r;
    ft_random_init(&r, 31);
    for (unsigned bits = 1; bits <= 24; bits++)
        for (unsigned round = 0; round < 12; round++) {
            const uint32_t alphabet = round % 3 == 0 ? 1 : round % 3 == 1 ? 2 : 5000;
            text t = make_text(&r, bits, alphabet, 40 + (size_t)ft_random_below(&r, 3000), round % 2 ? 7 : 300);
            check_text(&t, &r, isa);
            release(&t);
        }
}

static void the_scalar_form_is_a_plain_comparison(void **state)
{
    (void)state;
    check_family(FT_ISA_SCALAR);
}

static void the_avx2_form_is_a_plain_comparison(void **state)
{
    (void)state;
    if (!(ft_cpu_isa() & FT_ISA_AVX2))
        skip();
    check_family(FT_ISA_AVX2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_scalar_form_is_a_plain_comparison),
        cmocka_unit_test(the_avx2_form_is_a_plain_comparison),
    };
    return cmocka_run_group_tests_name("parting", tests, NULL, NULL);
}
