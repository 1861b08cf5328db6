/* What tracer/ft_summary.h and docs/compliance.md promise of the summary of training content. */
#include "tests/summary_fixture.h"

static const char stated[] =
    "name: house\n"
    "model: model\n"
    "store: kept\n"
    "summary:\n"
    "  provider: Heron Consortium\n"
    "  contact: office@example.org\n"
    "  representative: 'none: established in the Union'\n"
    "  model: Heron\n"
    "  version: 1.0\n"
    "  dependencies: none\n"
    "  placed_on_market: 2026-03-01\n"
    "  content_types: non-fiction\n"
    "  languages: English\n"
    "  reservations: robots.txt is honoured\n"
    "  code_of_practice: true\n"
    "  illegal_content: a list of words\n"
    "  notes: |\n"
    "    first\n"
    "    second\n"
    "  sme: false\n"
    "owners:\n"
    "  - name: public\n"
    "    expert: 0\n"
    "    index: [small]\n"
    "    source: {kind: public, licence: CC0, link: 'https://example.org', description: a set,\n"
    "             collected_from: 2024, collected_to: 2024-06, ongoing: false}\n"
    "  - {name: open, index: [large], source: {kind: public}}\n"
    "  - name: web\n"
    "    expert: 1\n"
    "    index: [web]\n"
    "    description: pages\n"
    "    source: {kind: crawled, licence: various, crawler: heronbot, crawler_behaviour: slow,\n"
    "             ongoing: true}\n"
    "  - {name: gone, expert: 2, opted_out: true, source: {kind: licensed}}\n"
    "  - {name: grams, expert: 3, index: [gram], source: {kind: third_party}}\n"
    "  - {name: talk, expert: 4, source: {kind: user, tokens: 2000000000}}\n"
    "  - {name: made, expert: 5, source: {kind: synthetic, generator: another model}}\n";

/* --- General, processing -------------------------------------------------------------------- */

static void what_people_state_stands_in_the_templates_sections(void **state)
{
    (void)state;
    need_model();
    static const char *const texts[][2] = {
        {"object", "training_summary"},
        {"basis", "Regulation (EU) 2024/1689, Article 53(1)(d)"},
        {"general.provider.name", "Heron Consortium"},
        {"general.provider.contact", "office@example.org"},
        {"general.provider.representative", "none: established in the Union"},
        {"general.model.name", "Heron"},
        {"general.model.version", "1.0"},
        {"general.model.dependencies", "none"},
        {"general.model.placed_on_market", "2026-03-01"},
        {"general.model.architecture", "FlexOlmoForCausalLM"},
        {"general.modalities.0.modality", "text"},
        {"general.modalities.0.size_range", "1 billion to 10 trillion tokens"},
        {"general.modalities.0.content_types", "non-fiction"},
        {"general.languages", "English"},
        {"general.latest_acquisition.date", "2025-12-01"},
        {"general.latest_acquisition.basis", "metadata"},
        {"processing.reservations.measures", "robots.txt is honoured"},
        {"processing.illegal_content", "a list of words"},
        {"processing.other", "first\nsecond\n"},
    };
    json_t *s = summary_of(stated, 0);
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        assert_string_equal(string_at(s, texts[i][0]), texts[i][1]);
    assert_true(json_is_false(value_at(s, "general.provider.sme")));
    assert_true(json_is_true(value_at(s, "general.ongoing"))); /* one owner's goes on */
    assert_true(json_is_true(value_at(s, "processing.reservations.code_of_practice")));
    assert_true(json_is_false(value_at(s, "general.modalities.0.complete")));
    assert_int_equal(number_at(s, "general.modalities.0.documents"), 43);
    assert_int_equal(number_at(s, "general.modalities.0.tokens"), 1 + 40 + 40 * 41 / 2 + 2 + 2000000000);
    assert_string_equal(string_at(s, "general.latest_acquisition.owners_unknown.0"), "open");
    assert_int_equal(json_array_size(value_at(s, "general.latest_acquisition.owners_unknown")), 5);
    json_decref(s);
}

