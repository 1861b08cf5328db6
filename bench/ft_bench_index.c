/* ft_bench_index: measures queries on one index in-process and prints one JSON
 * object. bench/index calls it and asks the peer the same queries.
 *
 *   ft_bench_index warm INDEX QUERIES SET…     microseconds of each call, and its answer
 *   ft_bench_index cold INDEX QUERIES SET N    the first N queries, each in a fresh process
 *                                              with the index's files out of the page cache
 *   ft_bench_index open INDEX QUERIES          milliseconds, what stays resident then and
 *                                              after 1,000 counts
 *   ft_bench_index tokenize TOK CORPUS PART    MB/s of one thread, on the documents whose
 *                                              id begins with PART
 *
 * QUERIES holds SET.npy (u32 ids) and SET.ends.npy (u64 ends); a SET is asked as its
 * name says: count, prob, infgram_prob, docs, ntd; any other is a set of responses. */
#define _GNU_SOURCE
#include "flextrace.h"

#include "base/ft_json.h"
#include "base/ft_npy.h"
#include "index/ft_fetch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PASSES = 5, WINDOW = 1000, PAGE = 4096 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "ft_bench_index: %s\n", what);
    exit(1);
}

static void *room(size_t count, size_t each)
{
    void *p = calloc(count ? count : 1, each);
    if (!p)
        die("no memory");
    return p;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* --- Queries ------------------------------------------------------------------- */

typedef struct query_set {
    ft_npy ids, ends;
    size_t count;
} query_set;

static void set_open(query_set *s, const char *folder, const char *name)
{
    ft_status st = {0};
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s.npy", folder, name);
    if (ft_npy_open(&s->ids, path, &st))
        die(st.msg);
    snprintf(path, sizeof(path), "%s/%s.ends.npy", folder, name);
    if (ft_npy_open(&s->ends, path, &st))
        die(st.msg);
    if (s->ids.type != FT_NPY_UINT32 || s->ends.type != FT_NPY_UINT64)
        die("query sets are u32 with u64 ends");
    s->count = s->ends.count;
}

static const uint32_t *set_get(const query_set *s, size_t i, size_t *n)
{
    const uint64_t *ends = s->ends.data;
    const uint64_t from = i ? ends[i - 1] : 0;
    *n = (size_t)(ends[i] - from);
    return (const uint32_t *)s->ids.data + from;
}

static void set_close(query_set *s)
{
    ft_npy_close(&s->ids);
    ft_npy_close(&s->ends);
}

/* What one query works with; `answer` is what the peer's must equal. */
typedef struct asker {
    const ft_index *index;
    ft_index_set set;
    ft_distribution distribution;
    ft_spans spans;
    uint64_t max_cnt; /* of responses */
    uint32_t window[WINDOW];
    uint64_t random;
} asker;

typedef uint64_t ask(asker *a, const uint32_t *ids, size_t n);

static void check(ft_code rc, const ft_status *st)
{
    if (rc)
        die(st->msg);
}

static uint64_t ask_count(asker *a, const uint32_t *ids, size_t n)
{
    return ft_query_count(a->set, ids, n);
}

static uint64_t ask_prob(asker *a, const uint32_t *ids, size_t n)
{
    ft_status st = {0};
    ft_prob p;
    check(ft_query_prob(a->set, ids, n, &p, &st), &st);
    return p.prompt_count + p.continuation_count;
}

static uint64_t ask_infgram_prob(asker *a, const uint32_t *ids, size_t n)
{
    ft_status st = {0};
    ft_prob p;
    check(ft_query_infgram_prob(a->set, ids, n, &p, &st), &st);
    return p.prompt_count + p.continuation_count;
}

static uint64_t ask_ntd(asker *a, const uint32_t *ids, size_t n)
{
    ft_status st = {0};
    check(ft_query_ntd(a->set, ids, n, 0, &a->distribution, &st), &st);
    return a->distribution.prompt_count;
}

/* One random occurrence, its document and up to WINDOW tokens around it, as search_docs does. */
static uint64_t ask_docs(asker *a, const uint32_t *ids, size_t n)
{
    ft_status st = {0};
    ft_match m;
    ft_index_find(a->index, ids, n, &m);
    if (!m.count)
        return 0;
    a->random = a->random * 6364136223846793005u + 1442695040888963407u;
    uint64_t rank = (uint64_t)(((unsigned __int128)a->random * m.count) >> 64);
    ft_place place = {0};
    while (rank >= m.part[place.part].hi - m.part[place.part].lo) {
        rank -= m.part[place.part].hi - m.part[place.part].lo;
        place.part++;
    }
    place.pos = ft_index_position(a->index, place.part, m.part[place.part].lo + rank);
    ft_window w;
    size_t copied;
    check(ft_query_window(a->set, &place, n, WINDOW, &w, &st), &st);
    ft_index_document_tokens(a->index, &w.doc, w.from, (size_t)w.length, a->window, &copied);
    return m.count;
}

static uint64_t ask_spans(asker *a, const uint32_t *ids, size_t n)
{
    ft_status st = {0};
    ft_span_rules rules = ft_span_rules_default();
    rules.max_cnt = a->max_cnt;
    rules.density = 0;
    check(ft_spans_find(a->set, ids, n, &rules, &a->spans, &st), &st);
    uint64_t sum = 0; /* of starts, ends and counts: the peer's has to be the same */
    for (size_t i = 0; i < a->spans.count; i++)
        sum += a->spans.spans[i].start + a->spans.spans[i].end + a->spans.spans[i].count;
    return sum;
}

static ask *ask_for(const char *set)
{
    static const struct {
        const char *name;
        ask *f;
    } all[] = {{"count", ask_count},
               {"prob", ask_prob},
               {"infgram_prob", ask_infgram_prob},
               {"docs", ask_docs},
               {"ntd", ask_ntd}};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (!strcmp(set, all[i].name))
            return all[i].f;
    return ask_spans;
}

/* "spliced:10": the set, and max_cnt of its spans; without a number there is no limit. */
static void split_name(const char *name, char *set, size_t room_bytes, uint64_t *max_cnt)
{
    snprintf(set, room_bytes, "%s", name);
    char *colon = strchr(set, ':');
    *max_cnt = colon ? strtoull(colon + 1, NULL, 10) : UINT64_MAX >> 2;
    if (colon)
        *colon = 0;
}

/* Ours, or one of infini-gram's 4. */
static void open_either(ft_index **out, const char *folder)
{
    ft_status st = {0};
    const ft_infinigram_options o = {.version = 4, .end_of_text = FT_NO_TOKEN};
    if (ft_index_open_any(out, folder, &o, &st))
        die(st.msg);
}

/* --- Warm ---------------------------------------------------------------------- */

/* Each query's best of PASSES, so that other work of the machine does not count; the
 * queries between two turns of one push it out of the processor's caches. */
static json_t *warm(asker *a, const char *folder, const char *name)
{
    char set[64];
    split_name(name, set, sizeof(set), &a->max_cnt);
    query_set s;
    set_open(&s, folder, set);
    ask *f = ask_for(set);
    double *best = room(s.count, sizeof(*best)), sum = 0;
    json_t *answers = json_array();
    for (int pass = -1; pass < PASSES; pass++) /* the first one warms */
        for (size_t i = 0; i < s.count; i++) {
            size_t n;
            const uint32_t *ids = set_get(&s, i, &n);
            const double start = now();
            const uint64_t answer = f(a, ids, n);
            const double took = (now() - start) * 1e6;
            if (pass < 0)
                json_array_append_new(answers, json_integer((json_int_t)answer));
            else if (pass == 0 || took < best[i])
                best[i] = took;
        }
    for (size_t i = 0; i < s.count; i++)
        sum += best[i];
    qsort(best, s.count, sizeof(*best), by_value);
    json_t *out = json_pack("{s:f,s:f,s:f,s:I,s:o}", "p50_us", best[s.count / 2], "p99_us", best[s.count * 99 / 100],
                            "mean_us", sum / (double)s.count, "queries", (json_int_t)s.count, "answers", answers);
    free(best);
    set_close(&s);
    return out;
}

/* --- Cold ---------------------------------------------------------------------- */

enum { MAX_FILES = 512 };

typedef struct file_list {
    char *path[MAX_FILES];
    size_t count;
} file_list;

static void list_files(file_list *l, const char *folder)
{
    DIR *d = opendir(folder);
    if (!d)
        die("the index folder cannot be read");
    for (struct dirent *e; (e = readdir(d));) {
        char path[4096];
        struct stat info;
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        if (e->d_name[0] == '.' || stat(path, &info))
            continue;
        if (S_ISDIR(info.st_mode))
            list_files(l, path);
        else if (l->count < MAX_FILES && !(l->path[l->count++] = strdup(path)))
            die("no memory");
    }
    closedir(d);
}

static void drop_files(const file_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        const int fd = open(l->path[i], O_RDONLY);
        if (fd < 0)
            die(l->path[i]);
        fdatasync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
}

/* Pages of each file that are in the page cache, into pages[] unless it is NULL; gives
 * their sum. Looking brings none in. */
static uint64_t resident_pages(const file_list *l, uint32_t *pages)
{
    uint64_t total = 0;
    for (size_t i = 0; i < l->count; i++) {
        const int fd = open(l->path[i], O_RDONLY);
        struct stat info;
        if (fd < 0 || fstat(fd, &info))
            die(l->path[i]);
        const size_t bytes = (size_t)info.st_size, count = (bytes + PAGE - 1) / PAGE;
        uint32_t here = 0;
        if (count) {
            unsigned char *seen = room(count, 1);
            void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
            if (p == MAP_FAILED || mincore(p, bytes, seen))
                die(strerror(errno));
            for (size_t j = 0; j < count; j++)
                here += seen[j] & 1;
            munmap(p, bytes);
            free(seen);
        }
        close(fd);
        total += here;
        if (pages)
            pages[i] = here;
    }
    return total;
}

static uint64_t storage_bytes(void)
{
    FILE *f = fopen("/proc/self/io", "r");
    char line[128];
    unsigned long long bytes = 0;
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "read_bytes: %llu", &bytes) == 1)
            break;
    if (f)
        fclose(f);
    return bytes;
}

