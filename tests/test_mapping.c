/* Where a checkpoint is mapped and which of its pages are touched, by what the system
 * says in /proc/self/smaps. Files are fresh, so all of them are in the page cache: what
 * is in memory and may be mapped beside a page that is asked for, would be. */
#include "tests/model_fixture.h"
#include "tests/smaps_fixture.h"

#include "base/ft_file.h"
#include "model/ft_model_needs.h"
#include "model/ft_session.h"
#include "model/model_internal.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUT = 2, PROMPT = 12 };

/* Experts of 96 KiB a matrix. */
static const fixture WIDE = {.hidden = 48,
                             .intermediate = 512,
                             .layers = 2,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 12,
                             .experts = 5,
                             .top_k = 2,
                             .vocab = 40,
                             .config = ""};

/* --- Running ----------------------------------------------------------------------------- */

static const char *wide_folder(void)
{
    static const char *folder;
    if (!folder)
        folder = fixture_write("wide", &WIDE);
    return folder;
}

static ft_model *open_model(const char *folder)
{
    ft_status st = {0};
    ft_model *m;
    assert_ok(ft_model_open(&m, folder, &st), st);
    return m;
}

static void run(const ft_model *m, uint64_t without, float *logits)
{
    ft_status st = {0};
    ft_session *s;
    uint32_t ids[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++)
        ids[i] = i * 7 % 40;
    const ft_session_options o = {.without = without};
    assert_ok(ft_session_open(&s, m, NULL, &o, &st), st);
    const ft_outputs out = {.logits = logits};
    assert_ok(ft_session_read(s, ids, PROMPT, &out, NULL, &st), st);
    ft_session_close(s);
}

static int protect_out(const ft_model *m)
{
    return protect(m, OUT, PROT_NONE) > WIDE.layers * 3 * (WIDE.hidden * WIDE.intermediate * 4 - 2 * 4096);
}

/* A fresh process runs it: `fork` before anything is mapped. */
static void in_a_fresh_process(void (*fn)(void))
{
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fn();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("the process ended with status %x", (unsigned)status);
}

static void check(int true_enough, const char *what)
{
    if (true_enough)
        return;
    fprintf(stderr, "%s\n", what);
    _exit(1);
}

/* --- Tests ------------------------------------------------------------------------------- */

static void an_opted_out_expert_may_be_unreadable(void **state)
{
    (void)state;
    static float open[PROMPT * 40], closed[PROMPT * 40];
    ft_model *m = open_model(wide_folder());
    run(m, 1 << OUT, open);
    assert_true(protect_out(m));
    run(m, 1 << OUT, closed);
    assert_memory_equal(open, closed, sizeof(open));
    ft_model_close(m);
}

static void run_with_all(void)
{
    static float logits[PROMPT * 40];
    ft_model *m = open_model(wide_folder());
    check(protect_out(m), "no pages");
    run(m, 0, logits); /* dies */
}

static void the_same_without_the_opt_out_dies(void **state)
{
    (void)state;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(0);
        run_with_all();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void look_at_residence(void)
{
    static float logits[PROMPT * 40];
    ft_model *m = open_model(wide_folder());
    for (size_t l = 0; l < WIDE.layers; l++)
        for (size_t e = 0; e < WIDE.experts; e++)
            check(ask_expert(m, l, e).resident == 0 && ask_expert(m, l, e).random, "touched by opening");
    run(m, 1 << OUT, logits);
    uint64_t used = 0;
    for (size_t l = 0; l < WIDE.layers; l++) {
        check(ask_expert(m, l, OUT).mapped > 200000, "not mapped apart");
        check(ask_expert(m, l, OUT).resident == 0, "an opted-out expert is in memory");
        for (size_t e = 0; e < WIDE.experts; e++)
            used += ask_expert(m, l, e).resident;
    }
    check(used > 100000, "no expert was used");
    ft_model_close(m);
}

static void of_an_opted_out_expert_nothing_is_in_memory(void **state)
{
    (void)state;
    wide_folder();
    in_a_fresh_process(look_at_residence);
}

static void an_expert_that_is_wanted_is_read_with_readahead(void **state)
{
    (void)state;
    ft_model *m = open_model(wide_folder());
    for (int again = 0; again < 2; again++)
        ft_model_expert_want(m, 1, 3);
    assert_false(ask_expert(m, 1, 3).random);
    assert_true(ask_expert(m, 0, 3).random && ask_expert(m, 1, 2).random && ask_expert(m, 1, 4).random);
    assert_int_equal(ask_expert(m, 1, 2).resident, 0);
    ft_model_close(m);
}

/* --- A large checkpoint of holes ------------------------------------------------------------ */

static void put_tensor(ft_buffer *header, uint64_t *at, const char *name, size_t rows, size_t cols)
{
    const uint64_t bytes = (uint64_t)rows * cols * 2;
    char shape[50];
    snprintf(shape, sizeof(shape), cols > 1 ? "%zu,%zu" : "%zu", rows, cols);
    assert_int_equal(ft_buffer_printf(header, NULL,
                                      "%c\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%" PRIu64
                                      ",%" PRIu64 "]}",
                                      *at ? ',' : '{', name, shape, *at, *at + bytes),
                     FT_OK);
    *at += bytes;
}

static void put_holes(const char *folder, const char *file, ft_buffer *header, uint64_t data_bytes)
{
    assert_int_equal(ft_buffer_append_str(header, "}", NULL), FT_OK);
    while (header->size % 8)
        assert_int_equal(ft_buffer_append_str(header, " ", NULL), FT_OK);
    char path[5000];
    const uint64_t n = header->size;
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(&n, 1, 8, f) == 8 && fwrite(header->data, 1, header->size, f) == header->size);
    assert_int_equal(fflush(f), 0);
    if (ftruncate(fileno(f), (off_t)(8 + n + data_bytes)) != 0) {
        fclose(f);
        skip(); /* a file system without files of this size */
    }
    fclose(f);
    ft_buffer_release(header);
}

