/* What a trace is packed into, and what comes back of it: docs/store.md, "traces". */
#include "tests/store_fixture.h"
#include "tracer/store_internal.h"

#include <zstd.h>

static ft_code read_packed(packer *p, const char *bytes, size_t n, ft_buffer *out)
{
    ft_status st = {0};
    ft_buffer_reset(out);
    return trace_read_text(p, out, bytes, n, "x", &st);
}

/* Packed with its numbers apart, a trace is the text that JSON is, byte for byte; as earlier schemas packed it, in one
 * frame, too. What was cut, flipped or put together of two is refused. */
static void a_packed_trace_is_its_json_byte_for_byte_or_refused(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("frames"));
    ft_random r;
    ft_random_init(&r, 23);
    ft_status st = {0};
    packer *p;
    assert_ok(packer_take(s, &p, &st), st);
    ft_buffer last = {0};
    for (unsigned i = 0; i < 40; i++) {
        char id[FT_TRACE_ID];
        ft_buffer text = {0}, packed = {0}, old = {0}, back = {0};
        fixture_id(id, 1000 + i, i);
        json_t *t = i ? fixture_trace(&r, id) : json_pack("{s:s}", "text", "without a number");
        for (unsigned k = 0; i && k < i * 10; k++)
            json_array_append_new(json_object_get(t, "tokens"),
                                  json_pack("{s:[f,f,f]}", "shares", ft_random_unit(&r), -1e-7 * k, 1.0 / (k + 1)));
        assert_ok(ft_json_write(t, &text, &st), st);
        assert_ok(pack_trace(p, &packed, t, 0, &st), st);
        assert_int_equal(read_packed(p, packed.data, packed.size, &back), FT_OK);
        assert_string_equal(back.data, text.data);
        assert_ok(frame_append(p, &old, text.data, text.size, &st), st);
        assert_int_equal(read_packed(p, old.data, old.size, &back), FT_OK);
        assert_string_equal(back.data, text.data);
        for (size_t cut = 0; cut < packed.size; cut += 1 + ft_random_below(&r, 40))
            if (read_packed(p, packed.data, cut, &back) != FT_ERR_FORMAT)
                fail_msg("cut to %zu of %zu", cut, packed.size);
        for (int k = 0; k < 300; k++) {
            const uint64_t bit = ft_random_below(&r, 8 * packed.size);
            packed.data[bit / 8] ^= (char)(1 << bit % 8);
            const ft_code rc = read_packed(p, packed.data, packed.size, &back);
            if (rc != FT_ERR_FORMAT && (rc || strcmp(back.data, text.data) != 0)) /* a bit that says nothing */
                fail_msg("bit %llu flipped: %d", (unsigned long long)bit, (int)rc);
            packed.data[bit / 8] ^= (char)(1 << bit % 8);
        }
        const size_t first = ZSTD_findFrameCompressedSize(packed.data, packed.size);
        assert_int_equal(first<packed.size, i> 1); /* few numbers stand in the text */
        if (i > 3) {                               /* this one's text, and the numbers of the one before */
            const size_t other = ZSTD_findFrameCompressedSize(last.data, last.size);
            ft_buffer both = {0};
            assert_ok(ft_buffer_append(&both, packed.data, first, &st), st);
            assert_int_equal(read_packed(p, both.data, both.size, &back), FT_ERR_FORMAT);
            assert_ok(ft_buffer_append(&both, last.data + other, last.size - other, &st), st);
            assert_int_equal(read_packed(p, both.data, both.size, &back), FT_ERR_FORMAT);
            ft_buffer_release(&both);
        }
        ft_buffer_release(&last);
        last = packed;
        ft_buffer_release(&text);
        ft_buffer_release(&old);
        ft_buffer_release(&back);
        json_decref(t);
    }
    ft_buffer_release(&last);
    packer_give(s, p);
    ft_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packed_trace_is_its_json_byte_for_byte_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
