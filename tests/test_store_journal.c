/* What tracer/ft_store.h promises of acknowledged writes, where power is lost: they are synced, by one sync of the
 * disk. The calls by which LMDB and the journal change the disk go through this file, which can so make up what the
 * disk may hold after a loss of power at any moment. */
#include "tests/store_fixture.h"

#include "base/ft_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static ft_random chance;

/* --- What is written and synced ----------------------------------------------------------------------- */

enum { DATA, JOURNAL, FILES, SECTOR = 512 };
static const char *const file_names[FILES] = {"data.mdb", "journal"};

typedef struct event {
    int file, sync;
    uint64_t at, n;
    char *bytes;
} event;

static struct recording {
    int on;
    size_t syncs[FILES];
    event *events;
    size_t count, capacity;
} recording;

/* For LMDB's library too. */
#define IN_PLACE_OF_LIBC __attribute__((visibility("default")))
IN_PLACE_OF_LIBC ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at);
IN_PLACE_OF_LIBC ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t at);
IN_PLACE_OF_LIBC ssize_t writev(int fd, const struct iovec *v, int count);
IN_PLACE_OF_LIBC int fdatasync(int fd);

static int file_of(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof(path) - 1);
    path[n < 0 ? 0 : n] = '\0';
    for (int f = 0; f < FILES; f++)
        if (strrchr(path, '/') && !strcmp(strrchr(path, '/') + 1, file_names[f]))
            return f;
    return FILES;
}

static void record(int fd, int sync, const void *bytes, uint64_t n, uint64_t at)
{
    const int file = file_of(fd);
    if (!recording.on || file == FILES)
        return;
    if (recording.count == recording.capacity) {
        recording.capacity = 2 * recording.capacity + 1000;
        recording.events = realloc(recording.events, recording.capacity * sizeof(event));
        assert_non_null(recording.events);
    }
    event *e = &recording.events[recording.count++];
    *e = (event){file, sync, at, n, NULL};
    recording.syncs[file] += sync != 0;
    if (n) {
        e->bytes = malloc(n);
        assert_non_null(e->bytes);
        memcpy(e->bytes, bytes, n);
    }
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    const ssize_t done = syscall(SYS_pwrite64, fd, bytes, n, at);
    if (done > 0)
        record(fd, 0, bytes, (uint64_t)done, (uint64_t)at);
    if (done > 0 && fcntl(fd, F_GETFL) & O_DSYNC)
        record(fd, 1, NULL, 0, 0);
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t at)
{
    return pwrite(fd, bytes, n, at);
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
    off_t at = lseek(fd, 0, SEEK_CUR);
    const ssize_t done = syscall(SYS_writev, fd, v, count);
    for (ssize_t i = 0, left = done; i < count && left > 0; i++) {
        const size_t n = (size_t)left < v[i].iov_len ? (size_t)left : v[i].iov_len;
        record(fd, 0, v[i].iov_base, n, (uint64_t)at);
        at += (off_t)n;
        left -= (ssize_t)n;
    }
    return done;
}

int fdatasync(int fd)
{
    const int rc = (int)syscall(SYS_fdatasync, fd);
    if (!rc)
        record(fd, 1, NULL, 0, 0);
    return rc;
}

static void forget_recording(void)
{
    for (size_t i = 0; i < recording.count; i++)
        free(recording.events[i].bytes);
    free(recording.events);
    memset(&recording, 0, sizeof(recording));
}

/* --- A store that is worked with ---------------------------------------------------------------------------- */

/* An n-th id; ids stand in order of their numbers. */
static void id_of(char id[FT_TRACE_ID], unsigned n)
{
    fixture_id(id, UINT64_C(5000000) + n * UINT64_C(1000), n);
}

static ft_code put(ft_store *s, unsigned n, size_t bytes, ft_status *st)
{
    char id[FT_TRACE_ID];
    id_of(id, n);
    json_t *t = fixture_trace(&chance, id);
    char *text = malloc(bytes + 1);
    for (size_t i = 0; i < bytes; i++)
        text[i] = (char)('0' + ft_random_below(&chance, 64));
    text[bytes] = '\0';
    for (char *p = text; *p; p++)
        *p = *p == '\\' ? '_' : *p;
    json_object_set_new(t, "bulk", json_string(text));
    const ft_code rc = ft_store_put(s, id, t, NULL, st);
    free(text);
    json_decref(t);
    return rc;
}

