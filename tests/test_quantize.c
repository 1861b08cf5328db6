/* Quantized weights: packing against the layout as ft_quantize.h draws it, errors
 * against what rounding must give, checkpoints that hold them, and where experts are
 * mapped. */
#include "tests/model_fixture.h"

#include "base/ft_random.h"
#include "model/ft_quantize.h"
#include "model/ft_session.h"
#include "model/kernels/ft_float.h"
#include "model/model_internal.h"

#include <fcntl.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEED = 20260518, COLS = 96 };

/* --- Number formats ------------------------------------------------------------------- */

/* Each of the 65536 patterns comes back from its float, NaNs as some NaN; and a float
 * between two of them goes to the nearer one, to the even one from half way. */
static void narrowing_is_to_the_nearest_and_gives_back_what_was_widened(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        const uint16_t h = (uint16_t)i, up = (uint16_t)(i + 1);
        const float f = ft_f16_at(&h, 0), b = ft_bf16_at(&h, 0);
        if (isnan(f) ? !isnan((uint16_t){0} + ft_f16_at(&(uint16_t){ft_f16_of(f)}, 0)) : ft_f16_of(f) != h)
            fail_msg("float16 %04x comes back as %04x", i, ft_f16_of(f));
        if (isnan(b) ? !isnan(ft_bf16_at(&(uint16_t){ft_bf16_of(b)}, 0)) : ft_bf16_of(b) != h)
            fail_msg("bfloat16 %04x comes back as %04x", i, ft_bf16_of(b));
        if ((h & 0x7fff) >= 0x7bff)
            continue;
        const float next = ft_f16_at(&up, 0), middle = (float)(((double)f + (double)next) / 2);
        assert_int_equal(ft_f16_of(middle), h & 1 ? up : h);
        assert_int_equal(ft_f16_of(nextafterf(middle, f)), h);
        assert_int_equal(ft_f16_of(nextafterf(middle, next)), up);
    }
    assert_int_equal(ft_f16_of(65519.9f), 0x7bff);
    assert_int_equal(ft_f16_of(65520), 0x7c00);
    assert_int_equal(ft_bf16_of(ft_float_from_bits(0x3f808000)), 0x3f80); /* half way: even */
    assert_int_equal(ft_bf16_of(ft_float_from_bits(0x3f818000)), 0x3f82);
}

/* --- One block ------------------------------------------------------------------------- */

/* Weight (r, c) by the layout's own words. */
static int weight_of(ft_weight_type type, const uint8_t *w, size_t r, size_t c)
{
    const size_t g = c / 32, i = c % 32;
    if (type == FT_WEIGHT_I8)
        return w[g * 512 + (i / 4 * 16 + r) * 4 + i % 4] - 128;
    const uint8_t byte = w[g * 256 + (i / 8 * 16 + r) * 4 + i % 4];
    return (i % 8 < 4 ? byte & 15 : byte >> 4) - 8;
}

/* Roughly normal, some rows large, some tiny, one zero. */
static void some_rows(float *x, size_t rows, ft_random *r)
{
    static const float sizes[] = {1, 0.02f, 300, 1e-4f, 0};
    for (size_t i = 0; i < rows * COLS; i++) {
        double sum = 0;
        for (int k = 0; k < 6; k++)
            sum += ft_random_unit(r) - 0.5;
        x[i] = (float)sum * sizes[i / COLS % 5];
    }
}

static void a_packed_block_reads_back_within_half_a_step(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, SEED);
    for (int pass = 0; pass < 40; pass++) {
        const ft_weight_type type = pass % 2 ? FT_WEIGHT_I8 : FT_WEIGHT_I4;
        const size_t count = 1 + (size_t)pass % 16;
        float x[16 * COLS], row[COLS];
        uint8_t w[512 * COLS / 32];
        uint16_t scales[16 * COLS / 32];
        size_t bad;
        some_rows(x, count, &r);
        assert_int_equal(ft_quantize_block(type, x, count, COLS, w, scales, &bad), FT_OK);
        for (size_t i = 0; i < 16; i++) {
            ft_dequantize_row(type, w, scales, i, COLS, row);
            for (size_t c = 0; c < COLS; c++) {
                const float scale = ft_f16_at(scales, c / 32 * 16 + i);
                const int q = weight_of(type, w, i, c);
                assert_true(row[c] == scale * (float)q);
                if (i >= count) {
                    assert_true(scale == 0 && q == 0);
                    continue;
                }
                const float off = fabsf(row[c] - x[i * COLS + c]), step = fabsf(scale);
                /* In 4 bits what lies beyond the last step may be cut: by 0.9 + 0.5 steps at most
                 * where the largest value went to -7.1, or to 8.9 of 7 on the other side. */
                assert_true(off <= step * (type == FT_WEIGHT_I8 ? 0.5626f : 2.0f) + 0x1p-24f);
            }
        }
    }
}

