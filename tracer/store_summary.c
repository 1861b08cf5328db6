/* What is known of a trace without reading it: numbers and hashes for filters, and its keys. */
#include "tracer/store_internal.h"
#include "tracer/tracer_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

_Static_assert(sizeof(summary_head) == 32 && sizeof(summary_span) == 32 && sizeof(summary_place) == 16 &&
                   sizeof(summary_expert) == 8,
               "as docs/store.md draws it");

static const uint32_t token_classes[KEY_CLASSES] = {1, 4, 8, 16, 32, 64, 128, 256, 512};
static const double share_classes[KEY_CLASSES] = {0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9};

uint64_t summary_hash(const char *name)
{
    const uint64_t h = XXH3_64bits(name, strlen(name));
    return h ? h : 1;
}

uint32_t summary_verdict(const char *name)
{
    static const char *const names[] = {"verbatim", "influenced", "shared", "public", "none"};
    if (!name)
        return 0;
    for (uint32_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (!strcmp(names[i], name))
            return i + 1;
    return (uint32_t)summary_hash(name) | 0x80000000U; /* one that came later than this build */
}

const char *span_verdict(const json_t *span)
{
    const json_t *v = json_object_get(span, "verdict");
    return json_is_object(v) ? json_string_value(json_object_get(v, "verdict")) : json_string_value(v);
}

/* --- Keys ------------------------------------------------------------------------------------------ */

unsigned key_class_of_tokens(uint32_t tokens)
{
    unsigned c = 0;
    while (c + 1 < KEY_CLASSES && token_classes[c + 1] <= tokens)
        c++;
    return c;
}

unsigned key_class_of_share(double share)
{
    unsigned c = 0;
    while (c + 1 < KEY_CLASSES && share_classes[c + 1] <= share)
        c++;
    return c;
}

void key_write(unsigned char out[STORE_KEY], key_kind kind, uint64_t what, unsigned class,
               const unsigned char id[STORE_ID])
{
    out[0] = (unsigned char)kind;
    for (int i = 0; i < 8; i++)
        out[1 + i] = (unsigned char)(what >> (56 - 8 * i));
    out[9] = (unsigned char)class;
    memcpy(out + 10, id, STORE_ID);
}

typedef struct key_writer {
    const unsigned char *id;
    key_visit *each;
    void *context;
} key_writer;

/* A key in every class up to `most`. */
static int write_classes(const key_writer *w, key_kind kind, uint64_t what, unsigned most)
{
    unsigned char key[STORE_KEY];
    int error = 0;
    for (unsigned c = 0; !error && c <= most; c++) {
        key_write(key, kind, what, c, w->id);
        error = w->each(w->context, key);
    }
    return error;
}

static uint32_t length_of(const summary_span *s)
{
    return s->end > s->start ? s->end - s->start : 1;
}

/* Of all spans with what `has` says, the longest. */
static uint32_t longest(const summary *m, uint64_t owners, uint32_t verdict)
{
    uint32_t most = 0;
    for (size_t i = 0; i < m->head.spans; i++) {
        const summary_span *s = &m->spans[i];
        if ((!owners || s->owners & owners) && (!verdict || s->verdict == verdict) && length_of(s) > most)
            most = length_of(s);
    }
    return most;
}

static int by_document(const void *a, const void *b)
{
    const summary_place *x = a, *y = b;
    return x->document < y->document ? -1 : x->document > y->document;
}

/* Each document once, in the classes of its longest span. */
static int write_documents(const summary *m, const key_writer *w)
{
    int error = 0;
    summary_place *sorted = ft_alloc_array(m->head.places, sizeof(*sorted));
    if (!sorted)
        return ENOMEM;
    if (m->head.places)
        memcpy(sorted, m->places, m->head.places * sizeof(*sorted));
    qsort(sorted, m->head.places, sizeof(*sorted), by_document);
    for (size_t i = 0; !error && i < m->head.places;) {
        uint32_t most = 0;
        const uint64_t document = sorted[i].document;
        for (; i < m->head.places && sorted[i].document == document; i++) {
            const uint32_t n = length_of(&m->spans[sorted[i].span]);
            most = n > most ? n : most;
        }
        error = write_classes(w, KEY_DOCUMENT, document, key_class_of_tokens(most));
    }
    free(sorted);
    return error;
}

int summary_keys(const summary *m, const unsigned char id[STORE_ID], key_visit *each, void *context)
{
    const key_writer w = {id, each, context};
    int error = m->head.key ? write_classes(&w, KEY_KEY, m->head.key, 0) : 0;
    if (!error && m->head.spans)
        error = write_classes(&w, KEY_SPAN, 0, key_class_of_tokens(longest(m, 0, 0)));
    for (size_t i = 0; !error && i < m->head.owners; i++)
        error = write_classes(&w, KEY_OWNER, m->owners[i], key_class_of_tokens(longest(m, UINT64_C(1) << i, 0)));
    for (size_t i = 0; !error && i < m->head.without; i++)
        error = write_classes(&w, KEY_WITHOUT, m->without[i], 0);
    for (size_t i = 0; !error && i < m->head.experts; i++)
        if (m->experts[i].share > 0)
            error = write_classes(&w, KEY_EXPERT, m->experts[i].id, key_class_of_share((double)m->experts[i].share));
    for (size_t i = 0; !error && i < m->head.spans; i++) {
        const uint32_t verdict = m->spans[i].verdict;
        if (verdict && length_of(&m->spans[i]) == longest(m, 0, verdict)) /* the longest of its verdict stands for it */
            error = write_classes(&w, KEY_VERDICT, verdict, key_class_of_tokens(length_of(&m->spans[i])));
    }
    return error ? error : write_documents(m, &w);
}

/* --- From a trace ------------------------------------------------------------------------------------ */

void summary_release(summary *m)
{
    free(m->memory);
    memset(m, 0, sizeof(*m));
}

/* The arrays in one block behind the head's counts; their bytes. */
static ft_code lay_out(summary *m, size_t *bytes, ft_status *st)
{
    const summary_head *h = &m->head;
    const size_t n = (h->owners + h->without) * sizeof(uint64_t) + h->spans * sizeof(summary_span) +
                     (size_t)h->places * sizeof(summary_place) + h->experts * sizeof(summary_expert);
    char *at = ft_alloc_array(n, 1);
    if (!at)
        return ft_fail(st, FT_ERR_MEM, "store: no room for a trace's summary");
    m->memory = at;
    m->owners = (uint64_t *)(void *)at;
    m->without = m->owners + h->owners;
    m->spans = (summary_span *)(void *)(m->without + h->without);
    m->places = (summary_place *)(void *)(m->spans + h->spans);
    m->experts = (summary_expert *)(void *)(m->places + h->places);
    *bytes = n;
    return FT_OK;
}

static size_t count_of(const json_t *object, const char *field, size_t most)
{
    const size_t n = json_array_size(json_object_get(object, field));
    return n < most ? n : most;
}

static uint32_t whole(const json_t *object, const char *field)
{
    const json_int_t n = json_integer_value(json_object_get(object, field));
    return n < 0 ? 0 : n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* The owner's number in the summary; one more where there is room, else -1. */
static int owner_number(summary *m, const char *name)
{
    if (!name)
        return -1;
    const uint64_t hash = summary_hash(name);
    for (int i = 0; i < m->head.owners; i++)
        if (m->owners[i] == hash)
            return i;
    if (m->head.owners == FT_MAX_OWNERS)
        return -1;
    m->owners[m->head.owners] = hash;
    return m->head.owners++;
}

/* Documents of all spans, a place each where they have ids. */
static uint32_t most_places(const summary_head *h, const json_t *spans)
{
    uint64_t n = 0;
    for (size_t i = 0; i < h->spans; i++)
        n += json_array_size(json_object_get(json_array_get(spans, i), "docs"));
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static void fill_span(summary *m, uint32_t number, const json_t *span, uint32_t *place)
{
    summary_span *s = &m->spans[number];
    const json_t *owners = json_object_get(span, "owners"), *docs = json_object_get(span, "docs"), *doc;
    size_t k;
    *s = (summary_span){.start = whole(span, "start"),
                        .end = whole(span, "end"),
                        .first_place = *place,
                        .verdict = summary_verdict(span_verdict(span))};
    for (k = 0; k < json_array_size(owners); k++) {
        const int o = owner_number(m, json_string_value(json_array_get(owners, k)));
        s->owners |= o >= 0 ? UINT64_C(1) << o : 0;
    }
    json_array_foreach(docs, k, doc)
    {
        const char *id = json_string_value(json_object_get(doc, "id"));
        const int o = owner_number(m, json_string_value(json_object_get(doc, "owner")));
        if (!id || *place == m->head.places)
            continue;
        s->owners |= o >= 0 ? UINT64_C(1) << o : 0;
        m->places[(*place)++] = (summary_place){summary_hash(id), o >= 0 ? (uint32_t)o : UINT32_MAX, number};
    }
    s->places = *place - s->first_place;
}

/* Owners, spans and places, of which nobody knows how many there are before all have been looked at: with room for as
 * many as there can be, then in `out`, which has just the room. out->head has all other counts. */
static ft_code fill_spans(summary *out, const json_t *spans, ft_status *st)
{
    summary draft = {.head = out->head};
    uint32_t place = 0;
    size_t bytes;
    draft.head.owners = FT_MAX_OWNERS;
    draft.head.places = most_places(&draft.head, spans);
    ft_code rc = lay_out(&draft, &bytes, st);
    draft.head.owners = 0;
    for (uint32_t i = 0; !rc && i < draft.head.spans; i++)
        fill_span(&draft, i, json_array_get(spans, i), &place);
    out->head.owners = draft.head.owners;
    out->head.places = place;
    if (!rc)
        rc = lay_out(out, &bytes, st);
    if (!rc) {
        memcpy(out->owners, draft.owners, out->head.owners * sizeof(*out->owners));
        memcpy(out->spans, draft.spans, out->head.spans * sizeof(*out->spans));
        memcpy(out->places, draft.places, out->head.places * sizeof(*out->places));
    }
    summary_release(&draft);
    return rc;
}

ft_code summary_of(summary *out, const json_t *trace, ft_status *st)
{
    memset(out, 0, sizeof(*out));
    const json_t *experts = json_object_get(trace, "experts"), *without = json_object_get(trace, "without");
    const json_t *prompt = json_object_get(trace, "prompt");
    const char *key = json_string_value(json_object_get(trace, "key"));
    summary_head *h = &out->head;
    h->key = key ? summary_hash(key) : 0;
    h->tokens = (uint32_t)count_of(trace, "tokens", UINT32_MAX);
    h->prompt = (uint32_t)count_of(prompt, "ids", UINT32_MAX);
    h->spans = (uint16_t)count_of(trace, "spans", UINT16_MAX);
    h->experts = (uint16_t)count_of(trace, "experts", FT_MAX_EXPERTS);
    h->without = (uint16_t)count_of(trace, "without", FT_MAX_EXPERTS);
    const ft_code rc = fill_spans(out, json_object_get(trace, "spans"), st);
    if (rc)
        return rc;
    for (size_t i = 0; i < h->experts; i++) {
        const json_t *e = json_array_get(experts, i);
        out->experts[i] = (summary_expert){whole(e, "id"), (float)json_number_value(json_object_get(e, "share"))};
    }
    for (size_t i = 0; i < h->without; i++) {
        const char *name = json_string_value(json_array_get(without, i));
        out->without[i] = name ? summary_hash(name) : 0;
    }
    return FT_OK;
}

/* --- As a value ------------------------------------------------------------------------------------------ */

ft_code summary_pack(packer *p, ft_buffer *out, const json_t *trace, ft_status *st)
{
    summary m;
    ft_buffer *text = packer_text(p);
    ft_code rc = summary_of(&m, trace, st);
    if (!rc)
        rc = ft_buffer_append(out, &m.head, sizeof(m.head), st);
    if (!rc) {
        const size_t bytes = (size_t)((const char *)(m.experts + m.head.experts) - (const char *)m.memory);
        rc = ft_buffer_append(out, m.memory, bytes, st);
    }
    if (!rc)
        rc = row_write(text, trace, st);
    if (!rc)
        rc = frame_append(p, out, text->data, text->size, st);
    summary_release(&m);
    return rc;
}

/* --- Back ------------------------------------------------------------------------------------------------ */

/* Where the row's frame begins; 0 where the value is too short for what it says. */
static size_t row_offset(const summary_head *h, size_t n)
{
    const uint64_t at = sizeof(*h) + (uint64_t)(h->owners + h->without) * sizeof(uint64_t) +
                        h->spans * sizeof(summary_span) + (uint64_t)h->places * sizeof(summary_place) +
                        h->experts * sizeof(summary_expert);
    return at <= n ? (size_t)at : 0;
}

static int is_sound(const summary *m)
{
    const summary_head *h = &m->head;
    int good = h->owners <= FT_MAX_OWNERS && h->experts <= FT_MAX_EXPERTS;
    for (size_t i = 0; good && i < h->spans; i++)
        good = m->spans[i].first_place <= h->places && m->spans[i].places <= h->places - m->spans[i].first_place;
    for (size_t i = 0; good && i < h->places; i++)
        good = m->places[i].span < h->spans;
    return good;
}

static ft_code damaged(const char *id, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "trace %s: its summary is damaged", id);
}

ft_code summary_read(summary *out, const void *bytes, size_t n, const char *id, ft_status *st)
{
    size_t size;
    memset(out, 0, sizeof(*out));
    if (n < sizeof(out->head))
        return damaged(id, st);
    memcpy(&out->head, bytes, sizeof(out->head));
    if (!row_offset(&out->head, n))
        return damaged(id, st);
    const ft_code rc = lay_out(out, &size, st);
    if (rc)
        return rc;
    memcpy(out->memory, (const char *)bytes + sizeof(out->head), size);
    if (is_sound(out))
        return FT_OK;
    summary_release(out);
    return damaged(id, st);
}

ft_code summary_read_row(packer *p, json_t **out, const void *bytes, size_t n, const row_choice *choice, const char *id,
                         ft_status *st)
{
    summary_head h;
    *out = NULL;
    if (n < sizeof(h))
        return damaged(id, st);
    memcpy(&h, bytes, sizeof(h));
    const size_t at = row_offset(&h, n);
    if (!at)
        return damaged(id, st);
    return row_read(p, out, (const char *)bytes + at, n - at, h.spans, choice, id, st);
}
