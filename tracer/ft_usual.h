/* ft_usual: each expert's usual share of the mixing weight: its mean over a public text, in
 * which no owner's expert has more to say than it always has. Routing evidence is measured
 * against it.
 *
 * Threads  as the engine that it reads with. */
#ifndef FT_USUAL_H
#define FT_USUAL_H
#include "base/ft_json.h"
#include "model/ft_engine.h"
#include "text/ft_tokenizer.h"

FT_API_BEGIN

typedef struct ft_usual {
    size_t experts;
    double shares[FT_MAX_EXPERTS];   /* summing to 1; mean over tokens and layers */
    uint64_t tokens;                 /* that were read; 0: nothing is known */
    char fingerprint[FT_DIGEST_HEX]; /* of model, tokenizer, text and limit */
} ft_usual;

/* The usual share of an expert where those in `without` take no part: what is left, scaled to 1. */
double ft_usual_share(const ft_usual *u, size_t expert, uint64_t without);

/* Names what the measurement would be of: model folder, tokenizer, and the text's files by path, size and
 * time; at most max_tokens of it; the experts in `without` taking no part. Reads none of them. */
FT_CHECKED ft_code ft_usual_fingerprint(const ft_model *m, const ft_tokenizer *t, const char *text, size_t max_tokens,
                                        uint64_t without, char out[FT_DIGEST_HEX], ft_status *st);

/* A measurement in steps, one pass of the engine each. `text` is what ft_corpus_open reads; its documents are
 * read in pieces of at most 1,024 tokens, each a timeline of its own, until max_tokens. The weights of the experts in
 * `without` are not read; their shares are 0. */
typedef struct ft_usual_run ft_usual_run;
FT_CHECKED ft_code ft_usual_run_new(ft_usual_run **out, ft_engine *e, const ft_tokenizer *t, const char *text,
                                    size_t max_tokens, uint64_t without, ft_status *st);
void ft_usual_run_free(ft_usual_run *r);
FT_CHECKED ft_code ft_usual_run_step(ft_usual_run *r, int *done, ft_status *st);
/* When done. FT_ERR_FORMAT: the text holds no token. */
FT_CHECKED ft_code ft_usual_run_end(ft_usual_run *r, ft_usual *out, ft_status *st);

/* {"model","tokens","shares"}: new reference, NULL when memory is out; and back. */
json_t *ft_usual_json(const ft_usual *u);
FT_CHECKED ft_code ft_usual_parse(const json_t *value, ft_usual *out, ft_status *st);

FT_API_END
#endif