static void redact(ft_store *s, unsigned n)
{
    char id[FT_TRACE_ID];
    id_of(id, n);
    json_t *t = fixture_trace(&chance, id);
    const ft_code rc = ft_store_redact(s, id, t, NULL);
    assert_true(rc == FT_OK || rc == FT_ERR_NOT_FOUND);
    json_decref(t);
}

static void take_out(ft_store *s, unsigned n)
{
    char id[FT_TRACE_ID];
    id_of(id, n);
    const ft_code rc = ft_store_remove(s, id, NULL);
    assert_true(rc == FT_OK || rc == FT_ERR_NOT_FOUND);
}

/* A child writes and ends without closing: a kill. Then what is left is read. */
static void leave_records(const char *folder, unsigned from, unsigned to)
{
    const pid_t child = fork();
    if (child == 0) {
        ft_store *s;
        if (ft_store_open(&s, folder, 0, NULL) != FT_OK)
            _exit(1);
        for (unsigned i = from; i < to; i++)
            if (put(s, i, 5000, NULL) != FT_OK)
                _exit(2);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

static size_t traces_in(ft_store *s)
{
    ft_store_sizes sizes;
    assert_int_equal(ft_store_get_sizes(s, &sizes, NULL), FT_OK);
    return (size_t)sizes.traces;
}

static void expect_traces(const char *folder, size_t n)
{
    ft_store *s = fixture_open(folder);
    assert_int_equal(traces_in(s), n);
    fixture_assert_good(s);
    ft_store_close(s);
}

/* Journal's file: two heads in two blocks, then records. */
enum { BLOCK = 4096, RECORDS = 2 * BLOCK };

/* --- Loss of power ------------------------------------------------------------------------------------------ */

/* What must be there when `event` events had happened. */
typedef struct promise {
    size_t event;
    ft_store_heads heads;
    unsigned note;
} promise;
enum { STEPS = 420 };
static promise promises[STEPS + 1];

static void keep_promise(ft_store *s, size_t step, unsigned note)
{
    promises[step] = (promise){.event = recording.count, .note = note};
    assert_int_equal(ft_store_get_heads(s, &promises[step].heads, NULL), FT_OK);
}

static ft_code add_receipt(ft_store *s, unsigned n)
{
    char id[FT_TRACE_ID];
    id_of(id, n);
    memcpy(id, "rcp_", 4);
    return ft_store_receipt_add(s, id, &n, sizeof(n), NULL, NULL);
}

/* All kinds of changes, more of them than records are kept; now and then one too large for the journal, or a new
 * opening. */
static ft_store *work(ft_store *s, const char *folder)
{
    unsigned made = 1000, note = 0;
    for (size_t step = 1; step <= STEPS; step++) {
        const unsigned what = (unsigned)ft_random_below(&chance, 23), old = (unsigned)ft_random_below(&chance, made);
        if (step % 150 == 0)
            assert_int_equal(put(s, made++, 6 << 20, NULL), FT_OK);
        else if (step % 97 == 0) {
            ft_store_close(s);
            s = fixture_open(folder);
        } else if (what < 11)
            assert_int_equal(put(s, made++, ft_random_below(&chance, 20000), NULL), FT_OK);
        else if (what < 13)
            redact(s, made - 1 - old % 20);
        else if (what < 15)
            take_out(s, made - 1 - old % 20);
        else if (what < 18)
            assert_int_equal(ft_store_log_as(s, "line", "alice", "asked", json_pack("{s:i}", "step", (int)step), NULL),
                             FT_OK);
        else if (what >= 20) /* one of them twice, now and then */
            assert_int_equal(add_receipt(s, old % 500), FT_OK);
        else {
            note++;
            assert_int_equal(ft_store_note_put(s, "note", &note, sizeof(note), NULL), FT_OK);
        }
        keep_promise(s, step, note);
    }
    return s;
}

/* The file as a disk may hold it after the first `count` events: what was synced, and any sectors of what came after.
 */
static void write_image(const char *path, int file, const char *first, size_t first_bytes, size_t count)
{
    size_t synced = 0, n = first_bytes;
    for (size_t i = 0; i < count; i++) {
        const event *e = &recording.events[i];
        synced = e->file == file && e->sync ? i : synced;
        n = e->file == file && e->at + e->n > n ? e->at + e->n : n;
    }
    char *image = calloc(1, n);
    assert_non_null(image);
    memcpy(image, first, first_bytes);
    const unsigned kept = (unsigned)ft_random_below(&chance, 5); /* of four sectors */
    for (size_t i = 0; i < count; i++) {
        const event *e = &recording.events[i];
        if (e->file != file || e->sync)
            continue;
        for (uint64_t at = 0, m; at < e->n; at += m) {
            m = SECTOR - (e->at + at) % SECTOR;
            m = m < e->n - at ? m : e->n - at;
            if (i < synced || ft_random_below(&chance, 4) < kept)
                memcpy(image + e->at + at, e->bytes + at, m);
        }
    }
    ft_test_write(path, image, n);
    free(image);
}

static void expect_promise(const char *folder, size_t now)
{
    size_t step = 0;
    while (step < STEPS && promises[step + 1].event <= now)
        step++;
    ft_status st;
    ft_store *s;
    if (ft_store_open(&s, folder, 0, &st) != FT_OK)
        fail_msg("event %zu of %zu, step %zu: %s", now, recording.count, step, st.msg);
    fixture_assert_good(s);
    ft_store_heads heads;
    unsigned note = 0;
    ft_buffer value = {0};
    assert_int_equal(ft_store_get_heads(s, &heads, NULL), FT_OK);
    if (ft_store_note_get(s, "note", &value, NULL) == FT_OK && value.size == sizeof(note))
        memcpy(&note, value.data, sizeof(note));
    ft_buffer_release(&value);
    int fits = 0; /* what was on its way may be there */
    for (size_t i = step; i <= step + 1 && i <= STEPS; i++)
        fits |= !memcmp(&heads, &promises[i].heads, sizeof(heads)) && note == promises[i].note;
    if (!fits)
        fail_msg("event %zu of %zu: after step %zu log and ledger had %d and %d lines, now %d and %d", now,
                 recording.count, step, (int)promises[step].heads.log_count, (int)promises[step].heads.ledger_count,
                 (int)heads.log_count, (int)heads.ledger_count);
    assert_int_equal(put(s, 900000, 100, NULL), FT_OK);
    ft_store_close(s);
}

static void a_loss_of_power_at_any_instant_loses_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    char folder[4096], files[FILES][4096];
    strcpy(folder, ft_test_path("power"));
    strcpy(files[DATA], ft_test_path("power/data.mdb"));
    strcpy(files[JOURNAL], ft_test_path("power/journal"));
    ft_store *s = fixture_open(folder);
    for (unsigned i = 0; i < 150; i++)
        assert_int_equal(put(s, i, 3000, NULL), FT_OK);
    for (unsigned i = 0; i < 100; i++) /* many pages are free */
        take_out(s, i);
    ft_store_close(s);
    size_t bytes[FILES];
    char *first[FILES];
    for (int f = 0; f < FILES; f++)
        assert_non_null(first[f] = ft_test_read(files[f], &bytes[f]));
    s = fixture_open(folder);
    recording.on = 1;
    keep_promise(s, 0, 0);
    s = work(s, folder);
    recording.on = 0;
    ft_store_close(s);
    const char *rounds = getenv("FT_POWER_ROUNDS");
    for (int round = 0; round < (rounds ? atoi(rounds) : 60); round++) {
        const size_t now = round ? ft_random_below(&chance, recording.count + 1) : recording.count;
        for (int f = 0; f < FILES; f++)
            write_image(files[f], f, first[f], bytes[f], now);
        unlink(ft_test_path("power/lock.mdb"));
        expect_promise(folder, now);
    }
    for (int f = 0; f < FILES; f++)
        free(first[f]);
    forget_recording();
}

static void a_write_costs_one_sync_of_the_disk(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("one sync"));
    assert_int_equal(put(s, 0, 10, NULL), FT_OK);
    recording.on = 1;
    for (unsigned i = 1; i <= 50; i++)
        assert_int_equal(put(s, i, 10000, NULL), FT_OK);
    assert_int_equal(recording.syncs[JOURNAL], 50);
    assert_int_equal(recording.syncs[DATA], 0);
    for (unsigned i = 51; i <= 500; i++)
        assert_int_equal(put(s, i, 1000, NULL), FT_OK);
    assert_true(recording.syncs[JOURNAL] < 510);
    assert_true(recording.syncs[DATA] >= 3 && recording.syncs[DATA] < 8); /* from time to time */
    recording.on = 0;
    forget_recording();
    ft_store_close(s);
}

