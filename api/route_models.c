/* What is served: the model, its experts, the owners and their corpora. */
#include "api/routes_internal.h"

#include "base/ft_file.h"

#include <string.h>

const ft_owner *ft_owner_of_expert(const ft_trace_scope *scope, int expert)
{
    for (size_t i = 0; i < scope->owner_count; i++)
        if (scope->owners[i].expert == expert)
            return &scope->owners[i];
    return NULL;
}

static const char *state_of(const ft_server *s, int expert)
{
    return expert >= 0 && ft_server_opted_out(s) >> expert & 1 ? "opted_out" : "active";
}

static json_t *experts_json(const ft_server *s, const ft_trace_scope *scope, size_t count)
{
    json_t *list = json_array();
    for (size_t e = 0; e < count; e++) {
        const ft_owner *owner = ft_owner_of_expert(scope, (int)e);
        (void)json_array_append_new(list, json_pack("{s:i,s:s?,s:s}", "id", (int)e, "owner", owner ? owner->name : NULL,
                                                    "state", state_of(s, (int)e)));
    }
    return list;
}

static json_t *model_json(ft_request *q)
{
    const ft_server *s = q->server;
    const ft_model_config *c = ft_model_get_config(s->model);
    json_t *meta = json_pack("{s:I,s:I,s:I,s:I,s:I,s:s?,s:o}", "n_ctx_train", (json_int_t)c->max_position, "n_vocab",
                             (json_int_t)c->vocab, "n_params", (json_int_t)ft_model_get_sizes(s->model).parameters,
                             "n_experts", (json_int_t)c->experts, "experts_per_token", (json_int_t)c->top_k,
                             "chat_template", s->chat ? ft_chat_template_name(s->chat) : NULL, "experts",
                             experts_json(s, ft_request_scope(q), c->experts));
    return json_pack("{s:s,s:s,s:I,s:s,s:o}", "id", ft_federation_name(s->federation), "object", "model", "created",
                     (json_int_t)s->created, "owned_by", "flextrace", "meta", meta);
}

void ft_route_models(ft_request *q)
{
    const ft_server *s = q->server;
    json_t *list = json_array();
    if (s->model)
        (void)json_array_append_new(list, model_json(q));
    ft_answer_json(q, 200, json_pack("{s:s,s:o}", "object", "list", "data", list));
}

void ft_route_model(ft_request *q)
{
    const ft_server *s = q->server;
    if (s->model && !strcmp(q->segment[0], ft_federation_name(s->federation)))
        ft_answer_json(q, 200, model_json(q));
    else
        ft_refuse(q, 404, "model_not_found", "model", "the model '%s' does not exist; this server has '%s'",
                  q->segment[0], s->model ? ft_federation_name(s->federation) : "none");
}

/* `colour` numbers the owners: the page and the terminal give each number one colour. */
void ft_route_owners(ft_request *q)
{
    const ft_trace_scope *scope = ft_request_scope(q);
    json_t *list = json_array();
    for (size_t i = 0; i < scope->owner_count; i++) {
        const ft_owner *o = &scope->owners[i];
        uint64_t documents = 0, tokens = 0;
        for (size_t k = 0; k < o->index_count; k++) {
            const ft_index_info info = ft_index_get_info(o->indexes[k]);
            documents += info.documents;
            tokens += info.tokens;
        }
        (void)json_array_append_new(
            list, json_pack("{s:s,s:s,s:o,s:i,s:I,s:I,s:s,s:s}", "name", o->name, "object", "owner", "expert",
                            o->expert >= 0 ? json_integer(o->expert) : json_null(), "colour", (int)i, "documents",
                            (json_int_t)documents, "tokens", (json_int_t)tokens, "description",
                            o->description ? o->description : "", "state", state_of(q->server, o->expert)));
    }
    const size_t n = json_array_size(list);
    ft_answer_json(q, 200,
                   json_pack("{s:s,s:s,s:o,s:s?,s:s?,s:b}", "object", "list", "federation",
                             ft_federation_name(q->server->federation), "data", list, "first_id",
                             n ? scope->owners[0].name : NULL, "last_id", n ? scope->owners[n - 1].name : NULL,
                             "has_more", 0));
}

/* The text that the page opens with (example.txt beside federation.yaml). A first
 * line "prompt: …" is what the text is taken to answer. */
void ft_route_demo(ft_request *q)
{
    enum { LIMIT_BYTES = 64 << 10 };
    const char *path = q->server->options.example;
    ft_buffer text = {0};
    ft_status st = {0};
    const ft_code rc = path ? ft_file_read(path, LIMIT_BYTES, &text, &st) : FT_ERR_NOT_FOUND;
    if (rc == FT_ERR_NOT_FOUND) {
        ft_answer_json(q, 200, json_pack("{s:s,s:s}", "text", "", "prompt", ""));
    } else if (rc) {
        ft_refuse_status(q, NULL, &st);
    } else {
        static const char mark[] = "prompt:";
        const char *at = text.data ? text.data : "", *end = at + text.size, *prompt = at;
        size_t prompt_bytes = 0;
        if (text.size > sizeof(mark) && !memcmp(at, mark, sizeof(mark) - 1)) {
            const char *line = memchr(at, '\n', text.size);
            prompt = at + sizeof(mark) - 1;
            prompt += strspn(prompt, " ");
            at = line ? line + 1 : end;
            prompt_bytes = line && prompt < line ? (size_t)(line - prompt) : 0;
        }
        while (end > at && end[-1] == '\n')
            end--;
        ft_answer_json(q, 200,
                       json_pack("{s:o,s:o}", "text", ft_json_text(at, (size_t)(end - at)), "prompt",
                                 ft_json_text(prompt, prompt_bytes)));
    }
    ft_buffer_release(&text);
}
