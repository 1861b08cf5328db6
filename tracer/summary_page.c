/* The summary of training content as a page. It shows what the object has and knows nothing else, so that a summary
 * that was kept can be drawn again. */
#include "base/ft_webpage.h"
#include "tracer/ft_summary.h"

#include <inttypes.h>
#include <string.h>

enum { MOST_DOMAINS = 1000 };

static const char style[] =
    "main{max-width:52rem;margin:0 auto;padding:2rem 1.75rem 3rem}\n"
    "h1,h2,h3,h4,p,dl,dd,table{margin:0}\n"
    "h1{font-size:1.5rem;line-height:1.25;font-weight:700;letter-spacing:-.02em;overflow-wrap:anywhere}\n"
    "h2{font-size:1.125rem;font-weight:650;margin:2rem 0 .75rem}\n"
    "h3{font-size:.9375rem;font-weight:650;margin-bottom:.5rem}\n"
    "h4{font-size:.9375rem;font-weight:650;margin:1rem 0 .375rem;padding-top:.75rem;border-top:1px solid var(--line);"
    "overflow-wrap:anywhere}\n"
    ".soft,footer,th,dt,caption{color:var(--soft);font-size:.8125rem}header .soft{margin-top:.375rem}\n"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:.9375rem 1.25rem 1.125rem;"
    "margin-bottom:.75rem}\n"
    "dl{display:grid;grid-template-columns:minmax(9rem,13rem) minmax(0,1fr);gap:.25rem 1.25rem}\n"
    "dt{padding-top:.125rem}dd{overflow-wrap:anywhere;white-space:pre-line}\n"
    "dd,td,h1,h4{unicode-bidi:isolate}\n"
    ".none{color:var(--c1)}\n"
    "table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums;margin-top:.75rem}\n"
    "caption{text-align:left;padding-bottom:.375rem}\n"
    "th{font-weight:400;text-align:left;padding:0 .75rem .25rem 0}\n"
    "td{padding:.25rem .75rem .25rem 0;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}\n"
    "td.n,th.n{text-align:right;white-space:nowrap}td:last-child,th:last-child{padding-right:0}\n"
    "code{font:400 .75rem/1.45 var(--mono);overflow-wrap:anywhere}\n"
    "footer{margin-top:1.5rem}\n"
    "@media (max-width:36rem){main{padding:1.25rem 1rem 2rem}.card{padding:.75rem .875rem .875rem}"
    "dl{grid-template-columns:minmax(0,1fr);gap:0}dd{margin-bottom:.5rem}}\n"
    "@media print{:root{color-scheme:light;--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--c1:#a83a0a}"
    "main{max-width:none;padding:0}.card{border:0;border-top:1px solid var(--line);border-radius:0;padding:.5rem 0}"
    "h2,h3,h4{break-after:avoid}dl,tr{break-inside:avoid}}\n"
    "</style>\n";

/* --- Writing ------------------------------------------------------------------------------ */

typedef struct page { /* keeps its first failure */
    ft_buffer *out;
    ft_code rc;
    ft_status *st;
} page;

#define put(p, ...)                                                                                                    \
    do {                                                                                                               \
        if (!(p)->rc)                                                                                                  \
            (p)->rc = ft_buffer_printf((p)->out, (p)->st, __VA_ARGS__);                                                \
    } while (0)

static void put_text(page *p, const char *text)
{
    if (!p->rc && text)
        p->rc = ft_webpage_escape(p->out, text, strlen(text), FT_WEBPAGE_WHOLE, p->st);
}

/* A text that people wrote keeps its lines. */
static void put_lines(page *p, const json_t *value)
{
    const char *text = json_string_value(value), *end;
    while ((end = strchr(text, '\n')) != NULL && !p->rc) {
        p->rc = ft_webpage_escape(p->out, text, (size_t)(end - text), FT_WEBPAGE_WHOLE, p->st);
        put(p, "\n");
        text = end + 1;
    }
    put_text(p, text);
}

