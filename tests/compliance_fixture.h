/* compliance_fixture: traces of scripture's text in a served store, and what tests of the compliance routes read with. */
#ifndef FT_COMPLIANCE_FIXTURE_H
#define FT_COMPLIANCE_FIXTURE_H
#include "tests/ft_test_http.h"
#include "tracer/ft_store.h"

enum { MADE = 4 };
static char made[MADE][FT_TRACE_ID]; /* of scripture's text; the last two without its expert */

static inline void make_traces(void)
{
    for (int i = 0; i < MADE; i++) {
        char body[2000];
        snprintf(body, sizeof(body),
                 "{\"text\":\"%s. \\\"Yes\\\", he said, and no "
                 "more.\",\"prompt\":\"Speak:\",\"routing\":true,\"store\":true%s}",
                 ft_test_scripture, i < 2 ? "" : ",\"without\":[\"scripture\"]");
        json_t *t = ft_http_json(at, "POST", "/v1/traces", body, 201);
        snprintf(made[i], sizeof(made[i]), "%s", text_at(t, "id"));
        json_decref(t);
    }
}

static inline json_t *get(const char *path, int status)
{
    return ft_http_json(at, "GET", path, NULL, status);
}

static inline size_t rows_of(const json_t *list)
{
    return json_array_size(json_object_get(list, "data"));
}

static inline const json_t *row_at(const json_t *list, size_t i)
{
    return json_array_get(json_object_get(list, "data"), i);
}

#endif
