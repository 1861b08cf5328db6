#include "tracer/ft_summary.h"

#include "base/ft_file.h"
#include "index/ft_origins.h"
#include "tracer/federation_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DOMAIN_BYTES = 64 << 20, MOST_DOMAINS = 100000, OWNERS_JSON_BYTES = 64 << 20 };

/* The template's sections of sources, in the order of source_kind. */
static const struct {
    const char *name, *number, *title;
} sections[] = {
    [SOURCE_PUBLIC] = {"public_datasets", "2.1", "Publicly available datasets"},
    [SOURCE_LICENSED] = {"licensed_datasets", "2.2.1",
                         "Private datasets commercially licensed by rightsholders or their representatives"},
    [SOURCE_THIRD_PARTY] = {"third_party_datasets", "2.2.2", "Private datasets obtained from other third parties"},
    [SOURCE_CRAWLED] = {"crawled_data", "2.3", "Data crawled and scraped from online sources"},
    [SOURCE_USER] = {"user_data", "2.4", "User data"},
    [SOURCE_SYNTHETIC] = {"synthetic_data", "2.5", "Synthetic data"},
    [SOURCE_OTHER] = {"other_data", "2.6", "Other sources of data"},
    [SOURCE_UNSTATED] = {"unstated", NULL, "Sources of which nobody stated the kind"},
};
enum { SECTIONS = SOURCE_UNSTATED + 1 };

typedef struct maker {
    const ft_federation *f;
    const yaml_summary *said;
    const ft_trace_scope *scope;
    const ft_summary_options *how;
    ft_origins *origins;              /* of what is said to be crawled */
    ft_origins_seen *seen;            /* [owner_count] */
    uint64_t step, crawled_documents; /* of which metadata are read: every step-th */
    uint64_t crawled_read;
    json_t *experts, *not_stated; /* experts: of owners.json; NULL: none */
    char now[24];
    int all_owned; /* every expert has an owner */
    int failed;    /* memory is out */
} maker;

/* --- Fields ------------------------------------------------------------------------------- */

static void set(maker *m, json_t *to, const char *name, json_t *value)
{
    m->failed |= json_object_set_new(to, name, value ? value : json_null());
}

static void set_text(maker *m, json_t *to, const char *name, const char *text)
{
    set(m, to, name, text ? json_string(text) : NULL);
}

static void set_count(maker *m, json_t *to, const char *name, uint64_t count)
{
    set(m, to, name, json_integer((json_int_t)count));
}

static void miss(maker *m, const char *field, const char *place)
{
    json_t *one = json_pack("{s:s,s:s}", "field", field, "place", place);
    m->failed |= !one || json_array_append_new(m->not_stated, one);
}

/* A field that only people know; where it is missing, its place in federation.yaml is `summary.KEY`. */
static void set_said(maker *m, json_t *to, const char *name, json_t *value, const char *field, const char *key)
{
    char place[100];
    snprintf(place, sizeof(place), "summary.%s", key);
    if (!value)
        miss(m, field, place);
    set(m, to, name, value);
}

static json_t *text_or_none(const char *text)
{
    return text ? json_string(text) : NULL;
}

static json_t *bool_or_none(const bool *b)
{
    return b ? json_boolean(*b) : NULL;
}

/* "sha256:…" of a digest that a file has as hexadecimal digits; NULL where it has none. */
static json_t *digest_of(const json_t *object, const char *name)
{
    const char *hex = json_string_value(json_object_get(object, name));
    return hex && strlen(hex) == FT_DIGEST_HEX - 1 ? json_sprintf("sha256:%s", hex) : NULL;
}

static int is_owned(const maker *m, int expert)
{
    for (size_t o = 0; o < m->scope->owner_count; o++)
        if (m->scope->owners[o].expert == expert)
            return 1;
    return 0;
}

/* An expert that no owner has was trained on something, too: while there is one, nothing can be ruled out. */
static int all_are_owned(const maker *m)
{
    const size_t experts = ft_model_get_config(m->f->model)->experts;
    for (size_t e = 0; e < experts; e++)
        if (!is_owned(m, (int)e))
            return 0;
    return 1;
}

