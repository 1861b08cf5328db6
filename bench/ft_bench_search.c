/* ft_bench_search: what a query of an index costs, in-process; prints one line an operation.
 *
 *   ft_bench_search build OUT TOKENS.npy OFFSETS.npy VOCAB MEMORY_MB    an index without texts
 *   ft_bench_search warm INDEX QUERIES                     p50 and p99 in microseconds
 *   ft_bench_search cold INDEX QUERIES [N]                 page reads and time, the page cache dropped before each
 *
 * QUERIES holds count.npy (ids of all queries, one after another) with count.ends.npy
 * (u64 end of each), and the same for prob, infgram_prob, ntd, docs, heldout and spliced; the
 * last two are responses of 500 tokens. */
#define _GNU_SOURCE
#include "flextrace.h"

#include "base/ft_npy.h"
#include "base/ft_threads.h"
#include "index/ft_part.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void need(ft_code rc, const ft_status *st)
{
    if (rc) {
        fprintf(stderr, "ft_bench_search: %s\n", st->msg);
        exit(1);
    }
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *v, size_t n, double q)
{
    qsort(v, n, sizeof(*v), by_value);
    return v[(size_t)(q * (double)(n - 1) + 0.5)];
}

/* --- Building -------------------------------------------------------------------- */

static int show(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    static char last[20];
    (void)context;
    (void)unit;
    if (strcmp(last, phase) != 0)
        fprintf(stderr, "%s %.1f\n", phase, now());
    snprintf(last, sizeof(last), "%s", phase);
    (void)done;
    (void)total;
    return 0;
}

static void build(char **argv)
{
    ft_status st;
    ft_npy tokens, offsets;
    ft_pool *pool;
    ft_index_writer *w;
    need(ft_npy_open(&tokens, argv[1], &st), &st);
    need(ft_npy_open(&offsets, argv[2], &st), &st);
    need(ft_pool_new(&pool, 0, &st), &st);
    const ft_progress progress = {.report = show};
    const ft_index_writer_options o = {.vocab_size = (uint32_t)atoi(argv[3]),
                                       .end_of_text = FT_NO_TOKEN,
                                       .memory_bytes = (uint64_t)atoi(argv[4]) << 20,
                                       .pool = pool,
                                       .progress = &progress};
    need(ft_index_writer_new(&w, argv[0], &o, &st), &st);
    const uint32_t *ids = tokens.data;
    const uint64_t *at = offsets.data;
    for (size_t d = 0; d + 1 < offsets.count; d++) {
        char id[30];
        snprintf(id, sizeof(id), "%zu", d);
        need(ft_index_writer_add(w, ids + at[d], (size_t)(at[d + 1] - at[d]), id, NULL, 0, &st), &st);
    }
    ft_npy_close(&tokens);
    need(ft_index_writer_finish(w, NULL, &st), &st);
    ft_pool_free(pool);
}

/* --- Queries ------------------------------------------------------------------------ */

typedef struct queries {
    ft_npy ids, ends;
    size_t count;
} queries;

static queries read_queries(const char *folder, const char *name)
{
    char path[4096];
    ft_status st;
    queries q;
    snprintf(path, sizeof(path), "%s/%s.npy", folder, name);
    need(ft_npy_open(&q.ids, path, &st), &st);
    snprintf(path, sizeof(path), "%s/%s.ends.npy", folder, name);
    need(ft_npy_open(&q.ends, path, &st), &st);
    q.count = q.ends.count;
    return q;
}

static const uint32_t *query(const queries *q, size_t i, size_t *n)
{
    const uint64_t *ends = q->ends.data, from = i ? ends[i - 1] : 0;
    *n = (size_t)(ends[i] - from);
    return (const uint32_t *)q->ids.data + from;
}

typedef uint64_t operation(ft_index_set set, const uint32_t *ids, size_t n);

static uint64_t do_count(ft_index_set set, const uint32_t *ids, size_t n)
{
    return ft_query_count(set, ids, n);
}

static uint64_t do_prob(ft_index_set set, const uint32_t *ids, size_t n)
{
    ft_prob p;
    ft_status st;
    need(ft_query_prob(set, ids, n, &p, &st), &st);
    return p.continuation_count;
}

