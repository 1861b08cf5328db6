/* GET /v1/compliance/export: every trace that fits, in one answer that is written while it is read. What waits is a
 * MiB or so: the work stops where the client is behind and goes on when it has read, so that a slow client holds neither
 * memory nor a worker. */
#include "api/compliance_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_EXPORTS = 4, PIECE_BYTES = 1 << 20, PIECE_TRACES = 256, HELD = 7 };

typedef enum form { JSONL, JSON, CSV } form;

struct ft_export {
    ft_work work; /* first: the worker queue hands it back */
    struct ft_export *next, **link;
    ft_server *server;
    ft_stream *stream;
    ft_client *client;
    ft_store_filter filter; /* its names are `held` */
    char *held[HELD];
    form how;
    int with_routing, begun, more;
    uint64_t limit, count, piece_count; /* limit 0: none */
    char last[FT_TRACE_ID];             /* the last that was written; "": none */
    char request_id[FT_REQUEST_ID], key[64];
    ft_buffer piece, packed;
};

static void export_free(ft_export *x)
{
    if (!x)
        return;
    for (size_t i = 0; i < HELD; i++)
        free(x->held[i]);
    ft_buffer_release(&x->piece);
    ft_buffer_release(&x->packed);
    ft_stream_release(x->stream);
    ft_client_release(x->client);
    free(x);
}

/* --- What is written ------------------------------------------------------------------------------------- */

static ft_code begin(ft_export *x, ft_status *st)
{
    ft_code rc = FT_OK;
    if (x->how == JSON)
        rc = ft_buffer_append_str(&x->piece, "{\"object\":\"list\",\"data\":[", st);
    if (x->how == CSV)
        rc = ft_csv_head(&x->piece, ft_export_columns, st);
    x->begun = 1;
    return rc;
}

/* FT_ERR_CANCELLED: the piece is full, the limit reached (x->more), or nobody waits any more (id NULL: nothing fitted
 * for a while). */
static ft_code add_one(void *context, const char *id, json_t *row, ft_status *st)
{
    ft_export *x = context;
    if (!id)
        return x->server->cancel || ft_client_gone(x->client) ? FT_ERR_CANCELLED : FT_OK;
    x->more = x->limit && x->count == x->limit;
    if (x->more || x->piece.size > PIECE_BYTES || x->piece_count == PIECE_TRACES)
        return FT_ERR_CANCELLED;
    const size_t before = x->piece.size;
    ft_code rc = x->how == JSON && x->count ? ft_buffer_append(&x->piece, ",", 1, st) : FT_OK;
    if (!rc)
        rc = x->how == CSV ? ft_export_csv(row, &x->piece, st)
                           : ft_export_json(x->server->store, id, x->with_routing ? &x->packed : NULL, &x->piece, st);
    if (!rc && x->how == JSONL)
        rc = ft_buffer_append(&x->piece, "\n", 1, st);
    if (rc == FT_ERR_NOT_FOUND) { /* deleted meanwhile */
        x->piece.size = before;
        return FT_OK;
    }
    x->count += !rc;
    x->piece_count++;
    snprintf(x->last, sizeof(x->last), "%s", id);
    return rc;
}

/* How many there are: by it a file that was cut is told. */
static ft_code finish(ft_export *x, ft_status *st)
{
    char number[32], last[FT_TRACE_ID + 2] = "null";
    snprintf(number, sizeof(number), "%" PRIu64, x->count);
    if (x->last[0])
        snprintf(last, sizeof(last), "\"%s\"", x->last);
    if (x->how == CSV) {
        ft_stream_trailer(x->stream, "X-Exported", number);
        ft_stream_trailer(x->stream, "X-Has-More", x->more ? "true" : "false");
        ft_stream_trailer(x->stream, "X-Last-Id", x->last);
        return FT_OK;
    }
    return ft_buffer_printf(&x->piece, st, "%s\"exported\":%s,\"last_id\":%s,\"has_more\":%s}\n",
                            x->how == JSON ? "]," : "{", number, last, x->more ? "true" : "false");
}