static long major_faults(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_majflt;
}

/* Rounds in which a query asks the disk for pages: the linker puts this before the index's own. */
static uint64_t rounds;
void __real_ft_fetch_send(ft_fetch *f);
void __wrap_ft_fetch_send(ft_fetch *f);
void __wrap_ft_fetch_send(ft_fetch *f)
{
    const size_t before = f->missing;
    __real_ft_fetch_send(f);
    rounds += f->missing > before;
}

typedef struct cold_cost {
    double open_us, query_us;
    uint64_t left_pages; /* that could not be dropped */
    uint64_t open_pages, query_pages, open_faults, query_faults, query_bytes;
    uint64_t answer, rounds, rounds_max; /* the most of one query: in a sum */
    uint32_t file_pages[MAX_FILES];
} cold_cost;

static cold_cost cold_one(const char *index, const file_list *files, ask *f, uint64_t max_cnt, const uint32_t *ids,
                          size_t n)
{
    cold_cost c = {.left_pages = resident_pages(files, NULL)};
    asker *a = room(1, sizeof(*a));
    ft_index *ix;
    const long before = major_faults();
    const double start = now();
    open_either(&ix, index);
    c.open_us = (now() - start) * 1e6;
    const ft_index *list[] = {ix};
    a->index = ix;
    a->set = (ft_index_set){list, 1};
    a->max_cnt = max_cnt;
    uint32_t *opened_pages = room(MAX_FILES, sizeof(*opened_pages));
    const uint64_t opened = resident_pages(files, opened_pages), bytes = storage_bytes();
    const long middle = major_faults();
    rounds = 0;
    const double asked = now();
    c.answer = f(a, ids, n);
    c.query_us = (now() - asked) * 1e6;
    c.rounds = rounds;
    c.open_faults = (uint64_t)(middle - before);
    c.query_faults = (uint64_t)(major_faults() - middle);
    c.query_bytes = storage_bytes() - bytes;
    c.open_pages = opened - c.left_pages;
    c.query_pages = resident_pages(files, c.file_pages) - opened;
    for (size_t i = 0; i < files->count; i++)
        c.file_pages[i] -= opened_pages[i];
    return c;
}

