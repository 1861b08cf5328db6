/* Checkpoints that lie: every one is refused with a line that names the file and,
 * where there is one, the tensor or the key. */
#include "tests/model_fixture.h"

#include "base/ft_json.h"
#include "model/ft_model.h"
#include "model/ft_safetensors.h"

#include <sys/stat.h>
#include <unistd.h>

/* --- Headers ----------------------------------------------------------------------- */

/* A folder with a model.safetensors of this header and data_bytes of zeros. */
static const char *with_header(const char *header, uint64_t said, size_t data_bytes)
{
    static int number;
    char name[32];
    snprintf(name, sizeof(name), "header-%d", number++);
    const char *folder = ft_test_path(name);
    ft_buffer all = {0};
    char *zeros = calloc(1, data_bytes + 1);
    assert_non_null(zeros);
    assert_int_equal(ft_folder_make(folder, NULL), FT_OK);
    assert_int_equal(ft_buffer_append(&all, &said, 8, NULL), FT_OK);
    assert_int_equal(ft_buffer_append_str(&all, header, NULL), FT_OK);
    assert_int_equal(ft_buffer_append(&all, zeros, data_bytes, NULL), FT_OK);
    fixture_put(folder, "model.safetensors", all.data, all.size);
    ft_buffer_release(&all);
    free(zeros);
    return folder;
}

static void refused(const char *header, size_t data_bytes, ft_code code, const char *why)
{
    ft_status st = {0};
    ft_weights *w = (ft_weights *)&st; /* not NULL: open has to clear it */
    const ft_code rc = ft_weights_open(&w, with_header(header, strlen(header), data_bytes), &st);
    if (rc != code || !strstr(st.msg, why) || !strstr(st.msg, "model.safetensors"))
        fail_msg("%s: %s: %s", header, ft_code_name(rc), st.msg);
    assert_null(w);
}

static void a_lying_header_is_refused_by_name(void **state)
{
    (void)state;
    refused("", 0, FT_ERR_FORMAT, "JSON");
    refused("[1]", 0, FT_ERR_FORMAT, "JSON object");
    refused("{\"a\":1}", 0, FT_ERR_FORMAT, "tensor a: 'dtype'");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":3,\"data_offsets\":[0,4]}}", 4, FT_ERR_FORMAT, "tensor a: 'shape'");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, FT_ERR_FORMAT, "sizes of 0");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, FT_ERR_FORMAT,
            "up to 8");
    refused("{\"a\":{\"dtype\":\"Q9\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, FT_ERR_UNSUPPORTED, "dtype Q9");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, FT_ERR_FORMAT, "'data_offsets'");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, FT_ERR_FORMAT, "'data_offsets'");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, FT_ERR_FORMAT, "'data_offsets'");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, FT_ERR_FORMAT,
            "ends at byte 8 of 4");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, FT_ERR_FORMAT, "holds 4 bytes");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, FT_ERR_FORMAT,
            "no whole size");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
            "\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[2,6]}}",
            6, FT_ERR_FORMAT, "tensor b: overlaps");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
            "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
            12, FT_ERR_FORMAT, "tensor b: leaves a gap");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, FT_ERR_FORMAT,
            "belong to no tensor");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
            "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
            4, FT_ERR_FORMAT, "duplicate");
}

static void a_header_that_claims_more_than_the_file_is_refused(void **state)
{
    (void)state;
    static const uint64_t lies[] = {3, 100, 100000001, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        ft_status st = {0};
        ft_weights *w;
        assert_int_equal(ft_weights_open(&w, with_header("{}", lies[i], 0), &st), FT_ERR_FORMAT);
        assert_non_null(strstr(st.msg, "cut short"));
    }
}

static void tensors_come_sorted_with_empty_ones_allowed(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_weights *w;
    const char *header = "{\"z\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                         "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                         "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[4,7]}}";
    assert_ok(ft_weights_open(&w, with_header(header, strlen(header), 7), &st), st);
    size_t count;
    const ft_tensor *t = ft_weights_tensors(w, &count);
    assert_int_equal(count, 3);
    assert_string_equal(t[0].name, "a");
    assert_int_equal(t[1].bytes, 0);
    assert_int_equal(t[2].dims, 0);
    assert_ptr_equal(ft_weights_find(w, "z"), &t[2]);
    assert_null(ft_weights_find(w, "y"));
    ft_weights_close(w);
}

