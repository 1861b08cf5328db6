/* normalizer, pre_tokenizer, post_processor and decoder of tokenizer.json: each is
 * read into a step, or refused by name. */
#include "base/ft_json.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 32 };

static ft_code unsupported(const char *part, const char *type, ft_status *st)
{
    return ft_fail(st, FT_ERR_UNSUPPORTED, "%s '%s' is not implemented", part, type);
}

/* The "type" of a part, which must be an object. */
static ft_code get_type(const json_t *o, const char *part, const char **type, ft_status *st)
{
    *type = NULL;
    ft_code rc = json_is_object(o) ? ft_json_get_string(o, "type", type, st)
                                   : ft_fail(st, FT_ERR_FORMAT, "%s must be an object", part);
    if (!rc && !*type)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s has no 'type'", part);
    return rc;
}

/* A field that the reference cannot do without either. */
static ft_code need_bool(const json_t *o, const char *part, const char *field, int *out, ft_status *st)
{
    const json_t *v = json_object_get(o, field);
    if (!json_is_boolean(v))
        return ft_fail(st, FT_ERR_FORMAT, "%s: '%s' must be true or false", part, field);
    *out = json_is_true(v);
    return FT_OK;
}

/* The list of a Sequence. */
static ft_code need_list(const json_t *o, const char *part, const char *field, const json_t **out, ft_status *st)
{
    *out = json_object_get(o, field);
    return json_is_array(*out) ? FT_OK : ft_fail(st, FT_ERR_FORMAT, "%s: '%s' must be an array", part, field);
}

/* {"Regex": …} or {"String": …}. */
static ft_code read_pattern(const json_t *o, const char *part, ft_regex **out, ft_status *st)
{
    const json_t *pattern = json_object_get(o, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex"), *text = json_object_get(pattern, "String");
    if (json_object_size(pattern) != 1 || !(json_is_string(regex) || json_is_string(text)))
        return ft_fail(st, FT_ERR_FORMAT, "%s: 'pattern' must be {\"Regex\": …} or {\"String\": …}", part);
    return regex ? ft_regex_compile(out, json_string_value(regex), json_string_length(regex), part, st)
                 : ft_regex_literal(out, json_string_value(text), json_string_length(text), part, st);
}

static ft_code add_normalizer(ft_tokenizer *t, ft_normalizer_kind kind, ft_normalizer **out, ft_status *st)
{
    if (t->normalizers_count >= FT_MAX_STEPS)
        return ft_fail(st, FT_ERR_LIMIT, "normalizer: more than %d steps", FT_MAX_STEPS);
    ft_code rc = ft_array_grow((void **)&t->normalizers, &t->normalizers_capacity, t->normalizers_count + 1,
                               sizeof(*t->normalizers), st);
    if (rc)
        return rc;
    *out = &t->normalizers[t->normalizers_count++];
    **out = (ft_normalizer){.kind = kind};
    return FT_OK;
}

static ft_code need_string(const json_t *o, const char *part, const char *field, ft_buffer *out, ft_status *st)
{
    const json_t *v = json_object_get(o, field);
    return json_is_string(v) ? ft_buffer_append(out, json_string_value(v), json_string_length(v), st)
                             : ft_fail(st, FT_ERR_FORMAT, "%s: '%s' must be a string", part, field);
}

static ft_code read_normalizer(ft_tokenizer *t, const json_t *o, int depth, ft_status *st)
{
    static const char *const names[] = {"NFC",   "NFD",          "NFKC",    "NFKD",    "Lowercase",
                                        "Strip", "StripAccents", "Replace", "Prepend", "ByteLevel"};
    const char *type;
    ft_code rc = get_type(o, "normalizer", &type, st);
    if (rc)
        return rc;
    if (!strcmp(type, "Sequence")) {
        const json_t *list = NULL;
        rc = depth > MAX_NESTING ? ft_fail(st, FT_ERR_LIMIT, "normalizer: nested too deep")
                                 : need_list(o, "normalizer 'Sequence'", "normalizers", &list, st);
        for (size_t i = 0; !rc && i < json_array_size(list); i++)
            rc = read_normalizer(t, json_array_get(list, i), depth + 1, st);
        return rc;
    }
    size_t kind = 0;
    while (kind < sizeof(names) / sizeof(names[0]) && strcmp(type, names[kind]) != 0)
        kind++;
    if (kind == sizeof(names) / sizeof(names[0]))
        return unsupported("normalizer", type, st);
    ft_normalizer *n = NULL;
    rc = add_normalizer(t, (ft_normalizer_kind)kind, &n, st);
    if (rc)
        return rc;
    if (n->kind == FT_NORM_STRIP) {
        rc = need_bool(o, "normalizer 'Strip'", "strip_left", &n->left, st);
        if (!rc)
            rc = need_bool(o, "normalizer 'Strip'", "strip_right", &n->right, st);
    } else if (n->kind == FT_NORM_REPLACE) {
        rc = read_pattern(o, "normalizer 'Replace'", &n->regex, st);
        if (!rc)
            rc = need_string(o, "normalizer 'Replace'", "content", &n->text, st);
    } else if (n->kind == FT_NORM_PREPEND) {
        rc = need_string(o, "normalizer 'Prepend'", "prepend", &n->text, st);
    } else if (n->kind == FT_NORM_STRIP_ACCENTS && !t->accents) {
        rc = ft_classes_named(&t->accents, FT_SET_ACCENTS, st);
    } else if (n->kind <= FT_NORM_NFKD && !t->normalizer_knows) {
        rc = ft_classes_named(&t->normalizer_knows, FT_SET_NORMALIZER_KNOWS, st);
    }
    return rc;
}

static ft_code read_behavior(const json_t *o, const char *part, ft_behavior *out, ft_status *st)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = json_string_value(json_object_get(o, "behavior"));
    for (int i = 0; name && i < 5; i++)
        if (!strcmp(name, names[i])) {
            *out = (ft_behavior)i;
            return FT_OK;
        }
    return ft_fail(st, FT_ERR_FORMAT, "%s: 'behavior' must be Removed, Isolated, MergedWithPrevious, %s", part,
                   "MergedWithNext or Contiguous");
}

