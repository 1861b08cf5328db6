/* Whatever a route or a command takes changes what it answers, or is refused: a filter that is taken and not looked at
 * gives an answer to another question. What the description (/openapi.json) says of a route decides what is tried. And
 * usage in numbers against sums over the exported traces. */
#include "tests/ft_test_http.h"

#include "base/ft_buffer.h"
#include "tests/store_fixture.h"
#include "tracer/ft_signing.h"

#include <math.h>

enum { MADE = 80 };
static const uint64_t january = UINT64_C(1577836800000), hour = 3600000;
static char made[MADE][FT_TRACE_ID], spoken[40], takedowns[2][40]; /* spoken: of the model's text, with a receipt */

static json_t *ask(const char *method, const char *path, const char *body, int status)
{
    return ft_http_json(at, method, path, body, status);
}

/* --- A store in which every filter takes some and leaves some ------------------------------------------------- */

typedef struct made_routing {
    size_t layers, experts;
} made_routing;

static void put_trace(ft_store *s, ft_random *r, unsigned number, made_routing shape)
{
    enum { MOST_LAYERS = 64, MOST_TOKENS = 40, TOP_K = 2 };
    static uint8_t chosen[MOST_TOKENS * MOST_LAYERS * TOP_K];
    static float weights[MOST_TOKENS * MOST_LAYERS * TOP_K];
    ft_status st = {0};
    fixture_id(made[number], january + number * hour, number);
    json_t *t = fixture_trace(r, made[number]);
    json_t *response = json_object_get(t, "response");
    if (number % 3 == 0)
        json_object_set_new(t, "model", json_string("other"));
    if (number % 4 == 0)
        json_object_set_new(response, "text", json_string("another answer, longer"));
    if (number % 5 == 0) /* the one that most filters ask for took no part */
        json_object_set_new(json_array_get(json_object_get(t, "experts"), 2), "share", json_real(0));
    ft_routing routing = {.tokens = json_array_size(json_object_get(response, "ids")) + 1,
                          .layers = shape.layers,
                          .experts = shape.experts,
                          .top_k = TOP_K,
                          .expert_ids = chosen,
                          .weights = weights};
    assert_true(shape.layers <= MOST_LAYERS && routing.tokens <= MOST_TOKENS);
    for (size_t p = 0; p < routing.tokens * routing.layers; p++) {
        const size_t first = ft_random_below(r, shape.experts);
        chosen[p * TOP_K] = (uint8_t)first;
        chosen[p * TOP_K + 1] = (uint8_t)((first + 1 + ft_random_below(r, shape.experts - 1)) % shape.experts);
        weights[p * TOP_K] = (float)(0.5 + ft_random_unit(r) / 2);
        weights[p * TOP_K + 1] = 1 - weights[p * TOP_K];
    }
    assert_ok(ft_store_put(s, made[number], t, &routing, &st), st);
    json_decref(t);
}

/* One of the model's own text, with its receipt in two envelopes; the shape of its routing. */
static made_routing speak(void)
{
    char body[600], path[100];
    snprintf(body, sizeof(body), "{\"prompt\":\"Speak: \",\"text\":\"%s.\",\"routing\":true,\"store\":true}",
             ft_test_scripture);
    json_t *t = ask("POST", "/v1/traces", body, 201);
    snprintf(spoken, sizeof(spoken), "%s", text_at(t, "id"));
    json_decref(t);
    for (int hidden = 0; hidden < 2; hidden++) {
        snprintf(path, sizeof(path), "/v1/traces/%s/receipt%s", spoken, hidden ? "?prompt=hidden" : "");
        json_decref(ask("GET", path, NULL, 200));
    }
    snprintf(path, sizeof(path), "/v1/traces/%s/routing?format=json", spoken);
    json_t *routing = ask("GET", path, NULL, 200);
    const made_routing shape = {(size_t)json_integer_value(json_object_get(routing, "layers")),
                                json_array_size(json_object_get(routing, "experts"))};
    json_decref(routing);
    return shape;
}