/* --- Whole checkpoints ------------------------------------------------------------------ */

/* Opens a copy of the checkpoint file cut to each of some lengths: always refused. */
static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    const char *folder = fixture_write("cut", &FIXTURE);
    char path[8192];
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    size_t n;
    char *whole = ft_test_read(path, &n);
    assert_non_null(whole);
    for (size_t keep = 0; keep < n; keep += keep < 64 ? 1 : 997) {
        ft_status st = {0};
        ft_model *m;
        fixture_put(folder, "model.safetensors", whole, keep);
        const ft_code rc = ft_model_open(&m, folder, &st);
        assert_int_equal(rc, FT_ERR_FORMAT);
        assert_non_null(strstr(st.msg, "model.safetensors"));
        assert_null(m);
    }
    free(whole);
}

/* A flipped bit of the header is refused or harmless, never a crash: names and
 * metadata may change, sizes and offsets may not. */
static void a_flipped_bit_of_the_header_never_crashes(void **state)
{
    (void)state;
    fixture f = FIXTURE;
    f.layers = 1;
    f.experts = 2;
    const char *folder = fixture_write("flip", &f);
    char path[8192];
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    size_t n, refusals = 0, flips = 0;
    char *bytes = ft_test_read(path, &n);
    uint64_t header;
    memcpy(&header, bytes, 8);
    for (size_t i = 0; i < 8 + header; i += 3) {
        ft_status st = {0};
        ft_model *m;
        bytes[i] = (char)(bytes[i] ^ (1 << i % 8));
        fixture_put(folder, "model.safetensors", bytes, n);
        refusals += ft_model_open(&m, folder, &st) != FT_OK;
        flips++;
        ft_model_close(m);
        bytes[i] = (char)(bytes[i] ^ (1 << i % 8));
    }
    assert_true(refusals > flips / 2);
    free(bytes);
}

static void expect(const char *folder, ft_code code, const char *why)
{
    ft_status st = {0};
    ft_model *m;
    const ft_code rc = ft_model_open(&m, folder, &st);
    if (rc != code || (why && !strstr(st.msg, why)))
        fail_msg("expected '%s', got %s: %s", why ? why : "success", ft_code_name(rc), st.msg);
    ft_model_close(m);
}

static void a_shape_that_contradicts_the_config_names_the_tensor(void **state)
{
    (void)state;
    fixture f = FIXTURE;
    const char *folder = fixture_write("shapes", &f);
    f.vocab = 41;
    fixture_put_config(folder, &f);
    expect(folder, FT_ERR_FORMAT, "embed_tokens.weight has shape [40, 24]; the config asks for [41, 24]");
    f = FIXTURE;
    f.experts = 6;
    fixture_put_config(folder, &f);
    expect(folder, FT_ERR_FORMAT, "mlp.gate.weight has shape [5, 24]");
    f = FIXTURE;
    f.kv_heads = 4;
    fixture_put_config(folder, &f);
    expect(folder, FT_ERR_FORMAT, "k_proj.weight has shape");
    f = FIXTURE;
    f.layers = 3;
    fixture_put_config(folder, &f);
    expect(folder, FT_ERR_NOT_FOUND, "tensor model.layers.2.self_attn.q_proj.weight is missing");
    f = FIXTURE;
    f.tied = 1; /* both are there: they are read as they stand */
    fixture_put_config(folder, &f);
    expect(folder, FT_OK, NULL);
    f.tied = 0;
    folder = fixture_write("no-head", &(fixture){.hidden = 8,
                                                 .intermediate = 8,
                                                 .layers = 1,
                                                 .heads = 1,
                                                 .kv_heads = 1,
                                                 .head_dim = 8,
                                                 .vocab = 8,
                                                 .tied = 1,
                                                 .config = ""});
    expect(folder, FT_OK, NULL);
    fixture untied = {.hidden = 8,
                      .intermediate = 8,
                      .layers = 1,
                      .heads = 1,
                      .kv_heads = 1,
                      .head_dim = 8,
                      .vocab = 8,
                      .config = ""};
    fixture_put_config(folder, &untied);
    expect(folder, FT_ERR_NOT_FOUND, "lm_head.weight is missing");
}

