/* What tracer/ft_prov.h promises: a trace as PROV-JSON whose every name is declared and whose every relation leads
 * where PROV says it does. */
#include "tests/ft_test_http.h"

#include "tracer/ft_prov.h"

#include <ctype.h>

/* --- Its form ---------------------------------------------------------------------------------------- */

/* Each relation, with the kinds of what it leads from and to. */
static const struct {
    const char *name, *from, *from_kind, *to, *to_kind;
} relations[] = {{"used", "prov:activity", "activity", "prov:entity", "entity"},
                 {"wasGeneratedBy", "prov:entity", "entity", "prov:activity", "activity"},
                 {"wasAttributedTo", "prov:entity", "entity", "prov:agent", "agent"},
                 {"wasAssociatedWith", "prov:activity", "activity", "prov:agent", "agent"},
                 {"wasDerivedFrom", "prov:generatedEntity", "entity", "prov:usedEntity", "entity"},
                 {"wasInvalidatedBy", "prov:entity", "entity", "prov:activity", "activity"}};
enum { RELATIONS = sizeof(relations) / sizeof(*relations) };

/* "prefix:local", the prefix declared, the local part one that PROV-N can write. */
static void assert_name(const json_t *document, const char *name)
{
    char prefix[40];
    const char *colon = strchr(name, ':');
    if (!colon)
        fail_msg("'%s' has no prefix", name);
    snprintf(prefix, sizeof(prefix), "%.*s", (int)(colon - name), name);
    if (!json_object_get(json_object_get(document, "prefix"), prefix) && strcmp(prefix, "prov") != 0)
        fail_msg("'%s': its prefix is not declared", name);
    const char *local = colon + 1;
    const size_t n = strlen(local);
    assert_true(n > 0 && local[n - 1] != '.' && local[0] != '.' && local[0] != '-');
    for (size_t i = 0; i < n; i++)
        if (local[i] == '%')
            assert_true(isxdigit((unsigned char)local[i + 1]) && isxdigit((unsigned char)local[i + 2]));
        else if (!isalnum((unsigned char)local[i]) && !strchr("-._/", local[i]))
            fail_msg("'%s': '%c' is in no name", name, local[i]);
}

static void assert_sound(const json_t *document)
{
    static const char *const kinds[] = {"entity", "activity", "agent"};
    const char *key;
    json_t *value;
    for (size_t i = 0; i < 3; i++)
        json_object_foreach(json_object_get(document, kinds[i]), key, value)
        {
            const json_t *type = json_object_get(value, "prov:type");
            assert_name(document, key);
            assert_name(document, text_at(type, "$"));
            assert_string_equal(text_at(type, "type"), "prov:QUALIFIED_NAME");
        }
    for (size_t i = 0; i < RELATIONS; i++)
        json_object_foreach(json_object_get(document, relations[i].name), key, value)
        {
            assert_int_equal(strncmp(key, "_:", 2), 0);
            const char *from = text_at(value, relations[i].from), *to = text_at(value, relations[i].to);
            if (!from || !json_object_get(json_object_get(document, relations[i].from_kind), from))
                fail_msg("%s %s: leads from '%s'", relations[i].name, key, from ? from : "");
            if (!to || !json_object_get(json_object_get(document, relations[i].to_kind), to))
                fail_msg("%s %s: leads to '%s'", relations[i].name, key, to ? to : "");
        }
    json_object_foreach((json_t *)(uintptr_t)document, key, value)
    {
        int known = !strcmp(key, "prefix");
        for (size_t i = 0; i < 3; i++)
            known |= !strcmp(key, kinds[i]);
        for (size_t i = 0; i < RELATIONS; i++)
            known |= !strcmp(key, relations[i].name);
        assert_true(known);
        assert_true(json_object_size(value) > 0);
    }
}

static json_t *lineage_of(const json_t *trace)
{
    json_t *document;
    ft_status st;
    assert_ok(ft_prov_json(trace, &document, &st), st);
    assert_sound(document);
    return document;
}

/* How many relations of that kind lead so; NULL: from, or to, anything. */
static size_t count(const json_t *document, const char *relation, const char *from, const char *to)
{
    size_t n = 0, i = 0;
    const char *key;
    json_t *value;
    while (strcmp(relations[i].name, relation) != 0)
        i++;
    json_object_foreach(json_object_get(document, relation), key, value)
    {
        n += (!from || !strcmp(text_at(value, relations[i].from), from)) &&
             (!to || !strcmp(text_at(value, relations[i].to), to));
    }
    return n;
}