static void take_down(int number, const char *order)
{
    json_t *certificate = ask("POST", "/v1/takedowns", order, 201);
    snprintf(takedowns[number], sizeof(takedowns[number]), "%s", text_at(certificate, "id"));
    json_decref(certificate);
}

static int open_filled(void **state)
{
    (void)state;
    static const char more[] = "signing_key: signing.pem\n";
    if (ft_signing_key_new(ft_test_path("signing.pem"), NULL, NULL))
        return 1;
    if (!ft_test_federation(""))
        return 0;
    start_server(more);
    const made_routing shape = speak();
    take_down(0, "{\"owner\":\"public\",\"documents\":[\"man-2\"],\"policy\":\"list\",\"compact\":false}");
    take_down(1, "{\"owner\":\"dictionary\",\"documents\":[\"d-1\"],\"policy\":\"list\",\"compact\":false}");
    stop_server();
    ft_random r;
    ft_random_init(&r, 11);
    ft_store *s = fixture_open(ft_test_path("store"));
    for (unsigned i = 0; i < MADE; i++)
        put_trace(s, &r, i, shape);
    ft_store_close(s);
    start_server(more);
    return 0;
}

/* --- What is tried ------------------------------------------------------------------------------------------- */

/* What all that filter take. */
static const struct {
    const char *name, *value, *with; /* with: stands in both questions */
} filters[] = {
    {"from", "2020-01-02", ""}, {"to", "2020-01-03", ""},
    {"owner", "scripture", ""}, {"document", "doc%203", ""},
    {"verdict", "shared", ""},  {"min_tokens", "12", ""},
    {"key", "alice", ""},       {"without", "news", ""},
    {"expert", "2", ""},        {"min_share", "0.6", "&expert=2"},
    {"model", "other", ""},     {"q", "another", ""},
};
static const struct {
    const char *route, *base;
} filtering[] = {
    {"/v1/traces", "limit=100"},
    {"/v1/routing", "to=2020-02-01"},
    {"/v1/compliance/outputs", "limit=100"},
    {"/v1/compliance/verbatim", "owner=public&limit=100"},
    {"/v1/compliance/experts", "expert=1&limit=100"},
    {"/v1/compliance/optouts", "owner=public&limit=100"},
    {"/v1/compliance/usage", "owner=public"},
    {"/v1/compliance/export", "format=json"},
};
/* The others: `base` and `base` with the parameter answer differently; status: of the latter, 0 is 200. {T} is the
 * spoken trace, {M} one that was made, {L} a leaf of its receipt. */
