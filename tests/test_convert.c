/* Conversions of small checkpoints: what comes out, that it does not depend on how the
 * work was cut, stopped or taken up again, and that what an owner converts alone is
 * what the whole conversion has. */
#include "tests/model_fixture.h"

#include "base/ft_json.h"
#include "base/ft_npy.h"
#include "model/ft_convert.h"
#include "model/ft_quantize.h"
#include "model/ft_session.h"
#include "model/model_internal.h"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

/* Row counts that are no multiples of 16 (vocabulary, keys), columns that are no whole groups (down). */
static const fixture ODD = {.hidden = 64,
                            .intermediate = 80,
                            .layers = 2,
                            .heads = 4,
                            .kv_heads = 1,
                            .head_dim = 20,
                            .experts = 3,
                            .top_k = 2,
                            .vocab = 50,
                            .half = 1,
                            .config = ""};
static const fixture EVEN = {.hidden = 64,
                             .intermediate = 96,
                             .layers = 2,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 16,
                             .experts = 3,
                             .top_k = 2,
                             .vocab = 50,
                             .half = 1,
                             .config = ""};

/* A path in the fresh folder that lives as long as the test. */
static const char *place(const char *name)
{
    static char *paths[200];
    size_t i = 0;
    for (; paths[i]; i++)
        if (!strcmp(strrchr(paths[i], '/') + 1, name))
            return paths[i];
    assert_true(i < 199);
    return paths[i] = strdup(ft_test_path(name));
}

static const char *path_in(const char *folder, const char *name)
{
    static char paths[8][5000];
    static int next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof(paths[0]), "%s/%s", folder, name);
    return p;
}

static ft_convert_result convert(const char *from, const char *to, ft_convert_type type)
{
    const ft_convert_options o = {.to = type};
    ft_convert_result r;
    ft_status st = {0};
    assert_ok(ft_convert(from, to, &o, &r, &st), st);
    return r;
}

static ft_model *open_model(const char *folder)
{
    ft_status st = {0};
    ft_model *m;
    assert_ok(ft_model_open(&m, folder, &st), st);
    return m;
}

/* The row of a converted matrix is that row, quantized as ft_quantize_block does it. */
static void check_matrix(const ft_matrix *from, const ft_matrix *to, const char *what)
{
    float x[16 * 128], want[128], got[128];
    uint8_t w[512 * 4];
    uint16_t scales[16 * 4];
    size_t bad;
    assert_true(to->rows == from->rows && to->cols == from->cols);
    for (size_t r = 0; r < from->rows; r++) {
        const size_t first = r / 16 * 16, count = from->rows - first < 16 ? from->rows - first : 16;
        if (!ft_is_quantized(to->type)) {
            ft_matrix_widen_row(from, r, want);
        } else {
            for (size_t i = 0; i < count; i++)
                ft_matrix_widen_row(from, first + i, x + i * from->cols);
            assert_int_equal(ft_quantize_block(to->type, x, count, from->cols, w, scales, &bad), FT_OK);
            ft_dequantize_row(to->type, w, scales, r % 16, from->cols, want);
        }
        ft_matrix_widen_row(to, r, got);
        if (memcmp(want, got, from->cols * sizeof(*got)) != 0)
            fail_msg("%s: row %zu differs", what, r);
    }
}

static void check_model(const char *from, const char *to, ft_weight_type type, ft_weight_type head)
{
    ft_model *a = open_model(from), *b = open_model(to);
    const ft_model_config *c = ft_model_get_config(a);
    for (size_t l = 0; l < c->layers; l++) {
        const ft_layer *x = &a->layers[l], *y = &b->layers[l];
        check_matrix(&x->q, &y->q, "q");
        check_matrix(&x->k, &y->k, "k");
        check_matrix(&x->v, &y->v, "v");
        check_matrix(&x->o, &y->o, "o");
        check_matrix(&x->router, &y->router, "router");
        assert_int_equal(y->q.type, type);
        assert_int_equal(y->router.type, x->router.type);
        for (size_t e = 0; e < c->experts; e++) {
            check_matrix(&x->experts[e].gate, &y->experts[e].gate, "gate");
            check_matrix(&x->experts[e].up, &y->experts[e].up, "up");
            check_matrix(&x->experts[e].down, &y->experts[e].down, "down");
            assert_int_equal(y->experts[e].gate.type, type);
            assert_int_equal(y->experts[e].down.type, c->intermediate % 32 ? x->experts[e].down.type : type);
        }
        assert_memory_equal(x->q_norm, y->q_norm, c->heads * c->head_dim * sizeof(float));
    }
    check_matrix(&a->embed, &b->embed, "embedding");
    check_matrix(&a->head, &b->head, "head");
    assert_int_equal(b->head.type, head);
    assert_int_equal(b->embed.type, a->embed.type);
    ft_model_close(a);
    ft_model_close(b);
}