/* --- Kills ------------------------------------------------------------------------------------------------- */

static pid_t start_writer(const char *folder, unsigned from, int *end)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        ft_store *s;
        if (ft_store_open(&s, folder, 0, NULL) != FT_OK)
            _exit(1);
        for (unsigned i = from;; i++)
            if (put(s, i, ft_random_below(&chance, 4000), NULL) != FT_OK || write(ends[1], &i, sizeof(i)) != sizeof(i))
                _exit(2);
    }
    close(ends[1]);
    *end = ends[0];
    return child;
}

static void kill_writer(pid_t child)
{
    int status;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
}

static void expect_told(ft_store *s, int end)
{
    unsigned n;
    while (read(end, &n, sizeof(n)) == sizeof(n)) {
        char id[FT_TRACE_ID];
        ft_buffer text = {0};
        ft_status st;
        id_of(id, n);
        assert_ok(ft_store_get_text(s, id, &text, &st), st);
        ft_buffer_release(&text);
    }
    close(end);
}

/* One writes all the time, the other is killed again and again; then the first is too, and both logs must be there. */
static void of_two_writers_either_may_be_killed(void **state)
{
    (void)state;
    enum { ROUNDS = 12 };
    char folder[4096];
    int ends[ROUNDS + 1];
    strcpy(folder, ft_test_path("two"));
    ft_store_close(fixture_open(folder));
    const pid_t steady = start_writer(folder, 0, &ends[ROUNDS]);
    for (unsigned round = 0; round < ROUNDS; round++) {
        const pid_t other = start_writer(folder, (round + 1) * 1000000, &ends[round]);
        usleep((useconds_t)(20000 + ft_random_below(&chance, 60000)));
        kill_writer(other);
    }
    kill_writer(steady);
    ft_store *s = fixture_open(folder);
    for (int i = 0; i <= ROUNDS; i++)
        expect_told(s, ends[i]);
    fixture_assert_good(s);
    ft_store_close(s);
}

