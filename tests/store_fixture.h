/* Traces made up for the store's tests: random owners, documents, verdicts, lengths, experts, keys. */
#ifndef FT_STORE_FIXTURE_H
#define FT_STORE_FIXTURE_H
#include "base/ft_random.h"
#include "tests/ft_test.h"
#include "tracer/ft_store.h"

static const char *const fixture_owners[] = {"public", "scripture", "news", "dictionary"};
static const char *const fixture_verdicts[] = {"verbatim", "influenced", "shared", "public", "none"};
static const char *const fixture_keys[] = {"local", "alice", "bob"};
enum { FIXTURE_EXPERTS = 4, FIXTURE_DOCUMENTS = 12 };

/* An id of a time, so that tests decide the order. */
static inline void fixture_id(char id[FT_TRACE_ID], uint64_t ms, unsigned number)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    memcpy(id, "trc_", 4);
    for (int i = 0; i < 10; i++)
        id[4 + i] = digits[ms >> (45 - 5 * i) & 31];
    for (int i = 0; i < 16; i++)
        id[14 + i] = digits[i < 9 ? 0 : (uint64_t)number >> (30 - 5 * (i - 9)) & 31];
    id[30] = '\0';
}

static inline json_t *fixture_span(ft_random *r)
{
    const int start = (int)ft_random_below(r, 40),
              length = 1 + (int)ft_random_below(r, ft_random_below(r, 4) ? 12 : 150);
    json_t *owners = json_array(), *docs = json_array();
    const size_t first = ft_random_below(r, 4), n = 1 + ft_random_below(r, 2);
    for (size_t i = 0; i < n; i++) {
        const char *owner = fixture_owners[(first + i) % 4];
        json_array_append_new(owners, json_string(owner));
        for (size_t d = ft_random_below(r, 3); d > 0; d--)
            json_array_append_new(docs, json_pack("{s:s,s:o,s:s}", "owner", owner, "id",
                                                  json_sprintf("doc %d", (int)ft_random_below(r, FIXTURE_DOCUMENTS)),
                                                  "snippet", "some words of it"));
    }
    return json_pack("{s:i,s:i,s:i,s:s,s:s,s:o,s:o}", "start", start, "end", start + length, "count", 2, "verdict",
                     fixture_verdicts[ft_random_below(r, 5)], "text", "words", "owners", owners, "docs", docs);
}

static inline json_t *fixture_trace(ft_random *r, const char *id)
{
    json_t *spans = json_array(), *experts = json_array(), *tokens = json_array(), *ids = json_array();
    json_t *without = json_array();
    const int out = (int)ft_random_below(r, 8), tokens_count = 1 + (int)ft_random_below(r, 30);
    if (out < 4)
        json_array_append_new(without, json_string(fixture_owners[out]));
    for (size_t i = ft_random_below(r, 4); i > 0; i--)
        json_array_append_new(spans, fixture_span(r));
    for (int e = 0; e < FIXTURE_EXPERTS; e++)
        json_array_append_new(experts, json_pack("{s:i,s:s,s:f}", "id", e, "owner", fixture_owners[e], "share",
                                                 e == out ? 0.0 : ft_random_unit(r)));
    for (int i = 0; i < tokens_count; i++) {
        json_array_append_new(tokens, json_pack("{s:i}", "id", i));
        json_array_append_new(ids, json_integer(i));
    }
    json_t *t =
        json_pack("{s:s,s:s,s:o,s:{s:s,s:[i,i]},s:{s:s,s:o},s:o,s:o,s:o}", "key", fixture_keys[ft_random_below(r, 3)],
                  "model", "demo", "without", without, "prompt", "text", "a prompt", "ids", 1, 2, "response", "text",
                  "an answer with words", "ids", ids, "tokens", tokens, "experts", experts, "spans", spans);
    assert_non_null(t);
    assert_int_equal(ft_trace_stamp(&t, id, NULL), FT_OK);
    return t;
}

static inline ft_store *fixture_open(const char *folder)
{
    ft_status st;
    ft_store *s = NULL;
    assert_ok(ft_store_open(&s, folder, 0, &st), st);
    return s;
}

static inline void fixture_assert_good(ft_store *s)
{
    json_t *report;
    ft_status st;
    assert_ok(ft_store_verify(s, NULL, &report, &st), st);
    if (!json_is_true(json_object_get(report, "good")))
        fail_msg("%s", json_dumps(report, 0));
    json_decref(report);
}

