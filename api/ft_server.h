/* ft_server: the HTTP service of one federation (libmicrohttpd): the page, the
 * OpenAI face, traces, and infini-gram's faces. docs/http.md describes the routes.
 *
 * Threads  the server runs its own; start, stop and close from one thread. */
#ifndef FT_SERVER_H
#define FT_SERVER_H
#include "tracer/ft_federation.h"
#include "tracer/ft_store.h"

FT_API_BEGIN

typedef struct ft_server ft_server;

typedef struct ft_server_options {
    const char *listen;            /* "ADDR:PORT"; NULL: the federation's. Port 0 takes a free one */
    const char *web_folder;        /* the page's files; NULL: those compiled in */
    const char *example;           /* text file that the page opens with; NULL: none */
    const char *chat_template;     /* name of one; NULL: the federation's, else the checkpoint's */
    unsigned threads;              /* of the model; 0: all */
    const char *compute, *kv_type; /* names, as ft_engine.h has them; NULL: the federation's */
    size_t kv_bytes;               /* key-value memory; 0: the federation's */
    void (*log)(void *context, const char *line);
    void *log_context;
} ft_server_options;

/* Listens at once and answers when it returns: until then /livez says 200, /health, /readyz and all else 503. The
 * federation must outlive the server. */
FT_CHECKED ft_code ft_server_start(ft_server **out, ft_federation *f, const ft_server_options *o, ft_status *st);
const char *ft_server_address(const ft_server *s); /* "http://127.0.0.1:8080", the port that was taken */
/* /readyz answers 503 from now on, no new work is taken, running requests get
 * `grace_seconds` to end; then all is closed. */
void ft_server_stop(ft_server *s, unsigned grace_seconds);

FT_API_END
#endif
