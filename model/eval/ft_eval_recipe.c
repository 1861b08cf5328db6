#include "model/eval/ft_eval_recipe.h"

#include "base/yaml_read.h"
#include "text/ft_bpe_train.h"

#include <string.h>

enum { MAX_DOMAINS = 63, MAX_SYSTEMS = 256, MAX_TASKS = 64, MAX_PATHS = 256, MAX_NAME = 60 };

#define TEXT(type, field, most)                                                                                        \
    CYAML_FIELD_STRING_PTR(#field, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, field, 1, most)
#define NUMBER(type, field) CYAML_FIELD_INT_PTR(#field, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, field)
#define LIST(type, field, entry, most)                                                                                 \
    CYAML_FIELD_SEQUENCE(#field, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, field, entry, 0, most)

static const cyaml_schema_value_t path_schema = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 4095)};
static const cyaml_schema_value_t number_schema = {CYAML_VALUE_INT(CYAML_FLAG_DEFAULT, int64_t)};

static const cyaml_schema_field_t domain_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, ft_recipe_domain, name, 1, MAX_NAME),
    LIST(ft_recipe_domain, train, &path_schema, MAX_PATHS),
    LIST(ft_recipe_domain, proxy, &path_schema, MAX_PATHS),
    CYAML_FIELD_SEQUENCE("test", CYAML_FLAG_POINTER, ft_recipe_domain, test, &path_schema, 1, MAX_PATHS),
    TEXT(ft_recipe_domain, expert, 4000),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t domain_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, ft_recipe_domain, domain_fields)};

static const cyaml_schema_field_t tokenizer_fields[] = {
    NUMBER(ft_recipe_tokenizer, size),
    LIST(ft_recipe_tokenizer, domains, &path_schema, MAX_DOMAINS),
    TEXT(ft_recipe_tokenizer, split, 40),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t train_fields[] = {
    CYAML_FIELD_STRING_PTR("start", CYAML_FLAG_POINTER, ft_recipe_train, start, 1, 4095),
    CYAML_FIELD_MAPPING_PTR("tokenizer", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, ft_recipe_train, tokenizer,
                            tokenizer_fields),
    TEXT(ft_recipe_train, public, 4000),
    TEXT(ft_recipe_train, expert, 4000),
    TEXT(ft_recipe_train, branch, 4000),
    TEXT(ft_recipe_train, router, 4000),
    TEXT(ft_recipe_train, joint, 4000),
    TEXT(ft_recipe_train, joint2, 4000),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t system_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, ft_recipe_system, name, 1, MAX_NAME),
    TEXT(ft_recipe_system, model, 4095),
    LIST(ft_recipe_system, without, &number_schema, 64),
    LIST(ft_recipe_system, mix, &path_schema, 64),
    NUMBER(ft_recipe_system, top),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t system_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, ft_recipe_system, system_fields)};

static const cyaml_schema_field_t task_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, ft_recipe_task, name, 1, MAX_NAME),
    CYAML_FIELD_STRING_PTR("file", CYAML_FLAG_POINTER, ft_recipe_task, file, 1, 4095),
    TEXT(ft_recipe_task, after, 1000),
    TEXT(ft_recipe_task, stop, 1000),
    NUMBER(ft_recipe_task, limit),
    NUMBER(ft_recipe_task, new_tokens),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t task_schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, ft_recipe_task, task_fields)};

static const cyaml_schema_field_t recipe_fields[] = {
    TEXT(ft_recipe, name, 200),
    TEXT(ft_recipe, tokenizer, 4095),
    NUMBER(ft_recipe, window),
    NUMBER(ft_recipe, test_bytes),
    NUMBER(ft_recipe, seed),
    CYAML_FIELD_SEQUENCE("domains", CYAML_FLAG_POINTER, ft_recipe, domains, &domain_schema, 1, MAX_DOMAINS),
    CYAML_FIELD_MAPPING_PTR("train", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, ft_recipe, train, train_fields),
    LIST(ft_recipe, systems, &system_schema, MAX_SYSTEMS),
    LIST(ft_recipe, choices, &task_schema, MAX_TASKS),
    LIST(ft_recipe, exact, &task_schema, MAX_TASKS),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t recipe_schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, ft_recipe, recipe_fields)};
static const yaml_kind kind = {.schema = &recipe_schema, .document = "docs/evaluation.md", .needed = "domains"};

/* Names become files: letters, digits, '-', '_', '.', '+', not a period first. */
static int is_name(const char *name)
{
    static const char *const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+";
    return name[0] != '.' && !name[strspn(name, allowed)];
}

static ft_code check_name(const char *path, const char *what, const char *name, ft_status *st)
{
    return is_name(name)
               ? FT_OK
               : ft_fail(st, FT_ERR_FORMAT, "%s: %s '%s': a name is letters, digits and -_.+, without a period first",
                         path, what, name);
}