/* --- A trace made by hand -------------------------------------------------------------------------------- */

#define ID "trc_01KARECE1PTSMADEBYHAND0000"
#define HERE "trace:" ID "/"

static json_t *a_trace(void)
{
    static const char text[] =
        "{'id':'" ID "','created':'2026-01-31T12:00:00Z','key':'local','model':'demo','finish_reason':'length',"
        "'parameters':{'temperature':0.7,'seed':7},'without':['news'],'prompt':{'text':'a secret "
        "question','ids':[1,2,3]},"
        "'response':{'text':'a secret answer','ids':[4,5,6,7]},"
        "'experts':[{'id':0,'owner':'public','state':'active','share':0.6},"
        "{'id':1,'owner':'news','state':'opted_out','share':0.0},{'id':2,'owner':'St. Mary / "
        "archive','state':'active','share':0.4}],"
        "'spans':["
        "{'start':0,'end':3,'count':2,'owners':['public','St. Mary / "
        "archive'],'verdict':'public','verdict_rule':'verbatim-public',"
        "'verdict_owners':['public'],'docs':[{'owner':'public','id':'a b:c/d#1','source':'web'},"
        "{'owner':'St. Mary / archive','id':'private'},{'owner':'public','id':'a b:c/d#1','source':'web'}]},"
        "{'start':2,'end':4,'count':1,'owners':[],'verdict':'influenced','verdict_rule':'causal-one',"
        "'verdict_owners':['St. Mary / archive'],'docs':[]},"
        "{'start':1,'end':2,'count':9,'owners':['public'],'verdict':'none','verdict_rule':'none','verdict_owners':[],"
        "'docs':[{'owner':'public','id':'elsewhere'}]}],"
        "'provenance':{'tokenizer_digest':null,'indexes':[{'owner':'public','root':'sha256:00ff','documents':1,'tokens'"
        ":9},"
        "{'owner':'St. Mary / archive','root':null,'documents':4,'tokens':90}],'routing':null,"
        "'engine':{'version':'0.1.0','kernels':'scalar','compute':'float32','kv_type':'float32','model_identity':'"
        "sha256:12ab-without-2'},"
        "'output_digest':'sha256:1111','generated_from':0}}";
    char *json = strdup(text);
    for (char *p = json; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    json_t *t = json_loads(json, 0, NULL);
    free(json);
    assert_non_null(t);
    return t;
}

static void a_generation_used_prompt_model_and_the_experts_that_took_part(void **state)
{
    (void)state;
    json_t *t = a_trace(), *d = lineage_of(t);
    static const char model[] = "model:demo-12ab-without-2", expert[] = "expert:demo-12ab-without-2/";
    char name[80];
    assert_int_equal(count(d, "used", HERE "generation", HERE "prompt"), 1);
    assert_int_equal(count(d, "used", HERE "generation", model), 1);
    for (int e = 0; e < 3; e++) {
        snprintf(name, sizeof(name), "%s%d", expert, e);
        assert_int_equal(count(d, "used", HERE "generation", name), e != 1);
        assert_int_equal(count(d, "wasAttributedTo", name, NULL), 1);
    }
    assert_int_equal(count(d, "wasAttributedTo", name, "owner:St.%20Mary%20%2F%20archive"), 1);
    assert_int_equal(count(d, "wasGeneratedBy", HERE "output", HERE "generation"), 1);
    assert_int_equal(count(d, "wasDerivedFrom", HERE "output", HERE "prompt"), 1);
    assert_int_equal(count(d, "wasAssociatedWith", HERE "generation", "service:demo"), 1);
    assert_int_equal(count(d, "wasAssociatedWith", HERE "generation", "key:local"), 1);
    assert_int_equal(count(d, "used", HERE "tracing", HERE "output"), 1);
    assert_int_equal(count(d, "used", HERE "tracing", "index:public/sha256%3A00ff"), 1);
    assert_int_equal(count(d, "used", HERE "tracing", NULL), 4);
    assert_null(json_object_get(d, "wasInvalidatedBy"));
    /* The words themselves stay in the trace. */
    char *text = json_dumps(d, 0);
    assert_null(strstr(text, "secret"));
    free(text);
    json_decref(d);
    json_decref(t);
}

static void spans_derive_from_what_their_verdict_names_and_from_nothing_else(void **state)
{
    (void)state;
    json_t *t = a_trace(), *d = lineage_of(t);
    assert_int_equal(count(d, "wasGeneratedBy", HERE "span/0", HERE "tracing"), 1);
    assert_int_equal(count(d, "wasDerivedFrom", HERE "span/0", "document:public/a%20b%3Ac%2Fd%231"), 1);
    assert_int_equal(count(d, "wasDerivedFrom", HERE "span/0", NULL), 1);
    assert_int_equal(count(d, "wasAttributedTo", HERE "span/0", "owner:public"), 1);
    assert_int_equal(count(d, "wasAttributedTo", HERE "span/0", NULL), 1);
    assert_int_equal(count(d, "wasAttributedTo", "document:public/a%20b%3Ac%2Fd%231", "owner:public"), 1);
    assert_int_equal(count(d, "wasDerivedFrom", HERE "span/1", "expert:demo-12ab-without-2/2"), 1);
    assert_int_equal(count(d, "wasDerivedFrom", HERE "span/1", NULL), 1);
    assert_int_equal(count(d, "wasDerivedFrom", HERE "span/2", NULL), 0);
    assert_int_equal(count(d, "wasAttributedTo", HERE "span/2", NULL), 0);
    const json_t *span = json_object_get(json_object_get(d, "entity"), HERE "span/0");
    assert_int_equal(json_integer_value(json_object_get(span, "ft:end")), 3);
    assert_string_equal(text_at(span, "ft:verdict"), "public");
    assert_string_equal(text_at(json_object_get(span, "ft:of"), "$"), HERE "output");
    json_decref(d);
    json_decref(t);
}

static void a_redaction_invalidates_the_output_and_the_spans_whose_words_went(void **state)
{
    (void)state;
    json_t *t = a_trace();
    json_t *span = json_array_get(json_object_get(t, "spans"), 0),
           *document = json_array_get(json_object_get(span, "docs"), 0);
    json_object_set_new(t, "redacted", json_string("2026-02-01T00:00:00Z"));
    json_object_set_new(span, "redacted", json_true());
    json_array_remove(json_object_get(span, "docs"), 2);
    json_object_set_new(document, "id", json_null());
    json_object_set_new(document, "source", json_null());
    json_t *d = lineage_of(t);
    assert_int_equal(count(d, "wasInvalidatedBy", NULL, HERE "redaction"), 2);
    assert_int_equal(count(d, "wasInvalidatedBy", HERE "output", HERE "redaction"), 1);
    assert_int_equal(count(d, "wasInvalidatedBy", HERE "span/0", HERE "redaction"), 1);
    assert_int_equal(count(d, "wasDerivedFrom", HERE "span/0", NULL), 0); /* nobody knows any more from what */
    const json_t *activity = json_object_get(json_object_get(d, "activity"), HERE "redaction");
    assert_string_equal(text_at(activity, "prov:endTime"), "2026-02-01T00:00:00Z");
    json_decref(d);
    json_decref(t);
}

static void a_text_that_was_given_is_searched_and_was_generated_by_nothing_known(void **state)
{
    (void)state;
    json_t *t = a_trace();
    json_object_set_new(t, "parameters", json_null());
    json_t *d = lineage_of(t);
    assert_null(json_object_get(json_object_get(d, "activity"), HERE "generation"));
    assert_int_equal(count(d, "wasGeneratedBy", HERE "output", NULL), 0);
    assert_int_equal(count(d, "used", HERE "tracing", "model:demo-12ab-without-2"), 1);
    assert_int_equal(count(d, "wasAssociatedWith", HERE "tracing", "key:local"), 1);
    json_decref(d);
    /* Of what no model read, kept before there was provenance, nothing is made up. */
    static const char *const all[] = {"provenance", "key", "model", "experts", "without", "created", "finish_reason"};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        json_object_del(t, all[i]);
        json_decref(lineage_of(t));
    }
    json_object_del(json_array_get(json_object_get(t, "spans"), 0), "verdict_owners");
    d = lineage_of(t);
    assert_int_equal(count(d, "wasAttributedTo", HERE "span/0", NULL), 2); /* all who hold it */
    json_decref(d);
    json_object_del(t, "spans");
    json_decref(lineage_of(t));
    json_object_del(t, "id");
    assert_int_equal(ft_prov_json(t, &d, NULL), FT_ERR_ARG);
    assert_null(d);
    json_decref(t);
}

