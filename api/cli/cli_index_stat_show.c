/* The statistics of an index as table and as JSON. */
#include "api/cli/cli_index_stat.h"
#include "base/ft_json.h"
#include "base/ft_utf8.h"

#include <inttypes.h>
#include <string.h>

/* --- Shared ----------------------------------------------------------------------------- */

json_t *stat_document_id(const stat_report *r, uint64_t number)
{
    ft_doc_ref doc;
    json_t *metadata = NULL, *out = NULL;
    if (ft_index_document(r->ix, number, &doc, NULL) != FT_OK)
        doc = (ft_doc_ref){.metadata = "{}", .metadata_bytes = 2};
    if (doc.id_bytes)
        return ft_json_text(doc.id, doc.id_bytes);
    if (ft_json_parse(&metadata, doc.metadata, doc.metadata_bytes, "metadata", NULL) == FT_OK) {
        json_t *id = json_object_get(json_object_get(metadata, "metadata"), "id");
        const json_t *path = json_object_get(metadata, "path"), *line = json_object_get(metadata, "linenum");
        if (json_is_string(id))
            out = json_incref(id);
        else if (json_is_string(path) && json_is_integer(line))
            out = json_sprintf("%s:%" JSON_INTEGER_FORMAT, json_string_value(path), json_integer_value(line));
    }
    json_decref(metadata);
    return out ? out : json_sprintf("document %" PRIu64, number);
}

ft_code stat_ngram_text(const stat_report *r, const uint32_t *ids, unsigned n, ft_buffer *out, ft_status *st)
{
    ft_buffer_reset(out);
    if (r->tokenizer)
        return ft_tokenizer_decode(r->tokenizer, ids, n, 0, out, st);
    ft_code rc = FT_OK;
    for (unsigned i = 0; i < n && !rc; i++)
        rc = ft_buffer_printf(out, st, "%s%" PRIu32, i ? " " : "", ids[i]);
    return rc;
}

double stat_bytes_per_token(const ft_index_info *info)
{
    const uint64_t positions = info->tokens + info->documents;
    return positions ? (double)info->disk_bytes / (double)positions : 0;
}

void stat_histogram_range(unsigned k, uint64_t *from, uint64_t *to)
{
    *from = k ? UINT64_C(1) << (k - 1) : 0;
    *to = k ? *from + (*from - 1) : 0;
}

unsigned stat_histogram_last(const ft_stat_lengths *l)
{
    unsigned last = FT_STAT_HISTOGRAM - 1;
    while (last > 0 && !l->documents[last])
        last--;
    return last;
}

/* --- Table --------------------------------------------------------------------------------- */

static void print_facts(const ft_index_info *i)
{
    char hex[FT_DIGEST_HEX];
    printf("documents        %" PRIu64 "\n", i->documents);
    printf("tokens           %" PRIu64 "\n", i->tokens);
    if (!i->is_infinigram)
        printf("text             %.1f MB\n", (double)i->text_bytes / 1e6);
    printf("on disk          %.1f MB, %.2f bytes a token\n", (double)i->disk_bytes / 1e6, stat_bytes_per_token(i));
    printf("%-16s %u\n", i->is_infinigram ? "shards" : "segments", i->parts);
    printf("%-16s %u bytes a token\n", i->is_infinigram ? "token width" : "ptr counts", i->token_bytes);
    if (i->owner[0])
        printf("owner            %s\n", i->owner);
    if (i->tokenizer) {
        ft_digest_hex(&i->tokenizer_digest, hex);
        printf("tokenizer        %s\n", hex);
    }
    if (!i->is_infinigram) {
        ft_digest_hex(&i->root, hex);
        printf("root             %s\n", hex);
    }
}

/* At most `width` characters, none of which moves the cursor; `quoted` shows line ends and
 * the like as in C. What is cut ends with an ellipsis. */
static void print_text(const char *text, size_t n, unsigned width, int quoted)
{
    unsigned shown = 0;
    for (size_t at = 0; at < n;) {
        const ft_utf8_step c = ft_utf8_next(text + at, n - at);
        if (++shown > width) {
            fputs("…", stdout);
            return;
        }
        if (quoted && (c.code_point == '\n' || c.code_point == '\t' || c.code_point == '\r'))
            printf("\\%c", c.code_point == '\n' ? 'n' : c.code_point == '\t' ? 't' : 'r');
        else if (!c.valid || c.code_point < 0x20 || (c.code_point >= 0x7F && c.code_point < 0xA0))
            fputs("\xEF\xBF\xBD", stdout);
        else
            fwrite(text + at, 1, c.length, stdout);
        at += c.length;
    }
}

