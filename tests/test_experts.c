/* Experts handed over, merged, added, removed, verified; and what is refused. */
#include "tests/model_fixture.h"

#include "base/ft_json.h"
#include "model/ft_convert.h"
#include "model/ft_model.h"
#include "model/ft_safetensors.h"
#include "model/train/ft_experts.h"
#include "model/train/ft_router_start.h"

#include <math.h>

#include <math.h>

static const fixture DENSE = {
    .hidden = 16, .intermediate = 20, .layers = 2, .heads = 2, .kv_heads = 2, .head_dim = 8, .vocab = 30, .config = ""};

/* An owner's pair: expert 1 and its row differ from the start by `by`. */
static void make_pair(const char *public, const char *name, float by, char *pair, char *hand_over)
{
    ft_parameters p, two;
    ft_status st = {0};
    assert_ok(ft_parameters_open(&p, public, &st), st);
    assert_ok(ft_parameters_add_expert(&two, &p, 0, 0, &st), st);
    for (size_t l = 0; l < 2; l++) {
        for (size_t i = 3; i < 6; i++)
            for (size_t k = 0; k < two.layers[l].experts[i].count; k++)
                two.layers[l].experts[i].value[k] += by;
        for (size_t k = 16; k < 32; k++)
            two.layers[l].router->value[k] = by * (float)k;
    }
    snprintf(pair, 600, "%s-pair", ft_test_path(name));
    snprintf(hand_over, 600, "%s-expert", ft_test_path(name));
    json_t *manifest = json_pack("{s:s}", "owner", name);
    assert_ok(ft_model_export(&two, public, pair, 0, &st), st);
    assert_ok(ft_expert_export(&two, hand_over, manifest, &st), st);
    json_decref(manifest);
    ft_parameters_close(&two);
    ft_parameters_close(&p);
}

typedef struct house {
    const char *public;
    char pair[3][600], expert[3][600], merged[600];
} house;

static const char *const names[3] = {"news", "law", "poetry"};

static void build(house *h, const char *tag, size_t count)
{
    char name[80];
    ft_status st = {0};
    const char *experts[3];
    snprintf(name, sizeof(name), "%s-public", tag);
    h->public = fixture_write(name, &DENSE);
    for (size_t i = 0; i < 3; i++) {
        make_pair(h->public, names[i], 0.01f * (float)(i + 1), h->pair[i], h->expert[i]);
        experts[i] = i % 2 ? h->pair[i] : h->expert[i]; /* both forms */
    }
    snprintf(name, sizeof(name), "%s-merged", tag);
    snprintf(h->merged, sizeof(h->merged), "%s", ft_test_path(name));
    assert_ok(ft_experts_merge(h->public, experts, count, NULL, h->merged, &st), st);
}

static void same_tensors(const char *a, const char *b)
{
    ft_digest x, y;
    ft_model *m, *n;
    ft_status st = {0};
    assert_ok(ft_model_open(&m, a, &st), st);
    assert_ok(ft_model_open(&n, b, &st), st);
    assert_ok(ft_model_digest(m, &x, &st), st);
    assert_ok(ft_model_digest(n, &y, &st), st);
    assert_memory_equal(&x, &y, sizeof(x));
    ft_model_close(m);
    ft_model_close(n);
}

