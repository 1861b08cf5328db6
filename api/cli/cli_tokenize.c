/* flextrace tokenize: text to token ids and back. */
#include "api/cli/cli.h"
#include "base/ft_json.h"
#include "text/ft_tokenizer.h"

#include <stdlib.h>
#include <string.h>

cli_command cli_tokenize;

typedef struct context {
    ft_tokenizer *tokenizer;
    ft_encoder *encoder;
    ft_encoding encoding;
} context;

static void print_help(void)
{
    fputs("Usage: flextrace tokenize -t TOK [--decode]\n\n"
          "Reads JSON lines on standard input and answers one JSON line each.\n\n"
          "  -t, --tokenizer TOK  a tokenizer.json, or a folder that holds one (required)\n"
          "      --decode         from ids to text instead of from text to ids\n"
          "  -h, --help           this text\n\n"
          "Without --decode a row {\"text\"} gives {\"ids\",\"offsets\"}: offsets are byte\n"
          "positions in the text, end exclusive, widened to whole characters. Nothing is\n"
          "added at either end; added tokens in the text are recognised.\n"
          "With --decode a row {\"ids\"} gives {\"text\"}: special tokens are kept, bytes that\n"
          "are not UTF-8 become U+FFFD, unknown ids are skipped.\n"
          "A line that cannot be read gives {\"error\"}; the rest goes on.\n\n"
          "Examples:\n"
          "  echo '{\"text\":\"Hello world\"}' | flextrace tokenize -t model/\n"
          "  echo '{\"ids\":[9906,1917]}' | flextrace tokenize -t model/tokenizer.json --decode\n",
          stdout);
}

static json_t *encode_row(void *context_, const json_t *row, ft_status *st)
{
    context *c = context_;
    const json_t *text = json_object_get(row, "text");
    if (!json_is_string(text)) {
        (void)ft_fail(st, FT_ERR_ARG, "'text' must be a string");
        return NULL;
    }
    if (ft_encoder_encode(c->encoder, json_string_value(text), json_string_length(text), &c->encoding, st))
        return NULL;
    json_t *out = json_object(), *offsets = json_array();
    int bad = !out || !offsets;
    for (size_t i = 0; !bad && i < c->encoding.count; i++) {
        json_t *pair = json_array();
        bad = json_array_append_new(pair, json_integer((json_int_t)c->encoding.starts[i])) ||
              json_array_append_new(pair, json_integer((json_int_t)c->encoding.ends[i])) ||
              json_array_append(offsets, pair);
        json_decref(pair);
    }
    bad = bad || json_object_set_new(out, "ids", ft_json_ids(c->encoding.ids, c->encoding.count)) ||
          json_object_set(out, "offsets", offsets);
    json_decref(offsets);
    if (!bad)
        return out;
    json_decref(out);
    (void)ft_fail(st, FT_ERR_MEM, "out of memory");
    return NULL;
}

static json_t *decode_row(void *context_, const json_t *row, ft_status *st)
{
    context *c = context_;
    uint32_t *ids = NULL;
    size_t count = 0;
    if (!json_is_array(json_object_get(row, "ids"))) {
        (void)ft_fail(st, FT_ERR_ARG, "'ids' must be an array of token ids");
        return NULL;
    }
    if (ft_json_get_ids(row, "ids", &ids, &count, st))
        return NULL;
    ft_buffer text = {0};
    json_t *out = NULL;
    if (!ft_tokenizer_decode(c->tokenizer, ids, count, 0, &text, st)) {
        out = json_object();
        if (json_object_set_new(out, "text", json_stringn(text.data ? text.data : "", text.size))) {
            json_decref(out);
            out = NULL;
            (void)ft_fail(st, FT_ERR_MEM, "out of memory");
        }
    }
    ft_buffer_release(&text);
    free(ids);
    return out;
}

int cli_tokenize(int argc, char **argv)
{
    static const cli_option options[] = {{"tokenizer", 't', 1}, {"decode", 0, 0}, {"help", 'h', 0}, {NULL, 0, 0}};
    cli_args args = {.subcommand = "tokenize", .options = options, .argc = argc, .at = 1, .argv = argv};
    const char *name, *value, *path = NULL;
    int decode = 0, got;
    while ((got = cli_next(&args, &name, &value)) > 0) {
        if (!name)
            return cli_usage("tokenize", "'%s' is one word too many: text comes in JSON lines", value);
        if (!strcmp(name, "help")) {
            print_help();
            return CLI_OK;
        }
        if (!strcmp(name, "tokenizer"))
            path = value;
        else
            decode = 1;
    }
    if (got < 0)
        return CLI_USAGE;
    if (!path)
        return cli_usage("tokenize", "which tokenizer? -t TOK is missing");
    context c = {0};
    ft_status st = {0};
    ft_code rc = ft_tokenizer_open(&c.tokenizer, path, &st);
    if (!rc)
        rc = ft_encoder_new(&c.encoder, c.tokenizer, &st);
    const int code = rc ? cli_fail(&st) : cli_batch(decode ? decode_row : encode_row, &c);
    ft_encoding_release(&c.encoding);
    ft_encoder_free(c.encoder);
    ft_tokenizer_close(c.tokenizer);
    return code;
}
