/* Every change of an index, ended at any instant, leaves the old index or the new one, and
 * the same change again ends where an undisturbed one does, to the byte.
 *
 * The linker sends the calls by which our code changes the disk through this file (--wrap,
 * tests/CMakeLists.txt): a child process dies by SIGKILL at the k-th of them, or finds the
 * disk full from the k-th on. $FLEXTRACE_KILLS says at how many instants of all changes
 * together (default 48, and 20 for the command itself; 0: at every one). */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_npy.h"
#include "base/ft_random.h"
#include "index/ft_document_set.h"
#include "index/ft_index.h"
#include "index/ft_index_build.h"
#include "index/ft_index_update.h"
#include "text/ft_tokenizer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- Faults --------------------------------------------------------------------------- */

enum { NO_FAULT, DIE, DISK_FULL };

/* Seen by a child and its parent. */
static struct shared {
    int fault;
    atomic_long calls, at; /* the fault happens at call `at`, counted from 1 */
    ft_status st;          /* what the child's change failed with */
} *shared;

/* 1 when the disk is full. `writes`: only calls that need room find that. */
static int fault_now(int writes)
{
    if (!shared || shared->fault == NO_FAULT || (shared->fault == DISK_FULL && !writes))
        return 0;
    const long call = atomic_fetch_add(&shared->calls, 1) + 1;
    if (call < atomic_load(&shared->at))
        return 0;
    if (shared->fault == DIE)
        kill(getpid(), SIGKILL);
    errno = ENOSPC;
    return 1;
}

int __real_open(const char *path, int flags, ...);
FILE *__real_fopen(const char *path, const char *mode);
ssize_t __real_write(int fd, const void *bytes, size_t n);
ssize_t __real_pwrite(int fd, const void *bytes, size_t n, off_t at);
size_t __real_fwrite(const void *bytes, size_t size, size_t n, FILE *f);
int __real_fflush(FILE *f);
int __real_ftruncate(int fd, off_t n);
int __real_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __real_renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags);
int __real_unlink(const char *path);
int __real_remove(const char *path);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_open(const char *path, int flags, ...);
FILE *__wrap_fopen(const char *path, const char *mode);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t n, off_t at);
size_t __wrap_fwrite(const void *bytes, size_t size, size_t n, FILE *f);
int __wrap_fflush(FILE *f);
int __wrap_ftruncate(int fd, off_t n);
int __wrap_fsync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags);
int __wrap_unlink(const char *path);
int __wrap_remove(const char *path);
int __wrap_mkdir(const char *path, mode_t mode);

int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return (flags & O_CREAT) && fault_now(1) ? -1 : __real_open(path, flags, mode);
}

FILE *__wrap_fopen(const char *path, const char *mode)
{
    return mode[0] == 'w' && fault_now(1) ? NULL : __real_fopen(path, mode);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t n)
{
    return fault_now(1) ? -1 : __real_write(fd, bytes, n);
}

ssize_t __wrap_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    return fault_now(1) ? -1 : __real_pwrite(fd, bytes, n, at);
}

size_t __wrap_fwrite(const void *bytes, size_t size, size_t n, FILE *f)
{
    return __real_fwrite(bytes, size, n, f); /* of no consequence before the flush */
}

int __wrap_fflush(FILE *f)
{
    return fault_now(1) ? EOF : __real_fflush(f);
}

int __wrap_ftruncate(int fd, off_t n)
{
    return fault_now(1) ? -1 : __real_ftruncate(fd, n);
}

int __wrap_fsync(int fd)
{
    (void)fd;
    (void)fault_now(0);
    return 0; /* no power is cut here */
}

int __wrap_rename(const char *from, const char *to)
{
    (void)fault_now(0);
    return __real_rename(from, to);
}

int __wrap_renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    (void)fault_now(0);
    return __real_renameat2(from_folder, from, to_folder, to, flags);
}

int __wrap_unlink(const char *path)
{
    (void)fault_now(0);
    return __real_unlink(path);
}

