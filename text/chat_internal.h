/* chat_internal: rendering a checkpoint's own chat template, so that ours can be held
 * against it. The part of Jinja that such templates use for plain conversations is
 * evaluated as transformers sets Jinja up (trim_blocks, lstrip_blocks); anything else is
 * an error that names it. What a branch that is not taken says is never looked at.
 *
 *   jinja_run.c    text and tags: if, for, set
 *   jinja_value.c  expressions
 *
 * Lifetime  values live in the run's arena.
 * Cost      bounded: a run takes at most FT_JINJA_STEPS steps and FT_JINJA_BYTES bytes. */
#ifndef FT_CHAT_INTERNAL_H
#define FT_CHAT_INTERNAL_H
#include "base/ft_arena.h"
#include "base/ft_buffer.h"
#include "text/ft_chat_template.h"

enum { FT_JINJA_STEPS = 200000, FT_JINJA_BYTES = 8 << 20, FT_JINJA_NAMES = 64, FT_JINJA_DEPTH = 40 };

typedef enum ft_jinja_kind {
    FT_JINJA_UNDEFINED,
    FT_JINJA_NONE,
    FT_JINJA_BOOL,
    FT_JINJA_INT,
    FT_JINJA_TEXT,
    FT_JINJA_LIST,
    FT_JINJA_MESSAGE,
    FT_JINJA_LOOP,
    FT_JINJA_SPACE /* namespace(): its fields are the names "SPACE.FIELD" */
} ft_jinja_kind;

typedef struct ft_jinja_value {
    ft_jinja_kind kind;
    int64_t number; /* bool, int; of a loop: index0 */
    const char *text;
    size_t size; /* bytes; elements of a list; rounds of a loop */
    const struct ft_jinja_value *items;
    const ft_chat_message *message;
} ft_jinja_value;

typedef struct ft_jinja {
    ft_arena *arena;
    ft_buffer *out;
    const char *text, *end; /* the template */
    const char *bos, *eos;
    struct {
        const char *name;
        size_t size;
        ft_jinja_value value;
    } names[FT_JINJA_NAMES];
    size_t name_count, frame; /* names from `frame` on belong to the innermost loop */
    size_t steps;
    unsigned depth;
    ft_status st; /* the first failure */
} ft_jinja;

/* Renders `text` for the messages; FT_ERR_UNSUPPORTED says what is not understood,
 * FT_ERR_ARG that the template itself refuses these messages. */
FT_CHECKED ft_code ft_jinja_render(const char *text, size_t n, const char *bos, const char *eos,
                                   const ft_chat_message *messages, size_t count, int add_generation_prompt,
                                   ft_buffer *out, ft_status *st);

/* An expression in at … end; *at is left behind it. On failure j->st is set. */
ft_jinja_value ft_jinja_expression(ft_jinja *j, const char **at, const char *end);
int ft_jinja_truth(const ft_jinja_value *v);
/* What the name stands for; NULL: nothing. */
ft_jinja_value *ft_jinja_name(ft_jinja *j, const char *name, size_t n);
void ft_jinja_set(ft_jinja *j, const char *name, size_t n, const ft_jinja_value *v);
void ft_jinja_fail(ft_jinja *j, ft_code code, const char *what, const char *text, size_t n);
/* The word at *at (letters, digits, _), skipped with the blanks around it; 0: none. */
size_t ft_jinja_word(const char **at, const char *end, const char **word);
void ft_jinja_blanks(const char **at, const char *end);
int ft_jinja_is(const char *word, size_t n, const char *literal);

#endif