/* --- An owner's source ---------------------------------------------------------------------- */

static json_t *index_json(const ft_index *ix)
{
    char hex[FT_DIGEST_HEX];
    const ft_index_info info = ft_index_get_info(ix);
    ft_digest_hex(&info.root, hex);
    return json_pack("{s:s,s:o,s:I,s:I,s:I,s:o}", "kind", info.is_infinigram ? "infini-gram" : "flextrace", "root",
                     info.is_infinigram ? json_null() : json_sprintf("sha256:%s", hex), "documents",
                     (json_int_t)info.documents, "tokens", (json_int_t)info.tokens, "removed_documents",
                     (json_int_t)info.removed_documents, "text_bytes",
                     info.is_infinigram ? json_null() : json_integer((json_int_t)info.text_bytes));
}

/* Tokens of an owner's data: of its indexes, or as it states where it has none. 0: nobody knows. */
static int tokens_of(const maker *m, size_t number, uint64_t *tokens)
{
    const ft_owner *o = &m->scope->owners[number];
    const yaml_source *s = m->f->yaml->owners[number].source;
    *tokens = !o->index_count && s && s->tokens ? (uint64_t)*s->tokens : 0;
    for (size_t i = 0; i < o->index_count; i++)
        *tokens += ft_index_get_info(o->indexes[i]).tokens;
    return o->index_count || (s && s->tokens);
}

/* Indexes, and their sums. */
static void set_indexes(maker *m, json_t *to, size_t number)
{
    const ft_owner *o = &m->scope->owners[number];
    uint64_t documents = 0, tokens, bytes = 0;
    const int known = tokens_of(m, number, &tokens);
    int all = o->index_count > 0;
    json_t *list = json_array();
    for (size_t i = 0; i < o->index_count; i++) {
        const ft_index_info info = ft_index_get_info(o->indexes[i]);
        documents += info.documents;
        bytes += info.text_bytes;
        all &= !info.is_infinigram;
        m->failed |= json_array_append_new(list, index_json(o->indexes[i]));
    }
    set(m, to, "documents", o->index_count ? json_integer((json_int_t)documents) : NULL);
    set(m, to, "tokens", known ? json_integer((json_int_t)tokens) : NULL);
    set_text(m, to, "tokens_basis", o->index_count ? "index" : known ? "stated" : NULL);
    set(m, to, "text_bytes", all ? json_integer((json_int_t)bytes) : NULL);
    set(m, to, "indexes", list);
    if (known)
        return;
    char field[300], place[300];
    snprintf(field, sizeof(field), "sources.%s[%s].tokens", sections[source_kind_of(&m->f->yaml->owners[number])].name,
             o->name);
    snprintf(place, sizeof(place), "owners[%s].source.tokens", o->name);
    miss(m, field, place);
}

/* What the checkpoint's owners.json has of an expert. */
static json_t *expert_json(const maker *m, int expert)
{
    const char *state = m->how->opted_out >> expert & 1 ? "opted_out" : "active";
    const json_t *one, *found = NULL;
    size_t i;
    json_array_foreach(m->experts, i, one)
    {
        if (json_is_integer(json_object_get(one, "expert")) &&
            json_integer_value(json_object_get(one, "expert")) == expert)
            found = one;
    }
    const json_t *manifest = json_object_get(found, "manifest");
    const json_t *documents = json_object_get(manifest, "documents"), *tokens = json_object_get(manifest, "tokens");
    if (!manifest) { /* checkpoints of before there were manifests */
        documents = json_object_get(found, "corpus_documents");
        tokens = json_object_get(found, "train_tokens_seen");
    }
    return json_pack("{s:i,s:s,s:o?,s:o?,s:o?,s:O?,s:O?}", "id", expert, "state", state, "digest",
                     digest_of(found, "digest"), "manifest", digest_of(manifest, "digest"), "data",
                     digest_of(manifest, "data"), "trained_documents", documents, "trained_tokens", tokens);
}

static json_t *dates_json(const ft_origin_dates *d)
{
    return d->documents
               ? json_pack("{s:s,s:s,s:I}", "first", d->first, "last", d->last, "documents", (json_int_t)d->documents)
               : json_null();
}

