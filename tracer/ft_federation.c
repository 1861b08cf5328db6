#include "tracer/ft_federation.h"

#include "base/ft_file.h"
#include "tracer/federation_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_VALIDATION_TOKENS = 4096 };

void ft_federation_close(ft_federation *f)
{
    if (!f)
        return;
    ft_snapshot_release(f->current);
    for (size_t i = 0; i < f->slot_count; i++)
        free(f->slots[i].folder);
    free(f->slots);
    ft_token_set_release(&f->delimiters);
    ft_token_set_release(&f->word_starts);
    ft_lexicon_free(f->lexicon);
    ft_tokenizer_close(f->tokenizer);
    ft_model_close(f->model);
    yaml_federation_free(f->yaml);
    pthread_mutex_destroy(&f->opening);
    pthread_mutex_destroy(&f->lock);
    free(f->store);
    free(f->validation);
    free(f->folder);
    free(f->path);
    free(f);
}

/* --- Opening ------------------------------------------------------------------- */

static ft_code no_room(const ft_federation *f, ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "%s: out of memory", f->path ? f->path : "federation.yaml");
}

static char *copy_text(const char *text, size_t n)
{
    char *copy = malloc(n + 1);
    if (copy) {
        memcpy(copy, text, n);
        copy[n] = '\0';
    }
    return copy;
}

/* The file's path, and the folder that its relative paths start from. */
static ft_code find_file(ft_federation *f, const char *path, ft_status *st)
{
    f->path = ft_path_is_folder(path) ? ft_path_join(path, "federation.yaml") : copy_text(path, strlen(path));
    if (!f->path)
        return no_room(f, st);
    const char *slash = strrchr(f->path, '/');
    f->folder = !slash ? copy_text(".", 1) : copy_text(f->path, slash == f->path ? 1 : (size_t)(slash - f->path));
    return f->folder ? FT_OK : no_room(f, st);
}

static ft_code take_limit(const ft_federation *f, const char *section, const char *name, const int64_t *from,
                          int64_t most, uint64_t *to, ft_status *st)
{
    char text[30];
    if (from && (*from < 1 || *from > most)) {
        snprintf(text, sizeof(text), "%" PRId64, *from);
        return ft_fail(st, FT_ERR_FORMAT, "%s:%zu: %s%s%s must be from 1 to %" PRId64 ", not %s", f->path,
                       yaml_federation_line(f->path, name, text, 1), section ? section : "", section ? ": " : "", name,
                       most, text);
    }
    if (from)
        *to = (uint64_t)*from;
    return FT_OK;
}

static ft_code take_limits(ft_federation *f, ft_status *st)
{
    static const yaml_limits none;
    const yaml_limits *y = f->yaml->limits ? f->yaml->limits : &none;
    uint64_t bytes = 1 << 20, seconds = 90, running = 32, waiting = 64, connections = 256, kv = 0;
    ft_code rc = take_limit(f, "limits", "request_bytes", y->request_bytes, INT64_C(1) << 30, &bytes, st);
    if (!rc)
        rc = take_limit(f, "limits", "request_seconds", y->request_seconds, 86400, &seconds, st);
    if (!rc)
        rc = take_limit(f, "limits", "max_running", y->max_running, 1024, &running, st);
    if (!rc)
        rc = take_limit(f, "limits", "max_waiting", y->max_waiting, 65536, &waiting, st);
    if (!rc)
        rc = take_limit(f, "limits", "connections", y->connections, 65536, &connections, st);
    if (!rc)
        rc = take_limit(f, "limits", "kv_bytes", y->kv_bytes, INT64_C(1) << 46, &kv, st);
    f->engine.kv_bytes = (size_t)kv;
    f->limits =
        (ft_federation_limits){bytes, (unsigned)seconds, (unsigned)running, (unsigned)waiting, (unsigned)connections};
    return rc;
}

static ft_code take_number(const ft_federation *f, const char *name, const double *from, double *to, ft_status *st)
{
    enum { MOST = 1000000 };
    if (from && !(*from >= 0 && *from <= MOST))
        return ft_fail(st, FT_ERR_FORMAT, "%s: evidence: %s must be from 0 to %d, not %g", f->path, name, MOST, *from);
    if (from)
        *to = *from;
    return FT_OK;
}