/* One query as [tokens, answer, microseconds, {file: pages read}]. */
static json_t *cold_row(const cold_cost *c, const file_list *files, size_t n)
{
    json_t *by_file = json_object();
    for (size_t i = 0; i < files->count; i++) {
        const char *slash = strrchr(files->path[i], '/');
        const char *name = slash ? slash + 1 : files->path[i];
        const json_int_t so_far = json_integer_value(json_object_get(by_file, name));
        if (c->file_pages[i])
            json_object_set_new(by_file, name, json_integer(so_far + (json_int_t)c->file_pages[i]));
    }
    return json_pack("[I,I,f,o]", (json_int_t)n, (json_int_t)c->answer, c->query_us, by_file);
}

static json_t *cold(const char *index, const char *folder, const char *name, size_t want)
{
    char set[64];
    uint64_t max_cnt;
    split_name(name, set, sizeof(set), &max_cnt);
    query_set s;
    set_open(&s, folder, set);
    const size_t many = want < s.count ? want : s.count;
    file_list *files = room(1, sizeof(*files));
    list_files(files, index);
    double *took = room(many, sizeof(*took)), *pages = room(many, sizeof(*pages)), *opens = room(many, sizeof(*opens));
    cold_cost sum = {0};
    size_t tokens = 0;
    json_t *each = json_array();
    sync();
    for (size_t i = 0; i < many; i++) {
        int pipe_fds[2];
        size_t n;
        const uint32_t *ids = set_get(&s, i * (s.count / many), &n);
        drop_files(files);
        if (pipe(pipe_fds))
            die("no pipe");
        const pid_t child = fork();
        if (child == 0) {
            const cold_cost c = cold_one(index, files, ask_for(set), max_cnt, ids, n);
            _exit(write(pipe_fds[1], &c, sizeof(c)) != (ssize_t)sizeof(c));
        }
        cold_cost c;
        close(pipe_fds[1]);
        if (child < 0 || read(pipe_fds[0], &c, sizeof(c)) != (ssize_t)sizeof(c))
            die("a cold query failed");
        close(pipe_fds[0]);
        waitpid(child, NULL, 0);
        took[i] = c.query_us;
        opens[i] = c.open_us;
        pages[i] = (double)c.query_pages;
        tokens += n;
        json_array_append_new(each, cold_row(&c, files, n));
        sum.left_pages += c.left_pages;
        sum.open_pages += c.open_pages;
        sum.query_pages += c.query_pages;
        sum.open_faults += c.open_faults;
        sum.query_faults += c.query_faults;
        sum.query_bytes += c.query_bytes;
        sum.rounds += c.rounds;
        sum.rounds_max = c.rounds > sum.rounds_max ? c.rounds : sum.rounds_max;
    }
    qsort(took, many, sizeof(*took), by_value);
    qsort(opens, many, sizeof(*opens), by_value);
    qsort(pages, many, sizeof(*pages), by_value);
    const double k = (double)many;
    json_t *out =
        json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:o}", "p50_us", took[many / 2], "p99_us",
                  took[many * 99 / 100], "open_us", opens[many / 2], "pages", (double)sum.query_pages / k, "pages_max",
                  pages[many - 1], "rounds", (double)sum.rounds / k, "rounds_max", (json_int_t)sum.rounds_max, "faults",
                  (double)sum.query_faults / k, "bytes", (double)sum.query_bytes / k, "open_pages",
                  (double)sum.open_pages / k, "open_faults", (double)sum.open_faults / k, "left_pages",
                  (double)sum.left_pages / k, "tokens", (double)tokens / k, "queries", (json_int_t)many, "each", each);
    set_close(&s);
    return out;
}

