#include "tracer/ft_prov.h"

#include "base/ft_buffer.h"
#include "tracer/ft_store.h"
#include "tracer/tracer_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kinds of elements and of relations, each a member of the document. */
typedef enum section {
    ENTITY,
    ACTIVITY,
    AGENT,
    USED,
    GENERATED,
    ATTRIBUTED,
    ASSOCIATED,
    DERIVED,
    INVALIDATED,
    SECTIONS
} section;
static const char *const section_names[SECTIONS] = {
    "entity",         "activity",        "agent", "used", "wasGeneratedBy", "wasAttributedTo", "wasAssociatedWith",
    "wasDerivedFrom", "wasInvalidatedBy"};
/* What a relation leads from, and to. */
static const char *const ends[SECTIONS][2] = {[USED] = {"prov:activity", "prov:entity"},
                                              [GENERATED] = {"prov:entity", "prov:activity"},
                                              [ATTRIBUTED] = {"prov:entity", "prov:agent"},
                                              [ASSOCIATED] = {"prov:activity", "prov:agent"},
                                              [DERIVED] = {"prov:generatedEntity", "prov:usedEntity"},
                                              [INVALIDATED] = {"prov:entity", "prov:activity"}};

static const struct {
    const char *prefix, *uri;
} namespaces[] = {
    {"ft", "urn:flextrace:ns:"},         {"trace", "urn:flextrace:trace:"}, {"model", "urn:flextrace:model:"},
    {"expert", "urn:flextrace:expert:"}, {"index", "urn:flextrace:index:"}, {"document", "urn:flextrace:document:"},
    {"owner", "urn:flextrace:owner:"},   {"key", "urn:flextrace:key:"},     {"service", "urn:flextrace:service:"}};

typedef struct maker {
    const json_t *trace;
    const char *id, *created; /* created: NULL, unknown */
    json_t *sections[SECTIONS];
    int failed;
} maker;

static json_t *field(const json_t *object, const char *key)
{
    return json_object_get(object, key);
}

/* --- Names -------------------------------------------------------------------------- */

/* The prefix is ours; what follows is put together of parts: letters and digits as they are, '-', '.', '_' inside, all
 * else as %XX, so that any id has a name that PROV-N can write too. NULL when memory is out. */
static char *name_of(const char *prefix, const json_t *const *parts, size_t count)
{
    ft_buffer out = {0};
    ft_code rc = ft_buffer_printf(&out, NULL, "%s:", prefix);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(parts[i]);
        const size_t n = json_string_length(parts[i]);
        if (!rc && i)
            rc = ft_buffer_append(&out, "/", 1, NULL);
        for (size_t k = 0; !rc && k < n; k++) {
            const unsigned char c = (unsigned char)text[k];
            const int letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
            const int inside = k && k + 1 < n && (c == '-' || c == '.' || c == '_');
            rc = ft_buffer_printf(&out, NULL, letter || inside ? "%c" : "%%%02X", c);
        }
    }
    if (!rc)
        return out.data;
    ft_buffer_release(&out);
    return NULL;
}

static char *name_of_one(const char *prefix, const json_t *part)
{
    return name_of(prefix, &part, 1);
}

static char *name_of_two(const char *prefix, const json_t *a, const json_t *b)
{
    const json_t *const parts[] = {a, b};
    return name_of(prefix, parts, 2);
}