/* 1234567 as 1,234,567. */
static void put_number(page *p, json_int_t v)
{
    char digits[24];
    const int n = snprintf(digits, sizeof(digits), "%" JSON_INTEGER_FORMAT, v < 0 ? 0 : v);
    for (int i = 0; i < n; i++)
        put(p, "%s%c", i && (n - i) % 3 == 0 ? "," : "", digits[i]);
}

static void put_value(page *p, const json_t *value)
{
    if (json_is_string(value))
        put_lines(p, value);
    else if (json_is_integer(value))
        put_number(p, json_integer_value(value));
    else if (json_is_boolean(value))
        put(p, "%s", json_is_true(value) ? "yes" : "no");
    else
        put(p, "<span class=\"none\">not stated</span>");
}

/* "1 document", "2,000 documents" */
static void put_many(page *p, const json_t *count, const char *noun)
{
    put_value(p, count);
    put(p, " %s%s", noun, json_integer_value(count) == 1 ? "" : "s");
}

static const json_t *at(const json_t *object, const char *name)
{
    return json_object_get(object, name);
}

static void row(page *p, const char *label, const json_t *value)
{
    put(p, "<dt>%s</dt><dd>", label);
    put_value(p, value);
    put(p, "</dd>\n");
}

/* What need not be there is left out where it is not. */
static void row_if(page *p, const char *label, const json_t *value)
{
    if (value && !json_is_null(value))
        row(p, label, value);
}

/* --- 1 General information -------------------------------------------------------------------- */

static void put_header(page *p, const json_t *s)
{
    const json_t *model = at(at(s, "general"), "model");
    const char *name = json_string_value(at(model, "name")), *version = json_string_value(at(model, "version"));
    put(p, "%s%s<title>Public summary of training content", ft_webpage_head, style);
    for (int title = 1; title >= 0; title--) {
        if (name) {
            put(p, ": ");
            put_text(p, name);
            put(p, "%s", version ? " " : "");
            put_text(p, version);
        }
        if (title)
            put(p, "</title>\n<main>\n<header><h1>Public summary of training content");
    }
    put(p, "</h1>\n<p class=\"soft\">");
    put_text(p, json_string_value(at(s, "basis")));
    put(p, "; in the sections of the template of the ");
    put_text(p, json_string_value(at(s, "template")));
    put(p, ". Drawn up ");
    const char *made = json_string_value(at(s, "generated_at"));
    if (!p->rc && made)
        p->rc = ft_webpage_escape(p->out, made, strcspn(made, "T"), FT_WEBPAGE_WHOLE, p->st);
    put(p, ".</p>\n");
    const size_t missing = json_array_size(at(s, "not_stated"));
    if (missing)
        put(p, "<p class=\"soft none\">Fields not stated: %zu; the end of this page lists them.</p>\n", missing);
    put(p, "</header>\n");
}

static void put_modality(page *p, const json_t *m)
{
    put(p, "<dt>Modality</dt><dd>");
    put_text(p, json_string_value(at(m, "modality")));
    put(p, "</dd>\n<dt>Size of training data</dt><dd>%s",
        json_is_true(at(m, "complete")) || !json_is_string(at(m, "size_range"))
            ? ""
            : "not known of all owners; of the others: ");
    put_value(p, at(m, "size_range"));
    put(p, " (");
    put_many(p, at(m, "tokens"), "token");
    put(p, ", ");
    put_many(p, at(m, "documents"), "document");
    put(p, " in the owners' indexes)</dd>\n");
    row(p, "Types of content", at(m, "content_types"));
}

