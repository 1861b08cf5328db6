#include "tests/ft_test_http.h"

#include "base/ft_file.h"
#include "index/ft_index_build.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

const char ft_test_scripture[] = "In the beginning God created the heaven and the earth";
const char ft_test_public[] = "The manual page describes every option of the command in turn";

static void build_index(const char *owner, const char *rows)
{
    char name[64];
    snprintf(name, sizeof(name), "%s.jsonl", owner);
    const char *corpus = ft_test_write(name, rows, strlen(rows));
    snprintf(name, sizeof(name), "%s.index", owner);
    const ft_index_build_options how = {.tokenizer = ft_test_source("demo/model"), .owner = owner, .threads = 1};
    ft_index_build_report report;
    ft_status st = {0};
    assert_ok(ft_index_build(ft_test_path(name), &corpus, 1, &how, &report, &st), st);
}

const char *ft_test_federation(const char *more)
{
    static int built;
    char rows[2000], yaml[4000];
    if (!ft_path_exists(ft_test_source("demo/model/model.safetensors")))
        return NULL;
    if (!built) {
        snprintf(rows, sizeof(rows),
                 "{\"id\":\"gen-1\",\"text\":\"%s. And the earth was without form, and void.\",\"source\":\"Genesis "
                 "1\"}\n{\"id\":\"gen-2\",\"text\":\"Thus the heavens and the earth were finished. <script>alert(1)"
                 "</script>\"}\n",
                 ft_test_scripture);
        build_index("scripture", rows);
        snprintf(rows, sizeof(rows),
                 "{\"id\":\"man-1\",\"text\":\"%s.\"}\n{\"id\":\"man-2\",\"text\":\"See also the "
                 "other manual pages.\"}\n",
                 ft_test_public);
        build_index("public", rows);
        build_index("dictionary", "{\"id\":\"d-1\",\"text\":\"Heaven: the place above. Earth: the place below.\"}\n");
        built = 1;
    }
    snprintf(yaml, sizeof(yaml),
             "name: test\nlisten: 127.0.0.1:0\nmodel: %s\nstore: store\nowners:\n"
             "  - {name: public, expert: 0, index: [public.index], description: manual pages}\n"
             "  - {name: scripture, expert: 1, index: [scripture.index], description: Genesis}\n"
             "  - {name: dictionary, expert: 2, index: [dictionary.index]}\n%s",
             ft_test_source("demo/model"), more);
    return ft_test_write("federation.yaml", yaml, strlen(yaml));
}

ft_federation *federation;
ft_server *server;
const char *at;

void start_server(const char *more)
{
    ft_status st = {0};
    assert_ok(ft_federation_open(&federation, ft_test_federation(more), &st), st);
    assert_ok(ft_server_start(&server, federation, &(ft_server_options){.threads = 1}, &st), st);
    at = ft_server_address(server);
}

void stop_server(void)
{
    ft_server_stop(server, 5);
    ft_federation_close(federation);
    server = NULL;
    federation = NULL;
}

int open_all(void **state)
{
    (void)state;
    if (ft_test_federation(""))
        start_server("");
    return 0;
}

int close_all(void **state)
{
    (void)state;
    if (server)
        stop_server();
    return 0;
}

/* --- The client ------------------------------------------------------------------ */

void ft_reply_release(ft_reply *r)
{
    free(r->headers);
    free(r->body);
    memset(r, 0, sizeof(*r));
}

const char *ft_reply_header(const ft_reply *r, const char *name)
{
    static _Thread_local char value[2000];
    const size_t n = strlen(name);
    for (const char *line = r->headers; line; line = strstr(line, "\r\n")) {
        line += !strncmp(line, "\r\n", 2) ? 2 : 0;
        if (!strncasecmp(line, name, n) && line[n] == ':') {
            line += n + 1;
            line += strspn(line, " ");
            snprintf(value, sizeof(value), "%.*s", (int)strcspn(line, "\r"), line);
            return value;
        }
    }
    return NULL;
}

json_t *ft_reply_json(const ft_reply *r)
{
    json_error_t e;
    json_t *v = json_loadb(r->body ? r->body : "", r->size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!v)
        fail_msg("not JSON (%s): %.200s", e.text, r->body ? r->body : "");
    return v;
}

