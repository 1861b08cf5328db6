/* GET /openapi.json: the description of the routes is that of the routes that there are. And GET /v1/optouts. */
#include "api/http_internal.h"
#include "tests/ft_test_http.h"

static json_t *description(void)
{
    json_t *d = ft_http_json(at, "GET", "/openapi.json", NULL, 200);
    assert_string_equal(text_at(d, "openapi"), "3.1.0");
    return d;
}

/* "/v1/traces/{id}" as the table spells it: "/v1/traces/{}"; and with "x" in the places of names. */
static void without_names(const char *path, char pattern[256], char filled[256])
{
    size_t n = 0, m = 0;
    for (; *path; path++) {
        pattern[n++] = *path;
        filled[m++] = *path == '{' ? 'x' : *path;
        if (*path == '{')
            path = strchr(path, '}') - 1;
        else if (*path == '}')
            m--;
    }
    pattern[n] = filled[m] = '\0';
}

/* Each route of the table once, and nothing else. */
static void every_route_is_described_and_nothing_else(void **state)
{
    (void)state;
    need_server();
    size_t count, described = 0;
    const ft_route *routes = ft_routes(&count);
    json_t *d = description(), *names = json_object(), *item;
    const char *path, *method;
    json_object_foreach(json_object_get(d, "paths"), path, item)
    {
        char pattern[256], filled[256];
        json_t *operation;
        without_names(path, pattern, filled);
        json_object_foreach(item, method, operation)
        {
            size_t found = 0;
            for (size_t i = 0; i < count; i++)
                found += !strcasecmp(routes[i].method, method) && !strcmp(routes[i].pattern, pattern);
            assert_int_equal(found, 1);
            assert_true(strlen(text_at(operation, "summary")) > 3);
            assert_null(json_object_get(names, text_at(operation, "operationId"))); /* each its own */
            json_object_set_new(names, text_at(operation, "operationId"), json_true());
            described++;
        }
    }
    assert_int_equal(described, count);
    json_decref(names);
    json_decref(d);
}

/* A name leads to an index as the first segment of a path, where no route's stands. */
static void no_federation_has_the_name_of_a_route(void **state)
{
    (void)state;
    need_server();
    size_t count;
    const ft_route *routes = ft_routes(&count);
    for (size_t i = 0; i < count; i++) {
        const char *first = routes[i].pattern + 1;
        const size_t n = strcspn(first, "/");
        char yaml[900];
        ft_federation *f;
        ft_status st = {0};
        if (!n || first[0] == '{')
            continue;
        snprintf(yaml, sizeof(yaml), "model: %s\nname: %.*s\n", ft_test_source("demo/model"), (int)n, first);
        const char *path = ft_test_path("federation.yaml");
        ft_test_write(path, yaml, strlen(yaml));
        if (ft_federation_open(&f, path, &st) != FT_ERR_FORMAT || !strstr(st.msg, "has a route of that name"))
            fail_msg("%.*s: '%s'", (int)n, first, st.msg);
    }
}

/* What stands in braces is a parameter, and the other way round; a body is asked for where there is one. */
static void parameters_and_bodies_are_those_of_the_paths(void **state)
{
    (void)state;
    need_server();
    json_t *d = description(), *item;
    const char *path, *method;
    json_object_foreach(json_object_get(d, "paths"), path, item)
    {
        json_t *operation;
        json_object_foreach(item, method, operation)
        {
            size_t in_path = 0, braces = 0, i;
            const json_t *p;
            json_array_foreach(json_object_get(operation, "parameters"), i, p)
            {
                char braced[80];
                snprintf(braced, sizeof(braced), "{%s}", text_at(p, "name"));
                if (strcmp(text_at(p, "in"), "path") != 0)
                    continue;
                in_path++;
                assert_non_null(strstr(path, braced));
                assert_true(json_is_true(json_object_get(p, "required")));
            }
            for (const char *c = path; *c; c++)
                braces += *c == '{';
            assert_int_equal(in_path, braces);
            assert_int_equal(json_object_get(operation, "requestBody") != NULL,
                             !strcmp(method, "post") || !strcmp(method, "put"));
        }
    }
    json_decref(d);
}

static int takes(const json_t *operation, const char *name)
{
    size_t i;
    const json_t *p;
    json_array_foreach(json_object_get(operation, "parameters"), i, p)
    {
        if (!strcmp(text_at(p, "name"), name))
            return 1;
    }
    return 0;
}