/* Something of this trace: "trace:trc_…/output". */
static void name_here(const maker *m, char out[100], const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void name_here(const maker *m, char out[100], const char *fmt, ...)
{
    va_list args;
    const int n = snprintf(out, 100, "trace:%s/", m->id);
    va_start(args, fmt);
    vsnprintf(out + n, 100 - (size_t)n, fmt, args);
    va_end(args);
}

/* --- Elements and relations ------------------------------------------------------------ */

static json_t *qualified(const char *name)
{
    return json_pack("{s:s,s:s}", "$", name, "type", "prov:QUALIFIED_NAME");
}

/* An element of that name with its type, once; the same one where it is there. A view; NULL when memory is out. */
static json_t *element(maker *m, section kind, const char *name, const char *type)
{
    json_t *there = name ? json_object_get(m->sections[kind], name) : NULL;
    m->failed |= !name;
    if (there || !name)
        return there;
    json_t *made = json_object();
    put(made, "prov:type", qualified(type), &m->failed);
    put(m->sections[kind], name, made, &m->failed);
    return json_object_get(m->sections[kind], name);
}

/* What the trace does not know is left out. */
static void attribute(maker *m, json_t *of, const char *name, const json_t *value)
{
    if (of && value && !json_is_null(value))
        put(of, name, json_deep_copy(value), &m->failed);
}

/* A relation of two names, once; a view of it. */
static json_t *relate(maker *m, section kind, const char *from, const char *to)
{
    char key[40];
    json_t *all = m->sections[kind], *made = json_object();
    snprintf(key, sizeof(key), "_:%s%zu", section_names[kind], json_object_size(all) + 1);
    put(made, ends[kind][0], from ? json_string(from) : NULL, &m->failed);
    put(made, ends[kind][1], to ? json_string(to) : NULL, &m->failed);
    put(all, key, made, &m->failed);
    return json_object_get(all, key);
}

static void at_time(maker *m, json_t *of, const char *name, const char *time)
{
    if (of && time)
        put(of, name, json_string(time), &m->failed);
}

/* --- Who ----------------------------------------------------------------------------------- */

/* Its name; the caller frees. */
static char *owner_agent(maker *m, const json_t *owner)
{
    char *name = name_of_one("owner", owner);
    json_t *agent = element(m, AGENT, name, "ft:Owner");
    attribute(m, agent, "prov:label", owner);
    return name;
}

static void attribute_to_owner(maker *m, const char *entity, const json_t *owner)
{
    if (!json_is_string(owner))
        return;
    char *agent = owner_agent(m, owner);
    (void)relate(m, ATTRIBUTED, entity, agent);
    free(agent);
}

static char *service_agent(maker *m)
{
    const json_t *engine = field(field(m->trace, "provenance"), "engine");
    json_t *named =
        json_is_string(field(m->trace, "model")) ? json_incref(field(m->trace, "model")) : json_string("flextrace");
    char *name = name_of_one("service", named);
    json_t *agent = element(m, AGENT, name, "prov:SoftwareAgent");
    put(agent, "prov:label", json_string("flextrace"), &m->failed);
    attribute(m, agent, "ft:version", field(engine, "version"));
    json_decref(named);
    return name;
}

static char *key_agent(maker *m)
{
    const json_t *key = field(m->trace, "key");
    if (!json_is_string(key))
        return NULL;
    char *name = name_of_one("key", key);
    attribute(m, element(m, AGENT, name, "ft:Key"), "prov:label", key);
    return name;
}

/* --- With what ------------------------------------------------------------------------------- */

/* Under its name and, where it is known, which files it was. NULL: no model is known; the caller drops it. */
static json_t *model_id(const json_t *trace)
{
    static const char head[] = "sha256:";
    const json_t *model = field(trace, "model");
    const char *identity = json_string_value(field(field(field(trace, "provenance"), "engine"), "model_identity"));
    if (!json_is_string(model))
        return NULL;
    if (!identity)
        return json_deep_copy(model);
    identity += strncmp(identity, head, sizeof(head) - 1) ? 0 : sizeof(head) - 1;
    return json_sprintf("%s-%s", json_string_value(model), identity);
}

static void use(maker *m, const char *activity, const char *entity, const char *role)
{
    json_t *used = relate(m, USED, activity, entity);
    if (used)
        put(used, "prov:role", qualified(role), &m->failed);
}

/* Its name; the caller frees. */
static char *expert_name(maker *m, const json_t *model, const json_t *expert)
{
    json_t *number = json_sprintf("%d", (int)json_integer_value(field(expert, "id")));
    char *name = number ? name_of_two("expert", model, number) : NULL;
    json_decref(number);
    m->failed |= !name;
    return name;
}

/* Model and experts; those that took part were used. */
static void add_model(maker *m, const char *activity)
{
    const json_t *engine = field(field(m->trace, "provenance"), "engine"), *x;
    json_t *id = model_id(m->trace);
    size_t i;
    if (!id)
        return;
    char *name = name_of_one("model", id);
    json_t *model = element(m, ENTITY, name, "ft:Model");
    attribute(m, model, "prov:label", field(m->trace, "model"));
    attribute(m, model, "ft:identity", field(engine, "model_identity"));
    attribute(m, model, "ft:kernels", field(engine, "kernels"));
    attribute(m, model, "ft:compute", field(engine, "compute"));
    use(m, activity, name, "ft:model");
    json_array_foreach(field(m->trace, "experts"), i, x)
    {
        char *expert = expert_name(m, id, x);
        const char *state = json_string_value(field(x, "state"));
        json_t *e = element(m, ENTITY, expert, "ft:Expert");
        attribute(m, e, "ft:expert", field(x, "id"));
        attribute(m, e, "ft:state", field(x, "state"));
        attribute(m, e, "ft:share", field(x, "share"));
        attribute_to_owner(m, expert, field(x, "owner"));
        if (state && !strcmp(state, "active"))
            use(m, activity, expert, "ft:expert");
        free(expert);
    }
    free(name);
    json_decref(id);
}

/* By the root of its state; infini-gram's folders have none. */
static void add_indexes(maker *m, const char *activity)
{
    const json_t *x;
    size_t i;
    json_array_foreach(field(field(m->trace, "provenance"), "indexes"), i, x)
    {
        json_t *root = json_is_string(field(x, "root")) ? json_incref(field(x, "root")) : json_sprintf("%zu", i);
        m->failed |= !root;
        char *name = name_of_two("index", field(x, "owner"), root);
        json_t *e = element(m, ENTITY, name, "ft:Index");
        attribute(m, e, "ft:root", field(x, "root"));
        attribute(m, e, "ft:documents", field(x, "documents"));
        attribute(m, e, "ft:tokens", field(x, "tokens"));
        attribute_to_owner(m, name, field(x, "owner"));
        use(m, activity, name, "ft:index");
        free(name);
        json_decref(root);
    }
}

/* --- Spans ------------------------------------------------------------------------------------- */

static int is_among(const json_t *list, const json_t *name)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), name))
            return 1;
    return 0;
}