static ft_code check_domains(const ft_recipe *r, const char *path, ft_status *st)
{
    ft_code rc = FT_OK;
    for (unsigned i = 0; i < r->domains_count && !rc; i++) {
        rc = check_name(path, "domain", r->domains[i].name, st);
        for (unsigned k = 0; k < i && !rc; k++)
            if (!strcmp(r->domains[k].name, r->domains[i].name))
                rc = ft_fail(st, FT_ERR_FORMAT, "%s: two domains '%s'", path, r->domains[i].name);
        const int trains = i && r->domains[i].train_count && r->train && r->train->expert;
        if (!rc && r->domains[i].expert && !trains)
            rc = ft_fail(st, FT_ERR_FORMAT,
                         "%s: domain '%s': 'expert' is for an owner's domain, with 'train', where 'train.expert' is there",
                         path, r->domains[i].name);
    }
    if (!rc && r->train && !r->domains[0].train_count)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: the first domain, the public one, needs 'train'", path);
    return rc;
}

static ft_code check_tokenizer(const ft_recipe *r, const char *path, ft_status *st)
{
    const ft_recipe_tokenizer *t = r->train ? r->train->tokenizer : NULL;
    ft_code rc = FT_OK;
    if (!r->tokenizer == !t)
        return ft_fail(st, FT_ERR_FORMAT, "%s: 'tokenizer' is needed, or 'train' with 'tokenizer', not both", path);
    if (t && (!t->size || *t->size < FT_BPE_LEAST_SIZE || *t->size > 1 << 23))
        return ft_fail(st, FT_ERR_FORMAT, "%s: train.tokenizer needs 'size', %d entries or more", path,
                       FT_BPE_LEAST_SIZE);
    if (t && !r->train->public)
        return ft_fail(st, FT_ERR_FORMAT, "%s: train.tokenizer needs train.public: a model that is there has one",
                       path);
    for (unsigned i = 0; t && i < t->domains_count && !rc; i++) {
        unsigned d = 0;
        while (d < r->domains_count && strcmp(r->domains[d].name, t->domains[i]) != 0)
            d++;
        if (d == r->domains_count || !r->domains[d].train_count)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: train.tokenizer: '%.60s' is no domain with 'train'", path,
                         t->domains[i]);
    }
    return rc;
}

static ft_code check_system(const ft_recipe *r, unsigned i, const char *path, ft_status *st)
{
    const ft_recipe_system *s = &r->systems[i];
    ft_code rc = check_name(path, "system", s->name, st);
    for (unsigned k = 0; k < i && !rc; k++)
        if (!strcmp(r->systems[k].name, s->name))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: two systems '%s'", path, s->name);
    if (!rc && !s->model == !s->mix_count)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: system '%s' needs 'model', or 'mix' with at least one name, not both",
                     path, s->name);
    if (!rc && s->top && (*s->top < 1 || !s->mix_count))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: system '%s': 'top' is how many of a 'mix' count, 1 or more", path, s->name);
    for (unsigned k = 0; k < s->without_count && !rc; k++)
        if (s->without[k] < 0 || s->without[k] > 63)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: system '%s': 'without' has experts 0 to 63", path, s->name);
    for (unsigned k = 0; k < s->mix_count && !rc; k++) {
        int found = 0;
        for (unsigned j = 0; j < i; j++)
            found |= r->systems[j].model && !strcmp(r->systems[j].name, s->mix[k]);
        if (!found)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: system '%s' mixes '%.60s', which is no model before it", path, s->name,
                         s->mix[k]);
    }
    return rc;
}

static ft_code check_tasks(const ft_recipe_task *tasks, unsigned count, const char *path, ft_status *st)
{
    ft_code rc = FT_OK;
    for (unsigned i = 0; i < count && !rc; i++) {
        rc = check_name(path, "task", tasks[i].name, st);
        if (!rc && ((tasks[i].limit && *tasks[i].limit < 0) || (tasks[i].new_tokens && *tasks[i].new_tokens < 1)))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: task '%s': a number below what it can be", path, tasks[i].name);
    }
    return rc;
}

ft_code ft_recipe_read(ft_recipe **out, const char *path, ft_status *st)
{
    void *read;
    *out = NULL;
    ft_code rc = yaml_read(&read, path, &kind, st);
    if (rc)
        return rc;
    ft_recipe *r = read;
    rc = check_domains(r, path, st);
    if (!rc)
        rc = check_tokenizer(r, path, st);
    for (unsigned i = 0; i < r->systems_count && !rc; i++)
        rc = check_system(r, i, path, st);
    if (!rc)
        rc = check_tasks(r->choices, r->choices_count, path, st);
    if (!rc)
        rc = check_tasks(r->exact, r->exact_count, path, st);
    if (!rc && !r->train && !r->systems_count)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: nothing to measure; 'train' or 'systems' is needed", path);
    if (!rc && r->window && (*r->window < 2 || *r->window > (1 << 24)))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: 'window' is 2 or more tokens", path);
    if (!rc && ((r->test_bytes && *r->test_bytes < 0) || (r->seed && *r->seed < 0)))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: 'test_bytes' and 'seed' are 0 or more", path);
    if (rc)
        yaml_free(&kind, r);
    else
        *out = r;
    return rc;
}

void ft_recipe_free(ft_recipe *r)
{
    yaml_free(&kind, r);
}
