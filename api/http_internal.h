/* http_internal: requests, answers and streams, as the routes' handlers see them.
 *
 * One thread polls all connections (libmicrohttpd, epoll). A request whose route is
 * not marked quick is suspended while a worker thread runs its handler; a handler
 * that has to wait for the model returns at once with `deferred` set, and whoever
 * finishes the work calls ft_request_done. So slow clients and long generations
 * hold neither the polling thread nor a worker.
 *
 * Lifetime  a request lives until its connection is done with it, never shorter
 *           than its handler and, when it set `then`, than ft_request_done.
 * Threads   a request belongs to one thread at a time: the polling one, then a
 *           worker, then the work named by `then`, then the polling one again. */
#ifndef FT_HTTP_INTERNAL_H
#define FT_HTTP_INTERNAL_H
#include "api/ft_server.h"
#include "api/metrics_internal.h"
#include "base/ft_buffer.h"
#include "base/ft_json.h"
#include "model/ft_scheduler.h"
#include "text/ft_chat_template.h"
#include "tracer/ft_keyring.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

typedef struct ft_request ft_request;
typedef void ft_handler(ft_request *q);

/* Whose error shape a route answers with; one route never uses two. */
typedef enum ft_face {
    FT_FACE_OWN,         /* application/problem+json, urn:flextrace:problem:NAME */
    FT_FACE_OPENAI,      /* {"error":{message,type,param,code}} */
    FT_FACE_ATTRIBUTION, /* infinigram-api: problem+json with its own type names */
    FT_FACE_INFINIGRAM   /* {"error":"text"} */
} ft_face;

enum {
    FT_ROUTE_QUICK = 1,  /* answered on the polling thread: must neither block nor search */
    FT_ROUTE_ALWAYS = 2, /* also while the server drains */
    FT_ROUTE_FILES = 4   /* a name of a kind that the page has, where no other route has it */
};

/* "{}" in a pattern stands for one segment of the path, kept in q->segment. */
typedef struct ft_route {
    const char *method, *pattern;
    ft_face face;
    unsigned flags;
    ft_handler *run;
    const char *about; /* in a few words, for /openapi.json; so are: */
    const char *query; /* the parameters of the URL that it reads, with spaces between (NULL: none) */
    const char *body;  /* the fields that a body must have (NULL: none) */
    const char *types; /* what it answers with (NULL: JSON; "": nothing) */
} ft_route;

/* All of them, in the order in which they are tried. */
const ft_route *ft_routes(size_t *count);

/* The first route that fits. NULL: *allowed is "" (404) or the methods that the path
 * has ("GET, HEAD"), and *face the shape to say so in. */
const ft_route *ft_route_find(const char *method, const char *path, char segment[2][256], char allowed[32],
                              ft_face *face);

/* Whether it reads the URL's parameter of that name. */
int ft_route_takes(const ft_route *r, const char *name);

/* --- Work ------------------------------------------------------------------- */

/* Something for a worker thread to run; embedded in what it works on. */
typedef struct ft_work {
    struct ft_work *next;
    void (*run)(struct ft_work *work);
} ft_work;
void ft_work_push(ft_server *s, ft_work *work);
/* Work that outlives its request (a generation, an export): the server's end waits until as many ended as began. */
void ft_job_begins(ft_server *s);
void ft_job_ends(ft_server *s);

/* --- The other end of a connection -------------------------------------------- */

/* Whether the client is still there; outlives the request. libmicrohttpd does not
 * look at a suspended connection, so those who work for it do. */
typedef struct ft_client {
    pthread_mutex_t lock;
    int fd; /* -1 once the connection is done with the request */
    atomic_int references;
} ft_client;
int ft_client_gone(ft_client *c);
void ft_client_cut(ft_client *c); /* ends the connection; the client is gone from then on */
void ft_client_release(ft_client *c);

/* --- Streams ------------------------------------------------------------------ */

