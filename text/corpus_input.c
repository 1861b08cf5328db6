#include "text/corpus_input.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum { BLOCK = 128 * 1024, ROOM = 256 * 1024 };

typedef struct file_state {
    int fd;
    uint64_t *read_bytes;
} file_state;

typedef struct memory_state {
    const char *at;
    size_t left;
} memory_state;

/* Compressed bytes not yet used: block[from, to). */
typedef struct inflow {
    size_t from, to;
    int inside; /* a member or frame has begun and not ended */
    int any;    /* one has been read whole */
    char block[BLOCK];
} inflow;

typedef struct gzip_state {
    z_stream z;
    inflow in;
} gzip_state;

typedef struct zstd_state {
    ZSTD_DCtx *context;
    inflow in;
} zstd_state;

ft_code ft_input_new(ft_input **out, ft_input *below, const char *name, size_t state_bytes, ft_status *st)
{
    ft_input *s = calloc(1, sizeof(*s));
    void *state = calloc(1, state_bytes);
    *out = s;
    if (s && state) {
        *s = (ft_input){.name = name, .below = below, .state = state};
        return FT_OK;
    }
    *out = NULL;
    free(s);
    free(state);
    ft_input_close(below);
    return ft_fail(st, FT_ERR_MEM, "%s: out of memory", name);
}

ft_code ft_input_read(ft_input *s, void *to, size_t size, size_t *got, ft_status *st)
{
    *got = 0;
    return s->read(s, to, size, got, st);
}

ft_code ft_input_too_large(uint64_t most, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "larger than the limit of %" PRIu64 " bytes a document", most);
}

ft_code ft_input_read_all(ft_input *s, ft_buffer *out, uint64_t most, ft_status *st)
{
    ft_buffer_reset(out);
    for (;;) {
        size_t got;
        ft_code rc = ft_buffer_reserve(out, ROOM, st);
        if (!rc)
            rc = ft_input_read(s, out->data + out->size, ROOM, &got, st);
        if (rc)
            return rc;
        out->size += got;
        out->data[out->size] = '\0';
        if (got == 0)
            return FT_OK;
        if (out->size > most) {
            rc = ft_input_too_large(most, st);
            ft_status_prefix(st, "%s", s->name);
            return rc;
        }
    }
}

void ft_input_close(ft_input *s)
{
    while (s) {
        ft_input *below = s->below;
        if (s->release)
            s->release(s);
        free(s->state);
        free(s);
        s = below;
    }
}

/* ---- a file ----------------------------------------------------------- */

static ft_code read_file(ft_input *s, void *to, size_t size, size_t *got, ft_status *st)
{
    file_state *f = s->state;
    ssize_t n;
    do
        n = read(f->fd, to, size);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return ft_fail(st, FT_ERR_IO, "%s: cannot read: %s", s->name, strerror(errno));
    *got = (size_t)n;
    *f->read_bytes += (uint64_t)n;
    return FT_OK;
}

static void close_file(ft_input *s)
{
    close(((file_state *)s->state)->fd);
}

ft_code ft_input_open(ft_input **out, const char *path, const char *name, uint64_t *read_bytes, ft_status *st)
{
    const ft_code rc = ft_input_new(out, NULL, name, sizeof(file_state), st);
    if (rc)
        return rc;
    ft_input *s = *out;
    file_state *f = s->state;
    s->read = read_file;
    f->read_bytes = read_bytes;
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0) {
        const int e = errno;
        ft_input_close(s);
        *out = NULL;
        return ft_fail(st, e == ENOENT ? FT_ERR_NOT_FOUND : FT_ERR_IO, "%s: cannot open: %s", name, strerror(e));
    }
    s->release = close_file;
    return FT_OK;
}

static ft_code read_memory(ft_input *s, void *to, size_t size, size_t *got, ft_status *st)
{
    (void)st;
    memory_state *m = s->state;
    const size_t n = size < m->left ? size : m->left;
    if (n)
        memcpy(to, m->at, n);
    m->at += n;
    m->left -= n;
    *got = n;
    return FT_OK;
}

ft_code ft_input_memory(ft_input **out, const void *bytes, size_t n, const char *name, ft_status *st)
{
    const ft_code rc = ft_input_new(out, NULL, name, sizeof(memory_state), st);
    if (rc)
        return rc;
    (*out)->read = read_memory;
    *(memory_state *)(*out)->state = (memory_state){bytes, n};
    return FT_OK;
}

/* ---- what both decompressors do --------------------------------------- */

/* Compressed bytes to work on, unless there are some; *end at the end of input. */
static ft_code fill(ft_input *s, inflow *in, int *end, ft_status *st)
{
    *end = 0;
    if (in->from < in->to)
        return FT_OK;
    in->from = in->to = 0;
    const ft_code rc = ft_input_read(s->below, in->block, BLOCK, &in->to, st);
    *end = !rc && in->to == 0;
    return rc;
}