static void of_a_federation_that_states_nothing_all_that_is_missing_is_named_with_its_place(void **state)
{
    (void)state;
    need_model();
    static const char *const nulls[] = {"general.provider.name",
                                        "general.provider.contact",
                                        "general.provider.representative",
                                        "general.provider.sme",
                                        "general.model.name",
                                        "general.model.version",
                                        "general.languages",
                                        "general.model.placed_on_market",
                                        "general.model.dependencies",
                                        "general.ongoing",
                                        "general.latest_acquisition.date",
                                        "general.modalities.0.content_types",
                                        "processing.other",
                                        "processing.illegal_content",
                                        "processing.reservations.measures",
                                        "processing.reservations.code_of_practice",
                                        "sources.public_datasets.used",
                                        "sources.crawled_data.used",
                                        "sources.unstated.sources.0.kind",
                                        "sources.unstated.sources.0.licence"};
    static const char *const places[] = {"summary.provider",
                                         "summary.contact",
                                         "summary.representative",
                                         "summary.sme",
                                         "summary.model",
                                         "summary.version",
                                         "summary.dependencies",
                                         "summary.placed_on_market",
                                         "summary.content_types",
                                         "summary.languages",
                                         "summary.reservations",
                                         "summary.code_of_practice",
                                         "summary.illegal_content",
                                         "owners[a].source.kind",
                                         "owners[a].source.licence",
                                         "owners[a].source.ongoing",
                                         "owners[a].source.collected_from",
                                         "owners[a].source.collected_to",
                                         "owners[a].source.description",
                                         "owners[expert: 0]",
                                         "owners[expert: 2]"};
    json_t *s = summary_of("model: model\nowners:\n  - {name: a, expert: 1, index: [small]}\n", 0);
    for (size_t i = 0; i < sizeof(nulls) / sizeof(*nulls); i++)
        if (!is_null_at(s, nulls[i]))
            fail_msg("%s is not null", nulls[i]);
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
        if (!misses(s, places[i]))
            fail_msg("%s is not named", places[i]);
    assert_false(misses(s, "owners[expert: 1]"));
    assert_false(misses(s, "summary.notes")); /* the template does not insist */
    assert_false(misses(s, "owners[a].source.crawler"));
    assert_int_equal(number_at(s, "sources.unstated.documents"), 1);
    assert_int_equal(json_array_size(value_at(s, "sources.experts_without_owner")), 5);
    json_decref(s);
    s = summary_of(stated, 0);
    for (size_t i = 0; i < 13; i++)
        assert_false(misses(s, places[i]));
    assert_false(misses(s, "owners[public].source.collected_from"));
    assert_false(misses(s, "owners[web].source.collected_to")); /* its metadata tell */
    assert_true(misses(s, "owners[open].source.link"));
    assert_false(misses(s, "owners[talk].source.licence")); /* users give none */
    assert_true(misses(s, "owners[gone].source.tokens"));
    assert_false(misses(s, "owners[talk].source.tokens"));
    assert_false(misses(s, "owners[web].source.tokens"));
    json_decref(s);
}

/* --- Sources --------------------------------------------------------------------------------------- */