static const struct {
    const char *route, *base, *name, *value;
    int status;
} others[] = {
    {"/v1/traces/{id}", "", "routing", "full", 0},
    {"/v1/traces/{id}", "", "format", "prov-json", 0},
    {"/v1/traces/{id}/receipt", "", "prompt", "hidden", 0},
    {"/v1/traces/{id}/receipt/salt", "", "owner", "scripture", 0},
    {"/v1/traces/{id}/routing", "", "format", "csv", 0},
    {"/v1/traces/{id}/routing", "", "values", "probabilities", 404}, /* of this store: it keeps weights */
    {"/v1/receipts/log", "", "size", "1", 0},
    {"/v1/receipts/log", "", "format", "note", 0},
    {"/v1/receipts/log/entries", "", "limit", "1", 0},
    {"/v1/receipts/log/entries", "", "after", "0", 0},
    {"/v1/receipts/log/entries", "", "before", "1", 0},
    {"/v1/receipts/log/entries", "", "order", "desc", 0},
    {"/v1/receipts/consistency", "from=1", "from", "2", 0},
    {"/v1/receipts/consistency", "from=1", "to", "1", 0},
    {"/v1/receipts/{id}/proof", "", "size", "1", 400}, /* the newest envelope came later */
    {"/v1/receipts/{id}/proof", "", "leaf", "{L}", 0},
    {"/v1/routing", "to=2020-02-01", "bucket", "86400", 0},
    {"/v1/routing", "to=2020-02-01", "token_ids", "1", 0},
    {"/v1/compliance/usage", "owner=public", "documents", "2", 0},
    {"/v1/compliance/usage", "owner=public", "format", "csv", 0},
    {"/v1/compliance/access", "limit=5", "what", "takedown", 0},
    {"/v1/compliance/access", "limit=5", "key", "nobody", 0},
    {"/v1/compliance/access", "limit=5", "from", "2199-01-01", 0},
    {"/v1/compliance/access", "limit=5", "to", "2001-01-01", 0},
    {"/v1/compliance/access", "limit=5", "limit", "4", 0},
    {"/v1/compliance/access", "limit=5", "after", "3", 0},
    {"/v1/compliance/access", "limit=5", "format", "csv", 0},
    {"/v1/compliance/export", "format=json", "limit", "3", 0},
    {"/v1/compliance/export", "format=json", "after", "{M}", 0},
    {"/v1/compliance/export", "format=json", "routing", "none", 0},
    {"/v1/compliance/export", "format=json", "format", "csv", 0},
    {"/v1/compliance/state", "", "at", "2001-01-01", 404},
    {"/v1/compliance/state", "", "format", "csv", 0},
    {"/v1/compliance/training-summary", "", "format", "html", 0},
    {"/v1/takedowns", "", "owner", "public", 0},
    {"/v1/takedowns", "", "document", "d-1", 0},
    {"/v1/takedowns", "", "key", "nobody", 0},
    {"/v1/takedowns", "", "from", "2199-01-01", 0},
    {"/v1/takedowns", "", "to", "2001-01-01", 0},
    {"/v1/takedowns", "", "limit", "1", 0},
    {"/v1/takedowns", "", "after", "100000", 0},
    {"/v1/takedowns", "", "format", "csv", 0},
};
/* Of every list of outputs. */
static const struct {
    const char *name, *value;
} paging[] = {{"limit", "1"},   {"after", "{M}"},     {"before", "{M}"},
              {"order", "asc"}, {"include", "total"}, {"format", "csv"}};

/* --- Two answers compared --------------------------------------------------------------------------------------- */

/* What repeats the question, or the time: an answer in which nothing else differs is the same. */
static void forget_question(json_t *v)
{
    static const char *const echoes[] = {"from", "to", "at", "owner", "expert", "filters", "proof", "generated_at"};
    const char *name;
    json_t *one;
    void *next;
    size_t i;
    for (i = 0; json_is_object(v) && i < sizeof(echoes) / sizeof(*echoes); i++)
        (void)json_object_del(v, echoes[i]);
    json_object_foreach_safe(v, next, name, one)
    {
        forget_question(one);
    }
    json_array_foreach(v, i, one)
    {
        forget_question(one);
    }
}

/* {T}, {M}, {L} filled in. */
static void fill_in(char *out, size_t room, const char *text)
{
    static char leaf[100];
    char path[200];
    if (strstr(text, "{L}") && !leaf[0]) { /* the newest is what the proof is of without one: the other */
        snprintf(path, sizeof(path), "/v1/receipts/rcp_%s/proof", spoken + 4);
        json_t *newest = ask("GET", path, NULL, 200);
        const json_t *leaves = json_object_get(newest, "leaves");
        snprintf(leaf, sizeof(leaf), "%s", text_at(json_array_get(leaves, json_array_size(leaves) - 1), "leaf_hash"));
        json_decref(newest);
    }
    size_t n = 0;
    for (const char *p = text; *p && n + 101 < room;) {
        const char *with = !strncmp(p, "{M}", 3) ? made[MADE / 2] : !strncmp(p, "{L}", 3) ? leaf : NULL;
        n += (size_t)snprintf(out + n, room - n, "%s", with ? with : (char[]){*p, '\0'});
        p += with ? 3 : 1;
    }
    out[n] = '\0';
}

/* The route's path; ids of the trace that the model spoke, and of its receipt. */
static void write_path(char *out, size_t room, const char *route)
{
    const char *hole = strstr(route, "{id}");
    if (!hole)
        snprintf(out, room, "%s", route);
    else
        snprintf(out, room, "%.*s%s%s%s", (int)(hole - route), route, strstr(route, "/receipts/") ? "rcp_" : "",
                 strstr(route, "/receipts/") ? spoken + 4 : spoken, hole + 4);
}

