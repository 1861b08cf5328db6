/* Expressions of a chat template, evaluated as they are read. `live` is 0 in what a
 * short-cut passes over: that is read, and neither evaluated nor able to fail but by its
 * grammar. */
#include "text/chat_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

typedef ft_jinja_value value;

typedef struct cursor {
    ft_jinja *j;
    const char *at, *end;
    int live;
} cursor;

static const value undefined = {.kind = FT_JINJA_UNDEFINED};

static value ternary(cursor *c);

static void fail(cursor *c, const char *what)
{
    ft_jinja_fail(c->j, FT_ERR_UNSUPPORTED, what, c->at, (size_t)(c->end - c->at));
}

static value of_bool(int b)
{
    return (value){.kind = FT_JINJA_BOOL, .number = b != 0};
}

static value of_int(int64_t n)
{
    return (value){.kind = FT_JINJA_INT, .number = n};
}

static value of_text(const char *text, size_t n)
{
    return (value){.kind = FT_JINJA_TEXT, .text = text, .size = n};
}

/* --- Names --------------------------------------------------------------------------- */

ft_jinja_value *ft_jinja_name(ft_jinja *j, const char *name, size_t n)
{
    for (size_t i = j->name_count; i-- > 0;)
        if (j->names[i].size == n && !memcmp(j->names[i].name, name, n))
            return &j->names[i].value;
    return NULL;
}

void ft_jinja_set(ft_jinja *j, const char *name, size_t n, const ft_jinja_value *v)
{
    for (size_t i = j->frame; i < j->name_count; i++)
        if (j->names[i].size == n && !memcmp(j->names[i].name, name, n)) {
            j->names[i].value = *v;
            return;
        }
    if (j->name_count == FT_JINJA_NAMES) {
        ft_jinja_fail(j, FT_ERR_UNSUPPORTED, "more names than are looked at:", name, n);
        return;
    }
    j->names[j->name_count].name = name;
    j->names[j->name_count].size = n;
    j->names[j->name_count++].value = *v;
}

int ft_jinja_truth(const ft_jinja_value *v)
{
    switch (v->kind) {
    case FT_JINJA_UNDEFINED:
    case FT_JINJA_NONE:
        return 0;
    case FT_JINJA_BOOL:
    case FT_JINJA_INT:
        return v->number != 0;
    case FT_JINJA_TEXT:
    case FT_JINJA_LIST:
        return v->size > 0;
    default:
        return 1;
    }
}

/* --- Signs and words --------------------------------------------------------------------- */

static int takes(cursor *c, const char *sign)
{
    ft_jinja_blanks(&c->at, c->end);
    const size_t n = strlen(sign);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, sign, n) != 0)
        return 0;
    c->at += n;
    return 1;
}

static int takes_word(cursor *c, const char *literal)
{
    const char *at = c->at, *word;
    const size_t n = ft_jinja_word(&at, c->end, &word);
    if (!ft_jinja_is(word, n, literal))
        return 0;
    c->at = at;
    return 1;
}

static void must(cursor *c, const char *sign)
{
    if (!takes(c, sign))
        fail(c, "not understood:");
}

/* --- Comparing ------------------------------------------------------------------------ */

static int is_number(const value *v)
{
    return v->kind == FT_JINJA_INT || v->kind == FT_JINJA_BOOL;
}

static int equal(const value *a, const value *b)
{
    if (is_number(a) && is_number(b))
        return a->number == b->number;
    if (a->kind != b->kind)
        return 0;
    if (a->kind == FT_JINJA_TEXT)
        return a->size == b->size && !memcmp(a->text, b->text, a->size);
    if (a->kind == FT_JINJA_MESSAGE)
        return a->message == b->message;
    return a->kind == FT_JINJA_NONE || a->kind == FT_JINJA_UNDEFINED;
}

/* Where `part` stands in `in`; in->size: nowhere. */
static size_t find(const value *in, const value *part)
{
    for (size_t i = 0; i + part->size <= in->size; i++)
        if (!memcmp(in->text + i, part->text, part->size))
            return i;
    return in->size;
}

