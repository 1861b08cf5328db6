/* The statistics of an index as one page: no script, nothing fetched, its colours and
 * type those of base/ft_webpage.h. What comes from the corpus goes through
 * put_escaped, and the page's policy forbids scripts and requests besides. */
#include "api/cli/cli_index_stat.h"
#include "base/ft_webpage.h"

#include <inttypes.h>
#include <string.h>

static const char style[] =
    "main{max-width:76rem;margin:0 auto;padding:2rem 1.75rem 3rem;display:grid;gap:1.25rem;"
    "grid-template-columns:repeat(2,minmax(0,1fr));align-items:start}\n"
    "header,.wide,footer{grid-column:1/-1}\n"
    "h1,h2,h3,p,dl,dd{margin:0}\n"
    "h1{font-size:1.5rem;font-weight:700;letter-spacing:-.02em;overflow-wrap:anywhere}\n"
    "h2{font-size:.9375rem;font-weight:650}\n"
    "h3{font-size:.8125rem;font-weight:600;margin-bottom:.375rem}\n"
    ".soft,footer,th{color:var(--soft);font-size:.8125rem}\n"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:.9375rem 1.25rem 1.125rem;"
    "min-width:0}\n"
    ".card>.soft{margin:.125rem 0 .75rem}\n"
    ".facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1rem 1.5rem}\n"
    ".facts dt{color:var(--soft);font-size:.8125rem}\n"
    ".facts dd{font-size:1.375rem;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums}\n"
    ".facts dd small{display:block;font-size:.75rem;font-weight:400;letter-spacing:0;color:var(--soft)}\n"
    "table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
    "th{font-weight:400;text-align:left;padding:0 .75rem .25rem 0}\n"
    "td{padding:.3125rem .75rem .3125rem 0;border-top:1px solid var(--line);vertical-align:top}\n"
    "td.n,th.n{text-align:right;white-space:nowrap}\n"
    "td:last-child,th:last-child{padding-right:0}\n"
    "td.t{width:99%;overflow-wrap:anywhere}\n"
    ".bar{display:block;height:4px;margin-top:2px;border-radius:2px;background:var(--well)}\n"
    ".bar i{display:block;height:100%;min-width:1px;border-radius:2px;background:var(--c2)}\n"
    "td.ids{max-width:0;font-size:.8125rem;line-height:1.45}\n"
    ".ids div{display:flex;gap:.5rem;align-items:baseline}\n"
    ".ids bdi{flex:0 1 auto;overflow:hidden;white-space:nowrap;text-overflow:ellipsis}\n"
    ".ids small{color:var(--soft)}\n"
    ".grams{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:1.25rem 2rem}\n"
    "code{font:400 .8125rem/1.45 var(--mono);white-space:pre-wrap;overflow-wrap:anywhere}\n"
    "code i{font-style:normal;color:var(--soft);opacity:.8}\n"
    ".key{display:flex;gap:1.25rem;margin:0 0 .25rem;font-size:.8125rem;color:var(--soft)}\n"
    ".key b{display:inline-block;width:.75rem;height:.75rem;margin-right:.375rem;border-radius:3px;"
    "vertical-align:-1px}\n"
    ".chart{overflow-x:auto}\n"
    "svg{display:block;width:100%;min-width:44rem;height:auto;max-height:22rem}\n"
    "svg text{font:400 11px var(--ui);fill:var(--soft)}\n"
    ".d{fill:var(--c2);background:var(--c2)}.k{fill:var(--c1);background:var(--c1)}\n"
    ".grid{stroke:var(--line)}\n"
    "footer p{overflow-wrap:anywhere}footer code{font-size:.75rem}\n"
    "@media (max-width:52rem){main{grid-template-columns:minmax(0,1fr);padding:1.25rem 1rem 2rem}}\n"
    "</style>\n";

/* --- Writing ------------------------------------------------------------------------------ */

