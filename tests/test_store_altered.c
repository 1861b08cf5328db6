/* A store whose bytes were altered: a command says so in a line, whatever LMDB's pages lead to. */
#include "tests/store_fixture.h"

#include <stdlib.h>

enum { TRACES = 200, ALTERATIONS = 60, PAGE = 4096 };

static void make_store(const char *folder)
{
    ft_random chance;
    ft_status st;
    ft_random_init(&chance, 5);
    ft_store *s = fixture_open(folder);
    for (unsigned i = 0; i < TRACES; i++) {
        char id[FT_TRACE_ID];
        fixture_id(id, UINT64_C(1800000000000) + i, i);
        json_t *t = fixture_trace(&chance, id);
        assert_ok(ft_store_put(s, id, t, NULL, &st), st);
        json_decref(t);
    }
    ft_store_close(s);
}

/* Mostly in a page's first bytes, where numbers of other pages and places of entries stand. */
static void alter(char *bytes, size_t n, ft_random *r)
{
    for (uint64_t k = 1 + ft_random_below(r, 30); k > 0; k--) {
        const size_t page = ft_random_below(r, n / PAGE) * PAGE;
        bytes[page + ft_random_below(r, ft_random_below(r, 2) ? 80 : PAGE)] = (char)ft_random_below(r, 256);
    }
}

static void no_alteration_kills_a_command(void **state)
{
    (void)state;
    char folder[600], path[700], command[1400], *err;
    size_t n, told = 0;
    ft_random r;
    snprintf(folder, sizeof(folder), "%s", ft_test_path("altered"));
    snprintf(path, sizeof(path), "%s/data.mdb", folder);
    make_store(folder);
    char *whole = ft_test_read(path, &n), *bytes = malloc(n);
    assert_non_null(bytes);
    snprintf(command, sizeof(command), "rm -f %s/journal && $FLEXTRACE audit export %s >/dev/null", folder, folder);
    for (uint64_t seed = 0; seed < ALTERATIONS; seed++) {
        ft_random_init(&r, seed);
        memcpy(bytes, whole, n);
        alter(bytes, n, &r);
        ft_test_write(path, bytes, n);
        const int code = ft_test_shell(command, NULL, &err);
        if (code != 0 && code != 3)
            fail_msg("seed %llu: exit %d: %s", (unsigned long long)seed, code, err);
        assert_true(code == 0 || strstr(err, "flextrace: "));
        told += code == 3;
        free(err);
    }
    assert_true(told > 0);
    free(bytes);
    free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_alteration_kills_a_command)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