/* Bytes on their way to a client: written by one thread at a time, read by the
 * polling thread, which suspends the connection while there are none. */
typedef struct ft_stream ft_stream;
FT_CHECKED ft_code ft_stream_new(ft_stream **out, ft_status *st);
/* FT_ERR_LIMIT when the client is FT_STREAM_BEHIND bytes behind and took nothing for some
 * seconds; one answer may be larger than that. */
enum { FT_STREAM_BEHIND = 4 << 20, FT_STREAM_SECONDS = 5 };
FT_CHECKED ft_code ft_stream_write(ft_stream *s, const char *bytes, size_t n, ft_status *st);
/* Whether bytes wait of which the client has taken none for so long. */
int ft_stream_stalled(ft_stream *s, double now, double seconds);
/* What was written is delivered, then the answer ends. `broken` cuts the
 * connection instead, so that the client cannot take it for complete. */
void ft_stream_end(ft_stream *s, int broken);
/* One more header after the body, where it has not ended yet; `name` is a literal. At most three. */
void ft_stream_trailer(ft_stream *s, const char *name, const char *value);
/* Pushes `writer` once, as soon as no more than FT_STREAM_ROOM bytes wait, or the answer has ended or been left by its
 * client: who writes much stops there instead of holding a worker, and goes on then. One at a time. */
enum { FT_STREAM_ROOM = 256 << 10 };
void ft_stream_when_room(ft_stream *s, ft_server *server, ft_work *writer);
void ft_stream_release(ft_stream *s);

/* --- Requests and answers ------------------------------------------------------ */

#define FT_LOCAL_KEY "local"
enum { FT_REQUEST_ID = 129, FT_MAX_HEADERS = 8 };

struct ft_request {
    ft_work work; /* first: the worker queue hands it back */
    ft_server *server;
    struct MHD_Connection *connection;
    ft_client *client;
    const char *key; /* whose request it is; FT_LOCAL_KEY until there are keys */
    const ft_route *route;
    ft_face face;
    char method[12], id[FT_REQUEST_ID], segment[2][256];
    char *path;
    double started;         /* seconds, monotonic */
    uint64_t body_received; /* more than body.size when it was too large */
    ft_buffer body;
    json_t *json;          /* the body, on routes that have one; an object */
    ft_snapshot *snapshot; /* ft_request_scope's; NULL until it is asked for */
    int running, answered, streams, holds_nul;
    int unframed; /* where it ends is not certain: nothing is read after it */
    ft_work *then; /* pushed when the handler has returned; it calls ft_request_done */

    unsigned status;
    struct MHD_Response *response;
    struct {
        const char *name;
        char *value;
    } headers[FT_MAX_HEADERS];
    unsigned header_count;
};

/* Each gives the request its answer; the first one counts. */
void ft_answer_json(ft_request *q, unsigned status, json_t *value); /* consumes; NULL: out of memory */
void ft_answer_bytes(ft_request *q, unsigned status, const char *type, const void *bytes, size_t n);
/* Bytes that live as long as the program. */
void ft_answer_static(ft_request *q, unsigned status, const char *type, const void *bytes, size_t n);
void ft_answer_stream(ft_request *q, const char *type, ft_stream *stream); /* takes a reference of its own */
/* One more header; `name` is a literal, the value is copied, without control characters. */
void ft_answer_header(ft_request *q, const char *name, const char *value);

/* Refuses in the shape of the route's face. `name` is the problem's name or the
 * OpenAI code (NULL: none); `param` the field at fault (NULL: none). */
void ft_refuse(ft_request *q, unsigned status, const char *name, const char *param, const char *fmt, ...)
    FT_PRINTF(5, 6);
/* The same with further members of the error object; consumes `more`. */
void ft_refuse_with(ft_request *q, unsigned status, const char *name, const char *param, json_t *more,
                    const char *message);
