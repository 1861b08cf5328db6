/* erasure_jobs: takedowns as jobs (erasure_jobs.c), for route_takedowns.c and route_jobs.c.
 *
 * Lifetime  a job is the server's own; what is told of one outlives the server in the store.
 * Threads   all under one lock, which is taken before the server's. */
#ifndef FT_ERASURE_JOBS_H
#define FT_ERASURE_JOBS_H
#include "api/http_internal.h"
#include "tracer/ft_erasure.h"

typedef enum ft_task_state {
    FT_TASK_QUEUED,
    FT_TASK_RUNNING,
    FT_TASK_SUCCEEDED,
    FT_TASK_FAILED,
    FT_TASK_CANCELLED
} ft_task_state;

/* With the lock of the tasks held: begins a takedown. `order` gives its documents away and borrows of q->json, which
 * the job holds. With `wait` the request is answered when it is done, or told where to look (q->then is set); else *job
 * is what to answer. */
FT_CHECKED ft_code ft_task_start(ft_request *q, ft_erasure *order, int wait, char id[FT_TRACE_ID], json_t **job,
                                 ft_status *st);
/* What is told of a job; a new reference. FT_ERR_NOT_FOUND: there is none. */
FT_CHECKED ft_code ft_task_get(ft_server *s, const char *id, json_t **job, ft_status *st);
/* The same with the lock held. */
FT_CHECKED ft_code ft_task_look(ft_server *s, const char *id, json_t **job, ft_status *st);
json_t *ft_tasks_json(ft_server *s); /* of all since the server's start, at most 256 that are over; newest first */
/* Stops it at its next step. FT_ERR_ARG: it has ended. */
FT_CHECKED ft_code ft_task_cancel(ft_server *s, const char *id, json_t **job, ft_status *st);

/* takedown_text.c: puts the ids of the owner's documents in which the body's "text" stands into the body's "documents".
 * FT_ERR_NOT_FOUND: it stands in none. */
FT_CHECKED ft_code ft_takedown_find(ft_request *q, const char *owner, size_t most, ft_status *st);

/* 201 and 202; both consume. */
void ft_answer_certificate(ft_request *q, json_t *certificate);
void ft_answer_job(ft_request *q, json_t *job);

/* A takedown that was asked for and did not come about: who asked, for what, and why not. What is said to the caller is
 * not changed when the line cannot be written. */
void ft_log_failed_takedown(ft_server *s, const char *key, const char *request_id, const char *path, const json_t *body,
                            const ft_status *why);

#endif