static int holds(cursor *c, const value *in, const value *what)
{
    if (in->kind == FT_JINJA_TEXT && what->kind == FT_JINJA_TEXT)
        return what->size == 0 || find(in, what) < in->size;
    if (in->kind == FT_JINJA_MESSAGE && what->kind == FT_JINJA_TEXT)
        return ft_jinja_is(what->text, what->size, "role") || ft_jinja_is(what->text, what->size, "content");
    if (in->kind != FT_JINJA_LIST && c->live)
        fail(c, "'in' before");
    for (size_t i = 0; in->kind == FT_JINJA_LIST && i < in->size; i++)
        if (equal(&in->items[i], what))
            return 1;
    return 0;
}

/* --- What hangs on a value: fields, methods, filters, tests ----------------------------------- */

static value strip(const value *v, int left, int right)
{
    value out = *v;
    while (left && out.size && isspace((unsigned char)out.text[0])) {
        out.text++;
        out.size--;
    }
    while (right && out.size && isspace((unsigned char)out.text[out.size - 1]))
        out.size--;
    return out;
}

/* ASCII alone: what templates compare and print of roles. */
static value with_case(cursor *c, const value *v, int upper_first, int upper_rest)
{
    char *to = ft_arena_array(c->j->arena, v->size + 1, 1);
    if (!to) {
        fail(c, "no room before");
        return undefined;
    }
    for (size_t i = 0; i < v->size; i++) {
        const int upper = i ? upper_rest : upper_first;
        to[i] = (char)(upper ? toupper((unsigned char)v->text[i]) : tolower((unsigned char)v->text[i]));
    }
    return of_text(to, v->size);
}

static value field(cursor *c, const value *v, const char *name, size_t n)
{
    if (v->kind == FT_JINJA_MESSAGE && ft_jinja_is(name, n, "role"))
        return of_text(v->message->role, strlen(v->message->role));
    if (v->kind == FT_JINJA_MESSAGE && ft_jinja_is(name, n, "content"))
        return of_text(v->message->content, v->message->content_bytes);
    if (v->kind == FT_JINJA_LOOP) {
        const int64_t i = v->number, rounds = (int64_t)v->size;
        if (ft_jinja_is(name, n, "index0"))
            return of_int(i);
        if (ft_jinja_is(name, n, "index"))
            return of_int(i + 1);
        if (ft_jinja_is(name, n, "first"))
            return of_bool(i == 0);
        if (ft_jinja_is(name, n, "last"))
            return of_bool(i + 1 == rounds);
        if (ft_jinja_is(name, n, "length"))
            return of_int(rounds);
        if (ft_jinja_is(name, n, "revindex"))
            return of_int(rounds - i);
        if (ft_jinja_is(name, n, "revindex0"))
            return of_int(rounds - i - 1);
    }
    if (c->live && (v->kind == FT_JINJA_UNDEFINED || v->kind == FT_JINJA_LOOP))
        fail(c, "a field of what is not there, before");
    return undefined;
}

/* text.split(separator): a list. */
static value split(cursor *c, const value *v, const value *by)
{
    size_t parts = 1;
    if (by->kind != FT_JINJA_TEXT || by->size == 0) {
        fail(c, "this split, before");
        return undefined;
    }
    for (size_t i = 0; i + by->size <= v->size; i++)
        if (!memcmp(v->text + i, by->text, by->size)) {
            parts++;
            i += by->size - 1;
        }
    value *items = ft_arena_array(c->j->arena, parts, sizeof(*items)), rest = *v;
    for (size_t i = 0; items && i < parts; i++) {
        const size_t at = i + 1 < parts ? find(&rest, by) : rest.size;
        items[i] = of_text(rest.text, at);
        const size_t passed = i + 1 < parts ? at + by->size : at;
        rest.text += passed;
        rest.size -= passed;
    }
    if (!items)
        fail(c, "no room before");
    return (value){.kind = FT_JINJA_LIST, .items = items, .size = items ? parts : 0};
}