static ft_code make_one(void *context, ft_status *st)
{
    json_t *d = NULL;
    const ft_code rc = ft_prov_json(context, &d, st);
    json_decref(d);
    return rc;
}

static void making_survives_every_failed_allocation(void **state)
{
    (void)state;
    json_t *t = a_trace();
    ft_test_each_allocation_fails(make_one, t);
    json_decref(t);
}

/* --- Over HTTP ------------------------------------------------------------------------------------------------ */

static void a_stored_trace_is_shown_as_lineage_where_that_is_asked_for(void **state)
{
    (void)state;
    need_server();
    char path[200], output[100];
    json_t *answer = ft_http_json(
        at, "POST", "/v1/completions",
        "{\"model\":\"test\",\"prompt\":\"In the beginning\",\"max_tokens\":8,\"flextrace\":{\"trace\":true}}", 200);
    const json_t *ours = json_object_get(json_array_get(json_object_get(answer, "choices"), 0), "flextrace");
    snprintf(path, sizeof(path), "/v1/traces/%s?format=prov-json", text_at(ours, "trace_id"));
    snprintf(output, sizeof(output), "trace:%s/output", text_at(ours, "trace_id"));
    json_t *d = ft_http_json(at, "GET", path, NULL, 200);
    assert_sound(d);
    assert_int_equal(count(d, "wasGeneratedBy", output, NULL), 1);
    assert_non_null(json_object_get(json_object_get(d, "agent"), "owner:scripture"));
    json_decref(d);
    json_decref(answer);
    /* A text that stands in a corpus, and what remains of its lineage after a takedown. */
    char body[600];
    snprintf(body, sizeof(body), "{\"text\":\"%s, and more\",\"store\":true}", ft_test_scripture);
    answer = ft_http_json(at, "POST", "/v1/traces", body, 201);
    snprintf(path, sizeof(path), "/v1/traces/%s?format=prov-json", text_at(answer, "id"));
    snprintf(output, sizeof(output), "trace:%s/output", text_at(answer, "id"));
    json_decref(answer);
    d = ft_http_json(at, "GET", path, NULL, 200);
    assert_sound(d);
    assert_true(count(d, "wasDerivedFrom", NULL, "document:scripture/gen-1") > 0);
    assert_int_equal(count(d, "wasAttributedTo", "document:scripture/gen-1", "owner:scripture"), 1);
    json_decref(d);
    json_decref(ft_http_json(at, "POST", "/v1/takedowns", "{\"owner\":\"scripture\",\"documents\":[\"gen-1\"]}", 201));
    d = ft_http_json(at, "GET", path, NULL, 200);
    assert_sound(d);
    assert_int_equal(count(d, "wasDerivedFrom", NULL, "document:scripture/gen-1"), 0);
    assert_int_equal(count(d, "wasInvalidatedBy", output, NULL), 1);
    char *text = json_dumps(d, 0);
    assert_null(strstr(text, "gen-1"));
    free(text);
    json_decref(d);
    /* Asked for wrongly. */
    static const char *const wrong[] = {"?format=prov", "?format=prov-json&routing=full", "?format=csv"};
    for (size_t i = 0; i < 3; i++) {
        char asked[200];
        snprintf(asked, sizeof(asked), "%.*s%s", (int)strcspn(path, "?"), path, wrong[i]);
        json_decref(ft_http_json(at, "GET", asked, NULL, 400));
    }
    json_decref(ft_http_json(at, "GET", "/v1/traces/trc_01ARZ3NDEK0000000000000000?format=prov-json", NULL, 404));
}

/* A few words of these small corpora are evidence enough. */
static int open_credulous(void **state)
{
    (void)state;
    if (ft_test_federation(""))
        start_server("evidence: {verbatim_tokens: 4, verbatim_nats: 0.5}\n");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_generation_used_prompt_model_and_the_experts_that_took_part),
        cmocka_unit_test(spans_derive_from_what_their_verdict_names_and_from_nothing_else),
        cmocka_unit_test(a_redaction_invalidates_the_output_and_the_spans_whose_words_went),
        cmocka_unit_test(a_text_that_was_given_is_searched_and_was_generated_by_nothing_known),
        cmocka_unit_test(making_survives_every_failed_allocation),
        cmocka_unit_test(a_stored_trace_is_shown_as_lineage_where_that_is_asked_for),
    };
    return cmocka_run_group_tests(tests, open_credulous, close_all);
}