typedef struct page { /* keeps its first failure */
    const stat_report *r;
    ft_buffer *out;
    ft_buffer text; /* scratch for n-grams */
    ft_code rc;
    ft_status *st;
} page;

#define put(p, ...)                                                                                                    \
    do {                                                                                                               \
        if (!(p)->rc)                                                                                                  \
            (p)->rc = ft_buffer_printf((p)->out, (p)->st, __VA_ARGS__);                                                \
    } while (0)

/* Text from the corpus, at most `width` characters. `code`: spaces and line ends are shown. */
static void put_escaped(page *p, const char *text, size_t n, unsigned width, int code)
{
    if (!p->rc)
        p->rc = (code ? ft_webpage_escape_code : ft_webpage_escape)(p->out, text, n, width, p->st);
}

/* 1234567 as 1,234,567. */
static void put_number(page *p, uint64_t v)
{
    char digits[24];
    const int n = snprintf(digits, sizeof(digits), "%" PRIu64, v);
    for (int i = 0; i < n; i++)
        put(p, "%s%c", i && (n - i) % 3 == 0 ? "," : "", digits[i]);
}

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

static void put_megabytes(page *p, uint64_t bytes)
{
    if (bytes >= UINT64_C(10000000000))
        put(p, "%.1f GB", (double)bytes / 1e9);
    else
        put(p, "%.1f MB", (double)bytes / 1e6);
}

/* --- Facts ----------------------------------------------------------------------------------- */

