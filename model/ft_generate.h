/* ft_generate: one completion: session, sampler, streaming decode and stop strings.
 * The command line calls its steps in a loop. The scheduler (ft_scheduler.h) asks many
 * what they want to read, reads it all in one pass, and lets each take its logits.
 *
 * Threads  one owner. */
#ifndef FT_GENERATE_H
#define FT_GENERATE_H
#include "model/ft_engine.h"
#include "model/ft_sampler.h"
#include "model/ft_token_score.h"
#include "text/ft_tokenizer.h"

FT_API_BEGIN

enum { FT_MAX_STOPS = 4 };

typedef enum ft_finish { FT_FINISH_NONE, FT_FINISH_STOP, FT_FINISH_LENGTH, FT_FINISH_ABORT } ft_finish;
/* "stop", "length", "abort"; NULL for NONE. */
const char *ft_finish_name(ft_finish f);

typedef struct ft_generate_request {
    const char *key; /* whose request it is: the scheduler is fair between keys. NULL: "local" */
    const uint32_t *prompt;
    size_t prompt_count; /* 0 is FT_ERR_ARG: a model needs a first token */
    size_t max_new_tokens;
    ft_sampling sampling;           /* with min_tokens, stop strings too end nothing before so many tokens */
    uint64_t without;               /* experts, as ft_session_options */
    const char *stop[FT_MAX_STOPS]; /* never contained in the text, which ends before the first that is complete;
                                       ids keep the tokens that made it up */
    size_t stop_count;
    const uint32_t *stop_ids; /* [stop_id_count]: end the text as an end-of-text token does, which they need not be */
    size_t stop_id_count;
    int ignore_end_of_text;
    int include_stop; /* the stop string, or the text of the id of stop_ids that ended it, is part of the text
                         (and that id of the ids) */
    int keep_special; /* special tokens are shown in the text */
    int capture_routing;
    int scores;        /* keep log-probabilities of the chosen tokens, as they are drawn */
    size_t top_scores; /* with that: and of so many of the best, FT_MAX_TOP at most */
} ft_generate_request;

typedef struct ft_generation ft_generation;
/* `tokenizer` may be NULL: no text, no stop strings. FT_ERR_LIMIT when prompt +
 * max_new_tokens exceed the context (the message names both counts). Copies the request. */
FT_CHECKED ft_code ft_generation_open(ft_generation **out, const ft_model *m, const ft_tokenizer *tokenizer,
                                      ft_pool *pool, const ft_generate_request *r, ft_status *st);
/* As that, on a shared engine; its pages are shared with those who ask the same. FT_ERR_LIMIT
 * also when all of it could never stand in the engine's key-value memory. */
FT_CHECKED ft_code ft_generation_open_on(ft_generation **out, ft_engine *e, const ft_tokenizer *tokenizer,
                                         const ft_generate_request *r, ft_status *st);
void ft_generation_close(ft_generation *g);

/* Advances by one prefill chunk or one token. */
FT_CHECKED ft_code ft_generation_step(ft_generation *g, ft_status *st);

/* The two halves of a step. What it wants to read next, at most `most` tokens: a part of
 * the prompt, or the token that it drew last; count 0 when it is finished. After
 * that was read ft_generation_take goes on: it draws the next token when all is read. */
ft_read ft_generation_next(ft_generation *g, size_t most);
FT_CHECKED ft_code ft_generation_take(ft_generation *g, ft_status *st);
/* Tokens that are known and not yet read: how much ft_generation_next could give. */
size_t ft_generation_unread(const ft_generation *g);
/* Takes what the prefix cache has of the unread tokens. */
void ft_generation_find_prefix(ft_generation *g);
/* Gives its key-value memory back and reads everything again when its turn comes: nothing that it
 * writes changes. */
void ft_generation_pause(ft_generation *g);
void ft_generation_abort(ft_generation *g); /* finishes with FT_FINISH_ABORT */
/* Of one that is finished or failed: gives its key-value memory back; state and routing stay as they are. */
void ft_generation_end(ft_generation *g);

/* State after a step; views until the next one. */
typedef struct ft_generation_state {
    const uint32_t *ids; /* generated so far, without the prompt; the end-of-text token is not among them */
    size_t count;
    const char *text;             /* all text that may be shown by now, valid UTF-8 */
    size_t text_bytes;            /* what may yet become a stop string or a character waits */
    const size_t *text_ends;      /* [count]: text_bytes after each token, as far as shown by then */
    const ft_token_score *scores; /* [count], and one more where end_token came; NULL unless asked for */
    ft_finish finish;
    uint32_t end_token;   /* the end-of-text token, or id of stop_ids, that ended it; FT_NO_ID: none */
    size_t prompt_read;   /* prompt tokens read so far */
    size_t cached_tokens; /* of those, how many came from the prefix cache */
} ft_generation_state;
ft_generation_state ft_generation_get(const ft_generation *g);
/* Routing of prompt and generated tokens that were read. */
ft_routing ft_generation_routing(const ft_generation *g);

FT_API_END
#endif