/* `base` without what it says of `name`. */
static void without_parameter(char *out, size_t room, const char *base, const char *name)
{
    const size_t length = strlen(name);
    size_t n = 0;
    out[0] = '\0';
    for (const char *p = base; *p;) {
        const size_t part = strcspn(p, "&");
        if (strncmp(p, name, length) != 0 || p[length] != '=')
            n += (size_t)snprintf(out + n, room - n, "%.*s&", (int)part, p);
        p += part + (p[part] != '\0');
    }
}

static char *answer_to(const char *path, int status)
{
    ft_reply r = ft_http(at, "GET", path, NULL, NULL);
    if (r.status != status)
        fail_msg("%s: %d, %.300s", path, r.status, r.body ? r.body : "");
    json_t *v = json_loadb(r.body ? r.body : "", r.size, 0, NULL);
    char *text = NULL;
    if (v) {
        forget_question(v);
        text = json_dumps(v, JSON_SORT_KEYS);
    } else if (r.body) {
        text = strdup(r.body);
    }
    json_decref(v);
    ft_reply_release(&r);
    assert_non_null(text);
    return text;
}

/* Fails where the parameter changes nothing. */
static void try_parameter(const char *route, const char *base, const char *name, const char *value, const char *with,
                          int status)
{
    static char asked[900], *answer;
    char path[300], rest[300], filled[200], plain[900], changed[900];
    write_path(path, sizeof(path), route);
    without_parameter(rest, sizeof(rest), base, name);
    fill_in(filled, sizeof(filled), value);
    snprintf(plain, sizeof(plain), "%s?%s%s", path, base, *base || !*with ? with : with + 1);
    snprintf(changed, sizeof(changed), "%s?%s%s=%s%s", path, rest, name, filled, with);
    if (!strcmp(name, with + (*with == '&')))
        fail_msg("%s: %s twice", route, name);
    char *other = answer_to(changed, status);
    if (strcmp(plain, asked) != 0) { /* the same question has the same answer, so what differs is the parameter's */
        free(answer);
        answer = answer_to(plain, 200);
        char *again = answer_to(plain, 200);
        if (strcmp(answer, again) != 0)
            fail_msg("%s: two answers: %.2000s\n%.2000s", plain, answer, again);
        free(again);
        snprintf(asked, sizeof(asked), "%s", plain);
    }
    if (!strcmp(answer, other))
        fail_msg("%s: '%s' changes nothing: %.1000s", changed, name, other);
    free(other);
}

/* 1: it was tried, somewhere in the tables. */
static int try_as_filter(const char *route, const char *name)
{
    for (size_t r = 0; r < sizeof(filtering) / sizeof(*filtering); r++)
        for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++) {
            if (strcmp(filtering[r].route, route) != 0 || strcmp(filters[i].name, name) != 0)
                continue;
            const int named = strstr(filtering[r].base, "expert=") != NULL;
            try_parameter(route, filtering[r].base, name, filters[i].value, named ? "" : filters[i].with, 200);
            return 1;
        }
    return 0;
}

static int try_as_page(const char *route, const char *name, int paged)
{
    for (size_t r = 0; paged && r < sizeof(filtering) / sizeof(*filtering); r++)
        for (size_t i = 0; i < sizeof(paging) / sizeof(*paging); i++)
            if (!strcmp(filtering[r].route, route) && !strcmp(paging[i].name, name)) {
                try_parameter(route, filtering[r].base, name, paging[i].value, "", 200);
                return 1;
            }
    return 0;
}

static int try_as_other(const char *route, const char *name)
{
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        if (!strcmp(others[i].route, route) && !strcmp(others[i].name, name)) {
            try_parameter(route, others[i].base, name, others[i].value, "", others[i].status ? others[i].status : 200);
            return 1;
        }
    return 0;
}