/* Log and ledger are what they were when their heads were taken, although the records were carried out again. */
static void heads_that_were_handed_out_hold_after_a_kill(void **state)
{
    (void)state;
    char folder[4096];
    ft_store_heads before, after;
    int ends[2];
    strcpy(folder, ft_test_path("heads"));
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        ft_store *s = fixture_open(folder);
        for (unsigned i = 0; i < 20; i++)
            if (put(s, i, 100, NULL) || add_receipt(s, i) || ft_store_log(s, "alice", "asked", json_pack("{s:i}", "n", (int)i), NULL))
                _exit(1);
        redact(s, 3);
        take_out(s, 4);
        _exit(ft_store_get_heads(s, &before, NULL) || write(ends[1], &before, sizeof(before)) != sizeof(before));
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], &before, sizeof(before)), sizeof(before));
    usleep(3000);
    ft_store *s = fixture_open(folder);
    assert_int_equal(ft_store_get_heads(s, &after, NULL), FT_OK);
    assert_memory_equal(&before, &after, sizeof(before));
    fixture_assert_good(s);
    ft_store_close(s);
    close(ends[0]);
    close(ends[1]);
}

/* --- Damage -------------------------------------------------------------------------------------------------- */

/* Where the records end: blocks that are zero follow. */
static size_t end_of(const char *journal, size_t n)
{
    size_t end = n;
    while (end > RECORDS && journal[end - 1] == '\0')
        end--;
    return (end + BLOCK - 1) / BLOCK * BLOCK;
}

/* The files that a killed process left: the journal can be changed, and both be put there again. */
typedef struct left_files {
    const char *folder; /* a name below the test's */
    char *journal, *data;
    size_t journal_bytes, data_bytes;
} left_files;

static const char *in_left(const left_files *l, const char *name)
{
    char path[100];
    snprintf(path, sizeof(path), "%s/%s", l->folder, name);
    return ft_test_path(path);
}

static left_files left_of(const char *name, unsigned traces)
{
    char folder[4096];
    left_files l = {.folder = name};
    strcpy(folder, ft_test_path(name));
    leave_records(folder, 0, traces);
    l.journal = ft_test_read(in_left(&l, "journal"), &l.journal_bytes);
    l.data = ft_test_read(in_left(&l, "data.mdb"), &l.data_bytes);
    return l;
}

static void put_left(const left_files *l)
{
    char name[100];
    snprintf(name, sizeof(name), "%s/journal", l->folder);
    ft_test_write(name, l->journal, l->journal_bytes);
    snprintf(name, sizeof(name), "%s/data.mdb", l->folder);
    ft_test_write(name, l->data, l->data_bytes);
    unlink(in_left(l, "lock.mdb"));
}

static void free_left(left_files *l)
{
    free(l->journal);
    free(l->data);
}

