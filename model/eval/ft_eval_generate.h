/* ft_eval_generate: many continuations at once, for measuring; and exact match.
 *
 * As many as the key-value memory allows are written side by side, one token of each a pass. What a
 * request gets depends on the request alone (ft_engine.h), so results do not depend on the number.
 * Threads  one owner; `fill` and `done` are called from the caller's thread. */
#ifndef FT_EVAL_GENERATE_H
#define FT_EVAL_GENERATE_H
#include "base/ft_progress.h"
#include "base/ft_threads.h"
#include "model/ft_generate.h"

FT_API_BEGIN

typedef struct ft_eval_writer {
    /* Sets request i; what it points to lives until `done`. */
    void (*fill)(void *context, size_t i, ft_generate_request *r);
    /* In the order in which they end. A failure stops everything. */
    ft_code (*done)(void *context, size_t i, const uint32_t *ids, size_t count, ft_status *st);
    void *context;
    size_t count;      /* of requests */
    size_t max_tokens; /* of the longest, prompt and all */
    size_t side;       /* at most so many side by side; 0: 64 */
} ft_eval_writer;

/* `progress` is asked after each pass; a stop is FT_ERR_CANCELLED. */
FT_CHECKED ft_code ft_eval_write(const ft_model *m, ft_pool *pool, const ft_eval_writer *w, const ft_progress *progress,
                                 ft_status *st);

/* Exact match: a file has a JSON object {"prompt", "answer"} a line. The greedy continuation, up to
 * `new_tokens` and the first of `stop` (NULL: none), is compared with the answer; of each, where `after` is given,
 * what follows its last occurrence up to the end of the line; both without white space around. */
typedef struct ft_eval_exact_options {
    size_t new_tokens, limit; /* limit 0: all items */
    const char *after, *stop;
    uint64_t without;
} ft_eval_exact_options;
typedef struct ft_eval_exact {
    size_t items, right;
} ft_eval_exact;
FT_CHECKED ft_code ft_eval_match(ft_eval_exact *out, const ft_model *m, ft_pool *pool, const ft_tokenizer *tokenizer,
                                 const char *path, const ft_eval_exact_options *o, const ft_progress *progress,
                                 ft_status *st);

FT_API_END
#endif