static int takes(const json_t *parameters, const char *name)
{
    for (size_t i = 0; i < json_array_size(parameters); i++)
        if (!strcmp(text_at(json_array_get(parameters, i), "name"), name))
            return 1;
    return 0;
}

static void every_parameter_of_every_route_changes_the_answer(void **state)
{
    (void)state;
    need_server();
    json_t *description = ask("GET", "/openapi.json", NULL, 200), *item;
    const char *route;
    size_t tried = 0;
    json_object_foreach(json_object_get(description, "paths"), route, item)
    {
        const json_t *parameters = json_object_get(json_object_get(item, "get"), "parameters"), *p;
        size_t i;
        if (strncmp(route, "/v1/", 4) != 0)
            continue;
        json_array_foreach(parameters, i, p)
        {
            const char *name = text_at(p, "name");
            if (strcmp(text_at(p, "in"), "query") != 0)
                continue;
            if (!try_as_filter(route, name) && !try_as_page(route, name, takes(parameters, "order")) &&
                !try_as_other(route, name))
                fail_msg("%s: nothing here tries '%s'", route, name);
            tried++;
        }
    }
    assert_true(tried > 150);
    json_decref(description);
}

static void what_cannot_take_effect_is_refused_by_name(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *path, *name, *remedy;
    } wrong[] = {
        {"/v1/traces?min_share=0.5", "min_share", "'expert'"},
        {"/v1/routing?min_share=0.5", "min_share", "'expert'"},
        {"/v1/compliance/outputs?min_share=0", "min_share", "'expert'"},
        {"/v1/compliance/usage?owner=public&min_share=0.5", "min_share", "'expert'"},
        {"/v1/compliance/usage?verdict=shared", "owner", "required"},
        {"/v1/compliance/optouts?owner=public&without=news", "without", "it has from to owner"},
        {"/v1/compliance/export?format=csv&routing=packed", "routing", "\"jsonl\""},
        {"/v1/traces/x?format=prov-json&routing=full", "routing", "json"},
        {"/v1/traces/x/routing?format=csv&values=probabilities", "values", "npy"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        json_t *problem = ask("GET", wrong[i].path, NULL, 400);
        assert_string_equal(text_at(problem, "type"), "urn:flextrace:problem:invalid-parameter");
        if ((!strstr(text_at(problem, "detail"), wrong[i].name) && strcmp(wrong[i].name, "values") != 0) ||
            !strstr(text_at(problem, "detail"), wrong[i].remedy))
            fail_msg("%s: %s", wrong[i].path, text_at(problem, "detail"));
        json_decref(problem);
    }
}

/* --- The command line ------------------------------------------------------------------------------------------- */

static void run(int expected, const char *needle, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void run(int expected, const char *needle, const char *fmt, ...)
{
    char command[4000], line[5000], *out, *err;
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof(command), fmt, args);
    va_end(args);
    snprintf(line, sizeof(line), "cd %s && $FLEXTRACE %s", ft_test_folder(), command);
    const int code = ft_test_shell(line, &out, &err);
    if (code != expected || (needle && !strstr(out, needle) && !strstr(err, needle)))
        fail_msg("%s: %d: %s%s", command, code, out, err);
    free(out);
    free(err);
}

static char *output_of(const char *verb, const char *options)
{
    char line[3000], *out, *err;
    snprintf(line, sizeof(line), "cd %s && $FLEXTRACE audit %s store --to 2020-02-01 %s", ft_test_folder(), verb,
             options);
    const int code = ft_test_shell(line, &out, &err);
    if (code != 0)
        fail_msg("%s: %d: %s", line, code, err);
    free(err);
    return out;
}