static void every_owner_stands_in_its_kinds_section_with_what_is_known_of_it(void **state)
{
    (void)state;
    need_model();
    static const struct {
        const char *section, *number, *owner;
    } sections[] = {{"public_datasets", "2.1", "public"},
                    {"licensed_datasets", "2.2.1", "gone"},
                    {"third_party_datasets", "2.2.2", "grams"},
                    {"crawled_data", "2.3", "web"},
                    {"user_data", "2.4", "talk"},
                    {"synthetic_data", "2.5", "made"}};
    char path[200];
    json_t *s = summary_of(stated, 0);
    const json_t *sources = value_at(s, "sources");
    for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++) {
        const json_t *one = json_object_get(sources, sections[i].section);
        assert_string_equal(string_at(one, "section"), sections[i].number);
        assert_string_equal(string_at(one, "sources.0.owner"), sections[i].owner);
        assert_true(json_is_true(json_object_get(one, "used")));
        assert_string_equal(string_at(one, "modalities.0"), "text");
    }
    assert_true(json_is_false(value_at(sources, "other_data.used"))); /* for every kind is stated */
    assert_int_equal(json_array_size(value_at(sources, "unstated.sources")), 0);

    const json_t *web = value_at(sources, "crawled_data.sources.0");
    assert_string_equal(string_at(web, "description"), "pages"); /* the owner's own, where the source has none */
    assert_string_equal(string_at(web, "expert.state"), "active");
    assert_string_equal(string_at(web, "expert.digest"), "sha256:" DIGEST_B);
    assert_string_equal(string_at(web, "expert.manifest"), "sha256:" DIGEST_A);
    assert_string_equal(string_at(web, "expert.data"), "sha256:" DIGEST_B);
    assert_int_equal(number_at(web, "expert.trained_documents"), 40);
    assert_int_equal(number_at(web, "expert.trained_tokens"), 12345);
    assert_int_equal(number_at(web, "documents"), 40);
    assert_int_equal(strncmp(string_at(web, "indexes.0.root"), "sha256:", 7), 0);
    assert_string_equal(string_at(web, "metadata.collected.first"), "2025-01-01");
    assert_int_equal(number_at(web, "metadata.collected.documents"), 40);

    /* Its data trained the expert, whether or not that takes part. */
    const json_t *gone = value_at(sources, "licensed_datasets.sources.0");
    assert_string_equal(string_at(gone, "expert.state"), "opted_out");
    assert_true(is_null_at(gone, "documents") && is_null_at(gone, "tokens") && is_null_at(gone, "text_bytes"));
    assert_true(is_null_at(gone, "expert.digest")); /* owners.json tells of none */

    const json_t *grams = value_at(sources, "third_party_datasets.sources.0");
    assert_int_equal(number_at(grams, "tokens"), 2);
    assert_string_equal(string_at(grams, "indexes.0.kind"), "infini-gram");
    assert_true(is_null_at(grams, "indexes.0.root") && is_null_at(grams, "text_bytes"));

    const json_t *talk = value_at(sources, "user_data.sources.0");
    assert_int_equal(number_at(talk, "tokens"), 2000000000);
    assert_string_equal(string_at(talk, "tokens_basis"), "stated");
    assert_string_equal(string_at(web, "tokens_basis"), "index");

    /* Large: more than 3 % of all public datasets. */
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "public_datasets.sources.%d.large", i);
        assert_int_equal(json_is_true(value_at(sources, path)), i);
    }
    json_decref(s);
}

