/* Reading tokenizer.json: vocabulary, merges, added tokens; and from the file
 * beside it the end-of-text token. */
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_utf8.h"
#include "text/tokenizer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 512 << 20 };

uint32_t ft_byte_letter(unsigned byte)
{
    if ((byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD))
        return byte;
    /* 0-20, 7F-A0 and AD, in this order, take U+0100 and on. */
    return 0x100 + (byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7F + 0x21 : 0x43);
}

int ft_letter_byte(uint32_t c)
{
    if (c < 0x100)
        return ft_byte_letter(c) == c ? (int)c : -1;
    if (c <= 0x120)
        return (int)c - 0x100;
    return c <= 0x142 ? (int)c - 0x121 + 0x7F : c == 0x143 ? 0xAD : -1;
}

uint32_t ft_vocabulary_find(const ft_tokenizer *t, const char *spelling, size_t n)
{
    if (!t->by_spelling)
        return FT_NO_TOKEN;
    for (size_t at = ft_hash_bytes(spelling, n);; at++) {
        const uint32_t id = t->by_spelling[at & t->by_spelling_mask];
        if (id == FT_NO_TOKEN ||
            (t->spelling[id].size == n && !memcmp(t->strings.data + t->spelling[id].at, spelling, n)))
            return id;
    }
}

/* A power of two, at least twice n. */
static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return size;
}

static ft_code out_of_memory(ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "out of memory");
}

/* Makes room for ids below `size`. */
static ft_code grow_ids(ft_tokenizer *t, uint32_t size, ft_status *st)
{
    if (size <= t->size)
        return FT_OK;
    ft_view32 *spelling = realloc(t->spelling, size * sizeof(*spelling));
    if (spelling)
        t->spelling = spelling;
    ft_view32 *decoded = realloc(t->decoded, size * sizeof(*decoded));
    if (decoded)
        t->decoded = decoded;
    unsigned char *flags = realloc(t->flags, size);
    if (flags)
        t->flags = flags;
    if (!spelling || !decoded || !flags)
        return out_of_memory(st);
    memset(spelling + t->size, 0, (size - t->size) * sizeof(*spelling));
    memset(decoded + t->size, 0, (size - t->size) * sizeof(*decoded));
    memset(flags + t->size, 0, size - t->size);
    t->size = size;
    return FT_OK;
}

/* Keeps a string for good, NUL-terminated. */
static ft_code keep(ft_tokenizer *t, const char *text, size_t n, ft_view32 *out, ft_status *st)
{
    if (t->strings.size + n + 1 > UINT32_MAX)
        return ft_fail(st, FT_ERR_LIMIT, "the vocabulary holds more than 4 GiB of text");
    *out = (ft_view32){(uint32_t)t->strings.size, (uint32_t)n};
    ft_code rc = ft_buffer_append(&t->strings, text, n, st);
    return rc ? rc : ft_buffer_append(&t->strings, "", 1, st);
}

static ft_code read_vocabulary(ft_tokenizer *t, json_t *vocab, ft_status *st)
{
    if (!json_is_object(vocab))
        return ft_fail(st, FT_ERR_FORMAT, "model.vocab must be an object of token to id");
    const size_t count = json_object_size(vocab);
    if (count > FT_MAX_ENTRIES)
        return ft_fail(st, FT_ERR_LIMIT, "model.vocab has %zu entries: at most %d", count, FT_MAX_ENTRIES);
    json_int_t last = -1;
    const char *entry;
    json_t *value;
    json_object_foreach(vocab, entry, value)
    {
        const json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id > FT_MAX_TOKEN_ID)
            return ft_fail(st, FT_ERR_FORMAT, "model.vocab: the id of '%.80s' is not an integer from 0 to %d", entry,
                           FT_MAX_TOKEN_ID);
        last = id > last ? id : last;
    }
    ft_code rc = grow_ids(t, (uint32_t)(last + 1), st);
    t->by_spelling_mask = table_size(count) - 1;
    t->by_spelling = malloc((t->by_spelling_mask + 1) * sizeof(*t->by_spelling));
    if (rc || !t->by_spelling)
        return rc ? rc : out_of_memory(st);
    memset(t->by_spelling, 0xFF, (t->by_spelling_mask + 1) * sizeof(*t->by_spelling));
    json_object_foreach(vocab, entry, value)
    {
        const uint32_t id = (uint32_t)json_integer_value(value);
        if (t->flags[id])
            return ft_fail(st, FT_ERR_FORMAT, "model.vocab: '%.80s' and '%.80s' have the same id %u",
                           t->strings.data + t->spelling[id].at, entry, id);
        const size_t n = strlen(entry);
        rc = keep(t, entry, n, &t->spelling[id], st);
        if (rc)
            return rc;
        t->flags[id] = FT_TOKEN_USED;
        size_t at = ft_hash_bytes(entry, n);
        while (t->by_spelling[at & t->by_spelling_mask] != FT_NO_TOKEN)
            at++;
        t->by_spelling[at & t->by_spelling_mask] = id;
    }
    t->vocabulary = (uint32_t)count;
    return FT_OK;
}