/* --- Opening, tokenizing --------------------------------------------------------- */

static uint64_t resident_bytes(void)
{
    unsigned long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * PAGE;
}

static json_t *open_index(const char *path, const char *folder)
{
    double took[21];
    uint64_t resident = 0, asked = 0;
    for (size_t i = 0; i < 21; i++) {
        ft_index *ix;
        const uint64_t before = resident_bytes();
        const double start = now();
        open_either(&ix, path);
        took[i] = (now() - start) * 1e3;
        if (i == 0) {
            query_set s;
            resident = resident_bytes() - before;
            set_open(&s, folder, "count");
            for (size_t j = 0; j < s.count && j < 1000; j++) {
                size_t n;
                ft_match m;
                const uint32_t *ids = set_get(&s, j, &n);
                ft_index_find(ix, ids, n, &m);
            }
            asked = resident_bytes() - before;
            set_close(&s);
        }
        ft_index_close(ix);
    }
    const double first = took[0];
    qsort(took, 21, sizeof(*took), by_value);
    return json_pack("{s:f,s:f,s:I,s:I}", "p50_ms", took[10], "first_ms", first, "resident_bytes", (json_int_t)resident,
                     "asked_bytes", (json_int_t)asked);
}

static json_t *tokenize(const char *path, const char *rows, const char *part)
{
    ft_status st = {0};
    ft_tokenizer *t;
    ft_encoder *e;
    ft_corpus *c;
    ft_encoding encoding = {0};
    if (ft_tokenizer_open(&t, path, &st) || ft_encoder_new(&e, t, &st) || ft_corpus_open(&c, &rows, 1, NULL, &st))
        die(st.msg);
    double spent = 0;
    uint64_t bytes = 0, tokens = 0;
    for (;;) {
        ft_document d;
        int more;
        if (ft_corpus_next(c, &d, &more, &st))
            die(st.msg);
        if (!more)
            break;
        if (strncmp(d.id, part, strlen(part)))
            continue;
        const double start = now();
        if (ft_encoder_encode_ids(e, d.text, d.text_bytes, &encoding, &st))
            die(st.msg);
        spent += now() - start;
        bytes += d.text_bytes;
        tokens += encoding.count;
    }
    ft_encoding_release(&encoding);
    ft_corpus_close(c);
    ft_encoder_free(e);
    ft_tokenizer_close(t);
    return json_pack("{s:f,s:I,s:I,s:f}", "mb_per_s", (double)bytes / spent / 1e6, "bytes", (json_int_t)bytes, "tokens",
                     (json_int_t)tokens, "seconds", spent);
}

