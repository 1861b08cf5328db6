/* What chat shapes in its own way: messages and deltas. */
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