static value method(cursor *c, const value *v, const char *name, size_t n, const value *arg, size_t args)
{
    if (!c->live)
        return undefined;
    if (v->kind == FT_JINJA_MESSAGE && ft_jinja_is(name, n, "get") && args && arg[0].kind == FT_JINJA_TEXT) {
        const int own =
            ft_jinja_is(arg[0].text, arg[0].size, "role") || ft_jinja_is(arg[0].text, arg[0].size, "content");
        if (own)
            return field(c, v, arg[0].text, arg[0].size);
        return args > 1 ? arg[1] : (value){.kind = FT_JINJA_NONE};
    }
    if (v->kind == FT_JINJA_TEXT && args == 0) {
        if (ft_jinja_is(name, n, "strip"))
            return strip(v, 1, 1);
        if (ft_jinja_is(name, n, "lstrip"))
            return strip(v, 1, 0);
        if (ft_jinja_is(name, n, "rstrip"))
            return strip(v, 0, 1);
        if (ft_jinja_is(name, n, "upper"))
            return with_case(c, v, 1, 1);
        if (ft_jinja_is(name, n, "lower"))
            return with_case(c, v, 0, 0);
        if (ft_jinja_is(name, n, "capitalize"))
            return with_case(c, v, 1, 0);
    }
    if (v->kind == FT_JINJA_TEXT && args == 1 && arg[0].kind == FT_JINJA_TEXT) {
        if (ft_jinja_is(name, n, "startswith"))
            return of_bool(arg[0].size <= v->size && !memcmp(v->text, arg[0].text, arg[0].size));
        if (ft_jinja_is(name, n, "endswith"))
            return of_bool(arg[0].size <= v->size &&
                           !memcmp(v->text + v->size - arg[0].size, arg[0].text, arg[0].size));
        if (ft_jinja_is(name, n, "split"))
            return split(c, v, &arg[0]);
    }
    ft_jinja_fail(c->j, FT_ERR_UNSUPPORTED, "the method", name, n);
    return undefined;
}

/* selectattr, rejectattr of messages by a field's equality. */
static value select_by(cursor *c, const value *v, const value *arg, size_t args, int keep)
{
    const int good = v->kind == FT_JINJA_LIST && args == 3 && arg[0].kind == FT_JINJA_TEXT &&
                     arg[1].kind == FT_JINJA_TEXT &&
                     (ft_jinja_is(arg[1].text, arg[1].size, "equalto") || ft_jinja_is(arg[1].text, arg[1].size, "==") ||
                      ft_jinja_is(arg[1].text, arg[1].size, "eq"));
    value *items = good ? ft_arena_array(c->j->arena, v->size, sizeof(*items)) : NULL;
    if (!items) {
        fail(c, "this selection, before");
        return undefined;
    }
    size_t n = 0;
    for (size_t i = 0; i < v->size; i++) {
        const value is = field(c, &v->items[i], arg[0].text, arg[0].size);
        if (equal(&is, &arg[2]) == keep)
            items[n++] = v->items[i];
    }
    return (value){.kind = FT_JINJA_LIST, .items = items, .size = n};
}