static void a_merge_stacks_experts_and_rows_and_changes_nothing_shared(void **state)
{
    (void)state;
    house h;
    ft_status st = {0};
    ft_parameters m, p, pair;
    int bad;
    build(&h, "stack", 3);
    assert_ok(ft_parameters_open(&m, h.merged, &st), st);
    assert_ok(ft_parameters_open(&p, h.public, &st), st);
    assert_int_equal(m.config.experts, 4);
    assert_int_equal(m.config.top_k, 2);
    const ft_digest a = ft_public_digest(&m), b = ft_public_digest(&p);
    assert_memory_equal(&a, &b, sizeof(a));
    for (size_t e = 0; e < 3; e++) {
        assert_ok(ft_parameters_open(&pair, h.pair[e], &st), st);
        const ft_digest c = ft_expert_digest(&m, e + 1), d = ft_expert_digest(&pair, 1);
        assert_memory_equal(&c, &d, sizeof(c));
        ft_parameters_close(&pair);
    }
    ft_parameters_close(&m);
    ft_parameters_close(&p);
    json_t *owners;
    assert_ok(ft_experts_verify(h.merged, &bad, &owners, &st), st);
    assert_int_equal(bad, -1);
    for (size_t e = 0; e < 3; e++) {
        const char *owner =
            json_string_value(json_object_get(json_array_get(json_object_get(owners, "experts"), e + 1), "owner"));
        if (e != 1) /* a pair without manifest is named by its folder */
            assert_string_equal(owner, names[e]);
    }
    json_decref(owners);
}

static void removing_and_adding_give_what_merging_would_have_given(void **state)
{
    (void)state;
    house two, three;
    char out[600];
    ft_status st = {0};
    build(&two, "two", 2);
    build(&three, "three", 3);
    snprintf(out, sizeof(out), "%s", ft_test_path("added"));
    assert_ok(ft_experts_add(two.merged, two.expert[2], out, &st), st);
    same_tensors(out, three.merged);
    snprintf(out, sizeof(out), "%s", ft_test_path("removed"));
    assert_ok(ft_experts_remove(three.merged, 3, out, &st), st);
    same_tensors(out, two.merged);
    int bad;
    assert_ok(ft_experts_remove(three.merged, 1, out, &st), st);
    assert_ok(ft_experts_verify(out, &bad, NULL, &st), st);
    assert_int_equal(bad, -1);
    assert_int_equal(ft_experts_remove(three.merged, 0, out, &st), FT_ERR_ARG);
}

/* Adds to one float of a tensor in a model's file. */
static void touch(const char *folder, const char *tensor)
{
    ft_parameters p;
    ft_status st = {0};
    char path[700];
    assert_ok(ft_parameters_open(&p, folder, &st), st);
    for (size_t i = 0; i < p.count; i++)
        if (!strcmp(p.all[i].name, tensor))
            p.all[i].value[3] += 1;
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    assert_ok(ft_parameters_save(&p, path, FT_SAVE_ALL, 0, NULL, &st), st);
    ft_parameters_close(&p);
}

static void verify_says_which_expert_was_changed(void **state)
{
    (void)state;
    house h;
    ft_status st = {0};
    int bad;
    build(&h, "touched", 3);
    touch(h.merged, "model.layers.1.mlp.experts.2.up_proj.weight");
    assert_ok(ft_experts_verify(h.merged, &bad, NULL, &st), st);
    assert_int_equal(bad, 2);
    touch(h.merged, "model.layers.0.self_attn.k_proj.weight");
    assert_ok(ft_experts_verify(h.merged, &bad, NULL, &st), st);
    assert_int_equal(bad, 0);
    assert_int_equal(ft_experts_add(h.merged, h.expert[0], ft_test_path("no"), &st), FT_ERR_FORMAT);
}

static void an_expert_of_another_public_model_is_refused_by_name(void **state)
{
    (void)state;
    house h;
    ft_status st = {0};
    build(&h, "other", 1);
    touch(h.public, "model.layers.1.self_attn.o_proj.weight");
    const char *pair = h.pair[1], *expert = h.expert[1];
    assert_int_equal(ft_experts_merge(h.public, &pair, 1, NULL, ft_test_path("no"), &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "model.layers.1.self_attn.o_proj.weight"));
    assert_int_equal(ft_experts_merge(h.public, &expert, 1, NULL, ft_test_path("no"), &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "public"));
}

