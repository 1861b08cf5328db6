/* tar by libarchive, which reads all its dialects; the bytes reach it through our streams. */
#include "text/corpus_input.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 128 * 1024 };

struct ft_tar {
    struct archive *archive;
    struct archive_entry *entry;
    ft_input *below;
    const char *name;
    char *block;
    ft_status below_failed; /* what the stream below said, where it failed */
    int ended;              /* at its end, or damaged beyond going on */
    char number[32];
    uint64_t members;
};

/* The open member: what libarchive's last block still holds of it. */
typedef struct member_state {
    ft_tar *tar;
    const char *data;
    size_t left;
    int64_t position; /* where that block ends in the member */
} member_state;

static la_ssize_t feed(struct archive *a, void *context, const void **bytes)
{
    ft_tar *t = context;
    size_t got = 0;
    *bytes = t->block;
    if (ft_input_read(t->below, t->block, BLOCK, &got, &t->below_failed) != FT_OK) {
        archive_set_error(a, EIO, "cannot be read");
        return ARCHIVE_FATAL;
    }
    return (la_ssize_t)got;
}

/* The failure of the stream below, or else libarchive's own. */
static ft_code fail(ft_tar *t, const char *name, ft_status *st)
{
    t->ended = 1;
    if (t->below_failed.code)
        return ft_fail(st, t->below_failed.code, "%s", t->below_failed.msg);
    const char *why = archive_error_string(t->archive);
    return ft_fail(st, FT_ERR_FORMAT, "%s: not a sound tar: %s", name, why ? why : "damaged");
}

ft_code ft_tar_open(ft_tar **out, ft_input *below, const char *name, ft_status *st)
{
    *out = NULL;
    ft_tar *t = calloc(1, sizeof(*t));
    if (!t) {
        ft_input_close(below);
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", name);
    }
    t->below = below;
    t->name = name;
    t->block = malloc(BLOCK);
    t->archive = archive_read_new();
    ft_code rc = FT_OK;
    if (!t->block || !t->archive)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", name);
    else if (archive_read_support_format_tar(t->archive) < ARCHIVE_WARN ||
             archive_read_open(t->archive, t, NULL, feed, NULL) < ARCHIVE_WARN)
        rc = fail(t, name, st);
    if (rc) {
        ft_tar_close(t);
        return rc;
    }
    *out = t;
    return FT_OK;
}

void ft_tar_close(ft_tar *t)
{
    if (!t)
        return;
    if (t->archive)
        archive_read_free(t->archive);
    ft_input_close(t->below);
    free(t->block);
    free(t);
}

ft_code ft_tar_next(ft_tar *t, const char **path, ft_status *st)
{
    *path = NULL;
    while (!t->ended) {
        const int a = archive_read_next_header(t->archive, &t->entry);
        if (a == ARCHIVE_EOF) {
            t->ended = 1;
            return FT_OK;
        }
        if (a != ARCHIVE_OK && a != ARCHIVE_WARN) /* also RETRY: a header whose checksum is wrong */
            return fail(t, t->name, st);
        t->members++;
        if (archive_entry_filetype(t->entry) != AE_IFREG || archive_entry_hardlink(t->entry))
            continue;
        *path = archive_entry_pathname_utf8(t->entry);
        if (!*path)
            *path = archive_entry_pathname(t->entry);
        if (!*path) {
            snprintf(t->number, sizeof(t->number), "member %" PRIu64, t->members);
            *path = t->number;
        }
        return FT_OK;
    }
    return FT_OK;
}

/* Blocks follow one another: a hole would be zeros that the file does not hold,
 * and a few bytes of header can claim as many of them as there are numbers. */
static ft_code read_member(ft_input *s, void *to, size_t size, size_t *got, ft_status *st)
{
    member_state *m = s->state;
    while (m->left == 0) {
        const void *data;
        int64_t at;
        const int a = archive_read_data_block(m->tar->archive, &data, &m->left, &at);
        if (a == ARCHIVE_EOF)
            return FT_OK;
        if (a != ARCHIVE_OK && a != ARCHIVE_WARN) /* also RETRY: a header whose checksum is wrong */
            return fail(m->tar, s->name, st);
        if (at != m->position)
            return ft_fail(st, FT_ERR_FORMAT, "%s: a sparse file, which is not read; pack it without --sparse",
                           s->name);
        m->data = data;
        m->position += (int64_t)m->left;
    }
    *got = size < m->left ? size : m->left;
    memcpy(to, m->data, *got);
    m->data += *got;
    m->left -= *got;
    return FT_OK;
}

ft_code ft_tar_member(ft_tar *t, ft_input **out, const char *name, ft_status *st)
{
    const ft_code rc = ft_input_new(out, NULL, name, sizeof(member_state), st);
    if (rc)
        return rc;
    (*out)->read = read_member;
    *(member_state *)(*out)->state = (member_state){.tar = t};
    return FT_OK;
}