int __wrap_remove(const char *path)
{
    (void)fault_now(0);
    return __real_remove(path);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    return fault_now(1) ? -1 : __real_mkdir(path, mode);
}

/* --- Corpora ----------------------------------------------------------------------------- */

enum { VOCAB = 300, FIRST_DOCUMENTS = 2500, SECOND_DOCUMENTS = 900, SMALL_DOCUMENTS = 20, THREADS = 2 };

typedef struct corpus {
    char tokens[200], offsets[200], documents[200];
} corpus;
static corpus first, second, small;

/* Documents from..from + count by id, some hundred tokens each, many of them alike. */
static void write_corpus(corpus *c, const char *name, size_t from, size_t count, uint64_t seed)
{
    ft_random r;
    ft_status st;
    ft_random_init(&r, seed);
    uint32_t *tokens = calloc(count * 200 + 1, sizeof(*tokens));
    uint64_t *offsets = calloc(count + 1, sizeof(*offsets));
    ft_buffer rows = {0};
    for (size_t d = 0; d < count; d++) {
        size_t at = (size_t)offsets[d], length = 20 + (size_t)ft_random_below(&r, 160);
        for (size_t i = 0; i < length; i++)
            tokens[at + i] = (uint32_t)ft_random_below(&r, d % 3 ? VOCAB : 3);
        if (d % 5 == 4)
            memmove(tokens + at, tokens + offsets[d - 2], (length / 2) * sizeof(*tokens));
        offsets[d + 1] = at + length;
        assert_ok(ft_buffer_printf(&rows, &st, "{\"id\":\"d%zu\",\"kind\":\"k%zu\"}\n", from + d, d % 4), st);
    }
    snprintf(c->tokens, sizeof(c->tokens), "%s.npy", ft_test_path(name));
    snprintf(c->offsets, sizeof(c->offsets), "%s-offsets.npy", ft_test_path(name));
    snprintf(c->documents, sizeof(c->documents), "%s.jsonl", ft_test_path(name));
    const size_t n = (size_t)offsets[count], ends = count + 1;
    assert_ok(ft_npy_write(c->tokens, FT_NPY_UINT32, 1, &n, tokens, &st), st);
    assert_ok(ft_npy_write(c->offsets, FT_NPY_UINT64, 1, &ends, offsets, &st), st);
    ft_test_write(c->documents, rows.data, rows.size);
    ft_buffer_release(&rows);
    free(tokens);
    free(offsets);
}

static unsigned threads = THREADS;

/* As little memory as can be, so that runs are spilled. */
static ft_index_build_options reading(const corpus *c)
{
    return (ft_index_build_options){.vocab_size = VOCAB,
                                    .end_of_text = FT_NO_TOKEN,
                                    .doc_offsets = c->offsets,
                                    .documents = c->documents,
                                    .memory_bytes = ft_index_writer_least(threads, VOCAB),
                                    .threads = threads};
}

/* --- Changes ----------------------------------------------------------------------------- */

typedef struct change {
    const char *name;
    const char *before; /* index that the change begins with; NULL: none */
    ft_code (*make)(const char *folder, const ft_progress *progress, ft_status *st);
    unsigned share; /* of the instants */
} change;

static ft_code make_first(const char *folder, const ft_progress *progress, ft_status *st)
{
    const char *operand = first.tokens;
    ft_index_build_options o = reading(&first);
    o.progress = progress ? *progress : (ft_progress){0};
    return ft_index_build(folder, &operand, 1, &o, NULL, st);
}

static ft_code make_small(const char *folder, const ft_progress *progress, ft_status *st)
{
    const char *operand = small.tokens;
    ft_index_build_options o = reading(&small);
    o.progress = progress ? *progress : (ft_progress){0};
    o.replace = 1;
    return ft_index_build(folder, &operand, 1, &o, NULL, st);
}

static ft_code add_second(const char *folder, const ft_progress *progress, ft_status *st)
{
    const char *operand = second.tokens;
    ft_index_build_options o = reading(&second);
    o.vocab_size = 0;
    o.progress = progress ? *progress : (ft_progress){0};
    return ft_index_add(folder, &operand, 1, &o, NULL, st);
}