static void a_pair_rounded_to_bfloat16_is_refused_with_what_to_give_instead(void **state)
{
    (void)state;
    char pair[600], expert[600];
    ft_parameters p;
    ft_status st = {0};
    const char *source = fixture_write("fine-source", &DENSE), *fine = ft_test_path("fine");
    const char *rounded = ft_test_path("rounded-pair");
    assert_ok(ft_parameters_open(&p, source, &st), st);
    p.embed->value[3] = 1.0F / 3; /* which bfloat16 does not hold */
    assert_ok(ft_model_export(&p, source, fine, 0, &st), st);
    ft_parameters_close(&p);
    make_pair(fine, "fine", 0.01F, pair, expert);
    assert_ok(ft_parameters_open(&p, pair, &st), st);
    assert_ok(ft_model_export(&p, pair, rounded, 1, &st), st);
    ft_parameters_close(&p);
    assert_int_equal(ft_experts_merge(fine, &rounded, 1, NULL, ft_test_path("no"), &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "model.embed_tokens.weight"));
    assert_non_null(strstr(st.msg, "rounded to bfloat16"));
}

/* Each field in turn, also those that no tensor shows. */
static void a_manifest_that_says_another_epsilon_or_owner_is_refused(void **state)
{
    (void)state;
    static const char *const changes[] = {"s/\"owner\": \"news\"/\"owner\": \"nobody\"/", "s/{/{ \"privacy\": 1,/",
                                          "s/\"public\": \"\\(.\\)/\"public\": \"0\\1/"};
    char command[3000], *err;
    for (size_t i = 0; i < 3; i++) {
        house h;
        build(&h, "says", 1);
        snprintf(command, sizeof(command), "sed -i '%s' %s/manifest.json && $FLEXTRACE merge --public %s %s -o %s",
                 changes[i], h.expert[0], h.public, h.expert[0], ft_test_path("no"));
        assert_int_equal(ft_test_shell(command, NULL, &err), 3);
        assert_non_null(strstr(err, "manifest.json: was changed"));
        free(err);
        snprintf(command, sizeof(command),
                 "$FLEXTRACE model verify %s && sed -i 's/\"owner\": \"news\"/\"owner\": "
                 "\"x\"/' %s/owners.json && $FLEXTRACE model verify %s",
                 h.merged, h.merged, h.merged);
        assert_int_equal(ft_test_shell(command, NULL, NULL), 1);
    }
}

static void a_manifest_that_was_tampered_with_is_refused(void **state)
{
    (void)state;
    house h;
    char path[700];
    size_t n;
    ft_status st = {0};
    build(&h, "manifest", 1);
    snprintf(path, sizeof(path), "%s/manifest.json", h.expert[0]);
    char *text = ft_test_read(path, &n), *at = strstr(text, "\"expert\": \"");
    assert_non_null(at);
    at[11] = at[11] == 'a' ? 'b' : 'a';
    assert_int_equal(ft_file_write(path, text, n, NULL), FT_OK);
    free(text);
    const char *expert = h.expert[0];
    assert_int_equal(ft_experts_merge(h.public, &expert, 1, NULL, ft_test_path("no"), &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "manifest.json"));
}

static void a_merge_in_bfloat16_verifies_and_keeps_its_type(void **state)
{
    (void)state;
    house h;
    char out[600], less[600];
    ft_status st = {0};
    int bad;
    build(&h, "half", 2);
    const char *experts[2] = {h.expert[0], h.expert[1]};
    snprintf(out, sizeof(out), "%s", ft_test_path("half-out"));
    snprintf(less, sizeof(less), "%s", ft_test_path("half-less"));
    assert_ok(ft_experts_merge(h.public, experts, 2, &(ft_merge_options){.bfloat16 = 1}, out, &st), st);
    assert_ok(ft_experts_verify(out, &bad, NULL, &st), st);
    assert_int_equal(bad, -1);
    assert_ok(ft_experts_remove(out, 1, less, &st), st);
    ft_model *m;
    assert_ok(ft_model_open(&m, less, &st), st);
    assert_string_equal(ft_model_get_sizes(m).weight_type, "bfloat16");
    ft_model_close(m);
    assert_ok(ft_experts_verify(less, &bad, NULL, &st), st);
    assert_int_equal(bad, -1);
}