/* The squared error of the plain way: the value of largest magnitude to 7, float32 scales. */
static double plain_error(const float *x)
{
    float most = 0;
    double error = 0;
    for (int i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(x[i]));
    for (int i = 0; i < 32 && most > 0; i++) {
        const double d = (double)x[i] - (double)(rintf(x[i] / (most / 7)) * (most / 7));
        error += d * d;
    }
    return error;
}

static void the_search_for_an_int4_scale_pays(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, SEED + 1);
    double plain = 0, ours = 0;
    for (int pass = 0; pass < 50; pass++) {
        float x[16 * COLS], row[COLS];
        uint8_t w[256 * COLS / 32];
        uint16_t scales[16 * COLS / 32];
        size_t bad;
        some_rows(x, 16, &r);
        assert_int_equal(ft_quantize_block(FT_WEIGHT_I4, x, 16, COLS, w, scales, &bad), FT_OK);
        for (size_t i = 0; i < 16; i += 5) { /* rows of one size */
            ft_dequantize_row(FT_WEIGHT_I4, w, scales, i, COLS, row);
            for (size_t c = 0; c < COLS; c++)
                ours += ((double)row[c] - (double)x[i * COLS + c]) * ((double)row[c] - (double)x[i * COLS + c]);
            for (size_t g = 0; g < COLS / 32; g++)
                plain += plain_error(x + i * COLS + 32 * g);
        }
    }
    if (!(ours < 0.8 * plain))
        fail_msg("squared error %g; the plain way has %g", ours, plain);
}

static void a_value_that_no_scale_holds_names_its_row(void **state)
{
    (void)state;
    static const float bad_values[] = {NAN, INFINITY, -INFINITY, 3e7f, -1e30f};
    for (size_t i = 0; i < 10; i++) {
        const ft_weight_type type = i % 2 ? FT_WEIGHT_I8 : FT_WEIGHT_I4;
        float x[3 * COLS] = {0};
        uint8_t w[512 * COLS / 32];
        uint16_t scales[16 * COLS / 32];
        size_t bad = 9;
        x[COLS + 40 + i] = bad_values[i / 2];
        assert_int_equal(ft_quantize_block(type, x, 3, COLS, w, scales, &bad), FT_ERR_FORMAT);
        assert_int_equal(bad, 1);
    }
}

/* --- Checkpoints ------------------------------------------------------------------------ */

typedef struct part {
    const char *name, *dtype, *shape;
    size_t bytes;
} part;

/* A folder whose config asks for [64, 32] matrices, with q_proj as `parts` have it. */
static const char *with_q_proj(const part *parts, size_t count, const char *config)
{
    static int number;
    const fixture f = {.hidden = 32,
                       .intermediate = 32,
                       .layers = 1,
                       .heads = 4,
                       .kv_heads = 4,
                       .head_dim = 10,
                       .vocab = 16,
                       .config = config};
    char name[32];
    snprintf(name, sizeof(name), "q-%d", number++);
    fixture_writer w = {.f = &f};
    const char *folder = ft_test_path(name);
    assert_int_equal(ft_folder_make(folder, NULL), FT_OK);
    fixture_weights(&w);
    fixture_file *file = &w.files[0];
    char *old = strstr(file->header.data, "model.layers.0.self_attn.q_proj.weight");
    assert_non_null(old);
    old[sizeof("model.layers.0.self_attn.q_proj") - 1] = '_'; /* a name that nothing asks for */
    for (size_t i = 0; i < count; i++) {
        const size_t at = file->data.size;
        char *zeros = calloc(1, parts[i].bytes);
        assert_int_equal(ft_buffer_printf(&file->header, NULL,
                                          ",\"model.layers.0.self_attn.q_proj.%s\":{\"dtype\":\"%s\",\"shape\":[%s],"
                                          "\"data_offsets\":[%zu,%zu]}",
                                          parts[i].name, parts[i].dtype, parts[i].shape, at, at + parts[i].bytes),
                         FT_OK);
        assert_int_equal(ft_buffer_append(&file->data, zeros, parts[i].bytes, NULL), FT_OK);
        free(zeros);
    }
    fixture_put_config(folder, &f);
    fixture_put_file(folder, "model.safetensors", file);
    ft_buffer_release(&file->header);
    ft_buffer_release(&file->data);
    ft_buffer_release(&w.map);
    return folder;
}

