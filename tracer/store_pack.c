/* Values of the store: a zstd frame with checksum behind a small header. */
#include "tracer/store_internal.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

static const size_t max_value_bytes = (size_t)1 << 30; /* unpacked */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the store is little-endian");

/* Appends n bytes as one zstd frame that carries its size and a checksum. */
static ft_code append_frame(ft_buffer *out, const void *bytes, size_t n, ft_status *st)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    const size_t bound = ZSTD_compressBound(n);
    ft_code rc = context ? ft_buffer_reserve(out, bound, st) : ft_fail(st, FT_ERR_MEM, "store: no room to compress");
    if (!rc) {
        size_t got = ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
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

/* The content of the frame that fills bytes[0..n); the caller frees *out. */
static ft_code read_frame(char **out, size_t *size, const char *bytes, size_t n, const char *id, ft_status *st)
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
        rc = append_frame(out, text.data, text.size, st);
    json_decref(lean);
    ft_buffer_release(&text);
    return rc;
}

ft_code unpack_trace(json_t **out, const ft_buffer *value, const char *id, ft_status *st)
{
    char *text = NULL;
    size_t n = 0;
    ft_code rc = read_frame(&text, &n, value->data, value->size, id, st);
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

/* --- Routing --------------------------------------------------------------------- */

typedef struct routing_header {
    uint64_t tokens, layers, experts, top_k;
} routing_header;
_Static_assert(sizeof(routing_header) == 32, "as docs/store.md draws it");

/* Bytes of the frame: ids as one byte each, then the weights' bytes in four planes
 * (sign and exponent, then the mantissa): equal weights then stand side by side,
 * and sign and exponent compress. */
ft_code pack_routing(ft_buffer *out, const ft_routing *r, ft_status *st)
{
    const size_t n = r->tokens * r->layers * r->top_k;
    const routing_header header = {r->tokens, r->layers, r->experts, r->top_k};
    unsigned char *bytes = ft_alloc_array(n, 5);
    if (!bytes)
        return ft_fail(st, FT_ERR_MEM, "store: no room for the routing of %zu tokens", r->tokens);
    if (n)
        memcpy(bytes, r->expert_ids, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &r->weights[i], sizeof(bits));
        for (unsigned plane = 0; plane < 4; plane++)
            bytes[n * (1 + plane) + i] = (unsigned char)(bits >> (24 - 8 * plane));
    }
    ft_code rc = ft_buffer_append(out, &header, sizeof(header), st);
    if (!rc)
        rc = append_frame(out, bytes, 5 * n, st);
    free(bytes);
    return rc;
}

void ft_stored_routing_release(ft_stored_routing *r)
{
    if (!r)
        return;
    free(r->memory);
    memset(r, 0, sizeof(*r));
}

static ft_code place_routing(ft_stored_routing *out, const routing_header *h, const unsigned char *bytes, size_t n,
                             const char *id, ft_status *st)
{
    float *weights = ft_alloc_array(n ? n : 1, sizeof(*weights) + 1);
    if (!weights)
        return ft_fail(st, FT_ERR_MEM, "trace %s: no room for the routing", id);
    unsigned char *ids = (unsigned char *)(weights + n);
    if (n)
        memcpy(ids, bytes, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = 0;
        for (unsigned plane = 0; plane < 4; plane++)
            bits = bits << 8 | bytes[n * (1 + plane) + i];
        memcpy(&weights[i], &bits, sizeof(bits));
    }
    out->memory = weights;
    out->view = (ft_routing){.tokens = (size_t)h->tokens,
                             .layers = (size_t)h->layers,
                             .experts = (size_t)h->experts,
                             .top_k = (size_t)h->top_k,
                             .expert_ids = ids,
                             .weights = weights};
    return FT_OK;
}

ft_code unpack_routing(ft_stored_routing *out, const ft_buffer *value, const char *id, ft_status *st)
{
    routing_header h;
    char *bytes = NULL;
    size_t n = 0, want = 0;
    if (value->size < sizeof(h))
        return ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored routing is damaged", id);
    memcpy(&h, value->data, sizeof(h));
    ft_code rc = read_frame(&bytes, &n, value->data + sizeof(h), value->size - sizeof(h), id, st);
    if (!rc &&
        (ft_size_mul((size_t)h.tokens, (size_t)h.layers, &want, NULL) ||
         ft_size_mul(want, (size_t)h.top_k, &want, NULL) || n % 5 || want != n / 5 || h.experts > FT_MAX_EXPERTS))
        rc = ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored routing does not have the size that it says", id);
    if (!rc)
        rc = place_routing(out, &h, (const unsigned char *)bytes, want, id, st);
    free(bytes);
    return rc;
}
