/* The text and the tags of a chat template. */
#include "text/chat_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* One piece of the template: text as it comes out, or the inside of a tag. */
typedef struct piece {
    enum { TEXT, PRINT, TAG, COMMENT, END } kind;
    const char *from, *to, *next; /* next: where the following piece begins */
    int trim_next;                /* the following text loses its blanks ("-%}") */
    int newline_next;             /* … or one newline (trim_blocks) */
} piece;

void ft_jinja_fail(ft_jinja *j, ft_code code, const char *what, const char *text, size_t n)
{
    if (!j->st.code)
        (void)ft_fail(&j->st, code, "%s '%.*s'", what, (int)(n < 60 ? n : 60), text);
}

int ft_jinja_is(const char *word, size_t n, const char *literal)
{
    return strlen(literal) == n && !memcmp(word, literal, n);
}

void ft_jinja_blanks(const char **at, const char *end)
{
    while (*at < end && isspace((unsigned char)**at))
        (*at)++;
}

size_t ft_jinja_word(const char **at, const char *end, const char **word)
{
    ft_jinja_blanks(at, end);
    *word = *at;
    if (*at == end || isdigit((unsigned char)**at))
        return 0;
    while (*at < end && (isalnum((unsigned char)**at) || **at == '_'))
        (*at)++;
    const size_t n = (size_t)(*at - *word);
    ft_jinja_blanks(at, end);
    return n;
}

/* End of the tag that begins at `from`: behind its closing braces, strings passed over. */
static const char *find_close(const char *from, const char *end, const char close[2])
{
    char quote = 0;
    for (const char *p = from; p + 1 < end; p++) {
        if (quote) {
            if (*p == '\\')
                p++;
            else if (*p == quote)
                quote = 0;
        } else if (close[0] != '#' && (*p == '\'' || *p == '"')) {
            quote = *p;
        } else if (p[0] == close[0] && p[1] == close[1]) {
            return p;
        }
    }
    return NULL;
}

/* The text before a tag: lstrip_blocks takes the blanks of a line that has nothing else
 * before a tag (not before a print), "{%-" all of them. */
static const char *cut_before(const char *from, const char *to, const char *start, const char *end, int block)
{
    if (to + 2 < end && to[2] == '-') {
        while (to > from && isspace((unsigned char)to[-1]))
            to--;
        return to;
    }
    if (to + 2 < end && to[2] == '+')
        return to;
    const char *p = to;
    while (block && p > from && (p[-1] == ' ' || p[-1] == '\t'))
        p--;
    return block && (p == start || p[-1] == '\n') ? p : to;
}

static piece next_piece(ft_jinja *j, const char *at, const piece *before)
{
    piece p = {.kind = END, .from = at, .to = at, .next = at};
    if (at >= j->end)
        return p;
    const int tag = at + 1 < j->end && at[0] == '{' && strchr("{%#", at[1]);
    if (!tag) {
        const char *to = at;
        while (to < j->end && !(to + 1 < j->end && to[0] == '{' && strchr("{%#", to[1])))
            to++;
        p.kind = TEXT;
        p.next = to;
        p.to = to < j->end ? cut_before(at, to, j->text, j->end, to[1] != '{') : to;
        if (before && before->trim_next)
            while (p.from < p.to && isspace((unsigned char)*p.from))
                p.from++;
        else if (before && before->newline_next && p.from < p.to && *p.from == '\n')
            p.from++;
        return p;
    }
    const char close[3][2] = {{'}', '}'}, {'%', '}'}, {'#', '}'}};
    const int which = at[1] == '{' ? 0 : at[1] == '%' ? 1 : 2;
    const char *to = find_close(at + 2, j->end, close[which]);
    if (!to) {
        ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "a tag without an end:", at, (size_t)(j->end - at));
        return p;
    }
    p.kind = which == 0 ? PRINT : which == 1 ? TAG : COMMENT;
    p.next = to + 2;
    p.trim_next = to > at + 2 && to[-1] == '-';
    p.newline_next = which != 0 && !(to > at + 2 && to[-1] == '+');
    p.from = at + 2 + (at[2] == '-' || at[2] == '+');
    p.to = to - (to > p.from && (to[-1] == '-' || to[-1] == '+'));
    return p;
}

static void print(ft_jinja *j, const char *text, size_t n)
{
    if (!j->st.code && ft_buffer_append(j->out, text, n, &j->st) != FT_OK)
        return; /* j->st ends the run */
}

static void print_value(ft_jinja *j, const ft_jinja_value *v)
{
    if (v->kind == FT_JINJA_TEXT)
        print(j, v->text, v->size);
    else if (v->kind == FT_JINJA_INT) {
        char digits[24];
        print(j, digits, (size_t)snprintf(digits, sizeof(digits), "%lld", (long long)v->number));
    } else if (v->kind != FT_JINJA_UNDEFINED)
        ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "a value that is no text is printed", "", 0);
}

/* The tag's first word. */
static size_t word_of(const piece *p, const char **word, const char **rest)
{
    *rest = p->from;
    return ft_jinja_word(rest, p->to, word);
}

