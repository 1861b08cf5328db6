/* ft_test: cmocka, and what the tests share. A test's name is a sentence about
 * behaviour. Data that the repository does not hold is looked for under
 * $FLEXTRACE_SHARED, or ../shared beside the sources; where it is absent the test
 * reports itself skipped. */
#ifndef FT_TEST_H
#define FT_TEST_H
#include "base/ft_status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Path below the shared data, or NULL when it is absent. One static buffer a call, eight in turn. */
const char *ft_test_shared(const char *path);
/* Skips the running test when the file is absent. */
#define ft_test_need(path)                                                                                             \
    do {                                                                                                               \
        if (!ft_test_shared(path))                                                                                     \
            skip();                                                                                                    \
    } while (0)
/* Path below the sources: "tests/vectors/…". */
const char *ft_test_source(const char *path);
/* A fresh folder that is removed when the process ends; and a path in it. */
const char *ft_test_folder(void);
const char *ft_test_path(const char *name);

/* Writes a file (into the fresh folder when `name` is relative) and returns its path. */
const char *ft_test_write(const char *name, const void *bytes, size_t n);
/* Whole file, NUL-terminated; the caller frees; NULL when it cannot be read. */
char *ft_test_read(const char *path, size_t *n);

/* Runs the flextrace binary through /bin/sh: "printf … | $FLEXTRACE tokenize …";
 * returns its exit code, with what it printed (caller frees; NULL allowed). */
int ft_test_shell(const char *command, char **out, char **err);

/* Fails unless a page's tags close in the order in which they opened, but for <meta> and <html>; `empty`: elements that
 * end themselves, as in SVG, may stand in it. */
void ft_test_tags_close(char *page, int empty);

/* The k-th allocation from now on (1 = the next), made by our own code in this
 * thread, fails; 0 switches off. ft_test_allocation_failed says whether it did. */
void ft_test_fail_allocation(long k);
int ft_test_allocation_failed(void);
/* Attempts it again and again, the k-th allocation of attempt k failing: each is FT_ERR_MEM with a
 * message, until all go well. An attempt releases what it took. */
void ft_test_each_allocation_fails(ft_code (*attempt)(void *context, ft_status *st), void *context);

/* Fails the test with the status' message when rc is not FT_OK. */
#define assert_ok(rc, st)                                                                                              \
    do {                                                                                                               \
        if ((rc) != FT_OK)                                                                                             \
            fail_msg("%s: %s", ft_code_name((st).code), (st).msg);                                                     \
    } while (0)
#endif
