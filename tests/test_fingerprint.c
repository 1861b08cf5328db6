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
    assert_ok(ft_model_digests_read(m, NULL, &d, &st), st);
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
    assert_int_equal(ft_model_digests_read(m, NULL, &d, &st), FT_ERR_IO);
    assert_non_null(strstr(st.msg, "replaced since"));
    const ft_digest after = ft_model_identity(m);
    assert_true(same(&before, &after)); /* it is still that model */
    ft_model_close(m);
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
    assert_int_equal(ft_model_digests_read(m, &progress, &d, &st), FT_ERR_CANCELLED);
    ft_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_expert_that_changes_changes_its_digest_and_the_models),
        cmocka_unit_test(shards_change_nothing_but_the_identity),
        cmocka_unit_test(files_that_were_replaced_are_not_read_for_the_open_model),
        cmocka_unit_test(reading_stops_when_it_is_told_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