static void a_flipped_bit_in_the_journal_is_refused_or_harmless(void **state)
{
    (void)state;
    char folder[4096];
    enum { TRACES = 8 };
    strcpy(folder, ft_test_path("flipped"));
    left_files left = left_of("flipped", TRACES);
    size_t refused = 0;
    char *journal = left.journal;
    const size_t end = end_of(journal, left.journal_bytes);
    assert_true(end > RECORDS + TRACES * BLOCK);
    for (int round = 0; round < 120; round++) {
        const size_t at =
            round < 40 ? (size_t)round * 211 % RECORDS : RECORDS + ft_random_below(&chance, end - RECORDS);
        journal[at] ^= (char)(1 << round % 8);
        put_left(&left);
        journal[at] ^= (char)(1 << round % 8);
        ft_store *s;
        ft_status st;
        const ft_code rc = ft_store_open(&s, folder, 0, &st);
        refused += rc != FT_OK;
        if (!rc) { /* between records, or in one of the heads */
            assert_int_equal(traces_in(s), TRACES);
            fixture_assert_good(s);
            ft_store_close(s);
            continue;
        }
        assert_int_equal(rc, FT_ERR_FORMAT);
        assert_true(at >= RECORDS);
        assert_non_null(strstr(st.msg, "journal: byte"));
        size_t k;
        char *now = ft_test_read(ft_test_path("flipped/data.mdb"), &k); /* refused before anything was changed */
        assert_true(k == left.data_bytes && !memcmp(now, left.data, k));
        free(now);
    }
    assert_true(refused > 40);
    memset(journal, 'x', RECORDS);
    ft_test_write("flipped/journal", journal, left.journal_bytes);
    ft_store *s;
    ft_status st;
    assert_int_equal(ft_store_open(&s, folder, 0, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "remove it"));
    free_left(&left);
}

/* As the error says: without the file, where power was not lost, all is there; cut, what stood before. */
static void a_damaged_journal_can_be_done_without(void **state)
{
    (void)state;
    char folder[4096];
    enum { TRACES = 8 };
    strcpy(folder, ft_test_path("cut"));
    left_files left = left_of("cut", TRACES);
    unlink(ft_test_path("cut/journal"));
    expect_traces(folder, TRACES);
    for (int first = 0; first < 2; first++) {
        ft_status st;
        ft_store *s;
        unsigned long at;
        left.journal[RECORDS + (first ? 100 : 20000)] ^= 4;
        put_left(&left);
        assert_int_equal(ft_store_open(&s, folder, 0, &st), FT_ERR_FORMAT);
        assert_int_equal(sscanf(strstr(st.msg, "byte "), "byte %lu", &at), 1);
        assert_int_equal(truncate(ft_test_path("cut/journal"), (off_t)at), 0);
        s = fixture_open(folder);
        assert_true(first ? traces_in(s) == 0 : traces_in(s) > 0 && traces_in(s) < TRACES);
        fixture_assert_good(s);
        assert_int_equal(put(s, 100, 1000, NULL), FT_OK);
        ft_store_close(s);
        struct stat file;
        assert_int_equal(stat(ft_test_path("cut/journal"), &file), 0);
        assert_int_equal(file.st_size, left.journal_bytes);
    }
    free_left(&left);
}

static void a_torn_record_is_dropped(void **state)
{
    (void)state;
    char folder[4096];
    enum { TRACES = 5 };
    strcpy(folder, ft_test_path("torn"));
    left_files left = left_of("torn", TRACES);
    char *journal = left.journal;
    const size_t end = end_of(journal, left.journal_bytes);
    /* A sixth record, whose transaction was never committed, torn anywhere. */
    for (int round = 0; round < 20; round++) {
        const size_t torn = ft_random_below(&chance, 3 * BLOCK);
        for (size_t i = 0; i < torn; i++)
            journal[end + i] = i < 64 ? journal[RECORDS + i] : (char)ft_random_below(&chance, 256);
        put_left(&left);
        expect_traces(folder, TRACES);
    }
    free_left(&left);
}