int ft_http_connect(const char *address)
{
    char host[64];
    unsigned port;
    struct sockaddr_in to = {.sin_family = AF_INET};
    assert_int_equal(sscanf(address, "http://%63[0-9.]:%u", host, &port), 2);
    to.sin_port = htons((uint16_t)port);
    assert_int_equal(inet_pton(AF_INET, host, &to.sin_addr), 1);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval patience = {.tv_sec = 120}; /* a hang is a failure, not a hang */
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

void ft_http_send(int fd, const char *bytes, size_t n)
{
    while (n) {
        const ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the server closed: what it answered tells */
        bytes += sent;
        n -= (size_t)sent;
    }
}

/* Joins the chunks of a body in place; what stands behind the last, empty one when that came, else NULL. */
static const char *join_chunks(char *body, size_t *size)
{
    char *from = body, *to = body, *end = body + *size;
    for (;;) {
        char *line = memmem(from, (size_t)(end - from), "\r\n", 2);
        const size_t n = line ? strtoul(from, NULL, 16) : 0;
        const int last = line && n == 0;
        if (!line || last || line + 2 + n + 2 > end) {
            *size = (size_t)(to - body);
            *to = '\0';
            return last ? line + 2 : NULL;
        }
        memmove(to, line + 2, n);
        to += n;
        from = line + 2 + n + 2;
    }
}

ft_reply ft_http_read(int fd)
{
    ft_reply r = {0};
    ft_buffer all = {0};
    char piece[65536];
    ssize_t got;
    while ((got = recv(fd, piece, sizeof(piece), 0)) > 0)
        assert_int_equal(ft_buffer_append(&all, piece, (size_t)got, NULL), FT_OK);
    close(fd);
    char *head_end = all.data ? strstr(all.data, "\r\n\r\n") : NULL;
    while (head_end && !strncmp(all.data, "HTTP/1.1 100", 12)) { /* an interim answer */
        memmove(all.data, head_end + 4, all.size - (size_t)(head_end + 4 - all.data) + 1);
        all.size -= (size_t)(head_end + 4 - all.data);
        head_end = strstr(all.data, "\r\n\r\n");
    }
    if (head_end && sscanf(all.data, "HTTP/1.%*c %d", &r.status) == 1) {
        r.headers = strndup(all.data, (size_t)(head_end - all.data));
        r.size = all.size - (size_t)(head_end + 4 - all.data);
        r.body = calloc(1, r.size + 1);
        assert_true(r.headers && r.body);
        memcpy(r.body, head_end + 4, r.size);
        const char *declared = ft_reply_header(&r, "Content-Length");
        if (ft_reply_header(&r, "Transfer-Encoding")) {
            const char *trailers = join_chunks(r.body, &r.size);
            char *head = r.headers;
            r.complete = trailers != NULL;
            assert_true(asprintf(&r.headers, "%s\r\n%s", head, trailers ? trailers : "") > 0);
            free(head);
        } else
            r.complete = !declared || strtoul(declared, NULL, 10) == r.size;
    }
    ft_buffer_release(&all);
    return r;
}

ft_reply ft_http(const char *address, const char *method, const char *path, const char *headers, const char *body)
{
    char *head;
    const int fd = ft_http_connect(address);
    const int typed = headers && strcasestr(headers, "content-type:");
    const int hosted = headers && (!strncasecmp(headers, "host:", 5) || strcasestr(headers, "\nhost:"));
    char length[64] = "";
    if (body)
        snprintf(length, sizeof(length), "Content-Length: %zu\r\n", strlen(body));
    assert_true(asprintf(&head, "%s %s HTTP/1.1\r\n%s%s%s%s%sConnection: close\r\n\r\n", method, path,
                         hosted ? "" : "Host: localhost\r\n",
                         body && !typed ? "Content-Type: application/json\r\n" : "", length, headers ? headers : "",
                         "") > 0);
    ft_http_send(fd, head, strlen(head));
    if (body)
        ft_http_send(fd, body, strlen(body));
    free(head);
    return ft_http_read(fd);
}

json_t *ft_http_json(const char *address, const char *method, const char *path, const char *body, int status)
{
    ft_reply r = ft_http(address, method, path, NULL, body);
    if (r.status != status)
        fail_msg("%s %s: status %d, not %d: %.300s", method, path, r.status, status, r.body ? r.body : "");
    json_t *v = ft_reply_json(&r);
    ft_reply_release(&r);
    return v;
}

const char *text_at(const json_t *v, const char *a)
{
    return json_string_value(json_object_get(v, a));
}