static void every_filter_of_the_command_line_changes_what_it_prints(void **state)
{
    (void)state;
    need_server();
    static const char *const verbs[] = {"export", "routing"};
    static const struct {
        const char *option, *with;
    } options[] = {{"--from 2020-01-02", ""}, {"--to 2020-01-03", ""},
                   {"--owner scripture", ""}, {"--document 'doc 3'", ""},
                   {"--verdict shared", ""},  {"--min-tokens 12", ""},
                   {"--key alice", ""},       {"--without news", ""},
                   {"--expert 2", ""},        {"--min-share 0.6", "--expert 2"},
                   {"--model other", ""},     {"--text another", ""}};
    for (size_t v = 0; v < 2; v++)
        for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++) {
            char with[200];
            snprintf(with, sizeof(with), "%s %s", options[i].with, options[i].option);
            char *plain = output_of(verbs[v], options[i].with), *changed = output_of(verbs[v], with);
            if (!strcmp(plain, changed))
                fail_msg("audit %s: %s changes nothing", verbs[v], options[i].option);
            free(plain);
            free(changed);
        }
    char *plain = output_of("routing", ""), *buckets = output_of("routing", "--bucket 86400"),
         *ids = output_of("routing", "--token-ids");
    assert_true(strcmp(plain, buckets) && strcmp(plain, ids));
    free(plain);
    free(buckets);
    free(ids);
}

static void the_command_line_refuses_what_it_would_ignore(void **state)
{
    (void)state;
    need_server();
    run(2, "--min-share is the share of an expert: name it with --expert", "audit export store --min-share 0.5");
    run(2, "--min-share is the share of an expert: name it with --expert", "audit routing store --min-share 0.5");
    run(2, "--no-routing goes with --format jsonl", "audit export store --format csv --no-routing");
    run(2, "takes one STORE", "audit export store other");
    run(2, "takes one STORE", "audit verify store other");
    run(2, "takes one FEDERATION", "audit erase federation.yaml other --owner public --document d");
    run(2, "one operand too many", "audit routing store %s more -o x.npy", made[0]);
    run(2, "--owner is of many traces", "audit routing store %s -o x.npy --owner public", made[0]);
    run(2, "--bucket is of many traces", "audit routing store %s -o x.npy --bucket 60", made[0]);
    run(2, "--token-ids is of many traces", "audit routing store %s -o x.npy --token-ids", made[0]);
    /* What is asked is in the log, like everything that is asked over HTTP. */
    run(0, NULL, "audit routing store %s -o x.npy", made[0]);
    json_t *log = ask("GET", "/v1/compliance/access?what=routing.&limit=1000", NULL, 200);
    const json_t *data = json_object_get(log, "data");
    const json_t *last = json_array_get(data, json_array_size(data) - 1);
    assert_string_equal(text_at(last, "what"), "routing.read");
    assert_string_equal(text_at(last, "trace"), made[0]);
    json_decref(log);
}

/* --- Usage, against the exported traces ----------------------------------------------------------------------------
 */

typedef struct sums {
    json_int_t outputs, with_spans, spans, tokens, longest, opted_out, routed;
    double share;
    json_t *verdicts, *documents; /* documents: id -> {"spans", "outputs", "longest"} */
} sums;

static void add_to(json_t *object, const char *name, json_int_t n)
{
    json_object_set_new(object, name, json_integer(json_integer_value(json_object_get(object, name)) + n));
}

static void sum_documents(sums *s, const json_t *span, const ft_store_filter *f, json_int_t tokens, json_t *seen)
{
    const json_t *d;
    size_t i;
    json_array_foreach(json_object_get(span, "docs"), i, d)
    {
        const char *id = text_at(d, "id");
        if ((f->owner && strcmp(text_at(d, "owner"), f->owner) != 0) || (f->document && strcmp(id, f->document) != 0))
            continue;
        json_t *one = json_object_get(s->documents, id);
        if (!one) {
            one = json_object();
            json_object_set_new(s->documents, id, one);
        }
        add_to(one, "spans", 1);
        add_to(one, "outputs", !json_object_get(seen, id));
        json_object_set_new(seen, id, json_true());
        if (tokens > json_integer_value(json_object_get(one, "longest")))
            json_object_set_new(one, "longest", json_integer(tokens));
    }
}

