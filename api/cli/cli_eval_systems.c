/* flextrace eval: which systems there are, and what each is worth. A system's figures are kept, and measured again
 * only where its weights, the texts or what is asked of them changed. */
#include "api/cli/cli_eval_internal.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_npy.h"
#include "model/eval/ft_eval_ensemble.h"
#include "model/eval/ft_eval_report.h"

#include <stdlib.h>
#include <string.h>

typedef struct system_entry {
    char name[EVAL_NAME], kind[16];
    const char *owner;    /* of kinds pair, branch; whose expert is missing where one is left out; else NULL */
    char *model;          /* folder; NULL: a mix */
    uint64_t without;     /* experts */
    size_t mix[EVAL_MIX]; /* places of what it mixes */
    size_t mix_count, top;
    int member; /* some mix needs its tokens */
    ft_digest inputs;
} system_entry;

typedef struct systems {
    evaluation *e;
    system_entry *all;
    size_t count, capacity, tokens;
    ft_digest asked; /* texts, window, tasks */
} systems;

static system_entry *add(systems *s, const char *kind, const char *owner, const char *fmt, const char *name,
                         ft_status *st)
{
    if (ft_array_grow((void **)&s->all, &s->capacity, s->count + 1, sizeof(*s->all), st))
        return NULL;
    system_entry *x = &s->all[s->count++];
    memset(x, 0, sizeof(*x));
    snprintf(x->kind, sizeof(x->kind), "%s", kind);
    snprintf(x->name, sizeof(x->name), fmt, name); /* NOLINT: ours, each with one %s at most */
    x->owner = owner;
    return x;
}

/* A system that a stage made. */
static ft_code add_stage(systems *s, const char *kind, const char *owner, const char *fmt, const char *folder,
                         ft_status *st)
{
    char name[EVAL_NAME];
    system_entry *x = add(s, kind, owner, fmt, owner ? owner : "", st);
    if (!x)
        return FT_ERR_MEM;
    snprintf(name, sizeof(name), "%s%s", folder, owner && !ft_eval_leaves_out(kind) ? owner : "");
    x->model = !strcmp(kind, "public") ? eval_public_path(s->e) : eval_work_path(s->e, name, "model");
    return x->model ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

static ft_code add_per_owner(systems *s, const char *kind, const char *fmt, const char *folder, ft_status *st)
{
    ft_code rc = FT_OK;
    uint64_t expert = 0;
    for (unsigned d = 1; d < s->e->recipe->domains_count && !rc; d++) {
        if (!eval_is_owner(s->e, d))
            continue;
        expert++;
        rc = add_stage(s, kind, s->e->recipe->domains[d].name, fmt, folder, st);
        if (!rc && ft_eval_leaves_out(kind))
            s->all[s->count - 1].without = (uint64_t)1 << expert;
    }
    return rc;
}

/* Public model and branches, the two likeliest mixed. */
static ft_code add_ensemble(systems *s, ft_status *st)
{
    system_entry *x = add(s, "ensemble", NULL, "%s", "ensemble (BTM top-2)", st);
    if (!x)
        return FT_ERR_MEM;
    x->top = 2;
    for (size_t i = 0; i + 1 < s->count; i++)
        if (!strcmp(s->all[i].kind, "branch") || !strcmp(s->all[i].kind, "public")) {
            s->all[i].member = 1;
            x->mix[x->mix_count++] = i;
        }
    return FT_OK;
}

static ft_code add_trained(systems *s, ft_status *st)
{
    const ft_recipe_train *t = s->e->recipe->train;
    const int owners = eval_has_owners(s->e);
    ft_code rc = add_stage(s, "public", NULL, "public", "public", st);
    if (!rc && t->expert)
        rc = add_per_owner(s, "pair", "expert %s", "expert-", st);
    if (!rc && t->branch)
        rc = add_per_owner(s, "branch", "branch %s", "branch-", st);
    if (!rc && t->branch && owners)
        rc = add_stage(s, "soup", NULL, "soup", "soup", st);
    if (!rc && t->branch && owners)
        rc = add_ensemble(s, st);
    if (!rc && t->branch && t->router && owners)
        rc = add_stage(s, "btx", NULL, "BTX-like", "btx", st);
    if (!rc && t->expert && owners)
        rc = add_stage(s, "merged", NULL, "merged", "merged", st);
    if (!rc && t->expert)
        rc = add_per_owner(s, "without", "merged without %s", "merged", st);
    if (!rc && t->expert && t->router && owners)
        rc = add_stage(s, "tuned", NULL, "merged, router tuned", "tuned", st);
    if (!rc && t->expert && t->router)
        rc = add_per_owner(s, "tuned-without", "router tuned, without %s", "tuned", st);
    if (!rc && t->joint && owners)
        rc = add_stage(s, "joint", NULL, "joint", "joint", st);
    if (!rc && t->joint2 && owners)
        rc = add_stage(s, "joint2", NULL, "joint, twice", "joint2", st);
    return rc;
}

static ft_code add_given(systems *s, const ft_recipe_system *g, size_t first, ft_status *st)
{
    system_entry *x = add(s, "given", NULL, "%s", g->name, st);
    if (!x)
        return FT_ERR_MEM;
    x->top = g->top && *g->top > 0 ? (size_t)*g->top : 0;
    for (unsigned i = 0; i < g->without_count; i++)
        x->without |= (uint64_t)1 << g->without[i];
    for (unsigned i = 0; i < g->mix_count && i < EVAL_MIX; i++)
        for (size_t k = first; k + 1 < s->count; k++)
            if (!strcmp(s->all[k].name, g->mix[i])) {
                s->all[k].member = 1;
                x->mix[x->mix_count++] = k;
            }
    return g->model ? eval_path(&x->model, g->model, s->e->base, st) : FT_OK;
}

/* --- What a result depends on ---------------------------------------------------------------------- */

static ft_code hash_files(ft_hasher *h, char *const *paths, const ft_recipe_task *tasks, size_t count, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; i < count && !rc; i++) {
        const ft_recipe_task *t = &tasks[i];
        const char *const texts[] = {t->name, t->after ? t->after : "", t->stop ? t->stop : ""};
        const int64_t numbers[] = {t->limit ? *t->limit : 0, t->new_tokens ? *t->new_tokens : 0};
        ft_digest d;
        rc = ft_digest_of_file(&d, paths[i], st);
        if (rc)
            break;
        ft_hasher_add(h, &d, sizeof(d));
        for (size_t k = 0; k < 3; k++)
            ft_hasher_add(h, texts[k], strlen(texts[k]) + 1);
        ft_hasher_add(h, numbers, sizeof(numbers));
    }
    return rc;
}