/* The end of an id tells documents apart where their paths begin alike. */
static void print_name(const char *name, unsigned width)
{
    const size_t n = strlen(name);
    size_t at = n;
    for (unsigned shown = 0; at > 0 && shown + 1 < width; shown++)
        do
            at--;
        while (at > 0 && ((unsigned char)name[at] & 0xC0) == 0x80);
    fputs(at ? "…" : "", stdout);
    print_text(name + at, n - at, width, 1);
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void print_lengths(const ft_index_stat *s)
{
    enum { BAR = 24 };
    const ft_stat_lengths *l = &s->lengths;
    uint64_t most = 1;
    printf("\nlengths          median %" PRIu64 ", mean %.1f, 90 %% to %" PRIu64 ", 99 %% to %" PRIu64 ", %" PRIu64
           " to %" PRIu64 " tokens\n",
           l->median, l->mean, l->p90, l->p99, l->min, l->max);
    for (unsigned k = 0; k < FT_STAT_HISTOGRAM; k++)
        most = l->documents[k] > most ? l->documents[k] : most;
    unsigned first = 0;
    while (first < stat_histogram_last(l) && !l->documents[first])
        first++;
    for (unsigned k = first; k <= stat_histogram_last(l) && s->documents; k++) {
        uint64_t from, to;
        char range[48];
        stat_histogram_range(k, &from, &to);
        snprintf(range, sizeof(range), from == to ? "%" PRIu64 : "%" PRIu64 "-%" PRIu64, from, to);
        printf("  %19s %10" PRIu64 " ", range, l->documents[k]);
        for (unsigned i = 0; i < BAR * (double)l->documents[k] / (double)most; i++)
            fputs("▇", stdout);
        putchar('\n');
    }
}

static void print_groups(const stat_report *r, const char *title, const ft_stat_groups *g, int near)
{
    enum { NAMES = 2, NAME_WIDTH = 32 };
    printf("\n%-16s ", title);
    if (!g->groups) {
        puts("none");
        return;
    }
    if (near)
        printf("%" PRIu64 " texts in %" PRIu64 " cluster", g->texts, g->groups);
    else
        printf("%" PRIu64 " documents in %" PRIu64 " group", g->documents, g->groups);
    printf("%s; surplus: %" PRIu64 " documents, %" PRIu64 " tokens (%.1f %%)\n", g->groups == 1 ? "" : "s",
           g->surplus_documents, g->surplus_tokens, percent(g->surplus_tokens, r->deep->tokens));
    if (g->unchecked_pairs)
        printf("  %" PRIu64 " candidate pairs were left out\n", g->unchecked_pairs);
    for (size_t i = 0; i < g->shown; i++) {
        const ft_stat_group *group = &g->largest[i];
        printf("  %10" PRIu64 " documents  ", group->documents);
        for (size_t k = 0; k < group->shown && k < NAMES; k++) {
            json_t *id = stat_document_id(r, group->number[k]);
            fputs(k ? ", " : "", stdout);
            print_name(id ? json_string_value(id) : "", NAME_WIDTH);
            json_decref(id);
            if (near && k)
                printf(" (%.2f)", group->similarity[k]);
        }
        puts(group->documents > NAMES ? ", …" : "");
    }
}

static void print_values(const char *title, const ft_stat_values *v, uint64_t tokens)
{
    printf("\n%-16s ", title);
    if (!v->distinct) {
        puts("none in the metadata");
        return;
    }
    printf("%" PRIu64 "%s, %" PRIu64 " documents without\n", v->distinct, v->complete ? "" : " and more",
           v->none.documents);
    for (size_t i = 0; i < v->shown; i++) {
        printf("  %10" PRIu64 " documents %5.1f %% of tokens  ", v->top[i].documents,
               percent(v->top[i].tokens, tokens));
        print_text(v->top[i].text, strlen(v->top[i].text), 48, 1);
        putchar('\n');
    }
    if (v->other.documents)
        printf("  %10" PRIu64 " documents %5.1f %% of tokens  (others)\n", v->other.documents,
               percent(v->other.tokens, tokens));
}

static void print_ngrams(const stat_report *r)
{
    ft_buffer text = {0};
    for (unsigned n = 1; n <= r->deep->max_n; n++) {
        const ft_stat_ngrams *g = &r->deep->ngrams[n - 1];
        char title[24];
        snprintf(title, sizeof(title), n == 1 ? "tokens" : "%u-grams", n);
        printf("\n%-16s %" PRIu64, title, g->total);
        if (n == 1)
            printf(", %" PRIu64 " distinct", r->deep->distinct_tokens);
        putchar('\n');
        for (size_t i = 0; i < g->shown; i++) {
            printf("  %10" PRIu64 "  ", g->top[i].count);
            if (stat_ngram_text(r, g->top[i].ids, n, &text, NULL) == FT_OK && text.data) {
                fputs(r->tokenizer ? "\"" : "", stdout);
                print_text(text.data, text.size, 60, 1);
                fputs(r->tokenizer ? "\"" : "", stdout);
            }
            putchar('\n');
        }
    }
    ft_buffer_release(&text);
}

void stat_print_table(const stat_report *r)
{
    print_facts(&r->info);
    if (!r->deep)
        return;
    print_lengths(r->deep);
    print_groups(r, "identical", &r->deep->identical, 0);
    print_groups(r, "near-duplicates", &r->deep->near, 1);
    print_values("sources", &r->deep->sources, r->deep->tokens);
    print_values("licences", &r->deep->licences, r->deep->tokens);
    if (r->deep->unreadable_metadata)
        printf("\n%" PRIu64 " documents have metadata that are no JSON object\n", r->deep->unreadable_metadata);
    print_ngrams(r);
}

/* --- JSON ------------------------------------------------------------------------------------ */

static json_t *digest_json(const ft_digest *d, int known)
{
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(d, hex);
    return known ? json_string(hex) : json_null();
}

static json_t *facts_json(const ft_index_info *i, int deep)
{
    const int ours = !i->is_infinigram;
    return json_pack(
        "{s:s,s:s,s:I,s:I,s:o,s:I,s:f,s:i,s:i,s:o,s:o,s:s,s:o,s:o,s:b}", "index", i->folder, "format",
        ours                         ? "flextrace"
        : i->infinigram_version == 5 ? "infini-gram 5"
                                     : "infini-gram 4",
        "documents", (json_int_t)i->documents, "tokens", (json_int_t)i->tokens, "text_bytes",
        ours ? json_integer((json_int_t)i->text_bytes) : json_null(), "disk_bytes", (json_int_t)i->disk_bytes,
        "bytes_per_token", stat_bytes_per_token(i), "segments", (int)i->parts, "token_bytes", (int)i->token_bytes,
        "vocab_size", i->vocab_size ? json_integer(i->vocab_size) : json_null(), "end_of_text",
        i->end_of_text != FT_NO_TOKEN ? json_integer(i->end_of_text) : json_null(), "owner", i->owner, "tokenizer",
        digest_json(&i->tokenizer_digest, i->tokenizer != NULL), "root", digest_json(&i->root, ours), "deep", deep);
}

static json_t *lengths_json(const ft_stat_lengths *l)
{
    json_t *histogram = json_array();
    for (unsigned k = 0; k <= stat_histogram_last(l); k++) {
        uint64_t from, to;
        stat_histogram_range(k, &from, &to);
        json_array_append_new(histogram,
                              json_pack("{s:I,s:I,s:I,s:I}", "from", (json_int_t)from, "to", (json_int_t)to,
                                        "documents", (json_int_t)l->documents[k], "tokens", (json_int_t)l->tokens[k]));
    }
    return json_pack("{s:I,s:I,s:f,s:I,s:I,s:I,s:I,s:o}", "min", (json_int_t)l->min, "median", (json_int_t)l->median,
                     "mean", l->mean, "p90", (json_int_t)l->p90, "p99", (json_int_t)l->p99, "max", (json_int_t)l->max,
                     "empty", (json_int_t)l->documents[0], "histogram", histogram);
}

static json_t *group_json(const stat_report *r, const ft_stat_group *g, int near)
{
    json_t *examples = json_array();
    for (size_t i = 0; i < g->shown; i++) {
        json_t *e = json_pack("{s:I,s:o}", "number", (json_int_t)g->number[i], "id", stat_document_id(r, g->number[i]));
        if (near)
            json_object_set_new(e, "similarity", json_real(g->similarity[i]));
        json_array_append_new(examples, e);
    }
    return json_pack("{s:I,s:I,s:o}", "documents", (json_int_t)g->documents, "tokens", (json_int_t)g->tokens,
                     "examples", examples);
}

static json_t *groups_json(const stat_report *r, const ft_stat_groups *g, int near)
{
    json_t *largest = json_array();
    for (size_t i = 0; i < g->shown; i++)
        json_array_append_new(largest, group_json(r, &g->largest[i], near));
    json_t *out = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "groups", (json_int_t)g->groups, "texts",
                            (json_int_t)g->texts, "documents", (json_int_t)g->documents, "tokens",
                            (json_int_t)g->tokens, "surplus_documents", (json_int_t)g->surplus_documents,
                            "surplus_tokens", (json_int_t)g->surplus_tokens, "largest", largest);
    if (near)
        json_object_set_new(out, "method",
                            json_pack("{s:s,s:i,s:f,s:i,s:i,s:I,s:I}", "name", "minhash", "shingle_tokens",
                                      FT_STAT_SHINGLE, "similarity", FT_STAT_SIMILARITY, "bands", FT_STAT_BANDS,
                                      "band_rows", FT_STAT_BAND_ROWS, "compared_pairs", (json_int_t)g->compared_pairs,
                                      "unchecked_pairs", (json_int_t)g->unchecked_pairs));
    return out;
}

