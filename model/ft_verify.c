#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "model/convert_internal.h"
#include "model/ft_model.h"
#include "model/kernels/ft_float.h"
#include "model/model_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 4 << 20, MAX_INDEX = 20 * 1000 * 1000 };

ft_code ft_tensor_stream(const ft_weights *w, const ft_tensor *t, ft_tensor_piece_fn *each, void *context,
                         ft_status *st)
{
    uint64_t file_bytes;
    const char *path = ft_weights_file(w, t->file, &file_bytes);
    char *piece = malloc(PIECE);
    FILE *f = fopen(path, "rbe");
    ft_code rc = FT_OK;
    if (!piece)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    else if (!f || fseeko(f, (off_t)t->offset, SEEK_SET) != 0)
        rc = ft_fail(st, FT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    for (size_t left = t->bytes; left && !rc;) {
        const size_t n = left < PIECE ? left : PIECE;
        if (fread(piece, 1, n, f) != n)
            rc = ft_fail(st, FT_ERR_IO, "%s: cannot read: %s", path, ferror(f) ? strerror(errno) : "it became shorter");
        else
            rc = each(context, piece, n, st);
        left -= n;
    }
    if (f)
        fclose(f);
    free(piece);
    return rc;
}

typedef struct check {
    const ft_progress *progress;
    ft_verify_result *result;
    ft_hasher hash;
    ft_weight_type type;
    int not_finite;
    uint64_t done, total;
} check;

/* A piece is a multiple of 4 bytes, but for the last one: no value is cut. */
static ft_code look(void *context, const void *bytes, size_t n, ft_status *st)
{
    check *c = context;
    ft_hasher_add(&c->hash, bytes, n);
    const size_t size = c->type == FT_WEIGHT_F32 ? 4 : 2;
    const uint32_t exponent = c->type == FT_WEIGHT_F32 ? 0x7f800000 : c->type == FT_WEIGHT_BF16 ? 0x7f80 : 0x7c00;
    for (size_t i = 0; i < n / size && c->type != FT_WEIGHT_TYPES; i++) {
        const uint32_t bits = size == 4 ? ft_float_bits(ft_f32_at(bytes, i)) : ft_u16_at(bytes, i);
        c->not_finite |= (bits & exponent) == exponent;
    }
    c->done += n;
    return ft_progress_report(c->progress, "verify", c->done, c->total, "bytes")
               ? ft_fail(st, FT_ERR_CANCELLED, "verify: stopped")
               : FT_OK;
}

static ft_code check_tensor(check *c, const ft_weights *w, const ft_tensor *t, ft_buffer *records, ft_status *st)
{
    ft_verify_result *r = c->result;
    ft_hasher_init(&c->hash);
    c->type = ft_dtype_type(t->dtype);
    c->not_finite = 0;
    ft_code rc = ft_tensor_stream(w, t, look, c, st);
    if (rc)
        return rc;
    const ft_digest digest = ft_hasher_end(&c->hash);
    char key[300], hex[FT_DIGEST_HEX];
    ft_digest_hex(&digest, hex);
    snprintf(key, sizeof(key), "sha256:%.250s", t->name);
    const char *said = ft_weights_metadata(w, t->file, key);
    r->tensors++;
    r->bytes += t->bytes;
    r->hashed += said != NULL;
    if (said && strcmp(said, hex) != 0 && r->wrong++ == 0)
        snprintf(r->first_wrong, sizeof(r->first_wrong), "%s", t->name);
    if (c->not_finite && r->not_finite++ == 0)
        snprintf(r->first_not_finite, sizeof(r->first_not_finite), "%s", t->name);
    return ft_tensor_record(records, t->name, t->dtype, t->shape, t->dims, &digest, st);
}

static ft_code check_all(const ft_weights *w, const ft_progress *progress, ft_verify_result *r, ft_status *st)
{
    size_t count;
    const ft_tensor *t = ft_weights_tensors(w, &count);
    check c = {.progress = progress, .result = r};
    ft_buffer records = {0};
    ft_code rc = FT_OK;
    for (size_t i = 0; i < count; i++)
        c.total += t[i].bytes;
    for (size_t i = 0; i < count && !rc; i++)
        rc = check_tensor(&c, w, &t[i], &records, st);
    if (!rc)
        r->digest = ft_digest_of(records.data, records.size);
    ft_buffer_release(&records);
    return rc;
}

/* Where the weights are those of an index that knows the digest of the whole. */
static ft_code compare_index(const char *folder, ft_verify_result *r, ft_status *st)
{
    char *single = ft_path_join(folder, "model.safetensors");
    char *path = ft_path_join(folder, "model.safetensors.index.json");
    json_t *index = NULL;
    ft_code rc = FT_OK;
    if (!path || !single)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    else if (!ft_path_exists(single))
        rc = ft_json_read_file(&index, path, MAX_INDEX, st);
    const char *said = json_string_value(json_object_get(json_object_get(index, "metadata"), "flextrace_digest"));
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(&r->digest, hex);
    r->index_agrees = said ? !strcmp(said, hex) : -1;
    json_decref(index);
    free(path);
    free(single);
    return rc;
}

ft_code ft_verify(const char *source, const ft_progress *progress, ft_verify_result *r, ft_status *st)
{
    *r = (ft_verify_result){.index_agrees = -1};
    ft_code rc;
    if (ft_path_is_folder(source)) {
        ft_model *m;
        rc = ft_model_inspect(&m, source, st);
        if (!rc)
            rc = check_all(m->files, progress, r, st);
        if (!rc)
            rc = compare_index(source, r, st);
        ft_model_close(m);
        return rc;
    }
    ft_weights *w;
    rc = ft_weights_open_file(&w, source, st);
    if (!rc)
        rc = check_all(w, progress, r, st);
    ft_weights_close(w);
    return rc;
}
