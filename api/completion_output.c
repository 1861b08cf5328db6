/* The shapes of the OpenAI face's answers: choices, chunks, log-probabilities, usage. */
#include "api/completion_internal.h"
#include "base/ft_utf8.h"

#include <string.h>

const char *ft_output_finish(const ft_item *item)
{
    const char *name = ft_finish_name(item->finish);
    return name ? name : "length";
}

/* The prompt as text: what was sent, but for tokens that no text gives. */
ft_code ft_output_prompt_text(const ft_job *job, const ft_item *item, ft_buffer *out, ft_status *st)
{
    if (!job->server->tokenizer)
        return FT_OK;
    return ft_tokenizer_decode(job->server->tokenizer, item->prompt->ids, item->prompt->count, 0, out, st);
}

/* --- Log-probabilities ------------------------------------------------------------ */

json_t *ft_output_token_name(const ft_job *job, uint32_t id)
{
    if (job->r.tokens_as_ids || !job->server->tokenizer)
        return json_sprintf("token_id:%u", id);
    size_t n;
    const char *bytes = ft_tokenizer_token_bytes(job->server->tokenizer, id, &n, NULL);
    return ft_json_text(bytes ? bytes : "", n);
}

/* Two ids can have one string (halves of a character): the larger value stays. */
static void put_top(const ft_job *job, json_t *top, uint32_t id, double logprob)
{
    json_t *name = ft_output_token_name(job, id);
    const char *key = json_string_value(name);
    const json_t *there = key ? json_object_get(top, key) : NULL;
    if (key && (!there || json_real_value(there) < logprob))
        (void)json_object_set_new(top, key, json_real(logprob));
    json_decref(name);
}

static json_t *top_json(const ft_job *job, const ft_score *score, uint32_t id)
{
    json_t *top = json_object();
    const size_t k = (size_t)job->r.logprobs;
    const size_t vocab = ft_model_get_config(job->server->model)->vocab;
    for (size_t i = 0; i < k && i < vocab; i++)
        put_top(job, top, score->top_ids[i], score->top[i]);
    put_top(job, top, id, score->logprob);
    return top;
}

/* Tokens of the timeline: prompt, generated, and the end-of-text token if one came. */
uint32_t ft_output_timeline_id(const ft_item *item, size_t t)
{
    if (t < item->prompt->count)
        return item->prompt->ids[t];
    t -= item->prompt->count;
    return t < item->count ? item->ids[t] : item->end_token;
}

/* Characters that each token adds to the text, by a streaming decode. */
static size_t characters_of(ft_text_stream *stream, uint32_t id)
{
    ft_buffer piece = {0};
    size_t n = 0;
    if (stream && ft_text_stream_push(stream, id, &piece, NULL) == FT_OK)
        n = ft_utf8_count(piece.data ? piece.data : "", piece.size);
    ft_buffer_release(&piece);
    return n;
}

json_t *ft_output_logprobs(const ft_job *job, const ft_item *item)
{
    if (job->r.logprobs < 0 || !item->scores)
        return json_null();
    if (job->r.chat)
        return ft_output_chat_logprobs(job, item);
    const size_t first = job->r.echo ? 0 : item->prompt->count;
    const size_t end = item->prompt->count + item->count + (item->end_token != FT_NO_ID);
    json_t *tokens = json_array(), *values = json_array(), *tops = json_array(), *offsets = json_array();
    ft_text_stream *stream = NULL;
    if (job->server->tokenizer && ft_text_stream_new(&stream, job->server->tokenizer, 0, NULL) != FT_OK)
        stream = NULL;
    size_t offset = 0;
    for (size_t t = first; t < end; t++) {
        const uint32_t id = ft_output_timeline_id(item, t);
        const int known = t > 0 && t >= item->score_from;
        (void)json_array_append_new(tokens, ft_output_token_name(job, id));
        (void)json_array_append_new(values, known ? json_real(item->scores[t].logprob) : json_null());
        (void)json_array_append_new(tops, known ? top_json(job, &item->scores[t], id) : json_null());
        (void)json_array_append_new(offsets, json_integer((json_int_t)offset));
        offset += characters_of(stream, id);
    }
    ft_text_stream_free(stream);
    return json_pack("{s:o,s:o,s:o,s:o}", "tokens", tokens, "token_logprobs", values, "top_logprobs", tops,
                     "text_offset", offsets);
}

/* --- Choices ---------------------------------------------------------------------- */