/* What metadata tell need not be stated, too. */
static void set_source_said(maker *m, json_t *to, const yaml_owner *o, source_kind kind, int dated)
{
    static const yaml_source none;
    const yaml_source *s = o->source ? o->source : &none;
    const char *description = s->description ? s->description : o->description;
    const struct {
        const char *name;
        json_t *value;
        int asked; /* of this kind */
    } fields[] = {
        {"kind", text_or_none(s->kind), 1},
        {"description", text_or_none(description && *description ? description : NULL), 1},
        {"licence", text_or_none(s->licence), kind != SOURCE_USER && kind != SOURCE_SYNTHETIC},
        {"link", text_or_none(s->link), kind == SOURCE_PUBLIC},
        {"collected_from", text_or_none(s->collected_from), !dated},
        {"collected_to", text_or_none(s->collected_to), !dated},
        {"ongoing", bool_or_none(s->ongoing), 1},
        {"crawler", text_or_none(s->crawler), kind == SOURCE_CRAWLED},
        {"crawler_behaviour", text_or_none(s->crawler_behaviour), kind == SOURCE_CRAWLED},
        {"generator", text_or_none(s->generator), kind == SOURCE_SYNTHETIC},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        char field[300], place[300];
        snprintf(field, sizeof(field), "sources.%s[%s].%s", sections[kind].name, o->name, fields[i].name);
        snprintf(place, sizeof(place), "owners[%s].source.%s", o->name, fields[i].name);
        if (!fields[i].value && fields[i].asked)
            miss(m, field, place);
        set(m, to, fields[i].name, fields[i].value);
    }
}

static json_t *source_json(maker *m, size_t number)
{
    const ft_owner *o = &m->scope->owners[number];
    const yaml_owner *y = &m->f->yaml->owners[number];
    const ft_origins_seen *seen = &m->seen[number];
    json_t *to = json_pack("{s:s}", "owner", o->name);
    set_source_said(m, to, y, source_kind_of(y), seen->collected.documents > 0);
    set(m, to, "expert", o->expert >= 0 ? expert_json(m, o->expert) : NULL);
    set_indexes(m, to, number);
    set(m, to, "metadata",
        json_pack("{s:I,s:I,s:o,s:o}", "documents_read", (json_int_t)seen->read, "unreadable",
                  (json_int_t)seen->unreadable, "collected", dates_json(&seen->collected), "dated",
                  dates_json(&seen->dated)));
    return to;
}

/* --- Metadata of documents ------------------------------------------------------------------- */

static ft_code read_metadata(maker *m, ft_status *st)
{
    const ft_trace_scope *s = m->scope;
    const uint64_t most = m->how->most_documents;
    uint64_t documents = 0;
    char today[11];
    snprintf(today, sizeof(today), "%.10s", m->now);
    for (size_t o = 0; o < s->owner_count; o++)
        for (size_t i = 0; i < s->owners[o].index_count; i++)
            documents += ft_index_get_info(s->owners[o].indexes[i]).documents;
    m->step = most && documents > most ? (documents + most - 1) / most : 1;
    const ft_origins_options how = {.step = m->step, .today = today, .progress = m->how->progress};
    ft_code rc = ft_origins_new(&m->origins, DOMAIN_BYTES, st);
    for (size_t o = 0; o < s->owner_count && !rc; o++) {
        const int crawled = source_kind_of(&m->f->yaml->owners[o]) == SOURCE_CRAWLED;
        for (size_t i = 0; i < s->owners[o].index_count && !rc; i++) {
            const ft_index *ix = s->owners[o].indexes[i];
            m->crawled_documents += crawled ? ft_index_get_info(ix).documents : 0;
            rc = ft_origins_read(crawled ? m->origins : NULL, ix, &how, &m->seen[o], st);
        }
        m->crawled_read += crawled ? m->seen[o].read : 0;
    }
    return rc;
}

/* The most relevant names: the top tenth by size; of a small or medium-sized provider the top twentieth, 1,000 at most.
 */
static size_t relevant_domains(size_t distinct, int sme)
{
    const size_t part = sme ? (distinct + 19) / 20 : (distinct + 9) / 10;
    return sme && part > 1000 ? 1000 : part;
}