static int opens(const char *word, size_t n)
{
    return ft_jinja_is(word, n, "if") || ft_jinja_is(word, n, "for");
}

static int closes(const char *word, size_t n)
{
    return ft_jinja_is(word, n, "endif") || ft_jinja_is(word, n, "endfor");
}

static const char *run(ft_jinja *j, const char *at, piece *before);

/* Passes over pieces until this block's elif, else or end; the piece itself. */
static piece skip_branch(ft_jinja *j, const char *at, piece before)
{
    unsigned depth = 0;
    for (;;) {
        const piece p = next_piece(j, at, &before);
        if (p.kind == END || j->st.code)
            return p;
        if (p.kind == TAG) {
            const char *word, *rest;
            const size_t n = word_of(&p, &word, &rest);
            if (opens(word, n))
                depth++;
            else if (depth && closes(word, n))
                depth--;
            else if (!depth && (closes(word, n) || ft_jinja_is(word, n, "else") || ft_jinja_is(word, n, "elif")))
                return p;
        }
        before = p;
        at = p.next;
    }
}

static ft_jinja_value whole(ft_jinja *j, const char *at, const char *end)
{
    const ft_jinja_value v = ft_jinja_expression(j, &at, end);
    ft_jinja_blanks(&at, end);
    if (at < end)
        ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "not understood:", at, (size_t)(end - at));
    return v;
}

/* p is the "if"; returns the piece "endif". */
static piece run_if(ft_jinja *j, piece p)
{
    int taken = 0;
    for (;;) {
        const char *word, *rest;
        const size_t n = word_of(&p, &word, &rest);
        if (p.kind != TAG || j->st.code || ft_jinja_is(word, n, "endif"))
            return p;
        int now = 0;
        if (!taken && ft_jinja_is(word, n, "else"))
            now = 1;
        else if (!taken) {
            const ft_jinja_value v = whole(j, rest, p.to);
            now = ft_jinja_truth(&v);
        }
        if (now && !j->st.code) {
            piece last = p;
            const char *stop = run(j, p.next, &last);
            taken = 1;
            p = next_piece(j, stop, &last);
        } else {
            p = skip_branch(j, p.next, p);
        }
    }
}

static void run_round(ft_jinja *j, const piece *p, const char *name, size_t name_size, const ft_jinja_value *item,
                      size_t i, size_t rounds)
{
    const size_t names = j->name_count, frame = j->frame;
    const ft_jinja_value loop = {.kind = FT_JINJA_LOOP, .number = (int64_t)i, .size = rounds};
    j->frame = names;
    ft_jinja_set(j, name, name_size, item);
    ft_jinja_set(j, "loop", 4, &loop);
    piece last = *p;
    (void)run(j, p->next, &last);
    j->name_count = names;
    j->frame = frame;
}

/* p is the "for"; returns the piece "endfor". */
static piece run_for(ft_jinja *j, piece p)
{
    const char *word, *rest, *name, *in;
    (void)word_of(&p, &word, &rest);
    const size_t n = ft_jinja_word(&rest, p.to, &name), m = ft_jinja_word(&rest, p.to, &in);
    if (!n || !ft_jinja_is(in, m, "in"))
        ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "this loop:", p.from, (size_t)(p.to - p.from));
    const ft_jinja_value list = whole(j, rest, p.to);
    if (!j->st.code && list.kind != FT_JINJA_LIST)
        ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "a loop over what is no list:", p.from, (size_t)(p.to - p.from));
    for (size_t i = 0; !j->st.code && i < list.size; i++)
        run_round(j, &p, name, n, &list.items[i], i, list.size);
    const piece end = skip_branch(j, p.next, p);
    const size_t k = end.kind == TAG ? word_of(&end, &word, &rest) : 0;
    if (!j->st.code && !(k && ft_jinja_is(word, k, "endfor")))
        ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "a loop without endfor:", p.from, (size_t)(p.to - p.from));
    return end;
}

/* namespace(field=value, …): a name for the space, and one "SPACE.FIELD" for each. */
static void set_space(ft_jinja *j, const char *name, size_t n, const char *at, const char *end)
{
    const ft_jinja_value space = {.kind = FT_JINJA_SPACE};
    ft_jinja_set(j, name, n, &space);
    ft_jinja_blanks(&at, end);
    while (!j->st.code && at < end && *at != ')') {
        const char *field;
        const size_t m = ft_jinja_word(&at, end, &field);
        char *full = ft_arena_array(j->arena, n + m + 2, 1);
        if (!full || !m || at == end || *at != '=') {
            ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "this namespace:", name, n);
            return;
        }
        memcpy(full, name, n);
        full[n] = '.';
        memcpy(full + n + 1, field, m);
        at++;
        const ft_jinja_value v = ft_jinja_expression(j, &at, end);
        ft_jinja_set(j, full, n + m + 1, &v);
        ft_jinja_blanks(&at, end);
        at += at < end && *at == ',';
        ft_jinja_blanks(&at, end);
    }
}

