/* Values of the store: zstd frames with checksums. */
#include "tracer/store_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* A trace is packed while a client waits: the fastest level that codes bytes by how often they are, whose frames are a
 * tenth larger; for noise one that looks for repetitions alone, six times as fast. Fewer reals than FEW_REALS are not
 * worth a frame of their own. */
enum { LEVEL = 1, LEVEL_OF_NOISE = -1, MOST_IDLE = 8, MOST_KEPT = 4 << 20, FEW_REALS = 64 };
static const size_t max_value_bytes = (size_t)1 << 30; /* unpacked */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the store is little-endian");

/* --- Contexts: a trace has three frames, and making a context costs as much as filling one ------------ */

struct packer {
    packer *next;
    ZSTD_CCtx *context;
    ZSTD_DCtx *reader;     /* made when something is read */
    ft_buffer text, frame; /* JSON before it is compressed; what it becomes, before its size is known */
    ft_buffer reals, planes; /* of a trace: doubles; the same as planes of bytes */
};

enum { ROOMS = 4 };
static ft_buffer *room_of(packer *p, size_t i)
{
    ft_buffer *all[ROOMS] = {&p->text, &p->frame, &p->reals, &p->planes};
    return all[i];
}

static void packer_free(packer *p)
{
    if (!p)
        return;
    ZSTD_freeCCtx(p->context);
    ZSTD_freeDCtx(p->reader);
    for (size_t i = 0; i < ROOMS; i++)
        ft_buffer_release(room_of(p, i));
    free(p);
}

static packer *packer_new(void)
{
    packer *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    ft_buffer_init(&p->text, max_value_bytes);
    ft_buffer_init(&p->reals, max_value_bytes);
    p->context = ZSTD_createCCtx();
    if (p->context && !ZSTD_isError(ZSTD_CCtx_setParameter(p->context, ZSTD_c_checksumFlag, 1)))
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
    for (size_t i = 0; i < ROOMS; i++)
        if (room_of(p, i)->capacity > MOST_KEPT)
            ft_buffer_release(room_of(p, i));
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

/* Whether a code of single bytes would hardly shorten these: the entropy of a sample of SAMPLE, in bits. Mixing weights
 * rounded to a byte, the low bytes of doubles. */
static int is_noise(const unsigned char *bytes, size_t n)
{
    enum { SAMPLE = 1024 };
    static const double noise = 6.75;
    uint16_t counts[256] = {0};
    double of_counts = 0;
    if (n < 4 * SAMPLE)
        return 0;
    for (size_t i = 0; i < SAMPLE; i++)
        counts[bytes[n / SAMPLE * i]]++;
    for (size_t c = 0; c < 256; c++)
        of_counts += counts[c] ? counts[c] * (double)log2f(counts[c]) : 0;
    return log2(SAMPLE) - of_counts / SAMPLE >= noise;
}

ft_code frame_append(packer *p, ft_buffer *out, const void *bytes, size_t n, ft_status *st)
{
    const size_t bound = ZSTD_compressBound(n);
    ft_buffer_reset(&p->frame);
    const ft_code rc = ft_buffer_reserve(&p->frame, bound, st);
    if (rc)
        return rc;
    const int level = is_noise(bytes, n) ? LEVEL_OF_NOISE : LEVEL;
    const size_t set = ZSTD_CCtx_setParameter(p->context, ZSTD_c_compressionLevel, level);
    const size_t got = ZSTD_isError(set) ? set : ZSTD_compress2(p->context, p->frame.data, bound, bytes, n);
    if (ZSTD_isError(got))
        return ft_fail(st, FT_ERR_MEM, "store: cannot compress: %s", ZSTD_getErrorName(got));
    return ft_buffer_append(out, p->frame.data, got, st);
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

/* --- Traces: a frame of JSON without its reals, and one of these ------------------------ */

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

/* n doubles as eight planes of n bytes, the most significant first: signs and exponents stand together, and so do the
 * zeros that sums of few floats end with. */
static void split_planes(unsigned char *planes, const char *doubles, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, doubles + i * sizeof(bits), sizeof(bits));
        for (unsigned plane = 0; plane < sizeof(bits); plane++)
            planes[n * plane + i] = (unsigned char)(bits >> (56 - 8 * plane));
    }
}