static void expect(const part *parts, size_t count, const char *config, ft_code code, const char *why)
{
    ft_status st = {0};
    ft_model *m;
    const ft_code rc = ft_model_open(&m, with_q_proj(parts, count, config), &st);
    if (rc != code || (why && !strstr(st.msg, why)))
        fail_msg("expected '%s', got %s: %s", why ? why : "success", ft_code_name(rc), st.msg);
    ft_model_close(m);
}

/* 40 rows are 3 blocks of 16. */
static void quantized_tensors_are_checked_by_name_type_and_shape(void **state)
{
    (void)state;
    const part q8 = {"qweight", "U8", "3,1,512", 1536}, q4 = {"qweight", "U8", "3,1,256", 768};
    const part scales = {"scales", "F16", "3,1,16", 96}, whole = {"weight", "F32", "40,32", 5120};
    expect((part[]){q8, scales}, 2, "", FT_OK, NULL);
    expect((part[]){q4, scales}, 2, "", FT_OK, NULL);
    expect((part[]){q4, scales}, 2, ",\"flextrace_quantization\":{\"version\":1,\"format\":\"int4\",\"group\":32}",
           FT_OK, NULL);
    expect((part[]){q4, scales}, 2, ",\"flextrace_quantization\":{\"version\":2,\"group\":32}", FT_ERR_UNSUPPORTED,
           "'flextrace_quantization'");
    expect((part[]){q4, scales}, 2, ",\"flextrace_quantization\":{\"version\":1,\"group\":64}", FT_ERR_UNSUPPORTED,
           "group 32");
    expect((part[]){q4, scales}, 2, ",\"flextrace_quantization\":7", FT_ERR_FORMAT, "must be an object");
    expect((part[]){q4}, 1, "", FT_ERR_NOT_FOUND, "q_proj.scales is missing");
    expect((part[]){scales}, 1, "", FT_ERR_NOT_FOUND, "q_proj.weight is missing");
    expect((part[]){q4, scales, whole}, 3, "", FT_ERR_FORMAT, "both there");
    expect((part[]){{"qweight", "U8", "2,1,256", 512}, scales}, 2, "", FT_ERR_FORMAT,
           "q_proj.qweight has shape [2, 1, 256]; the config asks for [3, 1, 256]");
    expect((part[]){{"qweight", "U8", "3,1,128", 384}, scales}, 2, "", FT_ERR_FORMAT, "asks for [3, 1, 512]");
    expect((part[]){{"qweight", "U8", "3,256", 768}, scales}, 2, "", FT_ERR_FORMAT, "qweight has shape [3, 256]");
    expect((part[]){{"qweight", "I8", "3,1,512", 1536}, scales}, 2, "", FT_ERR_FORMAT, "dtype I8");
    expect((part[]){q4, {"scales", "F32", "3,1,16", 192}}, 2, "", FT_ERR_FORMAT, "dtype F32");
    expect((part[]){q4, {"scales", "F16", "3,1,8", 48}}, 2, "", FT_ERR_FORMAT, "scales has shape [3, 1, 8]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(narrowing_is_to_the_nearest_and_gives_back_what_was_widened),
        cmocka_unit_test(a_packed_block_reads_back_within_half_a_step),
        cmocka_unit_test(the_search_for_an_int4_scale_pays),
        cmocka_unit_test(a_value_that_no_scale_holds_names_its_row),
        cmocka_unit_test(quantized_tensors_are_checked_by_name_type_and_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