static ft_code read_byte_level(const json_t *o, ft_splitter *s, ft_status *st)
{
    int use_regex = 1, unused;
    s->to_bytes = 1;
    s->behavior = FT_ISOLATED;
    ft_code rc = need_bool(o, "pre_tokenizer 'ByteLevel'", "add_prefix_space", &s->add_prefix_space, st);
    if (!rc)
        rc = need_bool(o, "pre_tokenizer 'ByteLevel'", "trim_offsets", &unused, st);
    if (!rc)
        rc = ft_json_get_bool(o, "use_regex", &use_regex, st);
    if (!rc && use_regex)
        rc = ft_regex_compile(&s->regex, ft_pattern_gpt2, strlen(ft_pattern_gpt2), "pre_tokenizer 'ByteLevel'", st);
    return !rc && use_regex ? ft_cutter_new(&s->cutter, ft_pattern_gpt2, strlen(ft_pattern_gpt2), st) : rc;
}

/* A known pattern leaves nothing between its matches: isolated matches, and all but
 * what is between them removed, are the same pieces. */
static ft_code read_split_pattern(const json_t *o, ft_splitter *s, ft_status *st)
{
    ft_code rc = read_pattern(o, "pre_tokenizer 'Split'", &s->regex, st);
    const json_t *regex = json_object_get(json_object_get(o, "pattern"), "Regex");
    if (!rc && regex && (s->behavior == FT_ISOLATED || (s->behavior == FT_REMOVED && s->invert)))
        rc = ft_cutter_new(&s->cutter, json_string_value(regex), json_string_length(regex), st);
    return rc;
}