static void every_matrix_is_quantized_by_itself_and_the_rest_stays(void **state)
{
    (void)state;
    const char *odd = fixture_write("odd", &ODD);
    convert(odd, place("odd-int8"), FT_CONVERT_INT8);
    check_model(odd, place("odd-int8"), FT_WEIGHT_I8, FT_WEIGHT_I8);
    const char *even = fixture_write("even", &EVEN);
    convert(even, place("even-int4"), FT_CONVERT_INT4);
    check_model(even, place("even-int4"), FT_WEIGHT_I4, FT_WEIGHT_I8);
}

static void a_tied_head_becomes_one_of_its_own(void **state)
{
    (void)state;
    fixture f = EVEN;
    f.tied = 1;
    const char *tied = fixture_write("tied", &f);
    convert(tied, place("tied-int8"), FT_CONVERT_INT8);
    check_model(tied, place("tied-int8"), FT_WEIGHT_I8, FT_WEIGHT_I8);
    convert(tied, place("tied-float32"), FT_CONVERT_FLOAT32);
    ft_model *m = open_model(place("tied-float32"));
    assert_true(m->head.data == m->embed.data);
    ft_model_close(m);
}

static void to_the_type_that_it_has_and_back_the_digest_is_the_same(void **state)
{
    (void)state;
    const char *odd = fixture_write("same", &ODD);
    ft_status st = {0};
    ft_digest digest;
    ft_model *m = open_model(odd);
    assert_ok(ft_model_digest(m, &digest, &st), st);
    ft_model_close(m);
    const ft_convert_result same = convert(odd, place("same-bf16"), FT_CONVERT_BFLOAT16);
    assert_memory_equal(&same.source, &digest, sizeof(digest));
    assert_memory_equal(&same.result, &digest, sizeof(digest));
    convert(odd, place("same-f32"), FT_CONVERT_FLOAT32);
    const ft_convert_result back = convert(place("same-f32"), place("same-back"), FT_CONVERT_BFLOAT16);
    assert_memory_equal(&back.result, &digest, sizeof(digest));
    /* from packed weights to floats: exact */
    convert(odd, place("same-i8"), FT_CONVERT_INT8);
    convert(place("same-i8"), place("same-i8-f32"), FT_CONVERT_FLOAT32);
    ft_model *a = open_model(place("same-i8")), *b = open_model(place("same-i8-f32"));
    check_matrix(&a->layers[1].k, &b->layers[1].k, "k");
    check_matrix(&a->head, &b->head, "head");
    assert_int_equal(b->head.type, FT_WEIGHT_F32);
    ft_model_close(a);
    ft_model_close(b);
}

/* A tensor's bytes in a file. */
static const ft_tensor *tensor(ft_weights *w, const char *name)
{
    const ft_tensor *t = ft_weights_find(w, name);
    if (!t)
        fail_msg("%s is missing", name);
    return t;
}

