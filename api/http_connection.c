/* The polling thread: from bytes on a connection to a request, and back. */
#include "api/http_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

/* A body that is too large is read to its end up to here, so that the client reads
 * the refusal instead of a reset connection; beyond it the connection is cut. */
enum { DRAINED_BYTES = 64 << 20, IDLE_SECONDS = 75 };

/* --- Connections ----------------------------------------------------------------- */

static int fd_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return i ? i->connect_fd : -1;
}

static ft_peer *peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return i ? i->socket_context : NULL;
}

static void on_connection(void *context, struct MHD_Connection *connection, void **peer_of_it,
                          enum MHD_ConnectionNotificationCode what)
{
    ft_server *s = context;
    ft_peer *p = *peer_of_it;
    pthread_mutex_lock(&s->lock);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        p = calloc(1, sizeof(*p));
        if (p) { /* without one, only the idle timeout guards this connection */
            p->fd = fd_of(connection);
            p->since = ft_seconds_now();
            p->next = s->peers;
            p->link = &s->peers;
            if (p->next)
                p->next->link = &p->next;
            s->peers = p;
            s->peer_count++;
        }
        *peer_of_it = p;
    } else if (p) {
        *p->link = p->next;
        if (p->next)
            p->next->link = p->link;
        s->peer_count--;
        free(p);
        *peer_of_it = NULL;
    }
    pthread_mutex_unlock(&s->lock);
}

static void cut(ft_peer *p)
{
    p->cut = 1;
    (void)shutdown(p->fd, SHUT_RDWR); /* the polling thread sees it and closes */
}

/* Of the connections that wait for their client: one without a request before one that
 * is halfway, then the longest silent. NULL: none. */
static ft_peer *least_missed(const ft_server *s, double now)
{
    enum { YOUNG_SECONDS = 1 };
    ft_peer *found = NULL;
    for (ft_peer *p = s->peers; p; p = p->next) {
        if (p->state == FT_PEER_SERVED || p->cut || now - p->since < YOUNG_SECONDS)
            continue;
        if (!found || p->state < found->state || (p->state == found->state && p->since < found->since))
            found = p;
    }
    return found;
}

/* A client that sends its request too slowly, or takes its answer not at all, is cut
 * off: libmicrohttpd counts silence only, and a byte a minute is no silence. Where more
 * connect than are held, those that ask for nothing make room. */
void ft_peers_check(ft_server *s, double now)
{
    pthread_mutex_lock(&s->lock);
    size_t held = s->peer_count;
    for (ft_peer *p = s->peers; p; p = p->next) {
        if (!p->cut && p->state != FT_PEER_SERVED && now - p->since > s->limits.request_seconds)
            cut(p);
        held -= (size_t)p->cut;
    }
    for (ft_peer *p; held > s->limits.connections && (p = least_missed(s, now)) != NULL; held--)
        cut(p);
    pthread_mutex_unlock(&s->lock);
}

static void set_peer(ft_server *s, struct MHD_Connection *connection, ft_peer_state state)
{
    pthread_mutex_lock(&s->lock);
    ft_peer *p = peer_of(connection);
    if (p) {
        p->state = state;
        p->since = ft_seconds_now();
    }
    pthread_mutex_unlock(&s->lock);
}

/* --- Requests ---------------------------------------------------------------------- */

const char *ft_request_header(const ft_request *q, const char *name)
{
    return MHD_lookup_connection_value(q->connection, MHD_HEADER_KIND, name);
}

const char *ft_request_query(const ft_request *q, const char *name)
{
    return MHD_lookup_connection_value(q->connection, MHD_GET_ARGUMENT_KIND, name);
}

int ft_request_query_int(ft_request *q, const char *name, int64_t low, int64_t high, int64_t *out)
{
    const char *text = ft_request_query(q, name);
    if (!text)
        return 1;
    char *end;
    const long long v = strtoll(text, &end, 10);
    if (end == text || *end || v < low || v > high) {
        ft_refuse(q, 400, q->face == FT_FACE_OWN ? "invalid-parameter" : NULL, name,
                  "'%s' must be an integer from %" PRId64 " to %" PRId64, name, low, high);
        return 0;
    }
    *out = v;
    return 1;
}