/* "2026-01-31" as 01/2026, as the template writes it; a year alone as it is. */
static void put_latest(page *p, const json_t *latest)
{
    const char *date = json_string_value(at(latest, "date")), *basis = json_string_value(at(latest, "basis"));
    const json_t *unknown = at(latest, "owners_unknown"), *name;
    size_t i;
    put(p, "<dt>Latest date of acquisition</dt><dd>");
    if (!date)
        put(p, "<span class=\"none\">not stated</span>");
    else if (strlen(date) >= 7 && !p->rc) {
        p->rc = ft_webpage_escape(p->out, date + 5, 2, FT_WEBPAGE_WHOLE, p->st);
        put(p, "/");
        if (!p->rc)
            p->rc = ft_webpage_escape(p->out, date, 4, FT_WEBPAGE_WHOLE, p->st);
    } else {
        put_text(p, date);
    }
    if (basis && !strcmp(basis, "metadata"))
        put(p, " (the latest date in documents' metadata)");
    json_array_foreach(unknown, i, name)
    {
        put(p, "%s", i ? ", " : date ? "; not known of " : "");
        if (date)
            put_text(p, json_string_value(name));
        else
            break;
    }
    put(p, "</dd>\n");
}

static void put_general(page *p, const json_t *general)
{
    const json_t *provider = at(general, "provider"), *model = at(general, "model"), *one;
    size_t i;
    put(p, "<h2>1 General information</h2>\n<section class=\"card\"><h3>1.1 Provider</h3><dl>\n");
    row(p, "Provider", at(provider, "name"));
    row(p, "Contact", at(provider, "contact"));
    row(p, "Authorised representative", at(provider, "representative"));
    row(p, "Small or medium-sized", at(provider, "sme"));
    put(p, "</dl></section>\n<section class=\"card\"><h3>1.2 Model</h3><dl>\n");
    row(p, "Model", at(model, "name"));
    row(p, "Version", at(model, "version"));
    row(p, "Dependencies", at(model, "dependencies"));
    row(p, "Placed on the Union market", at(model, "placed_on_market"));
    row(p, "Architecture", at(model, "architecture"));
    row(p, "Parameters", at(model, "parameters"));
    row(p, "Experts", at(model, "experts"));
    put(p, "</dl></section>\n<section class=\"card\"><h3>1.3 Modalities, size and other characteristics</h3><dl>\n");
    json_array_foreach(at(general, "modalities"), i, one)
    {
        put_modality(p, one);
    }
    row(p, "Languages", at(general, "languages"));
    put_latest(p, at(general, "latest_acquisition"));
    row(p, "Collection goes on", at(general, "ongoing"));
    put(p, "</dl></section>\n");
}

/* --- 2 Sources ---------------------------------------------------------------------------------- */

static void put_digest(page *p, const char *label, const json_t *digest)
{
    if (!json_is_string(digest))
        return;
    put(p, "<dt>%s</dt><dd><code>", label);
    put_text(p, json_string_value(digest));
    put(p, "</code></dd>\n");
}

static void put_expert(page *p, const json_t *e)
{
    const char *state = json_string_value(at(e, "state"));
    put(p, "<dt>Expert</dt><dd>number ");
    put_value(p, at(e, "id"));
    put(p, "%s</dd>\n",
        state && !strcmp(state, "opted_out") ? ", opted out: trained on these data, takes part in nothing"
                                             : ", active");
    row_if(p, "Documents in training", at(e, "trained_documents"));
    row_if(p, "Tokens gone through in training", at(e, "trained_tokens"));
    put_digest(p, "Digest of the expert", at(e, "digest"));
    put_digest(p, "Digest of its training manifest", at(e, "manifest"));
    put_digest(p, "Digest of its training data", at(e, "data"));
}

static void put_dates(page *p, const char *label, const json_t *d)
{
    if (!json_is_object(d))
        return;
    put(p, "<dt>%s</dt><dd>", label);
    put_text(p, json_string_value(at(d, "first")));
    put(p, " to ");
    put_text(p, json_string_value(at(d, "last")));
    put(p, ", of ");
    put_many(p, at(d, "documents"), "document");
    put(p, "</dd>\n");
}