static void the_commands_merge_verify_and_remove(void **state)
{
    (void)state;
    house h;
    char command[4096], *err;
    build(&h, "shell", 1);
    const char *out = ft_test_path("shell-out");
    snprintf(command, sizeof(command),
             "$FLEXTRACE merge --public %s %s %s -o %s && $FLEXTRACE model verify %s && "
             "$FLEXTRACE model remove %s --expert news -o %s-less && $FLEXTRACE model verify %s-less --json",
             h.public, h.expert[0], h.expert[2], out, out, out, out, out);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    touch(out, "model.layers.0.mlp.experts.1.up_proj.weight");
    snprintf(command, sizeof(command), "$FLEXTRACE model verify %s", out);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 1);
    snprintf(command, sizeof(command), "$FLEXTRACE model remove %s --expert nobody -o %s-x", out, out);
    assert_int_equal(ft_test_shell(command, NULL, &err), 2);
    assert_non_null(strstr(err, "nobody"));
    free(err);
}

static void refused(const house *h, const char *expert, const char *why)
{
    ft_status st = {0};
    assert_int_equal(ft_experts_merge(h->public, &expert, 1, NULL, ft_test_path("no"), &st), FT_ERR_FORMAT);
    if (!strstr(st.msg, why))
        fail_msg("'%s' does not say '%s'", st.msg, why);
}

/* A pair's tensor that is a row short, NaN, and a row 0 that is not the one beside the public model. */
static void a_tensor_of_another_shape_nan_or_another_public_row_is_refused_by_name(void **state)
{
    (void)state;
    house h;
    char path[700];
    ft_parameters p;
    ft_status st = {0};
    build(&h, "shapes", 1);
    snprintf(path, sizeof(path), "%s/model.safetensors", h.pair[1]);
    assert_ok(ft_parameters_open(&p, h.pair[1], &st), st);
    ft_parameter *up = &p.layers[1].experts[4];
    up->value[5] = NAN;
    assert_ok(ft_parameters_save(&p, path, FT_SAVE_ALL, 0, NULL, &st), st);
    refused(&h, h.pair[1], "model.layers.1.mlp.experts.1.up_proj.weight holds NaN");
    up->shape[0]--;
    up->count -= up->shape[1];
    assert_ok(ft_parameters_save(&p, path, FT_SAVE_ALL, 0, NULL, &st), st);
    refused(&h, h.pair[1], "model.layers.1.mlp.experts.1.up_proj.weight has another shape");
    ft_parameters_close(&p);
    float rows[2 * 16];
    for (size_t i = 0; i < 2 * 16; i++)
        rows[i] = (float)i;
    const ft_router_public r = {.layers = 2, .hidden = 16, .row = rows};
    snprintf(path, sizeof(path), "%s/router.safetensors", h.public);
    assert_ok(ft_router_public_save(&r, path, &st), st);
    refused(&h, h.expert[0], "model.layers.0.mlp.gate.weight: row 0");
}

static void what_is_there_already_is_neither_added_nor_written_over(void **state)
{
    (void)state;
    house h;
    char out[600];
    ft_status st = {0};
    build(&h, "twice", 2);
    snprintf(out, sizeof(out), "%s", ft_test_path("no"));
    const char *twice[] = {h.expert[0], h.pair[1], h.pair[0]}; /* one expert in both its forms */
    assert_int_equal(ft_experts_merge(h.public, twice, 3, NULL, out, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "is the same expert as"));
    assert_int_equal(ft_experts_add(h.merged, h.expert[1], out, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "is expert 2 of"));
    assert_int_equal(ft_experts_merge(h.public, twice, 1, NULL, h.public, &st), FT_ERR_ARG);
    assert_int_equal(ft_experts_merge(h.public, twice, 1, NULL, h.expert[0], &st), FT_ERR_ARG);
    assert_int_equal(ft_experts_add(h.merged, h.expert[2], h.merged, &st), FT_ERR_ARG);
    assert_int_equal(ft_experts_remove(h.merged, 1, h.merged, &st), FT_ERR_ARG);
}