/* Taken from the client when it is a plain name, else made. */
static void name_request(ft_request *q)
{
    const char *given = ft_request_header(q, "X-Request-Id");
    const size_t n = given ? strlen(given) : 0;
    if (n >= 1 && n <= 128 && n == strspn(given, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"))
        snprintf(q->id, sizeof(q->id), "%s", given);
    else
        snprintf(q->id, sizeof(q->id), "req_%016" PRIx64, ft_random_seed());
}

static void free_request(ft_request *q)
{
    if (!q)
        return;
    if (q->client) {
        pthread_mutex_lock(&q->client->lock);
        q->client->fd = -1;
        pthread_mutex_unlock(&q->client->lock);
        ft_client_release(q->client);
    }
    if (q->response)
        MHD_destroy_response(q->response);
    for (unsigned i = 0; i < q->header_count; i++)
        free(q->headers[i].value);
    json_decref(q->json);
    ft_buffer_release(&q->body);
    free(q->path);
    free(q);
}

static ft_request *new_request(ft_server *s, struct MHD_Connection *connection, const char *url, const char *method)
{
    ft_request *q = calloc(1, sizeof(*q));
    if (!q)
        return NULL;
    q->server = s;
    q->connection = connection;
    q->key = FT_LOCAL_KEY;
    q->started = ft_seconds_now();
    q->path = strdup(url);
    q->client = calloc(1, sizeof(*q->client));
    snprintf(q->method, sizeof(q->method), "%s", method);
    ft_buffer_init(&q->body, (size_t)s->limits.request_bytes);
    if (!q->path || !q->client) {
        free(q->client);
        q->client = NULL;
        free_request(q);
        return NULL;
    }
    pthread_mutex_init(&q->client->lock, NULL);
    q->client->fd = fd_of(connection);
    atomic_init(&q->client->references, 1);
    name_request(q);
    return q;
}

static int is_json_type(const char *type)
{
    if (!type)
        return 0;
    const size_t n = strcspn(type, "; \t");
    return (n == 16 && !strncasecmp(type, "application/json", n)) ||
           (n > 5 && !strncasecmp(type, "application/", 12) && !strncasecmp(type + n - 5, "+json", 5));
}

/* --- What the head alone says ------------------------------------------------------- */

typedef struct head {
    unsigned hosts, lengths, encodings;
    int strange; /* a Transfer-Encoding that is not chunked */
} head;

static enum MHD_Result count_header(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    head *h = context;
    (void)kind;
    h->hosts += !strcasecmp(name, "Host");
    h->lengths += !strcasecmp(name, "Content-Length");
    if (!strcasecmp(name, "Transfer-Encoding")) {
        h->encodings++;
        h->strange |= !value || strcasecmp(value, "chunked") != 0;
    }
    return MHD_YES;
}

/* Whether a proxy in front may have read another request out of these bytes than we do, or the body's end cannot be
 * told (RFC 9112, sections 3.2, 6.1 and 6.3). */
static int is_ambiguous(const ft_request *q)
{
    head h = {0};
    (void)MHD_get_connection_values(q->connection, MHD_HEADER_KIND, count_header, &h);
    return h.hosts > 1 || h.strange || h.lengths + h.encodings > 1;
}

/* libmicrohttpd takes a body as it comes, whatever it is packed in. */
static int is_packed(const ft_request *q)
{
    const char *encoding = ft_request_header(q, "Content-Encoding");
    return encoding && strcasecmp(encoding, "identity") != 0;
}

typedef struct parameters {
    const ft_request *q;
    const char *unknown, *twice;
} parameters;

static enum MHD_Result check_parameter(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    parameters *p = context;
    (void)kind;
    if (!ft_route_takes(p->q->route, name))
        p->unknown = name;
    else if (ft_request_query(p->q, name) != value) /* the first of that name */
        p->twice = name;
    return p->unknown || p->twice ? MHD_NO : MHD_YES;
}

/* A filter whose name is mistyped would let everything through, and who asked would not see it: so our own routes
 * refuse what they do not read. */
static void check_parameters(ft_request *q)
{
    parameters p = {q, NULL, NULL};
    if (q->face != FT_FACE_OWN || q->route->flags & (FT_ROUTE_FILES | FT_ROUTE_ALWAYS))
        return;
    (void)MHD_get_connection_values(q->connection, MHD_GET_ARGUMENT_KIND, check_parameter, &p);
    if (p.unknown)
        ft_refuse(q, 400, "invalid-parameter", p.unknown, "'%.100s' is no parameter of %s; it has %s", p.unknown,
                  q->path, q->route->query ? q->route->query : "none");
    else if (p.twice)
        ft_refuse(q, 400, "invalid-parameter", p.twice, "'%.100s' stands twice", p.twice);
}

/* What can be refused by the head of the request alone. */
static void check_head(ft_request *q)
{
    static const char models[] = "/v1/models/"; /* a name of several segments is a model's too, as on the Hub */
    ft_server *s = q->server;
    char allowed[32];
    q->route = ft_route_find(q->method, q->path, q->segment, allowed, &q->face);
    const char *foreign;
    if (is_ambiguous(q)) {
        q->unframed = 1;
        ft_refuse(q, 400, q->face == FT_FACE_OWN ? "ambiguous-request" : NULL, NULL,
                  "the request has several Host, Content-Length or Transfer-Encoding headers, or a Transfer-Encoding "
                  "other than chunked");
    } else if (s->loopback &&
               !ft_host_allowed(ft_request_header(q, "Host"), ft_request_header(q, "Origin"), &foreign)) {
        ft_refuse(q, foreign[0] == 'H' ? 421 : 403, q->face == FT_FACE_OWN ? "foreign-host" : NULL, NULL,
                  "%s names another machine; this server is bound to loopback and answers to localhost, 127.0.0.1 "
                  "and [::1] alone (bind it elsewhere with --listen to reach it by name)",
                  foreign);
    } else if (q->holds_nul) {
        ft_refuse(q, 400, q->face == FT_FACE_OWN ? "bad-url" : NULL, NULL, "the URL holds a NUL (%%00)");
    } else if (!q->route && allowed[0]) {
        ft_answer_header(q, "Allow", allowed);
        ft_refuse(q, 405, q->face == FT_FACE_OWN ? "method-not-allowed" : NULL, NULL, "%s is not for %s; allowed: %s",
                  q->path, q->method, allowed);
    } else if (!q->route && !strncmp(q->path, models, sizeof(models) - 1) && q->path[sizeof(models) - 1]) {
        ft_refuse(q, 404, "model_not_found", "model", "the model '%.200s' does not exist",
                  q->path + sizeof(models) - 1);
    } else if (!q->route) {
        ft_refuse(q, 404, q->face == FT_FACE_OWN ? "not-found" : NULL, NULL,
                  "there is nothing at %s; docs/http.md lists the routes", q->path);
    } else if (s->loading) {
        ft_answer_while_loading(q);
    } else if (s->draining && !(q->route->flags & FT_ROUTE_ALWAYS)) {
        ft_refuse(q, 503, "overloaded", NULL, "the server is shutting down");
    } else if (ft_request_has_body(q) && !is_json_type(ft_request_header(q, "Content-Type"))) {
        ft_refuse(q, 415, q->face == FT_FACE_OWN ? "unsupported-media-type" : NULL, NULL,
                  "the body must be JSON, sent with Content-Type: application/json");
    } else if (ft_request_has_body(q) && is_packed(q)) {
        ft_answer_header(q, "Accept-Encoding", "identity");
        ft_refuse(q, 415, q->face == FT_FACE_OWN ? "unsupported-media-type" : NULL, NULL,
                  "the body has a Content-Encoding; send it as it is");
    } else {
        check_parameters(q);
    }
}

static void refuse_large(ft_request *q)
{
    ft_refuse(q, 413, q->face == FT_FACE_OPENAI ? "request_too_large" : "request-too-large", NULL,
              "the request's body is larger than %" PRIu64 " bytes (limits.request_bytes of the federation)",
              q->server->limits.request_bytes);
}

/* A declared length beyond the limit is refused before the body comes. */
static void check_length(ft_request *q)
{
    const char *length = ft_request_header(q, "Content-Length");
    if (!q->answered && length && strtoull(length, NULL, 10) > q->server->limits.request_bytes)
        refuse_large(q);
}

/* Whether a refusal need not wait for the body: the client asked first, or would send
 * more than we read. */
static int goes_out_at_once(const ft_request *q)
{
    const char *expect = ft_request_header(q, "Expect"), *length = ft_request_header(q, "Content-Length");
    return q->answered && (q->unframed || (expect && !strcasecmp(expect, "100-continue")) ||
                           (length && strtoull(length, NULL, 10) > DRAINED_BYTES));
}

/* 0: the connection is beyond patience. */
static int receive_body(ft_request *q, const char *bytes, size_t n)
{
    q->body_received += n;
    if (q->body_received > DRAINED_BYTES)
        return 0;
    if (q->body_received > q->server->limits.request_bytes) {
        refuse_large(q);
        ft_buffer_release(&q->body);
    } else if (!q->answered && ft_buffer_append(&q->body, bytes, n, NULL) != FT_OK) {
        ft_refuse(q, 503, "overloaded", NULL, "out of memory");
    }
    return 1;
}

static void parse_body(ft_request *q)
{
    ft_status st = {0};
    if (ft_json_parse(&q->json, q->body.data ? q->body.data : "", q->body.size, "request body", &st) != FT_OK)
        ft_refuse_status(q, NULL, &st);
    else if (!json_is_object(q->json))
        ft_refuse(q, 400, NULL, NULL, "the request's body must be a JSON object");
}

static void run_route(ft_request *q)
{
    if (ft_request_has_body(q))
        parse_body(q);
    if (!q->answered)
        q->route->run(q);
    if (!q->answered && !q->then)
        ft_refuse(q, 500, NULL, NULL, "the route gave no answer");
    /* The answer is bytes by now: a client that takes it slowly keeps no index open. */
    ft_snapshot_release(q->snapshot);
    q->snapshot = NULL;
}

const ft_trace_scope *ft_request_scope(ft_request *q)
{
    if (!q->snapshot)
        q->snapshot = q->route->flags & FT_ROUTE_QUICK ? ft_federation_snapshot(q->server->federation)
                                                       : ft_server_snapshot(q->server);
    return ft_snapshot_scope(q->snapshot);
}

static void run_in_worker(ft_work *work)
{
    ft_request *q = (ft_request *)work;
    if (ft_seconds_now() - q->started > q->server->limits.request_seconds)
        ft_refuse(q, 503, "overloaded", NULL, "no worker was free for %u seconds; try again later",
                  q->server->limits.request_seconds);
    else if (!ft_client_gone(q->client))
        run_route(q);
    else
        ft_refuse(q, 408, NULL, NULL, "the client went away");
    if (q->then)
        ft_work_push(q->server, q->then);
    else
        ft_request_done(q);
}

void ft_request_done(ft_request *q)
{
    ft_server *s = q->server;
    MHD_resume_connection(q->connection); /* q may be gone now */
    pthread_mutex_lock(&s->lock);
    s->suspended--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* Headers that every answer bears, then out. */
static enum MHD_Result send_answer(ft_request *q)
{
    if (!q->response) { /* no memory even for the refusal: the connection closes */
        return MHD_NO;
    }
    if (!q->streams) /* from now on the client keeps us waiting, not we it */
        set_peer(q->server, q->connection, FT_PEER_HALFWAY);
    struct MHD_Response *r = q->response;
    for (unsigned i = 0; i < q->header_count; i++)
        (void)MHD_add_response_header(r, q->headers[i].name, q->headers[i].value);
    (void)MHD_add_response_header(r, "X-Request-Id", q->id);
    (void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (!MHD_get_response_header(r, "Cache-Control"))
        (void)MHD_add_response_header(r, "Cache-Control", "no-store");
    if (q->server->draining || q->unframed)
        (void)MHD_add_response_header(r, "Connection", "close");
    const enum MHD_Result done = MHD_queue_response(q->connection, q->status, r);
    MHD_destroy_response(r);
    q->response = NULL;
    return done;
}

/* A decoded URL would end at a NUL, and so name something else than was asked for.
 * What this returns is what on_request first finds in *request. */
static const char uri_holds_nul = 0;

static void *look_at_uri(void *context, const char *uri, struct MHD_Connection *connection)
{
    (void)context;
    (void)connection;
    return strstr(uri, "%00") ? (void *)&uri_holds_nul : NULL;
}

/* libmicrohttpd calls once with the head, once for each piece of the body, once at
 * its end, and once more after each resume. */
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_bytes, void **request)
{
    ft_server *s = context;
    const int holds_nul = *request == &uri_holds_nul;
    ft_request *q = holds_nul ? NULL : *request;
    (void)version;
    if (!q) {
        q = new_request(s, connection, url, method);
        if (!q)
            return MHD_NO;
        *request = q;
        q->holds_nul = holds_nul;
        pthread_mutex_lock(&s->lock);
        s->active++;
        pthread_mutex_unlock(&s->lock);
        set_peer(s, connection, FT_PEER_HALFWAY);
        check_head(q);
        check_length(q);
        return goes_out_at_once(q) ? send_answer(q) : MHD_YES;
    }
    if (*upload_bytes) {
        const int go_on = receive_body(q, upload, *upload_bytes);
        *upload_bytes = 0;
        return go_on ? MHD_YES : MHD_NO;
    }
    if (!q->answered && !q->running) {
        q->running = 1;
        set_peer(s, connection, FT_PEER_SERVED);
        if (!(q->route->flags & FT_ROUTE_QUICK)) {
            q->work.run = run_in_worker;
            pthread_mutex_lock(&s->lock);
            s->suspended++;
            pthread_mutex_unlock(&s->lock);
            MHD_suspend_connection(connection);
            ft_work_push(s, &q->work);
            return MHD_YES;
        }
        run_route(q);
    }
    return send_answer(q);
}

static void on_done(void *context, struct MHD_Connection *connection, void **request,
                    enum MHD_RequestTerminationCode why)
{
    ft_server *s = context;
    ft_request *q = *request;
    if (!q || *request == &uri_holds_nul)
        return;
    *request = NULL;
    ft_metrics_request(&s->metrics, q->route ? q->route->pattern : NULL, q->route ? q->route->method : "other",
                       q->status ? q->status : 499, ft_seconds_now() - q->started);
    if (s->options.log)
        ft_server_log(s, "%s %s %u %.0f ms %s%s", q->method, q->path, q->status, (ft_seconds_now() - q->started) * 1e3,
                      q->id, why == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : " (cut)");
    set_peer(s, connection, FT_PEER_IDLE);
    free_request(q);
    pthread_mutex_lock(&s->lock);
    s->active--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void on_trouble(void *context, const char *fmt, va_list args)
{
    char line[400];
    vsnprintf(line, sizeof(line), fmt, args);
    line[strcspn(line, "\n")] = '\0';
    ft_server_log(context, "http: %s", line);
}

ft_code ft_http_start(ft_server *s, const char *listen, ft_status *st)
{
    int fd;
    ft_code rc = ft_listen_open(listen, &fd, s->address, sizeof(s->address), &s->loopback, st);
    if (rc)
        return rc;
    /* A few more than are held, so that newcomers come in while ft_peers_check makes
     * room; above that nothing is accepted and waits in the system's queue. */
    const unsigned accepted = s->limits.connections + s->limits.connections / 8 + 1;
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, s,
        MHD_OPTION_EXTERNAL_LOGGER, on_trouble, s, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_done,
        s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_URI_LOG_CALLBACK, look_at_uri, s,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_CONNECTION_LIMIT, accepted, MHD_OPTION_CONNECTION_TIMEOUT,
        s->limits.request_seconds < IDLE_SECONDS ? s->limits.request_seconds : (unsigned)IDLE_SECONDS, MHD_OPTION_END);
    if (!s->daemon) /* it has closed the socket */
        return ft_fail(st, FT_ERR_IO, "listen %s: the HTTP server does not start; too many open files?", listen);
    return FT_OK;
}

void ft_http_stop(ft_server *s)
{
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
}
