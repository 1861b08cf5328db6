/* ft_tokenizer: byte-level BPE as Hugging Face's `tokenizers` computes it, read
 * from tokenizer.json, id for id and offset for offset.
 *
 * A tokenizer is immutable; an encoder is one thread's working state on it
 * (regex match data, a cache of words, scratch).
 *
 * Units     ids are uint32; offsets are byte positions in the caller's text,
 *           half-open, widened to whole characters.
 * Lifetime  close the tokenizer after the last encoder and stream on it.
 * Threads   any number may share a tokenizer; an encoder has one owner.
 * Source    huggingface/tokenizers 0.23; docs/tokenizer.md lists what is read. */
#ifndef FT_TOKENIZER_H
#define FT_TOKENIZER_H
#include "base/ft_buffer.h"
#include "base/ft_digest.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef struct ft_tokenizer ft_tokenizer;
typedef struct ft_encoder ft_encoder;
typedef struct ft_text_stream ft_text_stream;

enum { FT_NO_TOKEN = UINT32_MAX }; /* "there is no such id" */

/* `path`: a tokenizer.json or a folder that holds one; a tokenizer_config.json
 * beside it gives the end-of-text token. What the file asks for and we do not
 * implement is FT_ERR_UNSUPPORTED and names it. */
FT_CHECKED ft_code ft_tokenizer_open(ft_tokenizer **out, const char *path, ft_status *st);
void ft_tokenizer_close(ft_tokenizer *t);

uint32_t ft_tokenizer_vocab_size(const ft_tokenizer *t);  /* one past the largest id */
uint32_t ft_tokenizer_end_of_text(const ft_tokenizer *t); /* FT_NO_TOKEN where unknown */
/* SHA-256 of tokenizer.json's bytes: what an index and a receipt name it by. */
ft_digest ft_tokenizer_digest(const ft_tokenizer *t);
const char *ft_tokenizer_path(const ft_tokenizer *t); /* the tokenizer.json that was read */

/* The bytes that a token decodes to (a view; they need not be UTF-8). Unknown
 * ids give an empty view. *is_special (may be NULL): an added token marked special. */
const char *ft_tokenizer_token_bytes(const ft_tokenizer *t, uint32_t id, size_t *n, int *is_special);
/* Id of the added token or vocabulary entry with exactly this content; FT_NO_TOKEN if none. */
uint32_t ft_tokenizer_token_id(const ft_tokenizer *t, const char *content);

/* Encoding of one text. Zero it, reuse it, release it. */
typedef struct ft_encoding {
    uint32_t *ids;  /* [count] */
    size_t *starts; /* [count] first byte; not to be read where only ids were asked for */
    size_t *ends;   /* [count] one past the last byte; the same */
    size_t count, capacity, offsets_capacity;
} ft_encoding;
void ft_encoding_release(ft_encoding *e);

/* What an encoder takes, for vocabularies of up to half a million entries, but for
 * what grows with the text that is encoded. */
enum { FT_ENCODER_BYTES = 5 << 20 };
FT_CHECKED ft_code ft_encoder_new(ft_encoder **out, const ft_tokenizer *t, ft_status *st);
void ft_encoder_free(ft_encoder *e);
/* Replaces the content of `out`. Nothing is added at either end; added tokens in
 * the text are recognised. Invalid UTF-8 is replaced by U+FFFD first (offsets
 * refer to the original bytes). O(n log n) in the worst case, whatever the text. */
FT_CHECKED ft_code ft_encoder_encode(ft_encoder *e, const char *text, size_t n, ft_encoding *out, ft_status *st);
/* The same ids alone, `starts` and `ends` left as they were: faster, and a fifth of
 * the memory. An encoding may be used for both in turn. */
FT_CHECKED ft_code ft_encoder_encode_ids(ft_encoder *e, const char *text, size_t n, ft_encoding *out, ft_status *st);

enum { FT_DECODE_SKIP_SPECIAL = 1 };
/* Appends the text of the ids: their bytes joined, then invalid UTF-8 replaced
 * by U+FFFD; unknown ids are skipped. */
FT_CHECKED ft_code ft_tokenizer_decode(const ft_tokenizer *t, const uint32_t *ids, size_t count, unsigned flags,
                                       ft_buffer *out, ft_status *st);

/* Decoding token by token: each push appends to `out` what can be shown already;
 * an incomplete character waits for its bytes, flush shows it as U+FFFD. */
FT_CHECKED ft_code ft_text_stream_new(ft_text_stream **out, const ft_tokenizer *t, unsigned flags, ft_status *st);
void ft_text_stream_free(ft_text_stream *s);
void ft_text_stream_reset(ft_text_stream *s);
FT_CHECKED ft_code ft_text_stream_push(ft_text_stream *s, uint32_t id, ft_buffer *out, ft_status *st);
FT_CHECKED ft_code ft_text_stream_flush(ft_text_stream *s, ft_buffer *out, ft_status *st);

FT_API_END
#endif
