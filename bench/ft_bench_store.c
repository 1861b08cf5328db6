/* The store, measured: what a trace costs before the sync, what with it, how many bytes its routing takes, how long a
 * question waits for its first page, how fast an export reads. One JSON object on standard output.
 *
 *     ft_bench_store FOLDER [TRACES]     default 1000000; FOLDER is made anew
 *     ft_bench_store FOLDER writes       what a write costs alone; FOLDER is made anew
 *     ft_bench_store FOLDER packing      what it costs before its transaction, step by step; FOLDER is made anew
 *     ft_bench_store FOLDER questions    of a store that an earlier run filled */
#include "base/ft_file.h"
#include "base/ft_random.h"
#include "tracer/ft_store.h"
#include "tracer/store_internal.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EXPERTS = 7, TOP_K = 5, LAYERS = 16, TOKENS = 500, ROUNDS = 200, WRITERS = 16, TOGETHER = 200, PAGE = 4096 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Of this process, so that what else the machine does is not counted. */
static double processor_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void stop_on(ft_code rc, const ft_status *st)
{
    if (!rc)
        return;
    fprintf(stderr, "ft_bench_store: %s\n", st->msg);
    exit(4);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, size_t n, double q)
{
    qsort(values, n, sizeof(*values), by_value);
    return values[(size_t)(q * (double)(n - 1))];
}

/* A response of `tokens` with spans and documents as a server stores it. */
static json_t *make_trace(ft_random *r, const char *id, int tokens, int spans, int documents)
{
    static const char *const owners[] = {"public", "news", "law", "medicine", "scripture", "code"};
    static const char *const verdicts[] = {"verbatim", "influenced", "shared", "public", "none"};
    json_t *list = json_array(), *ids = json_array(), *found = json_array(), *experts = json_array();
    ft_buffer text = {0};
    for (int i = 0; i < tokens; i++) {
        char word[16];
        const int n = snprintf(word, sizeof(word), " w%d", (int)ft_random_below(r, 5000));
        json_t *shares = json_array();
        for (int e = 0; tokens > 50 && e < EXPERTS; e++)
            json_array_append_new(shares, json_real(ft_random_unit(r)));
        json_array_append_new(list, json_pack("{s:i,s:s,s:i,s:i,s:o}", "id", (int)ft_random_below(r, 50000), "text",
                                              word, "start_byte", (int)text.size, "end_byte", (int)text.size + n,
                                              "shares", shares));
        json_array_append_new(ids, json_integer((json_int_t)ft_random_below(r, 50000)));
        stop_on(ft_buffer_append(&text, word, (size_t)n, NULL), &(ft_status){0});
    }
    for (int i = 0; i < spans; i++) {
        json_t *docs = json_array();
        const char *owner = owners[ft_random_below(r, 6)];
        const int start = (int)ft_random_below(r, (uint64_t)tokens),
                  length = 3 + (int)ft_random_below(r, ft_random_below(r, 20) ? 10 : 120);
        for (int d = 0; d < documents; d++)
            json_array_append_new(
                docs,
                json_pack("{s:s,s:o,s:s}", "owner", owner, "id",
                          json_sprintf("document %d", (int)ft_random_below(r, 200000)), "snippet",
                          documents > 3 ? "some eighty tokens around the match, as a page would show them to its reader"
                                        : ""));
        json_array_append_new(found, json_pack("{s:i,s:i,s:i,s:s,s:s,s:[s],s:o}", "start", start, "end", start + length,
                                               "count", 3, "text", "of the span", "verdict",
                                               verdicts[ft_random_below(r, 5)], "owners", owner, "docs", docs));
    }
    for (int e = 0; e < EXPERTS; e++)
        json_array_append_new(experts, json_pack("{s:i,s:s,s:f}", "id", e, "owner", e < 6 ? owners[e] : "seventh",
                                                 "share", ft_random_unit(r) / 3));
    json_t *without = ft_random_below(r, 20) ? json_array() : json_pack("[s]", owners[ft_random_below(r, 6)]);
    json_t *t = json_pack("{s:o,s:s,s:o,s:{s:s,s:[i]},s:{s:s#,s:o},s:o,s:o,s:o}", "key",
                          json_sprintf("key %d", (int)ft_random_below(r, 50)), "model", "bench", "without", without,
                          "prompt", "text", "a prompt", "ids", 1, "response", "text", text.data, (int)text.size, "ids", ids,
                          "tokens", list, "experts", experts, "spans", found);
    ft_buffer_release(&text);
    ft_status st = {0};
    stop_on(t ? ft_trace_stamp(&t, id, &st) : FT_ERR_MEM, &st);
    return t;
}