static json_t *envelope(const ft_job *job, const char *object, json_t *choices)
{
    return json_pack("{s:s,s:s,s:I,s:s,s:s,s:o}", "id", job->id, "object", object, "created", (json_int_t)job->created,
                     "model", ft_federation_name(job->server->federation), "system_fingerprint",
                     job->server->fingerprint, "choices", choices);
}

/* What vLLM puts beside a choice's text. */
static void add_vllm_fields(const ft_job *job, const ft_item *item, json_t *choice)
{
    if (job->r.return_token_ids) {
        (void)json_object_set_new(choice, "prompt_token_ids", ft_json_ids(item->prompt->ids, item->prompt->count));
        (void)json_object_set_new(choice, "token_ids", ft_json_ids(item->ids, item->count));
    }
    if (job->r.return_routed_experts)
        (void)json_object_set_new(choice, "routed_experts",
                                  ft_routed_experts(&item->routing, item->prompt->count, item->routing.tokens));
}

static void add_prompt_routing(const ft_job *job, const ft_item *item, json_t *answer)
{
    if (job->r.return_routed_experts)
        (void)json_object_set_new(answer, "prompt_routed_experts",
                                  ft_routed_experts(&item->routing, 0, item->prompt->count));
}

json_t *ft_output_chunk(const ft_job *job, const ft_item *item, const char *text, size_t text_bytes, const char *finish,
                        json_t *logprobs, json_t *extra)
{
    const int chat = job->r.chat;
    json_t *piece = chat ? ft_output_delta(NULL, text, text_bytes) : ft_json_text(text, text_bytes);
    json_t *choice = json_pack("{s:I,s:o,s:s?,s:o}", "index", (json_int_t)item->index, chat ? "delta" : "text", piece,
                               "finish_reason", finish, "logprobs", logprobs ? logprobs : json_null());
    if (choice && finish)
        add_vllm_fields(job, item, choice);
    json_t *chunk = envelope(job, chat ? "chat.completion.chunk" : "text_completion", json_pack("[o]", choice));
    if (chunk && finish)
        add_prompt_routing(job, item, chunk);
    if (chunk && extra)
        (void)json_object_set_new(chunk, "flextrace", extra);
    else
        json_decref(extra);
    if (chunk && job->r.include_usage)
        (void)json_object_set_new(chunk, "usage", json_null());
    return chunk;
}

static json_t *whole_text(const ft_job *job, const ft_item *item)
{
    ft_buffer text = {0};
    if (job->r.echo && ft_output_prompt_text(job, item, &text, NULL) != FT_OK)
        ft_buffer_reset(&text);
    if (ft_buffer_append(&text, item->text.data ? item->text.data : "", item->text.size, NULL) != FT_OK)
        ft_buffer_reset(&text);
    json_t *out = ft_json_text(text.data ? text.data : "", text.size);
    ft_buffer_release(&text);
    return out;
}

json_t *ft_output_choice(const ft_job *job, const ft_item *item)
{
    const int chat = job->r.chat;
    json_t *choice = json_pack("{s:I,s:o,s:s,s:o}", "index", (json_int_t)item->index, chat ? "message" : "text",
                               chat ? ft_output_message(item) : whole_text(job, item), "finish_reason",
                               ft_output_finish(item), "logprobs", ft_output_logprobs(job, item));
    if (choice)
        add_vllm_fields(job, item, choice);
    return choice;
}

json_t *ft_output_usage(const ft_job *job)
{
    size_t prompt = 0, generated = 0;
    for (size_t i = 0; i < job->item_count; i++)
        generated += job->items[i].count;
    for (size_t i = 0; i < job->r.prompt_count; i++)
        prompt += job->r.prompts[i].count;
    return json_pack("{s:I,s:I,s:I,s:{s:i}}", "prompt_tokens", (json_int_t)prompt, "completion_tokens",
                     (json_int_t)generated, "total_tokens", (json_int_t)prompt + (json_int_t)generated,
                     "prompt_tokens_details", "cached_tokens", 0);
}

json_t *ft_output_whole(const ft_job *job)
{
    json_t *choices = json_array();
    for (size_t i = 0; i < job->item_count; i++) {
        json_t *choice = ft_output_choice(job, &job->items[i]), *extra = ft_item_extra(job, &job->items[i]);
        if (choice && extra)
            (void)json_object_set_new(choice, "flextrace", extra);
        else
            json_decref(extra);
        (void)json_array_append_new(choices, choice);
    }
    json_t *whole = envelope(job, job->r.chat ? "chat.completion" : "text_completion", choices);
    if (!whole)
        return NULL;
    (void)json_object_set_new(whole, "usage", ft_output_usage(job));
    add_prompt_routing(job, &job->items[0], whole);
    return whole;
}