static void put_header(page *p)
{
    const ft_index_info *i = &p->r->info;
    size_t n = strlen(i->folder);
    while (n > 1 && i->folder[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && i->folder[from - 1] != '/')
        from--;
    put(p, "<title>");
    put_escaped(p, i->folder + from, n - from, 120, 0);
    put(p, ": what is in it</title>\n<main>\n<header><h1>");
    put_escaped(p, i->folder + from, n - from, 120, 0);
    put(p, "</h1><p class=\"soft\">What is in this corpus%s", i->owner[0] ? ", owned by " : "");
    put_escaped(p, i->owner, strlen(i->owner), 200, 0);
    put(p, "</p></header>\n");
}

static void put_facts(page *p)
{
    const ft_index_info *i = &p->r->info;
    const ft_index_stat *s = p->r->deep;
    put(p, "<section class=\"card wide\"><dl class=\"facts\"><div><dt>Documents</dt><dd>");
    put_number(p, i->documents);
    put(p, "<small>%.0f tokens each on average</small></dd></div><div><dt>Tokens</dt><dd>", s->lengths.mean);
    put_number(p, i->tokens);
    put(p, "<small>");
    put_number(p, s->distinct_tokens);
    put(p, " distinct</small></dd></div>");
    if (!i->is_infinigram) {
        put(p, "<div><dt>Text</dt><dd>");
        put_megabytes(p, i->text_bytes);
        put(p, "<small>%.2f bytes a token</small></dd></div>", share(i->text_bytes, i->tokens));
    }
    put(p, "<div><dt>On disk</dt><dd>");
    put_megabytes(p, i->disk_bytes);
    put(p, "<small>%.2f bytes a token, %u %s%s</small></dd></div>", stat_bytes_per_token(i), i->parts,
        i->is_infinigram ? "shard" : "segment", i->parts == 1 ? "" : "s");
    put(p, "<div><dt>Surplus copies</dt><dd>%.1f %%<small>of tokens, byte-identical</small></dd></div>",
        100 * share(s->identical.surplus_tokens, s->tokens));
    put(p,
        "<div><dt>Near-duplicates</dt><dd>%.1f %%<small>of tokens, copies included</small></dd></div></dl></section>\n",
        100 * share(s->near.surplus_tokens, s->tokens));
}

/* --- Lengths ------------------------------------------------------------------------------------ */

/* 2048 as 2k. */
static void short_number(uint64_t v, char out[24])
{
    static const char units[] = " kMGTPE";
    unsigned u = 0;
    for (; v >= 1024 && v % 1024 == 0; v /= 1024)
        u++;
    snprintf(out, 24, u ? "%" PRIu64 "%c" : "%" PRIu64, v, units[u]);
}

static void put_range_label(page *p, unsigned k)
{
    uint64_t from, to;
    char low[24], high[24];
    stat_histogram_range(k, &from, &to);
    short_number(from, low);
    short_number(from >= 1024 ? to + 1 : to, high);
    put(p, from == to ? "%s" : "%s–%s", low, high);
}

/* Two bars for each power of two: its share of the documents and of the tokens. */
static void put_chart(page *p)
{
    enum { LEFT = 40, STEP = 62, BAR = 22, TOP = 10, HEIGHT = 190, BOTTOM = 26 };
    const ft_index_stat *s = p->r->deep;
    const ft_stat_lengths *l = &s->lengths;
    const unsigned last = stat_histogram_last(l);
    unsigned first = 0;
    double most = 0.01;
    while (first < last && !l->documents[first])
        first++;
    for (unsigned k = first; k <= last; k++) {
        const double a = share(l->documents[k], s->documents), b = share(l->tokens[k], s->tokens);
        most = a > most ? a : most;
        most = b > most ? b : most;
    }
    const double step = most > 0.5 ? 0.25 : most > 0.2 ? 0.1 : most > 0.1 ? 0.05 : 0.02;
    const unsigned lines = (unsigned)(most / step) + (most / step > (unsigned)(most / step));
    /* Few rows would make giant bars: the drawing keeps a width, the bars stand at its left. */
    const unsigned rows = last - first + 1, width = LEFT + STEP * (rows < 14 ? 14 : rows);
    const double scale = HEIGHT / (lines * step);
    put(p,
        "<div class=\"chart\"><svg viewBox=\"0 0 %u %d\" role=\"img\" aria-label=\"Documents and tokens by length of "
        "document\">",
        width, TOP + HEIGHT + BOTTOM);
    for (unsigned i = 0; i <= lines; i++) {
        const double y = TOP + HEIGHT - i * step * scale;
        put(p, "<line class=\"grid\" x1=\"%d\" x2=\"%u\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, width, y, y);
        put(p, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.0f %%</text>", LEFT - 6, y + 4, 100 * i * step);
    }
    for (unsigned k = first; k <= last; k++) {
        const unsigned x = LEFT + STEP * (k - first) + (STEP - 2 * BAR) / 2;
        const double a = share(l->documents[k], s->documents) * scale, b = share(l->tokens[k], s->tokens) * scale;
        put(p, "<g><title>%" PRIu64 " documents, %" PRIu64 " tokens</title>", l->documents[k], l->tokens[k]);
        put(p, "<rect class=\"d\" rx=\"2\" x=\"%u\" y=\"%.1f\" width=\"%d\" height=\"%.1f\"/>", x, TOP + HEIGHT - a,
            BAR - 1, a);
        put(p, "<rect class=\"k\" rx=\"2\" x=\"%u\" y=\"%.1f\" width=\"%d\" height=\"%.1f\"/></g>", x + BAR,
            TOP + HEIGHT - b, BAR - 1, b);
        put(p, "<text x=\"%u\" y=\"%d\" text-anchor=\"middle\">", x + BAR, TOP + HEIGHT + 18);
        put_range_label(p, k);
        put(p, "</text>");
    }
    put(p, "</svg></div>");
}

static void put_lengths(page *p)
{
    const ft_stat_lengths *l = &p->r->deep->lengths;
    const struct {
        const char *name;
        uint64_t value;
    } facts[] = {{"shortest ", l->min},
                 {", median ", l->median},
                 {", 90 % to ", l->p90},
                 {", 99 % to ", l->p99},
                 {", longest ", l->max}};
    put(p, "<section class=\"card wide\"><h2>Lengths of documents</h2><p class=\"soft\">In tokens: ");
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        put(p, "%s", facts[i].name);
        put_number(p, facts[i].value);
    }
    put(p, "; ");
    put_number(p, l->documents[0]);
    put(p,
        " empty</p><p class=\"key\"><span><b class=\"d\"></b>share of documents</span><span><b class=\"k\"></b>share "
        "of tokens</span></p>");
    if (p->r->deep->documents)
        put_chart(p);
    put(p, "</section>\n");
}

/* --- Duplicates ------------------------------------------------------------------------------------ */

/* The end of an id tells documents apart where their paths begin alike. */
static void put_name(page *p, uint64_t number)
{
    enum { WIDTH = 42 };
    json_t *id = stat_document_id(p->r, number);
    const char *name = id ? json_string_value(id) : "";
    const size_t n = strlen(name);
    size_t at = n;
    for (unsigned shown = 0; at > 0 && shown < WIDTH; shown++)
        do
            at--;
        while (at > 0 && ((unsigned char)name[at] & 0xC0) == 0x80);
    put(p, "<bdi title=\"");
    put_escaped(p, name, n, 1000, 0);
    put(p, "\">%s", at ? "…" : "");
    put_escaped(p, name + at, n - at, WIDTH, 0);
    put(p, "</bdi>");
    json_decref(id);
}

static void put_group(page *p, const ft_stat_group *g, int near)
{
    enum { EXAMPLES = 3 };
    put(p, "<tr><td class=\"n\">");
    put_number(p, g->documents);
    put(p, "</td><td class=\"n\">");
    put_number(p, g->tokens);
    put(p, "</td><td class=\"t ids\">");
    size_t i = 0;
    for (; i < g->shown && i < EXAMPLES; i++) {
        put(p, "<div>");
        put_name(p, g->number[i]);
        if (near && i)
            put(p, " <small>%.2f</small>", g->similarity[i]);
        put(p, "</div>");
    }
    if (g->documents > i)
        put(p, "<small>and %" PRIu64 " more</small>", g->documents - i);
    put(p, "</td></tr>\n");
}

static void put_groups(page *p, const char *title, const char *what, const ft_stat_groups *g, int near)
{
    put(p, "<section class=\"card\"><h2>%s</h2><p class=\"soft\">", title);
    if (!g->groups) {
        put(p, "None. %s</p></section>\n", what);
        return;
    }
    put_number(p, g->documents);
    put(p, " documents in ");
    put_number(p, g->groups);
    put(p, " %s%s; surplus ", near ? "cluster" : "group", g->groups == 1 ? "" : "s");
    put_number(p, g->surplus_documents);
    put(p, " documents, ");
    put_number(p, g->surplus_tokens);
    put(p, " tokens. %s", what);
    if (g->unchecked_pairs)
        put(p, " %" PRIu64 " candidate pairs were left out.", g->unchecked_pairs);
    put(p, "</p><table><thead><tr><th class=\"n\">Documents</th><th class=\"n\">Tokens</th><th>%s</th></tr></thead>\n",
        near ? "Texts, with their similarity to the first" : "Examples");
    for (size_t i = 0; i < g->shown; i++)
        put_group(p, &g->largest[i], near);
    put(p, "</table></section>\n");
}

/* --- Sources and licences ----------------------------------------------------------------------------- */

static void put_value(page *p, const char *text, const char *soft, const ft_stat_value *v)
{
    const double part = share(v->tokens, p->r->deep->tokens);
    put(p, "<tr><td class=\"t\"><bdi>");
    put_escaped(p, text ? text : "", text ? strlen(text) : 0, 120, 0);
    put(p, "</bdi>%s<span class=\"bar\"><i style=\"width:%.2f%%\"></i></span></td><td class=\"n\">", soft, 100 * part);
    put_number(p, v->documents);
    put(p, "</td><td class=\"n\">");
    put_number(p, v->tokens);
    put(p, "</td><td class=\"n\">%.1f %%</td></tr>\n", 100 * part);
}

static void put_values(page *p, const char *title, const char *fields, const ft_stat_values *v)
{
    put(p, "<section class=\"card\"><h2>%s</h2><p class=\"soft\">", title);
    put_number(p, v->distinct);
    put(p, "%s distinct, from the metadata's %s</p>", v->complete ? "" : " and more", fields);
    put(p, "<table><thead><tr><th>Value</th><th class=\"n\">Documents</th><th class=\"n\">Tokens</th><th "
           "class=\"n\">Share</th></tr></thead>\n");
    for (size_t i = 0; i < v->shown; i++)
        put_value(p, v->top[i].text, "", &v->top[i]);
    if (v->other.documents)
        put_value(p, NULL, "<span class=\"soft\">all others</span>", &v->other);
    if (v->none.documents)
        put_value(p, NULL, "<span class=\"soft\">not recorded</span>", &v->none);
    put(p, "</table></section>\n");
}

/* --- N-grams -------------------------------------------------------------------------------------------- */

static void put_ngrams(page *p, unsigned n)
{
    const ft_stat_ngrams *g = &p->r->deep->ngrams[n - 1];
    if (n == 1)
        put(p, "<div><h3>Tokens</h3>");
    else
        put(p, "<div><h3>%u tokens</h3>", n);
    put(p, "<table>");
    for (size_t i = 0; i < g->shown && !p->rc; i++) {
        p->rc = stat_ngram_text(p->r, g->top[i].ids, n, &p->text, p->st);
        put(p, "<tr><td class=\"t\"><code>");
        put_escaped(p, p->text.data ? p->text.data : "", p->text.size, 120, p->r->tokenizer != NULL);
        put(p, "</code><span class=\"bar\"><i style=\"width:%.2f%%\"></i></span></td><td class=\"n\">",
            100 * share(g->top[i].count, g->top[0].count));
        put_number(p, g->top[i].count);
        put(p, "</td></tr>\n");
    }
    put(p, "</table></div>\n");
}

static void put_footer(page *p)
{
    const ft_index_info *i = &p->r->info;
    char hex[FT_DIGEST_HEX];
    put(p, "<footer>");
    if (!i->is_infinigram) {
        ft_digest_hex(&i->root, hex);
        put(p, "<p>State of the corpus (Merkle root) <code>%s</code></p>", hex);
    }
    if (i->tokenizer) {
        ft_digest_hex(&i->tokenizer_digest, hex);
        put(p, "<p>Tokenizer <code>%s</code></p>", hex);
    }
    if (p->r->deep->unreadable_metadata)
        put(p, "<p>%" PRIu64 " documents have metadata that are no JSON object.</p>", p->r->deep->unreadable_metadata);
    put(p, "<p>Counted by flextrace " FT_VERSION ", flextrace index stat --html. Counts are exact; the search for "
           "near-duplicates misses one pair in nine thousand at similarity 0.8, fewer above.</p></footer>\n");
}

ft_code stat_page(const stat_report *r, ft_buffer *out, ft_status *st)
{
    page p = {.r = r, .out = out, .st = st};
    const ft_index_stat *s = r->deep;
    put(&p, "%s%s", ft_webpage_head, style);
    put_header(&p);
    put_facts(&p);
    put_lengths(&p);
    put_groups(&p, "Byte-identical documents", "The same tokens from beginning to end.", &s->identical, 0);
    put_groups(&p, "Near-duplicates",
               "Distinct texts that share four fifths of their 5-token shingles, and what such pairs connect.",
               &s->near, 1);
    put_values(&p, "Sources", "source, domain or url", &s->sources);
    put_values(&p, "Licences", "license, licence or rights", &s->licences);
    put(&p,
        "<section class=\"card wide\"><h2>Commonest n-grams</h2><p class=\"soft\">None reaches across the end of a "
        "document%s</p><div class=\"grams\">\n",
        r->tokenizer ? "" : "; token ids, for no tokenizer is known");
    for (unsigned n = 1; n <= s->max_n; n++)
        put_ngrams(&p, n);
    put(&p, "</div></section>\n");
    put_footer(&p);
    put(&p, "</main>\n</html>\n");
    ft_buffer_release(&p.text);
    return p.rc;
}