static value filter(cursor *c, const value *v, const char *name, size_t n, const value *arg, size_t args)
{
    if (!c->live)
        return undefined;
    if (ft_jinja_is(name, n, "length") || ft_jinja_is(name, n, "count")) {
        if (v->kind == FT_JINJA_LIST)
            return of_int((int64_t)v->size);
        if (v->kind == FT_JINJA_TEXT) { /* characters */
            int64_t characters = 0;
            for (size_t i = 0; i < v->size; i++)
                characters += ((unsigned char)v->text[i] & 0xc0) != 0x80;
            return of_int(characters);
        }
    }
    if (v->kind == FT_JINJA_LIST && ft_jinja_is(name, n, "list"))
        return *v;
    if (v->kind == FT_JINJA_LIST && v->size && ft_jinja_is(name, n, "first"))
        return v->items[0];
    if (v->kind == FT_JINJA_LIST && v->size && ft_jinja_is(name, n, "last"))
        return v->items[v->size - 1];
    if (ft_jinja_is(name, n, "selectattr"))
        return select_by(c, v, arg, args, 1);
    if (ft_jinja_is(name, n, "rejectattr"))
        return select_by(c, v, arg, args, 0);
    if (v->kind == FT_JINJA_TEXT && args == 0) {
        if (ft_jinja_is(name, n, "trim"))
            return strip(v, 1, 1);
        if (ft_jinja_is(name, n, "string") || ft_jinja_is(name, n, "safe"))
            return *v;
        if (ft_jinja_is(name, n, "upper"))
            return with_case(c, v, 1, 1);
        if (ft_jinja_is(name, n, "lower"))
            return with_case(c, v, 0, 0);
        if (ft_jinja_is(name, n, "capitalize") || ft_jinja_is(name, n, "title")) /* of one word */
            return with_case(c, v, 1, 0);
    }
    if (ft_jinja_is(name, n, "default") && args == 1)
        return v->kind == FT_JINJA_UNDEFINED ? arg[0] : *v;
    ft_jinja_fail(c->j, FT_ERR_UNSUPPORTED, "the filter", name, n);
    return undefined;
}

static value test(cursor *c, const value *v, const char *name, size_t n)
{
    if (!c->live)
        return undefined;
    static const struct {
        const char *name;
        unsigned kinds; /* that pass */
    } tests[] = {
        {"defined", ~(1U << FT_JINJA_UNDEFINED)},
        {"undefined", 1U << FT_JINJA_UNDEFINED},
        {"none", 1U << FT_JINJA_NONE},
        {"string", 1U << FT_JINJA_TEXT},
        {"mapping", 1U << FT_JINJA_MESSAGE},
        {"number", 1U << FT_JINJA_INT | 1U << FT_JINJA_BOOL},
        {"boolean", 1U << FT_JINJA_BOOL},
        {"iterable", 1U << FT_JINJA_TEXT | 1U << FT_JINJA_LIST | 1U << FT_JINJA_MESSAGE | 1U << FT_JINJA_UNDEFINED},
        {"sequence", 1U << FT_JINJA_TEXT | 1U << FT_JINJA_LIST | 1U << FT_JINJA_MESSAGE | 1U << FT_JINJA_UNDEFINED}};
    for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
        if (ft_jinja_is(name, n, tests[i].name))
            return of_bool((tests[i].kinds >> v->kind & 1) != 0);
    if (ft_jinja_is(name, n, "true") || ft_jinja_is(name, n, "false"))
        return of_bool(v->kind == FT_JINJA_BOOL && v->number == (name[0] == 't'));
    ft_jinja_fail(c->j, FT_ERR_UNSUPPORTED, "the test", name, n);
    return undefined;
}

enum { MAX_ARGS = 4 };

/* "(a, b)" behind its opening brace. */
static size_t arguments(cursor *c, value args[MAX_ARGS])
{
    size_t n = 0;
    while (!takes(c, ")")) {
        if (n == MAX_ARGS || c->j->st.code) {
            fail(c, "these arguments:");
            return n;
        }
        args[n++] = ternary(c);
        if (!takes(c, ",")) {
            must(c, ")");
            break;
        }
    }
    return n;
}

static value element(cursor *c, const value *v, const value *key)
{
    if (key->kind == FT_JINJA_TEXT)
        return field(c, v, key->text, key->size);
    if (v->kind == FT_JINJA_LIST && key->kind == FT_JINJA_INT) {
        const int64_t i = key->number < 0 ? key->number + (int64_t)v->size : key->number;
        return i >= 0 && (uint64_t)i < v->size ? v->items[i] : undefined;
    }
    if (c->live)
        fail(c, "this element, before");
    return undefined;
}