static uint64_t do_infgram_prob(ft_index_set set, const uint32_t *ids, size_t n)
{
    ft_prob p;
    ft_status st;
    need(ft_query_infgram_prob(set, ids, n, &p, &st), &st);
    return p.suffix_len;
}

static uint64_t do_ntd(ft_index_set set, const uint32_t *ids, size_t n)
{
    ft_distribution d;
    ft_status st;
    need(ft_query_ntd(set, ids, n, 0, &d, &st), &st);
    const uint64_t distinct = d.count;
    ft_distribution_release(&d);
    return distinct;
}

static uint64_t do_docs(ft_index_set set, const uint32_t *ids, size_t n)
{
    ft_place places[10];
    ft_window w;
    ft_status st;
    size_t found;
    uint64_t sum = ft_query_occurrences(set, ids, n, 10, places, &found);
    for (size_t i = 0; i < found; i++) {
        need(ft_query_window(set, &places[i], n, 20, &w, &st), &st);
        sum += w.doc.number;
    }
    return sum;
}

static uint64_t do_longest(ft_index_set set, const uint32_t *ids, size_t n)
{
    size_t *longest = malloc(n * sizeof(*longest));
    ft_index_match_all(set.indexes[0], ids, n, longest, NULL);
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += longest[i];
    free(longest);
    return sum;
}

static uint64_t do_match_all(ft_index_set set, const uint32_t *ids, size_t n)
{
    size_t *longest = malloc(n * sizeof(*longest));
    ft_match *m = malloc(n * sizeof(*m));
    ft_index_match_all(set.indexes[0], ids, n, longest, m);
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += m[i].count;
    free(longest);
    free(m);
    return sum;
}

static uint64_t do_spans(ft_index_set set, const uint32_t *ids, size_t n)
{
    ft_spans s = {0};
    ft_status st;
    ft_span_rules rules = ft_span_rules_default();
    rules.max_cnt = UINT64_MAX;
    rules.density = 0;
    need(ft_spans_find(set, ids, n, &rules, &s, &st), &st);
    const uint64_t count = s.count;
    ft_spans_release(&s);
    return count;
}

static const struct {
    const char *name, *queries;
    operation *run;
} operations[] = {{"count", "count", do_count},
                  {"prob", "prob", do_prob},
                  {"infgram_prob", "infgram_prob", do_infgram_prob},
                  {"ntd", "ntd", do_ntd},
                  {"docs", "docs", do_docs},
                  {"longest heldout", "heldout", do_longest},
                  {"match_all heldout", "heldout", do_match_all},
                  {"spans heldout", "heldout", do_spans},
                  {"longest spliced", "spliced", do_longest},
                  {"match_all spliced", "spliced", do_match_all},
                  {"spans spliced", "spliced", do_spans}};
enum { OPERATIONS = sizeof(operations) / sizeof(*operations) };

static int wanted(char **names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return 1;
    return count == 0;
}

static void warm(const char *folder, const char *query_folder, char **names, int name_count)
{
    ft_status st;
    ft_index *ix;
    const double begin = now();
    const ft_infinigram_options o = {.version = 4, .end_of_text = FT_NO_TOKEN};
    need(ft_index_open_any(&ix, folder, &o, &st), &st);
    printf("open %.2f ms\n", (now() - begin) * 1e3);
    const ft_index *const indexes[] = {ix};
    const ft_index_set set = {indexes, 1};
    for (size_t k = 0; k < OPERATIONS; k++) {
        if (!wanted(names, name_count, operations[k].name))
            continue;
        queries q = read_queries(query_folder, operations[k].queries);
        double *seconds = malloc(q.count * sizeof(*seconds));
        uint64_t sum = 0;
        for (unsigned round = 0; round < 3; round++) { /* the best of three of each query: the machine is shared */
            sum = 0;
            for (size_t i = 0; i < q.count; i++) {
                size_t n;
                const uint32_t *ids = query(&q, i, &n);
                const double from = now();
                sum += operations[k].run(set, ids, n);
                const double took = now() - from;
                seconds[i] = round == 0 || (round > 0 && took < seconds[i]) ? took : seconds[i];
            }
        }
        printf("%-20s p50 %9.2f us  p99 %9.2f us  mean %9.2f us  max %9.2f  (%zu, sum %llu)\n", operations[k].name,
               quantile(seconds, q.count, 0.5) * 1e6, quantile(seconds, q.count, 0.99) * 1e6, ({
                   double all = 0;
                   for (size_t i = 0; i < q.count; i++)
                       all += seconds[i];
                   all / (double)q.count * 1e6;
               }),
               quantile(seconds, q.count, 1) * 1e6, q.count, (unsigned long long)sum);
        fflush(stdout);
        free(seconds);
        ft_npy_close(&q.ids);
        ft_npy_close(&q.ends);
    }
    ft_index_close(ix);
}

