/* Log-probabilities as answers show them: OpenAI's two shapes, and vLLM's prompt_logprobs.
 * They are built a token at a time, so that a stream's chunks joined are the whole answer's. */
#include "api/completion_internal.h"
#include "base/ft_utf8.h"

#include <math.h>
#include <stdio.h>

/* JSON has no infinity; vLLM writes this one. */
static json_t *number(double logprob)
{
    return json_real(isfinite(logprob) ? logprob : -9999.0);
}

static json_t *token_text(const ft_job *job, uint32_t id)
{
    size_t n = 0;
    const char *bytes = job->server->tokenizer ? ft_tokenizer_token_bytes(job->server->tokenizer, id, &n, NULL) : NULL;
    return ft_json_text(bytes ? bytes : "", n);
}

static json_t *token_name(const ft_job *job, uint32_t id)
{
    if (job->r.tokens_as_ids || !job->server->tokenizer)
        return json_sprintf("token_id:%u", id);
    return token_text(job, id);
}

/* How many of the best are shown; a score may hold more, for prompt_logprobs. */
static size_t shown(const ft_job *job, const ft_token_score *score)
{
    const size_t k = (size_t)job->r.logprobs;
    return k < score->top_count ? k : score->top_count;
}

/* --- Completions ----------------------------------------------------------------------- */

/* Two ids can have one string (halves of a character): the larger value stays. */
static void put_top(const ft_job *job, json_t *top, uint32_t id, double logprob)
{
    json_t *name = token_name(job, id), *value = number(logprob);
    const char *key = json_string_value(name);
    const json_t *there = key ? json_object_get(top, key) : NULL;
    if (key && (!there || json_real_value(there) < json_real_value(value)))
        (void)json_object_set(top, key, value);
    json_decref(value);
    json_decref(name);
}

static json_t *top_object(const ft_job *job, const ft_token_score *score, uint32_t id)
{
    json_t *top = json_object();
    for (size_t i = 0; i < shown(job, score); i++)
        put_top(job, top, score->top_ids[i], score->top[i]);
    put_top(job, top, id, score->logprob);
    return top;
}

/* Counts the characters of the text, a token at a time: the prompt's shows special tokens,
 * what was generated only where that was asked for. */
static void open_offsets(const ft_job *job, ft_item *item, int generated)
{
    const unsigned flags = generated && !job->r.keep_special ? FT_DECODE_SKIP_SPECIAL : 0;
    ft_buffer rest = {0};
    if (item->offset_stream && generated != item->offset_generated) {
        if (ft_text_stream_flush(item->offset_stream, &rest, NULL) == FT_OK) /* half a character is text too */
            item->offset += ft_utf8_count(rest.data ? rest.data : "", rest.size);
        ft_text_stream_free(item->offset_stream);
        item->offset_stream = NULL;
    }
    item->offset_generated = generated;
    if (!item->offset_stream && job->server->tokenizer &&
        ft_text_stream_new(&item->offset_stream, job->server->tokenizer, flags, NULL) != FT_OK)
        item->offset_stream = NULL;
    ft_buffer_release(&rest);
}

static size_t characters_of(ft_item *item, uint32_t id)
{
    ft_buffer piece = {0};
    size_t n = 0;
    if (item->offset_stream && ft_text_stream_push(item->offset_stream, id, &piece, NULL) == FT_OK)
        n = ft_utf8_count(piece.data ? piece.data : "", piece.size);
    ft_buffer_release(&piece);
    return n;
}

static void add_completion(const ft_job *job, ft_item *item, json_t *to, uint32_t id, const ft_token_score *score,
                           int generated)
{
    open_offsets(job, item, generated);
    (void)json_array_append_new(json_object_get(to, "tokens"), token_name(job, id));
    (void)json_array_append_new(json_object_get(to, "token_logprobs"), score ? number(score->logprob) : json_null());
    (void)json_array_append_new(json_object_get(to, "top_logprobs"), score ? top_object(job, score, id) : json_null());
    (void)json_array_append_new(json_object_get(to, "text_offset"), json_integer((json_int_t)item->offset));
    item->offset += characters_of(item, id);
}

/* --- Chat ------------------------------------------------------------------------------ */