static void the_domains_of_crawled_data_are_the_top_tenth_by_size(void **state)
{
    (void)state;
    need_model();
    json_t *s = summary_of(stated, 0);
    const json_t *d = value_at(s, "sources.crawled_data.domains");
    assert_int_equal(number_at(d, "distinct"), 20); /* and none of another owner's */
    assert_int_equal(number_at(d, "relevant"), 2);
    assert_int_equal(json_array_size(value_at(d, "list")), 2);
    assert_string_equal(string_at(d, "list.0.domain"), "d19.example");
    assert_int_equal(number_at(d, "list.0.tokens"), 20 + 40);
    assert_string_equal(string_at(d, "list.1.domain"), "d18.example");
    assert_int_equal(number_at(d, "list.1.documents"), 2);
    const double share = json_real_value(value_at(d, "list.0.share"));
    assert_true(share > 60.0 / 820 - 1e-9 && share < 60.0 / 820 + 1e-9);
    assert_int_equal(number_at(d, "step"), 1);
    json_decref(s);
    /* Every fifth of 43 documents: eight of the crawled ones, from the first on. */
    s = summary_of(stated, 10);
    d = value_at(s, "sources.crawled_data.domains");
    assert_int_equal(number_at(d, "step"), 5);
    assert_int_equal(number_at(d, "documents"), 40);
    assert_int_equal(number_at(d, "documents_read"), 8);
    assert_true(json_is_false(value_at(d, "all_distinct")));
    json_decref(s);
    /* A small provider names a twentieth. */
    char *sme = strdup(stated), *no = strstr(sme, "sme: false");
    memcpy(no, "sme: true ", 10);
    s = summary_of(sme, 0);
    assert_int_equal(number_at(s, "sources.crawled_data.domains.relevant"), 1);
    free(sme);
    json_decref(s);
    /* Who states no crawling has no such list. */
    s = summary_of("model: model\nowners:\n  - {name: a, index: [web], source: {kind: public}}\n", 0);
    assert_null(value_at(s, "sources.crawled_data.domains"));
    assert_true(is_null_at(s, "sources.crawled_data.used")); /* six experts have no owner: who knows? */
    json_decref(s);
}

static void a_federation_without_owners_has_a_summary_all_the_same(void **state)
{
    (void)state;
    need_model();
    json_t *s = summary_of("model: model\n", 0);
    ft_buffer page = {0};
    assert_int_equal(number_at(s, "general.modalities.0.tokens"), 0);
    assert_true(is_null_at(s, "general.modalities.0.size_range"));
    assert_int_equal(json_array_size(value_at(s, "sources.experts_without_owner")), 6);
    assert_int_equal(ft_summary_page(s, &page, NULL), FT_OK);
    ft_buffer_release(&page);
    json_decref(s);
}

/* --- The file -------------------------------------------------------------------------------------- */

static void refused(const char *yaml, const char *place, const char *what)
{
    ft_federation *f;
    ft_status st = {0};
    ft_test_write("federation.yaml", yaml, strlen(yaml));
    const ft_code rc = ft_federation_open(&f, ft_test_folder(), &st);
    if (rc != FT_ERR_FORMAT || !strstr(st.msg, place) || !strstr(st.msg, what))
        fail_msg("'%s': %s: %s", yaml, ft_code_name(rc), st.msg);
    assert_null(f);
}

static void what_the_file_cannot_mean_is_refused_with_its_line(void **state)
{
    (void)state;
    need_model();
    refused("model: model\nsummary:\n  provider: x\n  providr: y\n", "federation.yaml:4:", "'providr'");
    refused("model: model\nsummary: {sme: perhaps}\n", "federation.yaml:2:", "true or false is expected");
    refused("model: model\nsummary: Heron\n", "federation.yaml:2:", "summary");
    refused("model: model\nowners:\n  - name: a\n    source:\n      kind: stolen\n", "federation.yaml:5: owner a",
            "'stolen' is no kind");
    refused("model: model\nowners:\n  - name: a\n    source: {kind: public, colour: red}\n",
            "federation.yaml:4:", "'colour'");
    refused("model: model\nowners:\n  - name: a\n    source:\n      collected_to: June\n", "federation.yaml:5: owner a",
            "collected_to must be a day, a month or a year");
    refused("model: model\nowners:\n  - name: a\n    source: {tokens: many}\n", "federation.yaml:4:", "an integer");
    refused("model: model\nowners:\n  - name: a\n    source: {tokens: -1}\n", "federation.yaml:4: owner a", "negative");
    refused("model: model\nowners:\n  - name: a\n    source: {collected_from: 2024-13}\n",
            "federation.yaml:4:", "not '2024-13'");
    refused(
        "model: model\nowners:\n  - name: a\n    source:\n      collected_to: 2023\n      collected_from: 2024-01\n",
        "federation.yaml:6:", "later than collected_to");
    json_decref(summary_of("model: model\nowners:\n  - name: a\n    source: {collected_from: 2024-05, "
                           "collected_to: 2024}\n",
                           0));
}