static void run_set(ft_jinja *j, const piece *p, const char *rest)
{
    const char *name = rest, *field;
    size_t n = ft_jinja_word(&rest, p->to, &name);
    if (n && rest < p->to && *rest == '.') {
        rest++;
        const size_t m = ft_jinja_word(&rest, p->to, &field);
        n = m ? (size_t)(field + m - name) : 0;
        ft_jinja_value *there = n ? ft_jinja_name(j, name, n) : NULL;
        if (there && rest < p->to && *rest == '=') { /* in place, whatever loop this is */
            *there = whole(j, rest + 1, p->to);      /* an expression sets no names: `there` stays */
            return;
        }
        n = 0;
    }
    if (!n || rest >= p->to || *rest != '=' || (rest + 1 < p->to && rest[1] == '=')) {
        ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "this set:", p->from, (size_t)(p->to - p->from));
        return;
    }
    const char *value = ++rest, *word;
    const size_t m = ft_jinja_word(&value, p->to, &word);
    if (ft_jinja_is(word, m, "namespace") && value < p->to && *value == '(') {
        set_space(j, name, n, value + 1, p->to);
        return;
    }
    const ft_jinja_value v = whole(j, rest, p->to);
    ft_jinja_set(j, name, n, &v);
}

/* Runs pieces until the tag that ends the block; where that begins. *before: the piece
 * before it. */
static const char *run(ft_jinja *j, const char *at, piece *before)
{
    if (++j->depth > FT_JINJA_DEPTH)
        ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "blocks too deep", "", 0);
    while (!j->st.code) {
        piece p = next_piece(j, at, before);
        if (p.kind == END || ++j->steps > FT_JINJA_STEPS) {
            if (p.kind != END)
                ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "it does not come to an end", "", 0);
            break;
        }
        if (p.kind == TEXT) {
            if (p.to > p.from)
                print(j, p.from, (size_t)(p.to - p.from));
        } else if (p.kind == PRINT) {
            const ft_jinja_value v = whole(j, p.from, p.to);
            print_value(j, &v);
        } else if (p.kind == TAG) {
            const char *word, *rest;
            const size_t n = word_of(&p, &word, &rest);
            if (closes(word, n) || ft_jinja_is(word, n, "else") || ft_jinja_is(word, n, "elif"))
                break;
            if (ft_jinja_is(word, n, "if"))
                p = run_if(j, p);
            else if (ft_jinja_is(word, n, "for"))
                p = run_for(j, p);
            else if (ft_jinja_is(word, n, "set"))
                run_set(j, &p, rest);
            else if (!ft_jinja_is(word, n, "generation") && !ft_jinja_is(word, n, "endgeneration"))
                ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "the tag", p.from, (size_t)(p.to - p.from));
        }
        *before = p;
        at = p.next;
    }
    j->depth--;
    return at;
}

static ft_jinja_value list_of(ft_jinja *j, const ft_chat_message *messages, size_t count)
{
    ft_jinja_value *items = ft_arena_array(j->arena, count, sizeof(*items));
    for (size_t i = 0; items && i < count; i++)
        items[i] = (ft_jinja_value){.kind = FT_JINJA_MESSAGE, .message = &messages[i]};
    if (!items)
        (void)ft_fail(&j->st, FT_ERR_MEM, "out of memory");
    return (ft_jinja_value){.kind = FT_JINJA_LIST, .items = items, .size = count};
}

static ft_jinja_value text_value(const char *text)
{
    return text ? (ft_jinja_value){.kind = FT_JINJA_TEXT, .text = text, .size = strlen(text)}
                : (ft_jinja_value){.kind = FT_JINJA_UNDEFINED};
}

ft_code ft_jinja_render(const char *text, size_t n, const char *bos, const char *eos, const ft_chat_message *messages,
                        size_t count, int add_generation_prompt, ft_buffer *out, ft_status *st)
{
    ft_jinja j = {.out = out, .text = text, .end = text + n, .bos = bos, .eos = eos};
    ft_code rc = ft_arena_new(&j.arena, FT_JINJA_BYTES, st);
    if (rc)
        return rc;
    if (n && text[n - 1] == '\n') /* Jinja drops the last newline of a template */
        j.end--;
    const ft_jinja_value list = list_of(&j, messages, count), none = {.kind = FT_JINJA_NONE};
    const ft_jinja_value wish = {.kind = FT_JINJA_BOOL, .number = add_generation_prompt};
    const ft_jinja_value first = text_value(bos), last = text_value(eos);
    ft_jinja_set(&j, "messages", 8, &list);
    ft_jinja_set(&j, "add_generation_prompt", 21, &wish);
    ft_jinja_set(&j, "bos_token", 9, &first);
    ft_jinja_set(&j, "eos_token", 9, &last);
    ft_jinja_set(&j, "tools", 5, &none); /* transformers passes these as None */
    ft_jinja_set(&j, "documents", 9, &none);
    piece before = {.kind = TEXT};
    const char *end = run(&j, text, &before);
    if (!j.st.code && end < j.end)
        ft_jinja_fail(&j, FT_ERR_UNSUPPORTED, "an end without a beginning:", end, (size_t)(j.end - end));
    ft_arena_free(j.arena);
    if (j.st.code && st)
        *st = j.st;
    return j.st.code;
}
