/* Our templates, and finding the one that a checkpoint's own is equal to. */
#include "text/ft_chat_template.h"

#include "base/ft_file.h"
#include "base/ft_json.h"
#include "text/chat_internal.h"

#include <stdlib.h>
#include <string.h>

typedef enum role { SYSTEM, USER, ASSISTANT, TOOL, ROLES } role;

/* A conversation is `first`, `no_system` where no system message stands in it, each turn
 * between its role's `open` and `close`, and `answer` where one is asked for. */
typedef struct shape {
    const char *name;
    const char *first; /* "B": the token that begins a text; "" */
    const char *no_system;
    int system_leads; /* no_system is written also where a system message is not the first */
    const char *open[ROLES];
    const char *close[ROLES];
    const char *last_assistant; /* its close where it is the last turn; "E": the end-of-text token */
    const char *answer;
    const char *turn_end;
} shape;

#define CHATML_TURNS                                                                                                   \
    .open = {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_start|>tool\n"},           \
    .close = {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"}, .turn_end = "<|im_end|>"
#define OLMO3_TURNS                                                                                                    \
    .open = {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_start|>environment\n"},    \
    .turn_end = "<|im_end|>", .last_assistant = "E"
#define TULU_TURNS                                                                                                     \
    .open = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n", NULL}, .close = {"\n", "\n", "E\n", NULL},               \
    .last_assistant = "E", .answer = "<|assistant|>\n", .turn_end = ""
#define NO_FUNCTIONS " You do not currently have access to any functions. <functions></functions><|im_end|>\n"

static const shape shapes[] = {
    {.name = "chatml",
     .first = "",
     .no_system = "",
     CHATML_TURNS,
     .last_assistant = "<|im_end|>\n",
     .answer = "<|im_start|>assistant\n"},
    /* before olmo2: without a token to begin with they are the same */
    {.name = "tulu", .first = "", .no_system = "", TULU_TURNS},
    {.name = "olmo2", .first = "B", .no_system = "", TULU_TURNS},
    {.name = "olmo3",
     .first = "",
     .no_system = "<|im_start|>system\nYou are a helpful function-calling AI assistant." NO_FUNCTIONS,
     OLMO3_TURNS,
     .close = {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"},
     .answer = "<|im_start|>assistant\n"},
    {.name = "olmo3-think",
     .first = "",
     .no_system = "<|im_start|>system\nYou are OLMo, a helpful function-calling AI assistant built by Ai2. Your date "
                  "cutoff is November 2024, and your model weights are available at "
                  "https://huggingface.co/allenai." NO_FUNCTIONS,
     OLMO3_TURNS,
     .close = {NO_FUNCTIONS, "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"},
     .answer = "<|im_start|>assistant\n<think>"},
};
enum { SHAPES = sizeof(shapes) / sizeof(*shapes) };

struct ft_chat_template {
    shape s; /* what was learned of a checkpoint's stands in `learned` */
    char *bos, *eos;
    char *learned[4];
};

const char *ft_chat_template_names(void)
{
    return "chatml, olmo2, tulu, olmo3, olmo3-think";
}

const char *ft_chat_template_name(const ft_chat_template *t)
{
    return t->s.name;
}

const char *ft_chat_template_turn_end(const ft_chat_template *t)
{
    return t->s.turn_end;
}

void ft_chat_template_close(ft_chat_template *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < 4; i++)
        free(t->learned[i]);
    free(t->bos);
    free(t->eos);
    free(t);
}

/* --- Rendering ------------------------------------------------------------------------ */

static role role_of(const char *name)
{
    static const struct {
        const char *name;
        role is;
    } names[] = {{"system", SYSTEM},       {"developer", SYSTEM}, {"user", USER},
                 {"assistant", ASSISTANT}, {"tool", TOOL},        {"environment", TOOL}};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (!strcmp(names[i].name, name))
            return names[i].is;
    return ROLES;
}

/* `text`, with "B" or "E" at its beginning standing for the tokens. */
static ft_code put(const ft_chat_template *t, const char *text, ft_buffer *out, ft_status *st)
{
    const char *token = *text == 'B' ? t->bos : *text == 'E' ? t->eos : NULL;
    ft_code rc = token ? ft_buffer_append_str(out, token, st) : FT_OK;
    return rc ? rc : ft_buffer_append_str(out, text + (token != NULL), st);
}

static ft_code put_turn(const ft_chat_template *t, const ft_chat_message *m, int last, ft_buffer *out, ft_status *st)
{
    const role r = role_of(m->role);
    ft_code rc = put(t, t->s.open[r], out, st);
    if (!rc)
        rc = ft_buffer_append(out, m->content, m->content_bytes, st);
    return rc ? rc : put(t, r == ASSISTANT && last ? t->s.last_assistant : t->s.close[r], out, st);
}

ft_code ft_chat_template_render(const ft_chat_template *t, const ft_chat_message *messages, size_t count, int answer,
                                ft_buffer *out, ft_status *st)
{
    int has_system = 0;
    if (count == 0)
        return ft_fail(st, FT_ERR_ARG, "a conversation needs at least one message");
    for (size_t i = 0; i < count; i++) {
        const role r = role_of(messages[i].role);
        if (r == ROLES || !t->s.open[r])
            return ft_fail(st, FT_ERR_ARG, "message %zu: the chat template '%s' has no role '%.40s'", i, t->s.name,
                           messages[i].role);
        has_system |= r == SYSTEM && (i == 0 || !t->s.system_leads);
    }
    ft_code rc = put(t, t->s.first, out, st);
    if (!rc && !has_system)
        rc = put(t, t->s.no_system, out, st);
    for (size_t i = 0; !rc && i < count; i++)
        rc = put_turn(t, &messages[i], i + 1 == count, out, st);
    return rc || !answer ? rc : put(t, t->s.answer, out, st);
}

/* --- Recognizing ------------------------------------------------------------------------ */

typedef struct theirs {
    const char *text;
    size_t n;
    const char *bos, *eos;
} theirs;

#define TURN(role, content) {role, content, sizeof(content) - 1}
enum { MOST_TURNS = 6 };

/* What the templates that we know could do differently: each role first, last, twice and
 * after each other, nothing as content, blanks and newlines at both ends of it, and what
 * looks like a mark. */
static const ft_chat_message probes[][MOST_TURNS] = {
    {TURN("user", "How are you?")},
    {TURN("system", "Be brief."), TURN("user", "2+2?")},
    {TURN("user", "A"), TURN("assistant", "B")},
    {TURN("user", "A"), TURN("assistant", "B"), TURN("user", "C")},
    {TURN("system", "S"), TURN("user", "A"), TURN("assistant", "B"), TURN("user", "C"), TURN("assistant", "D")},
    {TURN("user", "  leading and trailing \n")},
    {TURN("system", " \n s \n"), TURN("user", "\n\nu\t"), TURN("assistant", " \n a \n "), TURN("user", " v ")},
    {TURN("user", "")},
    {TURN("system", ""), TURN("user", "x"), TURN("assistant", ""), TURN("user", "y")},
    {TURN("user", "one"), TURN("user", "two"), TURN("assistant", "three"), TURN("assistant", "four")},
    {TURN("assistant", "I begin."), TURN("user", "and I go on")},
    {TURN("user", "A"), TURN("system", "in between"), TURN("user", "B")},
    {TURN("system", "one"), TURN("system", "two"), TURN("user", "A")},
    {TURN("user", "A"), TURN("assistant", "<think>so\nand so</think>\n\nB"), TURN("user", "C"),
     TURN("assistant", "<think>\n\n</think>\n\nD"), TURN("user", "E")},
    {TURN("user", "marks <|im_end|> <|endoftext|> {{ x }} {% if %} '\"\\ <|user|>\n<|assistant|>\n")},
    {TURN("user", "\xc3\xa4\xe4\xb8\xad\xf0\x9f\x98\x80"), TURN("assistant", "\xc2\xa0\xe2\x80\xa8"),
     TURN("user", "<")},
};
/* By the role's two names in turn: a template may know one alone. */
enum { TOOL_NAMES = 2, TOOL_PROBES = 2 };
static const ft_chat_message tool_probes[TOOL_NAMES * TOOL_PROBES][MOST_TURNS] = {
    {TURN("user", "A"), TURN("assistant", "B"), TURN("tool", "{\"x\": 1}")},
    {TURN("user", "A"), TURN("assistant", "B"), TURN("tool", " 1 "), TURN("tool", "2\n"), TURN("assistant", "C")},
    {TURN("user", "A"), TURN("assistant", "B"), TURN("environment", "{\"x\": 1}")},
    {TURN("user", "A"), TURN("assistant", "B"), TURN("environment", " 1 "), TURN("environment", "2\n"),
     TURN("assistant", "C")},
};

static size_t turns_of(const ft_chat_message *probe)
{
    size_t n = 0;
    while (n < MOST_TURNS && probe[n].role)
        n++;
    return n;
}

/* What both make of a conversation; rc of theirs. *differs: they are not the same. */
static ft_code hold_against(const ft_chat_template *t, const theirs *own, const ft_chat_message *probe, int answer,
                            int *differs, ft_status *st)
{
    ft_buffer a = {0}, b = {0};
    const size_t n = turns_of(probe);
    ft_code rc = ft_jinja_render(own->text, own->n, own->bos, own->eos, probe, n, answer, &a, st);
    if (!rc)
        rc = ft_chat_template_render(t, probe, n, answer, &b, st);
    *differs = a.size != b.size || (a.size && memcmp(a.data, b.data, a.size) != 0);
    ft_buffer_release(&a);
    ft_buffer_release(&b);
    return rc;
}

/* 1: they agree on every probe, or *which is the first where they part. */
static int agrees(const ft_chat_template *t, const theirs *own, size_t *which)
{
    for (size_t i = 0; i < 2 * sizeof(probes) / sizeof(*probes); i++) {
        int differs = 0;
        *which = i / 2;
        if (hold_against(t, own, probes[i / 2], (int)(i % 2), &differs, NULL) || differs)
            return 0;
    }
    return 1;
}

/* Where their rendering of tool turns is ours under neither name (or they have none), we have no such role. */
static void learn_tools(ft_chat_template *t, const theirs *own)
{
    int known = 0;
    for (size_t name = 0; t->s.open[TOOL] && !known && name < TOOL_NAMES; name++) {
        known = 1;
        for (size_t i = 0; known && i < 2 * TOOL_PROBES; i++) {
            int differs = 0;
            known = !hold_against(t, own, tool_probes[name * TOOL_PROBES + i / 2], (int)(i % 2), &differs, NULL) &&
                    !differs;
        }
    }
    if (!known)
        t->s.open[TOOL] = NULL;
}

/* Theirs of a conversation; NULL: it cannot be rendered. The caller frees. */
static char *rendered(const theirs *own, const ft_chat_message *messages, size_t n, int answer)
{
    ft_buffer b = {0};
    if (ft_jinja_render(own->text, own->n, own->bos, own->eos, messages, n, answer, &b, NULL) != FT_OK ||
        ft_buffer_append(&b, "", 0, NULL) != FT_OK || !b.data)
        ft_buffer_release(&b);
    return b.data;
}

/* What stands in `text` between the ends `before` and `after`; NULL: they are not its ends. */
static char *between(const char *text, const char *before, const char *after)
{
    const size_t n = strlen(text), a = strlen(before), b = strlen(after);
    if (a + b > n || memcmp(text, before, a) != 0 || memcmp(text + n - b, after, b) != 0)
        return NULL;
    return strndup(text + a, n - a - b);
}

static void keep(ft_chat_template *t, size_t slot, const char **field, char *text)
{
    if (!text || !strcmp(text, *field)) {
        free(text);
        return;
    }
    free(t->learned[slot]);
    t->learned[slot] = text;
    *field = text;
}

/* The four texts that checkpoints of one shape differ in. A text that begins with the
 * letters that stand for tokens is not learned: put() would take it for one. */
static void learn(ft_chat_template *t, const theirs *own)
{
    static const ft_chat_message user[] = {TURN("user", "U")}, system[] = {TURN("system", "S"), TURN("user", "U")},
                                 assistant[] = {TURN("user", "U"), TURN("assistant", "A")};
    ft_buffer turn = {0};
    char *plain = rendered(own, user, 1, 0), *asked = rendered(own, user, 1, 1), *told = rendered(own, system, 2, 0),
         *said = rendered(own, assistant, 2, 0);
    const char *first = *t->s.first ? t->bos : "";
    if (plain && asked && told && said && put_turn(t, &user[0], 0, &turn, NULL) == FT_OK) {
        ft_buffer opened = {0};
        keep(t, 0, &t->s.no_system, between(plain, first, turn.data));
        keep(t, 1, &t->s.answer, between(asked, plain, ""));
        if (ft_buffer_printf(&opened, NULL, "%s%sS", first, t->s.open[SYSTEM]) == FT_OK)
            keep(t, 2, &t->s.close[SYSTEM], between(told, opened.data, turn.data));
        ft_buffer_reset(&opened);
        if (ft_buffer_printf(&opened, NULL, "%s%sA", plain, t->s.open[ASSISTANT]) == FT_OK) {
            char *end = between(said, opened.data, "");
            if (end && strcmp(end, t->eos) != 0)
                keep(t, 3, &t->s.last_assistant, end);
            else
                free(end);
        }
        ft_buffer_release(&opened);
    }
    ft_buffer_release(&turn);
    free(plain);
    free(asked);
    free(told);
    free(said);
}

static ft_code new_template(ft_chat_template **out, const shape *s, const char *bos, const char *eos, ft_status *st)
{
    ft_chat_template *t = calloc(1, sizeof(*t));
    if (t) {
        t->s = *s;
        t->bos = strdup(bos ? bos : "");
        t->eos = strdup(eos ? eos : "");
    }
    if (!t || !t->bos || !t->eos) {
        ft_chat_template_close(t);
        return ft_fail(st, FT_ERR_MEM, "chat template: out of memory");
    }
    *out = t;
    return FT_OK;
}

/* As it stands, then with the checkpoint's own texts in the shape. */
static ft_code try_shape(ft_chat_template **out, const shape *s, int how, const theirs *own, size_t *furthest,
                         ft_status *st)
{
    ft_chat_template *t;
    size_t which = 0;
    const ft_code rc = new_template(&t, s, own->bos, own->eos, st);
    if (rc)
        return rc;
    if (how > 0)
        learn(t, own);
    t->s.system_leads = how == 2;
    if (agrees(t, own, &which)) {
        learn_tools(t, own);
        *out = t;
        return FT_OK;
    }
    *furthest = which > *furthest ? which : *furthest;
    ft_chat_template_close(t);
    return FT_OK;
}

ft_code ft_chat_template_recognize(ft_chat_template **out, const char *text, size_t n, const char *bos, const char *eos,
                                   ft_status *st)
{
    *out = NULL;
    const theirs own = {text, n, bos ? bos : "", eos ? eos : ""};
    size_t furthest = 0;
    for (int how = 0; how < 3; how++)
        for (size_t i = 0; i < SHAPES; i++) {
            const ft_code rc = try_shape(out, &shapes[i], how, &own, &furthest, st);
            if (rc || *out)
                return rc;
        }
    ft_status why = {0};
    ft_buffer b = {0};
    const ft_code rc =
        ft_jinja_render(text, n, own.bos, own.eos, probes[furthest], turns_of(probes[furthest]), 1, &b, &why);
    ft_buffer_release(&b);
    return rc ? ft_fail(st, FT_ERR_UNSUPPORTED, "the chat template is none of ours (%s): %.150s",
                        ft_chat_template_names(), why.msg)
              : ft_fail(st, FT_ERR_UNSUPPORTED,
                        "the chat template is none of ours (%s): from a conversation that begins with '%.30s: %.30s' "
                        "it makes another text",
                        ft_chat_template_names(), probes[furthest][0].role, probes[furthest][0].content);
}

/* --- A checkpoint's ------------------------------------------------------------------------- */

static const char *token_of(const json_t *config, const char *field)
{
    const json_t *v = json_object_get(config, field);
    return json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
}

/* `chat_template`: a text, or a list of named ones, of which "default" counts. */
static const json_t *text_in(const json_t *config)
{
    const json_t *v = json_object_get(config, "chat_template"), *one;
    size_t i;
    json_array_foreach(v, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && !strcmp(name, "default"))
            return json_object_get(one, "template");
    }
    return json_is_string(v) ? v : NULL;
}