static void join_planes(double *doubles, const unsigned char *planes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = 0;
        for (unsigned plane = 0; plane < sizeof(bits); plane++)
            bits = bits << 8 | planes[n * plane + i];
        memcpy(&doubles[i], &bits, sizeof(bits));
    }
}

ft_code pack_trace(packer *p, ft_buffer *out, const json_t *trace, int apart, ft_status *st)
{
    json_t *lean = NULL;
    if (apart && json_is_object(json_object_get(trace, "routing"))) {
        lean = without_bulk(trace);
        if (!lean)
            return ft_fail(st, FT_ERR_MEM, "store: no room for the trace");
    }
    ft_buffer_reset(&p->text);
    ft_buffer_reset(&p->reals);
    ft_buffer_reset(&p->planes);
    ft_code rc = ft_json_write_apart(lean ? lean : trace, &p->text, &p->reals, st);
    json_decref(lean);
    const size_t count = p->reals.size / sizeof(double);
    if (!rc && count < FEW_REALS) {
        rc = ft_json_join(p->text.data, p->text.size, (const double *)(const void *)p->reals.data, count, &p->planes,
                          st);
        return rc ? rc : frame_append(p, out, p->planes.data, p->planes.size, st);
    }
    if (!rc)
        rc = frame_append(p, out, p->text.data, p->text.size, st);
    if (!rc)
        rc = ft_buffer_reserve(&p->planes, p->reals.size, st);
    if (rc)
        return rc;
    split_planes((unsigned char *)p->planes.data, p->reals.data, count);
    return frame_append(p, out, p->planes.data, p->reals.size, st);
}

static ft_code damaged(const char *id, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored bytes are damaged", id);
}

/* The bytes of a value's first frame; 0: it is none. */
static size_t first_frame(const void *bytes, size_t n)
{
    const size_t first = ZSTD_findFrameCompressedSize(bytes, n);
    return ZSTD_isError(first) ? 0 : first;
}

ft_code trace_read_marked(packer *p, ft_buffer *out, const void *bytes, size_t n, const char *id, ft_status *st)
{
    const size_t first = first_frame(bytes, n);
    return first ? frame_read(p, out, bytes, first, id, st) : damaged(id, st);
}

/* The second frame's doubles, into p->reals. */
static ft_code read_reals(packer *p, const void *bytes, size_t n, const char *id, ft_status *st)
{
    ft_buffer_reset(&p->planes);
    ft_buffer_reset(&p->reals);
    ft_code rc = frame_read(p, &p->planes, bytes, n, id, st);
    if (!rc && p->planes.size % sizeof(double))
        rc = damaged(id, st);
    if (!rc && ft_buffer_reserve(&p->reals, p->planes.size, NULL))
        rc = ft_fail(st, FT_ERR_MEM, "trace %s: no room for its numbers", id);
    if (rc)
        return rc;
    p->reals.size = p->planes.size;
    join_planes((double *)(void *)p->reals.data, (const unsigned char *)p->planes.data,
                p->planes.size / sizeof(double));
    return FT_OK;
}

ft_code trace_read_text(packer *p, ft_buffer *out, const void *bytes, size_t n, const char *id, ft_status *st)
{
    const size_t first = first_frame(bytes, n), before = out->size;
    ft_code rc = first ? FT_OK : damaged(id, st);
    if (!rc && first == n) { /* few reals, or a value of schema 5 and before */
        rc = frame_read(p, out, bytes, n, id, st);
        return !rc && memchr(out->data + before, FT_JSON_REAL, out->size - before) ? damaged(id, st) : rc;
    }
    ft_buffer_reset(&p->frame);
    if (!rc)
        rc = frame_read(p, &p->frame, bytes, first, id, st);
    if (!rc)
        rc = read_reals(p, (const char *)bytes + first, n - first, id, st);
    if (rc)
        return rc;
    rc = ft_json_join(p->frame.data, p->frame.size, (const double *)(const void *)p->reals.data,
                      p->reals.size / sizeof(double), out, st);
    return rc == FT_ERR_FORMAT ? damaged(id, st) : rc;
}

ft_code unpack_trace(packer *p, json_t **out, const ft_buffer *value, const char *id, ft_status *st)
{
    ft_buffer_reset(&p->text);
    ft_code rc = trace_read_text(p, &p->text, value->data, value->size, id, st);
    if (!rc)
        rc = ft_json_parse(out, p->text.data, p->text.size, id, st);
    if (!rc && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        rc = ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored value is not an object", id);
    }
    return rc;
}