/* The two halves of a merge, "a b" or ["a", "b"]. */
static int merge_halves(const json_t *merge, const char *half[2], size_t size[2])
{
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge), *end = text + json_string_length(merge);
        const char *space = memchr(text, ' ', (size_t)(end - text));
        if (!space || memchr(space + 1, ' ', (size_t)(end - space - 1)))
            return 0;
        half[0] = text;
        size[0] = (size_t)(space - text);
        half[1] = space + 1;
        size[1] = (size_t)(end - space - 1);
        return 1;
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *s = json_array_get(merge, i);
        if (json_array_size(merge) != 2 || !json_is_string(s))
            return 0;
        half[i] = json_string_value(s);
        size[i] = json_string_length(s);
    }
    return 1;
}

/* A later merge of the same pair replaces the earlier, as in the reference. */
static void put_merge(ft_tokenizer *t, uint32_t left, uint32_t right, uint32_t rank, uint32_t id)
{
    const uint64_t pair = (uint64_t)left << 32 | right, hash = ft_merge_hash(pair);
    const size_t bit = (size_t)(hash >> (t->merges_shift - 3));
    t->merges_seen[bit >> 6] |= UINT64_C(1) << (bit & 63);
    size_t at = (size_t)(hash >> t->merges_shift);
    while (t->merges[at].pair != UINT64_MAX && t->merges[at].pair != pair)
        at = (at + 1) & t->merges_mask;
    t->merges[at] = (ft_merge){pair, rank, id};
}

static ft_code read_merge(ft_tokenizer *t, const json_t *merge, size_t index, uint32_t rank, ft_buffer *joined,
                          ft_status *st)
{
    const char *half[3];
    size_t size[3];
    uint32_t id[3];
    if (!merge_halves(merge, half, size))
        return ft_fail(st, FT_ERR_FORMAT, "model.merges: entry %zu is neither \"a b\" nor [\"a\", \"b\"]", index);
    ft_buffer_reset(joined);
    ft_code rc = ft_buffer_append(joined, half[0], size[0], st);
    if (!rc)
        rc = ft_buffer_append(joined, half[1], size[1], st);
    if (rc)
        return rc;
    half[2] = joined->data;
    size[2] = joined->size;
    for (int i = 0; i < 3; i++) {
        id[i] = ft_vocabulary_find(t, half[i], size[i]);
        if (id[i] == FT_NO_TOKEN)
            return ft_fail(st, FT_ERR_FORMAT, "model.merges: entry %zu needs '%.*s', which is not in model.vocab",
                           index, (int)(size[i] > 80 ? 80 : size[i]), half[i]);
    }
    put_merge(t, id[0], id[1], rank, id[2]);
    return FT_OK;
}