/* --- The page ---------------------------------------------------------------------------------------- */

#define EVIL "</dd></title><script>alert(1)</script><img src=x onerror='a()'> \\\"so\\\" \\u202e & http://x.example"

static char *page_of(const json_t *summary)
{
    ft_buffer page = {0};
    ft_status st;
    assert_ok(ft_summary_page(summary, &page, &st), st);
    return page.data;
}

static void the_page_escapes_whatever_the_file_says_and_fetches_nothing(void **state)
{
    (void)state;
    need_model();
    static const char *const never[] = {
        "<script", "<img", "</title><", " href=", "url(", "@import", "\"so\"", "onerror='"};
    static const char *const fields[] = {"provider",  "contact",      "representative",   "model",
                                         "version",   "dependencies", "placed_on_market", "content_types",
                                         "languages", "reservations", "illegal_content",  "notes"};
    static const char *const said[] = {"licence", "link", "description", "crawler", "crawler_behaviour", "generator"};
    char yaml[12000] = "model: model\nsummary:\n";
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
        sprintf(yaml + strlen(yaml), "  %s: \"%s\"\n", fields[i], EVIL);
    strcat(yaml, "owners:\n  - name: \"" EVIL "\"\n    index: [web]\n    source:\n      kind: crawled\n");
    for (size_t i = 0; i < sizeof(said) / sizeof(*said); i++)
        sprintf(yaml + strlen(yaml), "      %s: \"%s\"\n", said[i], EVIL);
    strcat(yaml, "  - {name: \"other" EVIL "\"}\n");
    json_t *s = summary_of(yaml, 0);
    char *page = page_of(s);
    for (size_t i = 0; i < sizeof(never) / sizeof(*never); i++) {
        const char *found = strstr(page, never[i]);
        if (found && strncmp(found, "</title>\n<main", 14) != 0)
            fail_msg("the page holds %s: %.60s", never[i], found);
    }
    size_t escaped = 0;
    for (const char *p = page; (p = strstr(p, "&lt;script&gt;alert(1)&lt;/script&gt;")) != NULL; p++)
        escaped++;
    assert_in_range(escaped, 20, 100);
    assert_non_null(strstr(page, "default-src 'none'"));
    ft_test_tags_close(page, 0);
    free(page);
    json_decref(s);
}

static void the_page_has_every_section_and_says_what_is_not_stated(void **state)
{
    (void)state;
    need_model();
    static const char *const there[] = {"<title>Public summary of training content: Heron 1.0</title>",
                                        "1.1 Provider",
                                        "1.2 Model",
                                        "1.3 Modalities",
                                        "2.1 Publicly available datasets",
                                        "2.2.1 Private",
                                        "2.2.2 Private",
                                        "2.3 Data crawled",
                                        "2.4 User data",
                                        "2.5 Synthetic data",
                                        "2.6 Other",
                                        "3.1 Respect",
                                        "3.2 Removal",
                                        "3.3 Other information",
                                        "12/2025",
                                        "2,000,000,000 tokens, as stated",
                                        "1 billion to 10 trillion tokens",
                                        "d19.example",
                                        "first\nsecond",
                                        "opted out",
                                        "not known of all owners",
                                        "1 document,",
                                        "<span class=\"none\">not stated</span>",
                                        "<code>owners[open].source.link</code>",
                                        ("sha256:" DIGEST_A),
                                        "12,345"};
    json_t *s = summary_of(stated, 0);
    char *page = page_of(s);
    for (size_t i = 0; i < sizeof(there) / sizeof(*there); i++)
        if (!strstr(page, there[i]))
            fail_msg("the page lacks %s", there[i]);
    assert_null(strstr(page, "Experts without an owner"));
    assert_null(strstr(page, "nobody stated the kind"));
    ft_test_tags_close(page, 0);
    free(page);
    json_decref(s);
}