/* --- A filter, read off the trace itself ------------------------------------------------------------ */

static inline int fixture_names_hold(const json_t *names, const char *name)
{
    for (size_t i = 0; i < json_array_size(names); i++)
        if (!strcmp(json_string_value(json_array_get(names, i)), name))
            return 1;
    return 0;
}

static inline int fixture_is(const json_t *value, const char *name)
{
    return json_is_string(value) && !strcmp(json_string_value(value), name);
}

static inline int fixture_span_fits(const json_t *span, const ft_store_filter *f)
{
    const json_int_t n =
        json_integer_value(json_object_get(span, "end")) - json_integer_value(json_object_get(span, "start"));
    int document = !f->document;
    for (size_t i = 0; i < json_array_size(json_object_get(span, "docs")); i++) {
        const json_t *d = json_array_get(json_object_get(span, "docs"), i);
        document |= f->document && !strcmp(json_string_value(json_object_get(d, "id")), f->document) &&
                    (!f->owner || !strcmp(json_string_value(json_object_get(d, "owner")), f->owner));
    }
    return document && n >= (json_int_t)f->min_tokens &&
           (!f->owner || fixture_names_hold(json_object_get(span, "owners"), f->owner)) &&
           (!f->verdict || !strcmp(json_string_value(json_object_get(span, "verdict")), f->verdict));
}

static inline int fixture_fits(const json_t *trace, const char *id, const ft_store_filter *f)
{
    uint64_t ms;
    ft_trace_id_time(id, &ms);
    if (ms < f->from_ms || (f->to_ms && ms >= f->to_ms))
        return 0;
    if (f->key && strcmp(json_string_value(json_object_get(trace, "key")), f->key) != 0)
        return 0;
    if (f->model && !fixture_is(json_object_get(trace, "model"), f->model))
        return 0;
    const char *text = json_string_value(json_object_get(json_object_get(trace, "response"), "text"));
    if (f->text && (!text || !strstr(text, f->text)))
        return 0;
    if (f->without && !fixture_names_hold(json_object_get(trace, "without"), f->without))
        return 0;
    if (f->expert >= 0) {
        const double share = json_number_value(
            json_object_get(json_array_get(json_object_get(trace, "experts"), (size_t)f->expert), "share"));
        if (!(share > 0) || share < f->min_share)
            return 0;
    }
    int span = !(f->owner || f->document || f->verdict || f->min_tokens);
    for (size_t i = 0; i < json_array_size(json_object_get(trace, "spans")); i++)
        span |= fixture_span_fits(json_array_get(json_object_get(trace, "spans"), i), f);
    return span;
}

/* Times between first_ms and last_ms; `document` is room for a name. */
static inline ft_store_filter fixture_filter(ft_random *r, char document[32], uint64_t first_ms, uint64_t last_ms)
{
    ft_store_filter f = ft_store_filter_all();
    snprintf(document, 32, "doc %d", (int)ft_random_below(r, FIXTURE_DOCUMENTS + 1));
    if (ft_random_below(r, 3) == 0)
        f.owner = fixture_owners[ft_random_below(r, 4)];
    if (ft_random_below(r, 4) == 0)
        f.document = document;
    if (ft_random_below(r, 4) == 0)
        f.verdict = fixture_verdicts[ft_random_below(r, 5)];
    if (ft_random_below(r, 3) == 0)
        f.min_tokens = (uint32_t)ft_random_below(r, 90);
    if (ft_random_below(r, 3) == 0)
        f.key = fixture_keys[ft_random_below(r, 3)];
    if (ft_random_below(r, 4) == 0)
        f.without = fixture_owners[ft_random_below(r, 4)];
    if (ft_random_below(r, 4) == 0) {
        f.expert = (int)ft_random_below(r, FIXTURE_EXPERTS);
        f.min_share = ft_random_below(r, 2) ? ft_random_unit(r) : 0;
    }
    if (ft_random_below(r, 2) == 0)
        f.from_ms = first_ms + ft_random_below(r, last_ms - first_ms);
    if (ft_random_below(r, 3) == 0)
        f.to_ms = first_ms + ft_random_below(r, last_ms - first_ms);
    return f;
}
#endif