static ft_code read_merges(ft_tokenizer *t, const json_t *merges, ft_status *st)
{
    if (!json_is_array(merges))
        return ft_fail(st, FT_ERR_FORMAT, "model.merges must be an array");
    const size_t count = json_array_size(merges);
    if (count > FT_MAX_ENTRIES)
        return ft_fail(st, FT_ERR_LIMIT, "model.merges has %zu entries: at most %d", count, FT_MAX_ENTRIES);
    size_t size = 16; /* three quarters full: few that are not there are asked for */
    while (size < count + count / 4)
        size *= 2;
    t->merges = malloc(size * sizeof(*t->merges));
    t->merges_seen = calloc(size / 8, sizeof(*t->merges_seen));
    if (!t->merges || !t->merges_seen)
        return out_of_memory(st);
    t->merges_mask = size - 1;
    t->merges_shift = 64;
    for (size_t i = size; i > 1; i /= 2)
        t->merges_shift--;
    for (size_t i = 0; i < size; i++)
        t->merges[i] = (ft_merge){.pair = UINT64_MAX};
    ft_buffer joined = {0};
    ft_code rc = FT_OK;
    uint32_t rank = 0;
    const int strings = json_is_string(json_array_get(merges, 0));
    for (size_t i = 0; !rc && i < count; i++) {
        const json_t *merge = json_array_get(merges, i);
        if (json_is_string(merge) != strings)
            rc = ft_fail(st, FT_ERR_FORMAT, "model.merges: entry %zu is of another form than the first", i);
        else if (!strings || strncmp(json_string_value(merge), "#version", 8) != 0)
            rc = read_merge(t, merge, i, rank++, &joined, st);
    }
    ft_buffer_release(&joined);
    return rc;
}

/* "" and null are the same: nothing. */
static ft_code refuse_affix(const json_t *model, const char *field, ft_status *st)
{
    const char *text = NULL;
    ft_code rc = ft_json_get_string(model, field, &text, st);
    if (!rc && text && *text)
        rc = ft_fail(st, FT_ERR_UNSUPPORTED, "model.%s '%.40s' is not implemented", field, text);
    return rc;
}

static ft_code read_options(ft_tokenizer *t, const json_t *model, ft_status *st)
{
    double dropout = 0;
    ft_code rc = refuse_affix(model, "continuing_subword_prefix", st);
    if (!rc)
        rc = refuse_affix(model, "end_of_word_suffix", st);
    if (!rc)
        rc = ft_json_get_number(model, "dropout", 0, 1, &dropout, st);
    if (!rc && dropout > 0)
        rc = ft_fail(st, FT_ERR_UNSUPPORTED, "model.dropout %g is not implemented: remove it", dropout);
    if (!rc)
        rc = ft_json_get_bool(model, "ignore_merges", &t->ignore_merges, st);
    if (!rc)
        rc = ft_json_get_bool(model, "fuse_unk", &t->fuse_unk, st);
    if (!rc)
        rc = ft_json_get_bool(model, "byte_fallback", &t->byte_fallback, st);
    return rc;
}

/* What the model needs for characters: ids of bytes, and what stands in for them. */
static ft_code read_alphabet(ft_tokenizer *t, const json_t *model, ft_status *st)
{
    ft_buffer letter = {0};
    ft_code rc = FT_OK;
    t->bytes_complete = 1;
    for (unsigned b = 0; !rc && b < 256; b++) {
        char code[8];
        snprintf(code, sizeof(code), "<0x%02X>", b);
        t->fallback_id[b] = ft_vocabulary_find(t, code, 6);
        ft_buffer_reset(&letter);
        rc = ft_utf8_append(&letter, ft_byte_letter(b), st);
        t->byte_id[b] = rc ? FT_NO_TOKEN : ft_vocabulary_find(t, letter.data, letter.size);
        t->bytes_complete = t->bytes_complete && t->byte_id[b] != FT_NO_TOKEN;
    }
    ft_buffer_release(&letter);
    const char *unknown = NULL;
    if (!rc)
        rc = ft_json_get_string(model, "unk_token", &unknown, st);
    t->unk_id = !rc && unknown ? ft_vocabulary_find(t, unknown, strlen(unknown)) : FT_NO_TOKEN;
    if (!rc && unknown && t->unk_id == FT_NO_TOKEN && !t->bytes_complete)
        rc = ft_fail(st, FT_ERR_FORMAT, "model.unk_token '%.80s' is not in model.vocab", unknown);
    return rc;
}