/* What an owner hands over: expert 2's tensors as expert 1 of a file of its own. */
static const char *owner_file(void)
{
    fixture_writer w = {.f = &EVEN};
    fixture_weights(&w);
    ft_weights *all;
    ft_status st = {0};
    assert_ok(ft_weights_open(&all, place("even"), &st), st);
    fixture_file file = {0};
    static const char *const parts[] = {"gate", "up", "down"};
    for (size_t l = 0; l < EVEN.layers; l++)
        for (int p = 0; p < 3; p++) {
            char name[100];
            snprintf(name, sizeof(name), "model.layers.%zu.mlp.experts.2.%s_proj.weight", l, parts[p]);
            const ft_tensor *t = tensor(all, name);
            assert_int_equal(ft_buffer_printf(&file.header, NULL,
                                              "%c\"model.layers.%zu.mlp.experts.1.%s_proj.weight\":{\"dtype\":\"BF16\","
                                              "\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]}",
                                              file.data.size ? ',' : '{', l, parts[p], t->shape[0], t->shape[1],
                                              file.data.size, file.data.size + t->bytes),
                             FT_OK);
            assert_int_equal(ft_buffer_append(&file.data, t->data, t->bytes, NULL), FT_OK);
        }
    assert_int_equal(ft_folder_make(place("owner"), NULL), FT_OK);
    fixture_put_file(place("owner"), "expert.safetensors", &file);
    ft_buffer_release(&file.header);
    ft_buffer_release(&file.data);
    for (int i = 0; i < 4; i++) {
        ft_buffer_release(&w.files[i].header);
        ft_buffer_release(&w.files[i].data);
    }
    ft_buffer_release(&w.map);
    ft_weights_close(all);
    return path_in(place("owner"), "expert.safetensors");
}

static void an_expert_alone_has_the_bytes_that_it_has_within_the_whole(void **state)
{
    (void)state;
    const char *out = place("owner-int4.safetensors");
    const ft_convert_result r = convert(owner_file(), out, FT_CONVERT_INT4);
    assert_int_equal(r.tensors, 2 * 3 * EVEN.layers);
    assert_false(ft_path_exists(place("owner-int4.safetensors.journal")));
    ft_weights *alone, *whole;
    ft_status st = {0};
    assert_ok(ft_weights_open_file(&alone, out, &st), st);
    assert_ok(ft_weights_open_file(&whole, path_in(place("even-int4"), "model-expert2-1.safetensors"), &st), st);
    size_t count;
    const ft_tensor *t = ft_weights_tensors(alone, &count);
    for (size_t i = 0; i < count; i++) {
        char name[200];
        snprintf(name, sizeof(name), "%s", t[i].name);
        char *e = strstr(name, "experts.1");
        assert_non_null(e);
        e[8] = '2';
        const ft_tensor *other = tensor(whole, name);
        assert_int_equal(other->bytes, t[i].bytes);
        assert_memory_equal(other->data, t[i].data, t[i].bytes);
    }
    ft_weights_close(alone);
    ft_weights_close(whole);
}

static void fused_experts_are_taken_apart(void **state)
{
    (void)state;
    fixture f = EVEN;
    f.fused = 1;
    const char *fused = fixture_write("fused", &f);
    const ft_convert_result r = convert(fused, place("fused-int4"), FT_CONVERT_INT4);
    ft_status st = {0};
    ft_digest digest;
    ft_model *m = open_model(fused);
    assert_ok(ft_model_digest(m, &digest, &st), st);
    ft_model_close(m);
    assert_memory_equal(&r.source, &digest, sizeof(digest));
    ft_verify_result a, b;
    assert_ok(ft_verify(place("fused-int4"), NULL, &a, &st), st);
    assert_ok(ft_verify(place("even-int4"), NULL, &b, &st), st);
    assert_memory_equal(&a.digest, &b.digest, sizeof(digest));
    assert_memory_equal(&a.digest, &r.result, sizeof(digest));
    assert_int_equal(a.hashed, a.tensors);
    assert_int_equal(a.wrong + a.not_finite, 0);
    assert_int_equal(a.index_agrees, 1);
}

