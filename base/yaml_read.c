/* libcyaml has the schema; libyaml, which it stands on, is asked first, so that what a
 * configuration has no use for (aliases, several documents, deep nesting) is refused, and
 * an unknown key is found in its line. */
#include "base/yaml_read.h"

#include "base/ft_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAX_DEPTH = 8 };

/* --- libcyaml's complaint as one line -------------------------------------------- */

/* It reports through a log: what is wrong, then where, from the inside out. */
typedef struct complaint {
    char what[400], field[100];
    unsigned line, column; /* of the last token that was understood; 0: not told */
} complaint;

static void listen_to(cyaml_log_t level, void *context, const char *fmt, va_list args)
{
    complaint *c = context;
    char text[400];
    (void)level;
    vsnprintf(text, sizeof(text), fmt, args);
    text[strcspn(text, "\n")] = '\0';
    char *place = strstr(text, "(line: ");
    if (place && !c->line) {
        const char *field = strstr(text, "field '");
        (void)sscanf(place, "(line: %u, column: %u)", &c->line, &c->column); /* NOLINT: absent numbers stay 0 */
        if (field)
            snprintf(c->field, sizeof(c->field), "%.*s", (int)strcspn(field + 7, "'"), field + 7);
    } else if (!place && !c->what[0] && !strstr(text, "Backtrace")) {
        snprintf(c->what, sizeof(c->what), "%s", strncmp(text, "Load: ", 6) ? text : text + 6);
    }
}

static void *allocate(void *context, void *old, size_t n)
{
    (void)context;
    if (n)
        return realloc(old, n);
    free(old);
    return NULL;
}

static const cyaml_config_t silent = {.mem_fn = allocate, .log_level = CYAML_LOG_ERROR, .flags = CYAML_CFG_NO_ALIAS};

/* --- The first look ---------------------------------------------------------------- */

/* Refuses what no configuration needs. With `key`, finds the line of the first such
 * key behind a place. */
typedef struct look {
    yaml_parser_t parser;
    const char *path;
    const cyaml_schema_value_t *schema;
    int depth, documents;
    const char *key;
    size_t after_line, after_column, found_line; /* 1-based; found_line 0: not found */
    int inclusive;                               /* the place is a mapping's start, thus its first key's too */
    unsigned char next[MAX_DEPTH + 2];           /* what comes next at each depth */
    int integer, number, boolean;                /* the last key is one that has such a value */
} look;
enum { NEXT_ANY, NEXT_KEY, NEXT_VALUE };

static ft_code refuse(const look *l, const yaml_event_t *e, const char *what, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "%s:%zu: %s", l->path, e->start_mark.line + 1, what);
}

/* libcyaml reads "12x" as 12. */
static int is_integer(const char *text)
{
    text += *text == '-' || *text == '+';
    const size_t digits = strspn(text, "0123456789");
    return digits && !text[digits];
}

/* Decimal, with an exponent perhaps: neither "0x1p3" nor "nan", nor anything behind it. */
static int is_number(const char *text)
{
    char *end;
    if (!*text || text[strspn(text, "+-.0123456789eE")])
        return 0;
    (void)strtod(text, &end);
    return end != text && !*end;
}

/* libcyaml takes whatever is not "false" or the like for true. */
static int is_boolean(const char *text)
{
    return !strcmp(text, "true") || !strcmp(text, "false") || !strcmp(text, "yes") || !strcmp(text, "no");
}

/* Whether a key of this name has a value of the type anywhere in the schema. */
static int has_type(const cyaml_schema_value_t *v, cyaml_type_e type, const char *key, int depth)
{
    if (depth > MAX_DEPTH)
        return 0;
    if (v->type == CYAML_SEQUENCE)
        return has_type(v->sequence.entry, type, key, depth + 1);
    if (v->type != CYAML_MAPPING)
        return 0;
    for (const cyaml_schema_field_t *f = v->mapping.fields; f->key; f++)
        if ((f->value.type == type && !strcmp(f->key, key)) || has_type(&f->value, type, key, depth + 1))
            return 1;
    return 0;
}

/* Counts what stands in a mapping: a key, its value, a key, … */
static ft_code count_node(look *l, const yaml_event_t *e, ft_status *st)
{
    unsigned char *next = &l->next[l->depth];
    const char *text = e->type == YAML_SCALAR_EVENT ? (const char *)e->data.scalar.value : "";
    const int wrong =
        (l->integer && !is_integer(text)) || (l->number && !is_number(text)) || (l->boolean && !is_boolean(text));
    if (*next == NEXT_VALUE && e->type == YAML_SCALAR_EVENT && wrong) {
        char what[100];
        snprintf(what, sizeof(what), "%s is expected, not '%.40s'",
                 l->integer  ? "an integer"
                 : l->number ? "a number"
                             : "true or false",
                 text);
        return refuse(l, e, what, st);
    }
    const int key = *next == NEXT_KEY;
    l->integer = key && has_type(l->schema, CYAML_INT, text, 0);
    l->number = key && has_type(l->schema, CYAML_FLOAT, text, 0);
    l->boolean = key && has_type(l->schema, CYAML_BOOL, text, 0);
    if (*next != NEXT_ANY)
        *next = *next == NEXT_KEY ? NEXT_VALUE : NEXT_KEY;
    return FT_OK;
}