static void put_size(page *p, const json_t *s)
{
    put(p, "<dt>Size</dt><dd>");
    if (json_is_integer(at(s, "tokens"))) {
        put_many(p, at(s, "tokens"), "token");
        put(p, json_is_integer(at(s, "documents")) ? ", " : ", as stated");
        if (json_is_integer(at(s, "documents")))
            put_many(p, at(s, "documents"), "document");
    } else {
        put_value(p, NULL);
    }
    if (json_is_integer(at(s, "text_bytes"))) {
        put(p, ", ");
        put_many(p, at(s, "text_bytes"), "byte");
        put(p, " of text");
    }
    if (json_is_real(at(s, "share")))
        put(p, "; %.1f %% of the public datasets", 100 * json_real_value(at(s, "share")));
    put(p, "</dd>\n");
}

static int is_kind(const json_t *source, const char *kind)
{
    const char *is = json_string_value(at(source, "kind"));
    return is && !strcmp(is, kind);
}

/* What nobody stated is said where the template asks for it, of this kind of source. */
static void put_asked(page *p, const char *label, const json_t *value, int asked)
{
    if (asked)
        row(p, label, value);
    else
        row_if(p, label, value);
}

static void put_source(page *p, const json_t *s)
{
    const json_t *one, *collected = at(at(s, "metadata"), "collected");
    const int crawled = is_kind(s, "crawled"), synthetic = is_kind(s, "synthetic"), dated = json_is_object(collected);
    size_t i;
    put(p, "<h4>");
    put_text(p, json_string_value(at(s, "owner")));
    put(p, "</h4><dl>\n");
    row(p, "Description", at(s, "description"));
    put_asked(p, "Link", at(s, "link"), is_kind(s, "public"));
    put_asked(p, "Licence", at(s, "licence"), !synthetic && !is_kind(s, "user"));
    put_asked(p, "Collected from", at(s, "collected_from"), !dated);
    put_asked(p, "Collected to", at(s, "collected_to"), !dated);
    row(p, "Collection goes on", at(s, "ongoing"));
    put_asked(p, "Crawler", at(s, "crawler"), crawled);
    put_asked(p, "Behaviour of the crawler", at(s, "crawler_behaviour"), crawled);
    put_asked(p, "Generated by", at(s, "generator"), synthetic);
    put_size(p, s);
    put_dates(p, "Collected, by metadata", collected);
    put_dates(p, "Made, by metadata", at(at(s, "metadata"), "dated"));
    if (json_is_object(at(s, "expert")))
        put_expert(p, at(s, "expert"));
    json_array_foreach(at(s, "indexes"), i, one)
    {
        put_digest(p, "State of the index", at(one, "root"));
    }
    put(p, "</dl>\n");
}

static void put_domains(page *p, const json_t *d)
{
    const json_t *list = at(d, "list"), *one, *none = at(d, "without_domain");
    size_t i;
    const size_t n = json_array_size(list), shown = n < MOST_DOMAINS ? n : MOST_DOMAINS;
    put(p, "<table><caption>The most relevant domain names: ");
    put_text(p, json_string_value(at(d, "rule")));
    put(p, ", ");
    put_value(p, at(d, "relevant"));
    put(p, " of ");
    put_value(p, at(d, "distinct"));
    if (json_integer_value(at(d, "step")) > 1) {
        put(p, "; counted in one document of ");
        put_value(p, at(d, "step"));
    }
    if (json_integer_value(at(none, "documents"))) {
        put(p, "; ");
        put_many(p, at(none, "documents"), "document");
        put(p, " without one");
    }
    put(p,
        "%s</caption><thead><tr><th>Domain</th><th class=\"n\">Documents</th><th class=\"n\">Tokens</th>"
        "<th class=\"n\">Share</th></tr></thead><tbody>\n",
        (json_int_t)shown < json_integer_value(at(d, "relevant")) ? "; the first of them here, the JSON has more" : "");
    for (i = 0; i < shown && !p->rc; i++) {
        one = json_array_get(list, i);
        put(p, "<tr><td>");
        put_text(p, json_string_value(at(one, "domain")));
        put(p, "</td><td class=\"n\">");
        put_value(p, at(one, "documents"));
        put(p, "</td><td class=\"n\">");
        put_value(p, at(one, "tokens"));
        put(p, "</td><td class=\"n\">%.2f %%</td></tr>\n", 100 * json_real_value(at(one, "share")));
    }
    put(p, "</tbody></table>\n");
}

