#include "model/ft_fingerprint.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "model/convert_internal.h"
#include "model/model_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* --- Identity ------------------------------------------------------------------- */

static ft_code add_file(ft_buffer *out, const char *path, ft_status *st)
{
    struct stat f;
    if (stat(path, &f) != 0)
        return ft_fail(st, FT_ERR_IO, "%s: %s", path, strerror(errno));
    const char *name = strrchr(path, '/');
    const ft_code rc = ft_buffer_append_str(out, name ? name + 1 : path, st);
    return rc ? rc
              : ft_buffer_printf(out, st, " %" PRIu64 " %" PRIu64 " %" PRIi64 ".%09ld %" PRIi64 ".%09ld\n",
                                 (uint64_t)f.st_size, (uint64_t)f.st_ino, (int64_t)f.st_mtim.tv_sec, f.st_mtim.tv_nsec,
                                 (int64_t)f.st_ctim.tv_sec, f.st_ctim.tv_nsec);
}

static char *config_path(const ft_model *m, ft_status *st)
{
    char *path = ft_path_join(m->folder, "config.json");
    if (!path)
        (void)ft_fail(st, FT_ERR_MEM, "%s: out of memory", m->folder);
    return path;
}

ft_digest ft_model_identity(const ft_model *m)
{
    return m->identity;
}

ft_code ft_model_identify(const ft_model *m, ft_digest *out, ft_status *st)
{
    ft_buffer text = {0};
    char *config = config_path(m, st);
    ft_code rc = config ? add_file(&text, config, st) : FT_ERR_MEM;
    for (size_t i = 0; !rc && i < ft_weights_files(m->files); i++) {
        uint64_t bytes;
        rc = add_file(&text, ft_weights_file(m->files, i, &bytes), st);
    }
    if (!rc)
        *out = ft_digest_of(text.data, text.size);
    ft_buffer_release(&text);
    free(config);
    return rc;
}

static ft_code check_unchanged(const ft_model *m, ft_status *st)
{
    ft_digest now;
    const ft_code rc = ft_model_identify(m, &now, st);
    if (rc || !memcmp(&now, &m->identity, sizeof(now)))
        return rc;
    return ft_fail(st, FT_ERR_IO, "%s: its files were replaced since the model was opened; open it anew", m->folder);
}

/* --- Digests -------------------------------------------------------------------- */

typedef struct reader {
    const ft_progress *progress;
    ft_hasher hash;
    uint64_t done, total;
} reader;

static ft_code hash_piece(void *context, const void *bytes, size_t n, ft_status *st)
{
    reader *r = context;
    ft_hasher_add(&r->hash, bytes, n);
    r->done += n;
    return ft_progress_report(r->progress, "digest", r->done, r->total, "bytes")
               ? ft_fail(st, FT_ERR_CANCELLED, "digests of the model: stopped")
               : FT_OK;
}

/* The number of the expert whose tensor it is; -1: nobody's alone. */
static int expert_of(const ft_tensor *t, size_t experts)
{
    static const char mark[] = ".experts.";
    const char *at = strstr(t->name, mark);
    char *end;
    if (!at)
        return -1;
    const unsigned long number = strtoul(at + sizeof(mark) - 1, &end, 10);
    return *end == '.' && number < experts ? (int)number : -1;
}

/* Whether it holds all experts, one after another. */
static int is_fused(const ft_tensor *t, size_t experts)
{
    return strstr(t->name, ".experts.") && expert_of(t, experts) < 0 && t->dims == 3 && t->shape[0] == experts;
}

/* Bytes of it that are read. */
static uint64_t wanted_bytes(const ft_tensor *t, size_t experts, uint64_t without)
{
    const int expert = expert_of(t, experts);
    if (expert >= 0)
        return without >> expert & 1 ? 0 : t->bytes;
    return is_fused(t, experts) ? t->bytes - t->bytes / experts * (size_t)__builtin_popcountll(without) : t->bytes;
}

static ft_code hash_tensor(const ft_model *m, const ft_tensor *t, uint64_t without, reader *r, ft_status *st)
{
    const size_t experts = m->config.experts;
    ft_code rc = FT_OK;
    ft_hasher_init(&r->hash);
    if (!is_fused(t, experts))
        return ft_tensor_stream(m->files, t, hash_piece, r, st);
    for (size_t e = 0; !rc && e < experts; e++) {
        ft_tensor part = *t;
        part.bytes = t->bytes / experts;
        part.offset += e * part.bytes;
        if (!(without >> e & 1))
            rc = ft_tensor_stream(m->files, &part, hash_piece, r, st);
    }
    return rc;
}

static ft_code digest_tensor(const ft_model *m, const ft_tensor *t, uint64_t without, reader *r, ft_buffer *all,
                             ft_buffer *own, ft_status *st)
{
    const int expert = expert_of(t, m->config.experts);
    if (expert >= 0 && without >> expert & 1)
        return FT_OK;
    ft_code rc = hash_tensor(m, t, without, r, st);
    if (rc)
        return rc;
    const ft_digest data = ft_hasher_end(&r->hash);
    rc = ft_tensor_record(all, t->name, t->dtype, t->shape, t->dims, &data, st);
    if (!rc && expert >= 0)
        rc = ft_tensor_record(&own[expert], t->name, t->dtype, t->shape, t->dims, &data, st);
    return rc;
}

ft_code ft_model_digests_read(const ft_model *m, uint64_t without, const ft_progress *progress, ft_model_digests *out,
                              ft_status *st)
{
    const size_t experts = m->config.experts;
    size_t count;
    const ft_tensor *t = ft_weights_tensors(m->files, &count);
    reader r = {.progress = progress};
    ft_buffer all = {0}, *own = ft_alloc_array(FT_MAX_EXPERTS, sizeof(*own));
    char *config = config_path(m, st);
    memset(out, 0, sizeof(*out));
    without &= experts < 64 ? (UINT64_C(1) << experts) - 1 : UINT64_MAX;
    ft_code rc = !config ? FT_ERR_MEM : own ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", m->folder);
    if (!rc)
        rc = check_unchanged(m, st);
    if (!rc)
        rc = ft_digest_of_file(&out->config, config, st);
    for (size_t i = 0; !rc && i < count; i++)
        r.total += wanted_bytes(&t[i], experts, without);
    for (size_t i = 0; !rc && i < count; i++)
        rc = digest_tensor(m, &t[i], without, &r, &all, own, st);
    if (!rc)
        rc = check_unchanged(m, st);
    if (!rc) {
        out->model = ft_digest_of(all.data, all.size);
        out->expert_count = experts;
        out->unread = without;
    }
    for (size_t e = 0; !rc && e < out->expert_count; e++)
        if (!(without >> e & 1))
            out->experts[e] = ft_digest_of(own[e].data, own[e].size);
    for (size_t e = 0; own && e < FT_MAX_EXPERTS; e++)
        ft_buffer_release(&own[e]);
    free(own);
    ft_buffer_release(&all);
    free(config);
    return rc;
}