static void set_domains(maker *m, json_t *section)
{
    const ft_origins_domains d = ft_origins_list(m->origins);
    const int sme = m->said->sme && *m->said->sme;
    const size_t relevant = relevant_domains(d.count, sme), shown = relevant < MOST_DOMAINS ? relevant : MOST_DOMAINS;
    uint64_t tokens = d.rest.tokens + d.none.tokens;
    json_t *list = json_array();
    for (size_t i = 0; i < d.count; i++)
        tokens += d.list[i].tokens;
    for (size_t i = 0; i < shown && !m->failed; i++)
        m->failed |= json_array_append_new(list, json_pack("{s:s,s:I,s:I,s:f}", "domain", d.list[i].text, "documents",
                                                           (json_int_t)d.list[i].documents, "tokens",
                                                           (json_int_t)d.list[i].tokens, "share",
                                                           tokens ? (double)d.list[i].tokens / (double)tokens : 0));
    set(m, section, "domains",
        json_pack("{s:s,s:I,s:I,s:I,s:I,s:b,s:I,s:o,s:{s:I,s:I}}", "rule",
                  sme ? "the top 5 % by size, at most 1,000" : "the top 10 % by size", "documents",
                  (json_int_t)m->crawled_documents, "documents_read", (json_int_t)m->crawled_read, "step",
                  (json_int_t)m->step, "distinct", (json_int_t)d.count, "all_distinct",
                  d.rest.documents == 0 && m->step == 1, "relevant", (json_int_t)relevant, "list", list,
                  "without_domain", "documents", (json_int_t)d.none.documents, "tokens", (json_int_t)d.none.tokens));
}

/* --- Sections -------------------------------------------------------------------------------- */

/* Each public dataset's part of all public ones; above 3 % the template calls it large. */
static void set_shares(maker *m, json_t *section)
{
    const json_t *list = json_object_get(section, "sources");
    const double all = (double)json_integer_value(json_object_get(section, "tokens"));
    json_t *one;
    size_t i;
    json_array_foreach(list, i, one)
    {
        const json_t *tokens = json_object_get(one, "tokens");
        const double share = all > 0 ? (double)json_integer_value(tokens) / all : 0;
        set(m, one, "share", json_is_integer(tokens) ? json_real(share) : NULL);
        set(m, one, "large", json_is_integer(tokens) ? json_boolean(share > 0.03) : NULL);
    }
}

static json_t *section_json(maker *m, source_kind kind, int all_stated)
{
    json_t *list = json_array();
    uint64_t documents = 0, tokens = 0;
    for (size_t o = 0; o < m->scope->owner_count && !m->failed; o++)
        if (source_kind_of(&m->f->yaml->owners[o]) == kind) {
            json_t *one = source_json(m, o);
            documents += (uint64_t)json_integer_value(json_object_get(one, "documents"));
            tokens += (uint64_t)json_integer_value(json_object_get(one, "tokens"));
            m->failed |= json_array_append_new(list, one);
        }
    const size_t n = json_array_size(list);
    json_t *section = json_pack("{s:s?,s:s}", "section", sections[kind].number, "title", sections[kind].title);
    if (kind != SOURCE_UNSTATED) {
        set(m, section, "used", n ? json_true() : all_stated ? json_false() : NULL);
        set(m, section, "modalities", n ? json_pack("[s]", "text") : json_array());
    }
    set_count(m, section, "documents", documents);
    set_count(m, section, "tokens", tokens);
    set(m, section, "sources", list);
    if (kind == SOURCE_PUBLIC)
        set_shares(m, section);
    if (kind == SOURCE_CRAWLED && n)
        set_domains(m, section);
    return section;
}

static void set_experts_without_owner(maker *m, json_t *to)
{
    const size_t experts = ft_model_get_config(m->f->model)->experts;
    json_t *list = json_array();
    for (size_t e = 0; e < experts; e++) {
        char place[60];
        if (is_owned(m, (int)e))
            continue;
        snprintf(place, sizeof(place), "owners[expert: %zu]", e);
        miss(m, "sources", place);
        m->failed |= json_array_append_new(list, expert_json(m, (int)e));
    }
    set(m, to, "experts_without_owner", list);
}