/* --- Memory ------------------------------------------------------------------------------------------- */

typedef struct opened {
    ft_federation *f;
    ft_snapshot *s;
} opened;

static ft_code attempt(void *context, ft_status *st)
{
    const opened *o = context;
    const ft_summary_options how = {0};
    json_t *summary = NULL;
    ft_buffer page = {0};
    ft_code rc = ft_summary_make(o->f, ft_snapshot_scope(o->s), &how, &summary, st);
    if (!rc)
        rc = ft_summary_page(summary, &page, st);
    json_decref(summary);
    ft_buffer_release(&page);
    return rc;
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    need_model();
    opened o;
    ft_status st;
    ft_test_write("federation.yaml", stated, strlen(stated));
    assert_ok(ft_federation_open(&o.f, ft_test_folder(), &st), st);
    o.s = ft_federation_snapshot(o.f);
    ft_test_each_allocation_fails(attempt, &o);
    ft_snapshot_release(o.s);
    ft_federation_close(o.f);
}

/* --- The command line --------------------------------------------------------------------------------- */

static int run(const char *arguments, char **out, char **err)
{
    char command[5000];
    snprintf(command, sizeof(command), "cd '%s' && $FLEXTRACE audit summary %s", ft_test_folder(), arguments);
    return ft_test_shell(command, out, err);
}

static void the_command_prints_the_same_as_json_or_as_a_page(void **state)
{
    (void)state;
    need_model();
    char *out, *err;
    json_t *want = summary_of(stated, 0), *got;
    assert_int_equal(run(".", &out, NULL), 0);
    got = json_loads(out, 0, NULL);
    (void)json_object_del(want, "generated_at");
    (void)json_object_del(got, "generated_at");
    assert_true(json_equal(want, got));
    json_decref(got);
    free(out);
    json_decref(want);
    assert_int_equal(run("federation.yaml --format html -o page.html", &out, NULL), 0);
    assert_string_equal(out, "");
    free(out);
    char *page = ft_test_read(ft_test_path("page.html"), NULL);
    assert_int_equal(strncmp(page, "<!doctype html>", 15), 0);
    assert_non_null(strstr(page, "Heron Consortium"));
    free(page);
    assert_int_equal(run("--format html .", &out, NULL), 0);
    assert_non_null(strstr(out, "</html>"));
    free(out);
    static const char *const wrong[] = {"", ". .", ". --format pdf", ". --colour"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_int_equal(run(wrong[i], NULL, &err), 2);
        assert_non_null(strstr(err, "audit summary"));
        free(err);
    }
    assert_int_equal(run("nowhere", NULL, NULL), 3);
    assert_int_equal(run(". -o /nowhere/summary.json", NULL, NULL), 3);
    assert_false(ft_path_exists(ft_test_path("kept"))); /* nothing was asked of a store */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_people_state_stands_in_the_templates_sections),
        cmocka_unit_test(of_a_federation_that_states_nothing_all_that_is_missing_is_named_with_its_place),
        cmocka_unit_test(every_owner_stands_in_its_kinds_section_with_what_is_known_of_it),
        cmocka_unit_test(the_domains_of_crawled_data_are_the_top_tenth_by_size),
        cmocka_unit_test(a_federation_without_owners_has_a_summary_all_the_same),
        cmocka_unit_test(what_the_file_cannot_mean_is_refused_with_its_line),
        cmocka_unit_test(the_page_escapes_whatever_the_file_says_and_fetches_nothing),
        cmocka_unit_test(the_page_has_every_section_and_says_what_is_not_stated),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(the_command_prints_the_same_as_json_or_as_a_page),
    };
    return cmocka_run_group_tests(tests, make_all, NULL);
}