static ft_code hash_asked(systems *s, ft_status *st)
{
    const evaluation *e = s->e;
    const ft_recipe *r = e->recipe;
    const ft_digest tokenizer = ft_tokenizer_digest(e->tokenizer);
    const uint64_t window = e->setting.window;
    ft_hasher h;
    ft_hasher_init(&h);
    ft_hasher_add(&h, "1", 1); /* the meaning of a figure: counted up when it changes */
    ft_hasher_add(&h, &tokenizer, sizeof(tokenizer));
    ft_hasher_add(&h, &window, sizeof(window));
    for (unsigned d = 0; d < r->domains_count; d++) {
        const ft_eval_text *t = &e->texts[d];
        ft_hasher_add(&h, r->domains[d].name, strlen(r->domains[d].name) + 1);
        ft_hasher_add(&h, &t->bytes, sizeof(t->bytes));
        ft_hasher_add(&h, t->ids, t->tokens * sizeof(*t->ids));
        s->tokens += t->tokens;
    }
    ft_code rc = hash_files(&h, e->choices, r->choices, r->choices_count, st);
    if (!rc)
        rc = hash_files(&h, e->exact, r->exact, r->exact_count, st);
    s->asked = ft_hasher_end(&h);
    return rc;
}

static ft_code hash_system(const systems *s, system_entry *x, ft_status *st)
{
    ft_hasher h;
    ft_model *m = NULL;
    ft_digest weights;
    ft_code rc = FT_OK;
    ft_hasher_init(&h);
    ft_hasher_add(&h, &s->asked, sizeof(s->asked));
    ft_hasher_add(&h, &x->without, sizeof(x->without));
    if (x->model) {
        rc = ft_model_open(&m, x->model, st);
        if (!rc)
            rc = ft_model_digest(m, &weights, st);
        if (!rc) {
            const uint64_t top_k = ft_model_get_config(m)->top_k;
            ft_hasher_add(&h, &weights, sizeof(weights));
            ft_hasher_add(&h, &top_k, sizeof(top_k));
        }
        ft_model_close(m);
    } else {
        const uint64_t top = x->top;
        ft_hasher_add(&h, &top, sizeof(top));
        for (size_t i = 0; i < x->mix_count; i++)
            ft_hasher_add(&h, &s->all[x->mix[i]].inputs, sizeof(ft_digest));
    }
    x->inputs = ft_hasher_end(&h);
    return rc;
}