static uint8_t chosen[TOKENS * LAYERS * TOP_K];
static float weights[TOKENS * LAYERS * TOP_K];

static ft_routing make_routing(ft_random *r)
{
    for (size_t p = 0; p < TOKENS * LAYERS; p++) {
        const unsigned first = (unsigned)ft_random_below(r, EXPERTS);
        float total = 0;
        for (unsigned k = 0; k < TOP_K; k++) {
            chosen[p * TOP_K + k] = (uint8_t)((first + k * 3) % EXPERTS);
            total += weights[p * TOP_K + k] = (float)(ft_random_unit(r) / (k + 1));
        }
        for (unsigned k = 0; k < TOP_K; k++)
            weights[p * TOP_K + k] /= total;
    }
    return (ft_routing){TOKENS, LAYERS, EXPERTS, TOP_K, NULL, chosen, weights};
}

/* --- Writing -------------------------------------------------------------------------------------- */

static void measure_writes(ft_store *s, ft_random *r)
{
    static double before[ROUNDS], whole[ROUNDS], packing[ROUNDS], committing[ROUNDS];
    size_t bytes = 0;
    const ft_routing routing = make_routing(r);
    ft_status st = {0};
    for (int i = 0; i < ROUNDS; i++) {
        char id[FT_TRACE_ID];
        store_op op;
        ft_trace_id_new(id);
        json_t *t = make_trace(r, id, TOKENS, 25, 10);
        const double from = now(), cpu = processor_time();
        stop_on(store_op_put(s, &op, id, t, &routing, NULL, 0, &st), &st);
        before[i] = now() - from;
        packing[i] = processor_time() - cpu;
        bytes = op.routing.size;
        stop_on(store_commit(s, &op, &st), &st);
        whole[i] = now() - from;
        committing[i] = processor_time() - cpu - packing[i];
        store_op_release(&op);
        json_decref(t);
    }
    printf("\"write_before_sync_cpu_ms\":%.4f,\"commit_cpu_ms\":%.4f,", 1e3 * quantile(packing, ROUNDS, 0.5),
           1e3 * quantile(committing, ROUNDS, 0.5));
    printf("\"write_before_sync_ms\":%.4f,\"write_and_sync_ms\":%.4f,\"routing_bytes_per_token\":%.3f,\"routing_bytes_"
           "per_choice\":%.4f,",
           1e3 * quantile(before, ROUNDS, 0.5), 1e3 * quantile(whole, ROUNDS, 0.5), (double)bytes / TOKENS,
           (double)bytes / (TOKENS * LAYERS * TOP_K));
}

/* Each step of what is done before a transaction, again and again on the same traces, so that builds can be compared.
 */
static void measure_packing(ft_store *s, ft_random *r)
{
    enum { TRACES = 20, TIMES = 30, STEPS = 4 };
    static const char *const names[STEPS] = {"packing_all", "packing_trace", "packing_routing", "packing_summary"};
    static double took[STEPS][TRACES * TIMES];
    json_t *traces[TRACES];
    char id[FT_TRACE_ID];
    const ft_routing routing = make_routing(r);
    size_t bytes[STEPS] = {0};
    ft_status st = {0};
    for (int i = 0; i < TRACES; i++) {
        ft_trace_id_new(id);
        traces[i] = make_trace(r, id, TOKENS, 25, 10);
    }
    for (int i = 0; i < TRACES * TIMES; i++)
        for (int step = 0; step < STEPS; step++) {
            const json_t *t = traces[i % TRACES];
            packer *p = NULL;
            ft_buffer out = {0};
            store_op op = {0};
            const double from = processor_time();
            if (step == 0)
                stop_on(store_op_put(s, &op, id, t, &routing, NULL, 0, &st), &st);
            else
                stop_on(packer_take(s, &p, &st), &st);
            if (step == 1)
                stop_on(pack_trace(p, &out, t, 1, &st), &st);
            else if (step == 2)
                stop_on(pack_routing(p, &out, &routing, FT_ROUTING_ROUNDED, &st), &st);
            else if (step == 3)
                stop_on(summary_pack(p, &out, t, &st), &st);
            packer_give(s, p);
            took[step][i] = processor_time() - from;
            bytes[step] += out.size + op.trace.size + op.routing.size + op.summary.size;
            ft_buffer_release(&out);
            store_op_release(&op);
        }
    for (int step = 0; step < STEPS; step++)
        printf("\"%s_cpu_ms\":%.4f,\"%s_bytes\":%zu,", names[step], 1e3 * quantile(took[step], TRACES * TIMES, 0.5),
               names[step], bytes[step] / (TRACES * TIMES));
    for (int i = 0; i < TRACES; i++)
        json_decref(traces[i]);
}