static json_t *warm_all(const char *index, const char *folder, char **sets, int count)
{
    ft_index *ix;
    open_either(&ix, index);
    asker *a = room(1, sizeof(*a));
    const ft_index *list[] = {ix};
    a->index = ix;
    a->set = (ft_index_set){list, 1};
    json_t *out = json_object();
    for (int i = 0; i < count; i++)
        json_object_set_new(out, sets[i], warm(a, folder, sets[i]));
    ft_distribution_release(&a->distribution);
    ft_spans_release(&a->spans);
    free(a);
    ft_index_close(ix);
    return out;
}

int main(int argc, char **argv)
{
    json_t *out = NULL;
    if (argc >= 5 && !strcmp(argv[1], "warm"))
        out = warm_all(argv[2], argv[3], argv + 4, argc - 4);
    else if (argc == 6 && !strcmp(argv[1], "cold") && atoi(argv[5]) > 0)
        out = cold(argv[2], argv[3], argv[4], (size_t)atoi(argv[5]));
    else if (argc == 4 && !strcmp(argv[1], "open"))
        out = open_index(argv[2], argv[3]);
    else if (argc == 5 && !strcmp(argv[1], "tokenize"))
        out = tokenize(argv[2], argv[3], argv[4]);
    if (!out) {
        fputs("usage: ft_bench_index warm INDEX QUERIES SET… | cold INDEX QUERIES SET N | open INDEX QUERIES | "
              "tokenize TOK CORPUS PART\n",
              stderr);
        return 2;
    }
    json_dumpf(out, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(out);
    return 0;
}
