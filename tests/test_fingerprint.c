/* What model/ft_fingerprint.h promises: whose digests change with what. */
#include "tests/model_fixture.h"

#include "model/ft_fingerprint.h"

#include <unistd.h>

static ft_model_digests digests_of(const char *folder, ft_digest *identity)
{
    ft_model *m;
    ft_status st = {0};
    ft_model_digests d;
    ft_digest whole;
    assert_ok(ft_model_open(&m, folder, &st), st);
    assert_ok(ft_model_digests_read(m, 0, NULL, &d, &st), st);
    assert_ok(ft_model_digest(m, &whole, &st), st);
    assert_memory_equal(&whole, &d.model, sizeof(whole)); /* one digest, whichever way it is read */
    *identity = ft_model_identity(m);
    ft_model_close(m);
    return d;
}

static int same(const ft_digest *a, const ft_digest *b)
{
    return !memcmp(a, b, sizeof(*a));
}

static void an_expert_that_changes_changes_its_digest_and_the_models(void **state)
{
    (void)state;
    char one[4096], two[4096];
    fixture f = FIXTURE;
    ft_digest x, y;
    strcpy(one, fixture_write("one", &f));
    f.poison = 1 << 3;
    strcpy(two, fixture_write("two", &f));
    const ft_model_digests a = digests_of(one, &x), b = digests_of(two, &y);
    assert_int_equal(a.expert_count, f.experts);
    assert_false(same(&a.model, &b.model));
    assert_true(same(&a.config, &b.config));
    for (size_t e = 0; e < a.expert_count; e++)
        assert_int_equal(same(&a.experts[e], &b.experts[e]), e != 3);
    assert_false(same(&x, &y)); /* other files */
}

static void shards_change_nothing_but_the_identity(void **state)
{
    (void)state;
    char one[4096], two[4096];
    fixture f = FIXTURE;
    ft_digest x, y;
    strcpy(one, fixture_write("whole", &f));
    f.shards = 3;
    strcpy(two, fixture_write("shards", &f));
    const ft_model_digests a = digests_of(one, &x), b = digests_of(two, &y);
    assert_true(same(&a.model, &b.model));
    assert_memory_equal(a.experts, b.experts, sizeof(a.experts));
    assert_false(same(&x, &y));
}

static void files_that_were_replaced_are_not_read_for_the_open_model(void **state)
{
    (void)state;
    ft_model *m;
    ft_status st = {0};
    ft_model_digests d;
    char folder[4096], weights[5000], other[5000];
    strcpy(folder, fixture_write("replaced", &FIXTURE));
    snprintf(weights, sizeof(weights), "%s/model.safetensors", folder);
    snprintf(other, sizeof(other), "%s/new", folder);
    assert_ok(ft_model_open(&m, folder, &st), st);
    const ft_digest before = ft_model_identity(m);
    size_t n;
    char *bytes = ft_test_read(weights, &n);
    ft_test_write(other, bytes, n);
    free(bytes);
    assert_int_equal(rename(other, weights), 0);
    assert_int_equal(ft_model_digests_read(m, 0, NULL, &d, &st), FT_ERR_IO);
    assert_non_null(strstr(st.msg, "replaced since"));
    const ft_digest after = ft_model_identity(m);
    assert_true(same(&before, &after)); /* it is still that model */
    ft_model_close(m);
}

static int count(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)phase, (void)unit;
    assert_true(done <= total);
    *(uint64_t *)context = done;
    return 0;
}

static ft_model_digests digests_without(const char *folder, uint64_t without, uint64_t *read)
{
    ft_model *m;
    ft_status st = {0};
    ft_model_digests d;
    const ft_progress progress = {count, read};
    assert_ok(ft_model_open(&m, folder, &st), st);
    assert_ok(ft_model_digests_read(m, without, &progress, &d, &st), st);
    ft_model_close(m);
    return d;
}

/* Changes the last byte of a tensor in model.safetensors. */
static void change(const char *folder, const char *name)
{
    char path[5000];
    uint64_t header;
    size_t n, begin, end;
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    char *bytes = ft_test_read(path, &n), *place = memmem(bytes, n, name, strlen(name));
    assert_non_null(place);
    memcpy(&header, bytes, sizeof(header));
    assert_int_equal(sscanf(strstr(place, "data_offsets"), "data_offsets\":[%zu,%zu]", &begin, &end), 2);
    bytes[8 + header + end - 1] ^= 1;
    ft_test_write(path, bytes, n);
    free(bytes);
}

/* In a layout of tensors for each expert, and in one where a tensor holds all of them, the last expert's at its end. */
static void experts_that_are_left_out_are_not_read_and_have_no_digest(void **state)
{
    (void)state;
    for (int fused = 0; fused < 2; fused++) {
        char folder[4096];
        fixture f = FIXTURE;
        uint64_t all, most, same_most;
        const size_t out = f.experts - 1;
        const ft_digest none = {{0}};
        f.fused = fused;
        strcpy(folder, fixture_write(fused ? "together" : "apart", &f));
        const ft_model_digests whole = digests_without(folder, 0, &all), a = digests_without(folder, 1 << out, &most);
        assert_int_equal(all - most, f.layers * 3 * f.hidden * f.intermediate * sizeof(float));
        assert_true(!same(&a.model, &whole.model) && a.unread == 1u << out && !whole.unread);
        for (size_t e = 0; e < a.expert_count; e++)
            assert_true(same(&a.experts[e], e == out ? &none : &whole.experts[e]));
        change(folder, fused ? "model.layers.1.mlp.experts.down_proj" : "model.layers.1.mlp.experts.4.down_proj.weight");
        const ft_model_digests b = digests_without(folder, 1 << out, &same_most), other = digests_without(folder, 0, &all);
        assert_true(same(&a.model, &b.model) && !same(&whole.model, &other.model));
        change(folder, fused ? "model.layers.1.self_attn.q_proj.weight" : "model.layers.1.mlp.experts.3.down_proj.weight");
        const ft_model_digests c = digests_without(folder, 1 << out, &same_most);
        assert_true(!same(&a.model, &c.model) && same(&a.experts[3], &c.experts[3]) == fused);
    }
}

static int stop(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)context, (void)phase, (void)unit;
    return done <= total;
}

static void reading_stops_when_it_is_told_to(void **state)
{
    (void)state;
    ft_model *m;
    ft_status st = {0};
    ft_model_digests d;
    const ft_progress progress = {stop, NULL};
    assert_ok(ft_model_open(&m, fixture_write("stopped", &FIXTURE), &st), st);
    assert_int_equal(ft_model_digests_read(m, 0, &progress, &d, &st), FT_ERR_CANCELLED);
    ft_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_expert_that_changes_changes_its_digest_and_the_models),
        cmocka_unit_test(shards_change_nothing_but_the_identity),
        cmocka_unit_test(files_that_were_replaced_are_not_read_for_the_open_model),
        cmocka_unit_test(experts_that_are_left_out_are_not_read_and_have_no_digest),
        cmocka_unit_test(reading_stops_when_it_is_told_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
