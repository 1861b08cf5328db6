/* Fuzzing of tokenizer.json and of what it makes of text. The input is a file, a
 * NUL byte, and a text; with $FUZZ_TOKENIZER set to a tokenizer, a text for that one. */
#include "text/ft_tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Whatever is encoded has offsets within the text, and ids that decode. */
static void encode(const ft_tokenizer *t, const char *text, size_t n)
{
    ft_encoder *e;
    ft_encoding enc = {0};
    ft_buffer decoded = {0};
    if (ft_encoder_new(&e, t, NULL) != FT_OK)
        return;
    if (ft_encoder_encode(e, text, n, &enc, NULL) == FT_OK) {
        for (size_t i = 0; i < enc.count; i++)
            if (enc.ids[i] >= ft_tokenizer_vocab_size(t) || enc.ends[i] > n || enc.starts[i] > enc.ends[i])
                abort();
        if (ft_tokenizer_decode(t, enc.ids, enc.count, 0, &decoded, NULL) != FT_OK)
            abort();
    }
    ft_buffer_release(&decoded);
    ft_encoding_release(&enc);
    ft_encoder_free(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *fixed = getenv("FUZZ_TOKENIZER");
    ft_tokenizer *t = NULL;
    if (fixed) {
        if (ft_tokenizer_open(&t, fixed, NULL) == FT_OK)
            encode(t, (const char *)data, n);
        ft_tokenizer_close(t);
        return 0;
    }
    const uint8_t *end = n ? memchr(data, 0, n) : NULL;
    const size_t size = end ? (size_t)(end - data) : n;
    char path[] = "/tmp/fuzz-tokenizer-XXXXXX";
    const int file = mkstemp(path);
    if (file < 0)
        return 0;
    const ssize_t written = write(file, data, size);
    close(file);
    if (written == (ssize_t)size && ft_tokenizer_open(&t, path, NULL) == FT_OK)
        encode(t, (const char *)data + size, n - size);
    ft_tokenizer_close(t);
    unlink(path);
    return 0;
}