/* Those whom the verdict names; of a trace that was kept before there were verdicts, whose index holds the span. */
static const json_t *owners_of(const json_t *span)
{
    const json_t *named = field(span, "verdict_owners");
    return json_is_array(named) ? named : field(span, "owners");
}

/* The span stands in the document word for word. One that was erased since has no name any more. */
static void derive_from_document(maker *m, const char *span, const json_t *document)
{
    const json_t *owner = field(document, "owner"), *id = field(document, "id");
    if (!json_is_string(owner) || !json_is_string(id))
        return;
    char *name = name_of_two("document", owner, id);
    const size_t before = json_object_size(m->sections[ENTITY]);
    json_t *e = element(m, ENTITY, name, "ft:Document");
    if (json_object_size(m->sections[ENTITY]) > before) {
        attribute(m, e, "prov:label", id);
        attribute(m, e, "ft:source", field(document, "source"));
        attribute_to_owner(m, name, owner);
    }
    json_t *r = relate(m, DERIVED, span, name);
    if (r)
        put(r, "prov:type", qualified("prov:Quotation"), &m->failed);
    free(name);
}

/* The span became more probable by the expert: what the verdict says where no text of its owner's carries it. */
static void derive_from_experts(maker *m, const char *span, const json_t *owners)
{
    const json_t *x;
    size_t i;
    json_t *id = model_id(m->trace);
    json_array_foreach(field(m->trace, "experts"), i, x)
    {
        if (!id || !is_among(owners, field(x, "owner")))
            continue;
        char *expert = expert_name(m, id, x);
        json_t *r = expert && json_object_get(m->sections[ENTITY], expert) ? relate(m, DERIVED, span, expert) : NULL;
        if (r)
            put(r, "prov:type", qualified("ft:Influence"), &m->failed);
        free(expert);
    }
    json_decref(id);
}