/* Whoever filters outputs by one thing can by all; and where they come in pages, ask for their number. */
static void outputs_are_filtered_alike_everywhere(void **state)
{
    (void)state;
    need_server();
    static const char *const filters[] = {"from",    "to",         "owner", "expert",    "document", "key",
                                          "verdict", "min_tokens", "model", "min_share", "without",  "q"};
    json_t *d = description(), *item;
    const char *path;
    size_t lists = 0, filtered = 0;
    json_object_foreach(json_object_get(d, "paths"), path, item)
    {
        const json_t *o = json_object_get(item, "get");
        if (!takes(o, "min_share"))
            continue;
        const int of_optouts = !strcmp(path, "/v1/compliance/optouts"); /* whose `owner` is `without` */
        for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++)
            if (takes(o, filters[i]) == (of_optouts && !strcmp(filters[i], "without")))
                fail_msg("%s: %s", path, filters[i]);
        assert_int_equal(takes(o, "include"), takes(o, "order"));
        lists += (size_t)takes(o, "order");
        filtered++;
    }
    assert_int_equal(lists, 5);
    assert_int_equal(filtered, 8); /* and usage, export, routing in numbers */
    json_decref(d);
}

/* Asked as described, a route may refuse what it is asked, but in the media type that the description gives. */
static void a_refusal_has_the_described_media_type(void **state)
{
    (void)state;
    need_server();
    json_t *d = description(), *item;
    const char *path, *method;
    size_t refused = 0;
    json_object_foreach(json_object_get(d, "paths"), path, item)
    {
        json_t *operation;
        json_object_foreach(item, method, operation)
        {
            char pattern[256], filled[256], upper[12] = "";
            for (size_t i = 0; method[i]; i++)
                upper[i] = (char)(method[i] - 32);
            without_names(path, pattern, filled);
            const json_t *media =
                json_object_get(json_object_get(json_object_get(operation, "responses"), "default"), "content");
            const char *type = json_object_iter_key(json_object_iter((json_t *)media));
            ft_reply r = ft_http(at, upper, filled, "Content-Type: application/json\r\n",
                                 strcmp(method, "get") && strcmp(method, "delete") ? "[" : NULL);
            assert_true(r.status != 405);
            if (r.status >= 400) {
                const char *got = ft_reply_header(&r, "Content-Type");
                if (!got || strncmp(got, type, strlen(type)) != 0)
                    fail_msg("%s %s: %d, %s and not %s", upper, filled, r.status, got ? got : "nothing", type);
                refused++;
            }
            ft_reply_release(&r);
        }
    }
    assert_true(refused > 20);
    json_decref(d);
}

static void opt_outs_that_stand_are_listed(void **state)
{
    (void)state;
    need_server();
    json_t *list = ft_http_json(at, "GET", "/v1/optouts", NULL, 200);
    assert_string_equal(text_at(list, "object"), "list");
    assert_int_equal(json_array_size(json_object_get(list, "data")), 0);
    assert_true(json_is_null(json_object_get(list, "first_id")));
    assert_true(json_is_false(json_object_get(list, "has_more")));
    json_decref(list);
}

/* The same of a federation that opts one out: its owner and expert. */
static void an_owner_that_the_federation_opts_out_is_listed(void **state)
{
    (void)state;
    need_server();
    ft_status st = {0};
    char *changed;
    stop_server();
    char *yaml = ft_test_read(ft_test_federation(""), NULL);
    char *place = strstr(yaml, "name: scripture,");
    assert_true(asprintf(&changed, "%.*sopted_out: true, %s", (int)(place - yaml), yaml, place) > 0);
    assert_ok(ft_federation_open(&federation, ft_test_write("federation.yaml", changed, strlen(changed)), &st), st);
    assert_ok(ft_server_start(&server, federation, &(ft_server_options){.threads = 1}, &st), st);
    at = ft_server_address(server);
    json_t *list = ft_http_json(at, "GET", "/v1/optouts", NULL, 200);
    const json_t *data = json_object_get(list, "data"), *one = json_array_get(data, 0);
    assert_int_equal(json_array_size(data), 1);
    assert_string_equal(text_at(one, "owner"), "scripture");
    assert_int_equal(json_integer_value(json_object_get(one, "expert")), 1);
    assert_string_equal(text_at(one, "by"), "federation.yaml");
    assert_string_equal(text_at(list, "first_id"), "scripture");
    json_decref(list);
    free(changed);
    free(yaml);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_described_and_nothing_else),
        cmocka_unit_test(no_federation_has_the_name_of_a_route),
        cmocka_unit_test(parameters_and_bodies_are_those_of_the_paths),
        cmocka_unit_test(outputs_are_filtered_alike_everywhere),
        cmocka_unit_test(a_refusal_has_the_described_media_type),
        cmocka_unit_test(opt_outs_that_stand_are_listed),
        cmocka_unit_test(an_owner_that_the_federation_opts_out_is_listed),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