static void put_layer(const char *folder, size_t l, ft_buffer *map)
{
    static const char *const square[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
    static const char *const norms[] = {"self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm",
                                        "post_feedforward_layernorm"};
    static const char *const ffn[] = {"down_proj", "gate_proj", "up_proj"};
    ft_buffer header = {0};
    uint64_t at = 0;
    char name[200], file[40];
    for (size_t e = 0; e < 7; e++)
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof(name), "model.layers.%zu.mlp.experts.%zu.%s.weight", l, e, ffn[i]);
            put_tensor(&header, &at, name, i ? 11008 : 4096, i ? 4096 : 11008);
        }
    snprintf(name, sizeof(name), "model.layers.%zu.mlp.gate.weight", l);
    put_tensor(&header, &at, name, 7, 4096);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "model.layers.%zu.self_attn.%s.weight", l, square[i]);
        put_tensor(&header, &at, name, 4096, 4096);
        snprintf(name, sizeof(name), "model.layers.%zu.%s.weight", l, norms[i]);
        put_tensor(&header, &at, name, 4096, 1);
    }
    snprintf(file, sizeof(file), "layer-%zu.safetensors", l);
    put_holes(folder, file, &header, at);
    /* One name is enough for the shard to be opened; the others come with it. */
    assert_int_equal(ft_buffer_printf(map, NULL, "\"%s\":\"%s\",", name, file), FT_OK);
}

static const char *holes(void)
{
    static const char *folder;
    if (folder)
        return folder;
    const char *fresh = strdup(ft_test_path("holes"));
    assert_int_equal(ft_folder_make(fresh, NULL), FT_OK);
    ft_buffer map = {0}, header = {0};
    uint64_t at = 0;
    assert_int_equal(ft_buffer_append_str(&map, "{\"weight_map\":{", NULL), FT_OK);
    for (size_t l = 0; l < 32; l++)
        put_layer(fresh, l, &map);
    put_tensor(&header, &at, "lm_head.weight", 100352, 4096);
    put_tensor(&header, &at, "model.embed_tokens.weight", 100352, 4096);
    put_tensor(&header, &at, "model.norm.weight", 4096, 1);
    put_holes(fresh, "ends.safetensors", &header, at);
    assert_int_equal(ft_buffer_append_str(&map, "\"lm_head.weight\":\"ends.safetensors\"}}", NULL), FT_OK);
    fixture_put(fresh, "model.safetensors.index.json", map.data, map.size);
    static const char config[] = "{\"model_type\":\"flex_olmo\",\"num_experts\":7,\"num_experts_per_tok\":5}";
    fixture_put(fresh, "config.json", config, sizeof(config) - 1);
    ft_buffer_release(&map);
    return folder = fresh;
}

static void inspect_holes(void)
{
    ft_status st = {0};
    ft_model *m;
    check(ft_model_inspect(&m, holes(), &st) == FT_OK, st.msg);
    const told t = ask(NULL, 0, holes());
    check(t.mapped > UINT64_C(66000000000), "not all mapped");
    check(t.resident == 0, "a page of the weights was touched");
    check(ft_model_get_sizes(m).weight_bytes > UINT64_C(66000000000), "wrong size");
    ft_model_close(m);
}

static void looking_at_66_gigabytes_touches_no_page_of_them(void **state)
{
    (void)state;
    holes();
    in_a_fresh_process(inspect_holes);
}

/* What the config alone says is what the files hold. */
static void needs_of_a_config_are_the_sizes_of_its_checkpoint(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    assert_ok(ft_model_inspect(&m, holes(), &st), st);
    const ft_model_needs n = ft_model_needs_of(ft_model_get_config(m));
    const ft_model_sizes z = ft_model_get_sizes(m);
    assert_true(n.weight_bytes[FT_PRECISION_BFLOAT16] == z.weight_bytes);
    assert_true(n.weight_bytes[FT_PRECISION_FLOAT32] == 2 * z.weight_bytes);
    assert_true(z.parameters == z.weight_bytes / 2);
    assert_true(n.kv_elements_per_token == 2 * 32 * 4096);
    ft_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_an_opted_out_expert_nothing_is_in_memory),
        cmocka_unit_test(an_opted_out_expert_may_be_unreadable),
        cmocka_unit_test(the_same_without_the_opt_out_dies),
        cmocka_unit_test(an_expert_that_is_wanted_is_read_with_readahead),
        cmocka_unit_test(looking_at_66_gigabytes_touches_no_page_of_them),
        cmocka_unit_test(needs_of_a_config_are_the_sizes_of_its_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