/* Whether the i-th document stands in the list before: a span may stand in it twice. */
static int was_named(const json_t *documents, size_t i)
{
    const json_t *x = json_array_get(documents, i);
    for (size_t k = 0; k < i; k++)
        if (json_equal(field(json_array_get(documents, k), "id"), field(x, "id")) &&
            json_equal(field(json_array_get(documents, k), "owner"), field(x, "owner")))
            return 1;
    return 0;
}

static void add_span(maker *m, const char *activity, const char *output, const json_t *span, size_t number)
{
    static const char *const kept[][2] = {{"ft:start", "start"},
                                          {"ft:end", "end"},
                                          {"ft:count", "count"},
                                          {"ft:verdict", "verdict"},
                                          {"ft:rule", "verdict_rule"}};
    char name[100];
    const json_t *owners = owners_of(span), *x;
    const char *rule = json_string_value(field(span, "verdict_rule"));
    size_t i;
    name_here(m, name, "span/%zu", number);
    json_t *e = element(m, ENTITY, name, "ft:Span");
    for (i = 0; i < sizeof(kept) / sizeof(*kept); i++)
        attribute(m, e, kept[i][0], field(span, kept[i][1]));
    if (e)
        put(e, "ft:of", qualified(output), &m->failed);
    json_t *made = relate(m, GENERATED, name, activity);
    at_time(m, made, "prov:time", m->created);
    json_array_foreach(owners, i, x)
    {
        attribute_to_owner(m, name, x);
    }
    json_array_foreach(field(span, "docs"), i, x)
    {
        if (is_among(owners, field(x, "owner")) && !was_named(field(span, "docs"), i))
            derive_from_document(m, name, x);
    }
    if (rule && (!strncmp(rule, "causal-", 7) || !strncmp(rule, "routing-", 8)))
        derive_from_experts(m, name, owners);
}

/* --- The whole ----------------------------------------------------------------------------------- */

/* Of tokens that were generated; a text that was given was only searched for. */
static int is_generation(const json_t *trace)
{
    return json_is_object(field(trace, "parameters"));
}

static void add_texts(maker *m, char prompt[100], char output[100])
{
    const json_t *p = field(m->trace, "prompt"), *r = field(m->trace, "response");
    name_here(m, prompt, "prompt");
    name_here(m, output, "output");
    const size_t tokens = json_array_size(field(p, "ids"));
    json_t *e = tokens || is_generation(m->trace) ? element(m, ENTITY, prompt, "ft:Prompt") : NULL;
    if (e)
        put(e, "ft:tokens", json_size(tokens), &m->failed);
    e = element(m, ENTITY, output, "ft:Output");
    if (e)
        put(e, "ft:tokens", json_size(json_array_size(field(r, "ids"))), &m->failed);
    attribute(m, e, "ft:digest", field(field(m->trace, "provenance"), "output_digest"));
    attribute(m, e, "ft:finishReason", field(m->trace, "finish_reason"));
}

static void add_generation(maker *m, const char *prompt, const char *output, const char *service, const char *key)
{
    char activity[100];
    name_here(m, activity, "generation");
    json_t *a = element(m, ACTIVITY, activity, "ft:Generation");
    at_time(m, a, "prov:endTime", m->created);
    attribute(m, a, "ft:seed", field(field(m->trace, "parameters"), "seed"));
    attribute(m, a, "ft:temperature", field(field(m->trace, "parameters"), "temperature"));
    use(m, activity, prompt, "ft:prompt");
    add_model(m, activity);
    at_time(m, relate(m, GENERATED, output, activity), "prov:time", m->created);
    (void)relate(m, ATTRIBUTED, output, service);
    (void)relate(m, DERIVED, output, prompt);
    (void)relate(m, ASSOCIATED, activity, service);
    if (key) {
        json_t *r = relate(m, ASSOCIATED, activity, key);
        if (r)
            put(r, "prov:role", qualified("ft:requester"), &m->failed);
    }
}