/* list[from:to] */
static value slice(cursor *c, const value *v, const value *low, const value *high)
{
    if (!c->live)
        return undefined;
    if (v->kind != FT_JINJA_LIST) {
        fail(c, "this slice, before");
        return undefined;
    }
    int64_t n = (int64_t)v->size, a = low->kind == FT_JINJA_INT ? low->number : 0,
            b = high->kind == FT_JINJA_INT ? high->number : n;
    a = a < 0 ? a + n : a;
    b = b < 0 ? b + n : b;
    a = a < 0 ? 0 : a > n ? n : a;
    b = b < a ? a : b > n ? n : b;
    return (value){.kind = FT_JINJA_LIST, .items = v->items + a, .size = (size_t)(b - a)};
}

static value subscript(cursor *c, const value *v)
{
    value low = undefined, high = undefined;
    if (!takes(c, ":")) {
        low = ternary(c);
        if (!takes(c, ":")) {
            must(c, "]");
            return element(c, v, &low);
        }
    }
    if (!takes(c, "]")) {
        if (takes(c, ":")) { /* messages[::-1] and its kin: a step */
            fail(c, "a slice with a step, before");
            return undefined;
        }
        high = ternary(c);
        must(c, "]");
    }
    return slice(c, v, &low, &high);
}

/* --- Operands ------------------------------------------------------------------------------ */

static value literal(cursor *c, char quote)
{
    const char *from = c->at;
    char *to = ft_arena_array(c->j->arena, (size_t)(c->end - from) + 1, 1);
    size_t n = 0;
    for (; to && c->at < c->end && *c->at != quote; c->at++) {
        char b = *c->at;
        if (b == '\\' && c->at + 1 < c->end) {
            static const char names[] = "nrt\\'\"", bytes[] = "\n\r\t\\'\"";
            const char *known = strchr(names, *++c->at);
            if (!known) {
                fail(c, "this escape:");
                return undefined;
            }
            b = bytes[known - names];
        }
        to[n++] = b;
    }
    if (!to || c->at == c->end) {
        fail(c, "a text without an end");
        return undefined;
    }
    c->at++;
    return of_text(to, n);
}

static value call(cursor *c, const char *name, size_t n)
{
    value args[MAX_ARGS] = {undefined};
    const size_t count = arguments(c, args);
    if (!c->live || c->j->st.code)
        return undefined;
    if (ft_jinja_is(name, n, "raise_exception"))
        ft_jinja_fail(c->j, FT_ERR_ARG,
                      "the template refuses:", count && args[0].kind == FT_JINJA_TEXT ? args[0].text : "",
                      count && args[0].kind == FT_JINJA_TEXT ? args[0].size : 0);
    else
        ft_jinja_fail(c->j, FT_ERR_UNSUPPORTED, "the function", name, n);
    return undefined;
}

static value named(cursor *c, const char *name, size_t n)
{
    static const struct {
        const char *name;
        value v;
    } constants[] = {{"true", {.kind = FT_JINJA_BOOL, .number = 1}},
                     {"True", {.kind = FT_JINJA_BOOL, .number = 1}},
                     {"false", {.kind = FT_JINJA_BOOL, .number = 0}},
                     {"False", {.kind = FT_JINJA_BOOL, .number = 0}},
                     {"none", {.kind = FT_JINJA_NONE}},
                     {"None", {.kind = FT_JINJA_NONE}}};
    for (size_t i = 0; i < sizeof(constants) / sizeof(*constants); i++)
        if (ft_jinja_is(name, n, constants[i].name))
            return constants[i].v;
    if (takes(c, "("))
        return call(c, name, n);
    const value *v = ft_jinja_name(c->j, name, n);
    if (v && v->kind == FT_JINJA_SPACE && c->at < c->end && *c->at == '.') {
        const char *at = c->at + 1, *word;
        const size_t m = ft_jinja_word(&at, c->end, &word);
        v = m && word == name + n + 1 ? ft_jinja_name(c->j, name, n + 1 + m) : NULL;
        c->at = at;
    }
    return v ? *v : undefined;
}