/* The index takes expert 0 from the bfloat16 file and the rest from int8 ones. */
static void some_experts_may_be_quantized_and_others_not(void **state)
{
    (void)state;
    const char *even = place("even"), *mixed = place("mixed");
    convert(even, place("even-int8"), FT_CONVERT_INT8);
    convert(even, place("even-bf16"), FT_CONVERT_BFLOAT16);
    char command[9000];
    snprintf(command, sizeof(command),
             "cp -r '%s' '%s' && cp '%s/model-expert0-1.safetensors' '%s' && cp '%s/model-expert1-1.safetensors' '%s'",
             place("even-int8"), mixed, place("even-bf16"), mixed, place("even-int4"), mixed);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    size_t n;
    char *index = ft_test_read(path_in(mixed, "model.safetensors.index.json"), &n);
    assert_non_null(index);
    ft_buffer changed = {0}; /* expert 0 is whole there */
    for (char *line = strtok(index, "\n"); line; line = strtok(NULL, "\n")) {
        char *q = strstr(line, "experts.0.") ? strstr(line, ".qweight") : NULL;
        if (strstr(line, "experts.0.") && strstr(line, ".scales"))
            continue;
        if (q)
            memcpy(q, ".weight\"", 8), memmove(q + 8, q + 9, strlen(q + 9) + 1);
        assert_int_equal(ft_buffer_printf(&changed, NULL, "%s\n", line), FT_OK);
    }
    fixture_put(mixed, "model.safetensors.index.json", changed.data, changed.size);
    ft_buffer_release(&changed);
    free(index);
    ft_model *m = open_model(mixed), *whole = open_model(even);
    assert_int_equal(m->layers[1].experts[0].up.type, FT_WEIGHT_BF16);
    assert_int_equal(m->layers[1].experts[1].up.type, FT_WEIGHT_I4);
    assert_int_equal(m->layers[1].experts[2].up.type, FT_WEIGHT_I8);
    assert_string_equal(ft_model_get_sizes(m).weight_type, "mixed");
    assert_int_equal(ft_model_get_sizes(m).parameters, ft_model_get_sizes(whole).parameters);
    ft_model_close(m);
    ft_model_close(whole);
}

/* --- Stopping --------------------------------------------------------------------------------- */

typedef struct stopper {
    unsigned at, seen;
    int dies;
} stopper;

static int stop(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    stopper *s = context;
    (void)phase;
    (void)done;
    (void)total;
    (void)unit;
    if (++s->seen < s->at)
        return 0;
    if (s->dies)
        _exit(7);
    return 1;
}

static ft_code convert_until(const char *from, const char *to, stopper s, ft_convert_result *r)
{
    const ft_progress progress = {stop, &s};
    const ft_convert_options o = {.to = FT_CONVERT_INT4, .progress = &progress, .threads = 2};
    return ft_convert(from, to, &o, r, NULL);
}

static void same_folders(const char *a, const char *b)
{
    char command[9000];
    snprintf(command, sizeof(command), "diff -r '%s' '%s'", a, b);
    char *out;
    if (ft_test_shell(command, &out, NULL) != 0)
        fail_msg("%s", out);
    free(out);
}

/* Stopped at every report in turn, by cancelling and by dying, then taken up again. */
static void what_was_stopped_goes_on_and_gives_the_same_bytes(void **state)
{
    (void)state;
    const char *even = place("even"), *whole = place("even-int4");
    size_t resumed[2] = {0};
    for (unsigned at = 1, finished = 0; !finished; at += 5)
        for (int dies = 0; dies < 2; dies++) {
            char name[40];
            snprintf(name, sizeof(name), "stopped-%u-%d", at, dies);
            const char *out = place(name);
            ft_convert_result r;
            fflush(NULL);
            const pid_t child = fork();
            if (child == 0)
                _exit(convert_until(even, out, (stopper){.at = at, .dies = dies}, &r) == FT_OK ? 0 : 7);
            int status;
            assert_int_equal(waitpid(child, &status, 0), child);
            finished = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            assert_int_equal(ft_path_exists(out), finished);
            if (!finished) {
                r = convert(even, out, FT_CONVERT_INT4);
                resumed[dies] += r.resumed;
                assert_int_equal(r.tensors, 2 * (2 * (4 + 9) + 1) + 1 + 1 + 2 * 5);
            }
            same_folders(whole, out);
        }
    assert_true(resumed[0] > resumed[1] && resumed[1] > 0);
}

static void another_source_or_type_begins_anew(void **state)
{
    (void)state;
    ft_convert_result r;
    const char *out = place("anew");
    assert_int_equal(convert_until(place("even"), out, (stopper){.at = 40}, &r), FT_ERR_CANCELLED);
    assert_true(ft_path_exists(place("anew.partial")));
    assert_int_equal(convert(place("even"), out, FT_CONVERT_INT8).resumed, 0);
    same_folders(place("even-int8"), out);
    assert_false(ft_path_exists(place("anew.partial")));
}

/* --- Refusals ------------------------------------------------------------------------------------ */

