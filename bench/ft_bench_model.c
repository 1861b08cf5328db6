/* ft_bench_model: tokens a second of the engine, beside what memory's speed allows.
 *
 *   ft_bench_model MODEL [--compute C] [--kv-type T] [--threads N] LINE…     one JSON object
 *
 *   decode      one request, a token a step
 *   batch-N     N requests at once
 *   prefill-N   a prompt of N tokens, logits of the last
 *   long-N      decode behind N tokens of context
 *   capture-N   batch-N with routing captured, as a ratio to the same without, in turns
 *   stall-N     one running request while a prompt of N tokens comes in: the longest time
 *               between two of its tokens, by the scheduler as the server runs it
 *
 * A step's bound is the time in which memory gives the bytes that it has to read: the
 * attention's weights, the head, the chosen experts (N > 1: all experts), the keys and
 * values of the context. Memory's speed is sampled before and after every few steps. */
#include "ft_stream.h"
#include "model/ft_engine.h"
#include "model/ft_model.h"
#include "model/ft_scheduler.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MOST = 64, WARM = 6, GROUP = 4, GROUPS = 24, PREFILLS = 5 };

typedef struct bench {
    ft_model *model;
    ft_engine *engine;
    ft_pool *pool;
    ft_stream stream;
    ft_engine_options how;
    unsigned threads;
    ft_session *sessions[MOST];
    float *logits; /* [MOST, V] */
    uint32_t seed;
} bench;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "ft_bench_model: %s\n", what);
    exit(4);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *list, size_t n, double q)
{
    qsort(list, n, sizeof(*list), by_value);
    return list[(size_t)(q * (double)(n - 1))];
}

static uint32_t draw_id(bench *b)
{
    b->seed = b->seed * 1664525u + 1013904223u;
    return (b->seed >> 8) % (uint32_t)ft_model_get_config(b->model)->vocab;
}

/* Bytes that a step over `requests` tokens with `context` tokens before each has to read. */
static double bytes_of_step(const bench *b, size_t requests, size_t context)
{
    const ft_model_config *c = ft_model_get_config(b->model);
    const ft_model_sizes z = ft_model_get_sizes(b->model);
    const double embedding = c->tie_word_embeddings ? 0 : (double)(c->vocab * c->hidden);
    const double expert = 3.0 * (double)(c->layers * c->hidden * c->intermediate);
    const double used =
        (double)z.parameters - embedding - (requests == 1 && c->experts ? (double)(c->experts - c->top_k) * expert : 0);
    const char *type = z.weight_type;
    const double each = !strcmp(type, "float32") ? 4
                        : strstr(type, "int8")   ? 17.0 / 16
                        : strstr(type, "int4")   ? 9.0 / 16
                                                 : 2;
    const double kv = 2.0 * (double)(c->layers * c->kv_heads * c->head_dim) * (b->how.kv_type == FT_KV_F32 ? 4 : 2);
    return used * each + kv * (double)(context * requests);
}

static void open_sessions(bench *b, size_t n, int capture)
{
    ft_status st = {0};
    const ft_session_options o = {.capture_routing = capture};
    for (size_t i = 0; i < n; i++)
        if (ft_session_open_on(&b->sessions[i], b->engine, &o, &st))
            die(st.msg);
}

static void close_sessions(bench *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ft_session_close(b->sessions[i]);
}

/* `count` new tokens to each session; seconds. */
static double step(bench *b, size_t sessions, size_t count)
{
    static uint32_t ids[MOST * 512];
    ft_read reads[MOST];
    ft_status st = {0};
    const size_t vocab = ft_model_get_config(b->model)->vocab;
    for (size_t i = 0; i < sessions; i++) {
        reads[i] = (ft_read){.session = b->sessions[i], .ids = ids + i * count, .count = count};
        reads[i].out.last_logits = b->logits + i * vocab;
        for (size_t t = 0; t < count; t++)
            ids[i * count + t] = draw_id(b);
    }
    const double start = ft_stream_now();
    if (ft_engine_read(b->engine, reads, sessions, &st))
        die(st.msg);
    return ft_stream_now() - start;
}

static void read_context(bench *b, size_t sessions, size_t tokens)
{
    for (size_t i = 0; i < sessions; i++)
        for (size_t at = 0; at < tokens;) {
            ft_status st = {0};
            uint32_t ids[64];
            const size_t n = tokens - at < 64 ? tokens - at : 64;
            for (size_t t = 0; t < n; t++)
                ids[t] = draw_id(b);
            if (ft_session_read(b->sessions[i], ids, n, NULL, NULL, &st))
                die(st.msg);
            at += n;
        }
}

