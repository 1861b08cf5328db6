/* GET /v1/compliance/training-summary, as docs/compliance.md promises it: JSON or a page, who asked is in the log, and
 * an order of opt-out shows. What stands in it is test_summary.c's. */
#include "base/ft_file.h"
#include "tests/compliance_fixture.h"

static const char path[] = "/v1/compliance/training-summary";

static int open_stated(void **state)
{
    (void)state;
    if (ft_test_federation(""))
        start_server("summary:\n  provider: Heron <b>Consortium</b>\n");
    return 0;
}

static const json_t *section(const json_t *summary, const char *name)
{
    return json_object_get(json_object_get(summary, "sources"), name);
}

static const json_t *owner_in(const json_t *section, const char *name)
{
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(section, "sources"), i, one)
    {
        if (!strcmp(text_at(one, "owner"), name))
            return one;
    }
    fail_msg("no owner %s", name);
    return NULL;
}

static void the_summary_comes_as_json_to_programs_and_as_a_page_to_browsers(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *query, *headers;
        int html;
    } ways[] = {{"", NULL, 0},
                {"", "Accept: application/json\r\n", 0},
                {"", "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n", 1},
                {"?format=html", NULL, 1},
                {"?format=json", "Accept: text/html\r\n", 0}};
    for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
        char asked[100];
        snprintf(asked, sizeof(asked), "%s%s", path, ways[i].query);
        ft_reply r = ft_http(at, "GET", asked, ways[i].headers, NULL);
        assert_int_equal(r.status, 200);
        assert_non_null(strstr(ft_reply_header(&r, "Content-Type"),
                               ways[i].html ? "text/html; charset=utf-8" : "application/json"));
        if (ways[i].html) {
            assert_non_null(strstr(ft_reply_header(&r, "Content-Security-Policy"), "default-src 'none'"));
            assert_non_null(strstr(r.body, "Heron &lt;b&gt;Consortium&lt;/b&gt;"));
            assert_null(strstr(r.body, "<b>"));
        } else {
            json_t *s = ft_reply_json(&r);
            const json_t *general = json_object_get(s, "general");
            assert_string_equal(text_at(s, "object"), "training_summary");
            assert_string_equal(text_at(json_object_get(general, "provider"), "name"), "Heron <b>Consortium</b>");
            assert_string_equal(text_at(json_object_get(general, "model"), "name"), "test"); /* the federation's */
            json_decref(s);
        }
        ft_reply_release(&r);
    }
    json_decref(get("/v1/compliance/training-summary?format=pdf", 400));
    json_decref(get("/v1/compliance/training-summary?owner=scripture", 400));
}

static void owners_of_no_stated_kind_stand_apart_and_those_who_opt_out_stay(void **state)
{
    (void)state;
    need_server();
    json_t *s = get(path, 200);
    const json_t *scripture = owner_in(section(s, "unstated"), "scripture");
    assert_string_equal(text_at(json_object_get(scripture, "expert"), "state"), "active");
    assert_string_equal(text_at(scripture, "description"), "Genesis");
    assert_true(json_is_null(json_object_get(scripture, "licence")));
    assert_int_equal(json_array_size(json_object_get(section(s, "unstated"), "sources")), 3);
    json_decref(s);
    json_decref(ft_http_json(at, "POST", "/v1/optouts", "{\"owner\":\"scripture\"}", 201));
    s = get(path, 200);
    scripture = owner_in(section(s, "unstated"), "scripture");
    assert_string_equal(text_at(json_object_get(scripture, "expert"), "state"), "opted_out");
    assert_int_equal(json_integer_value(json_object_get(scripture, "documents")), 2);
    json_decref(s);
    /* The command line finds the order in the store. */
    char command[4200], *out;
    snprintf(command, sizeof(command), "$FLEXTRACE audit summary %s", ft_test_path("federation.yaml"));
    assert_int_equal(ft_test_shell(command, &out, NULL), 0);
    s = json_loads(out, 0, NULL);
    free(out);
    scripture = owner_in(section(s, "unstated"), "scripture");
    assert_string_equal(text_at(json_object_get(scripture, "expert"), "state"), "opted_out");
    json_decref(s);
}

static void the_log_has_who_asked(void **state)
{
    (void)state;
    need_server();
    json_decref(get("/v1/compliance/training-summary?format=json", 200));
    json_t *lines = get("/v1/compliance/access?what=compliance.training-summary&limit=100", 200);
    const size_t n = rows_of(lines);
    assert_true(n > 0);
    const json_t *line = row_at(lines, n - 1);
    assert_string_equal(text_at(line, "path"), path);
    assert_string_equal(text_at(json_object_get(line, "parameters"), "format"), "json");
    json_decref(lines);
}

/* There is no log then; the summary is for everybody. */
static void a_server_without_a_store_has_it_too(void **state)
{
    (void)state;
    need_server();
    ft_status st = {0};
    stop_server();
    char *yaml = ft_test_read(ft_test_federation(""), NULL), *place = strstr(yaml, "store: store\n");
    memset(place, '#', strlen("store: store"));
    ft_test_write("federation.yaml", yaml, strlen(yaml));
    free(yaml);
    assert_ok(ft_federation_open(&federation, ft_test_path("federation.yaml"), &st), st);
    assert_ok(ft_server_start(&server, federation, &(ft_server_options){.threads = 1}, &st), st);
    at = ft_server_address(server);
    json_t *s = get(path, 200);
    assert_int_equal(json_array_size(json_object_get(section(s, "unstated"), "sources")), 3);
    json_decref(s);
    json_decref(get("/v1/compliance/access", 404));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_summary_comes_as_json_to_programs_and_as_a_page_to_browsers),
        cmocka_unit_test(owners_of_no_stated_kind_stand_apart_and_those_who_opt_out_stay),
        cmocka_unit_test(the_log_has_who_asked),
        cmocka_unit_test(a_server_without_a_store_has_it_too),
    };
    return cmocka_run_group_tests(tests, open_stated, close_all);
}