static void put_section(page *p, const json_t *s)
{
    const json_t *one, *used = at(s, "used");
    size_t i;
    const char *number = json_string_value(at(s, "section"));
    if (!number && !json_array_size(at(s, "sources")))
        return; /* every owner's kind is stated */
    put(p, "<section class=\"card\"><h3>%s%s", number ? number : "", number ? " " : "");
    put_text(p, json_string_value(at(s, "title")));
    put(p, "</h3>");
    if (number) {
        put(p, "<dl>\n");
        row(p, "Used", used);
        put(p, "</dl>");
    }
    json_array_foreach(at(s, "sources"), i, one)
    {
        put_source(p, one);
    }
    if (json_is_object(at(s, "domains")))
        put_domains(p, at(s, "domains"));
    put(p, "</section>\n");
}

static void put_sources(page *p, const json_t *sources)
{
    const char *name;
    json_t *one;
    size_t i;
    put(p, "<h2>2 List of data sources</h2>\n");
    json_object_foreach((json_t *)(uintptr_t)sources, name, one)
    {
        if (json_is_object(one))
            put_section(p, one);
    }
    const json_t *ownerless = at(sources, "experts_without_owner");
    if (!json_array_size(ownerless))
        return;
    put(p, "<section class=\"card\"><h3>Experts without an owner</h3><p class=\"soft\">Nobody stated what these were "
           "trained on.</p>\n");
    json_array_foreach(ownerless, i, one)
    {
        put(p, "<dl>\n");
        put_expert(p, one);
        put(p, "</dl>\n");
    }
    put(p, "</section>\n");
}

/* --- 3 Processing ---------------------------------------------------------------------------------- */

static void put_processing(page *p, const json_t *processing)
{
    const json_t *reservations = at(processing, "reservations");
    put(p, "<h2>3 Data processing</h2>\n<section class=\"card\"><h3>3.1 Respect of reservations of rights under the "
           "text and data mining exception</h3><dl>\n");
    row(p, "Signatory of the code of practice", at(reservations, "code_of_practice"));
    row(p, "Measures", at(reservations, "measures"));
    put(p, "</dl></section>\n<section class=\"card\"><h3>3.2 Removal of illegal content</h3><dl>\n");
    row(p, "Measures", at(processing, "illegal_content"));
    put(p, "</dl></section>\n");
    if (!json_is_string(at(processing, "other")))
        return;
    put(p, "<section class=\"card\"><h3>3.3 Other information</h3><dl>\n");
    row(p, "Notes", at(processing, "other"));
    put(p, "</dl></section>\n");
}

static void put_not_stated(page *p, const json_t *list)
{
    const json_t *one;
    size_t i;
    if (!json_array_size(list))
        return;
    put(p, "<h2>Not stated</h2>\n<section class=\"card\"><p class=\"soft\">What is missing, and where federation.yaml "
           "would have it.</p><table><thead><tr><th>Field</th><th>Place</th></tr></thead><tbody>\n");
    json_array_foreach(list, i, one)
    {
        put(p, "<tr><td>");
        put_text(p, json_string_value(at(one, "field")));
        put(p, "</td><td><code>");
        put_text(p, json_string_value(at(one, "place")));
        put(p, "</code></td></tr>\n");
    }
    put(p, "</tbody></table></section>\n");
}

ft_code ft_summary_page(const json_t *summary, ft_buffer *out, ft_status *st)
{
    page p = {.out = out, .st = st};
    put_header(&p, summary);
    put_general(&p, at(summary, "general"));
    put_sources(&p, at(summary, "sources"));
    put_processing(&p, at(summary, "processing"));
    put_not_stated(&p, at(summary, "not_stated"));
    put(&p, "<footer><p>Numbers, digests and domain names were computed by flextrace ");
    put_text(&p, json_string_value(at(summary, "version")));
    put(&p, " from the indexes and the model; everything else is what the federation's owners and provider state."
            "</p></footer>\n</main>\n</html>\n");
    return p.rc;
}
