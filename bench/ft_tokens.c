/* ft_tokens: tokenizes a corpus once, for the benchmarks that start from tokens.
 *
 *   ft_tokens TOKENIZER FOLDER      reads FOLDER/corpus.jsonl, writes beside it
 *                                   tokens.npy (u32) and doc_offsets.npy (u64) */
#include "flextrace.h"

#include "base/ft_npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void die(const ft_status *st)
{
    fprintf(stderr, "ft_tokens: %s\n", st->msg);
    exit(1);
}

static void *room_for(void *old, size_t *capacity, size_t count, size_t each)
{
    if (count <= *capacity)
        return old;
    *capacity = count + count / 2 + 1024;
    void *grown = realloc(old, *capacity * each);
    if (!grown) {
        fputs("ft_tokens: no memory\n", stderr);
        exit(1);
    }
    return grown;
}

int main(int argc, char **argv)
{
    ft_status st = {0};
    char in[4096], tokens_path[4096], offsets_path[4096];
    if (argc != 3 || strlen(argv[2]) > 4000) {
        fputs("usage: ft_tokens TOKENIZER FOLDER\n", stderr);
        return 2;
    }
    snprintf(in, sizeof(in), "%s/corpus.jsonl", argv[2]);
    snprintf(tokens_path, sizeof(tokens_path), "%s/tokens.npy", argv[2]);
    snprintf(offsets_path, sizeof(offsets_path), "%s/doc_offsets.npy", argv[2]);

    ft_tokenizer *tokenizer;
    ft_encoder *encoder;
    ft_corpus *corpus;
    const char *const paths[] = {in};
    if (ft_tokenizer_open(&tokenizer, argv[1], &st) || ft_encoder_new(&encoder, tokenizer, &st) ||
        ft_corpus_open(&corpus, paths, 1, NULL, &st))
        die(&st);
    ft_encoding encoding = {0};
    uint32_t *tokens = NULL;
    uint64_t *offsets = NULL;
    size_t count = 0, capacity = 0, documents = 0, offsets_capacity = 0;
    for (int more;;) {
        ft_document d;
        if (ft_corpus_next(corpus, &d, &more, &st))
            die(&st);
        offsets = room_for(offsets, &offsets_capacity, documents + 1, sizeof(*offsets));
        offsets[documents] = count;
        if (!more)
            break;
        documents++;
        if (ft_encoder_encode(encoder, d.text, d.text_bytes, &encoding, &st))
            die(&st);
        tokens = room_for(tokens, &capacity, count + encoding.count, sizeof(*tokens));
        if (encoding.count)
            memcpy(tokens + count, encoding.ids, encoding.count * sizeof(*tokens));
        count += encoding.count;
    }
    const size_t ends = documents + 1;
    if (ft_npy_write(tokens_path, FT_NPY_UINT32, 1, &count, tokens, &st) ||
        ft_npy_write(offsets_path, FT_NPY_UINT64, 1, &ends, offsets, &st))
        die(&st);
    printf("%s: %zu documents, %zu tokens\n", argv[2], documents, count);
    free(tokens);
    free(offsets);
    ft_encoding_release(&encoding);
    ft_corpus_close(corpus);
    ft_encoder_free(encoder);
    ft_tokenizer_close(tokenizer);
    return 0;
}