static json_t *chat_token(const ft_job *job, uint32_t id, double logprob)
{
    json_t *bytes = json_null();
    size_t n = 0;
    const char *own = job->server->tokenizer ? ft_tokenizer_token_bytes(job->server->tokenizer, id, &n, NULL) : NULL;
    if (own) {
        bytes = json_array();
        for (size_t i = 0; i < n; i++)
            (void)json_array_append_new(bytes, json_integer((unsigned char)own[i]));
    }
    return json_pack("{s:o,s:o,s:o}", "token", token_name(job, id), "logprob", number(logprob), "bytes", bytes);
}

static void add_chat(const ft_job *job, json_t *to, uint32_t id, const ft_token_score *score)
{
    json_t *entry = chat_token(job, id, score->logprob), *top = json_array();
    for (size_t i = 0; i < shown(job, score); i++)
        (void)json_array_append_new(top, chat_token(job, score->top_ids[i], score->top[i]));
    (void)json_object_set_new(entry, "top_logprobs", top);
    (void)json_array_append_new(json_object_get(to, "content"), entry);
}

/* --- Both ------------------------------------------------------------------------------ */

static json_t *new_logprobs(const ft_job *job)
{
    if (job->r.chat)
        return json_pack("{s:[],s:n}", "content", "refusal");
    return json_pack("{s:[],s:[],s:[],s:[]}", "tokens", "token_logprobs", "top_logprobs", "text_offset");
}

static void add_prompt(const ft_job *job, ft_item *item, json_t *to)
{
    const ft_prompt *p = item->prompt;
    for (size_t t = 0; t < p->count; t++) /* nothing foretells the first */
        add_completion(job, item, to, p->ids[t], t && p->scores ? &p->scores[t] : NULL, 0);
}

json_t *ft_output_prompt_part(const ft_job *job, ft_item *item)
{
    if (job->r.logprobs < 0)
        return NULL;
    json_t *out = new_logprobs(job);
    add_prompt(job, item, out);
    return out;
}

static void add_generated(const ft_job *job, ft_item *item, json_t *to, const uint32_t *ids,
                          const ft_token_score *scores, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (job->r.chat)
            add_chat(job, to, ids[i], &scores[i]);
        else
            add_completion(job, item, to, ids[i], &scores[i], 1);
}

json_t *ft_output_generated_part(const ft_job *job, ft_item *item, const uint32_t *ids, const ft_token_score *scores,
                                 size_t count)
{
    json_t *out = new_logprobs(job);
    add_generated(job, item, out, ids, scores, count);
    return out;
}

json_t *ft_output_logprobs(const ft_job *job, ft_item *item)
{
    if (job->r.logprobs < 0)
        return json_null();
    json_t *out = new_logprobs(job);
    if (job->r.echo)
        add_prompt(job, item, out);
    if (item->scores) {
        add_generated(job, item, out, item->ids, item->scores, item->count);
        if (item->end_token != FT_NO_ID)
            add_generated(job, item, out, &item->end_token, &item->scores[item->count], 1);
    }
    return out;
}

/* --- vLLM's ---------------------------------------------------------------------------- */

static void put_ranked(const ft_job *job, json_t *to, uint32_t id, double logprob, size_t rank)
{
    char key[16];
    snprintf(key, sizeof(key), "%u", id);
    if (!json_object_get(to, key))
        (void)json_object_set_new(to, key,
                                  json_pack("{s:o,s:I,s:o}", "logprob", number(logprob), "rank", (json_int_t)rank,
                                            "decoded_token", token_text(job, id)));
}

json_t *ft_output_prompt_logprobs(const ft_job *job, const ft_item *item)
{
    const ft_prompt *p = item->prompt;
    json_t *list = json_array();
    (void)json_array_append_new(list, json_null());
    for (size_t t = 1; t < p->count && p->scores; t++) {
        const ft_token_score *score = &p->scores[t];
        json_t *entry = json_object();
        put_ranked(job, entry, p->ids[t], score->logprob, score->rank);
        for (size_t i = 0; i < (size_t)job->r.prompt_logprobs && i < score->top_count; i++)
            put_ranked(job, entry, score->top_ids[i], score->top[i], i + 1);
        (void)json_array_append_new(list, entry);
    }
    return list;
}
