/* completion_internal: POST /v1/completions, from the request's JSON to a job that
 * the scheduler's callbacks, the workers and the clock move on.
 *
 *   completion_request.c   what /v1/completions is asked for, checked field by field
 *   chat_request.c         what /v1/chat/completions is asked for
 *   request_fields.c       the fields that both have
 *   completion_route.c     admission: what can be refused is refused before the first byte
 *   completion_job.c       the job: submits, collects, streams, ends
 *   completion_output.c    the shapes of the answer: choices, chunks, logprobs, usage
 *   chat_output.c          what of that chat shapes in its own way
 *   output_logprobs.c      log-probabilities, in each shape
 *   completion_trace.c     spans while it streams, the trace at the end
 *   causal.c               what is lost without an expert, by teacher-forced passes
 *   scoring.c              log-probabilities of given tokens, by a teacher-forced pass */
#ifndef FT_COMPLETION_INTERNAL_H
#define FT_COMPLETION_INTERNAL_H
#include "api/http_internal.h"
#include "tracer/ft_causal.h"
#include "tracer/ft_spans.h"

enum { FT_MAX_CHOICES = 128, FT_MAX_PROMPTS = 256, FT_MAX_ITEMS = 512 };

typedef enum ft_routing_wish { FT_ROUTING_NONE, FT_ROUTING_SUMMARY, FT_ROUTING_FULL } ft_routing_wish;

/* "causal": true, or {"owners","start","end"} for some owners and a stretch of the response. */
typedef struct ft_causal_wish {
    int wanted;
    uint64_t experts;  /* 0: all */
    size_t start, end; /* tokens of the response; end 0: all of it */
} ft_causal_wish;
FT_CHECKED ft_code ft_causal_wish_read(const ft_server *s, const json_t *object, ft_causal_wish *out, ft_status *st);

/* Prompt and response as one timeline. */
typedef struct ft_causal_timeline {
    const uint32_t *ids; /* must live as long as what ft_causal_run gives */
    size_t prompt_count, count;
    uint64_t without;
} ft_causal_timeline;
/* Takes its turns on the scheduler's thread. *out is NULL where nothing was wanted, or no expert can be
 * left out; the caller frees it. `client` may be NULL; deadline 0: none. */
FT_CHECKED ft_code ft_causal_run(ft_server *s, const ft_causal_wish *wish, const ft_causal_timeline *line,
                                 ft_client *client, double deadline, ft_causal **out, ft_status *st);

typedef struct ft_prompt {
    uint32_t *ids;
    size_t count;
    ft_token_score *scores; /* [count], from 1 on; NULL until somebody needs them. The job's worker's */
} ft_prompt;

enum { FT_MAX_NONCE = 128 };
typedef struct ft_completion_request {
    ft_prompt *prompts;
    size_t prompt_count, n;
    size_t max_tokens;
    ft_sampling sampling;
    json_t *stop_strings; /* owns what stop[] points to */
    const char *stop[FT_MAX_STOPS];
    size_t stop_count;
    uint32_t *stop_ids, *bias_ids; /* owned; sampling points to the biases */
    size_t stop_id_count;
    float *bias_values;
    size_t keep_tokens; /* the last ones of each prompt */
    int include_stop, keep_special;
    int chat; /* the answer takes the shape of chat; one prompt */
    int echo, stream, include_usage, ignore_end_of_text, return_token_ids, tokens_as_ids, return_routed_experts;
    int64_t logprobs, prompt_logprobs; /* how many of the best; -1: none */
    uint64_t without;
    int trace, store, receipt;
    json_t *trace_options;        /* what differs from the defaults, as it came and was checked; NULL: nothing */
    char nonce[FT_MAX_NONCE + 1]; /* goes into trace and receipt as it came; "": none */
    ft_causal_wish causal;
    ft_routing_wish routing;
} ft_completion_request;

/* Sets what an `options` object (NULL or null: nothing) says of a trace. *field: which member is wrong, as a path from
 * the object around it (trace_options.c). */
FT_CHECKED ft_code ft_trace_options_read(const json_t *v, ft_trace_options *o, const char **field, ft_status *st);

/* Each reads q->json. 0 after refusing the request. */
int ft_completion_read(ft_request *q, ft_completion_request *out);
int ft_chat_read(ft_request *q, ft_completion_request *out);
void ft_completion_release(ft_completion_request *r);

/* --- Scores ---------------------------------------------------------------------- */

/* scores[t] for t in [1, n): ids[t] given those before it, with the `k` best. The
 * logits are those of generation, bit for bit. Waits its turns on the scheduler's
 * thread, a chunk at a time; FT_ERR_CANCELLED when the client went away (client may be
 * NULL). */
FT_CHECKED ft_code ft_score_ids(ft_server *s, const uint32_t *ids, size_t n, uint64_t without, size_t k,
                                ft_token_score *scores, ft_client *client, ft_status *st);

/* --- The job --------------------------------------------------------------------- */

/* One choice. What the scheduler's callback writes is guarded by the job's lock;
 * the rest belongs to the worker that has the job. */