/* --- Its life ------------------------------------------------------------------------------------------------ */

/* How many traces went out stands in the log beside who asked. */
static void end(ft_export *x, ft_code rc, const ft_status *why)
{
    ft_server *s = x->server;
    ft_status st = {0};
    if (rc && rc != FT_ERR_CANCELLED)
        ft_server_log(s, "%s: export: %s", x->request_id, why->msg);
    ft_stream_end(x->stream, rc != FT_OK);
    if (ft_store_log(s->store, x->key, "export.end",
                     json_pack("{s:s,s:I,s:b}", "request", x->request_id, "exported", (json_int_t)x->count, "complete",
                               rc == FT_OK),
                     &st))
        ft_server_log(s, "%s: the end of an export is not in the log: %s", x->request_id, st.msg);
    pthread_mutex_lock(&s->jobs_lock);
    *x->link = x->next;
    if (x->next)
        x->next->link = x->link;
    pthread_mutex_unlock(&s->jobs_lock);
    export_free(x);
    ft_job_ends(s);
}

static void run_export(ft_work *work)
{
    ft_export *x = (ft_export *)work;
    ft_status st = {0};
    ft_code rc = x->server->cancel || ft_client_gone(x->client) ? FT_ERR_CANCELLED : FT_OK;
    if (rc) {
        end(x, rc, &st);
        return;
    }
    ft_buffer_reset(&x->piece);
    x->piece_count = 0;
    if (!x->begun)
        rc = begin(x, &st);
    if (!rc)
        rc = ft_store_walk_after(x->server->store, &x->filter, x->last[0] ? x->last : NULL, x->how == CSV, add_one, x,
                                 &st);
    const int over = !rc || (rc == FT_ERR_CANCELLED && x->more);
    rc = rc == FT_ERR_CANCELLED ? FT_OK : rc;
    if (!rc && over)
        rc = finish(x, &st);
    if (!rc && x->piece.size)
        rc = ft_stream_write(x->stream, x->piece.data, x->piece.size, &st);
    if (rc || over)
        end(x, rc, &st);
    else
        ft_stream_when_room(x->stream, x->server, &x->work); /* x is whoever's runs it next from here on */
}

/* A client that takes nothing any more is cut off, as with other streams. */
void ft_exports_tick(ft_server *s, double now)
{
    pthread_mutex_lock(&s->jobs_lock);
    for (ft_export *x = s->exports; x; x = x->next)
        if (ft_stream_stalled(x->stream, now, s->limits.request_seconds))
            ft_client_cut(x->client);
    pthread_mutex_unlock(&s->jobs_lock);
}

void ft_exports_abort(ft_server *s)
{
    pthread_mutex_lock(&s->jobs_lock);
    for (ft_export *x = s->exports; x; x = x->next)
        ft_stream_end(x->stream, 1);
    pthread_mutex_unlock(&s->jobs_lock);
}

/* --- The request ------------------------------------------------------------------------------------------------ */

static int read_form(ft_request *q, form *out)
{
    static const char *const names[] = {"jsonl", "json", "csv"};
    const char *format = ft_request_query(q, "format"), *accept = ft_request_header(q, "Accept");
    *out = JSONL;
    if (!format && accept && !strstr(accept, "ndjson"))
        *out = strstr(accept, "text/csv") ? CSV : strstr(accept, "application/json") ? JSON : JSONL;
    for (size_t i = 0; format && i < 3; i++)
        if (!strcmp(format, names[i])) {
            *out = (form)i;
            return 1;
        }
    if (format)
        ft_refuse(q, 400, "invalid-parameter", "format", "'format' must be \"jsonl\", \"json\" or \"csv\"");
    return !format;
}