static void refused(const char *from, const char *to, ft_convert_options o, ft_code code, const char *why)
{
    ft_status st = {0};
    ft_convert_result r;
    const ft_code rc = ft_convert(from, to, &o, &r, &st);
    if (rc != code || !strstr(st.msg, why))
        fail_msg("%s: %s", ft_code_name(rc), st.msg);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    const ft_convert_options int4 = {.to = FT_CONVERT_INT4};
    refused(place("even"), place("even-int4"), int4, FT_ERR_ARG, "is there already");
    refused(place("nowhere"), place("x"), int4, FT_ERR_NOT_FOUND, "nowhere");
    refused(place("even"), place("x"), (ft_convert_options){.to = FT_CONVERT_INT4, .memory_bytes = 1000}, FT_ERR_LIMIT,
            "--memory");
    fixture f = EVEN;
    f.poison = 2;
    refused(fixture_write("poison", &f), place("x"), int4, FT_ERR_FORMAT,
            "experts.1.down_proj.weight: row 0 holds a value");
    ft_verify_result r;
    ft_status st = {0};
    assert_ok(ft_verify(place("poison"), NULL, &r, &st), st);
    assert_int_equal(r.not_finite, 3 * EVEN.layers + EVEN.layers);
}

static void a_flipped_bit_is_found_by_its_digest(void **state)
{
    (void)state;
    convert(place("even"), place("flipped"), FT_CONVERT_INT4);
    const char *path = path_in(place("flipped"), "model-expert1-1.safetensors");
    size_t n;
    char *bytes = ft_test_read(path, &n);
    bytes[n - 100] ^= 4;
    ft_test_write(path, bytes, n);
    free(bytes);
    ft_verify_result r;
    ft_status st = {0};
    assert_ok(ft_verify(place("flipped"), NULL, &r, &st), st);
    assert_int_equal(r.wrong, 1);
    assert_int_equal(r.index_agrees, 0);
    assert_non_null(strstr(r.first_wrong, "experts.1."));
}

/* --- The command line, and memory that is out ------------------------------------------------ */

static void shell(int code, const char *says, const char *fmt, ...) FT_PRINTF(3, 4);
static void shell(int code, const char *says, const char *fmt, ...)
{
    char command[9000], *out, *err;
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof(command), fmt, args);
    va_end(args);
    const int got = ft_test_shell(command, &out, &err);
    if (got != code || (!strstr(out, says) && !strstr(err, says)))
        fail_msg("%s: exit %d\n%s%s", command, got, out, err);
    free(out);
    free(err);
}

/* Ids of demo/model's golden prompts, one after the other, as an array that `forward` reads. */
static void write_prompts(const char *path)
{
    static int32_t ids[1000];
    ft_status st;
    json_t *golden;
    size_t i, k, n = 0;
    json_t *prompt, *id;
    assert_ok(ft_json_read_file(&golden, ft_test_source("demo/model/golden.json"), 0, &st), st);
    json_array_foreach(json_object_get(golden, "prompts"), i, prompt)
        json_array_foreach(json_object_get(prompt, "ids"), k, id) ids[n++] = (int32_t)json_integer_value(id);
    assert_in_range(n, 100, 1000);
    assert_ok(ft_npy_write(path, FT_NPY_INT32, 1, &n, ids, &st), st);
    json_decref(golden);
}

/* All of inference by the quantized kernels, which round their inputs too, against the same weights written back as
 * float32: a wrong sign, scale or order would show. */
static void a_quantized_model_says_what_its_weights_say(void **state)
{
    (void)state;
    char base[600], ids[700], path[2][700];
    if (!ft_path_exists(ft_test_source("demo/model/model.safetensors")))
        skip();
    snprintf(base, sizeof(base), "%s", place("demo"));
    snprintf(ids, sizeof(ids), "%s.ids.npy", base);
    write_prompts(ids);
    static const char *const formats[] = {"int8", "int4"};
    for (int f = 0; f < 2; f++) {
        ft_status st;
        ft_npy logits[2];
        double apart = 0, size = 0;
        shell(0, "",
              "cd $(dirname %s) && $FLEXTRACE model convert %s --to %s -o demo-0-%s && $FLEXTRACE model convert "
              "demo-0-%s --to float32 -o demo-1-%s",
              base, ft_test_source("demo/model"), formats[f], formats[f], formats[f], formats[f]);
        for (int k = 0; k < 2; k++) {
            snprintf(path[k], sizeof(path[k]), "%s-%d-%s.npy", base, k, formats[f]);
            shell(0, "", "$FLEXTRACE forward %s-%d-%s --ids %s --logits %s", base, k, formats[f], ids, path[k]);
            assert_ok(ft_npy_open(&logits[k], path[k], &st), st);
        }
        assert_int_equal(logits[0].count, logits[1].count);
        for (size_t i = 0; i < logits[0].count; i++) {
            const double x = ((const float *)logits[0].data)[i], y = ((const float *)logits[1].data)[i];
            apart += (x - y) * (x - y);
            size += y * y;
        }
        if (sqrt(apart / size) > 0.1)
            fail_msg("%s: logits are %g apart", formats[f], sqrt(apart / size));
        ft_npy_close(&logits[0]);
        ft_npy_close(&logits[1]);
    }
}

