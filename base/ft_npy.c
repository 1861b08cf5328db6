#include "base/ft_npy.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *descr;
    size_t bytes;
} types[] = {[FT_NPY_INT32] = {"<i4", 4},  [FT_NPY_UINT32] = {"<u4", 4},  [FT_NPY_INT64] = {"<i8", 8},
             [FT_NPY_UINT64] = {"<u8", 8}, [FT_NPY_FLOAT32] = {"<f4", 4}, [FT_NPY_FLOAT64] = {"<f8", 8},
             [FT_NPY_UINT8] = {"|u1", 1},  [FT_NPY_UINT16] = {"<u2", 2}};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

/* Text that follows 'key': in the header's Python dictionary, blanks skipped. */
static const char *value_of(const char *header, const char *key)
{
    const char *p = strstr(header, key);
    if (!p)
        return NULL;
    p += strlen(key);
    while (*p == ' ' || *p == ':' || *p == '\'' || *p == '"') {
        if ((*p == '\'' || *p == '"') && p[1] != ':' && p[1] != ' ')
            break;
        p++;
    }
    return p;
}

static ft_code parse_shape(ft_npy *a, const char *p, const char *path, ft_status *st)
{
    if (!p || *p++ != '(')
        return ft_fail(st, FT_ERR_FORMAT, "%s: .npy header without a shape", path);
    a->count = 1;
    for (;;) {
        while (*p == ' ' || *p == ',')
            p++;
        if (*p == ')')
            return FT_OK;
        if (!isdigit((unsigned char)*p) || a->dims == FT_NPY_MAX_DIMS)
            return ft_fail(st, FT_ERR_FORMAT, "%s: .npy shape not understood", path);
        char *end;
        a->shape[a->dims] = strtoull(p, &end, 10);
        ft_code rc = ft_size_mul(a->count, a->shape[a->dims++], &a->count, st);
        if (rc) {
            ft_status_prefix(st, "%s", path);
            return rc;
        }
        p = end;
    }
}

static ft_code parse_header(ft_npy *a, const char *path, const char *header, size_t data_at, ft_status *st)
{
    const char *descr = value_of(header, "'descr'"), *order = value_of(header, "'fortran_order'");
    if (!descr || !order)
        return ft_fail(st, FT_ERR_FORMAT, "%s: .npy header not understood", path);
    int type = 0;
    while (type < TYPES && strncmp(descr + 1, types[type].descr, 3) != 0)
        type++;
    if (type == TYPES)
        return ft_fail(
            st, FT_ERR_FORMAT,
            "%s: .npy dtype %.6s is not supported; use uint8, uint16, (u)int32, (u)int64, float32 or float64", path,
            descr);
    a->type = (ft_npy_type)type;
    if (strncmp(order, "False", 5) != 0)
        return ft_fail(st, FT_ERR_FORMAT, "%s: .npy array is in Fortran order; save it with numpy.ascontiguousarray",
                       path);
    ft_code rc = parse_shape(a, value_of(header, "'shape'"), path, st);
    if (rc)
        return rc;
    size_t bytes;
    rc = ft_size_mul(a->count, types[type].bytes, &bytes, st);
    if (rc)
        return rc;
    if (bytes != a->map.bytes - data_at)
        return ft_fail(st, FT_ERR_FORMAT, "%s: .npy header says %zu bytes of data, the file holds %" PRIu64, path,
                       bytes, a->map.bytes - data_at);
    return FT_OK;
}

ft_code ft_npy_open(ft_npy *out, const char *path, ft_status *st)
{
    *out = (ft_npy){0};
    ft_code rc = ft_map_open(&out->map, path, st);
    if (rc)
        return rc;
    const unsigned char *d = out->map.data;
    size_t header_at = 0, header_bytes = 0;
    if (out->map.bytes >= 12 && !memcmp(d, "\x93NUMPY", 6) && d[6] >= 1 && d[6] <= 3) {
        header_at = d[6] == 1 ? 10 : 12;
        header_bytes = (size_t)d[8] | (size_t)d[9] << 8;
        if (d[6] > 1)
            header_bytes |= (size_t)d[10] << 16 | (size_t)d[11] << 24;
    }
    char *header = NULL;
    if (!header_at || header_bytes > out->map.bytes - header_at || header_bytes > 65536) {
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: not an .npy file", path);
    } else if (!(header = strndup((const char *)d + header_at, header_bytes))) {
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    } else {
        out->data = d + header_at + header_bytes;
        rc = parse_header(out, path, header, header_at + header_bytes, st);
    }
    free(header);
    if (rc)
        ft_npy_close(out);
    return rc;
}

void ft_npy_close(ft_npy *a)
{
    if (!a)
        return;
    ft_map_close(&a->map);
    *a = (ft_npy){0};
}

ft_code ft_npy_read_ids(const char *path, uint32_t **ids, size_t *count, ft_status *st)
{
    *ids = NULL;
    *count = 0;
    ft_npy a;
    ft_code rc = ft_npy_open(&a, path, st);
    if (rc)
        return rc;
    uint32_t *copy = NULL;
    if ((a.type != FT_NPY_INT32 && a.type != FT_NPY_UINT32) || a.dims != 1) {
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: token ids must be int32 or uint32, one dimension", path);
        goto done;
    }
    copy = ft_alloc_array(a.count, sizeof(*copy));
    if (!copy) {
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
        goto done;
    }
    if (a.count)
        memcpy(copy, a.data, a.count * sizeof(*copy));
    for (size_t i = 0; a.type == FT_NPY_INT32 && i < a.count; i++)
        if (copy[i] > INT32_MAX) {
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: element %zu: token id %d is negative", path, i, (int)copy[i]);
            goto done;
        }
    *ids = copy;
    *count = a.count;
    copy = NULL;
done:
    free(copy);
    ft_npy_close(&a);
    return rc;
}

ft_code ft_npy_write(const char *path, ft_npy_type type, unsigned dims, const size_t *shape, const void *data,
                     ft_status *st)
{
    ft_buffer header;
    ft_buffer_init(&header, 0);
    ft_file_writer w = {0};
    size_t bytes = types[type].bytes;
    ft_code rc = ft_buffer_printf(&header, st, "{'descr': '%s', 'fortran_order': False, 'shape': (", types[type].descr);
    for (unsigned i = 0; !rc && i < dims; i++) {
        rc = ft_size_mul(bytes, shape[i], &bytes, st);
        if (!rc)
            rc = ft_buffer_printf(&header, st, "%zu%s", shape[i], dims == 1 ? "," : i + 1 < dims ? ", " : "");
    }
    if (!rc)
        rc = ft_buffer_append_str(&header, "), }", st);
    while (!rc && (10 + header.size + 1) % 64)
        rc = ft_buffer_append(&header, " ", 1, st);
    if (!rc)
        rc = ft_buffer_append(&header, "\n", 1, st);
    if (!rc)
        rc = ft_file_writer_open(&w, path, st);
    if (rc)
        goto done;
    const unsigned char magic[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(header.size & 255), (unsigned char)(header.size >> 8)};
    rc = ft_file_writer_put(&w, magic, sizeof(magic), st);
    if (!rc)
        rc = ft_file_writer_put(&w, header.data, header.size, st);
    if (!rc)
        rc = ft_file_writer_put(&w, data, bytes, st);
    if (!rc)
        rc = ft_file_writer_commit(&w, st);
done:
    ft_file_writer_abandon(&w);
    ft_buffer_release(&header);
    return rc;
}
