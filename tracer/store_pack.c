/* Values of the store: zstd frames with checksums. */
#include "tracer/store_internal.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* A trace is packed while a client waits: the fastest level, whose frames are a tenth larger. */
enum { LEVEL = 1, MOST_IDLE = 8, MOST_KEPT = 4 << 20 };
static const size_t max_value_bytes = (size_t)1 << 30; /* unpacked */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the store is little-endian");

/* --- Contexts: a trace has three frames, and making a context costs as much as filling one ------------ */

struct packer {
    packer *next;
    ZSTD_CCtx *context;
    ZSTD_DCtx *reader;     /* made when something is read */
    ft_buffer text, frame; /* JSON before it is compressed; what it becomes, before its size is known */
};

static void packer_free(packer *p)
{
    if (!p)
        return;
    ZSTD_freeCCtx(p->context);
    ZSTD_freeDCtx(p->reader);
    ft_buffer_release(&p->text);
    ft_buffer_release(&p->frame);
    free(p);
}

static packer *packer_new(void)
{
    packer *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    ft_buffer_init(&p->text, max_value_bytes);
    p->context = ZSTD_createCCtx();
    if (p->context && !ZSTD_isError(ZSTD_CCtx_setParameter(p->context, ZSTD_c_checksumFlag, 1)) &&
        !ZSTD_isError(ZSTD_CCtx_setParameter(p->context, ZSTD_c_compressionLevel, LEVEL)))
        return p;
    packer_free(p);
    return NULL;
}

ft_code packer_take(ft_store *s, packer **out, ft_status *st)
{
    pthread_mutex_lock(&s->packers_lock);
    packer *p = s->packers;
    if (p) {
        s->packers = p->next;
        s->idle_packers--;
    }
    pthread_mutex_unlock(&s->packers_lock);
    *out = p ? p : packer_new();
    return *out ? FT_OK : ft_fail(st, FT_ERR_MEM, "store: no room to compress");
}

void packer_give(ft_store *s, packer *p)
{
    if (!p)
        return;
    if (p->text.capacity > MOST_KEPT)
        ft_buffer_release(&p->text);
    if (p->frame.capacity > MOST_KEPT)
        ft_buffer_release(&p->frame);
    pthread_mutex_lock(&s->packers_lock);
    const int keep = s->idle_packers < MOST_IDLE;
    if (keep) {
        p->next = s->packers;
        s->packers = p;
        s->idle_packers++;
    }
    pthread_mutex_unlock(&s->packers_lock);
    if (!keep)
        packer_free(p);
}

void packers_free(ft_store *s)
{
    while (s->packers) {
        packer *p = s->packers;
        s->packers = p->next;
        packer_free(p);
    }
}

ft_buffer *packer_text(packer *p)
{
    ft_buffer_reset(&p->text);
    return &p->text;
}

/* --- Frames ------------------------------------------------------------------------ */

ft_code frame_append(packer *p, ft_buffer *out, const void *bytes, size_t n, ft_status *st)
{
    const size_t bound = ZSTD_compressBound(n);
    ft_buffer_reset(&p->frame);
    const ft_code rc = ft_buffer_reserve(&p->frame, bound, st);
    if (rc)
        return rc;
    const size_t got = ZSTD_compress2(p->context, p->frame.data, bound, bytes, n);
    if (ZSTD_isError(got))
        return ft_fail(st, FT_ERR_MEM, "store: cannot compress: %s", ZSTD_getErrorName(got));
    return ft_buffer_append(out, p->frame.data, got, st);
}

ft_code frame_append_json(packer *p, ft_buffer *out, const json_t *value, ft_status *st)
{
    ft_buffer_reset(&p->text);
    const ft_code rc = ft_json_write(value, &p->text, st);
    return rc ? rc : frame_append(p, out, p->text.data, p->text.size, st);
}

ft_code frame_read(packer *p, ft_buffer *out, const void *bytes, size_t n, const char *id, ft_status *st)
{
    const unsigned long long content = ZSTD_getFrameContentSize(bytes, n);
    if (content == ZSTD_CONTENTSIZE_ERROR || content == ZSTD_CONTENTSIZE_UNKNOWN || content > max_value_bytes)
        return ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored bytes are damaged", id);
    if (!p->reader && !(p->reader = ZSTD_createDCtx()))
        return ft_fail(st, FT_ERR_MEM, "store: no room to decompress");
    if (ft_buffer_reserve(out, (size_t)content, NULL))
        return ft_fail(st, FT_ERR_MEM, "trace %s: no room for %llu bytes", id, content);
    const size_t got = ZSTD_decompressDCtx(p->reader, out->data + out->size, (size_t)content, bytes, n);
    if (ZSTD_isError(got) || got != content) {
        out->data[out->size] = '\0';
        return ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored bytes are damaged: %s", id,
                       ZSTD_isError(got) ? ZSTD_getErrorName(got) : "wrong size");
    }
    out->size += got;
    out->data[out->size] = '\0';
    return FT_OK;
}

ft_code frame_read_json(packer *p, json_t **out, const void *bytes, size_t n, const char *id, ft_status *st)
{
    ft_buffer_reset(&p->text);
    const ft_code rc = frame_read(p, &p->text, bytes, n, id, st);
    return rc ? rc : ft_json_parse(out, p->text.data, p->text.size, id, st);
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

ft_code pack_trace(packer *p, ft_buffer *out, const json_t *trace, int apart, ft_status *st)
{
    json_t *lean = NULL;
    if (apart && json_is_object(json_object_get(trace, "routing"))) {
        lean = without_bulk(trace);
        if (!lean)
            return ft_fail(st, FT_ERR_MEM, "store: no room for the trace");
    }
    const ft_code rc = frame_append_json(p, out, lean ? lean : trace, st);
    json_decref(lean);
    return rc;
}

ft_code unpack_trace(packer *p, json_t **out, const ft_buffer *value, const char *id, ft_status *st)
{
    ft_code rc = frame_read_json(p, out, value->data, value->size, id, st);
    if (!rc && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        rc = ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored value is not an object", id);
    }
    return rc;
}