static ft_code add_replacing(const char *folder, const ft_progress *progress, ft_status *st)
{
    const char *operand = second.tokens;
    ft_index_build_options o = reading(&second);
    o.vocab_size = 0;
    o.replace_documents = 1;
    o.progress = progress ? *progress : (ft_progress){0};
    return ft_index_add(folder, &operand, 1, &o, NULL, st);
}

static ft_code remove_kind(const char *folder, const ft_progress *progress, ft_status *st)
{
    ft_index_removal *r;
    ft_document_set set = {0};
    ft_doc_ref doc;
    ft_code rc = ft_index_removal_begin(&r, folder, THREADS, st);
    if (rc)
        return rc;
    rc = ft_document_set_init(&set, ft_index_removal_index(r), st);
    if (!rc)
        rc = ft_document_set_add_where(&set, "kind", "k1", progress, st);
    for (uint64_t from = 0; !rc && !ft_document_set_next(&set, from, &doc, st); from = doc.number + 1)
        rc = ft_index_removal_add(r, &doc, st);
    if (!rc)
        rc = ft_index_removal_commit(r, NULL, st);
    ft_document_set_release(&set);
    ft_index_removal_end(r);
    return rc;
}

static ft_code compact(const char *folder, const ft_progress *progress, ft_status *st)
{
    ft_index_compact_options o = {.threads = threads};
    o.progress = progress ? *progress : (ft_progress){0};
    return ft_index_compact(folder, &o, NULL, st);
}

static const change changes[] = {
    {"first", NULL, make_first, 14},         {"small", "first", make_small, 6},    {"added", "first", add_second, 10},
    {"replaced", "first", add_replacing, 6}, {"removed", "added", remove_kind, 6}, {"compacted", "removed", compact, 6},
};
enum { CHANGES = sizeof(changes) / sizeof(*changes) };

/* The index that an undisturbed change makes is kept under the change's name. */
static char kept[CHANGES][200];
static ft_digest roots[CHANGES];

static const change *change_of(const char *name)
{
    for (size_t i = 0; i < CHANGES; i++)
        if (!strcmp(changes[i].name, name))
            return &changes[i];
    return NULL;
}

static size_t number_of(const char *name)
{
    return (size_t)(change_of(name) - changes);
}

static void shell(const char *format, const char *a, const char *b)
{
    char command[1000], *out;
    snprintf(command, sizeof(command), format, a, b);
    const int code = ft_test_shell(command, &out, NULL);
    if (code)
        fail_msg("%s: %s", command, out);
    free(out);
}

/* A fresh copy of what the change begins with. */
static void prepare(const change *c, char *folder)
{
    snprintf(folder, 200, "%s", ft_test_path("changed"));
    shell("rm -rf %s %s.building", folder, folder);
    if (c->before)
        shell("cp -r %s %s", kept[number_of(c->before)], folder);
}

static int is_root(const ft_digest *d, const char *name)
{
    return name && !memcmp(d, &roots[number_of(name)], sizeof(*d));
}

/* 0: what was before; 1: what comes of it. Anything else fails the test. */
static int state_of(const change *c, const char *folder)
{
    ft_status st;
    ft_index *ix;
    const ft_code rc = ft_index_open(&ix, folder, &st);
    if (rc == FT_ERR_NOT_FOUND && !c->before)
        return 0;
    if (rc)
        fail_msg("%s: %s", c->name, st.msg);
    if (ft_index_verify(ix, &st) != FT_OK)
        fail_msg("%s: %s", c->name, st.msg);
    const ft_digest root = ft_index_get_info(ix).root;
    ft_index_close(ix);
    if (is_root(&root, c->name))
        return 1;
    if (!is_root(&root, c->before))
        fail_msg("%s: neither the old index nor the new one", c->name);
    return 0;
}

/* A change that changes nothing. */
static void touch(const char *folder)
{
    ft_status st;
    ft_index_removal *r;
    assert_ok(ft_index_removal_begin(&r, folder, THREADS, &st), st);
    assert_ok(ft_index_removal_commit(r, NULL, &st), st);
    ft_index_removal_end(r);
    shell("rm -rf %s%s", folder, "/work"); /* kept for an addition to go on with */
}

