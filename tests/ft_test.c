#include "tests/ft_test.h"

#include "base/ft_file.h"

#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS = 8 };
static char slots[SLOTS][4096];
static unsigned next_slot;

static char *slot(void)
{
    return slots[next_slot++ % SLOTS];
}

const char *ft_test_shared(const char *path)
{
    const char *root = getenv("FLEXTRACE_SHARED");
    char *s = slot();
    snprintf(s, sizeof(slots[0]), "%s/%s", root ? root : FT_SOURCE_DIR "/../shared", path);
    return ft_path_exists(s) ? s : NULL;
}

const char *ft_test_source(const char *path)
{
    char *s = slot();
    snprintf(s, sizeof(slots[0]), "%s/%s", FT_SOURCE_DIR, path);
    return s;
}

static char folder[4096];

static void remove_folder(void)
{
    if (ft_folder_remove(folder, NULL) != FT_OK)
        fprintf(stderr, "cannot remove %s\n", folder);
}

const char *ft_test_folder(void)
{
    if (!folder[0]) {
        const char *root = getenv("TMPDIR");
        snprintf(folder, sizeof(folder), "%s/flextrace-test-XXXXXX", root ? root : "/tmp");
        if (!mkdtemp(folder)) {
            perror(folder);
            abort();
        }
        atexit(remove_folder);
    }
    return folder;
}

const char *ft_test_path(const char *name)
{
    char *s = slot();
    if (snprintf(s, sizeof(slots[0]), "%s/%s", ft_test_folder(), name) >= (int)sizeof(slots[0]))
        abort();
    return s;
}

const char *ft_test_write(const char *name, const void *bytes, size_t n)
{
    const char *path = name[0] == '/' ? name : ft_test_path(name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        abort();
    }
    return path;
}

char *ft_test_read(const char *path, size_t *n)
{
    ft_buffer b = {0};
    if (ft_file_read(path, 0, &b, NULL) != FT_OK)
        return NULL;
    if (n)
        *n = b.size;
    return b.data;
}

int ft_test_shell(const char *command, char **out, char **err)
{
    const char *out_path = ft_test_path("shell.out"), *err_path = ft_test_path("shell.err");
    char *line;
    if (asprintf(&line, "FLEXTRACE='%s'; { %s\n} >'%s' 2>'%s'", FT_BINARY, command, out_path, err_path) < 0)
        abort();
    const int rc = system(line);
    free(line);
    if (out)
        *out = ft_test_read(out_path, NULL);
    if (err)
        *err = ft_test_read(err_path, NULL);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : 128 + WTERMSIG(rc);
}

static _Thread_local long until_failure;
static _Thread_local int failed;

void ft_test_fail_allocation(long k)
{
    until_failure = k;
    failed = 0;
}

int ft_test_allocation_failed(void)
{
    return failed;
}

void ft_test_each_allocation_fails(ft_code (*attempt)(void *context, ft_status *st), void *context)
{
    for (long k = 1;; k++) {
        ft_status st = {0};
        ft_test_fail_allocation(k);
        const ft_code rc = attempt(context, &st);
        const int one_failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (!one_failed) {
            assert_ok(rc, st);
            return;
        }
        assert_int_equal(rc, FT_ERR_MEM);
        assert_true(st.msg[0]);
    }
}

static int fails_now(void)
{
    if (until_failure <= 0 || --until_failure > 0)
        return 0;
    failed = 1;
    return 1;
}

/* The linker sends our code's allocations here (--wrap); what libraries allocate is untouched. */
void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    return fails_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
    return fails_now() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails_now() ? NULL : __real_realloc(p, n);
}

void ft_test_tags_close(char *page, int empty)
{
    char *open[200];
    size_t depth = 0;
    for (char *tag = strchr(page, '<'); tag; tag = strchr(tag + 1, '<')) {
        if (tag[1] == '!' || !strncmp(tag, "<meta", 5) || !strncmp(tag, "<html", 5) || !strncmp(tag, "</html", 6) ||
            (empty && tag[strcspn(tag, ">") - 1] == '/'))
            continue;
        if (tag[1] != '/') {
            assert_in_range(depth, 0, 198);
            open[depth++] = tag;
            continue;
        }
        assert_true(depth > 0);
        depth--;
        const size_t closing = strcspn(tag + 2, ">");
        if (strncmp(open[depth] + 1, tag + 2, closing) != 0 || strcspn(open[depth] + 1, " />\n") != closing)
            fail_msg("%.20s closes %.20s", tag, open[depth]);
    }
    assert_int_equal(depth, 0);
}