static json_t *sources_json(maker *m)
{
    json_t *to = json_object();
    int all_stated = m->all_owned;
    for (unsigned o = 0; o < m->f->yaml->owners_count; o++)
        all_stated &= source_kind_of(&m->f->yaml->owners[o]) != SOURCE_UNSTATED;
    for (unsigned k = 0; k < SECTIONS; k++)
        set(m, to, sections[k].name, section_json(m, (source_kind)k, all_stated));
    set_experts_without_owner(m, to);
    return to;
}

/* --- General information ----------------------------------------------------------------------- */

static const char *size_range(uint64_t tokens)
{
    return tokens < UINT64_C(1000000000)        ? "Less than 1 billion tokens"
           : tokens <= UINT64_C(10000000000000) ? "1 billion to 10 trillion tokens"
                                                : "More than 10 trillion tokens";
}

/* `complete`: the sizes of all owners' data are known; otherwise the sum is of those that are, and the range is where
 * that lies. */
static json_t *modality_json(maker *m)
{
    const ft_trace_scope *s = m->scope;
    uint64_t documents = 0, tokens = 0, more;
    int complete = m->all_owned, any = 0;
    for (size_t o = 0; o < s->owner_count; o++) {
        const int known = tokens_of(m, o, &more);
        complete &= known;
        any |= known;
        tokens += more;
        for (size_t i = 0; i < s->owners[o].index_count; i++)
            documents += ft_index_get_info(s->owners[o].indexes[i]).documents;
    }
    json_t *to = json_pack("{s:s,s:s?,s:I,s:I,s:b}", "modality", "text", "size_range", any ? size_range(tokens) : NULL,
                           "documents", (json_int_t)documents, "tokens", (json_int_t)tokens, "complete", complete);
    set_said(m, to, "content_types", text_or_none(m->said->content_types), "general.modalities[text].content_types",
             "content_types");
    return json_pack("[o]", to);
}

/* The latest of what owners state and of what metadata tell; whose is not known is named. */
static json_t *latest_json(maker *m)
{
    const char *latest = NULL, *basis = NULL;
    json_t *unknown = json_array();
    for (unsigned i = 0; i < m->f->yaml->owners_count; i++) {
        const yaml_owner *o = &m->f->yaml->owners[i];
        const char *stated = o->source ? o->source->collected_to : NULL;
        const char *told = m->seen[i].collected.documents ? m->seen[i].collected.last : NULL;
        if (stated && (!latest || strcmp(stated, latest) > 0)) {
            latest = stated;
            basis = "stated";
        }
        if (told && (!latest || strcmp(told, latest) > 0)) {
            latest = told;
            basis = "metadata";
        }
        if (!stated && !told)
            m->failed |= json_array_append_new(unknown, json_string(o->name));
    }
    return json_pack("{s:s?,s:s?,s:o}", "date", latest, "basis", basis, "owners_unknown", unknown);
}

/* Whether collection goes on: yes where one owner says so, no where all say so. */
static json_t *ongoing_json(const maker *m)
{
    int all = m->f->yaml->owners_count > 0 && m->all_owned;
    for (unsigned i = 0; i < m->f->yaml->owners_count; i++) {
        const yaml_source *s = m->f->yaml->owners[i].source;
        if (s && s->ongoing && *s->ongoing)
            return json_true();
        all &= s && s->ongoing;
    }
    return all ? json_false() : NULL;
}

static json_t *model_json(maker *m)
{
    const yaml_summary *s = m->said;
    const ft_model_config *c = ft_model_get_config(m->f->model);
    const ft_model_sizes sizes = ft_model_get_sizes(m->f->model);
    json_t *to = json_object();
    set_said(m, to, "name", text_or_none(s->model ? s->model : m->f->yaml->name), "general.model.name", "model");
    set_said(m, to, "version", text_or_none(s->version), "general.model.version", "version");
    set_said(m, to, "dependencies", text_or_none(s->dependencies), "general.model.dependencies", "dependencies");
    set_said(m, to, "placed_on_market", text_or_none(s->placed_on_market), "general.model.placed_on_market",
             "placed_on_market");
    set_text(m, to, "architecture", c->architecture);
    set_count(m, to, "parameters", sizes.parameters);
    set_count(m, to, "experts", c->experts);
    return to;
}

