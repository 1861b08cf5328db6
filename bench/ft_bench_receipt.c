/* ft_bench_receipt: what making and verifying one receipt costs, beyond reading files. One JSON object:
 *
 *   {"make_ms": {"p50", "p90"}, "verify_ms": {"p50", "p90"}, "envelope_bytes", "tokens", "spans", "documents"}
 *
 *   ft_bench_receipt [TOKENS [SPANS [DOCUMENTS [ROUNDS]]]]      defaults: 500 25 10 400
 *
 * Make: from the trace as JSON to the signed envelope. Verify: from the envelope's text to a signature that
 * holds and a statement without contradiction. Times are the processor's. Ids, owners and shares are drawn by a fixed
 * seed. */
#include "base/ft_file.h"
#include "base/ft_random.h"
#include "tracer/ft_receipt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EXPERTS = 7, PROMPT = 100, OWNERS = 3 };

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* its own time, on a machine that others use too */
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static json_t *ids_of(ft_random *r, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer((json_int_t)ft_random_below(r, 100000)));
    return list;
}

static json_t *hash_of(ft_random *r)
{
    return json_sprintf("sha256:%016llx%016llx%016llx%016llx", (unsigned long long)ft_random_u64(r),
                        (unsigned long long)ft_random_u64(r), (unsigned long long)ft_random_u64(r),
                        (unsigned long long)ft_random_u64(r));
}

static json_t *span_of(ft_random *r, size_t start, size_t documents)
{
    json_t *docs = json_array(), *shares = json_array();
    for (size_t i = 0; i < documents; i++)
        json_array_append_new(docs, json_pack("{s:o,s:o}", "owner", json_sprintf("owner-%zu", i % OWNERS), "id",
                                              json_sprintf("document-%llu", (unsigned long long)ft_random_u64(r))));
    for (size_t e = 0; e < EXPERTS; e++)
        json_array_append_new(shares, json_real(ft_random_unit(r)));
    /* Each owner that a document is of has the span. */
    return json_pack("{s:I,s:I,s:i,s:{s:i,s:i,s:i},s:f,s:o,s:o}", "start", (json_int_t)start, "end",
                     (json_int_t)start + 8, "count", 12, "owner_counts", "owner-0", 5, "owner-1", 4, "owner-2", 3,
                     "unigram_logprob_sum", -81.25, "shares", shares, "docs", docs);
}

static json_t *trace_of(ft_random *r, size_t tokens, size_t spans, size_t documents)
{
    json_t *experts = json_array(), *list = json_array(), *indexes = json_array();
    for (size_t e = 0; e < EXPERTS; e++)
        json_array_append_new(experts,
                              json_pack("{s:I,s:o,s:s,s:f}", "id", (json_int_t)e, "owner", json_sprintf("owner-%zu", e),
                                        "state", "active", "share", ft_random_unit(r)));
    for (size_t i = 0; i < spans; i++)
        json_array_append_new(list, span_of(r, i * (tokens - 8) / (spans ? spans : 1), documents));
    for (size_t i = 0; i < OWNERS; i++)
        json_array_append_new(indexes, json_pack("{s:o,s:o,s:i,s:i}", "owner", json_sprintf("owner-%zu", i), "root",
                                                 hash_of(r), "documents", 1000, "tokens", 1000000));
    json_t *provenance =
        json_pack("{s:o,s:o,s:{s:o,s:[I,i,i]},s:{s:s,s:s,s:s,s:s,s:o},s:o,s:i}", "tokenizer_digest", hash_of(r),
                  "indexes", indexes, "routing", "digest", hash_of(r), "shape", (json_int_t)(PROMPT + tokens - 1), 16,
                  5, "engine", "version", "0", "kernels", "avx2", "compute", "float32", "kv_type", "float32",
                  "model_identity", hash_of(r), "output_digest", hash_of(r), "generated_from", 0);
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:{s:f,s:i,s:i},s:[],s:{s:n,s:o},s:{s:n,s:o},s:o,s:o,s:o}", "id",
                     "trc_01KARECE1PTSMADEBYHAND0000", "created", "2026-01-31T12:00:00Z", "key", "local", "model",
                     "bench", "finish_reason", "length", "parameters", "temperature", 0.7, "seed", 7, "max_tokens",
                     (int)tokens, "without", "prompt", "text", "ids", ids_of(r, PROMPT), "response", "text", "ids",
                     ids_of(r, tokens), "experts", experts, "spans", list, "provenance", provenance);
}