static void the_command_line_converts_verifies_and_says_what_a_config_needs(void **state)
{
    (void)state;
    const char *even = place("even"), *out = place("by-command");
    shell(0, "\"resumed_tensors\":0", "$FLEXTRACE model convert %s --to int4 --memory 96M --threads 1 -o %s --json",
          even, out);
    same_folders(place("even-int4"), out);
    shell(0, "all is well", "$FLEXTRACE model verify %s", out);
    shell(0, "\"ok\":true", "$FLEXTRACE model verify %s --json", out);
    shell(1, "do not have the digest", "$FLEXTRACE model verify %s", place("flipped"));
    shell(1, "\"ok\":false", "$FLEXTRACE model verify %s --json", place("flipped"));
    /* owners.json is carried over, and speaks of the source: no reason to look for its tensors. */
    shell(0, "all is well",
          "cp -r %s %s && echo '{\"experts\":[]}' > %s/owners.json && $FLEXTRACE model convert %s --to int8 -o %s &&"
          " $FLEXTRACE model verify %s",
          even, place("owned"), place("owned"), place("owned"), place("owned-int8"), place("owned-int8"));
    shell(2, "is there already", "$FLEXTRACE model convert %s --to int4 -o %s", even, out);
    shell(2, "--to must be int8", "$FLEXTRACE model convert %s --to int3 -o %s", even, place("x"));
    shell(2, "-o OUT is missing", "$FLEXTRACE model convert %s --to int4", even);
    shell(0, "\"weight_type\":\"int4\"", "$FLEXTRACE model info %s --json", out);
    shell(0, "none in this folder",
          "mkdir -p %s && cp %s/bench/shapes/flexolmo-7x7b.json %s/config.json && $FLEXTRACE model info %s",
          place("bare"), FT_SOURCE_DIR, place("bare"), place("bare"));
    shell(0, "\"weight_bytes\":66541330432", "$FLEXTRACE model info %s --json", place("bare"));
    shell(2, "is not a verb", "$FLEXTRACE model look");
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *even = place("even"), *out = place("no-memory");
    const ft_convert_options o = {.to = FT_CONVERT_INT8, .threads = 1};
    int failed = 1;
    for (long k = 1; failed; k += k < 40 ? 1 : 17) {
        ft_convert_result r;
        ft_status st = {0};
        ft_test_fail_allocation(k);
        const ft_code rc = ft_convert(even, out, &o, &r, &st);
        failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (rc == FT_OK) /* where what failed was not needed */
            assert_ok(ft_folder_remove(out, &st), st);
        else if (rc != FT_ERR_MEM || !failed || ft_path_exists(out))
            fail_msg("allocation %ld: %s: %s", k, ft_code_name(rc), st.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_matrix_is_quantized_by_itself_and_the_rest_stays),
        cmocka_unit_test(a_tied_head_becomes_one_of_its_own),
        cmocka_unit_test(to_the_type_that_it_has_and_back_the_digest_is_the_same),
        cmocka_unit_test(an_expert_alone_has_the_bytes_that_it_has_within_the_whole),
        cmocka_unit_test(fused_experts_are_taken_apart),
        cmocka_unit_test(some_experts_may_be_quantized_and_others_not),
        cmocka_unit_test(what_was_stopped_goes_on_and_gives_the_same_bytes),
        cmocka_unit_test(another_source_or_type_begins_anew),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_flipped_bit_is_found_by_its_digest),
        cmocka_unit_test(a_quantized_model_says_what_its_weights_say),
        cmocka_unit_test(the_command_line_converts_verifies_and_says_what_a_config_needs),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