static void sum_trace(sums *s, const json_t *t, const ft_store_filter *f, int expert)
{
    const json_t *span, *e;
    json_t *seen = json_object();
    double all = 0, own = 0;
    json_int_t spans = 0;
    size_t i;
    s->outputs++;
    s->opted_out += f->owner && fixture_names_hold(json_object_get(t, "without"), f->owner);
    json_array_foreach(json_object_get(t, "experts"), i, e)
    {
        all += json_number_value(json_object_get(e, "share"));
        own += (int)i == expert ? json_number_value(json_object_get(e, "share")) : 0;
    }
    const json_int_t tokens = (json_int_t)json_array_size(json_object_get(t, "tokens"));
    s->share += own * (double)tokens;
    s->routed += all > 0 ? tokens : 0;
    json_array_foreach(json_object_get(t, "spans"), i, span)
    {
        if (!fixture_span_fits(span, f))
            continue;
        const json_int_t n =
            json_integer_value(json_object_get(span, "end")) - json_integer_value(json_object_get(span, "start"));
        spans++;
        s->tokens += n;
        s->longest = n > s->longest ? n : s->longest;
        add_to(s->verdicts, text_at(span, "verdict"), 1);
        sum_documents(s, span, f, n, seen);
    }
    s->spans += spans;
    s->with_spans += spans > 0;
    json_decref(seen);
}

static json_int_t number_at(const json_t *v, const char *name)
{
    return json_integer_value(json_object_get(v, name));
}

static void assert_usage(const json_t *u, const sums *s, const char *path)
{
    const json_t *routing = json_object_get(u, "routing"), *d, *n;
    const char *name;
    size_t i;
    int good = number_at(u, "outputs") == s->outputs && number_at(u, "outputs_with_spans") == s->with_spans &&
               number_at(u, "spans") == s->spans && number_at(u, "tokens") == s->tokens &&
               number_at(u, "longest") == s->longest && number_at(u, "opted_out") == s->opted_out &&
               number_at(routing, "tokens") == s->routed &&
               json_array_size(json_object_get(u, "documents")) == json_object_size(s->documents) &&
               number_at(u, "distinct_documents") == (json_int_t)json_object_size(s->documents);
    if (json_is_number(json_object_get(routing, "share")))
        good &= fabs(json_number_value(json_object_get(routing, "share")) - s->share / (double)s->routed) < 1e-6;
    json_object_foreach(json_object_get(u, "verdicts"), name, n)
    {
        good &= json_integer_value(n) == number_at(s->verdicts, name);
    }
    json_array_foreach(json_object_get(u, "documents"), i, d)
    {
        const json_t *mine = json_object_get(s->documents, text_at(d, "id"));
        good &= mine && number_at(d, "spans") == number_at(mine, "spans") &&
                number_at(d, "outputs") == number_at(mine, "outputs") &&
                number_at(d, "longest") == number_at(mine, "longest");
    }
    if (!good)
        fail_msg("%s: %s\nbut %lld outputs, %lld with %lld spans of %lld tokens, documents %s", path, json_dumps(u, 0),
                 s->outputs, s->with_spans, s->spans, s->tokens, json_dumps(s->documents, 0));
}