static json_t *quantiles(double *ms, size_t n)
{
    qsort(ms, n, sizeof(*ms), by_value);
    return json_pack("{s:f,s:f}", "p50", ms[n / 2], "p90", ms[n * 9 / 10]);
}

static ft_code verify(const ft_buffer *text, const ft_public_key *key, ft_status *st)
{
    ft_envelope e;
    ft_receipt r = {0};
    uint64_t by = 0;
    ft_code rc = ft_dsse_parse(&e, text->data, text->size, "bench", st);
    if (!rc)
        rc = ft_dsse_verify(&e, key, 1, &by, st);
    if (!rc && !by)
        rc = ft_fail(st, FT_ERR_FORMAT, "bench: the signature does not hold");
    if (!rc)
        rc = ft_receipt_read(&r, &e, "bench", st);
    if (!rc && r.contradiction[0])
        rc = ft_fail(st, FT_ERR_FORMAT, "bench: %s", r.contradiction);
    ft_receipt_release(&r);
    ft_envelope_release(&e);
    return rc;
}

int main(int argc, char **argv)
{
    static const unsigned char secret[FT_STORE_SECRET] = "a secret that is none";
    size_t given[] = {500, 25, 10, 400};
    for (int i = 1; i < argc && i <= 4; i++)
        given[i - 1] = strtoul(argv[i], NULL, 10);
    const size_t rounds = given[3];
    char path[] = "/tmp/ft_bench_receipt-XXXXXX", key[64];
    ft_random random;
    ft_status st = {0};
    ft_signer *signer = NULL;
    ft_buffer text = {0};
    double *make = calloc(rounds, sizeof(*make)), *check = calloc(rounds, sizeof(*check));
    ft_random_init(&random, 7);
    if (!make || !check || !rounds || given[0] < 16 || !mkdtemp(path))
        return 2;
    snprintf(key, sizeof(key), "%s/key", path);
    json_t *trace = trace_of(&random, given[0], given[1], given[2]);
    ft_code rc = ft_signing_key_new(key, NULL, &st);
    if (!rc)
        rc = ft_signer_open(&signer, key, &st);
    for (size_t i = 0; !rc && i < rounds; i++) {
        const ft_receipt_options how = {.secret = secret};
        ft_buffer_reset(&text);
        const double a = now_ms();
        rc = ft_receipt_make(trace, &how, signer, &text, &st);
        const double b = now_ms();
        if (!rc)
            rc = verify(&text, ft_signer_public(signer), &st);
        make[i] = b - a;
        check[i] = now_ms() - b;
    }
    if (ft_folder_remove(path, NULL) != FT_OK)
        fprintf(stderr, "%s stays\n", path);
    if (rc) {
        fprintf(stderr, "%s\n", st.msg);
        return 1;
    }
    json_t *out =
        json_pack("{s:o,s:o,s:I,s:I,s:I,s:I}", "make_ms", quantiles(make, rounds), "verify_ms",
                  quantiles(check, rounds), "envelope_bytes", (json_int_t)text.size, "tokens", (json_int_t)given[0],
                  "spans", (json_int_t)given[1], "documents", (json_int_t)(given[1] * given[2]));
    json_dumpf(out, stdout, 0);
    putchar('\n');
    json_decref(out);
    json_decref(trace);
    ft_signer_close(signer);
    ft_buffer_release(&text);
    free(make);
    free(check);
    return 0;
}
