/* The trained tokenizer as tokenizer.json and tokenizer_config.json. */
#include "base/ft_file.h"
#include "base/ft_utf8.h"
#include "text/bpe_train_internal.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

static const char *const special_tokens[] = {"<|endoftext|>", "<|pad|>"};
enum { SPECIAL = sizeof(special_tokens) / sizeof(special_tokens[0]) };

#define FLAGS "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true"

/* Bytes as letters of the byte alphabet, in a JSON string without its quotes. */
static ft_code put_letters(ft_buffer *out, const char *bytes, size_t n, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        const uint32_t letter = ft_byte_letter((unsigned char)bytes[i]);
        if (letter == '"' || letter == '\\')
            rc = ft_buffer_append(out, "\\", 1, st);
        if (!rc)
            rc = ft_utf8_append(out, letter, st);
    }
    return rc;
}

static ft_code put_entry(const ft_bpe_train *t, ft_buffer *out, uint32_t id, ft_status *st)
{
    const ft_train_entry *e = &t->entries[id];
    return id < SPECIAL ? ft_buffer_append_str(out, special_tokens[id], st)
                        : put_letters(out, t->entry_bytes + e->at, e->size, st);
}

/* gpt2's pattern is that of ByteLevel itself. */
static ft_code put_pre_tokenizer(const ft_bpe_train *t, ft_buffer *out, ft_status *st)
{
    static const char byte_level[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
                                     "\"use_regex\": ";
    if (t->pattern == ft_pattern_gpt2)
        return ft_buffer_printf(out, st, "  \"pre_tokenizer\": %strue},\n", byte_level);
    ft_code rc = ft_buffer_append_str(out,
                                      "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n"
                                      "    {\"type\": \"Split\", \"pattern\": {\"Regex\": \"",
                                      st);
    for (const char *p = t->pattern; *p && !rc; p++) {
        rc = *p == '\\' ? ft_buffer_append(out, "\\", 1, st) : FT_OK;
        if (!rc)
            rc = ft_buffer_append(out, p, 1, st);
    }
    return rc ? rc
              : ft_buffer_printf(out, st, "\"}, \"behavior\": \"Isolated\", \"invert\": false},\n    %sfalse}\n  ]},\n",
                                 byte_level);
}

static ft_code put_tokenizer(const ft_bpe_train *t, ft_buffer *out, ft_status *st)
{
    ft_code rc = ft_buffer_append_str(
        out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [\n", st);
    for (uint32_t i = 0; i < SPECIAL && !rc; i++)
        rc = ft_buffer_printf(out, st, "    {\"id\": %u, \"content\": \"%s\", " FLAGS "}%s\n", i, special_tokens[i],
                              i + 1 < SPECIAL ? "," : "");
    if (!rc)
        rc = ft_buffer_append_str(out, "  ],\n  \"normalizer\": null,\n", st);
    if (!rc)
        rc = put_pre_tokenizer(t, out, st);
    if (!rc)
        rc = ft_buffer_append_str(
            out,
            "  \"post_processor\": null,\n"
            "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
            "\"use_regex\": true},\n"
            "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
            "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
            "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n    \"vocab\": {",
            st);
    for (uint32_t id = 0; id < t->entries_count && !rc; id++) {
        rc = ft_buffer_append_str(out, id ? ",\n      \"" : "\n      \"", st);
        if (!rc)
            rc = put_entry(t, out, id, st);
        if (!rc)
            rc = ft_buffer_printf(out, st, "\": %u", id);
    }
    if (!rc)
        rc = ft_buffer_append_str(out, "\n    },\n    \"merges\": [", st);
    for (size_t i = 0; i < t->merges_count && !rc; i++) {
        rc = ft_buffer_append_str(out, i ? ",\n      \"" : "\n      \"", st);
        if (!rc)
            rc = put_entry(t, out, t->merges[i].left, st);
        if (!rc)
            rc = ft_buffer_append(out, " ", 1, st);
        if (!rc)
            rc = put_entry(t, out, t->merges[i].right, st);
        if (!rc)
            rc = ft_buffer_append(out, "\"", 1, st);
    }
    return rc ? rc : ft_buffer_append_str(out, "\n    ]\n  }\n}\n", st);
}

static ft_code put_config(ft_buffer *out, ft_status *st)
{
    ft_code rc = ft_buffer_printf(out, st,
                                  "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"bos_token\": null,\n"
                                  "  \"eos_token\": \"%s\",\n  \"pad_token\": \"%s\",\n  \"unk_token\": null,\n"
                                  "  \"add_prefix_space\": false,\n  \"clean_up_tokenization_spaces\": false,\n"
                                  "  \"added_tokens_decoder\": {\n",
                                  special_tokens[0], special_tokens[1]);
    for (uint32_t i = 0; i < SPECIAL && !rc; i++)
        rc = ft_buffer_printf(out, st, "    \"%u\": {\"content\": \"%s\", " FLAGS "}%s\n", i, special_tokens[i],
                              i + 1 < SPECIAL ? "," : "");
    return rc ? rc : ft_buffer_append_str(out, "  }\n}\n", st);
}

static ft_code write_one(const char *folder, const char *name, const ft_buffer *text, ft_status *st)
{
    char *path = ft_path_join(folder, name);
    const ft_code rc =
        path ? ft_file_write(path, text->data, text->size, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    free(path);
    return rc;
}

ft_code ft_bpe_train_write(const ft_bpe_train *t, const char *folder, ft_status *st)
{
    ft_buffer tokenizer = {0}, config = {0};
    ft_code rc = put_tokenizer(t, &tokenizer, st);
    if (!rc)
        rc = put_config(&config, st);
    if (!rc)
        rc = ft_folder_make(folder, st);
    if (!rc)
        rc = write_one(folder, "tokenizer_config.json", &config, st);
    if (!rc)
        rc = write_one(folder, "tokenizer.json", &tokenizer, st);
    ft_buffer_release(&tokenizer);
    ft_buffer_release(&config);
    return rc;
}