static ft_code read_model(ft_tokenizer *t, const json_t *root, ft_status *st)
{
    const json_t *model = json_object_get(root, "model");
    const char *type = "BPE";
    if (!json_is_object(model))
        return ft_fail(st, FT_ERR_FORMAT, "there is no 'model'");
    ft_code rc = ft_json_get_string(model, "type", &type, st);
    if (!rc && strcmp(type, "BPE") != 0)
        rc = ft_fail(st, FT_ERR_UNSUPPORTED, "model '%.40s' is not implemented: only BPE is", type);
    if (!rc)
        rc = read_options(t, model, st);
    if (!rc)
        rc = read_vocabulary(t, json_object_get(model, "vocab"), st);
    if (!rc)
        rc = read_merges(t, json_object_get(model, "merges"), st);
    return rc ? rc : read_alphabet(t, model, st);
}

static ft_code read_flag(const json_t *o, size_t index, const char *field, char *out, ft_status *st)
{
    const json_t *v = json_object_get(o, field);
    if (!json_is_boolean(v))
        return ft_fail(st, FT_ERR_FORMAT, "added_tokens: entry %zu: '%s' must be true or false", index, field);
    *out = (char)json_is_true(v);
    return FT_OK;
}

ft_added_token *ft_added_find(const ft_tokenizer *t, const char *content, size_t n)
{
    if (!t->by_content)
        return NULL;
    for (size_t at = ft_hash_bytes(content, n);; at++) {
        const uint32_t index = t->by_content[at & t->by_content_mask];
        if (index == FT_NO_TOKEN)
            return NULL;
        const ft_view32 v = t->added[index].content;
        if (v.size == n && !memcmp(t->strings.data + v.at, content, n))
            return &t->added[index];
    }
}

/* One entry. Its id follows from the vocabulary as in the reference, which takes
 * no notice of the id in the file. */
static ft_code read_added(ft_tokenizer *t, const json_t *o, size_t index, uint32_t *next_id, ft_status *st)
{
    const json_t *content = json_object_get(o, "content");
    if (!json_is_string(content) || !json_is_integer(json_object_get(o, "id")))
        return ft_fail(st, FT_ERR_FORMAT, "added_tokens: entry %zu needs 'id' and 'content'", index);
    const char *text = json_string_value(content);
    const size_t n = json_string_length(content);
    ft_added_token a = {0};
    ft_code rc = read_flag(o, index, "single_word", &a.single_word, st);
    if (!rc)
        rc = read_flag(o, index, "lstrip", &a.lstrip, st);
    if (!rc)
        rc = read_flag(o, index, "rstrip", &a.rstrip, st);
    if (!rc)
        rc = read_flag(o, index, "normalized", &a.normalized, st);
    if (!rc)
        rc = read_flag(o, index, "special", &a.special, st);
    if (rc || !n)
        return rc; /* an empty one is passed over */
    ft_added_token *old = ft_added_find(t, text, n);
    if (old) { /* said twice: the later counts, but special stays special */
        a.content = a.shown = old->content;
        a.id = old->id;
        a.special = a.special || old->special;
        *old = a;
        return FT_OK;
    }
    a.id = ft_vocabulary_find(t, text, n);
    if (a.id == FT_NO_TOKEN)
        a.id = (*next_id)++;
    rc = a.id > FT_MAX_TOKEN_ID ? ft_fail(st, FT_ERR_LIMIT, "added_tokens: entry %zu would have id %u: at most %d",
                                          index, a.id, FT_MAX_TOKEN_ID)
                                : grow_ids(t, a.id + 1, st);
    if (!rc)
        rc = keep(t, text, n, &a.content, st);
    if (rc)
        return rc;
    if (!(t->flags[a.id] & FT_TOKEN_USED))
        t->spelling[a.id] = a.content;
    t->flags[a.id] |= FT_TOKEN_USED;
    a.shown = a.content;
    size_t at = ft_hash_bytes(text, n);
    while (t->by_content[at & t->by_content_mask] != FT_NO_TOKEN)
        at++;
    t->by_content[at & t->by_content_mask] = (uint32_t)t->added_count;
    t->added[t->added_count++] = a;
    return FT_OK;
}

/* Where the added token is looked for: in the text as it is, or normalized. A
 * normalized one also decodes from its normalized form. */