/* The change once more, unless it is made; then nothing differs from an undisturbed one. */
static void finish(const change *c, const char *folder)
{
    ft_status st;
    char building[300];
    const int made = state_of(c, folder);
    if (!made || c->make == compact || c->make == remove_kind) /* the last two are none where nothing is to be done */
        assert_ok(c->make(folder, NULL, &st), st);
    assert_int_equal(state_of(c, folder), 1);
    if (made && c->before) /* what a change left that died behind its manifest is the next one's business */
        touch(folder);
    shell("diff -r %s %s", kept[number_of(c->name)], folder);
    snprintf(building, sizeof(building), "%s.building", folder);
    assert_false(!made && ft_path_exists(building));
}

/* --- Children ------------------------------------------------------------------------------- */

/* Makes the change in a child, with a fault at its k-th call. Returns what waitpid gives. */
static int make_in_child(const change *c, const char *folder, int fault, long at)
{
    int code;
    atomic_store(&shared->calls, 0);
    atomic_store(&shared->at, at);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        shared->fault = fault; /* the parent only waits meanwhile */
        const ft_code rc = c->make(folder, NULL, &shared->st);
        _exit(rc == FT_OK ? 0 : 1);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &code, 0), child);
    shared->fault = NO_FAULT;
    return code;
}

static long count_calls(const change *c, int fault)
{
    char folder[200];
    prepare(c, folder);
    const int code = make_in_child(c, folder, fault, 1L << 40);
    assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
    finish(c, folder);
    return atomic_load(&shared->calls);
}

static long instants(const change *c, long calls)
{
    const char *all = getenv("FLEXTRACE_KILLS");
    const long wanted = (all ? atol(all) : 48) * (long)c->share / 48;
    return (all && atol(all) == 0) || wanted > calls ? calls : wanted < 1 ? 1 : wanted;
}

/* --- Tests ------------------------------------------------------------------------------------ */

static int make_all(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    write_corpus(&first, "corpus-1", 0, FIRST_DOCUMENTS, 1);
    write_corpus(&second, "corpus-2", FIRST_DOCUMENTS - 100, SECOND_DOCUMENTS, 2);
    write_corpus(&small, "corpus-3", 0, SMALL_DOCUMENTS, 3);
    for (size_t i = 0; i < CHANGES; i++) {
        ft_status st;
        ft_index *ix;
        char folder[200];
        prepare(&changes[i], folder);
        assert_ok(changes[i].make(folder, NULL, &st), st);
        snprintf(kept[i], sizeof(kept[i]), "%s", ft_test_path(changes[i].name));
        assert_int_equal(rename(folder, kept[i]), 0);
        assert_ok(ft_index_open(&ix, kept[i], &st), st);
        assert_ok(ft_index_verify(ix, &st), st);
        roots[i] = ft_index_get_info(ix).root;
        ft_index_close(ix);
    }
    return 0;
}

static void killed_at_any_instant_a_change_leaves_the_old_index_or_the_new_one(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 41);
    for (size_t i = 0; i < CHANGES; i++) {
        const change *c = &changes[i];
        const long calls = count_calls(c, DIE), wanted = instants(c, calls);
        unsigned seen[2] = {0};
        for (long k = 0; k < wanted; k++) {
            /* One instant of each of as many stretches. */
            const long from = calls * k / wanted, to = calls * (k + 1) / wanted;
            char folder[200];
            prepare(c, folder);
            int code = make_in_child(c, folder, DIE, from + 1 + (long)ft_random_below(&r, (uint64_t)(to - from)));
            if (WIFSIGNALED(code) && !state_of(c, folder) && ft_random_below(&r, 2)) /* and again */
                code = make_in_child(c, folder, DIE, 1 + (long)ft_random_below(&r, (uint64_t)calls));
            assert_true(WIFSIGNALED(code) ? WTERMSIG(code) == SIGKILL : WEXITSTATUS(code) == 0);
            seen[state_of(c, folder)]++;
            finish(c, folder);
        }
        assert_true(seen[0] > 0);
        printf("%s: of %ld calls, died at %ld: %u old, %u new\n", c->name, calls, wanted, seen[0], seen[1]);
    }
}