/* Of a server that listens and has not opened the model yet: all answers but /livez's. */
void ft_answer_while_loading(ft_request *q);
/* What a failed call of the library means to a client; `param` as above. */
void ft_refuse_status(ft_request *q, const char *param, const ft_status *st);
/* An error object of the OpenAI face, for a stream that has begun. */
json_t *ft_openai_error(unsigned status, const char *code, const char *param, json_t *more, const char *message);

/* What the request reads: owners and their indexes, the same ones from the first call to
 * the handler's return, whatever is replaced meanwhile. The first call looks for what is
 * newest, except on quick routes, which must not wait: those see what is in service. Work
 * that outlives the handler (`then`) takes snapshots of its own. */
const ft_trace_scope *ft_request_scope(ft_request *q);

/* The answer stands: the connection goes on, and q is no longer ours. */
void ft_request_done(ft_request *q);

int ft_request_has_body(const ft_request *q); /* POST and PUT: JSON */
const char *ft_request_header(const ft_request *q, const char *name); /* NULL: absent */
const char *ft_request_query(const ft_request *q, const char *name);  /* of the URL, decoded; NULL: absent */
/* An integer of the URL; 0 after refusing the request, which a wrong one brings. */
int ft_request_query_int(ft_request *q, const char *name, int64_t low, int64_t high, int64_t *out);

/* --- The server ------------------------------------------------------------------ */

typedef struct ft_job ft_job;       /* one completion request at work (completion_job.c) */
typedef struct ft_export ft_export; /* one export on its way out (route_export.c) */
typedef struct ft_task ft_task;     /* one takedown (erasure_jobs.c) */
typedef struct ft_tasks {
    pthread_mutex_t lock;
    ft_task *first, *running, *queue;
} ft_tasks;
void ft_tasks_init(ft_tasks *all);
void ft_tasks_destroy(ft_tasks *all);
void ft_tasks_tick(ft_server *s, double now);

typedef enum ft_peer_state {
    FT_PEER_IDLE,    /* no request has begun */
    FT_PEER_HALFWAY, /* the client sends its request, or takes its answer */
    FT_PEER_SERVED   /* the request is with us */
} ft_peer_state;

typedef struct ft_peer { /* an open connection */
    struct ft_peer *next, **link;
    int fd, cut; /* cut: shut down, about to be closed */
    ft_peer_state state;
    double since; /* the state began */
} ft_peer;

enum { FT_WORKERS = 8 };

struct ft_server {
    ft_federation *federation;     /* its indexes: through ft_request_scope, ft_server_snapshot */
    const ft_model *model;         /* may be NULL */
    const ft_tokenizer *tokenizer; /* may be NULL */
    ft_federation_limits limits;
    ft_server_options options;
    ft_engine_options engine; /* the scheduler's: compute and kv_type */
    ft_scheduler *scheduler;  /* NULL without a model */
    ft_chat_template *chat;   /* NULL without one; then no_chat says why */
    ft_status no_chat;
    ft_store *store; /* NULL without a store */
    ft_keyring keys;
    ft_work digest_work; /* reads the weights for receipts, where no store knows them */
    atomic_int digesting;
    char fingerprint[16]; /* "fx-" and 12 hexadecimal digits; ft_server_fingerprint gives the one in force */
    atomic_ullong ordered_out;   /* bit e: expert e takes no part, by order */
    pthread_mutex_t optout_lock; /* who changes the orders */
    int64_t created;      /* of the model, seconds since 1970 */
    char address[300];
    int loopback;
    struct MHD_Daemon *daemon;

    pthread_mutex_t lock; /* all below */
    pthread_cond_t work_waits, changed;
    ft_work *first, **last;
    pthread_t workers[FT_WORKERS], ticker;
    unsigned worker_count;
    int ticker_runs, stopping, served;
    atomic_int loading, draining; /* it listens already; it still answers */
    size_t active;       /* requests that wait for an answer, or for the rest of one */
    size_t suspended;    /* of them: with a worker or a job */
    volatile int cancel; /* 1: passes over the model end now */
    ft_peer *peers;
    size_t peer_count;
    size_t job_count;