static ft_code read_splitter(const json_t *o, const char *type, ft_splitter *s, ft_status *st)
{
    ft_code rc = FT_OK;
    if (!strcmp(type, "ByteLevel"))
        return read_byte_level(o, s, st);
    if (!strcmp(type, "Split")) {
        rc = read_behavior(o, "pre_tokenizer 'Split'", &s->behavior, st);
        if (!rc)
            rc = need_bool(o, "pre_tokenizer 'Split'", "invert", &s->invert, st);
        return rc ? rc : read_split_pattern(o, s, st);
    }
    if (!strcmp(type, "Digits")) {
        int one_by_one = 0;
        rc = need_bool(o, "pre_tokenizer 'Digits'", "individual_digits", &one_by_one, st);
        s->behavior = one_by_one ? FT_ISOLATED : FT_CONTIGUOUS;
        return rc ? rc : ft_regex_one_of(&s->regex, FT_SET_NUMERIC, st);
    }
    if (!strcmp(type, "Punctuation")) {
        s->behavior = FT_ISOLATED;
        if (json_object_get(o, "behavior"))
            rc = read_behavior(o, "pre_tokenizer 'Punctuation'", &s->behavior, st);
        return rc ? rc : ft_regex_one_of(&s->regex, FT_SET_PUNCTUATION, st);
    }
    if (!strcmp(type, "WhitespaceSplit")) {
        s->behavior = FT_REMOVED;
        return ft_regex_one_of(&s->regex, FT_SET_SPACE, st);
    }
    if (!strcmp(type, "Whitespace")) {
        s->behavior = FT_REMOVED;
        s->invert = 1;
        return ft_regex_rust_words(&s->regex, st);
    }
    return unsupported("pre_tokenizer", type, st);
}

static ft_code read_pre_tokenizer(ft_tokenizer *t, const json_t *o, int depth, ft_status *st)
{
    const char *type;
    ft_code rc = get_type(o, "pre_tokenizer", &type, st);
    if (rc)
        return rc;
    if (!strcmp(type, "Sequence")) {
        const json_t *list = NULL;
        rc = depth > MAX_NESTING ? ft_fail(st, FT_ERR_LIMIT, "pre_tokenizer: nested too deep")
                                 : need_list(o, "pre_tokenizer 'Sequence'", "pretokenizers", &list, st);
        for (size_t i = 0; !rc && i < json_array_size(list); i++)
            rc = read_pre_tokenizer(t, json_array_get(list, i), depth + 1, st);
        return rc;
    }
    if (t->splitters_count >= FT_MAX_STEPS)
        return ft_fail(st, FT_ERR_LIMIT, "pre_tokenizer: more than %d steps", FT_MAX_STEPS);
    rc = ft_array_grow((void **)&t->splitters, &t->splitters_capacity, t->splitters_count + 1, sizeof(*t->splitters),
                       st);
    if (rc)
        return rc;
    ft_splitter *s = &t->splitters[t->splitters_count++];
    *s = (ft_splitter){0};
    return read_splitter(o, type, s, st);
}

/* Post-processors add tokens at the ends, which we never do; two of them trim
 * spaces off the offsets, and that is kept. */
static ft_code read_post_processor(ft_tokenizer *t, const json_t *o, int depth, ft_status *st)
{
    const char *type;
    ft_code rc = get_type(o, "post_processor", &type, st);
    if (rc)
        return rc;
    if (!strcmp(type, "Sequence")) {
        const json_t *list = NULL;
        rc = depth > MAX_NESTING ? ft_fail(st, FT_ERR_LIMIT, "post_processor: nested too deep")
                                 : need_list(o, "post_processor 'Sequence'", "processors", &list, st);
        for (size_t i = 0; !rc && i < json_array_size(list); i++)
            rc = read_post_processor(t, json_array_get(list, i), depth + 1, st);
        return rc;
    }
    if (!strcmp(type, "TemplateProcessing") || !strcmp(type, "BertProcessing"))
        return FT_OK;
    if (strcmp(type, "ByteLevel") != 0 && strcmp(type, "RobertaProcessing") != 0)
        return unsupported("post_processor", type, st);
    int trim = 0, prefix = 0;
    rc = need_bool(o, "post_processor", "trim_offsets", &trim, st);
    if (!rc)
        rc = need_bool(o, "post_processor", "add_prefix_space", &prefix, st);
    if (rc || !trim)
        return rc;
    rc = ft_array_grow((void **)&t->trims, &t->trims_capacity, t->trims_count + 1, 1, st);
    if (!rc)
        t->trims[t->trims_count++] = (unsigned char)prefix;
    return rc;
}

