/* Streams of bytes to a client, and whether the client is still there. */
#define _GNU_SOURCE /* POLLRDHUP */
#include "api/http_internal.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int ft_client_gone(ft_client *c)
{
    pthread_mutex_lock(&c->lock);
    int gone = c->fd < 0;
    if (!gone) {
        struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
        gone = poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
    }
    pthread_mutex_unlock(&c->lock);
    return gone;
}

void ft_client_cut(ft_client *c)
{
    pthread_mutex_lock(&c->lock);
    if (c->fd >= 0)
        (void)shutdown(c->fd, SHUT_RDWR); /* the polling thread sees it and closes */
    pthread_mutex_unlock(&c->lock);
}

void ft_client_release(ft_client *c)
{
    if (!c || atomic_fetch_sub(&c->references, 1) > 1)
        return;
    pthread_mutex_destroy(&c->lock);
    free(c);
}

struct ft_stream {
    pthread_mutex_t lock;
    ft_buffer waiting;
    size_t read;  /* bytes of `waiting` that went out */
    double moved; /* when the client last took some, or had all */
    int ended, broken;
    struct MHD_Connection *connection; /* known from the answer on */
    int suspended;
    int left;        /* the connection is done with the answer */
    ft_work *writer; /* goes on when there is room; NULL: nobody waits for it */
    ft_server *server;
    struct {
        const char *name;
        char value[FT_TRACE_ID];
    } trailers[3];
    unsigned trailer_count;
    struct MHD_Response *response; /* while the connection has it */
    atomic_int references;
};

ft_code ft_stream_new(ft_stream **out, ft_status *st)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    pthread_mutex_init(&(*out)->lock, NULL);
    ft_buffer_init(&(*out)->waiting, (size_t)256 << 20);
    atomic_init(&(*out)->references, 1);
    return FT_OK;
}

void ft_stream_release(ft_stream *s)
{
    if (!s || atomic_fetch_sub(&s->references, 1) > 1)
        return;
    pthread_mutex_destroy(&s->lock);
    ft_buffer_release(&s->waiting);
    free(s);
}

/* With the lock held: the reader has something to do. */
static void wake(ft_stream *s)
{
    if (s->suspended) {
        s->suspended = 0;
        MHD_resume_connection(s->connection);
    }
}

/* With the lock held: whoever waits for room goes on, when there is some or will never be. */
static void wake_writer(ft_stream *s)
{
    ft_work *writer = s->writer;
    if (!writer || (s->waiting.size - s->read > FT_STREAM_ROOM && !s->left && !s->ended))
        return;
    s->writer = NULL;
    ft_work_push(s->server, writer);
}

void ft_stream_when_room(ft_stream *s, ft_server *server, ft_work *writer)
{
    atomic_fetch_add(&s->references, 1); /* the writer may be done, and gone with its own, before we are */
    pthread_mutex_lock(&s->lock);
    s->server = server;
    s->writer = writer;
    wake_writer(s);
    pthread_mutex_unlock(&s->lock);
    ft_stream_release(s);
}

ft_code ft_stream_write(ft_stream *s, const char *bytes, size_t n, ft_status *st)
{
    pthread_mutex_lock(&s->lock);
    ft_code rc = FT_OK;
    const size_t behind = s->waiting.size - s->read;
    if (!behind)
        s->moved = ft_seconds_now();
    if (s->read > behind) { /* what went out makes room */
        memmove(s->waiting.data, s->waiting.data + s->read, behind);
        s->waiting.size = behind;
        s->read = 0;
    }
    if (!s->ended && behind > FT_STREAM_BEHIND && ft_seconds_now() - s->moved > FT_STREAM_SECONDS)
        rc = ft_fail(st, FT_ERR_LIMIT, "the client is %zu bytes behind", behind);
    else if (!s->ended)
        rc = ft_buffer_append(&s->waiting, bytes, n, st);
    wake(s);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

void ft_stream_trailer(ft_stream *s, const char *name, const char *value)
{
    pthread_mutex_lock(&s->lock);
    if (*value && s->trailer_count < sizeof(s->trailers) / sizeof(*s->trailers)) {
        s->trailers[s->trailer_count].name = name;
        snprintf(s->trailers[s->trailer_count++].value, FT_TRACE_ID, "%s", value);
    }
    pthread_mutex_unlock(&s->lock);
}

int ft_stream_stalled(ft_stream *s, double now, double seconds)
{
    pthread_mutex_lock(&s->lock);
    const int stalled = s->waiting.size > s->read && now - s->moved > seconds;
    pthread_mutex_unlock(&s->lock);
    return stalled;
}

void ft_stream_end(ft_stream *s, int broken)
{
    pthread_mutex_lock(&s->lock);
    s->ended = 1;
    s->broken |= broken;
    wake(s);
    wake_writer(s);
    pthread_mutex_unlock(&s->lock);
}

/* libmicrohttpd asks for bytes. Returning 0 with the connection suspended makes it
 * wait; the lock is held, so that no writer resumes it before it is. */
static ssize_t read_stream(void *context, uint64_t at, char *to, size_t room)
{
    ft_stream *s = context;
    (void)at;
    pthread_mutex_lock(&s->lock);
    const size_t left = s->waiting.size - s->read;
    ssize_t got = (ssize_t)(left < room ? left : room);
    if (left) {
        memcpy(to, s->waiting.data + s->read, (size_t)got);
        s->read += (size_t)got;
        s->moved = ft_seconds_now();
        if (s->read == s->waiting.size) {
            ft_buffer_reset(&s->waiting);
            s->read = 0;
        }
        wake_writer(s);
    } else if (s->ended) {
        for (unsigned i = 0; i < s->trailer_count; i++) /* libmicrohttpd reads them when the body has ended */
            (void)MHD_add_response_footer(s->response, s->trailers[i].name, s->trailers[i].value);
        s->trailer_count = 0;
        got = s->broken ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        s->suspended = 1;
        MHD_suspend_connection(s->connection);
    }
    pthread_mutex_unlock(&s->lock);
    return got;
}

static void forget_stream(void *context)
{
    ft_stream *s = context;
    pthread_mutex_lock(&s->lock);
    s->left = 1;
    wake_writer(s);
    pthread_mutex_unlock(&s->lock);
    ft_stream_release(s);
}

void ft_answer_stream(ft_request *q, const char *type, ft_stream *stream)
{
    if (q->answered)
        return;
    stream->connection = q->connection;
    atomic_fetch_add(&stream->references, 1);
    q->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, stream, forget_stream);
    q->status = 200;
    q->answered = q->streams = 1;
    if (!q->response) {
        ft_stream_release(stream);
        return;
    }
    stream->response = q->response;
    ft_answer_header(q, "Content-Type", type);
    ft_answer_header(q, "Cache-Control", "no-cache");
    ft_answer_header(q, "X-Accel-Buffering", "no");
}