static void exchange(json_t *a, json_t *b, const char *field)
{
    json_t *was = json_incref(json_object_get(a, field));
    json_object_set(a, field, json_object_get(b, field));
    json_object_set_new(b, field, was);
}

/* Who owns what: names exchanged alone, then with their manifests, of which expert 2, read from a pair, had none; and a
 * manifest that was taken away. */
static void owners_that_were_exchanged_do_not_verify(void **state)
{
    (void)state;
    static const int expected[] = {1, 2, FT_OWNERS_CHANGED, FT_OWNERS_CHANGED};
    for (int edit = 0; edit < 4; edit++) {
        house h;
        char path[700];
        int bad;
        json_t *o;
        ft_status st = {0};
        build(&h, "exchanged", 3);
        snprintf(path, sizeof(path), "%s/owners.json", h.merged);
        assert_ok(ft_json_read_file(&o, path, 1 << 20, &st), st);
        json_t *one = json_array_get(json_object_get(o, "experts"), 1),
               *other = json_array_get(json_object_get(o, "experts"), 2);
        if (edit < 2)
            exchange(one, other, "owner");
        if (edit == 1)
            exchange(one, other, "manifest");
        if (edit >= 2)
            json_object_set_new(one, "manifest", json_null());
        if (edit == 3) /* what would have shown it */
            json_object_del(o, "digest");
        char *text = json_dumps(o, JSON_INDENT(1));
        assert_int_equal(ft_file_write(path, text, strlen(text), NULL), FT_OK);
        free(text);
        json_decref(o);
        assert_ok(ft_experts_verify(h.merged, &bad, NULL, &st), st);
        assert_int_equal(bad, expected[edit]);
    }
}

static void an_owners_name_is_no_number_no_line_and_not_public(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "public", "2", "x\ny", "a,b", "\xff", "x\x7f", "\xc2\x85"};
    static const char *const good[] = {"news", "Klinik Nord 2", "\xc3\xa9tude", "public-2", "2b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_non_null(ft_owner_name_fault(bad[i]));
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        assert_null(ft_owner_name_fault(good[i]));
    char *err;
    assert_int_equal(ft_test_shell("$FLEXTRACE train expert --public p --corpus c --owner 2 -o x", NULL, &err), 2);
    assert_non_null(strstr(err, "--owner: the name is a number"));
    free(err);
}

static void the_demos_model_is_what_its_owners_file_says(void **state)
{
    (void)state;
    char command[600], *out;
    snprintf(command, sizeof(command), "$FLEXTRACE model verify %s", ft_test_source("demo/model"));
    assert_int_equal(ft_test_shell(command, &out, NULL), 0);
    assert_non_null(strstr(out, "all tensors are what owners.json says"));
    free(out);
}

/* The bytes of every tensor of a, but those of that name, stand in b. */
static void same_bytes(ft_weights *a, ft_weights *b, const char *but)
{
    size_t count, compared = 0;
    const ft_tensor *t = ft_weights_tensors(a, &count);
    for (size_t i = 0; i < count; i++) {
        if (but && strstr(t[i].name, but))
            continue;
        const ft_tensor *u = ft_weights_find(b, t[i].name);
        assert_non_null(u);
        assert_string_equal(t[i].dtype, u->dtype);
        assert_int_equal(t[i].bytes, u->bytes);
        assert_memory_equal(t[i].data, u->data, t[i].bytes);
        compared++;
    }
    assert_true(compared > 0);
}