static ft_code take_evidence(ft_federation *f, ft_status *st)
{
    static const yaml_evidence none;
    const yaml_evidence *y = f->yaml->evidence ? f->yaml->evidence : &none;
    ft_thresholds *t = &f->thresholds;
    double tokens;
    *t = ft_thresholds_default();
    tokens = (double)t->verbatim_tokens;
    ft_code rc = take_number(f, "verbatim_tokens", y->verbatim_tokens, &tokens, st);
    if (!rc)
        rc = take_number(f, "verbatim_nats", y->verbatim_nats, &t->verbatim_nats, st);
    if (!rc)
        rc = take_number(f, "routing_excess", y->routing_excess, &t->routing_excess, st);
    if (!rc)
        rc = take_number(f, "routing_ratio", y->routing_ratio, &t->routing_ratio, st);
    if (!rc)
        rc = take_number(f, "causal_nats", y->causal_nats, &t->causal_nats, st);
    if (!rc)
        rc = take_number(f, "causal_nats_per_token", y->causal_nats_per_token, &t->causal_nats_per_token, st);
    t->verbatim_tokens = (uint64_t)tokens;
    uint64_t most = DEFAULT_VALIDATION_TOKENS;
    if (!rc)
        rc = take_limit(f, NULL, "validation_tokens", f->yaml->validation_tokens, INT64_C(1) << 40, &most, st);
    f->validation_tokens = (size_t)most;
    if (!rc && f->yaml->validation) {
        f->validation = ft_path_join(f->folder, f->yaml->validation);
        rc = f->validation ? FT_OK : no_room(f, st);
    }
    if (!rc && f->validation && !ft_path_exists(f->validation))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s:%zu: validation: %s does not exist", f->path,
                     yaml_federation_line(f->path, "validation", f->yaml->validation, 1), f->validation);
    return rc;
}

/* A name that is none of `key`'s, with its line. */
static ft_code refuse_name(const ft_federation *f, const char *key, const char *name, const ft_status *why,
                           ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "%s:%zu: %s", f->path, yaml_federation_line(f->path, key, name, 1), why->msg);
}

static ft_code take_precision(ft_federation *f, ft_status *st)
{
    const char *compute = f->yaml->compute, *kv_type = f->yaml->kv_type;
    ft_status why = {0};
    if (ft_engine_options_override(&f->engine, compute, NULL, 0, &why))
        return refuse_name(f, "compute", compute, &why, st);
    if (ft_engine_options_override(&f->engine, NULL, kv_type, 0, &why))
        return refuse_name(f, "kv_type", kv_type, &why, st);
    return FT_OK;
}

static ft_code take_traces(ft_federation *f, ft_status *st)
{
    static const yaml_traces none;
    static const uint64_t day_ms = 86400 * UINT64_C(1000);
    enum { MOST_DAYS = 36500 };
    const yaml_traces *y = f->yaml->traces ? f->yaml->traces : &none;
    uint64_t least = 0, most = 0, bytes = 0;
    ft_status why = {0};
    if (y->routing && ft_routing_form_read(y->routing, &f->store_options.routing, &why))
        return refuse_name(f, "routing", y->routing, &why, st);
    ft_code rc = take_limit(f, "traces", "min_days", y->min_days, MOST_DAYS, &least, st);
    if (!rc)
        rc = take_limit(f, "traces", "max_days", y->max_days, MOST_DAYS, &most, st);
    if (!rc)
        rc = take_limit(f, "traces", "max_bytes", y->max_bytes, INT64_C(1) << 46, &bytes, st);
    if (!rc && most && least > most) {
        char text[30];
        snprintf(text, sizeof(text), "%" PRIu64, least);
        return ft_fail(st, FT_ERR_FORMAT, "%s:%zu: traces: min_days must not be above max_days", f->path,
                       yaml_federation_line(f->path, "min_days", text, 1));
    }
    f->retention = (ft_retention){.max_age_ms = most * day_ms, .min_age_ms = least * day_ms, .max_bytes = bytes};
    return rc;
}

