/* ft_bench_trace: what tracing costs.
 *
 *   ft_bench_trace trace TOKENIZER TOKENS.npy RESPONSES INDEX…      one JSON object
 *   ft_bench_trace tracker TOKENIZER TOKENS.npy RESPONSES INDEX…
 *   ft_bench_trace causal MODEL [EXPERTS]
 *
 *   trace    responses of 500 tokens out of TOKENS.npy, each INDEX another owner's: the whole trace (spans,
 *            documents, ranking, JSON) and the spans alone, milliseconds; indexes warm
 *   tracker  the same responses told token by token: microseconds a token
 *   causal   a response of 200 tokens behind a prompt of 56: all EXPERTS (6) left out in turn in one batch,
 *            one expert for a span of 20 tokens in the middle, and one teacher-forced pass, in turns */
#include "base/ft_npy.h"
#include "tracer/ft_causal.h"
#include "tracer/ft_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RESPONSE = 500, MOST_INDEXES = 16, MOST_RESPONSES = 1000, TURNS = 3 };

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "ft_bench_trace: %s\n", what);
    exit(4);
}

static void need(ft_code rc, const ft_status *st)
{
    if (rc)
        die(st->msg);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of all threads, as a trace has two: what a machine that others use too says of the work itself. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_quantiles(const char *name, double *list, size_t n, double scale, const char *after)
{
    qsort(list, n, sizeof(*list), by_value);
    printf("\"%s\":{\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"count\":%zu}%s", name, list[n / 2] * scale,
           list[n * 9 / 10] * scale, list[n * 99 / 100] * scale, n, after);
}

/* --- Indexes ------------------------------------------------------------------------------ */

typedef struct house {
    ft_tokenizer *tokenizer;
    ft_lexicon *lexicon;
    ft_index *indexes[MOST_INDEXES];
    const ft_index *views[MOST_INDEXES];
    ft_owner owners[MOST_INDEXES];
    char names[MOST_INDEXES][24];
    ft_trace_scope scope;
    const uint32_t *tokens;
    size_t count, responses;
    uint64_t corpus_tokens;
} house;

static void open_house(house *h, char **arguments, int count)
{
    static const char *const ends[] = {"\n", "."};
    ft_status st = {0};
    static ft_npy array;
    if (count < 4 || count - 3 > MOST_INDEXES)
        die("trace and tracker want TOKENIZER TOKENS.npy RESPONSES INDEX…");
    need(ft_tokenizer_open(&h->tokenizer, arguments[0], &st), &st);
    need(ft_lexicon_new(&h->lexicon, h->tokenizer, &st), &st);
    need(ft_npy_open(&array, arguments[1], &st), &st);
    h->tokens = array.data;
    h->count = array.shape[0];
    h->responses = (size_t)atol(arguments[2]);
    if (!h->responses || h->responses > MOST_RESPONSES || h->count < RESPONSE)
        die("1 to 1,000 responses, of at least 500 tokens");
    for (int i = 0; i < count - 3; i++) {
        need(ft_index_open(&h->indexes[i], arguments[3 + i], &st), &st);
        h->views[i] = h->indexes[i];
        snprintf(h->names[i], sizeof(h->names[i]), "owner %d", i);
        h->owners[i] = (ft_owner){h->names[i], "", i, &h->views[i], 1};
        h->corpus_tokens += ft_index_get_info(h->indexes[i]).tokens;
    }
    h->scope = (ft_trace_scope){
        .tokenizer = h->tokenizer, .lexicon = h->lexicon, .owners = h->owners, .owner_count = (size_t)(count - 3)};
    need(ft_token_set_containing(&h->scope.delimiters, h->tokenizer, ends, 2, &st), &st);
    need(ft_token_set_word_starts(&h->scope.word_starts, h->tokenizer, &st), &st);
}

/* Responses lie evenly over the tokens. */
static const uint32_t *response_of(const house *h, size_t i)
{
    return h->tokens + (h->count - RESPONSE) / h->responses * i;
}

static void bench_traces(house *h)
{
    static double whole[MOST_RESPONSES], search[MOST_RESPONSES], cpu[MOST_RESPONSES];
    const ft_trace_options options = ft_trace_options_default(&h->scope);
    const ft_index_set set = {h->views, h->scope.owner_count};
    size_t spans = 0, documents = 0;
    ft_status st = {0};
    for (int turn = 0; turn < 2; turn++) { /* the first brings everything into memory */
        spans = documents = 0;
        for (size_t i = 0; i < h->responses; i++) {
            const ft_trace_input in = {.response = response_of(h, i), .response_count = RESPONSE};
            json_t *trace;
            double began = seconds();
            const double cpu_began = cpu_seconds();
            need(ft_trace_make(&h->scope, &in, &options, &trace, &st), &st);
            whole[i] = seconds() - began;
            cpu[i] = cpu_seconds() - cpu_began;
            spans += json_array_size(json_object_get(trace, "spans"));
            documents += json_array_size(json_object_get(trace, "documents"));
            json_decref(trace);
            ft_spans found;
            began = seconds();
            need(ft_spans_find(set, in.response, RESPONSE, &options.rules, &found, &st), &st);
            search[i] = seconds() - began;
            ft_spans_release(&found);
        }
    }
    printf("{\"corpus_tokens\":%llu,\"spans\":%.1f,\"documents\":%.1f,", (unsigned long long)h->corpus_tokens,
           (double)spans / (double)h->responses, (double)documents / (double)h->responses);
    print_quantiles("trace_ms", whole, h->responses, 1e3, ",");
    print_quantiles("trace_cpu_ms", cpu, h->responses, 1e3, ",");
    print_quantiles("spans_ms", search, h->responses, 1e3, "}\n");
}

static void bench_tracker(house *h)
{
    double *each = calloc(h->responses * RESPONSE, sizeof(*each));
    const ft_trace_options options = ft_trace_options_default(&h->scope);
    const ft_index_set set = {h->views, h->scope.owner_count};
    ft_status st = {0};
    if (!each)
        die("no memory");
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < h->responses; i++) {
            ft_span_tracker *t;
            need(ft_span_tracker_new(&t, set, &options.rules, &st), &st);
            for (size_t k = 0; k < RESPONSE; k++) {
                const double began = seconds();
                need(ft_span_tracker_append(t, response_of(h, i) + k, 1, &st), &st);
                each[i * RESPONSE + k] = seconds() - began;
            }
            ft_span_tracker_free(t);
        }
    printf("{");
    print_quantiles("token_us", each, h->responses * RESPONSE, 1e6, "}\n");
    free(each);
}