/* A few steps between two looks at memory's speed, again and again. */
static json_t *decode(bench *b, size_t requests, size_t context)
{
    open_sessions(b, requests, 0);
    read_context(b, requests, context);
    for (int i = 0; i < WARM; i++)
        (void)step(b, requests, 1);
    double seconds[GROUPS], of_bound[GROUPS], bound[GROUPS];
    double before = ft_stream_sample(&b->stream);
    for (size_t g = 0; g < GROUPS; g++) {
        double took = 0;
        for (int i = 0; i < GROUP; i++)
            took += step(b, requests, 1) / GROUP;
        const double after = ft_stream_sample(&b->stream), speed = (before + after) / 2;
        before = after;
        seconds[g] = took;
        bound[g] = (double)requests * speed / bytes_of_step(b, requests, context + WARM + g * GROUP);
        of_bound[g] = (double)requests / took / bound[g];
    }
    close_sessions(b, requests);
    return json_pack("{s:f,s:f,s:f,s:f}", "tokens_per_s", (double)requests / quantile(seconds, GROUPS, 0.25), "median",
                     (double)requests / quantile(seconds, GROUPS, 0.5), "bound", quantile(bound, GROUPS, 0.5),
                     "of_bound", quantile(of_bound, GROUPS, 0.5));
}

static json_t *prefill(bench *b, size_t tokens)
{
    double best = 1e9;
    const size_t chunk = ft_engine_batch_tokens(b->engine);
    for (int i = 0; i < PREFILLS; i++) {
        open_sessions(b, 1, 0);
        double took = 0;
        for (size_t at = 0; at < tokens;) {
            const size_t n = tokens - at < chunk ? tokens - at : chunk;
            took += step(b, 1, n < 512 ? n : 512);
            at += n < 512 ? n : 512;
        }
        close_sessions(b, 1);
        best = took < best ? took : best;
    }
    return json_pack("{s:f}", "tokens_per_s", (double)tokens / best);
}

/* Steps with and without capture in turns: neighbours meet both. */
static json_t *capture(bench *b, size_t requests)
{
    double with[GROUPS], without[GROUPS];
    ft_session *plain[MOST], *captured[MOST];
    open_sessions(b, requests, 0);
    memcpy(plain, b->sessions, sizeof(plain));
    open_sessions(b, requests, 1);
    memcpy(captured, b->sessions, sizeof(captured));
    for (size_t g = 0; g < GROUPS; g++)
        for (int k = 0; k < 2; k++) {
            memcpy(b->sessions, k ? captured : plain, sizeof(plain));
            double took = 0;
            for (int i = 0; i < GROUP; i++)
                took += step(b, requests, 1);
            (k ? with : without)[g] = took;
        }
    for (size_t i = 0; i < requests; i++) {
        ft_session_close(plain[i]);
        ft_session_close(captured[i]);
    }
    return json_pack("{s:f}", "ratio", quantile(without, GROUPS, 0.25) / quantile(with, GROUPS, 0.25));
}

/* --- A prompt beside a stream ------------------------------------------------------- */

typedef struct watched {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t tokens;
    double last, longest; /* when its latest token came; the longest wait, since `watching` */
    int watching, stop, ended;
} watched;

static int on_token(void *context, const ft_generation *g, int final, ft_code rc, const ft_status *st)
{
    watched *w = context;
    const ft_generation_state now = ft_generation_get(g);
    if (rc)
        die(st->msg);
    pthread_mutex_lock(&w->lock);
    if (now.count > w->tokens) {
        const double at = ft_stream_now();
        if (w->watching && w->last > 0 && at - w->last > w->longest)
            w->longest = at - w->last;
        w->last = at;
        w->tokens = now.count;
    }
    w->ended |= final;
    const int stop = w->stop;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return stop;
}