/* --- Cold ------------------------------------------------------------------------------ */

static void drop_file(const char *path)
{
    const int fd = open(path, O_RDONLY);
    if (fd < 0)
        return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static void drop(const char *folder, int depth)
{
    DIR *dir = opendir(folder);
    const struct dirent *e;
    while (dir && (e = readdir(dir))) {
        char path[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        if (depth && e->d_type == DT_DIR)
            drop(path, depth - 1);
        else
            drop_file(path);
    }
    if (dir)
        closedir(dir);
}

static uint64_t resident(const ft_index *ix)
{
    uint64_t pages = 0;
    for (unsigned i = 0; i < ix->part_count; i++)
        for (int k = 1; k < FT_SECTION_CORE_KINDS; k++) {
            const ft_map *m = &ix->parts[i].section[k].map;
            if (!m->bytes)
                continue;
            const size_t n = (size_t)((m->bytes + 4095) / 4096);
            unsigned char *in = malloc(n);
            if (mincore((void *)(uintptr_t)m->data, (size_t)m->bytes, in) == 0)
                for (size_t j = 0; j < n; j++)
                    pages += in[j] & 1;
            free(in);
        }
    return pages;
}

static void cold(const char *folder, const char *query_folder, size_t limit, char **names, int name_count)
{
    for (size_t k = 0; k < OPERATIONS; k++) {
        if (!wanted(names, name_count, operations[k].name))
            continue;
        queries q = read_queries(query_folder, operations[k].queries);
        const size_t count = q.count < limit ? q.count : limit;
        double *pages = malloc(count * sizeof(*pages)), *seconds = malloc(count * sizeof(*seconds)), sum = 0, all = 0;
        for (size_t i = 0; i < count; i++) {
            ft_status st;
            ft_index *ix;
            size_t n;
            drop(folder, 1);
            need(ft_index_open(&ix, folder, &st), &st);
            const ft_index *const indexes[] = {ix};
            const ft_index_set set = {indexes, 1};
            const uint32_t *ids = query(&q, i * (q.count / count), &n);
            const uint64_t before = resident(ix);
            const double from = now();
            (void)operations[k].run(set, ids, n);
            seconds[i] = now() - from;
            pages[i] = (double)(resident(ix) - before);
            sum += pages[i];
            all += seconds[i];
            ft_index_close(ix);
        }
        printf("%-20s pages: mean %8.2f p50 %6.0f p99 %6.0f max %6.0f   ms: mean %8.3f p50 %8.3f p99 %8.3f  (%zu)\n",
               operations[k].name, sum / (double)count, quantile(pages, count, 0.5), quantile(pages, count, 0.99),
               quantile(pages, count, 1), all / (double)count * 1e3, quantile(seconds, count, 0.5) * 1e3,
               quantile(seconds, count, 0.99) * 1e3, count);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "build") == 0)
        build(argv + 2);
    else if (argc >= 4 && strcmp(argv[1], "warm") == 0)
        warm(argv[2], argv[3], argv + 4, argc - 4);
    else if (argc >= 5 && strcmp(argv[1], "cold") == 0)
        cold(argv[2], argv[3], (size_t)atoi(argv[4]), argv + 5, argc - 5);
    else {
        fprintf(stderr, "usage: see the head of bench/ft_bench_search.c\n");
        return 2;
    }
    return 0;
}