static void the_demos_pieces_without_manifests_merge_to_its_model_bit_for_bit(void **state)
{
    (void)state;
    ft_test_need("models/demo/pieces/public/router.safetensors");
    static const char *const owners[] = {"scripture", "dictionary", "essays", "python", "database"};
    char command[4096], pieces[600], out[600], *text;
    ft_status st = {0};
    ft_weights *merged, *demo, *router;
    snprintf(pieces, sizeof(pieces), "%s", ft_test_shared("models/demo/pieces"));
    snprintf(out, sizeof(out), "%s", ft_test_path("demo-merged"));
    size_t n = (size_t)snprintf(command, sizeof(command),
                                "$FLEXTRACE merge --public %s/public --router %s/public/router.safetensors --bfloat16 "
                                "-o %s",
                                pieces, pieces, out);
    for (size_t i = 0; i < 5; i++)
        n += (size_t)snprintf(command + n, sizeof(command) - n, " %s/%s/expert.safetensors", pieces, owners[i]);
    snprintf(command + n, sizeof(command) - n, " && $FLEXTRACE model verify %s --json", out);
    assert_int_equal(ft_test_shell(command, &text, NULL), 0);
    for (size_t i = 0; i < 5; i++)
        assert_non_null(strstr(text, owners[i]));
    assert_non_null(strstr(text, "\"unverified\""));
    free(text);
    assert_ok(ft_weights_open(&merged, out, &st), st);
    assert_ok(ft_weights_open(&demo, ft_test_shared("models/demo"), &st), st);
    assert_ok(ft_weights_open_file(&router, ft_test_shared("models/demo/router-untuned.safetensors"), &st), st);
    size_t in_merged, in_demo;
    (void)ft_weights_tensors(merged, &in_merged);
    (void)ft_weights_tensors(demo, &in_demo);
    assert_int_equal(in_merged, in_demo);
    same_bytes(router, merged, NULL);
    same_bytes(demo, merged, ".mlp.gate.weight");
    ft_weights_close(merged);
    ft_weights_close(demo);
    ft_weights_close(router);
}

static void a_hand_over_with_its_own_row_alone_needs_the_public_one(void **state)
{
    (void)state;
    ft_test_need("models/demo/pieces/public/router.safetensors");
    char command[4096], folder[600], *err;
    snprintf(folder, sizeof(folder), "%s", ft_test_path("no-router"));
    snprintf(command, sizeof(command),
             "mkdir -p %s && cp %s/public/config.json %s/public/model.safetensors %s && "
             "$FLEXTRACE merge --public %s %s/essays/expert.safetensors -o %s-out",
             folder, ft_test_shared("models/demo/pieces"), ft_test_shared("models/demo/pieces"), folder, folder,
             ft_test_shared("models/demo/pieces"), folder);
    assert_int_equal(ft_test_shell(command, NULL, &err), 3);
    assert_non_null(strstr(err, "--router"));
    free(err);
    snprintf(command, sizeof(command), "%s-out", folder);
    assert_false(ft_path_exists(command));
}

/* An owner may hand its expert over packed: the merge has what the packed weights stand for, which is half a step of
 * their scale away at most, and what is not packed as it was. Packed again they are the same bytes. */