static json_t *general_json(maker *m)
{
    const yaml_summary *s = m->said;
    json_t *to = json_object(), *provider = json_object();
    set_said(m, provider, "name", text_or_none(s->provider), "general.provider.name", "provider");
    set_said(m, provider, "contact", text_or_none(s->contact), "general.provider.contact", "contact");
    set_said(m, provider, "representative", text_or_none(s->representative), "general.provider.representative",
             "representative");
    set_said(m, provider, "sme", bool_or_none(s->sme), "general.provider.sme", "sme");
    set(m, to, "provider", provider);
    set(m, to, "model", model_json(m));
    set(m, to, "modalities", modality_json(m));
    set_said(m, to, "languages", text_or_none(s->languages), "general.languages", "languages");
    set(m, to, "latest_acquisition", latest_json(m));
    set(m, to, "ongoing", ongoing_json(m));
    return to;
}

static json_t *processing_json(maker *m)
{
    const yaml_summary *s = m->said;
    json_t *to = json_object(), *reservations = json_object();
    set_said(m, reservations, "code_of_practice", bool_or_none(s->code_of_practice),
             "processing.reservations.code_of_practice", "code_of_practice");
    set_said(m, reservations, "measures", text_or_none(s->reservations), "processing.reservations.measures",
             "reservations");
    set(m, to, "reservations", reservations);
    set_said(m, to, "illegal_content", text_or_none(s->illegal_content), "processing.illegal_content",
             "illegal_content");
    set_text(m, to, "other", s->notes); /* may be left out of the template */
    return to;
}

/* --- All ---------------------------------------------------------------------------------------- */

static ft_code read_owners(maker *m, ft_status *st)
{
    json_t *all = NULL;
    char *path = ft_path_join(ft_model_folder(m->f->model), "owners.json");
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    const ft_code rc = ft_path_exists(path) ? ft_json_read_file(&all, path, OWNERS_JSON_BYTES, st) : FT_OK;
    json_t *list = json_object_get(all, "experts");
    m->experts = json_is_array(list) ? json_incref(list) : NULL;
    json_decref(all);
    free(path);
    return rc;
}

static json_t *summary_json(maker *m)
{
    json_t *to = json_pack("{s:s,s:s,s:s,s:s,s:s}", "object", "training_summary", "basis",
                           "Regulation (EU) 2024/1689, Article 53(1)(d)", "template", "European Commission, July 2025",
                           "generated_at", m->now, "version", FT_VERSION);
    set(m, to, "general", general_json(m));
    set(m, to, "sources", sources_json(m));
    set(m, to, "processing", processing_json(m));
    set(m, to, "not_stated", json_incref(m->not_stated));
    return to;
}

ft_code ft_summary_make(const ft_federation *f, const ft_trace_scope *scope, const ft_summary_options *options,
                        json_t **out, ft_status *st)
{
    static const yaml_summary none;
    maker m = {.f = f, .said = f->yaml->summary ? f->yaml->summary : &none, .scope = scope, .how = options};
    const time_t now = time(NULL);
    struct tm utc;
    *out = NULL;
    (void)strftime(m.now, sizeof(m.now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    m.seen = ft_alloc_array(scope->owner_count, sizeof(*m.seen));
    m.not_stated = json_array();
    m.all_owned = all_are_owned(&m);
    ft_code rc = m.seen && m.not_stated ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = read_owners(&m, st);
    if (!rc)
        rc = read_metadata(&m, st);
    json_t *summary = rc ? NULL : summary_json(&m);
    if (!rc && (m.failed || !summary))
        rc = ft_fail(st, FT_ERR_MEM, "no memory for the summary of training content");
    if (rc)
        json_decref(summary);
    else
        *out = summary;
    json_decref(m.not_stated);
    json_decref(m.experts);
    ft_origins_free(m.origins);
    free(m.seen);
    return rc;
}