static value list_literal(cursor *c)
{
    value items[16];
    size_t n = 0;
    while (!takes(c, "]") && !c->j->st.code) {
        if (n == 16) {
            fail(c, "a list as long as this:");
            return undefined;
        }
        items[n++] = ternary(c);
        if (!takes(c, ",")) {
            must(c, "]");
            break;
        }
    }
    value *kept = ft_arena_array(c->j->arena, n, sizeof(*kept));
    if (!kept) {
        fail(c, "no room before");
        return undefined;
    }
    if (n)
        memcpy(kept, items, n * sizeof(*kept));
    return (value){.kind = FT_JINJA_LIST, .items = kept, .size = n};
}

static value operand(cursor *c)
{
    ft_jinja_blanks(&c->at, c->end);
    if (takes(c, "'"))
        return literal(c, '\'');
    if (takes(c, "\""))
        return literal(c, '"');
    if (takes(c, "[")) /* only a list can begin an operand so */
        return list_literal(c);
    if (takes(c, "(")) {
        const value v = ternary(c);
        must(c, ")");
        return v;
    }
    if (c->at < c->end && isdigit((unsigned char)*c->at)) {
        int64_t n = 0;
        while (c->at < c->end && isdigit((unsigned char)*c->at) && n < INT32_MAX)
            n = 10 * n + (*c->at++ - '0');
        return of_int(n);
    }
    const char *name;
    const size_t n = ft_jinja_word(&c->at, c->end, &name);
    if (!n) {
        fail(c, "not understood:");
        return undefined;
    }
    return named(c, name, n);
}

/* .field, .method(), [key], |filter, is test */
static value postfix(cursor *c)
{
    value v = operand(c);
    while (!c->j->st.code) {
        const char *name;
        value args[MAX_ARGS] = {undefined};
        ft_jinja_blanks(&c->at, c->end);
        if (takes(c, ".")) {
            const size_t n = ft_jinja_word(&c->at, c->end, &name);
            if (takes(c, "(")) {
                const size_t count = arguments(c, args);
                v = method(c, &v, name, n, args, count);
            } else {
                v = field(c, &v, name, n);
            }
        } else if (takes(c, "[")) {
            v = subscript(c, &v);
        } else if (takes(c, "|")) {
            const size_t n = ft_jinja_word(&c->at, c->end, &name);
            const size_t count = takes(c, "(") ? arguments(c, args) : 0;
            v = filter(c, &v, name, n, args, count);
        } else if (takes_word(c, "is")) {
            const int not = takes_word(c, "not");
            const size_t n = ft_jinja_word(&c->at, c->end, &name);
            v = test(c, &v, name, n);
            v = of_bool(ft_jinja_truth(&v) != not);
        } else {
            break;
        }
    }
    return v;
}

/* --- Operators -------------------------------------------------------------------------------- */

static value unary(cursor *c)
{
    if (takes(c, "-")) {
        value v = postfix(c);
        v.number = -v.number;
        return v;
    }
    return postfix(c);
}

static value product(cursor *c)
{
    value v = unary(c);
    while (!c->j->st.code && takes(c, "%")) {
        const value by = unary(c);
        if (c->live && (!is_number(&v) || !is_number(&by) || by.number <= 0 || v.number < 0))
            fail(c, "this remainder, before");
        else
            v = of_int(c->live ? v.number % by.number : 0);
    }
    return v;
}

static value join(cursor *c, const value *a, const value *b)
{
    char *to = ft_arena_array(c->j->arena, a->size + b->size + 1, 1);
    if (!to) {
        fail(c, "no room before");
        return undefined;
    }
    if (a->size)
        memcpy(to, a->text, a->size);
    if (b->size)
        memcpy(to + a->size, b->text, b->size);
    return of_text(to, a->size + b->size);
}

/* What "~" makes of an operand. */
static value as_text(cursor *c, const value *v)
{
    if (v->kind != FT_JINJA_INT)
        return *v;
    char *to = ft_arena_array(c->j->arena, 24, 1);
    if (!to) {
        fail(c, "no room before");
        return undefined;
    }
    return of_text(to, (size_t)snprintf(to, 24, "%lld", (long long)v->number));
}

