#include "tracer/ft_replay.h"

#include "base/ft_cpu.h"
#include "tracer/ft_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the receipt asks to be run. */
typedef struct run {
    const ft_receipt *r;
    const ft_model *m;
    const ft_tokenizer *t;
    const ft_replay_options *o;
    ft_replay_result *out;
    uint32_t *ids; /* what is read first: prompt, and output where that was given */
    size_t count;
    const uint32_t *expected;
    size_t expected_count;
    uint64_t without;
    ft_engine_options engine;
    ft_generate_request request;
    uint32_t *stop_ids, *bias_ids;
    float *bias_values;
} run;

static json_t *field(const json_t *object, const char *key)
{
    return json_object_get(object, key);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(field(object, key));
    return text ? text : "";
}

/* --- The model --------------------------------------------------------------------- */

static int differs_from(const json_t *said, const ft_digest *here)
{
    char text[FT_DIGEST_TEXT];
    ft_digest_text(here, text);
    return json_is_string(said) && strcmp(json_string_value(said), text) != 0;
}

uint64_t ft_receipt_unread(const ft_receipt *r)
{
    const json_t *experts = field(r->predicate, "experts");
    uint64_t unread = 0;
    for (size_t i = 0; i < json_array_size(experts); i++) {
        const json_t *x = json_array_get(experts, i);
        if (json_is_null(field(x, "digest")) && !json_is_true(field(x, "active")))
            unread |= UINT64_C(1) << json_integer_value(field(x, "id"));
    }
    return unread;
}

void ft_receipt_compare_model(const ft_receipt *r, const ft_model_digests *d, const ft_tokenizer *t, char differs[200])
{
    const json_t *model = field(r->predicate, "model"), *experts = field(r->predicate, "experts");
    differs[0] = '\0';
    for (size_t i = 0; i < json_array_size(experts) && !differs[0]; i++) {
        const json_t *x = json_array_get(experts, i);
        const size_t id = (size_t)json_integer_value(field(x, "id"));
        if (id >= d->expert_count || differs_from(field(x, "digest"), &d->experts[id]))
            snprintf(differs, 200, "expert %zu (%.80s) is another one", id, text_of(x, "owner"));
    }
    if (!differs[0] && differs_from(field(model, "digest"), &d->model))
        snprintf(differs, 200, "the weights that all experts share are others");
    if (!differs[0] && differs_from(field(model, "configDigest"), &d->config))
        snprintf(differs, 200, "config.json is another one");
    if (!differs[0] && t) {
        const ft_digest digest = ft_tokenizer_digest(t);
        if (differs_from(field(r->predicate, "tokenizerDigest"), &digest))
            snprintf(differs, 200, "the tokenizer is another one");
    }
}

/* --- What to run --------------------------------------------------------------------- */

static ft_code bad(const char *what, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "receipt: %s", what);
}

static ft_code take_engine(run *x, ft_status *st)
{
    const json_t *engine = field(x->r->predicate, "engine");
    const char *kernels = text_of(engine, "kernels"), *here = ft_cpu_family_name(ft_cpu_isa());
    if (!json_is_object(engine))
        return ft_fail(st, FT_ERR_NOT_FOUND,
                       "receipt: no model wrote this text or read it: there is nothing to replay");
    if (strcmp(kernels, here) != 0)
        return ft_fail(st, FT_ERR_UNSUPPORTED,
                       "receipt: computed by the %.40s kernels, these are the %s ones: bits hold within one family "
                       "alone; replay it on a machine that has %.40s (FLEXTRACE_ISA chooses among what is there)",
                       kernels, here, kernels);
    ft_code rc = ft_compute_parse(&x->engine.compute, text_of(engine, "compute"), st);
    if (!rc)
        rc = ft_kv_type_parse(&x->engine.kv_type, text_of(engine, "kvType"), st);
    if (rc)
        return st ? (st->code = FT_ERR_FORMAT) : FT_ERR_FORMAT;
    x->engine.no_prefix_cache = 1;
    return FT_OK;
}

static void take_experts(run *x)
{
    const json_t *experts = field(x->r->predicate, "experts");
    for (size_t i = 0; i < json_array_size(experts); i++)
        if (!json_is_true(field(json_array_get(experts, i), "active")))
            x->without |= UINT64_C(1) << json_integer_value(field(json_array_get(experts, i), "id"));
}

