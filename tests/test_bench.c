/* The benchmarks' tools: each runs, on input that is small, and says what it measured. What the figures are is
 * bench/'s business; here they have only to be numbers. */
#include "base/ft_npy.h"
#include "ft_test.h"

#include <jansson.h>

/* A command of bench/'s folder; every line that it prints is JSON, and there is one at least. */
static void measures(const char *command, const char *field)
{
    char line[2000], *out, *err;
    snprintf(line, sizeof(line), "PATH=\"%s:$PATH\" && %s", FT_BENCH, command);
    const int code = ft_test_shell(line, &out, &err);
    if (code)
        fail_msg("%s: exit %d: %s", command, code, err);
    free(err);
    size_t said = 0;
    for (char *at = out, *end; *at; at = end + 1) {
        end = at + strcspn(at, "\n");
        json_t *v = json_loadb(at, (size_t)(end - at), 0, NULL);
        if (!v)
            fail_msg("%s: not JSON: %.*s", command, (int)(end - at), at);
        said += json_object_get(v, field) != NULL;
        json_decref(v);
        if (!*end)
            break;
    }
    if (!said)
        fail_msg("%s: no '%s' in %s", command, field, out);
    free(out);
}

/* A random model, 64 wide, of seven experts. */
static const char *small_model(void)
{
    static const char config[] =
        "{\"architectures\":[\"FlexOlmoForCausalLM\"],\"model_type\":\"flex_olmo\",\"hidden_size\":64,"
        "\"intermediate_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":2,\"num_key_value_heads\":2,"
        "\"vocab_size\":512,\"max_position_embeddings\":8192,\"eos_token_id\":0,\"rms_norm_eps\":1e-6,"
        "\"rope_theta\":10000,\"tie_word_embeddings\":false,\"num_experts\":7,\"num_experts_per_tok\":5}";
    static char folder[600];
    char path[700], line[2000], *err;
    snprintf(folder, sizeof(folder), "%s", ft_test_path("model"));
    snprintf(path, sizeof(path), "%s.json", folder);
    ft_test_write(path, config, sizeof(config) - 1);
    snprintf(line, sizeof(line), "%s/ft_make_model --shape %s --type bf16 %s", FT_BENCH, path, folder);
    if (ft_test_shell(line, NULL, &err))
        fail_msg("%s", err);
    free(err);
    return folder;
}

static void every_line_about_the_engine_gives_a_figure(void **state)
{
    (void)state;
    char command[1500];
    const char *model = small_model();
    snprintf(
        command, sizeof(command),
        "ft_bench_model %s --compute bfloat16 --kv-type bfloat16 decode batch-2 prefill-16 long-16 capture-2 stall-32",
        model);
    measures(command, "capture-2");
    snprintf(command, sizeof(command), "ft_bench model %s", model);
    measures(command, "decode_tokens_per_s");
    snprintf(command, sizeof(command), "ft_bench_trace causal %s 6", model);
    measures(command, "all_in_passes");
}

static void kernels_and_training_products_are_measured_on_few_columns_too(void **state)
{
    (void)state;
    measures("ft_bench_kernels --rows 64 --cols 64 --rounds 1", "of_stream");
    measures("ft_bench_train product 64 64 64", "openblas");
    measures("ft_bench bandwidth", "gb_per_s");
}

static void receipts_and_the_store_are_measured(void **state)
{
    (void)state;
    char command[900];
    measures("ft_bench_receipt 20 3 2 2", "verify_ms");
    snprintf(command, sizeof(command), "ft_bench_store %s 100", ft_test_path("store"));
    measures(command, "write_before_sync_ms");
    snprintf(command, sizeof(command), "ft_bench_store %s questions", ft_test_path("store"));
    measures(command, "first_page_ms");
}

/* 64 documents of 40 words: an index, its tokens, and questions about its first tokens. */
static void index_and_trace_are_measured(void **state)
{
    (void)state;
    char folder[600], path[700], command[4200], *err;
    const char *tokenizer = ft_test_source("demo/flexmix");
    snprintf(folder, sizeof(folder), "%s", ft_test_path("corpus"));
    snprintf(command, sizeof(command),
             "mkdir -p %s && seq 64 | awk '{printf \"{\\\"id\\\":\\\"d%%d\\\",\\\"text\\\":\\\"\", $1; for (i = 0; i < "
             "40; i++)"
             " printf \"river %%d bank \", (i * $1) %% 17; print \"\\\"}\"}' > %s/corpus.jsonl && "
             "%s/ft_tokens %s %s && $FLEXTRACE index build %s/index -t %s %s/corpus.jsonl",
             folder, folder, FT_BENCH, tokenizer, folder, folder, tokenizer, folder);
    if (ft_test_shell(command, NULL, &err))
        fail_msg("%s", err);
    free(err);
    const uint32_t ids[] = {300, 301, 302, 303};
    const uint64_t ends[] = {2, 4};
    snprintf(path, sizeof(path), "%s/count.npy", folder);
    assert_int_equal(ft_npy_write(path, FT_NPY_UINT32, 1, (const size_t[]){4}, ids, NULL), FT_OK);
    snprintf(path, sizeof(path), "%s/count.ends.npy", folder);
    assert_int_equal(ft_npy_write(path, FT_NPY_UINT64, 1, (const size_t[]){2}, ends, NULL), FT_OK);
    snprintf(command, sizeof(command), "ft_bench_index warm %s/index %s count", folder, folder);
    measures(command, "count");
    snprintf(command, sizeof(command), "ft_bench_trace trace %s %s/tokens.npy 4 %s/index", tokenizer, folder, folder);
    measures(command, "trace_ms");
    snprintf(command, sizeof(command), "ft_bench tokenizer %s %s/corpus.jsonl", tokenizer, folder);
    measures(command, "mb_per_s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_about_the_engine_gives_a_figure),
        cmocka_unit_test(kernels_and_training_products_are_measured_on_few_columns_too),
        cmocka_unit_test(receipts_and_the_store_are_measured),
        cmocka_unit_test(index_and_trace_are_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
