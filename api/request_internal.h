/* request_internal: reading what completions and chat are asked for, field by field.
 * The first failure refuses the request; all later calls do nothing. */
#ifndef FT_REQUEST_INTERNAL_H
#define FT_REQUEST_INTERNAL_H
#include "api/completion_internal.h"

enum { FT_MAX_BIASES = 1024, FT_MAX_STOP_IDS = 1024 };

typedef struct ft_reader {
    ft_request *q;
    const json_t *body;
    int failed;
} ft_reader;

void ft_reader_refuse(ft_reader *r, const char *field, const ft_status *st);
int ft_read_flag(ft_reader *r, const char *field);
int64_t ft_read_int(ft_reader *r, const char *field, int64_t low, int64_t high, int64_t absent);
double ft_read_number(ft_reader *r, const char *field, double low, double high, double absent);

/* Refuses each of these that asks for anything (not null, false or empty); ends with NULL. */
void ft_refuse_unsupported(ft_reader *r, const char *const *fields);
/* The same for fields of which one value asks for what everybody gets: response_format, tool_choice, function_call,
 * modalities. */
void ft_refuse_choices(ft_reader *r);
/* `model`: the one that is served, or 404. */
void ft_read_model(ft_reader *r);
/* What both faces have: sampling, where it ends, how it comes, ours. */
void ft_read_shared(ft_reader *r, ft_completion_request *out);
/* Cuts prompts to truncate_prompt_tokens and holds them against the context; with `rest`
 * max_tokens becomes what the context leaves. */
void ft_check_lengths(ft_reader *r, ft_completion_request *out, int rest);
/* Appends the text of q->json's `messages`, by the server's chat template. 0 after refusing
 * the request. */
int ft_chat_text(ft_request *q, int answer, ft_buffer *text);
/* X-Ignored-Fields: what is neither among the fields that both have nor among `own`, which
 * ends with NULL. */
void ft_name_ignored(ft_request *q, const char *const *own);

#endif