static ft_code place_added(ft_tokenizer *t, uint32_t index, ft_status *st)
{
    ft_added_token *a = &t->added[index];
    const char *content = t->strings.data + a->content.at;
    ft_buffer text = {0};
    int taken = 0;
    ft_code rc = FT_OK;
    if (a->normalized && t->normalizers_count)
        rc = ft_normalize_text(t, content, a->content.size, &text, st);
    else
        rc = ft_buffer_append(&text, content, a->content.size, st);
    const char *data = text.data ? text.data : "";
    if (!rc && !text.size)
        rc = ft_fail(st, FT_ERR_UNSUPPORTED, "added_tokens: '%.80s' is empty once normalized", content);
    if (!rc)
        rc = ft_trie_add(a->normalized ? &t->normalized : &t->raw, data, text.size, index, &taken, st);
    if (!rc && taken)
        rc = ft_fail(st, FT_ERR_UNSUPPORTED, "added_tokens: '%.80s' is the same as another once normalized", content);
    if (!rc && (text.size != a->content.size || memcmp(data, content, text.size) != 0))
        rc = keep(t, data, text.size, &a->shown, st);
    ft_buffer_release(&text);
    return rc;
}

static ft_code read_added_tokens(ft_tokenizer *t, const json_t *root, ft_status *st)
{
    const json_t *list = json_object_get(root, "added_tokens");
    if (!list)
        return FT_OK;
    const size_t count = json_array_size(list);
    if (!json_is_array(list) || count > FT_MAX_ENTRIES)
        return ft_fail(st, FT_ERR_FORMAT, "added_tokens must be an array of at most %d", FT_MAX_ENTRIES);
    const size_t size = table_size(count);
    t->added = ft_alloc_array(count, sizeof(*t->added));
    t->by_content = malloc(size * sizeof(*t->by_content));
    if (!t->added || !t->by_content)
        return out_of_memory(st);
    memset(t->by_content, 0xFF, size * sizeof(*t->by_content));
    t->by_content_mask = size - 1;
    uint32_t next_id = t->vocabulary;
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < count; i++)
        rc = read_added(t, json_array_get(list, i), i, &next_id, st);
    for (uint32_t i = 0; !rc && i < t->added_count; i++)
        rc = place_added(t, i, st);
    return rc;
}

/* What an id decodes to: letters of the byte alphabet as bytes, but the spelling
 * itself where one character is none. */
static ft_code decode_spelling(ft_tokenizer *t, ft_view32 spelling, ft_view32 *out, ft_status *st)
{
    const char *text = t->strings.data + spelling.at;
    const size_t before = t->bytes.size;
    ft_code rc = ft_buffer_reserve(&t->bytes, spelling.size, st);
    int all = 1;
    for (size_t at = 0; !rc && all && at < spelling.size;) {
        unsigned length;
        const int byte = ft_letter_byte(ft_utf8_decode((const unsigned char *)text + at, &length));
        all = byte >= 0;
        if (all)
            t->bytes.data[t->bytes.size++] = (char)byte;
        at += length;
    }
    if (!rc && !all) {
        t->bytes.size = before;
        rc = ft_buffer_append(&t->bytes, text, spelling.size, st);
    }
    *out = (ft_view32){(uint32_t)before, (uint32_t)(t->bytes.size - before)};
    return rc;
}

static ft_code read_bytes(ft_tokenizer *t, ft_status *st)
{
    ft_code rc = FT_OK;
    for (uint32_t id = 0; !rc && id < t->size; id++)
        if (t->flags[id] & FT_TOKEN_USED)
            rc = decode_spelling(t, t->spelling[id], &t->decoded[id], st);
    for (size_t i = 0; !rc && i < t->added_count; i++) {
        const ft_view32 shown = t->added[i].shown;
        /* Special is what spells like a special token. */
        const ft_added_token *same = ft_added_find(t, t->strings.data + shown.at, shown.size);
        t->flags[t->added[i].id] |= same && same->special ? FT_TOKEN_SPECIAL : 0;
        rc = decode_spelling(t, shown, &t->decoded[t->added[i].id], st);
    }
    return rc;
}

