/* Inputs that changed are told from those that did not. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "index/ft_input_fingerprint.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static void a_fingerprint_changes_with_any_file_and_with_nothing_else(void **state)
{
    (void)state;
    ft_status st;
    uint64_t first, again;
    assert_ok(ft_folder_make(ft_test_path("prints"), &st), st);
    assert_ok(ft_folder_make(ft_test_path("prints/deep"), &st), st);
    ft_test_write("prints/a", "1", 1);
    ft_test_write("prints/deep/b", "22", 2);
    const char *operands[] = {ft_test_path("prints"), ft_test_path("prints/a")};
    assert_ok(ft_input_fingerprint(operands, 2, &first, &st), st);
    assert_ok(ft_input_fingerprint(operands, 2, &again, &st), st);
    assert_true(first == again);
    assert_ok(ft_input_fingerprint(operands, 1, &again, &st), st);
    assert_true(first != again);
    /* From another folder, by a relative name. */
    char here[4096];
    assert_non_null(getcwd(here, sizeof(here)));
    assert_int_equal(chdir(ft_test_folder()), 0);
    assert_ok(ft_input_fingerprint((const char *[]){"prints", "./prints/a"}, 2, &again, &st), st);
    assert_int_equal(chdir(here), 0);
    assert_true(first == again);
    /* Same size, another time; another size, the same time; one file more. */
    const struct timespec times[2] = {{1000, 5}, {1000, 5}};
    assert_int_equal(utimensat(AT_FDCWD, ft_test_path("prints/deep/b"), times, 0), 0);
    assert_ok(ft_input_fingerprint(operands, 2, &again, &st), st);
    assert_true(first != again);
    first = again;
    ft_test_write("prints/deep/b", "333", 3);
    assert_int_equal(utimensat(AT_FDCWD, ft_test_path("prints/deep/b"), times, 0), 0);
    assert_ok(ft_input_fingerprint(operands, 2, &again, &st), st);
    assert_true(first != again);
    first = again;
    ft_test_write("prints/deep/c", "", 0);
    assert_ok(ft_input_fingerprint(operands, 2, &again, &st), st);
    assert_true(first != again);
    assert_int_equal(ft_input_fingerprint((const char *[]){ft_test_path("absent")}, 1, &again, &st), FT_ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fingerprint_changes_with_any_file_and_with_nothing_else),
    };
    return cmocka_run_group_tests_name("input_fingerprint", tests, NULL, NULL);
}
