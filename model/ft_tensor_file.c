#define _GNU_SOURCE
#include "model/ft_tensor_file.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ALIGNMENT = 4096, SYNC_BYTES = 64 << 20 };

static ft_code fail_errno(ft_status *st, const char *path, const char *doing)
{
    const int e = errno;
    return ft_fail(st, e == ENOMEM ? FT_ERR_MEM : FT_ERR_IO, "%s: cannot %s: %s", path, doing, strerror(e));
}

/* --- The header ------------------------------------------------------------------ */

static ft_code put_digest(ft_buffer *b, const char *kind, const char *name, const ft_digest *d, ft_status *st)
{
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(d, hex);
    return ft_buffer_printf(b, st, ",\"%s:%s\":\"%s\"", kind, name, hex);
}

/* Two tensors in a row may be made of the same one. */
static int same_source(const ft_tensor_spec *s, size_t i)
{
    return !s[i].source || (i > 0 && s[i - 1].source && !strcmp(s[i].source, s[i - 1].source));
}

/* Its length does not depend on the digests. Names come out of JSON that was checked;
 * those that would need escapes are refused by ft_tensor_file_open. */
static ft_code write_header(const ft_tensor_file *f, ft_buffer *b, ft_status *st)
{
    ft_code rc = ft_buffer_append(b, "\0\0\0\0\0\0\0\0", 8, st);
    if (!rc)
        rc = ft_buffer_append_str(b, "{\"__metadata__\":{\"format\":\"pt\"", st);
    for (size_t i = 0; i < f->count && !rc; i++) {
        const ft_tensor_spec *s = &f->specs[i];
        rc = put_digest(b, "sha256", s->name, &s->digest, st);
        if (!rc && !same_source(f->specs, i))
            rc = put_digest(b, "source_sha256", s->source, &s->source_digest, st);
    }
    if (!rc)
        rc = ft_buffer_append_str(b, "}", st);
    for (size_t i = 0; i < f->count && !rc; i++) {
        const ft_tensor_spec *s = &f->specs[i];
        rc = ft_buffer_printf(b, st, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", s->name, s->dtype);
        for (unsigned d = 0; d < s->dims && !rc; d++)
            rc = ft_buffer_printf(b, st, "%s%zu", d ? "," : "", s->shape[d]);
        if (!rc)
            rc = ft_buffer_printf(b, st, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", s->offset,
                                  s->offset + s->bytes);
    }
    if (!rc)
        rc = ft_buffer_append_str(b, "}", st);
    while (!rc && b->size % ALIGNMENT)
        rc = ft_buffer_append(b, " ", 1, st);
    for (int i = 0; i < 8 && !rc; i++)
        b->data[i] = (char)((b->size - 8) >> 8 * i);
    return rc;
}

/* --- The journal -------------------------------------------------------------------
 *
 *   flextrace HEX           the work
 *   I HEX HEX               tensor I is whole: its digest, and that of its source */

/* What the journal says about this work; anything else in it counts as nothing. */
static int read_journal(ft_tensor_file *f, const char *work)
{
    ft_buffer text = {0};
    char first[FT_DIGEST_HEX + 12];
    snprintf(first, sizeof(first), "flextrace %s\n", work);
    int ours = 0;
    if (ft_file_read(f->journal, 0, &text, NULL) == FT_OK && text.size >= strlen(first))
        ours = !strncmp(text.data, first, strlen(first));
    for (char *line = ours ? text.data + strlen(first) : NULL; line && *line;) {
        char *end = strchr(line, '\n');
        size_t i;
        char a[FT_DIGEST_HEX], b[FT_DIGEST_HEX];
        ft_digest digest, source;
        if (!end || sscanf(line, "%zu %64s %64s", &i, a, b) != 3 || i >= f->count ||
            ft_digest_parse(&digest, a, NULL) || ft_digest_parse(&source, b, NULL))
            break; /* cut off in the middle of a line */
        f->specs[i].digest = digest;
        f->specs[i].source_digest = source;
        f->specs[i].done = 1;
        line = end + 1;
    }
    ft_buffer_release(&text);
    return ours;
}

static ft_code append_journal(ft_tensor_file *f, const char *text, ft_status *st)
{
    const size_t n = strlen(text);
    if (write(f->journal_fd, text, n) != (ssize_t)n || fdatasync(f->journal_fd) != 0)
        return fail_errno(st, f->journal, "write");
    return FT_OK;
}

/* Data first, then the word that it is there. */
static ft_code flush_pending(ft_tensor_file *f, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = fdatasync(f->fd) == 0 ? FT_OK : fail_errno(st, f->part, "sync");
    for (size_t i = 0; i < f->pending_count && !rc; i++) {
        const ft_tensor_spec *s = &f->specs[f->pending[i]];
        char digest[FT_DIGEST_HEX], source[FT_DIGEST_HEX];
        ft_digest_hex(&s->digest, digest);
        ft_digest_hex(&s->source_digest, source);
        rc = ft_buffer_printf(&text, st, "%zu %s %s\n", f->pending[i], digest, source);
    }
    if (!rc && text.size)
        rc = append_journal(f, text.data, st);
    if (!rc)
        f->pending_count = f->since_sync = 0;
    ft_buffer_release(&text);
    return rc;
}

/* --- Opening ----------------------------------------------------------------------- */

/* Whether the finished file at `path` holds what we would write. */
static int is_finished(const ft_tensor_file *f)
{
    ft_weights *w;
    if (!ft_path_exists(f->path) || ft_weights_open_file(&w, f->path, NULL))
        return 0;
    size_t n;
    ft_weights_tensors(w, &n);
    int same = n == f->count;
    for (size_t i = 0; i < f->count && same; i++) {
        const ft_tensor_spec *s = &f->specs[i];
        const ft_tensor *t = ft_weights_find(w, s->name);
        same = s->done && t && !strcmp(t->dtype, s->dtype) && t->bytes == s->bytes;
    }
    ft_weights_close(w);
    return same;
}

static ft_code start(ft_tensor_file *f, const char *work, ft_status *st)
{
    ft_buffer header = {0};
    ft_code rc = write_header(f, &header, st);
    f->data_at = header.size;
    ft_buffer_release(&header);
    if (rc)
        return rc;
    const int ours = read_journal(f, work);
    f->finished = ours && is_finished(f);
    if (f->finished)
        return FT_OK;
    const int go_on = ours && ft_path_exists(f->part);
    for (size_t i = 0; i < f->count && !go_on; i++)
        f->specs[i].done = 0;
    f->fd = open(f->part, O_RDWR | O_CREAT | O_CLOEXEC | (go_on ? 0 : O_TRUNC), 0666);
    if (f->fd < 0)
        return fail_errno(st, f->part, "create");
    f->journal_fd = open(f->journal, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (f->journal_fd < 0)
        return fail_errno(st, f->journal, "create");
    char first[FT_DIGEST_HEX + 12];
    snprintf(first, sizeof(first), "flextrace %s\n", work);
    rc = append_journal(f, first, st);
    for (size_t i = 0; i < f->count; i++) /* written anew: its last line may have been cut off */
        if (f->specs[i].done)
            f->pending[f->pending_count++] = i;
    return rc ? rc : flush_pending(f, st);
}

/* Header texts are written without escapes. */
static int is_plain(const char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name < 0x20 || *name == '"' || *name == '\\')
            return 0;
    return 1;
}

ft_code ft_tensor_file_open(ft_tensor_file *f, const char *path, ft_tensor_spec *specs, size_t count,
                            const ft_digest *work, ft_status *st)
{
    *f = (ft_tensor_file){.specs = specs, .count = count, .fd = -1, .journal_fd = -1};
    uint64_t at = 0;
    ft_code rc = FT_OK;
    for (size_t i = 0; i < count && !rc; i++) {
        specs[i].offset = at;
        at += specs[i].bytes;
        if (!is_plain(specs[i].name) || (specs[i].source && !is_plain(specs[i].source)))
            rc = ft_fail(st, FT_ERR_UNSUPPORTED, "%s: tensor %.120s: its name has quotes or control characters", path,
                         specs[i].name);
    }
    f->path = strdup(path);
    if (asprintf(&f->part, "%s.part", path) < 0)
        f->part = NULL;
    if (asprintf(&f->journal, "%s.journal", path) < 0)
        f->journal = NULL;
    f->pending = ft_alloc_array(count, sizeof(*f->pending));
    if (!rc && (!f->path || !f->part || !f->journal || !f->pending))
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(work, hex);
    if (!rc)
        rc = start(f, hex, st);
    if (rc)
        ft_tensor_file_close(f);
    return rc;
}

/* --- Writing ------------------------------------------------------------------------ */

static ft_code put_at(const ft_tensor_file *f, uint64_t at, const void *bytes, size_t n, ft_status *st)
{
    const char *p = bytes;
    while (n) {
        const ssize_t done = pwrite(f->fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_errno(st, f->part, "write");
        p += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return FT_OK;
}

ft_code ft_tensor_file_put(const ft_tensor_file *f, size_t spec, uint64_t at, const void *bytes, size_t n,
                           ft_status *st)
{
    return put_at(f, f->data_at + f->specs[spec].offset + at, bytes, n, st);
}

ft_code ft_tensor_file_done(ft_tensor_file *f, size_t spec, ft_status *st)
{
    f->specs[spec].done = 1;
    f->pending[f->pending_count++] = spec;
    f->since_sync += f->specs[spec].bytes;
    return f->since_sync < SYNC_BYTES ? FT_OK : flush_pending(f, st);
}

ft_code ft_tensor_file_commit(ft_tensor_file *f, ft_status *st)
{
    if (f->finished)
        return FT_OK;
    ft_buffer header = {0};
    ft_code rc = write_header(f, &header, st);
    if (!rc)
        rc = put_at(f, 0, header.data, header.size, st);
    ft_buffer_release(&header);
    const ft_tensor_spec *last = f->count ? &f->specs[f->count - 1] : NULL;
    if (!rc && ftruncate(f->fd, (off_t)(f->data_at + (last ? last->offset + last->bytes : 0))) != 0)
        rc = fail_errno(st, f->part, "set the length");
    if (!rc)
        rc = flush_pending(f, st);
    if (!rc && fsync(f->fd) != 0)
        rc = fail_errno(st, f->part, "sync");
    if (!rc && rename(f->part, f->path) != 0)
        rc = fail_errno(st, f->path, "rename into place");
    return rc;
}

void ft_tensor_file_close(ft_tensor_file *f)
{
    /* What was stopped: whole tensors are kept, if they can be. */
    if (f->path && f->fd >= 0 && f->journal_fd >= 0 && f->pending_count)
        (void)ft_status_code(flush_pending(f, NULL), 0);
    if (f->path && f->fd >= 0)
        close(f->fd);
    if (f->path && f->journal_fd >= 0)
        close(f->journal_fd);
    free(f->path);
    free(f->part);
    free(f->journal);
    free(f->pending);
    *f = (ft_tensor_file){0};
}

void ft_tensor_file_forget(const char *path)
{
    char *journal;
    if (asprintf(&journal, "%s.journal", path) < 0)
        return;
    unlink(journal);
    free(journal);
}
