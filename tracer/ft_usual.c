#include "tracer/ft_usual.h"

#include "index/ft_input_fingerprint.h"
#include "text/ft_corpus.h"
#include "tracer/tracer_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_TOKENS = 1024 };

struct ft_usual_run {
    ft_engine *engine;
    ft_corpus *corpus;
    ft_encoder *encoder;
    ft_encoding document;
    size_t at; /* tokens of the document that were read */
    size_t tokens, max_tokens;
    uint64_t without;
    ft_session *session;
    double sums[FT_MAX_EXPERTS];
};

double ft_usual_share(const ft_usual *u, size_t expert, uint64_t without)
{
    double left = 0;
    for (size_t e = 0; e < u->experts; e++)
        left += without >> e & 1 ? 0 : u->shares[e];
    return expert >= u->experts || without >> expert & 1 || left <= 0 ? 0 : u->shares[expert] / left;
}

ft_code ft_usual_fingerprint(const ft_model *m, const ft_tokenizer *t, const char *text, size_t max_tokens,
                             uint64_t without, char out[FT_DIGEST_HEX], ft_status *st)
{
    const char *paths[] = {ft_model_folder(m), text};
    uint64_t files = 0;
    char digest_hex[FT_DIGEST_HEX], all[200];
    const ft_code rc = ft_input_fingerprint(paths, 2, &files, st);
    if (rc)
        return rc;
    const ft_digest digest = ft_tokenizer_digest(t);
    ft_digest_hex(&digest, digest_hex);
    int n = snprintf(all, sizeof(all), "usual 1 %016" PRIx64 " %s %zu", files, digest_hex, max_tokens);
    if (without)
        n += snprintf(all + n, sizeof(all) - (size_t)n, " without %" PRIx64, without);
    const ft_digest named = ft_digest_of(all, (size_t)n);
    ft_digest_hex(&named, out);
    return FT_OK;
}

/* --- Measuring --------------------------------------------------------------------------- */

void ft_usual_run_free(ft_usual_run *r)
{
    if (!r)
        return;
    ft_session_close(r->session);
    ft_encoding_release(&r->document);
    ft_encoder_free(r->encoder);
    ft_corpus_close(r->corpus);
    free(r);
}

ft_code ft_usual_run_new(ft_usual_run **out, ft_engine *e, const ft_tokenizer *t, const char *text, size_t max_tokens,
                         uint64_t without, ft_status *st)
{
    *out = NULL;
    ft_usual_run *r = calloc(1, sizeof(*r));
    if (!r)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", text);
    r->engine = e;
    r->max_tokens = max_tokens;
    r->without = without;
    ft_code rc = ft_corpus_open(&r->corpus, &text, 1, NULL, st);
    if (!rc)
        rc = ft_encoder_new(&r->encoder, t, st);
    if (rc)
        ft_usual_run_free(r);
    else
        *out = r;
    return rc;
}

/* Sums the shares of every token that the session read: each token weighs the same. */
static void add_shares(ft_usual_run *r, size_t from)
{
    const ft_routing routing = ft_session_routing(r->session);
    double shares[FT_MAX_EXPERTS];
    for (size_t t = from; t < routing.tokens; t++) {
        ft_routing_shares(&routing, t + 1, t + 2, shares); /* row t wrote token t + 1 */
        for (size_t x = 0; x < routing.experts; x++)
            r->sums[x] += shares[x];
    }
    r->tokens += routing.tokens - from;
}

static ft_code next_document(ft_usual_run *r, int *more, ft_status *st)
{
    ft_document d;
    ft_code rc = ft_corpus_next(r->corpus, &d, more, st);
    if (!rc && *more)
        rc = ft_encoder_encode_ids(r->encoder, d.text, d.text_bytes, &r->document, st);
    r->at = 0;
    return rc;
}

ft_code ft_usual_run_step(ft_usual_run *r, int *done, ft_status *st)
{
    int more = 1;
    ft_code rc = FT_OK;
    while (!rc && more && r->at == r->document.count) {
        ft_session_close(r->session);
        r->session = NULL;
        if (r->tokens >= r->max_tokens)
            break;
        rc = next_document(r, &more, st);
    }
    *done = !rc && (!more || r->tokens >= r->max_tokens);
    if (rc || *done)
        return rc;
    const size_t limit = ft_model_get_config(ft_engine_model(r->engine))->max_position;
    const size_t piece = limit < PIECE_TOKENS ? limit : PIECE_TOKENS;
    if (!r->session) {
        const ft_session_options o = {.max_tokens = piece, .without = r->without, .capture_routing = 1};
        rc = ft_session_open_on(&r->session, r->engine, &o, st);
        if (rc)
            return rc;
    }
    const size_t read = ft_session_length(r->session);
    const size_t batch = ft_engine_batch_tokens(r->engine);
    size_t n = r->document.count - r->at;
    n = n < batch ? n : batch;
    n = n < piece - read ? n : piece - read;
    n = n < r->max_tokens - r->tokens ? n : r->max_tokens - r->tokens;
    rc = ft_session_read(r->session, r->document.ids + r->at, n, &(ft_outputs){0}, NULL, st);
    if (rc)
        return rc;
    add_shares(r, read);
    r->at += n;
    if (read + n == piece) { /* the document goes on in a new timeline */
        ft_session_close(r->session);
        r->session = NULL;
    }
    *done = r->tokens >= r->max_tokens;
    return FT_OK;
}

ft_code ft_usual_run_end(ft_usual_run *r, ft_usual *out, ft_status *st)
{
    double sum = 0;
    *out = (ft_usual){.experts = ft_model_get_config(ft_engine_model(r->engine))->experts, .tokens = r->tokens};
    for (size_t e = 0; e < out->experts; e++)
        sum += r->sums[e];
    if (!(sum > 0))
        return ft_fail(st, FT_ERR_FORMAT, "the validation text holds no token that a model with experts could read");
    for (size_t e = 0; e < out->experts; e++)
        out->shares[e] = r->sums[e] / sum;
    return FT_OK;
}

/* --- JSON ------------------------------------------------------------------------------------ */

json_t *ft_usual_json(const ft_usual *u)
{
    return json_pack("{s:s,s:I,s:o}", "fingerprint", u->fingerprint, "tokens", (json_int_t)u->tokens, "shares",
                     json_numbers(u->shares, u->experts));
}

ft_code ft_usual_parse(const json_t *value, ft_usual *out, ft_status *st)
{
    const char *fingerprint = "";
    int64_t tokens = 0;
    double sum = 0;
    const json_t *shares = json_object_get(value, "shares");
    *out = (ft_usual){.experts = json_array_size(shares)};
    ft_code rc = ft_json_get_string(value, "fingerprint", &fingerprint, st);
    if (!rc)
        rc = ft_json_get_int(value, "tokens", 1, INT64_MAX, &tokens, st);
    if (rc)
        return rc;
    for (size_t e = 0; e < out->experts && e < FT_MAX_EXPERTS; e++) {
        out->shares[e] = json_number_value(json_array_get(shares, e));
        sum += out->shares[e];
    }
    if (!out->experts || out->experts > FT_MAX_EXPERTS || strlen(fingerprint) >= sizeof(out->fingerprint) ||
        !(fabs(sum - 1) < 1e-6) || !tokens)
        return ft_fail(st, FT_ERR_FORMAT, "not a file of usual shares");
    out->tokens = (uint64_t)tokens;
    snprintf(out->fingerprint, sizeof(out->fingerprint), "%s", fingerprint);
    return FT_OK;
}