/* What a caller waits for who asks for a receipt that nobody had before: the line of who asked and the leaf, in a
 * transaction each or in one; and, last, the line alone, as for a receipt that is there already. By turns. */
static void measure_receipts(ft_store *s)
{
    enum { WAYS = 3 };
    static const char *const names[WAYS] = {"receipt_apart_ms", "receipt_together_ms", "line_alone_ms"};
    static double took[WAYS][ROUNDS];
    ft_status st = {0};
    for (int i = 0; i < WAYS * ROUNDS; i++) {
        char id[FT_TRACE_ID], envelope[64];
        const int way = i % WAYS;
        ft_trace_id_new(id);
        memcpy(id, "rcp", 3);
        const int n = snprintf(envelope, sizeof(envelope), "the envelope of %s", id);
        const ft_receipt_entry entry = {id, way == 1 ? envelope : NULL, (size_t)n};
        const double from = now();
        stop_on(ft_store_log_with(s, "local", "receipt.read", json_pack("{s:s}", "path", id), &entry, &st), &st);
        if (way == 0)
            stop_on(ft_store_receipt_add(s, id, envelope, (size_t)n, NULL, &st), &st);
        took[way][i / WAYS] = now() - from;
    }
    for (int way = 0; way < WAYS; way++)
        printf("\"%s\":%.4f,", names[way], 1e3 * quantile(took[way], ROUNDS, 0.5));
}

typedef struct writer {
    ft_store *s;
    uint64_t seed;
    double took[TOGETHER];
} writer;

static void *write_many(void *context)
{
    writer *w = context;
    ft_random r;
    ft_random_init(&r, w->seed);
    for (int i = 0; i < TOGETHER; i++) {
        char id[FT_TRACE_ID];
        ft_status st = {0};
        ft_trace_id_new(id);
        json_t *t = make_trace(&r, id, 20, 3, 3);
        store_op op;
        stop_on(store_op_put(w->s, &op, id, t, NULL, NULL, 0, &st), &st);
        const double from = now();
        stop_on(store_commit(w->s, &op, &st), &st);
        w->took[i] = now() - from;
        store_op_release(&op);
        json_decref(t);
    }
    return NULL;
}

static void measure_group(ft_store *s)
{
    static writer writers[WRITERS];
    static double all[WRITERS * TOGETHER];
    pthread_t threads[WRITERS];
    const double from = now();
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (writer){.s = s, .seed = 100 + (uint64_t)i};
        if (pthread_create(&threads[i], NULL, write_many, &writers[i]) != 0)
            exit(4);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        memcpy(all + i * TOGETHER, writers[i].took, sizeof(writers[i].took));
    }
    const double rate = WRITERS * TOGETHER / (now() - from);
    printf("\"group_commit_p50_ms\":%.3f,\"group_commit_p99_ms\":%.3f,\"group_traces_per_second\":%.0f,",
           1e3 * quantile(all, WRITERS * TOGETHER, 0.5), 1e3 * quantile(all, WRITERS * TOGETHER, 0.99), rate);
}

/* Bytes that this process handed to the system so far; 0 where it does not say. */
static double bytes_written(void)
{
    char line[100];
    double n = 0;
    FILE *f = fopen("/proc/self/io", "r");
    while (f && fgets(line, sizeof(line), f) && sscanf(line, "wchar: %lf", &n) != 1) {
    }
    if (f)
        fclose(f);
    return n;
}

/* What WRITERS traces cost in one transaction: processor time, the kernel's share in it. Returns the pages that it
 * writes. */