typedef struct ft_item {
    ft_job *job;
    ft_prompt *prompt;
    size_t index;

    /* The callback's, under the lock until `final`. */
    int submitted, final;
    ft_code rc;
    ft_status status;
    uint32_t *ids; /* generated so far */
    size_t *text_ends;
    double *shares;         /* [count, experts] of the passes that wrote them; NULL where nobody asked */
    ft_token_score *scores; /* with logprobs: [count], and of end_token */
    size_t count, capacity;
    ft_buffer text;
    double first_at, last_at; /* when its first token came, and its latest; 0: none */
    size_t cached;            /* prompt tokens that the prefix cache had */
    ft_finish finish;
    uint32_t end_token; /* the end-of-text token that ended it; FT_NO_ID: none */
    ft_routing routing; /* its own copy, from the final call on */
    uint8_t *routing_ids;
    float *routing_weights, *routing_probs; /* probs: NULL unless the store keeps them */

    /* The worker's. */
    size_t sent_tokens, sent_text;
    int begun, ended;         /* begun: the echo, or chat's first delta, is out */
    ft_span_tracker *tracker; /* knows the spans of the first tokens; NULL: of none yet */
    ft_span *live;            /* [live_count] spans as the client knows them */
    size_t live_count;
    json_t *trace, *receipt;    /* receipt: NULL where it was not asked for, or cannot be made yet */
    char trace_id[FT_TRACE_ID]; /* "": not stored */
    /* Where the next token's text begins, in characters; and what counts them. */
    size_t offset;
    ft_text_stream *offset_stream;
    int offset_generated;
} ft_item;

/* A job is moved on by one worker at a time: `busy` from the moment it is pushed;
 * what happens meanwhile sets `again`. */
struct ft_job {
    ft_work work;         /* first */
    ft_job *next, **link; /* server->jobs_lock */
    ft_server *server;
    ft_request *request; /* waits for the whole answer; NULL when streaming */
    ft_client *client;
    ft_stream *stream; /* NULL: not streaming */
    ft_completion_request r;
    char id[40], request_id[FT_REQUEST_ID], key[64];
    int64_t created;
    double started;  /* the request's head */
    double deadline; /* of an answer that does not stream */
    size_t experts;
    ft_item *items;
    size_t item_count, next_item; /* submitted in order, a few at a time */

    pthread_mutex_t lock;
    size_t running;
    int busy, again, cancelled, timed_out;
    double last_write;
    ft_status failure; /* the first, for the answer */
};

/* Admission: a job for q->json's request, its first item with the scheduler. 0 after
 * refusing the request. */
int ft_job_start(ft_request *q, ft_completion_request *r);
/* Everything the job holds; no callback may be due. */
void ft_job_free(ft_job *job);

/* Shapes. Each gives a new reference, or NULL when memory is out. */
json_t *ft_output_chunk(const ft_job *job, const ft_item *item, const char *text, size_t text_bytes, const char *finish,
                        json_t *logprobs, json_t *extra);
json_t *ft_output_choice(const ft_job *job, ft_item *item);
json_t *ft_output_whole(const ft_job *job);
json_t *ft_output_delta(const char *role, const char *text, size_t text_bytes); /* of a chunk of chat */
json_t *ft_output_message(const ft_item *item);
json_t *ft_output_usage(const ft_job *job);
/* All of a choice's log-probabilities, or null. A stream has them in parts instead: the
 * prompt's, where it is echoed (NULL without logprobs), then those of generated tokens as
 * they come. Offsets go on from part to part. */
json_t *ft_output_logprobs(const ft_job *job, ft_item *item);
json_t *ft_output_prompt_part(const ft_job *job, ft_item *item);
json_t *ft_output_generated_part(const ft_job *job, ft_item *item, const uint32_t *ids, const ft_token_score *scores,
                                 size_t count);
/* vLLM's: [null, {id: {logprob, rank, decoded_token}}, …], the token itself first. */
json_t *ft_output_prompt_logprobs(const ft_job *job, const ft_item *item);
const char *ft_output_finish(const ft_item *item);
/* Text of the prompt, for echo. */
FT_CHECKED ft_code ft_output_prompt_text(const ft_job *job, const ft_item *item, ft_buffer *out, ft_status *st);

/* --- Traces ------------------------------------------------------------------------ */

/* Each search and each trace takes a snapshot of the indexes of its own, and keeps it
 * no longer: a generation may last minutes, and what an owner removes meanwhile must
 * neither be shown nor stay on disk for its sake. The trace at the end is of one state; the
 * operations before it lead there, whatever states they saw. */

/* Spans of what item has written so far, as operations against those that the
 * client knows; NULL when nothing changed. Only what is new since the last call is looked at, unless an
 * index was replaced meanwhile. */
json_t *ft_live_spans(ft_job *job, ft_item *item, const uint32_t *ids, size_t count);
/* The operations that lead from those to the spans of item->trace; NULL: none. */
json_t *ft_live_spans_end(ft_item *item);
/* Makes item->trace, and stores it where that was asked for. */
FT_CHECKED ft_code ft_item_trace(ft_job *job, ft_item *item, ft_status *st);
/* What rides on the chunk or choice that carries the finish_reason; NULL: nothing. */
json_t *ft_item_extra(const ft_job *job, const ft_item *item);
/* vLLM's nested arrays of expert ids: rows [from, to). */
json_t *ft_routed_experts(const ft_routing *routing, size_t from, size_t to);

#endif