/* The line of an owner's name; of the second owner with that name where nth is 2. */
static size_t owner_line(const ft_federation *f, const char *name, unsigned nth)
{
    return yaml_federation_line(f->path, "name", name, nth + (f->yaml->name && !strcmp(f->yaml->name, name)));
}

static ft_code open_model(ft_federation *f, ft_status *st)
{
    char *folder = ft_path_join(f->folder, f->yaml->model);
    if (!folder)
        return no_room(f, st);
    ft_code rc = ft_model_open(&f->model, folder, st);
    if (!rc)
        rc = ft_tokenizer_open(&f->tokenizer, folder, st);
    free(folder);
    if (rc) {
        ft_status_prefix(st, "%s:%zu: model", f->path, yaml_federation_line(f->path, "model", f->yaml->model, 1));
        return rc;
    }
    const size_t vocab = ft_model_get_config(f->model)->vocab;
    if (ft_tokenizer_vocab_size(f->tokenizer) > vocab)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s:%zu: model: %s has %" PRIu32
                       " tokens, the model's embedding %zu; the tokenizer is another model's",
                       f->path, yaml_federation_line(f->path, "model", f->yaml->model, 1),
                       ft_tokenizer_path(f->tokenizer), ft_tokenizer_vocab_size(f->tokenizer), vocab);
    return FT_OK;
}

/* An owner's index that is listed twice would count everything twice. */
static ft_code check_listed_once(const ft_federation *f, const yaml_owner *o, unsigned number, ft_status *st)
{
    char *folder = ft_path_join(f->folder, o->index[number]);
    char *real = folder ? realpath(folder, NULL) : NULL;
    ft_code rc = folder ? FT_OK : no_room(f, st);
    for (unsigned i = 0; !rc && real && i < number; i++) {
        char *other = ft_path_join(f->folder, o->index[i]), *other_real = other ? realpath(other, NULL) : NULL;
        if (other_real && !strcmp(real, other_real))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s:%zu: owner %s: index %s is listed twice", f->path,
                         owner_line(f, o->name, 1), o->name, o->index[number]);
        free(other);
        free(other_real);
    }
    free(folder);
    free(real);
    return rc;
}

/* Owners and the federation are names of indexes: the first segment of a path, where these stand for something else
 * (tests/test_http_openapi.c holds them against the routes that there are). */
static ft_code check_name(const ft_federation *f, const char *name, size_t line, ft_status *st)
{
    static const char *const taken[] = {"v1",      "indexes", "health",   "livez",      "readyz",
                                        "metrics", "version", "tokenize", "detokenize", "tokenizer_info",
                                        "openapi.json"};
    size_t i = 0;
    while (i < sizeof(taken) / sizeof(*taken) && strcmp(taken[i], name) != 0)
        i++;
    if (i < sizeof(taken) / sizeof(*taken))
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s:%zu: name '%s': the HTTP service has a route of that name; choose another", f->path, line,
                       name);
    return FT_OK;
}

static ft_code check_owner(const ft_federation *f, unsigned number, ft_status *st)
{
    const yaml_owner *o = &f->yaml->owners[number];
    const size_t experts = ft_model_get_config(f->model)->experts;
    const char *digits = o->name + strspn(o->name, "0123456789");
    if (!*digits || strchr(o->name, ','))
        return ft_fail(
            st, FT_ERR_FORMAT,
            "%s:%zu: owner '%s': a name is no number and holds no comma, or it could not stand in a list of owners",
            f->path, owner_line(f, o->name, 1), o->name);
    const ft_code rc = check_name(f, o->name, owner_line(f, o->name, 1), st);
    if (rc)
        return rc;
    if (o->expert && (*o->expert < 0 || (uint64_t)*o->expert >= experts))
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s:%zu: owner %s: expert %" PRId64 " does not exist; the model has experts 0 to %zu", f->path,
                       owner_line(f, o->name, 1), o->name, *o->expert, experts ? experts - 1 : 0);
    for (unsigned i = 0; i < number; i++) {
        const yaml_owner *p = &f->yaml->owners[i];
        if (!strcmp(p->name, o->name))
            return ft_fail(st, FT_ERR_FORMAT, "%s:%zu: two owners are called %s; names must differ", f->path,
                           owner_line(f, o->name, 2), o->name);
        if (p->expert && o->expert && *p->expert == *o->expert)
            return ft_fail(st, FT_ERR_FORMAT, "%s:%zu: owners %s and %s both have expert %" PRId64, f->path,
                           owner_line(f, o->name, 1), p->name, o->name, *o->expert);
    }
    return FT_OK;
}

