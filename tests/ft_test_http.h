/* ft_test_http: a small federation on the demo model, and a plain HTTP/1.1 client
 * over sockets, so that a test decides what is sent and when. */
#ifndef FT_TEST_HTTP_H
#define FT_TEST_HTTP_H
#include "api/ft_server.h"
#include "tests/ft_test.h"

#include <jansson.h>

/* Builds the owners' indexes and a federation.yaml in the test's fresh folder and
 * returns its path; `more` is appended to the file (limits…; may be ""). NULL when the
 * demo model is not there. The owners are "public" (expert 0), "scripture" (1) and
 * "dictionary" (2); the experts beyond have no owner. */
const char *ft_test_federation(const char *more);
/* What stands in scripture's and in public's documents, word for word. */
extern const char ft_test_scripture[], ft_test_public[];

/* That federation opened and served on a free port, with one thread for the model;
 * one at a time. `server` is NULL while there is none. */
extern ft_federation *federation;
extern ft_server *server;
extern const char *at; /* its address */
void start_server(const char *more);
void stop_server(void);
/* A group's set-up (nothing added to the file) and end; without the demo model no server. */
int open_all(void **state);
int close_all(void **state);

/* Skips where the demo model is not there. */
#define need_server()                                                                                                  \
    do {                                                                                                               \
        if (!server)                                                                                                   \
            skip();                                                                                                    \
    } while (0)

typedef struct ft_reply {
    int status;    /* 0: no answer */
    char *headers; /* status line and headers, those behind a chunked body included */
    char *body;    /* chunks joined */
    size_t size;
    int complete; /* the body came to its declared end */
} ft_reply;
void ft_reply_release(ft_reply *r);
/* Value of a header, in one buffer of the thread; NULL: absent. */
const char *ft_reply_header(const ft_reply *r, const char *name);
/* The body as JSON; fails the test where it is none. The caller drops the reference. */
json_t *ft_reply_json(const ft_reply *r);

/* address: "http://HOST:PORT" */
int ft_http_connect(const char *address);
void ft_http_send(int fd, const char *bytes, size_t n);
ft_reply ft_http_read(int fd); /* until the other end closes; closes fd */
/* One exchange; headers NULL or "Name: value\r\n…"; body NULL: none, else sent as JSON. */
ft_reply ft_http(const char *address, const char *method, const char *path, const char *headers, const char *body);
/* The answer's JSON, with its status asserted. */
json_t *ft_http_json(const char *address, const char *method, const char *path, const char *body, int status);

/* A string member of an object; NULL where it is none. */
const char *text_at(const json_t *v, const char *a);

#endif