/* The input ended: fine between two members, not within one. */
static ft_code at_end(const ft_input *s, const inflow *in, const char *format, ft_status *st)
{
    if (in->inside || !in->any)
        return ft_fail(st, FT_ERR_FORMAT, "%s: the %s data is cut off", s->name, format);
    return FT_OK;
}

/* ---- gzip ------------------------------------------------------------- */

/* Between members: zeros may fill up the file, as tape drives leave them. */
static ft_code begin_member(ft_input *s, gzip_state *g, ft_status *st)
{
    inflow *in = &g->in;
    while (in->any && in->from < in->to && in->block[in->from] == '\0')
        in->from++;
    if (in->from == in->to)
        return FT_OK;
    if (in->any && in->block[in->from] != '\x1f')
        return ft_fail(st, FT_ERR_FORMAT, "%s: other bytes after the gzip data", s->name);
    if (in->any && inflateReset(&g->z) != Z_OK)
        return ft_fail(st, FT_ERR_FORMAT, "%s: gzip data cannot be restarted", s->name);
    in->inside = 1;
    return FT_OK;
}

static ft_code read_gzip(ft_input *s, void *to, size_t size, size_t *got, ft_status *st)
{
    gzip_state *g = s->state;
    inflow *in = &g->in;
    const uInt room = size > 1u << 30 ? 1u << 30 : (uInt)size;
    g->z.next_out = to;
    g->z.avail_out = room;
    while (g->z.avail_out == room) {
        int end;
        ft_code rc = fill(s, in, &end, st);
        if (rc)
            return rc;
        if (end)
            return at_end(s, in, "gzip", st);
        if (!in->inside && (rc = begin_member(s, g, st)) != FT_OK)
            return rc;
        if (!in->inside)
            continue;
        g->z.next_in = (Bytef *)in->block + in->from;
        g->z.avail_in = (uInt)(in->to - in->from);
        const int z = inflate(&g->z, Z_NO_FLUSH);
        in->from = in->to - g->z.avail_in;
        if (z == Z_STREAM_END) {
            in->inside = 0;
            in->any = 1;
        } else if (z == Z_MEM_ERROR) {
            return ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->name);
        } else if (z != Z_OK && z != Z_BUF_ERROR) {
            return ft_fail(st, FT_ERR_FORMAT, "%s: not sound gzip data: %s", s->name, g->z.msg ? g->z.msg : "damaged");
        }
    }
    *got = room - g->z.avail_out;
    return FT_OK;
}

static void close_gzip(ft_input *s)
{
    inflateEnd(&((gzip_state *)s->state)->z);
}

ft_code ft_input_gunzip(ft_input **out, ft_input *below, const char *name, ft_status *st)
{
    const ft_code rc = ft_input_new(out, below, name, sizeof(gzip_state), st);
    if (rc)
        return rc;
    ft_input *s = *out;
    s->read = read_gzip;
    if (inflateInit2(&((gzip_state *)s->state)->z, 15 + 16 /* gzip alone */) != Z_OK) {
        ft_input_close(s);
        *out = NULL;
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", name);
    }
    s->release = close_gzip;
    return FT_OK;
}

/* ---- zstd ------------------------------------------------------------- */

/* zstd refuses windows above 128 MiB (zstd --long=28 and more) of itself, which bounds memory. */
static ft_code read_zstd(ft_input *s, void *to, size_t size, size_t *got, ft_status *st)
{
    zstd_state *z = s->state;
    inflow *in = &z->in;
    ZSTD_outBuffer o = {to, size, 0};
    while (o.pos == 0) {
        int end;
        const ft_code rc = fill(s, in, &end, st);
        if (rc)
            return rc;
        /* At the end of input decoded bytes may still wait inside: an empty input asks for them. */
        ZSTD_inBuffer i = {in->block, in->to, in->from};
        if (end && !in->inside)
            return at_end(s, in, "zstd", st);
        const size_t left = ZSTD_decompressStream(z->context, &o, &i);
        in->from = i.pos;
        if (ZSTD_isError(left))
            return ft_fail(st, ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation ? FT_ERR_MEM : FT_ERR_FORMAT,
                           "%s: not sound zstd data: %s", s->name, ZSTD_getErrorName(left));
        in->inside = left != 0;
        in->any |= left == 0;
        if (end && o.pos == 0)
            return at_end(s, in, "zstd", st);
    }
    *got = o.pos;
    return FT_OK;
}

static void close_zstd(ft_input *s)
{
    ZSTD_freeDCtx(((zstd_state *)s->state)->context);
}

ft_code ft_input_unzstd(ft_input **out, ft_input *below, const char *name, ft_status *st)
{
    const ft_code rc = ft_input_new(out, below, name, sizeof(zstd_state), st);
    if (rc)
        return rc;
    ft_input *s = *out;
    zstd_state *z = s->state;
    s->read = read_zstd;
    z->context = ZSTD_createDCtx();
    if (!z->context) {
        ft_input_close(s);
        *out = NULL;
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", name);
    }
    s->release = close_zstd;
    return FT_OK;
}