static void a_full_disk_is_said_and_leaves_the_old_index(void **state)
{
    (void)state;
    for (size_t i = 0; i < CHANGES; i++) {
        const change *c = &changes[i];
        const long calls = count_calls(c, DISK_FULL), wanted = instants(c, calls);
        for (long k = 0; k < wanted; k++) {
            char folder[200];
            prepare(c, folder);
            const int code = make_in_child(c, folder, DISK_FULL, 1 + calls * k / wanted);
            assert_true(WIFEXITED(code));
            if (WEXITSTATUS(code)) {
                if (shared->st.code != FT_ERR_IO || !strstr(shared->st.msg, "No space left on device"))
                    fail_msg("%s: %s: %s", c->name, ft_code_name(shared->st.code), shared->st.msg);
                assert_int_equal(state_of(c, folder), 0);
            }
            finish(c, folder);
        }
    }
}

/* --- Stops -------------------------------------------------------------------------------------- */

enum { PHASES = 12 };

typedef struct watch {
    char phases[PHASES][20]; /* that were seen, in order */
    size_t count;
    const char *stop; /* at this one; NULL: never */
} watch;

static int watch_phase(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)done;
    (void)total;
    (void)unit;
    watch *w = context;
    if (!w->count || strcmp(w->phases[w->count - 1], phase) != 0) {
        if (w->count == PHASES) /* phases that take turns */
            w->count--;
        snprintf(w->phases[w->count++], sizeof(w->phases[0]), "%s", phase);
    }
    return w->stop && !strcmp(w->stop, phase);
}

static int has_phase(const watch *w, const char *phase)
{
    for (size_t i = 0; i < w->count; i++)
        if (!strcmp(w->phases[i], phase))
            return 1;
    return 0;
}

static void stopped_in_any_phase_a_change_says_so_and_can_be_made_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < CHANGES; i++) {
        const change *c = &changes[i];
        char folder[200];
        ft_status st;
        watch all = {.count = 0}, stopped = {.count = 0};
        const ft_progress see = {watch_phase, &all}, stop = {watch_phase, &stopped};
        threads = 1; /* of several, the one that reports may come too late to see a phase */
        prepare(c, folder);
        assert_ok(c->make(folder, &see, &st), st);
        assert_true(all.count > 0);
        for (size_t p = 0; p < all.count; p++) {
            threads = 1;
            prepare(c, folder);
            stopped = (watch){.stop = all.phases[p]};
            assert_int_equal(c->make(folder, &stop, &st), FT_ERR_CANCELLED);
            assert_non_null(strstr(st.msg, "stopped"));
            assert_non_null(strstr(st.msg, folder));
            assert_int_equal(state_of(c, folder), 0);
            threads = THREADS;
            finish(c, folder);
        }
    }
}

static void a_build_that_was_stopped_in_the_merge_reads_nothing_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < CHANGES; i++) {
        const change *c = &changes[i];
        char folder[200];
        ft_status st;
        watch w = {.stop = "merge"};
        const ft_progress progress = {watch_phase, &w};
        if (c->make != make_first && c->make != add_second && c->make != add_replacing)
            continue;
        threads = 1;
        prepare(c, folder);
        assert_int_equal(c->make(folder, &progress, &st), FT_ERR_CANCELLED);
        assert_true(has_phase(&w, "read") && has_phase(&w, "sort"));
        w = (watch){.stop = "merge"}; /* twice */
        assert_int_equal(c->make(folder, &progress, &st), FT_ERR_CANCELLED);
        assert_false(has_phase(&w, "read"));
        w = (watch){.stop = NULL};
        assert_ok(c->make(folder, &progress, &st), st);
        assert_false(has_phase(&w, "read"));
        threads = THREADS;
        finish(c, folder);
    }
}