/* eos_token of tokenizer_config.json, a string or an object with "content". */
static ft_code read_end_of_text(ft_tokenizer *t, ft_status *st)
{
    t->end_of_text = ft_tokenizer_token_id(t, "<|endoftext|>");
    const char *slash = strrchr(t->path, '/');
    ft_buffer path = {0};
    ft_code rc = slash ? ft_buffer_append(&path, t->path, (size_t)(slash - t->path) + 1, st) : FT_OK;
    if (!rc)
        rc = ft_buffer_append_str(&path, "tokenizer_config.json", st);
    json_t *config = NULL;
    if (!rc && ft_path_exists(path.data))
        rc = ft_json_read_file(&config, path.data, MAX_FILE_BYTES, st);
    const json_t *eos = json_object_get(config, "eos_token");
    const char *name = json_string_value(json_is_object(eos) ? json_object_get(eos, "content") : eos);
    if (!rc && name) {
        t->end_of_text = ft_tokenizer_token_id(t, name);
        if (t->end_of_text == FT_NO_TOKEN)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: eos_token '%.80s' is not a token of tokenizer.json", path.data, name);
    }
    json_decref(config);
    ft_buffer_release(&path);
    return rc;
}

static ft_code read_root(ft_tokenizer *t, const json_t *root, ft_status *st)
{
    const char *version = "1.0";
    if (!json_is_object(root))
        return ft_fail(st, FT_ERR_FORMAT, "not an object");
    ft_code rc = ft_json_get_string(root, "version", &version, st);
    if (!rc && strcmp(version, "1.0") != 0)
        rc = ft_fail(st, FT_ERR_UNSUPPORTED, "version '%.40s' is not implemented: only 1.0 is", version);
    static const char *const refused[] = {"truncation", "padding"};
    for (size_t i = 0; !rc && i < 2; i++) {
        const json_t *v = json_object_get(root, refused[i]);
        if (v && !json_is_null(v))
            rc = ft_fail(st, FT_ERR_UNSUPPORTED, "'%s' is not implemented: set it to null", refused[i]);
    }
    if (!rc)
        rc = ft_classes_named(&t->word, FT_SET_WORD_RUST, st);
    if (!rc)
        rc = ft_classes_named(&t->space, FT_SET_SPACE, st);
    if (!rc)
        rc = ft_steps_read(t, root, st);
    if (!rc)
        rc = read_model(t, root, st);
    t->byte_level = t->byte_level && t->bytes_complete;
    if (!rc)
        rc = read_added_tokens(t, root, st);
    return rc;
}

/* The path of tokenizer.json itself, given it or its folder. */
static ft_code find_file(ft_tokenizer *t, const char *path, ft_status *st)
{
    t->path = ft_path_is_folder(path) ? ft_path_join(path, "tokenizer.json") : strdup(path);
    return t->path ? FT_OK : out_of_memory(st);
}

ft_code ft_tokenizer_open(ft_tokenizer **out, const char *path, ft_status *st)
{
    *out = NULL;
    json_t *root = NULL;
    ft_buffer file = {0};
    ft_tokenizer *t = calloc(1, sizeof(*t));
    ft_code rc = t ? find_file(t, path, st) : out_of_memory(st);
    if (!rc)
        rc = ft_file_read(t->path, MAX_FILE_BYTES, &file, st);
    if (!rc) {
        t->digest = ft_digest_of(file.data ? file.data : "", file.size);
        rc = ft_json_parse(&root, file.data ? file.data : "", file.size, t->path, st);
    }
    if (!rc) {
        rc = read_root(t, root, st);
        if (!rc)
            rc = read_bytes(t, st);
        if (!rc)
            rc = ft_words_index(t, st);
        if (rc == FT_ERR_ARG) { /* a field of the wrong type: the file's fault, not the caller's */
            rc = FT_ERR_FORMAT;
            if (st)
                st->code = rc;
        }
        if (rc)
            ft_status_prefix(st, "%s", t->path);
    }
    if (!rc)
        rc = read_end_of_text(t, st);
    if (!rc) {
        *out = t;
        t = NULL;
    }
    json_decref(root);
    ft_buffer_release(&file);
    ft_tokenizer_close(t);
    return rc;
}
