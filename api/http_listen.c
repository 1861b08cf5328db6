/* Where the server listens, and whom it takes for a stranger. */
#include "api/http_internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* "ADDR:PORT", "[ADDR6]:PORT" or ":PORT" (loopback) to host and port. */
static ft_code split_address(const char *where, char *host, size_t host_size, char port[8], ft_status *st)
{
    const char *colon = strrchr(where, ':');
    if (!colon || colon[1] == '\0' || strlen(colon + 1) > 5 || colon[1 + strspn(colon + 1, "0123456789")] ||
        atoi(colon + 1) > 65535)
        return ft_fail(st, FT_ERR_ARG, "listen '%.80s': must be ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080",
                       where);
    size_t n = (size_t)(colon - where);
    if (n >= 2 && where[0] == '[' && where[n - 1] == ']') {
        where++;
        n -= 2;
    }
    if (n >= host_size)
        return ft_fail(st, FT_ERR_ARG, "listen '%.80s': the address is too long", where);
    snprintf(host, host_size, "%.*s", (int)n, where);
    if (n == 0)
        snprintf(host, host_size, "127.0.0.1");
    snprintf(port, 8, "%s", colon + 1);
    return FT_OK;
}

static int is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24) == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static ft_code bind_socket(int fd, const struct addrinfo *a, const char *where, ft_status *st)
{
    const int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, 128) != 0)
        return ft_fail(st, FT_ERR_IO, "listen %s: %s%s", where, strerror(errno),
                       errno == EADDRINUSE ? "; another program has this port: stop it or name another with --listen"
                                           : "");
    return FT_OK;
}

ft_code ft_listen_open(const char *where, int *fd, char *address, size_t address_size, int *loopback, ft_status *st)
{
    char host[256], port[8];
    *fd = -1;
    ft_code rc = split_address(where, host, sizeof(host), port, st);
    if (rc)
        return rc;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    const int e = getaddrinfo(host, port, &hints, &found);
    if (e)
        return ft_fail(st, FT_ERR_ARG, "listen %s: %s", where, gai_strerror(e));
    *fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    rc = *fd < 0 ? ft_fail(st, FT_ERR_IO, "listen %s: %s", where, strerror(errno)) : bind_socket(*fd, found, where, st);
    struct sockaddr_storage taken = {0};
    socklen_t n = sizeof(taken);
    if (!rc && getsockname(*fd, (struct sockaddr *)&taken, &n) != 0)
        rc = ft_fail(st, FT_ERR_IO, "listen %s: %s", where, strerror(errno));
    if (!rc && getnameinfo((struct sockaddr *)&taken, n, host, sizeof(host), port, sizeof(port),
                           NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        rc = ft_fail(st, FT_ERR_IO, "listen %s: the address taken cannot be read", where);
    if (!rc) {
        snprintf(address, address_size, taken.ss_family == AF_INET6 ? "http://[%s]:%s" : "http://%s:%s", host, port);
        *loopback = is_loopback(&taken);
    } else if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    freeaddrinfo(found);
    return rc;
}

/* "localhost:8080", "[::1]": names that only this machine answers to. */
static int names_loopback(const char *authority)
{
    char host[64];
    size_t n;
    if (authority[0] == '[') {
        const char *end = strchr(authority, ']');
        n = end ? (size_t)(end - authority) + 1 : strlen(authority);
    } else {
        n = strcspn(authority, ":");
    }
    const char *rest = authority + n;
    if (n >= sizeof(host) || (rest[0] && (rest[0] != ':' || rest[1 + strspn(rest + 1, "0123456789")])))
        return 0;
    snprintf(host, sizeof(host), "%.*s", (int)n, authority);
    const size_t tail = strlen(".localhost");
    unsigned a, b, c, d;
    char more;
    return !strcasecmp(host, "localhost") || !strcmp(host, "[::1]") ||
           (n > tail && !strcasecmp(host + n - tail, ".localhost")) ||
           (sscanf(host, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &more) == 4 && a == 127 && b < 256 && c < 256 && d < 256);
}

int ft_host_allowed(const char *host, const char *origin, const char **what)
{
    *what = "Host";
    if (host && !names_loopback(host))
        return 0;
    *what = "Origin";
    if (!origin)
        return 1;
    const char *authority = strstr(origin, "://");
    return authority && names_loopback(authority + 3);
}