/* The search for spans. */
static void add_tracing(maker *m, const char *prompt, const char *output, const char *service, const char *key)
{
    char activity[100];
    const json_t *x;
    size_t i;
    name_here(m, activity, "tracing");
    at_time(m, element(m, ACTIVITY, activity, "ft:Tracing"), "prov:endTime", m->created);
    use(m, activity, output, "ft:output");
    if (json_object_get(m->sections[ENTITY], prompt)) /* documents are ranked by it too */
        use(m, activity, prompt, "ft:prompt");
    if (!is_generation(m->trace) && json_is_object(field(field(m->trace, "provenance"), "engine")))
        add_model(m, activity); /* it was read through the model */
    add_indexes(m, activity);
    (void)relate(m, ASSOCIATED, activity, service);
    if (key && !is_generation(m->trace)) {
        json_t *r = relate(m, ASSOCIATED, activity, key);
        if (r)
            put(r, "prov:role", qualified("ft:requester"), &m->failed);
    }
    json_array_foreach(field(m->trace, "spans"), i, x)
    {
        add_span(m, activity, output, x, i);
    }
}

static void invalidate(maker *m, const char *entity, const char *activity, const char *time)
{
    at_time(m, relate(m, INVALIDATED, entity, activity), "prov:time", time);
}

/* The output as it was, and the spans whose words went. */
static void add_redaction(maker *m, const char *output)
{
    const json_t *mark = field(m->trace, "redacted"), *x;
    const char *time = json_string_value(mark);
    char activity[100], span[100];
    size_t i;
    if (!mark || json_is_null(mark) || json_is_false(mark))
        return;
    name_here(m, activity, "redaction");
    at_time(m, element(m, ACTIVITY, activity, "ft:Redaction"), "prov:endTime", time);
    invalidate(m, output, activity, time);
    json_array_foreach(field(m->trace, "spans"), i, x)
    {
        if (!json_is_true(field(x, "redacted")))
            continue;
        name_here(m, span, "span/%zu", i);
        invalidate(m, span, activity, time);
    }
}

static json_t *prefixes(void)
{
    json_t *out = json_object();
    for (size_t i = 0; i < sizeof(namespaces) / sizeof(*namespaces); i++)
        (void)json_object_set_new(out, namespaces[i].prefix, json_string(namespaces[i].uri));
    return out;
}

static void make_all(maker *m)
{
    char prompt[100], output[100];
    char *service = service_agent(m), *key = key_agent(m);
    add_texts(m, prompt, output);
    if (is_generation(m->trace))
        add_generation(m, prompt, output, service, key);
    add_tracing(m, prompt, output, service, key);
    add_redaction(m, output);
    free(service);
    free(key);
}

ft_code ft_prov_json(const json_t *trace, json_t **out, ft_status *st)
{
    maker m = {.trace = trace,
               .id = json_string_value(field(trace, "id")),
               .created = json_string_value(field(trace, "created"))};
    *out = NULL;
    if (!m.id || !ft_trace_id_time(m.id, &(uint64_t){0}))
        return ft_fail(st, FT_ERR_ARG, "lineage is of a stored trace: this one has no id");
    json_t *document = json_pack("{s:o}", "prefix", prefixes());
    m.failed = !document;
    for (size_t i = 0; i < SECTIONS; i++) {
        m.sections[i] = json_object();
        put(document, section_names[i], m.sections[i], &m.failed);
    }
    if (!m.failed)
        make_all(&m);
    for (size_t i = 0; !m.failed && i < SECTIONS; i++)
        if (!json_object_size(m.sections[i]))
            (void)json_object_del(document, section_names[i]);
    if (!m.failed) {
        *out = document;
        return FT_OK;
    }
    json_decref(document);
    return ft_fail(st, FT_ERR_MEM, "trace %s: no room for its lineage", m.id);
}