static void wait_tokens(watched *w, size_t tokens, int end)
{
    pthread_mutex_lock(&w->lock);
    while (!w->ended && (end || w->tokens < tokens))
        pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static void set_watching(watched *w, int watching, int stop)
{
    pthread_mutex_lock(&w->lock);
    w->watching = watching;
    w->stop = stop;
    pthread_mutex_unlock(&w->lock);
}

static json_t *stall(bench *b, size_t tokens)
{
    enum { ALONE = 24, ROOM = 4096 };
    ft_status st = {0};
    ft_scheduler *s;
    watched stream = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER}, prompt = stream;
    uint32_t *ids = malloc(tokens * sizeof(*ids));
    for (size_t i = 0; ids && i < tokens; i++)
        ids[i] = draw_id(b);
    const ft_scheduler_options o = {.threads = b->threads, .compute = b->how.compute, .kv_type = b->how.kv_type};
    if (!ids || ft_scheduler_new(&s, b->model, NULL, &o, &st))
        die(ids ? st.msg : "out of memory");
    ft_generate_request r = {
        .prompt = ids, .prompt_count = 8, .max_new_tokens = ROOM, .sampling = {.top_p = 1}, .ignore_end_of_text = 1};
    if (ft_scheduler_submit(s, &r, on_token, &stream, &st))
        die(st.msg);
    wait_tokens(&stream, ALONE, 0);
    r.prompt_count = tokens;
    r.max_new_tokens = 1;
    const double begin = ft_stream_now();
    set_watching(&stream, 1, 0);
    if (ft_scheduler_submit(s, &r, on_token, &prompt, &st))
        die(st.msg);
    wait_tokens(&prompt, 0, 1);
    const double took = ft_stream_now() - begin;
    set_watching(&stream, 0, 1);
    wait_tokens(&stream, 0, 1);
    ft_scheduler_free(s);
    free(ids);
    return json_pack("{s:f,s:f,s:f}", "longest_ms", stream.longest * 1e3, "prompt_s", took, "tokens_per_s",
                     (double)(stream.tokens - ALONE) / took);
}

static json_t *line(bench *b, const char *name)
{
    const char *dash = strchr(name, '-');
    const size_t n = dash ? (size_t)strtoul(dash + 1, NULL, 10) : 1;
    if (!strcmp(name, "decode"))
        return decode(b, 1, 8);
    if (n < 1 ||
        n > (!strncmp(name, "prefill-", 8) || !strncmp(name, "long-", 5) || !strncmp(name, "stall-", 6) ? 65536 : MOST))
        die("a line has a number that is out of range");
    if (!strncmp(name, "batch-", 6))
        return decode(b, n, 8);
    if (!strncmp(name, "prefill-", 8))
        return prefill(b, n);
    if (!strncmp(name, "long-", 5))
        return decode(b, 1, n);
    if (!strncmp(name, "capture-", 8))
        return capture(b, n);
    if (!strncmp(name, "stall-", 6))
        return stall(b, n);
    die("a line is decode, batch-N, prefill-N, long-N, capture-N or stall-N");
}

int main(int argc, char **argv)
{
    ft_status st = {0};
    static bench b;
    ft_engine_options o = {.batch_tokens = 512, .no_prefix_cache = 1};
    unsigned threads = 0;
    int at = 2;
    for (; at + 1 < argc && argv[at][0] == '-'; at += 2)
        if (!strcmp(argv[at], "--compute") ? ft_compute_parse(&o.compute, argv[at + 1], &st) != FT_OK
            : !strcmp(argv[at], "--kv-type")
                ? ft_kv_type_parse(&o.kv_type, argv[at + 1], &st) != FT_OK
                : strcmp(argv[at], "--threads") || !(threads = (unsigned)atoi(argv[at + 1])))
            die(st.msg[0] ? st.msg : "unknown option");
    if (argc <= at)
        die("usage: ft_bench_model MODEL [--compute C] [--kv-type T] [--threads N] LINE…");
    b.how = o;
    b.threads = threads;
    if (ft_pool_new(&b.pool, threads, &st) || ft_model_open(&b.model, argv[1], &st) ||
        ft_engine_new(&b.engine, b.model, b.pool, &o, &st))
        die(st.msg);
    b.logits = malloc(MOST * ft_model_get_config(b.model)->vocab * sizeof(*b.logits));
    if (!b.logits || !ft_stream_open(&b.stream, b.pool))
        die("out of memory");
    json_t *out = json_object();
    for (; at < argc; at++)
        json_object_set_new(out, argv[at], line(&b, argv[at]));
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    json_object_set_new(out, "peak_rss_bytes", json_integer((json_int_t)u.ru_maxrss * 1024));
    json_dumpf(out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    puts("");
    json_decref(out);
    ft_stream_close(&b.stream);
    free(b.logits);
    ft_engine_free(b.engine);
    ft_model_close(b.model);
    ft_pool_free(b.pool);
    return 0;
}
