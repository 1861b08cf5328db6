/* ft_chat_template: from a conversation to the text that a chat model was trained on.
 *
 * Templates are written in C: "chatml", "olmo2", "tulu", "olmo3", "olmo3-think". Which one
 * a checkpoint needs is found by comparing renderings: its own template (chat_template.jinja,
 * or `chat_template` in tokenizer_config.json) is rendered for a set of conversations, and
 * one of ours, with the checkpoint's default system text, its ends of turns and its
 * beginning of an answer, must give the same bytes for every one. A template that is like
 * none of ours is refused, never approximated.
 *
 * Lifetime  a template is immutable; close it last.
 * Threads   any number may share it.
 * Source    the templates of allenai/open-instruct (tulu, olmo, olmo_thinker), of OLMo 2
 *           and Olmo 3, and ChatML; docs/chat.md shows them. */
#ifndef FT_CHAT_TEMPLATE_H
#define FT_CHAT_TEMPLATE_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"

#include <stddef.h>

FT_API_BEGIN

/* One turn; a view. Roles: "system" ("developer" is taken for it), "user", "assistant",
 * "tool" ("environment"). */
typedef struct ft_chat_message {
    const char *role;
    const char *content;
    size_t content_bytes;
} ft_chat_message;

typedef struct ft_chat_template ft_chat_template;

/* The template called `name`, or where that is NULL the one of the checkpoint in `folder`,
 * whose tokenizer_config.json names the tokens that begin and end a text in both cases.
 *   FT_ERR_NOT_FOUND    the checkpoint has none
 *   FT_ERR_UNSUPPORTED  it has one that is like none of ours; the message says where they
 *                       part, and how to choose one
 *   FT_ERR_ARG          no template has this name; the message lists them */
FT_CHECKED ft_code ft_chat_template_open(ft_chat_template **out, const char *folder, const char *name, ft_status *st);
/* The same for a template's text (views: not kept). */
FT_CHECKED ft_code ft_chat_template_recognize(ft_chat_template **out, const char *text, size_t n, const char *bos,
                                              const char *eos, ft_status *st);
void ft_chat_template_close(ft_chat_template *t);

const char *ft_chat_template_name(const ft_chat_template *t); /* of ours, "chatml" … */
/* What ends a turn of the assistant, such as "<|im_end|>": a token of this name should end
 * the answer. "": the end-of-text token does. */
const char *ft_chat_template_turn_end(const ft_chat_template *t);
const char *ft_chat_template_names(void); /* of all, separated by ", " */

/* Appends the conversation; with `answer` also what begins the assistant's next turn.
 * FT_ERR_ARG for a role that the template has no place for, and for no messages. */
FT_CHECKED ft_code ft_chat_template_render(const ft_chat_template *t, const ft_chat_message *messages, size_t count,
                                           int answer, ft_buffer *out, ft_status *st);

FT_API_END
#endif
