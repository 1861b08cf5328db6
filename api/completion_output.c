/* The shapes of the OpenAI face's answers: choices, chunks, usage. */
#include "api/completion_internal.h"

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

/* --- Choices ---------------------------------------------------------------------- */

static json_t *envelope(const ft_job *job, const char *object, json_t *choices)
{
    char fingerprint[16];
    ft_server_fingerprint(job->server, fingerprint);
    return json_pack("{s:s,s:s,s:I,s:s,s:s,s:o}", "id", job->id, "object", object, "created", (json_int_t)job->created,
                     "model", ft_federation_name(job->server->federation), "system_fingerprint",
                     fingerprint, "choices", choices);
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

json_t *ft_output_choice(const ft_job *job, ft_item *item)
{
    const int chat = job->r.chat;
    json_t *choice = json_pack("{s:I,s:o,s:s,s:o}", "index", (json_int_t)item->index, chat ? "message" : "text",
                               chat ? ft_output_message(item) : whole_text(job, item), "finish_reason",
                               ft_output_finish(item), "logprobs", ft_output_logprobs(job, item));
    if (choice)
        add_vllm_fields(job, item, choice);
    if (choice && job->r.prompt_logprobs >= 0 && !chat)
        (void)json_object_set_new(choice, "prompt_logprobs", ft_output_prompt_logprobs(job, item));
    return choice;
}

json_t *ft_output_usage(const ft_job *job)
{
    size_t prompt = 0, generated = 0, cached = 0;
    for (size_t i = 0; i < job->item_count; i++) {
        generated += job->items[i].count;
        if (i % job->r.n == 0) /* a prompt counts once, however many choices it has */
            cached += job->items[i].cached;
    }
    for (size_t i = 0; i < job->r.prompt_count; i++)
        prompt += job->r.prompts[i].count;
    return json_pack("{s:I,s:I,s:I,s:{s:I}}", "prompt_tokens", (json_int_t)prompt, "completion_tokens",
                     (json_int_t)generated, "total_tokens", (json_int_t)prompt + (json_int_t)generated,
                     "prompt_tokens_details", "cached_tokens", (json_int_t)cached);
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
    if (job->r.prompt_logprobs >= 0 && job->r.chat)
        (void)json_object_set_new(whole, "prompt_logprobs", ft_output_prompt_logprobs(job, &job->items[0]));
    return whole;
}