/* Prompt, and as much of the output as was given, one after the other. */
static ft_code take_ids(run *x, size_t given, ft_status *st)
{
    const ft_receipt *r = x->r;
    const size_t vocab = ft_model_get_config(x->m)->vocab;
    const uint32_t *prompt = x->o->prompt ? x->o->prompt : r->prompt;
    const size_t n = x->o->prompt ? x->o->prompt_count : r->prompt_count;
    if (!x->o->prompt && !r->has_prompt)
        return ft_fail(st, FT_ERR_NOT_FOUND, "receipt: it holds a salted hash of the prompt alone; give the prompt");
    if ((json_int_t)n != json_integer_value(field(r->predicate, "promptTokenCount")))
        return ft_fail(st, FT_ERR_ARG,
                       "the prompt that was given has %zu tokens, the receipt's has %" JSON_INTEGER_FORMAT, n,
                       json_integer_value(field(r->predicate, "promptTokenCount")));
    if (given > r->output_count)
        return bad("'generatedFrom' lies behind the output", st);
    x->count = n + given;
    x->ids = ft_alloc_array(x->count, sizeof(*x->ids));
    if (!x->ids)
        return ft_fail(st, FT_ERR_MEM, "receipt: out of memory");
    if (n)
        memcpy(x->ids, prompt, n * sizeof(*x->ids));
    if (given)
        memcpy(x->ids + n, r->output, given * sizeof(*x->ids));
    x->expected = r->output + given;
    x->expected_count = r->output_count - given;
    for (size_t i = 0; i < x->count; i++)
        if (x->ids[i] >= vocab)
            return ft_fail(st, FT_ERR_FORMAT, "receipt: token %zu is %u, the model's vocabulary has %zu", i,
                           (unsigned)x->ids[i], vocab);
    return FT_OK;
}

static ft_code take_sampling(run *x, const json_t *p, ft_status *st)
{
    ft_sampling *s = &x->request.sampling;
    int64_t seed = 0, min_tokens = 0;
    s->top_p = 1;
    ft_code rc = ft_json_get_number(p, "temperature", 0, 1e9, &s->temperature, st);
    if (!rc)
        rc = ft_json_get_int(p, "topK", 0, INT64_MAX, &s->top_k, st);
    if (!rc)
        rc = ft_json_get_number(p, "topP", 0, 1, &s->top_p, st);
    if (!rc)
        rc = ft_json_get_number(p, "minP", 0, 1, &s->min_p, st);
    if (!rc)
        rc = ft_json_get_number(p, "presencePenalty", -1e9, 1e9, &s->presence_penalty, st);
    if (!rc)
        rc = ft_json_get_number(p, "frequencyPenalty", -1e9, 1e9, &s->frequency_penalty, st);
    if (!rc)
        rc = ft_json_get_number(p, "repetitionPenalty", 0, 1e9, &s->repetition_penalty, st);
    if (!rc)
        rc = ft_json_get_int(p, "seed", INT64_MIN, INT64_MAX, &seed, st);
    if (!rc)
        rc = ft_json_get_int(p, "minTokens", 0, INT64_MAX, &min_tokens, st);
    s->seed = (uint64_t)seed;
    s->min_tokens = (size_t)min_tokens;
    return rc;
}

static ft_code take_bias(run *x, const json_t *p, ft_status *st)
{
    const json_t *bias = field(p, "logitBias");
    const char *key;
    json_t *value;
    size_t n = 0;
    if (!bias || json_is_null(bias))
        return FT_OK;
    if (!json_is_object(bias))
        return bad("'logitBias' must be an object", st);
    x->bias_ids = ft_alloc_array(json_object_size(bias), sizeof(*x->bias_ids));
    x->bias_values = ft_alloc_array(json_object_size(bias), sizeof(*x->bias_values));
    if (!x->bias_ids || !x->bias_values)
        return ft_fail(st, FT_ERR_MEM, "receipt: out of memory");
    json_object_foreach((json_t *)(uintptr_t)bias, key, value)
    {
        char *end;
        const unsigned long id = strtoul(key, &end, 10);
        if (*end || end == key || id >= ft_model_get_config(x->m)->vocab || !json_is_number(value))
            return bad("'logitBias' must hold a number for each of some token ids", st);
        x->bias_ids[n] = (uint32_t)id;
        x->bias_values[n++] = (float)json_number_value(value);
    }
    x->request.sampling.bias_ids = x->bias_ids;
    x->request.sampling.bias_values = x->bias_values;
    x->request.sampling.bias_count = n;
    return FT_OK;
}