/* What changes the meaning of what was read makes it worthless. */
static void a_build_of_other_input_begins_anew(void **state)
{
    (void)state;
    char folder[200], *rows;
    size_t n;
    ft_status st;
    watch w = {.stop = "merge"};
    const ft_progress progress = {watch_phase, &w};
    threads = 1;
    prepare(&changes[0], folder);
    assert_int_equal(make_first(folder, &progress, &st), FT_ERR_CANCELLED);
    threads = THREADS;
    rows = ft_test_read(first.documents, &n); /* the descriptions alone */
    ft_buffer spaced = {0};
    assert_ok(ft_buffer_printf(&spaced, &st, "{ %s", rows + 1), st);
    ft_test_write(first.documents, spaced.data, spaced.size);
    ft_buffer_release(&spaced);
    w = (watch){.stop = NULL};
    assert_ok(make_first(folder, &progress, &st), st);
    assert_true(has_phase(&w, "read"));
    finish(&changes[0], folder);
    ft_test_write(first.documents, rows, n);
    free(rows);
}

/* --- Two at once ---------------------------------------------------------------------------------- */

static void a_second_change_at_once_is_refused(void **state)
{
    (void)state;
    for (size_t i = 1; i < CHANGES; i++) {
        const change *c = &changes[i];
        char folder[200];
        ft_status st;
        ft_index_removal *r;
        prepare(c, folder);
        assert_ok(ft_index_removal_begin(&r, folder, 1, &st), st);
        assert_int_equal(c->make(folder, NULL, &st), FT_ERR_ARG);
        assert_non_null(strstr(st.msg, "another program"));
        assert_int_equal(state_of(c, folder), 0);
        ft_index_removal_end(r);
        finish(c, folder);
    }
}

/* --- Kill -9 ---------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The command itself, killed after `after` seconds. Returns what waitpid gives. */
static int run_binary(char *const *argv, double after)
{
    int code;
    const pid_t child = fork();
    if (child == 0) {
        const int nowhere = __real_open("/dev/null", O_WRONLY);
        dup2(nowhere, 1);
        dup2(nowhere, 2);
        execv(FT_BINARY, argv);
        _exit(127);
    }
    assert_true(child > 0);
    const double from = seconds();
    while (waitpid(child, &code, WNOHANG) == 0) {
        if (seconds() - from >= after) {
            kill(child, SIGKILL);
            assert_int_equal(waitpid(child, &code, 0), child);
            break;
        }
        usleep(200);
    }
    return code;
}

static void the_command_killed_at_random_instants_leaves_the_old_index_or_the_new_one(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 43);
    char memory[40], vocabulary[20], workers[20];
    snprintf(memory, sizeof(memory), "%llu", (unsigned long long)ft_index_writer_least(THREADS, VOCAB));
    snprintf(vocabulary, sizeof(vocabulary), "%d", VOCAB);
    snprintf(workers, sizeof(workers), "%d", THREADS);
    static char flextrace[] = "flextrace", index[] = "index", folder[200], where[] = "kind=k1";
    char *const build[] = {flextrace,
                           index,
                           (char[]){"build"},
                           folder,
                           (char[]){"--vocab-size"},
                           vocabulary,
                           (char[]){"--threads"},
                           workers,
                           (char[]){"--memory"},
                           memory,
                           (char[]){"--doc-offsets"},
                           first.offsets,
                           (char[]){"--documents"},
                           first.documents,
                           first.tokens,
                           NULL};
    char *const add[] = {flextrace,
                         index,
                         (char[]){"add"},
                         folder,
                         (char[]){"--threads"},
                         workers,
                         (char[]){"--memory"},
                         memory,
                         (char[]){"--doc-offsets"},
                         second.offsets,
                         (char[]){"--documents"},
                         second.documents,
                         second.tokens,
                         NULL};
    char *const take[] = {
        flextrace, index, (char[]){"remove"}, folder, (char[]){"--threads"}, workers, (char[]){"--where"}, where, NULL};
    char *const merge[] = {flextrace, index, (char[]){"compact"}, folder, (char[]){"--threads"}, workers, NULL};
    static const char *const names[] = {"first", "added", "removed", "compacted"};
    char *const *const commands[] = {build, add, take, merge};
    const char *all = getenv("FLEXTRACE_KILLS");
    const long kills = all && atol(all) ? atol(all) / 4 : 5;
    for (size_t i = 0; i < 4; i++) {
        const change *c = change_of(names[i]);
        prepare(c, folder);
        const double from = seconds();
        assert_int_equal(run_binary(commands[i], 1000), 0);
        const double whole = seconds() - from;
        finish(c, folder);
        for (long k = 0; k < kills; k++) {
            prepare(c, folder);
            int code = run_binary(commands[i], whole * (double)ft_random_below(&r, 1000) / 900);
            if (!state_of(c, folder)) /* the same command goes on */
                code = run_binary(commands[i], 1000);
            assert_true(WIFSIGNALED(code) || WEXITSTATUS(code) == 0);
            assert_int_equal(state_of(c, folder), 1);
            finish(c, folder);
        }
    }
}