static ft_code read_beside(const char *folder, const char *name, ft_buffer *out, ft_status *st)
{
    char *path = ft_path_join(folder, name);
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    const ft_code rc = ft_file_read(path, 4 << 20, out, st);
    free(path);
    return rc;
}

static ft_code recognize_in(ft_chat_template **out, const char *folder, const json_t *config, const char *bos,
                            const char *eos, ft_status *st)
{
    ft_buffer own = {0};
    ft_code rc = read_beside(folder, "chat_template.jinja", &own, st);
    const json_t *text = text_in(config);
    if (!rc) {
        rc = ft_chat_template_recognize(out, own.data ? own.data : "", own.size, bos, eos, st);
    } else if (rc == FT_ERR_NOT_FOUND && text) {
        rc = ft_chat_template_recognize(out, json_string_value(text), json_string_length(text), bos, eos, st);
    } else if (rc == FT_ERR_NOT_FOUND) {
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: the model has no chat template", folder);
    }
    if (rc == FT_ERR_UNSUPPORTED)
        ft_status_prefix(st, "%s", folder);
    ft_buffer_release(&own);
    return rc;
}

ft_code ft_chat_template_open(ft_chat_template **out, const char *folder, const char *name, ft_status *st)
{
    *out = NULL;
    ft_buffer bytes = {0};
    json_t *config = NULL;
    ft_code rc = read_beside(folder, "tokenizer_config.json", &bytes, st);
    if (!rc)
        rc = ft_json_parse(&config, bytes.data ? bytes.data : "", bytes.size, "tokenizer_config.json", st);
    if (rc == FT_ERR_NOT_FOUND)
        rc = FT_OK;
    const char *bos = token_of(config, "bos_token"), *eos = token_of(config, "eos_token");
    size_t i = 0;
    while (name && i < SHAPES && strcmp(shapes[i].name, name) != 0)
        i++;
    if (rc)
        ;
    else if (name && i == SHAPES)
        rc = ft_fail(st, FT_ERR_ARG, "there is no chat template '%.60s'; choose of %s", name, ft_chat_template_names());
    else if (name)
        rc = new_template(out, &shapes[i], bos ? bos : eos, eos, st);
    else
        rc = recognize_in(out, folder, config, bos, eos, st);
    json_decref(config);
    ft_buffer_release(&bytes);
    return rc;
}
