/* ft_bench: measures one thing in-process and prints one JSON object. bench/run
 * calls it beside the peers, in turn, and makes the table of docs/speed.md.
 *
 *   ft_bench bandwidth                          GB/s that all cores read together
 *   ft_bench model MODEL                        prefill and decode tokens/s
 *   ft_bench tokenizer TOK TEXT-FILE            MB/s on one thread: see bench_tokenizer
 *   ft_bench trace FEDERATION TEXT-FILE         latency of tracing 200-token responses */
#include "flextrace.h"

#include "base/ft_cpu.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_threads.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* For what neither waits nor shares its work: time that other programs took does not count. */
static double thread_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static _Noreturn void die(const ft_status *st)
{
    fprintf(stderr, "ft_bench: %s\n", st->msg);
    exit(1);
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

/* --- Memory ----------------------------------------------------------------- */

enum { STREAM_BYTES = 512 << 20, STREAM_PARTS = 64 };

typedef struct stream {
    const uint64_t *words;
    uint64_t sums[STREAM_PARTS];
} stream;

static void sum_part(void *context, size_t task, unsigned worker)
{
    (void)worker;
    stream *s = context;
    const size_t n = STREAM_BYTES / sizeof(uint64_t) / STREAM_PARTS;
    const uint64_t *p = s->words + task * n;
    uint64_t lanes[8] = {0};
    for (size_t i = 0; i < n; i += 8)
        for (size_t j = 0; j < 8; j++)
            lanes[j] += p[i + j];
    for (size_t j = 0; j < 8; j++)
        s->sums[task] += lanes[j];
}

static double bandwidth(ft_pool *pool)
{
    stream s = {0};
    uint64_t *words = malloc(STREAM_BYTES);
    if (!words)
        return 0;
    memset(words, 1, STREAM_BYTES);
    s.words = words;
    double best = 0;
    for (int round = 0; round < 7; round++) {
        const double start = now();
        ft_pool_run(pool, STREAM_PARTS, sum_part, &s);
        const double rate = STREAM_BYTES / (now() - start) / 1e9;
        best = rate > best ? rate : best;
    }
    free(words);
    return s.sums[0] ? best : 0;
}

/* --- Model ------------------------------------------------------------------- */

enum { PREFILL = 512, DECODE = 128, ROUNDS = 5 };

static json_t *bench_model(const char *folder, ft_pool *pool)
{
    ft_status st = {0};
    ft_model *m;
    if (ft_model_open(&m, folder, &st))
        die(&st);
    const size_t vocab = ft_model_get_config(m)->vocab;
    uint32_t ids[PREFILL];
    for (size_t i = 0; i < PREFILL; i++)
        ids[i] = (uint32_t)((i * 7919 + 13) % vocab);
    double prefill[ROUNDS], decode[ROUNDS];
    float *logits = calloc(vocab, sizeof(*logits));
    if (!logits)
        exit(1);
    for (int round = -1; round < ROUNDS; round++) { /* the first warms up */
        ft_session *s;
        const ft_session_options options = {.capture_routing = 1};
        const ft_outputs out = {.last_logits = logits};
        if (ft_session_open(&s, m, pool, &options, &st))
            die(&st);
        const double start = now();
        if (ft_session_read(s, ids, PREFILL, &out, NULL, &st))
            die(&st);
        const double middle = now();
        for (size_t i = 0; i < DECODE; i++)
            if (ft_session_read(s, ids + i, 1, &out, NULL, &st))
                die(&st);
        if (round >= 0) {
            prefill[round] = PREFILL / (middle - start);
            decode[round] = DECODE / (now() - middle);
        }
        ft_session_close(s);
    }
    const ft_model_sizes sizes = ft_model_get_sizes(m);
    const double bytes = (double)sizes.active_parameters * (double)sizes.weight_bytes / (double)sizes.parameters;
    json_t *result =
        json_pack("{s:f,s:f,s:f,s:I}", "prefill_tokens_per_s", quantile(prefill, ROUNDS, 0.5), "decode_tokens_per_s",
                  quantile(decode, ROUNDS, 0.5), "bytes_per_token", bytes, "parameters", (json_int_t)sizes.parameters);
    free(logits);
    ft_model_close(m);
    return result;
}

/* --- Text and traces ----------------------------------------------------------- */

typedef struct passes {
    double cold[ROUNDS], warm[ROUNDS]; /* MB/s with a new encoder, and with one that has seen the text */
} passes;

typedef ft_code (*encode_function)(ft_encoder *, const char *, size_t, ft_encoding *, ft_status *);

/* The whole text once, in documents of whole lines and of at least so many bytes. */
static double encode_pass(ft_encoder *e, encode_function encode, const ft_buffer *text, size_t document)
{
    ft_status st = {0};
    ft_encoding encoding = {0};
    const char *p = text->data, *end = p + text->size;
    const double start = thread_time();
    while (p < end) {
        const char *stop =
            (size_t)(end - p) > document ? memchr(p + document, '\n', (size_t)(end - p) - document) : NULL;
        stop = stop ? stop + 1 : end;
        if (encode(e, p, (size_t)(stop - p), &encoding, &st))
            die(&st);
        p = stop;
    }
    const double rate = (double)text->size / (thread_time() - start) / 1e6;
    ft_encoding_release(&encoding);
    return rate;
}

static passes encode_text(const ft_tokenizer *t, encode_function encode, const ft_buffer *text, size_t document)
{
    ft_status st = {0};
    passes result;
    for (int round = 0; round < ROUNDS; round++) {
        ft_encoder *e;
        if (ft_encoder_new(&e, t, &st))
            die(&st);
        result.cold[round] = encode_pass(e, encode, text, document);
        result.warm[round] = encode_pass(e, encode, text, document);
        ft_encoder_free(e);
    }
    return result;
}

/* mb_per_s: ids and offsets, a document a line, the median of cold passes; it stands beside the
 * peer's. The others: documents of 4 KB, as corpora have them, best of five: ids alone, as an index
 * is built, and with offsets; cold, with a new encoder, and warm, the same text again. */
static json_t *bench_tokenizer(const char *path, const char *file)
{
    enum { DOCUMENT = 4000 };
    ft_status st = {0};
    ft_tokenizer *t;
    ft_buffer text = {0};
    if (ft_tokenizer_open(&t, path, &st) || ft_file_read(file, 0, &text, &st))
        die(&st);
    passes lines = encode_text(t, ft_encoder_encode, &text, 0);
    passes ids = encode_text(t, ft_encoder_encode_ids, &text, DOCUMENT);
    passes offsets = encode_text(t, ft_encoder_encode, &text, DOCUMENT);
    ft_tokenizer_close(t);
    ft_buffer_release(&text);
    return json_pack("{s:f,s:f,s:f,s:f,s:f}", "mb_per_s", quantile(lines.cold, ROUNDS, 0.5), "ids_cold_mb_per_s",
                     quantile(ids.cold, ROUNDS, 1), "ids_warm_mb_per_s", quantile(ids.warm, ROUNDS, 1),
                     "offsets_cold_mb_per_s", quantile(offsets.cold, ROUNDS, 1), "offsets_warm_mb_per_s",
                     quantile(offsets.warm, ROUNDS, 1));
}

enum { RESPONSE = 200, RESPONSES = 100 };

static json_t *bench_trace(const char *path, const char *file)
{
    ft_status st = {0};
    ft_federation *f;
    ft_buffer text = {0};
    ft_encoding encoding = {0};
    ft_encoder *e;
    if (ft_federation_open(&f, path, &st) || ft_encoder_new(&e, ft_federation_tokenizer(f), &st) ||
        ft_file_read(file, 0, &text, &st) || ft_encoder_encode(e, text.data, text.size, &encoding, &st))
        die(&st);
    ft_snapshot *snapshot = ft_federation_snapshot(f);
    const ft_trace_scope *scope = ft_snapshot_scope(snapshot);
    const ft_trace_options options = ft_trace_options_default(scope);
    double took[RESPONSES];
    size_t spans = 0;
    if (encoding.count < RESPONSE + RESPONSES) {
        fprintf(stderr, "ft_bench: %s is too short\n", file);
        exit(1);
    }
    for (size_t i = 0; i < RESPONSES; i++) {
        const ft_trace_input input = {.response = encoding.ids + (encoding.count - RESPONSE) * i / RESPONSES,
                                      .response_count = RESPONSE};
        json_t *trace;
        const double start = now();
        if (ft_trace_make(scope, &input, &options, &trace, &st))
            die(&st);
        took[i] = (now() - start) * 1e3;
        spans += json_array_size(json_object_get(trace, "spans"));
        json_decref(trace);
    }
    ft_encoding_release(&encoding);
    ft_encoder_free(e);
    ft_buffer_release(&text);
    ft_snapshot_release(snapshot);
    ft_federation_close(f);
    return json_pack("{s:f,s:f,s:f}", "p50_ms", quantile(took, RESPONSES, 0.5), "p99_ms",
                     quantile(took, RESPONSES, 0.99), "spans", (double)spans / RESPONSES);
}

int main(int argc, char **argv)
{
    ft_status st = {0};
    ft_pool *pool;
    if (ft_pool_new(&pool, 0, &st))
        die(&st);
    json_t *result = NULL;
    if (argc == 2 && !strcmp(argv[1], "bandwidth"))
        result = json_pack("{s:f,s:i}", "gb_per_s", bandwidth(pool), "threads", (int)ft_pool_size(pool));
    else if (argc == 3 && !strcmp(argv[1], "model"))
        result = bench_model(argv[2], pool);
    else if (argc == 4 && !strcmp(argv[1], "tokenizer"))
        result = bench_tokenizer(argv[2], argv[3]);
    else if (argc == 4 && !strcmp(argv[1], "trace"))
        result = bench_trace(argv[2], argv[3]);
    ft_pool_free(pool);
    if (!result) {
        fputs("usage: ft_bench bandwidth | model MODEL | tokenizer TOK FILE | trace FEDERATION FILE\n", stderr);
        return 2;
    }
    json_dumpf(result, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(result);
    return 0;
}