static double measure_group_alone(ft_store *s, ft_random *r)
{
    static double took[ROUNDS], waited[ROUNDS], pages[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        static store_op ops[WRITERS];
        ft_status st = {0};
        for (int k = 0; k < WRITERS; k++) {
            char id[FT_TRACE_ID];
            ft_trace_id_new(id);
            json_t *t = make_trace(r, id, 20, 3, 3);
            stop_on(store_op_put(s, &ops[k], id, t, NULL, NULL, 0, &st), &st);
            ops[k].with = k + 1 < WRITERS ? &ops[k + 1] : NULL;
            json_decref(t);
        }
        const double before = bytes_written(), from = now(), cpu = processor_time();
        stop_on(store_commit(s, ops, &st), &st);
        took[i] = processor_time() - cpu;
        waited[i] = now() - from;
        pages[i] = (bytes_written() - before) / PAGE;
        for (int k = 0; k < WRITERS; k++)
            store_op_release(&ops[k]);
    }
    const double most = quantile(pages, ROUNDS, 0.5);
    printf("\"group_commit_cpu_ms\":%.3f,\"group_commit_alone_ms\":%.3f,\"group_commit_pages\":%.0f,",
           1e3 * quantile(took, ROUNDS, 0.5), 1e3 * quantile(waited, ROUNDS, 0.5), most);
    return most;
}

/* What the disk alone takes for a commit: as many pages one behind the other and a sync, as the journal does it, in a
 * file that is there already. */
static void measure_disk(const char *folder, int pages)
{
    enum { FILE_PAGES = 8192 };
    static double took[ROUNDS];
    static char page[PAGE];
    char path[4096];
    snprintf(path, sizeof(path), "%s.disk", folder);
    const int data = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    int failed = data < 0;
    for (int i = 0; !failed && i < FILE_PAGES; i++)
        failed = pwrite(data, page, PAGE, (off_t)i * PAGE) != PAGE;
    failed = failed || fsync(data) != 0;
    for (int i = 0; !failed && i < ROUNDS; i++) {
        const double from = now();
        page[0] = (char)i;
        for (int k = 0; !failed && k < pages; k++)
            failed = pwrite(data, page, PAGE, (off_t)(i * pages + k) % FILE_PAGES * PAGE) != PAGE;
        failed = failed || fdatasync(data) != 0;
        took[i] = now() - from;
    }
    if (data >= 0)
        close(data);
    unlink(path);
    if (failed) {
        perror(path);
        exit(4);
    }
    printf("\"disk_alone_ms\":%.3f,", 1e3 * quantile(took, ROUNDS, 0.5));
}

/* --- A million ------------------------------------------------------------------------------------------ */

typedef struct filler {
    ft_store *s;
    uint64_t seed;
    size_t traces;
} filler;

/* Transactions of AT_ONCE traces each: that many share the pages that their keys fall on. */
static void *fill_some(void *context)
{
    enum { AT_ONCE = 5000 };
    const filler *f = context;
    store_op *ops = calloc(AT_ONCE, sizeof(*ops));
    ft_random r;
    ft_random_init(&r, f->seed);
    for (size_t done = 0; done < f->traces;) {
        const size_t n = f->traces - done < AT_ONCE ? f->traces - done : AT_ONCE;
        ft_status st = {0};
        for (size_t i = 0; i < n; i++) {
            char id[FT_TRACE_ID];
            ft_trace_id_new(id);
            json_t *t = make_trace(&r, id, 20, 3, 2);
            stop_on(store_op_put(f->s, &ops[i], id, t, NULL, NULL, 0, &st), &st);
            ops[i].with = i + 1 < n ? &ops[i + 1] : NULL;
            json_decref(t);
        }
        stop_on(store_commit(f->s, ops, &st), &st);
        for (size_t i = 0; i < n; i++)
            store_op_release(&ops[i]);
        done += n;
        if (done % 100000 == 0)
            fprintf(stderr, "# thread %d: %zu traces\n", (int)f->seed, done);
    }
    free(ops);
    return NULL;
}