static void a_journal_that_belongs_to_another_store_is_refused(void **state)
{
    (void)state;
    char one[4096], other[4096];
    strcpy(one, ft_test_path("one"));
    strcpy(other, ft_test_path("other"));
    ft_store *s = fixture_open(one);
    assert_int_equal(put(s, 1, 10, NULL), FT_OK);
    ft_store_close(s);
    size_t n, m, k;
    char *early = ft_test_read(ft_test_path("one/data.mdb"), &m); /* a copy from before */
    leave_records(one, 2, 6);
    leave_records(other, 2, 6);
    char *journal = ft_test_read(ft_test_path("one/journal"), &n);
    ft_test_write("other/journal", journal, n);
    ft_status st;
    assert_int_equal(ft_store_open(&s, other, 0, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "belongs to another"));
    unlink(ft_test_path("other/journal"));
    expect_traces(other, 4);
    char *late = ft_test_read(ft_test_path("one/data.mdb"), &k);
    expect_traces(one, 5); /* settled */
    ft_test_write("one/data.mdb", late, k);
    unlink(ft_test_path("one/lock.mdb"));
    expect_traces(one, 5); /* the journal has nothing for it: left as it is */
    s = fixture_open(one);
    for (unsigned i = 10; i < 20; i++)
        assert_int_equal(put(s, i, 10, NULL), FT_OK);
    ft_store_close(s);
    leave_records(one, 20, 22);
    ft_test_write("one/data.mdb", early, m); /* beside the journal of a later one */
    unlink(ft_test_path("one/lock.mdb"));
    assert_int_equal(ft_store_open(&s, one, 0, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "belongs to another"));
    free(journal);
    free(early);
    free(late);
}

/* --- Room ------------------------------------------------------------------------------------------------------ */

static void without_room_for_a_journal_writes_are_synced_by_lmdb(void **state)
{
    (void)state;
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 2 << 20;
    signal(SIGXFSZ, SIG_IGN);
    ft_store *s = fixture_open(ft_test_path("no room"));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    recording.on = 1;
    ft_status st = {0};
    ft_code rc = FT_OK;
    for (unsigned i = 0; !rc && i < 10; i++)
        rc = put(s, i, 1000, &st);
    recording.on = 0;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_ok(rc, st);
    assert_true(recording.syncs[DATA] >= 20);
    assert_false(ft_path_exists(ft_test_path("no room/journal")));
    assert_false(ft_path_exists(ft_test_path("no room/journal.new")));
    assert_int_equal(put(s, 10, 1000, NULL), FT_OK);
    assert_true(ft_path_exists(ft_test_path("no room/journal")));
    ft_store_close(s);
    expect_traces(ft_test_path("no room"), 11);
    forget_recording();
}

/* The disk is full when LMDB commits what the journal has: nothing was written, and nothing comes back. */
static void a_write_that_failed_does_not_come_back(void **state)
{
    (void)state;
    char folder[4096];
    strcpy(folder, ft_test_path("failed"));
    unsigned kept = 0;
    const pid_t child = fork();
    if (child == 0) {
        ft_store *s = fixture_open(folder);
        ft_store_sizes sizes;
        for (unsigned i = 0; i < 1500; i++) /* data.mdb is larger than the journal */
            if (put(s, i, 4000, NULL))
                _exit(1);
        struct rlimit tight;
        if (ft_store_get_sizes(s, &sizes, NULL) || getrlimit(RLIMIT_FSIZE, &tight))
            _exit(2);
        tight.rlim_cur = sizes.file_bytes + 8192;
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &tight);
        unsigned i = 1500;
        while (i < 3000 && put(s, i, 4000, NULL) == FT_OK)
            i++;
        _exit(i < 3000 && put(s, i, 900000, NULL) == FT_ERR_IO && traces_in(s) == i ? (int)(i % 200) + 10 : 3);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) >= 10);
    ft_store *s = fixture_open(folder);
    kept = (unsigned)traces_in(s);
    assert_int_equal(kept % 200 + 10, WEXITSTATUS(status));
    fixture_assert_good(s);
    ft_store_close(s);
}

static int start(void **state)
{
    (void)state;
    ft_random_init(&chance, 17);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_costs_one_sync_of_the_disk),
        cmocka_unit_test(a_loss_of_power_at_any_instant_loses_nothing_that_was_acknowledged),
        cmocka_unit_test(of_two_writers_either_may_be_killed),
        cmocka_unit_test(heads_that_were_handed_out_hold_after_a_kill),
        cmocka_unit_test(a_flipped_bit_in_the_journal_is_refused_or_harmless),
        cmocka_unit_test(a_damaged_journal_can_be_done_without),
        cmocka_unit_test(a_torn_record_is_dropped),
        cmocka_unit_test(a_journal_that_belongs_to_another_store_is_refused),
        cmocka_unit_test(without_room_for_a_journal_writes_are_synced_by_lmdb),
        cmocka_unit_test(a_write_that_failed_does_not_come_back),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