/* ByteLevel, and Fuse behind it: a Sequence of them. */
static ft_code read_decoder(const json_t *o, int *byte_level, int depth, ft_status *st)
{
    if (!o || json_is_null(o))
        return ft_fail(st, FT_ERR_UNSUPPORTED, "no decoder: only 'ByteLevel' is implemented");
    const char *type;
    ft_code rc = get_type(o, "decoder", &type, st);
    if (rc)
        return rc;
    if (!strcmp(type, "Sequence")) {
        const json_t *list = NULL;
        rc = depth > MAX_NESTING ? ft_fail(st, FT_ERR_LIMIT, "decoder: nested too deep")
                                 : need_list(o, "decoder 'Sequence'", "decoders", &list, st);
        for (size_t i = 0; !rc && i < json_array_size(list); i++)
            rc = read_decoder(json_array_get(list, i), byte_level, depth + 1, st);
    } else if (!strcmp(type, "ByteLevel") && !*byte_level) {
        *byte_level = 1;
    } else if (strcmp(type, "Fuse") != 0 || !*byte_level) {
        rc = unsupported("decoder", type, st);
    }
    return rc;
}

/* The last splitter alone turns text to bytes: then pieces can stay bytes. */
static int only_last_to_bytes(const ft_tokenizer *t)
{
    size_t to_bytes = 0;
    for (size_t i = 0; i < t->splitters_count; i++)
        to_bytes += t->splitters[i].to_bytes != 0;
    return to_bytes == 1 && t->splitters[t->splitters_count - 1].to_bytes;
}

/* The cutter of the one splitter that cuts, if the others do nothing but turn to bytes. */
static const ft_cutter *only_cutter(const ft_tokenizer *t)
{
    const ft_cutter *cutter = NULL;
    for (size_t i = 0; i < t->splitters_count; i++) {
        const ft_splitter *s = &t->splitters[i];
        if (s->add_prefix_space || (s->regex && (!s->cutter || cutter)))
            return NULL;
        cutter = s->regex ? s->cutter : cutter;
    }
    return cutter;
}

ft_code ft_steps_read(ft_tokenizer *t, const json_t *root, ft_status *st)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *pre_tokenizer = json_object_get(root, "pre_tokenizer");
    const json_t *post_processor = json_object_get(root, "post_processor");
    int byte_level = 0;
    ft_code rc = FT_OK;
    if (normalizer && !json_is_null(normalizer))
        rc = read_normalizer(t, normalizer, 0, st);
    if (!rc && pre_tokenizer && !json_is_null(pre_tokenizer))
        rc = read_pre_tokenizer(t, pre_tokenizer, 0, st);
    if (!rc && post_processor && !json_is_null(post_processor))
        rc = read_post_processor(t, post_processor, 0, st);
    if (!rc)
        rc = read_decoder(json_object_get(root, "decoder"), &byte_level, 0, st);
    if (!rc && !byte_level)
        rc = ft_fail(st, FT_ERR_UNSUPPORTED, "decoder: only 'ByteLevel' is implemented");
    t->byte_level = !rc && only_last_to_bytes(t);
    t->cutter = t->byte_level ? only_cutter(t) : NULL;
    return rc;
}

void ft_steps_release(ft_tokenizer *t)
{
    for (size_t i = 0; i < t->normalizers_count; i++) {
        ft_regex_free(t->normalizers[i].regex);
        ft_buffer_release(&t->normalizers[i].text);
    }
    for (size_t i = 0; i < t->splitters_count; i++) {
        ft_regex_free(t->splitters[i].regex);
        ft_cutter_free(t->splitters[i].cutter);
    }
    free(t->normalizers);
    free(t->splitters);
    free(t->trims);
    ft_classes_free(t->normalizer_knows);
    ft_classes_free(t->accents);
}