/* --- A disk that is really full ------------------------------------------------------------------------ */

/* In a mount namespace of its own, where the system lets us have one. */
static void a_small_disk_is_said_to_be_full_and_a_larger_one_does(void **state)
{
    (void)state;
    char command[3000], *out;
    const char *at = ft_test_path("disk");
    assert_int_equal(mkdir(at, 0777), 0);
    snprintf(command, sizeof(command), "unshare -m mount -t tmpfs -o size=1m none %s", at);
    if (ft_test_shell(command, NULL, NULL) != 0)
        skip();
    snprintf(
        command, sizeof(command),
        "unshare -m sh -c 'for size in 100 300 600 1000 1400 1800 2200 2600 3000; do mount -t tmpfs -o size=${size}k "
        "none %s; %s index build %s/x --vocab-size %d --threads 2 --memory %llu --doc-offsets %s --documents %s %s "
        "2>&1 | grep ^flextrace; test -d %s/x && echo whole; mount -o remount,size=50m %s; %s index build %s/x "
        "--vocab-size %d --threads 2 --memory %llu --doc-offsets %s --documents %s %s >/dev/null 2>&1 || "
        "test -d %s/x && diff -r %s/x %s || echo DIFFERS; umount %s; done'",
        at, FT_BINARY, at, VOCAB, (unsigned long long)ft_index_writer_least(THREADS, VOCAB), first.offsets,
        first.documents, first.tokens, at, at, FT_BINARY, at, VOCAB,
        (unsigned long long)ft_index_writer_least(THREADS, VOCAB), first.offsets, first.documents, first.tokens, at, at,
        kept[0], at);
    assert_int_equal(ft_test_shell(command, &out, NULL), 0);
    assert_null(strstr(out, "DIFFERS"));
    size_t full = 0, lines = 0;
    for (const char *line = out; *line; line = strchr(line, '\n') + 1, lines++)
        full += !strncmp(line, "flextrace: ", 11) && strstr(line, "No space left on device") < strchr(line, '\n') &&
                strstr(line, "No space left on device") != NULL;
    if (full < 3 || lines != 9)
        fail_msg("%s", out);
    free(out);
}

int main(void)
{
    /* Nothing is synced here; memory serves. */
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_instant_a_change_leaves_the_old_index_or_the_new_one),
        cmocka_unit_test(a_full_disk_is_said_and_leaves_the_old_index),
        cmocka_unit_test(stopped_in_any_phase_a_change_says_so_and_can_be_made_again),
        cmocka_unit_test(a_build_that_was_stopped_in_the_merge_reads_nothing_again),
        cmocka_unit_test(a_build_of_other_input_begins_anew),
        cmocka_unit_test(a_second_change_at_once_is_refused),
        cmocka_unit_test(the_command_killed_at_random_instants_leaves_the_old_index_or_the_new_one),
        cmocka_unit_test(a_small_disk_is_said_to_be_full_and_a_larger_one_does),
    };
    return cmocka_run_group_tests_name("index_crash", tests, make_all, NULL);
}