/* Synced at the end alone: how fast a million traces can be written is not what is asked. */
static void fill(ft_store *s, size_t traces)
{
    enum { THREADS = 2 };
    filler fillers[THREADS];
    pthread_t threads[THREADS];
    const double from = now();
    int error = journal_settle(s);
    if (!error)
        error = mdb_env_set_flags(s->env, MDB_NOSYNC, 1);
    s->journal.off = 1;
    for (int i = 0; i < THREADS; i++) {
        fillers[i] = (filler){s, (uint64_t)i + 1, traces / THREADS + ((size_t)i < traces % THREADS)};
        if (pthread_create(&threads[i], NULL, fill_some, &fillers[i]) != 0)
            exit(4);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    if (!error)
        error = mdb_env_sync(s->env, 1);
    if (!error)
        error = mdb_env_set_flags(s->env, MDB_NOSYNC, 0);
    s->journal.off = 0;
    if (error) {
        fprintf(stderr, "ft_bench_store: %s\n", mdb_strerror(error));
        exit(4);
    }
    printf("\"fill_s\":%.1f,", now() - from);
}

/* A page as /v1/compliance/outputs (/verbatim) answers with it: asked for, written as JSON, given back. */
static void ask_page(ft_store *s, const ft_store_filter *filter, const ft_store_page *page, ft_buffer *text)
{
    ft_store_rows rows;
    ft_status st = {0};
    ft_buffer_reset(text);
    stop_on(ft_store_query(s, filter, page, &rows, &st), &st);
    stop_on(ft_store_rows_write(rows.list, text, &st), &st);
    json_decref(rows.list);
}

/* The time of the first trace from `ms` on. */
static uint64_t time_of_next(ft_store *s, uint64_t ms)
{
    ft_store_rows rows;
    ft_status st = {0};
    const ft_store_filter from = {.expert = -1, .from_ms = ms};
    const ft_store_page one = {.limit = 1, .ascending = 1};
    stop_on(ft_store_query(s, &from, &one, &rows, &st), &st);
    (void)ft_trace_id_time(rows.first, &ms);
    json_decref(rows.list);
    return ms;
}

/* Newest first and oldest first; times in the middle of what they span. */
static void measure_pages(ft_store *s)
{
    char id[1][FT_TRACE_ID];
    size_t count;
    uint64_t last = 0;
    ft_status st = {0};
    stop_on(ft_store_list(s, "", 1, id, &count, &st), &st);
    (void)ft_trace_id_time(id[0], &last);
    const uint64_t first = time_of_next(s, 0), middle = time_of_next(s, first + (last - first) / 2);
    const struct {
        const char *name;
        ft_store_filter filter;
        int fit; /* spans that fit alone */
    } asks[] = {
        {"all", {.expert = -1}, 0},
        {"time", {.expert = -1, .from_ms = middle, .to_ms = middle + 1000}, 0},
        {"owner", {.expert = -1, .owner = "law"}, 0},
        {"expert", {.expert = 3}, 0},
        {"expert_share", {.expert = 3, .min_share = 0.3}, 0},
        {"document", {.expert = -1, .document = "document 77"}, 0},
        {"key", {.expert = -1, .key = "key 7"}, 0},
        {"verdict", {.expert = -1, .verdict = "shared"}, 0},
        {"span_100_tokens", {.expert = -1, .min_tokens = 100}, 0},
        {"opted_out", {.expert = -1, .without = "law"}, 0},
        {"key_opted_out", {.expert = -1, .key = "key 7", .without = "law"}, 0},
        {"owner_100_tokens", {.expert = -1, .owner = "law", .min_tokens = 100}, 0},
        {"document_owner", {.expert = -1, .owner = "law", .document = "document 77"}, 0},
        {"key_expert_share", {.key = "key 7", .expert = 3, .min_share = 0.3}, 0},
        {"owner_verdict_key", {.expert = -1, .owner = "news", .verdict = "shared", .key = "key 9"}, 0},
        {"owner_time_verdict", {.expert = -1, .owner = "news", .verdict = "none", .from_ms = middle, .to_ms = last}, 0},
        {"nothing_fits", {.expert = -1, .owner = "law", .verdict = "verbatim", .key = "key 7", .min_tokens = 122}, 0},
        {"nothing_long", {.expert = -1, .owner = "law", .min_tokens = 127}, 0},
        {"unknown_document", {.expert = -1, .document = "no such"}, 0},
        {"unknown_model", {.expert = -1, .model = "no such"}, 0},
        {"text", {.expert = -1, .text = " w77 "}, 0},
        {"unknown_text", {.expert = -1, .text = "no such"}, 0},
        {"verbatim_owner", {.expert = -1, .owner = "law", .min_tokens = 1}, 1},
        {"verbatim_owner_document", {.expert = -1, .owner = "law", .document = "document 77", .min_tokens = 1}, 1},
    };
    ft_buffer text = {0};
    double worst = 0, cpu[2 * sizeof(asks) / sizeof(*asks)];
    printf("\"first_page_ms\":{");
    for (size_t i = 0; i < 2 * sizeof(asks) / sizeof(*asks); i++) {
        static double took[50], work[50];
        const ft_store_page page = {.limit = 20, .ascending = i % 2 != 0,
                                    .spans = asks[i / 2].fit ? FT_ROW_SPANS_FIT : FT_ROW_SPANS_TEXT};
        for (int k = 0; k < 50; k++) {
            const double from = now(), cpu_from = processor_time();
            ask_page(s, &asks[i / 2].filter, &page, &text);
            work[k] = processor_time() - cpu_from;
            took[k] = now() - from;
        }
        cpu[i] = 1e3 * quantile(work, 50, 0.5);
        const double median = 1e3 * quantile(took, 50, 0.5);
        worst = median > worst ? median : worst;
        printf("%s\"%s%s\":%.3f", i ? "," : "", asks[i / 2].name, i % 2 ? "_oldest" : "", median);
    }
    printf("},\"first_page_cpu_ms\":{");
    for (size_t i = 0; i < 2 * sizeof(asks) / sizeof(*asks); i++)
        printf("%s\"%s%s\":%.3f", i ? "," : "", asks[i / 2].name, i % 2 ? "_oldest" : "", cpu[i]);
    printf("},\"first_page_worst_ms\":%.3f,", worst);
    ft_buffer_release(&text);
}

typedef struct reader {
    ft_store *s;
    ft_buffer text;
    uint64_t bytes, count;
} reader;

static ft_code read_one(void *context, const char *id, json_t *row, ft_status *st)
{
    reader *r = context;
    (void)row;
    ft_buffer_reset(&r->text);
    const ft_code rc = ft_store_get_text(r->s, id, &r->text, st);
    r->bytes += r->text.size;
    r->count++;
    return rc;
}

static void measure_export(ft_store *s)
{
    reader x = {.s = s};
    ft_status st = {0};
    const ft_store_filter all = ft_store_filter_all();
    const double from = now();
    stop_on(ft_store_walk(s, &all, 0, read_one, &x, &st), &st);
    printf("\"export_traces_per_second\":%.0f,", (double)x.count / (now() - from));
    ft_buffer_release(&x.text);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("Usage: ft_bench_store FOLDER [TRACES | writes | packing | questions]\n", stderr);
        return 2;
    }
    const char *what = argc > 2 ? argv[2] : "1000000";
    const int packing = !strcmp(what, "packing"), writes = !packing && strcmp(what, "questions") != 0,
              questions = !packing && strcmp(what, "writes") != 0;
    const size_t traces = writes && questions ? (size_t)strtoull(what, NULL, 10) : 0;
    ft_status st = {0};
    ft_store *s;
    ft_random r;
    ft_random_init(&r, 1);
    (void)setvbuf(stdout, NULL, _IONBF, 0); /* what was measured is seen at once */
    if (writes || packing)
        stop_on(ft_folder_remove(argv[1], &st), &st);
    stop_on(ft_store_open(&s, argv[1], 0, &st), &st);
    printf("{\"layers\":%d,\"top_k\":%d,\"experts\":%d,\"tokens\":%d,", LAYERS, TOP_K, EXPERTS, TOKENS);
    if (packing)
        measure_packing(s, &r);
    if (writes) {
        measure_writes(s, &r);
        measure_receipts(s);
        const double pages = measure_group_alone(s, &r);
        measure_group(s);
        measure_disk(argv[1], (int)pages);
    }
    if (traces)
        fill(s, traces);
    if (questions) {
        measure_pages(s);
        measure_export(s);
    }
    ft_store_sizes sizes;
    stop_on(ft_store_get_sizes(s, &sizes, &st), &st);
    printf("\"file_bytes\":%llu,\"stored\":%llu}\n", (unsigned long long)sizes.file_bytes,
           (unsigned long long)sizes.traces);
    ft_store_close(s);
    return 0;
}