static ft_code take_ends(run *x, const json_t *p, ft_status *st)
{
    ft_generate_request *q = &x->request;
    const json_t *stop = field(p, "stop");
    int special = 1;
    if (stop && (!json_is_array(stop) || json_array_size(stop) > FT_MAX_STOPS))
        return bad("'stop' must be a list of at most four strings", st);
    for (size_t i = 0; i < json_array_size(stop); i++) {
        q->stop[q->stop_count] = json_string_value(json_array_get(stop, i));
        if (!q->stop[q->stop_count++])
            return bad("'stop' must be a list of at most four strings", st);
    }
    if (q->stop_count && !x->t)
        return ft_fail(st, FT_ERR_NOT_FOUND, "receipt: it names stop strings, and %s has no tokenizer",
                       ft_model_folder(x->m));
    ft_code rc = ft_json_get_ids(p, "stopTokenIds", &x->stop_ids, &q->stop_id_count, st);
    q->stop_ids = x->stop_ids;
    if (!rc)
        rc = ft_json_get_bool(p, "ignoreEos", &q->ignore_end_of_text, st);
    if (!rc)
        rc = ft_json_get_bool(p, "includeStopStrInOutput", &q->include_stop, st);
    if (!rc)
        rc = ft_json_get_bool(p, "skipSpecialTokens", &special, st);
    q->keep_special = !special;
    return rc;
}

/* A generation that was stopped from outside is run one token further than it came. */
static ft_code take_length(run *x, const json_t *p, ft_status *st)
{
    const size_t context = ft_model_get_config(x->m)->max_position;
    int64_t most = 0;
    const ft_code rc = ft_json_get_int(p, "maxTokens", 0, INT64_MAX, &most, st);
    if (rc)
        return rc;
    if (x->count > context || x->expected_count > context - x->count)
        return bad("it is longer than the model's context", st);
    if ((uint64_t)most > context - x->count)
        return bad("'maxTokens' is more than the model's context holds", st);
    x->request.max_new_tokens = (size_t)most;
    if (!strcmp(text_of(x->r->predicate, "finishReason"), "abort"))
        x->request.max_new_tokens = x->expected_count + (x->count + x->expected_count < context);
    return FT_OK;
}

/* Wrong fields of the parameters are the receipt's fault. */
static ft_code take_parameters(run *x, ft_status *st)
{
    const json_t *p = field(x->r->predicate, "parameters");
    ft_code rc = take_sampling(x, p, st);
    if (!rc)
        rc = take_bias(x, p, st);
    if (!rc)
        rc = take_ends(x, p, st);
    if (!rc)
        rc = take_length(x, p, st);
    if (rc == FT_ERR_ARG) {
        ft_status_prefix(st, "receipt: parameters");
        rc = FT_ERR_FORMAT;
        if (st)
            st->code = rc;
    }
    x->request.prompt = x->ids;
    x->request.prompt_count = x->count;
    x->request.without = x->without;
    x->request.capture_routing = 1;
    return rc;
}

/* --- Running --------------------------------------------------------------------------- */

static void compare_tokens(run *x, const uint32_t *ids, size_t n)
{
    ft_replay_result *out = x->out;
    out->expected = x->expected_count;
    out->tokens = n;
    while (out->same_tokens < n && out->same_tokens < x->expected_count &&
           ids[out->same_tokens] == x->expected[out->same_tokens])
        out->same_tokens++;
}

static void compare_routing(run *x, ft_routing now)
{
    const json_t *routing = field(x->r->predicate, "routing"), *shape = field(routing, "shape");
    const size_t rows = (size_t)json_integer_value(json_array_get(shape, 0));
    char text[FT_DIGEST_TEXT];
    x->out->routing_stated = json_is_object(routing);
    if (!x->out->routing_stated)
        return;
    const int fits = now.tokens >= rows && now.layers == (size_t)json_integer_value(json_array_get(shape, 1)) &&
                     now.top_k == (size_t)json_integer_value(json_array_get(shape, 2));
    if (now.tokens > rows)
        now.tokens = rows;
    x->out->routing = ft_routing_digest(&now);
    ft_digest_text(&x->out->routing, text);
    x->out->routing_same = fits && !strcmp(text, text_of(routing, "digest"));
}