/* 0 after refusing. The walk goes from the oldest to the newest: what is stored meanwhile comes at its end. */
static int read_request(ft_request *q, ft_export *x)
{
    const char *routing = ft_request_query(q, "routing"), *after = ft_request_query(q, "after");
    int64_t limit = 0;
    if (!ft_filter_read(q, &x->filter) || !read_form(q, &x->how) ||
        !ft_request_query_int(q, "limit", 1, INT64_MAX, &limit))
        return 0;
    if (routing && strcmp(routing, "packed") != 0 && strcmp(routing, "none") != 0) {
        ft_refuse(q, 400, "invalid-parameter", "routing", "'routing' must be \"packed\" or \"none\"");
        return 0;
    }
    if (routing && x->how == CSV && !strcmp(routing, "packed")) {
        ft_refuse(q, 400, "invalid-parameter", "routing",
                  "'routing': CSV has none; ask for 'format' \"jsonl\" or \"json\"");
        return 0;
    }
    if (after && after[0] && !ft_trace_id_time(after, &(uint64_t){0})) {
        ft_refuse(q, 400, "invalid-parameter", "after", "'after' must be the id of a trace");
        return 0;
    }
    x->limit = (uint64_t)limit;
    x->with_routing = !routing || !strcmp(routing, "packed");
    if (after)
        snprintf(x->last, sizeof(x->last), "%s", after);
    return 1;
}

/* The request's strings end with its answer. */
static ft_code hold_names(ft_export *x, ft_status *st)
{
    const char **names[HELD] = {&x->filter.owner, &x->filter.document, &x->filter.verdict, &x->filter.key,
                                &x->filter.without, &x->filter.model, &x->filter.text};
    for (size_t i = 0; i < HELD; i++) {
        if (!*names[i])
            continue;
        *names[i] = x->held[i] = strdup(*names[i]);
        if (!x->held[i])
            return ft_fail(st, FT_ERR_MEM, "export: out of memory");
    }
    return FT_OK;
}

/* 0: there are too many already. */
static int enlist(ft_export *x)
{
    ft_server *s = x->server;
    size_t n = 0;
    pthread_mutex_lock(&s->jobs_lock);
    for (const ft_export *e = s->exports; e; e = e->next)
        n++;
    if (n < MOST_EXPORTS) {
        x->next = s->exports;
        x->link = &s->exports;
        if (x->next)
            x->next->link = &x->next;
        s->exports = x;
    }
    pthread_mutex_unlock(&s->jobs_lock);
    if (n == MOST_EXPORTS)
        return 0;
    ft_job_begins(s);
    return 1;
}

static ft_export *new_export(ft_request *q)
{
    ft_export *x = calloc(1, sizeof(*x));
    if (!x)
        return NULL;
    x->work.run = run_export;
    x->server = q->server;
    x->client = q->client;
    atomic_fetch_add(&q->client->references, 1);
    snprintf(x->request_id, sizeof(x->request_id), "%s", q->id);
    snprintf(x->key, sizeof(x->key), "%s", q->key);
    return x;
}

void ft_route_export(ft_request *q)
{
    static const char *const types[] = {"application/x-ndjson", "application/json",
                                        "text/csv; charset=utf-8; header=present"};
    ft_status st = {0};
    if (!ft_needs_store(q))
        return;
    ft_export *x = new_export(q);
    ft_code rc = x ? FT_OK : ft_fail(&st, FT_ERR_MEM, "out of memory");
    if (!rc && !read_request(q, x)) {
        export_free(x);
        return;
    }
    if (!rc)
        rc = hold_names(x, &st);
    if (!rc)
        rc = ft_stream_new(&x->stream, &st);
    if (!rc && !ft_log_request(q, "compliance.export")) {
        export_free(x);
        return;
    }
    if (!rc && !enlist(x))
        rc = ft_fail(&st, FT_ERR_LIMIT, "%d exports run already; try again later", MOST_EXPORTS);
    if (rc) {
        ft_refuse_status(q, NULL, &st);
        export_free(x);
        return;
    }
    if (x->how == CSV)
        ft_answer_header(q, "Trailer", "X-Exported, X-Has-More, X-Last-Id");
    ft_answer_stream(q, types[x->how], x->stream);
    ft_work_push(q->server, &x->work);
}