static void write_question(char *out, size_t room, const ft_store_filter *f)
{
    size_t n = (size_t)snprintf(out, room, "/v1/compliance/usage?documents=1000");
    const struct {
        const char *name, *value;
    } texts[] = {{"owner", f->owner},     {"verdict", f->verdict}, {"key", f->key},
                 {"without", f->without}, {"model", f->model},     {"q", f->text}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (texts[i].value)
            n += (size_t)snprintf(out + n, room - n, "&%s=%s", texts[i].name, texts[i].value);
    if (f->document)
        n += (size_t)snprintf(out + n, room - n, "&document=doc%%20%s", f->document + strlen("doc "));
    if (f->min_tokens)
        n += (size_t)snprintf(out + n, room - n, "&min_tokens=%u", f->min_tokens);
    if (f->expert >= 0)
        n += (size_t)snprintf(out + n, room - n, "&expert=%d&min_share=%.17g", f->expert, f->min_share);
    if (f->from_ms)
        n += (size_t)snprintf(out + n, room - n, "&from=2020-01-%02d", (int)((f->from_ms - january) / (24 * hour)) + 1);
    n += (size_t)snprintf(out + n, room - n, "&to=2020-01-%02d", (int)((f->to_ms - january) / (24 * hour)) + 1);
    assert_true(n < room);
}

/* Whole days of the four that the made traces span; `to` always: the trace that the model spoke is of another make. */
static ft_store_filter random_question(ft_random *r, char document[32])
{
    static const char *const owned[] = {"public", "scripture", "dictionary"};
    ft_store_filter f = fixture_filter(r, document, january, january + MADE * hour);
    if (!f.document || ft_random_below(r, 3))
        f.owner = owned[ft_random_below(r, 3)];
    f.model = ft_random_below(r, 4) ? NULL : "other";
    f.text = ft_random_below(r, 4) ? NULL : "another";
    f.from_ms = f.from_ms ? january + ft_random_below(r, 3) * 24 * hour : 0;
    f.to_ms = january + (3 + ft_random_below(r, 2)) * 24 * hour;
    return f;
}

static void usage_is_what_the_exported_traces_sum_to(void **state)
{
    (void)state;
    need_server();
    json_t *all = ask("GET", "/v1/compliance/export?format=json&routing=none", NULL, 200), *t;
    const json_t *traces = json_object_get(all, "data");
    assert_int_equal(json_array_size(traces), MADE + 1);
    ft_random r;
    ft_random_init(&r, 5);
    size_t some = 0, i;
    for (int k = 0; k < 150; k++) {
        char document[32], path[600];
        const ft_store_filter f = random_question(&r, document);
        sums s = {.verdicts = json_object(), .documents = json_object()};
        int expert = -1;
        for (int e = 0; f.owner && e < 3; e++)
            if (!strcmp(f.owner, e == 0 ? "public" : e == 1 ? "scripture" : "dictionary"))
                expert = e;
        ft_store_filter outputs = f;
        outputs.owner = outputs.document = outputs.verdict = NULL;
        outputs.min_tokens = 0;
        json_array_foreach(traces, i, t)
        {
            if (fixture_fits(t, text_at(t, "id"), &outputs))
                sum_trace(&s, t, &f, expert);
        }
        write_question(path, sizeof(path), &f);
        json_t *u = ask("GET", path, NULL, 200);
        assert_usage(u, &s, path);
        some += s.spans > 0 && s.spans < 40;
        json_decref(u);
        json_decref(s.verdicts);
        json_decref(s.documents);
    }
    assert_true(some > 25);
    json_decref(all);
}

/* A report that is kept says what it is of. */
static void usage_says_what_was_asked(void **state)
{
    (void)state;
    need_server();
    json_t *u =
        ask("GET", "/v1/compliance/usage?document=doc%203&verdict=shared&expert=scripture&min_share=0.25", NULL, 200);
    assert_true(json_is_null(json_object_get(u, "owner")));
    assert_true(json_is_null(json_object_get(u, "opted_out")));
    json_t *asked =
        json_pack("{s:s,s:s,s:i,s:f}", "document", "doc 3", "verdict", "shared", "expert", 1, "min_share", 0.25);
    assert_true(json_equal(json_object_get(u, "filters"), asked));
    json_decref(asked);
    json_decref(u);
    ft_reply r = ft_http(at, "GET", "/v1/compliance/usage?document=doc%203&format=csv", NULL, NULL);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "\r\nopted_out,,,"));
    assert_non_null(strstr(r.body, "\r\nowner,,"));
    assert_non_null(strstr(r.body, "\r\ndocument,doc 3,"));
    ft_reply_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_parameter_of_every_route_changes_the_answer),
        cmocka_unit_test(what_cannot_take_effect_is_refused_by_name),
        cmocka_unit_test(every_filter_of_the_command_line_changes_what_it_prints),
        cmocka_unit_test(the_command_line_refuses_what_it_would_ignore),
        cmocka_unit_test(usage_is_what_the_exported_traces_sum_to),
        cmocka_unit_test(usage_says_what_was_asked),
    };
    return cmocka_run_group_tests(tests, open_filled, close_all);
}