static int stopped(const run *x)
{
    return x->o->cancel && *x->o->cancel;
}

static ft_code generate(run *x, ft_engine *e, ft_status *st)
{
    ft_generation *g;
    ft_code rc = ft_generation_open_on(&g, e, x->t, &x->request, st);
    while (!rc && ft_generation_get(g).finish == FT_FINISH_NONE) {
        rc = stopped(x) ? ft_fail(st, FT_ERR_CANCELLED, "replay: stopped") : ft_generation_step(g, st);
        /* Nothing that comes after a token that differs can be the same. */
        const ft_generation_state now = ft_generation_get(g);
        if (!rc && now.count && (now.count > x->expected_count || now.ids[now.count - 1] != x->expected[now.count - 1]))
            break;
    }
    if (!rc) {
        const ft_generation_state now = ft_generation_get(g);
        compare_tokens(x, now.ids, now.count);
        if (!strcmp(text_of(x->r->predicate, "finishReason"), "abort") && x->out->tokens > x->expected_count)
            x->out->tokens = x->expected_count;
        compare_routing(x, ft_generation_routing(g));
    }
    ft_generation_close(g);
    return rc;
}

static ft_code read_again(run *x, ft_engine *e, ft_status *st)
{
    enum { CHUNK = 128 };
    const ft_session_options how = {.without = x->without, .max_tokens = x->count, .capture_routing = 1};
    ft_session *s;
    ft_code rc = ft_session_open_on(&s, e, &how, st);
    for (size_t at = 0; !rc && at < x->count; at += CHUNK) {
        const size_t left = x->count - at;
        rc = stopped(x) ? ft_fail(st, FT_ERR_CANCELLED, "replay: stopped")
                        : ft_session_read(s, x->ids + at, left < CHUNK ? left : CHUNK, &(ft_outputs){0}, NULL, st);
    }
    if (!rc) {
        x->out->expected = x->out->tokens = x->out->same_tokens = x->r->output_count;
        compare_routing(x, ft_session_routing(s));
    }
    ft_session_close(s);
    return rc;
}

static ft_code prepare(run *x, ft_status *st)
{
    const json_t *from = field(x->r->predicate, "generatedFrom");
    x->out->generated = json_is_object(field(x->r->predicate, "parameters"));
    ft_code rc = take_engine(x, st);
    if (rc)
        return rc;
    take_experts(x);
    if (!x->out->generated && !json_is_object(field(x->r->predicate, "routing")))
        return ft_fail(st, FT_ERR_NOT_FOUND,
                       "receipt: no model wrote this text or read it: there is nothing to replay");
    if (json_is_integer(from) && json_integer_value(from) < 0)
        return bad("'generatedFrom' must not be negative", st);
    rc = take_ids(x, x->out->generated ? (size_t)json_integer_value(from) : x->r->output_count, st);
    if (!rc && !x->count)
        rc = bad("it holds no token to begin with", st);
    if (!rc && x->out->generated)
        rc = take_parameters(x, st);
    x->engine.max_tokens = x->count + x->request.max_new_tokens;
    return rc;
}

ft_code ft_receipt_replay(const ft_receipt *r, const ft_model *m, const ft_tokenizer *t, const ft_replay_options *o,
                          ft_replay_result *out, ft_status *st)
{
    run x = {.r = r, .m = m, .t = t, .o = o, .out = out};
    ft_engine *engine = NULL;
    memset(out, 0, sizeof(*out));
    ft_code rc = r->is_generation ? prepare(&x, st)
                                  : ft_fail(st, FT_ERR_NOT_FOUND, "receipt: '%.80s' is no generation", r->type);
    if (!rc)
        rc = ft_engine_new(&engine, m, o->pool, &x.engine, st);
    if (!rc)
        rc = out->generated ? generate(&x, engine, st) : read_again(&x, engine, st);
    ft_engine_free(engine);
    free(x.ids);
    free(x.stop_ids);
    free(x.bias_ids);
    free(x.bias_values);
    return rc;
}