static json_t *value_json(const ft_stat_value *v)
{
    json_t *out = json_object();
    if (v->text)
        json_object_set_new(out, "value", ft_json_text(v->text, strlen(v->text)));
    json_object_set_new(out, "documents", json_integer((json_int_t)v->documents));
    json_object_set_new(out, "tokens", json_integer((json_int_t)v->tokens));
    return out;
}

static json_t *values_json(const ft_stat_values *v)
{
    json_t *top = json_array();
    for (size_t i = 0; i < v->shown; i++)
        json_array_append_new(top, value_json(&v->top[i]));
    return json_pack("{s:I,s:b,s:o,s:o,s:o}", "distinct", (json_int_t)v->distinct, "complete", v->complete, "top", top,
                     "other", value_json(&v->other), "none", value_json(&v->none));
}

static json_t *ngrams_json(const stat_report *r, unsigned n)
{
    const ft_stat_ngrams *g = &r->deep->ngrams[n - 1];
    json_t *top = json_array();
    ft_buffer text = {0};
    for (size_t i = 0; i < g->shown; i++) {
        const int known = r->tokenizer && stat_ngram_text(r, g->top[i].ids, n, &text, NULL) == FT_OK;
        json_array_append_new(top, json_pack("{s:o,s:o,s:I}", "ids", ft_json_ids(g->top[i].ids, n), "text",
                                             known ? ft_json_text(text.data ? text.data : "", text.size) : json_null(),
                                             "count", (json_int_t)g->top[i].count));
    }
    ft_buffer_release(&text);
    return json_pack("{s:i,s:I,s:o}", "n", (int)n, "total", (json_int_t)g->total, "top", top);
}

json_t *stat_json(const stat_report *r)
{
    const ft_index_stat *s = r->deep;
    json_t *out = facts_json(&r->info, s != NULL);
    if (!s || !out)
        return out;
    json_t *ngrams = json_array();
    for (unsigned n = 1; n <= s->max_n; n++)
        json_array_append_new(ngrams, ngrams_json(r, n));
    json_t *deep = json_pack("{s:o,s:o,s:o,s:o,s:o,s:I,s:I,s:o}", "lengths", lengths_json(&s->lengths), "identical",
                             groups_json(r, &s->identical, 0), "near_duplicates", groups_json(r, &s->near, 1),
                             "sources", values_json(&s->sources), "licences", values_json(&s->licences),
                             "unreadable_metadata", (json_int_t)s->unreadable_metadata, "distinct_tokens",
                             (json_int_t)s->distinct_tokens, "ngrams", ngrams);
    if (!deep || json_object_update(out, deep)) {
        json_decref(out);
        out = NULL;
    }
    json_decref(deep);
    return out;
}