static value sum(cursor *c)
{
    value v = product(c);
    while (!c->j->st.code) {
        const int plus = takes(c, "+"), tilde = !plus && takes(c, "~"), minus = !plus && !tilde && takes(c, "-");
        if (!plus && !tilde && !minus)
            break;
        value b = product(c);
        if (tilde) {
            v = as_text(c, &v);
            b = as_text(c, &b);
        }
        if (!c->live)
            v = undefined;
        else if (!minus && v.kind == FT_JINJA_TEXT && b.kind == FT_JINJA_TEXT)
            v = join(c, &v, &b);
        else if (!tilde && is_number(&v) && is_number(&b))
            v = of_int(plus ? v.number + b.number : v.number - b.number);
        else
            fail(c, "texts and other values are joined before");
    }
    return v;
}

static value compare(cursor *c)
{
    value v = sum(c);
    for (;;) {
        static const char *const signs[] = {"==", "!=", "<=", ">=", "<", ">"};
        int which = 0;
        while (which < 6 && !takes(c, signs[which]))
            which++;
        const char *before = c->at;
        const int not = which == 6 && takes_word(c, "not");
        const int in = which == 6 && takes_word(c, "in");
        if (not && !in)
            c->at = before;
        if (c->j->st.code || (which == 6 && !in))
            return v;
        const value b = sum(c);
        const int64_t less = v.number - b.number;
        if (in)
            v = of_bool(holds(c, &b, &v) != not);
        else if (which < 2)
            v = of_bool(equal(&v, &b) == (which == 0));
        else if (c->live && (!is_number(&v) || !is_number(&b)))
            fail(c, "this comparison, before");
        else
            v = of_bool(which == 2 ? less <= 0 : which == 3 ? less >= 0 : which == 4 ? less < 0 : less > 0);
    }
}

static value negation(cursor *c)
{
    if (!takes_word(c, "not"))
        return compare(c);
    const value v = negation(c);
    return of_bool(!ft_jinja_truth(&v));
}

/* Python's: the value that decided. */
static value conjunction(cursor *c)
{
    value v = negation(c);
    while (!c->j->st.code && takes_word(c, "and")) {
        const int live = c->live;
        c->live = live && ft_jinja_truth(&v);
        const value b = negation(c);
        v = c->live ? b : v;
        c->live = live;
    }
    return v;
}

static value disjunction(cursor *c)
{
    value v = conjunction(c);
    while (!c->j->st.code && takes_word(c, "or")) {
        const int live = c->live;
        c->live = live && !ft_jinja_truth(&v);
        const value b = conjunction(c);
        v = c->live ? b : v;
        c->live = live;
    }
    return v;
}

/* a if condition else b. What comes first depends on what follows: it is passed over, and
 * evaluated once that is known. */
static value ternary(cursor *c)
{
    if (++c->j->steps > FT_JINJA_STEPS || ++c->j->depth > FT_JINJA_DEPTH) {
        fail(c, "too much of this:");
        return undefined;
    }
    const char *from = c->at, *behind;
    const int live = c->live;
    int first = 1;
    value v = undefined;
    c->live = 0;
    (void)disjunction(c);
    behind = c->at;
    c->live = live;
    if (takes_word(c, "if")) {
        const value condition = disjunction(c);
        first = ft_jinja_truth(&condition);
        c->live = live && !first;
        if (takes_word(c, "else"))
            v = ternary(c);
        behind = c->at;
    }
    if (live && first) {
        c->live = live;
        c->at = from;
        v = disjunction(c);
    }
    c->live = live;
    c->at = behind;
    c->j->depth--;
    return v;
}

ft_jinja_value ft_jinja_expression(ft_jinja *j, const char **at, const char *end)
{
    cursor c = {.j = j, .at = *at, .end = end, .live = 1};
    const value v = ternary(&c);
    *at = c.at;
    return v;
}