    ft_metrics metrics;
    ft_tasks tasks;

    ft_work look; /* for new indexes, by the clock: also while nobody asks */
    atomic_int looking;
    double retain_at; /* when the store is next looked through for what is too old; of whoever is `looking` */
    atomic_int retain_now;     /* what is kept was ordered anew */
    ft_digest state;           /* of what was last logged as active; of whoever is `looking` */

    pthread_mutex_t jobs_lock; /* of both lists; taken before a job's own lock */
    ft_job *jobs;
    ft_export *exports;

    pthread_mutex_t matcher_lock; /* of the matcher, until it is there */
    struct ft_text_matcher *matcher;

    pthread_mutex_t ready_lock; /* of what /readyz remembers */
    double ready_checked;
    json_t *ready_checks;
    int ready;
};

/* The signed receipt of a trace (the server has a store and a signing key), appended; *entry is it, a view, for the log
 * of receipts: it must be there before the receipt is handed out. FT_ERR_NOT_FOUND while the digests of the model that
 * wrote the trace are not known; then, as after every failure, the entry has no envelope. */
typedef struct ft_server_entry {
    char id[FT_TRACE_ID];
    ft_receipt_entry entry;
} ft_server_entry;
FT_CHECKED ft_code ft_server_receipt(ft_server *s, const json_t *trace, int hide_prompt, ft_buffer *out,
                                     ft_server_entry *entry, ft_status *st);
/* (route_optouts.c) Experts that take part in nothing: by federation.yaml, or by an order that was given since; their
 * weights are read in the second case. At the start the orders come out of the store. */
uint64_t ft_server_opted_out(const ft_server *s);
/* Tokens that one request may read and write: the model's context, or what the key-value memory holds of it. */
size_t ft_server_context(const ft_server *s);
FT_CHECKED ft_code ft_server_read_optouts(ft_server *s, ft_status *st);
void ft_server_fingerprint(const ft_server *s, char out[16]);
void ft_server_digest_later(ft_server *s); /* reads the model's digests, on a worker */

double ft_seconds_now(void);                      /* monotonic */
void ft_time_text(int64_t seconds, char out[24]); /* RFC 3339, UTC */
void ft_server_log(ft_server *s, const char *fmt, ...) FT_PRINTF(2, 3);
/* Writes into the store's log what is active (experts, opt-outs, indexes, rules), where that is other than what was
 * written last; with `because` ("start", "stop") in any case. */
void ft_server_log_state(ft_server *s, const char *because);
/* The owners' indexes, looked at anew; what is new, or bad, goes to the log. For work
 * that is no request's handler; the caller releases. */
ft_snapshot *ft_server_snapshot(ft_server *s);
/* Documents that are removed from an owner's indexes and not compacted away. */
uint64_t ft_removed_documents(const ft_owner *o);
/* Tells the metrics what was removed since the last time: by the clock, and before they are shown. */
void ft_server_count_removed(ft_server *s);
/* The event loop's side of it: listening, connections, handing requests out. */
FT_CHECKED ft_code ft_http_start(ft_server *s, const char *listen, ft_status *st);
void ft_http_stop(ft_server *s);
FT_CHECKED ft_code ft_listen_open(const char *where, int *fd, char *address, size_t address_size, int *loopback,
                                  ft_status *st);
/* 0 when the Host or Origin of a request to a loopback address is foreign (a page
 * elsewhere whose name was pointed here); `what` says which. */
int ft_host_allowed(const char *host, const char *origin, const char **what);
void ft_peers_check(ft_server *s, double now); /* cuts connections that let us wait too long */

/* The jobs' side of the clock: pings, deadlines, clients gone. */
void ft_jobs_tick(ft_server *s, double now);
void ft_jobs_abort(ft_server *s);
/* The same for exports. */
void ft_exports_tick(ft_server *s, double now);
void ft_exports_abort(ft_server *s);

#endif