/* --- Cause --------------------------------------------------------------------------------- */

static double run_causal(ft_engine *e, ft_pool *pool, const ft_causal_request *r)
{
    ft_causal *c;
    ft_status st = {0};
    int done = 0;
    const double began = seconds();
    need(ft_causal_new(&c, e, r, &st), &st);
    while (!done)
        need(ft_causal_step(c, pool, &done, &st), &st);
    const double took = seconds() - began;
    ft_causal_free(c);
    return took;
}

static double median(double *list, size_t n)
{
    qsort(list, n, sizeof(*list), by_value);
    return list[n / 2];
}

static void bench_causal(const char *folder, size_t experts)
{
    enum { PROMPT = 56, ALL = 256, SPAN = 20 };
    ft_model *m;
    ft_engine *e;
    ft_pool *pool;
    ft_status st = {0};
    need(ft_model_open(&m, folder, &st), &st);
    need(ft_pool_new(&pool, 0, &st), &st);
    const ft_engine_options o = {
        .compute = FT_COMPUTE_BFLOAT16, .kv_type = FT_KV_BF16, .kv_bytes = (size_t)1 << 30, .no_prefix_cache = 1};
    need(ft_engine_new(&e, m, pool, &o, &st), &st);
    const size_t there = ft_model_get_config(m)->experts;
    if (experts < 2 || experts > there)
        die("so many experts are not there");
    const uint64_t without = ((UINT64_C(1) << there) - 1) & ~((UINT64_C(1) << experts) - 1);
    uint8_t list[FT_MAX_EXPERTS];
    uint32_t ids[ALL];
    for (size_t i = 0; i < ALL; i++)
        ids[i] = (uint32_t)(i * 7919 + 13) % (uint32_t)ft_model_get_config(m)->vocab;
    const size_t count = ft_causal_experts(m, without, 0, list);
    const ft_causal_request one = {ids, PROMPT, ALL, without, list, 0}, all = {ids, PROMPT, ALL, without, list, count};
    const size_t middle = PROMPT + (ALL - PROMPT) / 2;
    const ft_causal_request span = {ids, middle - SPAN / 2, middle + SPAN / 2, without, list, 1};
    double a[TURNS], b[TURNS], c[TURNS];
    (void)run_causal(e, pool, &one);
    for (size_t i = 0; i < TURNS; i++) { /* one pass right before and right after */
        const double before = run_causal(e, pool, &one);
        const double batch = run_causal(e, pool, &all), small = run_causal(e, pool, &span);
        a[i] = (before + run_causal(e, pool, &one)) / 2;
        b[i] = batch / a[i];
        c[i] = small / a[i];
    }
    printf("{\"experts\":%zu,\"pass_s\":%.3f,\"all_in_passes\":%.3f,\"span_in_passes\":%.3f}\n", count,
           median(a, TURNS), median(b, TURNS), median(c, TURNS));
    ft_engine_free(e);
    ft_pool_free(pool);
    ft_model_close(m);
}

int main(int argc, char **argv)
{
    static house h;
    if (argc >= 3 && !strcmp(argv[1], "causal")) {
        bench_causal(argv[2], argc > 3 ? (size_t)atol(argv[3]) : 6);
        return 0;
    }
    if (argc < 3 || (strcmp(argv[1], "trace") != 0 && strcmp(argv[1], "tracker") != 0))
        die("one of: trace, tracker, causal");
    open_house(&h, argv + 2, argc - 2);
    if (!strcmp(argv[1], "trace"))
        bench_traces(&h);
    else
        bench_tracker(&h);
    return 0;
}