/* --- Measuring ---------------------------------------------------------------------------------------- */

/* results/NAME.SUFFIX, the name in letters that a file may have. */
static char *result_path(const systems *s, const system_entry *x, const char *suffix)
{
    char file[EVAL_NAME + 16];
    size_t n = 0;
    for (const char *p = x->name; *p && n < EVAL_NAME; p++) {
        const int plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
        file[n++] = (char)(plain || strchr("-_.+", *p) ? *p : '-');
    }
    snprintf(file + n, sizeof(file) - n, ".%s", suffix);
    return eval_work_path(s->e, "results", file);
}

/* The tokens' log2 p of a member; NULL where they are not there. */
static float *read_tokens(const systems *s, const system_entry *x)
{
    char *path = result_path(s, x, "npy");
    ft_npy a;
    float *out = NULL;
    if (path && ft_npy_open(&a, path, NULL) == FT_OK) {
        if (a.type == FT_NPY_FLOAT32 && a.count == s->tokens && (out = ft_alloc_array(s->tokens, sizeof(*out))))
            memcpy(out, a.data, s->tokens * sizeof(*out));
        ft_npy_close(&a);
    }
    free(path);
    return out;
}

static ft_code measure_model(const systems *s, const system_entry *x, json_t **out, ft_status *st)
{
    const ft_progress show = cli_progress();
    char *path = result_path(s, x, "npy");
    float *log2p = path && s->tokens ? ft_alloc_array(s->tokens, sizeof(*log2p)) : NULL;
    ft_code rc = log2p ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_eval_system(out, &s->e->setting, x->model, x->without, log2p, &show, st);
    cli_progress_end();
    if (!rc && x->member)
        rc = ft_npy_write(path, FT_NPY_FLOAT32, 1, &s->tokens, log2p, st);
    free(log2p);
    free(path);
    return rc;
}

static ft_code measure_mix(const systems *s, const system_entry *x, json_t **out, ft_status *st)
{
    float *of[EVAL_MIX] = {0}, *mixed = ft_alloc_array(s->tokens, sizeof(*mixed));
    const float *at[EVAL_MIX];
    ft_code rc = mixed ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < x->mix_count && !rc; i++)
        if (!(of[i] = read_tokens(s, &s->all[x->mix[i]])))
            rc = ft_fail(st, FT_ERR_IO,
                         "system '%s': the tokens of '%s' cannot be read; remove results/ and start again", x->name,
                         s->all[x->mix[i]].name);
    size_t from = 0;
    for (unsigned d = 0; d < s->e->recipe->domains_count && !rc; d++) {
        for (size_t i = 0; i < x->mix_count; i++)
            at[i] = of[i] + from;
        ft_eval_mix(mixed + from, at, x->mix_count, x->top, &s->e->texts[d]);
        from += s->e->texts[d].tokens;
    }
    if (!rc && !(*out = ft_eval_system_bits(&s->e->setting, mixed)))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < x->mix_count; i++)
        free(of[i]);
    free(mixed);
    return rc;
}

/* The public domain, then the owners: as stages put experts side by side. */
static const char *nth_owner(const evaluation *e, size_t n)
{
    for (unsigned d = 0; d < e->recipe->domains_count; d++)
        if ((!d || eval_is_owner(e, d)) && !n--)
            return e->recipe->domains[d].name;
    return NULL;
}

/* Who an expert is, for the columns of its shares. */
static json_t *expert_names(const systems *s, const system_entry *x, const json_t *result)
{
    json_t *names = json_array(), *owners = NULL;
    const char *domain;
    json_t *list;
    size_t count = 0;
    char *path = x->model ? ft_path_join(x->model, "owners.json") : NULL;
    json_object_foreach(json_object_get(result, "shares"), domain, list)
    {
        count = json_array_size(list);
    }
    if (path && ft_path_exists(path) && ft_json_read_file(&owners, path, 1 << 24, NULL))
        owners = NULL;
    free(path);
    for (size_t e = 0; names && e < count; e++) {
        const json_t *o = json_array_get(json_object_get(owners, "experts"), e);
        const char *owner = json_string_value(json_object_get(o, "owner"));
        char number[32];
        snprintf(number, sizeof(number), "expert %zu", e);
        if (!owner && !strcmp(x->kind, "btx"))
            owner = nth_owner(s->e, e);
        if (!owner && !strcmp(x->kind, "pair"))
            owner = e ? x->owner : nth_owner(s->e, 0);
        json_array_append_new(names, json_string(owner ? owner : number));
    }
    json_decref(owners);
    return names;
}