static ft_code open_index(ft_federation *f, held_index **held, const yaml_owner *owner, unsigned number, ft_status *st)
{
    index_slot *slot = &f->slots[f->slot_count];
    slot->owner = owner;
    slot->name = owner->index[number];
    slot->folder = ft_path_join(f->folder, owner->index[number]);
    if (!slot->folder)
        return no_room(f, st);
    f->slot_count++;
    const ft_code rc = held_index_open(&held[f->slot_count - 1], f, slot, st);
    if (rc)
        ft_status_prefix(st, "%s:%zu: owner %s", f->path, owner_line(f, owner->name, 1), owner->name);
    return rc;
}

static ft_code open_owners(ft_federation *f, ft_status *st)
{
    const yaml_federation *y = f->yaml;
    size_t indexes = 0;
    for (unsigned i = 0; i < y->owners_count; i++)
        indexes += y->owners[i].index_count;
    f->slots = ft_alloc_array(indexes, sizeof(*f->slots));
    held_index **held = ft_alloc_array(indexes, sizeof(*held));
    ft_code rc = f->slots && held ? FT_OK : no_room(f, st);
    if (!rc && y->name)
        rc = check_name(f, y->name, yaml_federation_line(f->path, "name", y->name, 1), st);
    for (unsigned i = 0; !rc && i < y->owners_count; i++) {
        const yaml_owner *o = &y->owners[i];
        rc = check_owner(f, i, st);
        for (unsigned k = 0; !rc && k < o->index_count; k++) {
            rc = check_listed_once(f, o, k, st);
            if (!rc)
                rc = open_index(f, held, o, k, st);
        }
    }
    if (!rc)
        return snapshot_new(&f->current, f, held, st);
    for (size_t i = 0; held && i < indexes; i++)
        held_index_release(held[i]);
    free(held);
    return rc;
}

static ft_code take_opt_outs(ft_federation *f, ft_status *st)
{
    const yaml_federation *y = f->yaml;
    const size_t experts = ft_model_get_config(f->model)->experts;
    for (unsigned i = 0; i < y->owners_count; i++) {
        const yaml_owner *o = &y->owners[i];
        if (o->opted_out && !o->expert)
            return ft_fail(st, FT_ERR_FORMAT, "%s:%zu: owner %s is opted_out but has no expert", f->path,
                           owner_line(f, o->name, 1), o->name);
        if (o->opted_out)
            f->opted_out |= UINT64_C(1) << *o->expert;
    }
    if (experts && (size_t)__builtin_popcountll(f->opted_out) == experts)
        return ft_fail(st, FT_ERR_FORMAT, "%s:1: all %zu experts are opted_out; at least one must take part", f->path,
                       experts);
    return FT_OK;
}

static ft_code make_sets(ft_federation *f, ft_status *st)
{
    static const char *const sentence_ends[] = {"\n", "."};
    ft_code rc = ft_token_set_containing(&f->delimiters, f->tokenizer, sentence_ends, 2, st);
    if (!rc)
        rc = ft_token_set_word_starts(&f->word_starts, f->tokenizer, st);
    if (!rc)
        rc = ft_lexicon_new(&f->lexicon, f->tokenizer, st);
    return rc;
}

