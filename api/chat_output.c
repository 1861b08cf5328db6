/* What chat shapes in its own way: messages, deltas, log-probabilities. */
#include "api/completion_internal.h"

json_t *ft_output_message(const ft_item *item)
{
    return json_pack("{s:s,s:o,s:n}", "role", "assistant", "content",
                     ft_json_text(item->text.data ? item->text.data : "", item->text.size), "refusal");
}

/* Nothing to say is {}: the last one, and those that carry ours alone. */
json_t *ft_output_delta(const char *role, const char *text, size_t text_bytes)
{
    json_t *delta = json_object();
    if (role)
        (void)json_object_set_new(delta, "role", json_string(role));
    if (role || text_bytes)
        (void)json_object_set_new(delta, "content", ft_json_text(text, text_bytes));
    return delta;
}

static json_t *token_json(const ft_job *job, uint32_t id, double logprob)
{
    json_t *bytes = json_null();
    size_t n = 0;
    const char *own = job->server->tokenizer ? ft_tokenizer_token_bytes(job->server->tokenizer, id, &n, NULL) : NULL;
    if (own) {
        bytes = json_array();
        for (size_t i = 0; i < n; i++)
            (void)json_array_append_new(bytes, json_integer((unsigned char)own[i]));
    }
    return json_pack("{s:o,s:f,s:o}", "token", ft_output_token_name(job, id), "logprob", logprob, "bytes", bytes);
}

/* One entry a generated token, the one that ended the answer included. */
json_t *ft_output_chat_logprobs(const ft_job *job, const ft_item *item)
{
    const size_t first = item->prompt->count, end = first + item->count + (item->end_token != FT_NO_ID);
    const size_t vocab = ft_model_get_config(job->server->model)->vocab;
    json_t *content = json_array();
    for (size_t t = first; t < end; t++) {
        const ft_score *score = &item->scores[t];
        json_t *entry = token_json(job, ft_output_timeline_id(item, t), score->logprob), *top = json_array();
        for (size_t k = 0; k < (size_t)job->r.logprobs && k < vocab; k++)
            (void)json_array_append_new(top, token_json(job, score->top_ids[k], score->top[k]));
        (void)json_object_set_new(entry, "top_logprobs", top);
        (void)json_array_append_new(content, entry);
    }
    return json_pack("{s:o,s:n}", "content", content, "refusal");
}