static ft_code open_node(look *l, const yaml_event_t *e, ft_status *st)
{
    const ft_code rc = count_node(l, e, st);
    if (rc)
        return rc;
    if (++l->depth > MAX_DEPTH)
        return refuse(l, e, "nested too deeply", st);
    l->next[l->depth] = e->type == YAML_MAPPING_START_EVENT ? NEXT_KEY : NEXT_ANY;
    return FT_OK;
}

static ft_code look_at(look *l, const yaml_event_t *e, ft_status *st)
{
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return refuse(l, e, "aliases (*name) are not allowed here; write the value out", st);
    case YAML_DOCUMENT_START_EVENT:
        return ++l->documents > 1 ? refuse(l, e, "a second document begins; one is expected", st) : FT_OK;
    case YAML_MAPPING_START_EVENT:
        l->inclusive |= e->start_mark.line + 1 == l->after_line && e->start_mark.column + 1 == l->after_column;
        return open_node(l, e, st);
    case YAML_SEQUENCE_START_EVENT:
        return open_node(l, e, st);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        l->depth--;
        return FT_OK;
    case YAML_SCALAR_EVENT: {
        const size_t line = e->start_mark.line + 1, column = e->start_mark.column + 1;
        if (strlen((const char *)e->data.scalar.value) != e->data.scalar.length)
            return refuse(l, e, "a NUL character in a value", st);
        if (l->key && !l->found_line && !strcmp((const char *)e->data.scalar.value, l->key) &&
            (line > l->after_line || (line == l->after_line && column + (l->inclusive != 0) > l->after_column)))
            l->found_line = line;
        return count_node(l, e, st);
    }
    default:
        return FT_OK;
    }
}

static ft_code look_through(look *l, const ft_buffer *text, ft_status *st)
{
    if (!yaml_parser_initialize(&l->parser))
        return ft_fail(st, FT_ERR_MEM, "%s: no room for the YAML parser", l->path);
    yaml_parser_set_input_string(&l->parser, (const unsigned char *)text->data, text->size);
    ft_code rc = FT_OK;
    for (int over = 0; !rc && !over;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&l->parser, &event)) {
            rc = ft_fail(st, l->parser.error == YAML_MEMORY_ERROR ? FT_ERR_MEM : FT_ERR_FORMAT,
                         "%s:%zu: not valid YAML: %s", l->path, l->parser.problem_mark.line + 1,
                         l->parser.problem ? l->parser.problem : "the parser gave up");
            break;
        }
        over = event.type == YAML_STREAM_END_EVENT;
        rc = look_at(l, &event, st);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&l->parser);
    return rc;
}

/* --- Reading ------------------------------------------------------------------------ */

static ft_code explain(const char *path, const yaml_kind *kind, const ft_buffer *text, cyaml_err_t error,
                       const complaint *c, ft_status *st)
{
    static const char unexpected[] = "Unexpected key: ", again[] = "Mapping field already seen: ";
    if (error == CYAML_ERR_OOM)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    /* The place that comes with these two is the token before the key. */
    const int unknown = !strncmp(c->what, unexpected, sizeof(unexpected) - 1);
    if (unknown || !strncmp(c->what, again, sizeof(again) - 1)) {
        const char *key = c->what + (unknown ? sizeof(unexpected) : sizeof(again)) - 1;
        look l = {.path = path, .schema = kind->schema, .key = key, .after_line = c->line, .after_column = c->column};
        if (look_through(&l, text, NULL) == FT_OK && l.found_line)
            return ft_fail(st, FT_ERR_FORMAT, "%s:%zu: %s '%s'; %s lists the keys", path, l.found_line,
                           unknown ? "unknown key" : "repeated key", key, kind->document);
    }
    const char *what = !strncmp(c->what, "STRING length < 1", 17) ? "is empty"
                       : c->what[0]                               ? c->what
                                                                  : cyaml_strerror(error);
    if (c->field[0] && !strstr(what, c->field))
        return ft_fail(st, FT_ERR_FORMAT, "%s:%u: '%s': %s", path, c->line ? c->line : 1, c->field, what);
    return ft_fail(st, FT_ERR_FORMAT, "%s:%u: %s", path, c->line ? c->line : 1, what);
}

ft_code yaml_read(void **out, const char *path, const yaml_kind *kind, ft_status *st)
{
    *out = NULL;
    ft_buffer text;
    ft_buffer_init(&text, 0);
    look l = {.path = path, .schema = kind->schema};
    ft_code rc = ft_file_read(path, YAML_MOST_BYTES, &text, st);
    if (!rc)
        rc = look_through(&l, &text, st);
    if (!rc) {
        complaint c = {0};
        cyaml_config_t config = silent;
        config.log_fn = listen_to;
        config.log_ctx = &c;
        const cyaml_err_t error =
            cyaml_load_data((const uint8_t *)text.data, text.size, &config, kind->schema, out, NULL);
        if (error != CYAML_OK) {
            *out = NULL;
            rc = explain(path, kind, &text, error, &c, st);
        } else if (!*out) {
            rc = ft_fail(st, FT_ERR_FORMAT, "%s:1: empty; '%s' at least is needed", path, kind->needed);
        }
    }
    ft_buffer_release(&text);
    return rc;
}

void yaml_free(const yaml_kind *kind, void *value)
{
    if (value)
        (void)cyaml_free(&silent, kind->schema, value, 0);
}