ft_code ft_federation_open(ft_federation **out, const char *path, ft_status *st)
{
    *out = NULL;
    ft_federation *f = calloc(1, sizeof(*f));
    if (!f)
        return ft_fail(st, FT_ERR_MEM, "%s: no room for the federation", path);
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_init(&f->opening, NULL);
    ft_code rc = find_file(f, path, st);
    if (!rc)
        rc = yaml_federation_read(&f->yaml, f->path, st);
    if (!rc)
        rc = take_limits(f, st);
    if (!rc)
        rc = take_precision(f, st);
    if (!rc)
        rc = take_evidence(f, st);
    if (!rc)
        rc = take_traces(f, st);
    if (!rc)
        rc = federation_check_summary(f, st);
    if (!rc && f->yaml->store) {
        f->store = ft_path_join(f->folder, f->yaml->store);
        rc = f->store ? FT_OK : no_room(f, st);
    }
    if (!rc)
        rc = open_model(f, st);
    if (!rc)
        rc = make_sets(f, st);
    if (!rc)
        rc = open_owners(f, st);
    if (!rc)
        rc = take_opt_outs(f, st);
    if (rc)
        ft_federation_close(f);
    else
        *out = f;
    return rc;
}

/* --- What it says ----------------------------------------------------------------- */

const char *ft_federation_name(const ft_federation *f)
{
    return f->yaml->name ? f->yaml->name : "flextrace";
}

const char *ft_federation_listen(const ft_federation *f)
{
    return f->yaml->listen ? f->yaml->listen : "127.0.0.1:8080";
}

ft_engine_options ft_federation_engine(const ft_federation *f)
{
    return f->engine;
}

uint64_t ft_federation_opted_out(const ft_federation *f)
{
    return f->opted_out;
}

const char *ft_federation_chat_template(const ft_federation *f)
{
    return f->yaml->chat_template;
}

const char *ft_federation_store(const ft_federation *f)
{
    return f->store;
}

ft_store_options ft_federation_store_options(const ft_federation *f)
{
    return f->store_options;
}

ft_retention ft_federation_retention(const ft_federation *f)
{
    return f->retention;
}

const char *ft_federation_index_folder(const ft_federation *f, const char *owner, size_t number)
{
    for (size_t i = 0; i < f->slot_count; i++)
        if (!strcmp(f->slots[i].owner->name, owner) && number-- == 0)
            return f->slots[i].folder;
    return NULL;
}

ft_federation_limits ft_federation_get_limits(const ft_federation *f)
{
    return f->limits;
}

const ft_model *ft_federation_model(const ft_federation *f)
{
    return f->model;
}

const ft_tokenizer *ft_federation_tokenizer(const ft_federation *f)
{
    return f->tokenizer;
}

/* One element of a list: an owner's name or an expert's number. */
static ft_code find_expert(const ft_federation *f, const char *text, size_t n, uint64_t *bits, ft_status *st)
{
    const size_t experts = ft_model_get_config(f->model)->experts;
    for (unsigned i = 0; i < f->yaml->owners_count; i++) {
        const yaml_owner *o = &f->yaml->owners[i];
        if (strlen(o->name) != n || memcmp(o->name, text, n) != 0)
            continue;
        if (!o->expert)
            return ft_fail(st, FT_ERR_ARG, "owner '%.*s' has no expert to leave out", (int)n, text);
        *bits |= UINT64_C(1) << *o->expert;
        return FT_OK;
    }
    uint64_t number = 0;
    size_t digits = 0;
    while (digits < n && digits < 4 && isdigit((unsigned char)text[digits]))
        number = 10 * number + (uint64_t)(text[digits++] - '0');
    if (!n || digits != n || number >= experts)
        return ft_fail(st, FT_ERR_ARG, "'%.*s' is neither an owner nor an expert from 0 to %zu", (int)(n < 80 ? n : 80),
                       text, experts ? experts - 1 : 0);
    *bits |= UINT64_C(1) << number;
    return FT_OK;
}

ft_code ft_federation_experts(const ft_federation *f, const char *list, uint64_t *bits, ft_status *st)
{
    uint64_t found = 0;
    ft_code rc = FT_OK;
    for (const char *at = list; !rc && *list;) {
        size_t n = strcspn(at, ",");
        const int last = at[n] == '\0';
        const char *from = at;
        at += n + 1;
        while (n && *from == ' ')
            from++, n--;
        while (n && from[n - 1] == ' ')
            n--;
        rc = find_expert(f, from, n, &found, st);
        if (last)
            break;
    }
    if (!rc)
        *bits = found;
    return rc;
}