/* A pipe that nobody writes to would be waited for without end. */
static void a_pipe_in_the_place_of_a_file_is_refused_at_once(void **state)
{
    (void)state;
    static const char *const names[] = {"config.json", "model.safetensors"};
    fixture f = FIXTURE;
    for (size_t i = 0; i < 2; i++) {
        char path[800];
        const char *folder = fixture_write(i ? "pipe-1" : "pipe-0", &f);
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        assert_int_equal(remove(path), 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        expect(folder, FT_ERR_FORMAT, i ? "not a regular file" : "config.json: a pipe, not a file");
    }
}

static void layers_beyond_the_config_are_refused_other_tensors_counted(void **state)
{
    (void)state;
    fixture f = FIXTURE;
    const char *folder = fixture_write("unexpected", &f);
    char command[900];
    f.layers = 1;
    fixture_put_config(folder, &f);
    expect(folder, FT_ERR_FORMAT,
           "layers.1.mlp.experts.0.down_proj.weight is of a layer that config.json does not know");
    snprintf(command, sizeof(command), "sed -i 's/model\\.layers\\.1\\./model.extras.1./g' %s/*.safetensors", folder);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    ft_status st = {0};
    ft_model *m;
    assert_ok(ft_model_open(&m, folder, &st), st);
    assert_int_equal(ft_model_unexpected_count(m), 8 + 1 + 3 * 5);
    assert_string_equal(ft_model_unexpected(m, 0), "model.extras.1.mlp.experts.0.down_proj.weight");
    assert_null(ft_model_unexpected(m, 24));
    ft_model_close(m);
}

/* --- Shards ----------------------------------------------------------------------------- */

static void an_index_may_not_lead_astray(void **state)
{
    (void)state;
    fixture f = FIXTURE;
    f.shards = 2;
    const char *folder = fixture_write("astray", &f), *name = "model.safetensors.index.json";
    static const struct {
        const char *json, *why;
        ft_code code;
    } bad[] = {
        {"{\"weight_map\":{\"a\":\"../astray/model-0.safetensors\"}}", "tensor a: its shard must be a file name",
         FT_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "must be a file name", FT_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"..\"}}", "must be a file name", FT_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"\"}}", "must be a file name", FT_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":7}}", "must be a file name", FT_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"model-9.safetensors\"}}", "model-9.safetensors: cannot open", FT_ERR_NOT_FOUND},
        {"{\"weight_map\":{\"a\":\"model-1.safetensors\"}}", "tensor a is not in", FT_ERR_NOT_FOUND},
        {"{\"weight_map\":[]}", "'weight_map' is missing", FT_ERR_FORMAT},
        {"{", "not valid JSON", FT_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fixture_put(folder, name, bad[i].json, strlen(bad[i].json));
        expect(folder, bad[i].code, bad[i].why);
    }
    char path[8192];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(unlink(path), 0);
    expect(folder, FT_ERR_NOT_FOUND, "neither model.safetensors nor");
}

/* --- config.json ---------------------------------------------------------------------------- */

static ft_code read_config(const char *json, ft_model_config *c, ft_status *st)
{
    const char *folder = ft_test_path("config");
    assert_int_equal(ft_folder_make(folder, NULL), FT_OK);
    fixture_put(folder, "config.json", json, strlen(json));
    return ft_model_config_read(c, folder, st);
}

static void absent_keys_have_the_defaults_of_transformers(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model_config c;
    assert_ok(read_config("{\"model_type\":\"flex_olmo\"}", &c, &st), st);
    assert_string_equal(c.architecture, "FlexOlmoForCausalLM");
    assert_int_equal(c.vocab, 100352);
    assert_int_equal(c.hidden, 4096);
    assert_int_equal(c.intermediate, 11008);
    assert_int_equal(c.layers, 32);
    assert_int_equal(c.kv_heads, 32);
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.experts, 7);
    assert_int_equal(c.top_k, 5);
    assert_int_equal(c.max_position, 4096);
    assert_int_equal(c.end_of_text[0], 100257);
    assert_int_equal(c.pad, 100277);
    assert_true(c.bos == FT_NO_ID && c.rms_norm_eps == 1e-6 && c.rope.theta == 500000);
    assert_false(c.norm_topk_prob || c.tie_word_embeddings);
    assert_ok(read_config("{\"architectures\":[\"Olmo2ForCausalLM\"]}", &c, &st), st);
    assert_int_equal(c.vocab, 50304);
    assert_int_equal(c.experts, 0);
    assert_int_equal(c.max_position, 2048);
    assert_int_equal(c.end_of_text[0], 50279);
    assert_true(c.rms_norm_eps == 1e-5 && c.rope.theta == 10000);
}

static void both_spellings_of_rope_are_read(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model_config c;
    assert_ok(read_config(
                  "{\"model_type\":\"olmo2\",\"rope_theta\":5000,\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}",
                  &c, &st),
              st);
    assert_true(c.rope.type == FT_ROPE_LINEAR && c.rope.theta == 5000 && c.rope.factor == 4);
    assert_ok(read_config("{\"model_type\":\"olmo2\",\"rope_theta\":5000,\"rope_parameters\":{\"rope_type\":\"yarn\","
                          "\"rope_theta\":7000,\"factor\":2,\"truncate\":false}}",
                          &c, &st),
              st);
    assert_true(c.rope.type == FT_ROPE_YARN && c.rope.theta == 7000 && !c.rope.truncate);
    assert_int_equal(c.rope.original_max_position, 2048); /* where it is silent: the model's own */
    assert_ok(read_config("{\"model_type\":\"olmo2\",\"original_max_position_embeddings\":99,\"rope_scaling\":{"
                          "\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
                          "\"original_max_position_embeddings\":77}}",
                          &c, &st),
              st);
    assert_int_equal(c.rope.original_max_position, 99);
}

static void the_end_of_text_is_one_id_a_list_or_none(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model_config c;
    assert_ok(read_config("{\"model_type\":\"olmo2\",\"eos_token_id\":[3,5]}", &c, &st), st);
    assert_int_equal(c.end_of_text_count, 2);
    assert_int_equal(c.end_of_text[1], 5);
    assert_ok(read_config("{\"model_type\":\"olmo2\",\"eos_token_id\":null}", &c, &st), st);
    assert_int_equal(c.end_of_text_count, 0);
    /* generation_config.json has the last word, as it has for generate() */
    fixture_put(ft_test_path("config"), "generation_config.json", "{\"eos_token_id\":9}", 18);
    assert_ok(read_config("{\"model_type\":\"olmo2\",\"eos_token_id\":[3,5]}", &c, &st), st);
    assert_int_equal(c.end_of_text_count, 1);
    assert_int_equal(c.end_of_text[0], 9);
    fixture_put(ft_test_path("config"), "generation_config.json", "{}", 2);
}

static void what_we_do_not_compute_is_refused_by_key_and_value(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *why;
        ft_code code;
    } bad[] = {
        {"\"hidden_act\":\"gelu\"", "'hidden_act' is \"gelu\"", FT_ERR_UNSUPPORTED},
        {"\"attention_bias\":true", "'attention_bias' is true", FT_ERR_UNSUPPORTED},
        {"\"sliding_window\":4096", "'sliding_window' is 4096", FT_ERR_UNSUPPORTED},
        {"\"clip_qkv\":8.0", "'clip_qkv'", FT_ERR_UNSUPPORTED},
        {"\"quantization_config\":{\"bits\":4}", "'quantization_config'", FT_ERR_UNSUPPORTED},
        {"\"layer_types\":[\"full_attention\",\"sliding_attention\"]", "'layer_types'", FT_ERR_UNSUPPORTED},
        {"\"partial_rotary_factor\":0.5", "'partial_rotary_factor' is 0.5", FT_ERR_UNSUPPORTED},
        {"\"rope_scaling\":{\"type\":\"longrope\"}", "'rope_type' is \"longrope\"", FT_ERR_UNSUPPORTED},
        {"\"num_experts\":65", "'num_experts' is 65", FT_ERR_UNSUPPORTED},
        {"\"rope_scaling\":{\"type\":\"linear\"}", "'factor' is missing", FT_ERR_FORMAT},
        {"\"rope_scaling\":7", "must be an object", FT_ERR_FORMAT},
        {"\"hidden_size\":0", "'hidden_size' must be from 1", FT_ERR_FORMAT},
        {"\"hidden_size\":-4096", "'hidden_size' must be from 1", FT_ERR_FORMAT},
        {"\"hidden_size\":1e300", "'hidden_size' must be an integer", FT_ERR_FORMAT},
        {"\"num_hidden_layers\":99999999999", "'num_hidden_layers' must be", FT_ERR_FORMAT},
        {"\"vocab_size\":\"many\"", "'vocab_size' must be an integer", FT_ERR_FORMAT},
        {"\"num_key_value_heads\":5", "not a multiple", FT_ERR_FORMAT},
        {"\"head_dim\":7", "'head_dim' is 7", FT_ERR_FORMAT},
        {"\"num_experts_per_tok\":8", "'num_experts_per_tok' must be from 1 to 7", FT_ERR_FORMAT},
        {"\"num_experts\":3", "'num_experts_per_tok' is missing", FT_ERR_FORMAT},
        {"\"rms_norm_eps\":-1", "'rms_norm_eps'", FT_ERR_FORMAT},
        {"\"norm_topk_prob\":1", "'norm_topk_prob' must be true or false", FT_ERR_FORMAT},
        {"\"eos_token_id\":\"</s>\"", "'eos_token_id'", FT_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ft_status st = {0};
        ft_model_config c;
        char json[512];
        snprintf(json, sizeof(json), "{\"model_type\":\"flex_olmo\",%s}", bad[i].fields);
        const ft_code rc = read_config(json, &c, &st);
        if (rc != bad[i].code || !strstr(st.msg, bad[i].why) || !strstr(st.msg, "config.json"))
            fail_msg("%s: %s: %s", bad[i].fields, ft_code_name(rc), st.msg);
    }
    ft_status st = {0};
    ft_model_config c;
    assert_int_equal(read_config("{\"architectures\":[\"LlamaForCausalLM\"]}", &c, &st), FT_ERR_UNSUPPORTED);
    assert_non_null(strstr(st.msg, "'LlamaForCausalLM'"));
    assert_int_equal(read_config("{}", &c, &st), FT_ERR_FORMAT);
    assert_int_equal(read_config("[]", &c, &st), FT_ERR_FORMAT);
    assert_int_equal(ft_model_config_read(&c, ft_test_path("nowhere"), &st), FT_ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lying_header_is_refused_by_name),
        cmocka_unit_test(a_header_that_claims_more_than_the_file_is_refused),
        cmocka_unit_test(tensors_come_sorted_with_empty_ones_allowed),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(a_flipped_bit_of_the_header_never_crashes),
        cmocka_unit_test(a_shape_that_contradicts_the_config_names_the_tensor),
        cmocka_unit_test(a_pipe_in_the_place_of_a_file_is_refused_at_once),
        cmocka_unit_test(layers_beyond_the_config_are_refused_other_tensors_counted),
        cmocka_unit_test(an_index_may_not_lead_astray),
        cmocka_unit_test(absent_keys_have_the_defaults_of_transformers),
        cmocka_unit_test(both_spellings_of_rope_are_read),
        cmocka_unit_test(the_end_of_text_is_one_id_a_list_or_none),
        cmocka_unit_test(what_we_do_not_compute_is_refused_by_key_and_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