static void a_quantized_hand_over_merges(void **state)
{
    (void)state;
    static const fixture wide = {.hidden = 32,
                                 .intermediate = 64,
                                 .layers = 2,
                                 .heads = 2,
                                 .kv_heads = 2,
                                 .head_dim = 16,
                                 .vocab = 30,
                                 .config = ""};
    char pair[600], folder[600], whole[700], packed[600], merged[2][600], again[2][1300];
    ft_status st = {0};
    const char *public = fixture_write("packed-public", &wide);
    make_pair(public, "packed", 0.01f, pair, folder);
    snprintf(whole, sizeof(whole), "%s/model.safetensors", folder);
    snprintf(packed, sizeof(packed), "%s", ft_test_path("packed.safetensors"));
    const ft_convert_options how = {.to = FT_CONVERT_INT8, .threads = 1};
    ft_convert_result r;
    assert_ok(ft_convert(whole, packed, &how, &r, &st), st);
    ft_parameters p[2];
    for (size_t i = 0; i < 2; i++) {
        const char *expert = i ? packed : whole;
        snprintf(merged[i], sizeof(merged[i]), "%s", ft_test_path(i ? "merged-packed" : "merged-whole"));
        snprintf(again[i], sizeof(again[i]), "%s-int8", merged[i]);
        assert_ok(ft_experts_merge(public, &expert, 1, NULL, merged[i], &st), st);
        assert_ok(ft_parameters_open(&p[i], merged[i], &st), st);
        assert_ok(ft_convert(merged[i], again[i], &how, &r, &st), st);
    }
    int differ = 0;
    for (size_t i = 0; i < p[0].count; i++) {
        const ft_parameter *a = &p[0].all[i], *b = &p[1].all[i];
        float largest = 0;
        for (size_t k = 0; k < a->count; k++)
            largest = fabsf(a->value[k]) > largest ? fabsf(a->value[k]) : largest;
        const float most = strstr(a->name, ".experts.1.") ? largest / 254 * 1.01f : 0; /* a scale has 11 bits */
        for (size_t k = 0; k < a->count; k++) {
            if (fabsf(a->value[k] - b->value[k]) > most)
                fail_msg("%s: element %zu is %g, not %g", a->name, k, b->value[k], a->value[k]);
            differ |= a->value[k] != b->value[k];
        }
    }
    assert_true(differ);
    same_tensors(again[0], again[1]);
    for (size_t i = 0; i < 2; i++)
        ft_parameters_close(&p[i]);
}

