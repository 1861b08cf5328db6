#include "model/eval/ft_eval_text.h"

#include "base/ft_buffer.h"
#include "text/ft_corpus.h"

#include <stdlib.h>
#include <string.h>

static ft_code add(ft_eval_text *t, const ft_encoding *e, uint32_t end, const ft_document *d, ft_status *st)
{
    size_t tokens;
    char *id;
    ft_code rc = ft_size_add(t->tokens, e->count + 1, &tokens, st);
    if (!rc)
        rc = ft_array_grow((void **)&t->ids, &t->token_capacity, tokens, sizeof(*t->ids), st);
    if (!rc)
        rc = ft_array_grow((void **)&t->documents, &t->document_capacity, t->count + 1, sizeof(*t->documents), st);
    if (rc)
        return rc;
    id = strdup(d->id);
    if (!id)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    memcpy(t->ids + t->tokens, e->ids, e->count * sizeof(*t->ids));
    t->ids[tokens - 1] = end;
    t->documents[t->count++] =
        (ft_eval_document){.first = t->tokens, .count = e->count + 1, .bytes = d->text_bytes, .id = id};
    t->tokens = tokens;
    t->bytes += d->text_bytes;
    return FT_OK;
}

static ft_code check(const ft_tokenizer *tokenizer, size_t vocab, ft_status *st)
{
    const uint32_t ids = ft_tokenizer_vocab_size(tokenizer), end = ft_tokenizer_end_of_text(tokenizer);
    if (ids > vocab)
        return ft_fail(st, FT_ERR_FORMAT, "%s: has %u ids, the model %zu: it is another model's tokenizer",
                       ft_tokenizer_path(tokenizer), ids, vocab);
    if (end == FT_NO_TOKEN)
        return ft_fail(st, FT_ERR_FORMAT, "%s: no end-of-text token is known; name it in tokenizer_config.json",
                       ft_tokenizer_path(tokenizer));
    return FT_OK;
}

ft_code ft_eval_text_open(ft_eval_text *out, const char *const *paths, size_t count, const ft_tokenizer *tokenizer,
                          size_t vocab, uint64_t max_bytes, const ft_progress *progress, ft_status *st)
{
    ft_corpus *corpus = NULL;
    ft_encoder *encoder = NULL;
    ft_encoding ids = {0};
    ft_document d;
    int more = 1;
    memset(out, 0, sizeof(*out));
    ft_code rc = check(tokenizer, vocab, st);
    if (!rc)
        rc = ft_corpus_open(&corpus, paths, count, NULL, st);
    if (!rc)
        rc = ft_encoder_new(&encoder, tokenizer, st);
    while (!rc && (!max_bytes || out->bytes < max_bytes)) {
        rc = ft_corpus_next(corpus, &d, &more, st);
        if (rc || !more)
            break;
        if (!d.text_bytes)
            continue;
        rc = ft_encoder_encode_ids(encoder, d.text, d.text_bytes, &ids, st);
        if (!rc)
            rc = add(out, &ids, ft_tokenizer_end_of_text(tokenizer), &d, st);
        const ft_corpus_counts at = ft_corpus_progress(corpus);
        if (!rc && ft_progress_report(progress, "read", at.input_bytes, at.input_total, "bytes"))
            rc = ft_fail(st, FT_ERR_CANCELLED, "stopped");
    }
    if (!rc && !out->count)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: holds no document", paths[0]);
    ft_encoding_release(&ids);
    ft_encoder_free(encoder);
    ft_corpus_close(corpus);
    if (rc)
        ft_eval_text_close(out);
    return rc;
}

void ft_eval_text_close(ft_eval_text *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->documents[i].id);
    free(t->ids);
    free(t->documents);
    memset(t, 0, sizeof(*t));
}