/* Kept figures that still hold; NULL: measure. */
static json_t *kept_result(const systems *s, const system_entry *x, const char *path)
{
    json_t *mark = eval_read_mark(path), *result = NULL;
    if (eval_is_mark(mark, &x->inputs))
        result = json_incref(json_object_get(mark, "result"));
    json_decref(mark);
    float *tokens = result && x->member ? read_tokens(s, x) : NULL;
    if (result && x->member && !tokens) {
        json_decref(result);
        result = NULL;
    }
    free(tokens);
    return result;
}

static ft_code keep_result(const system_entry *x, const char *path, const json_t *result, ft_status *st)
{
    char hex[FT_DIGEST_HEX];
    ft_buffer text = {0};
    ft_digest_hex(&x->inputs, hex);
    json_t *mark = json_pack("{s:s, s:O}", "inputs", hex, "result", result);
    ft_code rc = mark ? ft_json_write(mark, &text, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_file_write(path, text.data, text.size, st);
    ft_buffer_release(&text);
    json_decref(mark);
    return rc;
}

static ft_code measure_one(systems *s, system_entry *x, json_t *list, ft_status *st)
{
    char *path = result_path(s, x, "json");
    json_t *result = NULL;
    ft_code rc = path ? hash_system(s, x, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        result = kept_result(s, x, path);
    if (!rc && !result) {
        char line[EVAL_NAME + 40];
        snprintf(line, sizeof(line), "measuring %s", x->name);
        cli_progress_message(line);
        rc = x->model ? measure_model(s, x, &result, st) : measure_mix(s, x, &result, st);
        if (!rc)
            rc = keep_result(x, path, result, st);
    }
    free(path);
    if (rc) {
        json_decref(result);
        return rc;
    }
    json_t *out = json_pack("{s:s, s:s}", "name", x->name, "kind", x->kind);
    int bad = !out;
    if (x->owner)
        bad |= json_object_set_new(out, ft_eval_leaves_out(x->kind) ? "without" : "owner", json_string(x->owner));
    if (json_object_get(result, "shares"))
        bad |= json_object_set_new(out, "experts", expert_names(s, x, result));
    bad |= json_object_update(out, result);
    bad |= json_array_append_new(list, out);
    json_decref(result);
    return bad ? ft_fail(st, FT_ERR_MEM, "out of memory") : FT_OK;
}

static json_t *describe_domains(const evaluation *e)
{
    json_t *list = json_array();
    for (unsigned d = 0; d < e->recipe->domains_count; d++) {
        const ft_eval_text *t = &e->texts[d];
        const char *role = !e->recipe->train ? "other" : !d ? "public" : eval_is_owner(e, d) ? "owner" : "other";
        json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I, s:I}", "name", e->recipe->domains[d].name, "role",
                                              role, "documents", (json_int_t)t->count, "bytes", (json_int_t)t->bytes,
                                              "tokens", (json_int_t)t->tokens));
    }
    return list;
}

ft_code eval_measure(evaluation *e, json_t **report, ft_status *st)
{
    systems s = {.e = e};
    json_t *list = json_array();
    char *folder = eval_work_path(e, "results", NULL);
    *report = NULL;
    ft_code rc = list && folder ? ft_folder_make(folder, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc && e->recipe->train)
        rc = add_trained(&s, st);
    const size_t first = s.count;
    for (unsigned i = 0; i < e->recipe->systems_count && !rc; i++)
        rc = add_given(&s, &e->recipe->systems[i], first, st);
    if (!rc)
        rc = hash_asked(&s, st);
    for (size_t i = 0; i < s.count && !rc; i++)
        rc = measure_one(&s, &s.all[i], list, st);
    if (!rc) {
        *report =
            json_pack("{s:s, s:I, s:I, s:o, s:O}", "name", e->recipe->name ? e->recipe->name : e->recipe_path, "window",
                      (json_int_t)e->setting.window, "vocabulary", (json_int_t)ft_tokenizer_vocab_size(e->tokenizer),
                      "domains", describe_domains(e), "systems", list);
        if (!*report)
            rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    for (size_t i = 0; i < s.count; i++)
        free(s.all[i].model);
    free(s.all);
    free(folder);
    json_decref(list);
    return rc;
}