/* The whole recipe by commands: a public model from scratch, two owners, a merge, router and joint training. */
static void the_recipe_runs_from_scratch_to_a_merged_model_that_generates(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    static const char config[] =
        "{\"architectures\":[\"Olmo2ForCausalLM\"],\"model_type\":\"olmo2\",\"hidden_size\":16,"
        "\"intermediate_size\":24,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
        "\"num_key_value_heads\":2,\"vocab_size\":4096,\"max_position_embeddings\":64,"
        "\"eos_token_id\":0,\"tie_word_embeddings\":false}";
    char root[600], start[620], command[8192], *out;
    snprintf(root, sizeof(root), "%s", ft_test_path("recipe"));
    snprintf(start, sizeof(start), "%s/start", root);
    assert_int_equal(ft_folder_make(start, NULL), FT_OK);
    fixture_put(start, "config.json", config, strlen(config));
    snprintf(
        command, sizeof(command),
        "cd %s && cp %s start && for d in public news law; do for i in 1 2 3 4 5 6 7 8; do "
        "echo \"{\\\"id\\\":\\\"$d$i\\\",\\\"text\\\":\\\"the $d of $i $d says that $d $i is $d and so on $i "
        "$i\\\"}\"; done > "
        "$d.jsonl; done && O='--steps 4 --batch 4 --micro 2 --length 16 --warmup 1 --threads 1' && "
        "$FLEXTRACE train public start --corpus public.jsonl -o public --constant-channel $O && "
        "$FLEXTRACE train expert --public public/model --corpus news.jsonl --public-corpus public.jsonl --owner news "
        "-o news $O && "
        "$FLEXTRACE train expert --public public/model --corpus law.jsonl --public-corpus public.jsonl --owner law "
        "-o law $O && "
        "$FLEXTRACE train expert --public public/model --corpus law.jsonl --owner ward -o ward $O --dp-clip 1 "
        "--noise-multiplier 2 --epsilon 20 --delta 1e-5 && grep -q '\"epsilon\"' ward/expert/manifest.json && "
        "test -s .law.jsonl.privacy-ledger && "
        "! grep -E '\"(loss|tokens|data|documents|fold)\"' ward/expert/manifest.json && "
        "grep -q '\"example\": \"at most 16 tokens' ward/expert/manifest.json && "
        "test -s public/model/router.safetensors && grep -q prefers-color-scheme news/curve.svg && "
        "grep -q bits_per_byte_folded news/expert/manifest.json && "
        "$FLEXTRACE train public public/model --corpus news.jsonl -o branch --constant-channel $O && "
        "$FLEXTRACE train public start --corpus public.jsonl -o plain $O && "
        "! $FLEXTRACE train public plain/model --corpus news.jsonl -o none --constant-channel $O && "
        "! $FLEXTRACE train joint public/model --experts 2 --constant-channel --corpus news.jsonl -o none $O && "
        "$FLEXTRACE train expert --public public/model --corpus news.jsonl --owner news -o kept --keep-bias $O && "
        "$FLEXTRACE merge --public public/model kept/expert law/expert -o biased && "
        "$FLEXTRACE model info biased | grep -q expert_bias && "
        "$FLEXTRACE model remove biased --expert news -o unbiased && "
        "$FLEXTRACE merge --public public/model law/expert -o alone && "
        "cmp unbiased/model.safetensors alone/model.safetensors && cmp unbiased/config.json alone/config.json && "
        "$FLEXTRACE merge --public public/model news/expert law/model -o merged && $FLEXTRACE model verify merged && "
        "$FLEXTRACE train router merged --corpus public.jsonl -o tuned $O && $FLEXTRACE model verify tuned/model && "
        "$FLEXTRACE train router merged --domain 0 --corpus public.jsonl --domain 1 --corpus news.jsonl "
        "--domain-loss 0.5 -o led $O && grep -q '\"domain\":[1-9]' led/metrics.jsonl && "
        "! $FLEXTRACE train router merged --domain 3 --corpus public.jsonl --domain-loss 0.5 -o none $O && "
        "$FLEXTRACE train router merged --corpus public.jsonl -o small $O --bfloat16 && "
        "$FLEXTRACE model verify small/model && "
        "$FLEXTRACE train joint public/model --experts 3 --corpus public.jsonl -o joint $O && "
        "$FLEXTRACE generate tuned/model -p the -n 3 --json",
        root, ft_test_shared("tokenizers/bytebpe-4k/tokenizer.json"));
    assert_int_equal(ft_test_shell(command, &out, NULL), 0);
    assert_non_null(strstr(out, "\"finish_reason\""));
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_merge_stacks_experts_and_rows_and_changes_nothing_shared),
        cmocka_unit_test(removing_and_adding_give_what_merging_would_have_given),
        cmocka_unit_test(verify_says_which_expert_was_changed),
        cmocka_unit_test(an_expert_of_another_public_model_is_refused_by_name),
        cmocka_unit_test(a_pair_rounded_to_bfloat16_is_refused_with_what_to_give_instead),
        cmocka_unit_test(a_manifest_that_says_another_epsilon_or_owner_is_refused),
        cmocka_unit_test(a_manifest_that_was_tampered_with_is_refused),
        cmocka_unit_test(a_merge_in_bfloat16_verifies_and_keeps_its_type),
        cmocka_unit_test(a_tensor_of_another_shape_nan_or_another_public_row_is_refused_by_name),
        cmocka_unit_test(what_is_there_already_is_neither_added_nor_written_over),
        cmocka_unit_test(owners_that_were_exchanged_do_not_verify),
        cmocka_unit_test(the_demos_model_is_what_its_owners_file_says),
        cmocka_unit_test(an_owners_name_is_no_number_no_line_and_not_public),
        cmocka_unit_test(the_commands_merge_verify_and_remove),
        cmocka_unit_test(the_demos_pieces_without_manifests_merge_to_its_model_bit_for_bit),
        cmocka_unit_test(a_hand_over_with_its_own_row_alone_needs_the_public_one),
        cmocka_unit_test(a_quantized_hand_over_merges),
        cmocka_unit_test(the_recipe_runs_from_scratch_to_a_merged_model_that_generates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
