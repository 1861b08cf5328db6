/* Values of the store: zstd frames with checksums. */
#include "tracer/store_internal.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* A trace is packed while a client waits: the fastest level, whose frames are a tenth larger. */
enum { LEVEL = 1 };
static const size_t max_value_bytes = (size_t)1 << 30; /* unpacked */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the store is little-endian");

ft_code frame_append(ft_buffer *out, const void *bytes, size_t n, ft_status *st)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    const size_t bound = ZSTD_compressBound(n);
    ft_code rc = context ? ft_buffer_reserve(out, bound, st) : ft_fail(st, FT_ERR_MEM, "store: no room to compress");
    if (!rc) {
        size_t got = ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
        if (!ZSTD_isError(got))
            got = ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, LEVEL);
        if (!ZSTD_isError(got))
            got = ZSTD_compress2(context, out->data + out->size, bound, bytes, n);
        if (ZSTD_isError(got))
            rc = ft_fail(st, FT_ERR_MEM, "store: cannot compress: %s", ZSTD_getErrorName(got));
        else
            out->size += got;
    }
    ZSTD_freeCCtx(context);
    return rc;
}

ft_code frame_read(char **out, size_t *size, const void *bytes, size_t n, const char *id, ft_status *st)
{
    *out = NULL;
    const unsigned long long content = ZSTD_getFrameContentSize(bytes, n);
    if (content == ZSTD_CONTENTSIZE_ERROR || content == ZSTD_CONTENTSIZE_UNKNOWN || content > max_value_bytes)
        return ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored bytes are damaged", id);
    char *text = malloc((size_t)content + 1);
    if (!text)
        return ft_fail(st, FT_ERR_MEM, "trace %s: no room for %llu bytes", id, content);
    const size_t got = ZSTD_decompress(text, (size_t)content, bytes, n);
    if (ZSTD_isError(got) || got != content) {
        free(text);
        return ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored bytes are damaged: %s", id,
                       ZSTD_isError(got) ? ZSTD_getErrorName(got) : "wrong size");
    }
    text[got] = '\0';
    *out = text;
    *size = got;
    return FT_OK;
}

/* --- Traces ---------------------------------------------------------------------- */

/* A copy of the trace whose routing lacks its bulk; the rest is shared, not copied. */
static json_t *without_bulk(const json_t *trace)
{
    json_t *out = json_copy((json_t *)(uintptr_t)trace);
    json_t *head = json_copy(json_object_get(trace, "routing"));
    if (!out || !head || json_object_set_new(out, "routing", head) != 0) {
        json_decref(out);
        return NULL;
    }
    (void)json_object_del(head, "ids");
    (void)json_object_del(head, "weights");
    return out;
}

ft_code pack_trace(ft_buffer *out, const json_t *trace, int apart, ft_status *st)
{
    ft_buffer text;
    ft_buffer_init(&text, max_value_bytes);
    json_t *lean = NULL;
    if (apart && json_is_object(json_object_get(trace, "routing"))) {
        lean = without_bulk(trace);
        if (!lean)
            return ft_fail(st, FT_ERR_MEM, "store: no room for the trace");
    }
    ft_code rc = ft_json_write(lean ? lean : trace, &text, st);
    if (!rc)
        rc = frame_append(out, text.data, text.size, st);
    json_decref(lean);
    ft_buffer_release(&text);
    return rc;
}

ft_code unpack_trace(json_t **out, const ft_buffer *value, const char *id, ft_status *st)
{
    char *text = NULL;
    size_t n = 0;
    ft_code rc = frame_read(&text, &n, value->data, value->size, id, st);
    if (!rc)
        rc = ft_json_parse(out, text, n, id, st);
    if (!rc && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        rc = ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored value is not an object", id);
    }
    free(text);
    return rc;
}
