/* flextrace eval: the stages that train a recipe's systems, each skipped where its result is there. */
#include "api/cli/cli_eval_internal.h"
#include "api/cli/cli_train_internal.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "model/eval/ft_eval_combine.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cli_command cli_merge, cli_tokenizer_train;

/* One stage. Its inputs are its name and options, its parents' inputs, and the bytes of the corpora: not paths, so
 * that a work folder or the data can be moved. */
typedef struct stage {
    evaluation *e;
    char name[EVAL_NAME];
    ft_hasher inputs;
    char **words; /* argv of a verb, which ends with NULL, or the models to combine */
    size_t count, capacity;
    int combines;                                                               /* 1: soup, 2: stack */
    int trains;                                                                 /* the verb is one of `train` */
    ft_code (*after)(const struct stage *s, const char *folder, ft_status *st); /* what is left once the verb ran */
    ft_code rc;
    ft_status st;
} stage;

static void stage_begin(stage *s, evaluation *e, const char *prefix, const char *owner)
{
    memset(s, 0, sizeof(*s));
    s->e = e;
    snprintf(s->name, sizeof(s->name), "%s%s", prefix, owner);
    ft_hasher_init(&s->inputs);
    ft_hasher_add(&s->inputs, s->name, strlen(s->name) + 1);
}

static void stage_release(stage *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->words[i]);
    free((void *)s->words);
}

static void take_word(stage *s, char *word)
{
    void *words = (void *)s->words;
    ft_code rc = word ? FT_OK : ft_fail(&s->st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_array_grow(&words, &s->capacity, s->count + 2, sizeof(*s->words), &s->st);
    s->words = words;
    if (rc) {
        free(word);
        s->rc = s->rc ? s->rc : rc;
        return;
    }
    s->words[s->count++] = word;
    s->words[s->count] = NULL;
}

static void word(stage *s, const char *text)
{
    take_word(s, strdup(text));
}

/* Options as one would write them, cut at white space. They are inputs. */
static void options(stage *s, const char *text)
{
    for (text += strspn(text, " \t\r\n"); *text; text += strspn(text, " \t\r\n")) {
        const size_t n = strcspn(text, " \t\r\n");
        ft_hasher_add(&s->inputs, text, n);
        ft_hasher_add(&s->inputs, "", 1);
        take_word(s, strndup(text, n));
        text += n;
    }
}

/* "--NAME FILE" for each corpus; name NULL: FILE alone. */
static void corpora(stage *s, const char *name, char *const *paths, unsigned count)
{
    for (unsigned i = 0; i < count && !s->rc; i++) {
        char *path = NULL;
        ft_digest d;
        s->rc = eval_data_path(&path, s->e, paths[i], &s->st);
        if (!s->rc && s->e->rehearsal) {
            s->rc = eval_there(path, &s->st);
            memset(&d, 0, sizeof(d));
        } else if (!s->rc)
            s->rc = ft_path_is_folder(path) ? FT_OK : ft_digest_of_file(&d, path, &s->st);
        if (!s->rc && !s->e->rehearsal && ft_path_is_folder(path))
            d = ft_digest_of(paths[i], strlen(paths[i]));
        if (!s->rc) {
            ft_hasher_add(&s->inputs, &d, sizeof(d));
            if (name)
                word(s, name);
            take_word(s, path);
            path = NULL;
        }
        free(path);
    }
}

/* A path in another stage's folder; that stage is done. */
static void parent(stage *s, const char *prefix, const char *owner, const char *file)
{
    char name[EVAL_NAME];
    snprintf(name, sizeof(name), "%s%s", prefix, owner);
    char *mark_path = eval_work_path(s->e, name, "stage.json");
    json_t *mark = mark_path ? eval_read_mark(mark_path) : NULL;
    const char *hex = json_string_value(json_object_get(mark, "inputs"));
    ft_hasher_add(&s->inputs, hex ? hex : "", hex ? strlen(hex) : 0);
    json_decref(mark);
    free(mark_path);
    take_word(s, eval_work_path(s->e, name, file));
}

/* The public model that every other stage stands on: a stage's, or the start as it is. */
static void public_model(stage *s)
{
    if (s->e->recipe->train->public) {
        parent(s, "public", "", "model");
        return;
    }
    ft_hasher_add(&s->inputs, &s->e->public_weights, sizeof(s->e->public_weights));
    take_word(s, eval_public_path(s->e));
}

static ft_code write_mark(const char *path, const ft_digest *inputs, int done, ft_status *st)
{
    char hex[FT_DIGEST_HEX], text[160];
    ft_digest_hex(inputs, hex);
    const int n = snprintf(text, sizeof(text), "{\"inputs\": \"%s\", \"done\": %s}\n", hex, done ? "true" : "false");
    return ft_file_write(path, text, (size_t)n, st);
}

/* A run may be killed between making the folder and marking it. */
static int is_empty(const char *folder)
{
    DIR *d = opendir(folder);
    const struct dirent *entry;
    int empty = d != NULL;
    while (d && empty && (entry = readdir(d)))
        empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
    if (d)
        closedir(d);
    return empty;
}

/* Put aside first: what is left of a folder half removed is never taken for somebody else's. */
static ft_code remove_stage(const char *folder, ft_status *st)
{
    ft_buffer stale = {0};
    ft_code rc = ft_buffer_printf(&stale, st, "%s.stale", folder);
    if (!rc)
        rc = ft_folder_remove(stale.data, st);
    if (!rc && rename(folder, stale.data) != 0)
        rc = ft_fail(st, FT_ERR_IO, "%s: %s", folder, strerror(errno));
    if (!rc)
        rc = ft_folder_remove(stale.data, st);
    ft_buffer_release(&stale);
    return rc;
}

/* The stage's folder, empty or with what the same stage left when it was stopped. Only a folder that a stage made
 * is ever removed. */
static ft_code make_folder(const char *folder, const char *mark_path, const ft_digest *inputs, ft_status *st)
{
    json_t *mark = eval_read_mark(mark_path);
    const int same = eval_is_mark(mark, inputs), there = ft_path_exists(folder);
    ft_code rc = FT_OK;
    if (there && !mark && !is_empty(folder))
        rc = ft_fail(st, FT_ERR_FORMAT,
                     "%s: not made by 'flextrace eval' (no stage.json); move it away, or choose "
                     "another -o",
                     folder);
    else if (mark && there && !same)
        rc = remove_stage(folder, st);
    json_decref(mark);
    if (!rc && !(there && same))
        rc = ft_folder_make(folder, st);
    return rc ? rc : write_mark(mark_path, inputs, 0, st);
}

/* What a verb says on standard output goes to standard error: ours is the table. */
static int run_verb(const stage *s, cli_command *verb)
{
    fflush(stdout);
    const int kept = dup(1);
    if (kept < 0 || dup2(2, 1) < 0)
        return CLI_SYSTEM;
    const int code = verb((int)s->count, s->words);
    fflush(stdout);
    dup2(kept, 1);
    close(kept);
    return code;
}

static int combine(stage *s, const char *out, ft_status *st)
{
    const char *const *models = (const char *const *)s->words;
    const size_t count = s->count;
    const uint64_t seed = s->e->recipe->seed ? (uint64_t)*s->e->recipe->seed : 1;
    const ft_code rc =
        s->combines == 1 ? ft_eval_soup(models, count, out, st) : ft_eval_stack(models, count, 2, seed, out, st);
    return rc ? cli_fail(st) : CLI_OK;
}

/* The verb reads its words and stops. */
static int rehearse(stage *s, cli_command *verb)
{
    int code = CLI_OK;
    if (s->trains)
        word(s, "--dry-run");
    if (s->rc)
        code = cli_fail(&s->st);
    else if (s->trains)
        code = run_verb(s, verb);
    if (code != CLI_OK)
        fprintf(stderr, "flextrace: %s: stage %s would stop at that; nothing was trained\n", s->e->recipe_path, s->name);
    stage_release(s);
    return code;
}

/* Runs the stage unless it is done. verb NULL: combines. */
static int stage_run(stage *s, cli_command *verb)
{
    if (s->e->rehearsal)
        return rehearse(s, verb);
    const ft_digest inputs = ft_hasher_end(&s->inputs);
    char *folder = eval_work_path(s->e, s->name, NULL), *mark_path = eval_work_path(s->e, s->name, "stage.json"),
         *model = eval_work_path(s->e, s->name, "model");
    int code = CLI_OK;
    s->e->stages++;
    if (!s->rc && (!folder || !mark_path || !model))
        s->rc = ft_fail(&s->st, FT_ERR_MEM, "out of memory");
    json_t *mark = s->rc ? NULL : eval_read_mark(mark_path);
    const int done = eval_is_mark(mark, &inputs) && json_is_true(json_object_get(mark, "done"));
    json_decref(mark);
    if (!s->rc && !done) {
        char line[EVAL_NAME + 40];
        snprintf(line, sizeof(line), "stage %zu: %s", s->e->stages, s->name);
        cli_progress_message(line);
        s->rc = make_folder(folder, mark_path, &inputs, &s->st);
        if (!s->rc)
            code = verb ? run_verb(s, verb) : combine(s, model, &s->st);
        if (!s->rc && code == CLI_OK && s->after)
            s->rc = s->after(s, folder, &s->st);
        if (!s->rc && code == CLI_OK)
            s->rc = write_mark(mark_path, &inputs, 1, &s->st);
    }
    if (s->rc)
        code = cli_fail(&s->st);
    free(folder);
    free(mark_path);
    free(model);
    stage_release(s);
    return code;
}

/* What every training stage is told besides its own words. */
static void output(stage *s)
{
    s->trains = 1;
    word(s, "-o");
    take_word(s, eval_work_path(s->e, s->name, NULL));
    if (!s->e->rehearsal) { /* there may be none yet */
        word(s, "--tokenizer");
        word(s, ft_tokenizer_path(s->e->tokenizer));
    }
    if (s->e->threads) {
        char text[16];
        snprintf(text, sizeof(text), "%u", s->e->threads);
        word(s, "--threads");
        word(s, text);
    }
}

/* --- The stages -------------------------------------------------------------------------------------- */

int eval_is_owner(const evaluation *e, unsigned domain)
{
    return domain > 0 && e->recipe->domains[domain].train_count > 0;
}

int eval_has_owners(const evaluation *e)
{
    for (unsigned d = 1; d < e->recipe->domains_count; d++)
        if (eval_is_owner(e, d))
            return 1;
    return 0;
}

/* The digest of the start's config.json enters into the stage. *start is the caller's. */
static ft_code hash_start(stage *s, char **start)
{
    ft_digest d;
    ft_code rc = eval_path(start, s->e->recipe->train->start, s->e->base, &s->st);
    char *config = rc ? NULL : ft_path_join(*start, "config.json");
    if (!rc)
        rc = config ? ft_digest_of_file(&d, config, &s->st) : ft_fail(&s->st, FT_ERR_MEM, "out of memory");
    if (!rc)
        ft_hasher_add(&s->inputs, &d, sizeof(d));
    free(config);
    return rc;
}

/* The start's config.json with the vocabulary of the tokenizer in `folder`, beside it. A start with weights has
 * a vocabulary of its own. */
static ft_code write_start(const stage *s, const char *folder, ft_status *st)
{
    char *start = NULL, *from = NULL, *to = ft_path_join(folder, "config.json");
    json_t *config = NULL;
    ft_buffer text = {0};
    ft_tokenizer *t = NULL;
    ft_code rc = eval_path(&start, s->e->recipe->train->start, s->e->base, st);
    if (!rc && (!to || !(from = ft_path_join(start, "config.json"))))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_json_read_file(&config, from, 1 << 24, st);
    if (!rc)
        rc = ft_tokenizer_open(&t, folder, st);
    if (!rc && (json_object_set_new(config, "vocab_size", json_integer(ft_tokenizer_vocab_size(t))) ||
                json_object_set_new(config, "eos_token_id", json_integer(ft_tokenizer_end_of_text(t))) ||
                json_object_set_new(config, "pad_token_id", json_integer(ft_tokenizer_token_id(t, "<|pad|>"))) ||
                json_object_set_new(config, "bos_token_id", json_null())))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: not a JSON object", from);
    if (!rc)
        rc = ft_json_write(config, &text, st);
    if (!rc)
        rc = ft_file_write(to, text.data, text.size, st);
    ft_tokenizer_close(t);
    ft_buffer_release(&text);
    json_decref(config);
    free(start);
    free(from);
    free(to);
    return rc;
}

static ft_code refuse_weights(const char *start, ft_status *st)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
    ft_code rc = FT_OK;
    for (size_t i = 0; i < 2 && !rc; i++) {
        char *path = ft_path_join(start, names[i]);
        if (!path)
            return ft_fail(st, FT_ERR_MEM, "out of memory");
        if (ft_path_exists(path))
            rc = ft_fail(st, FT_ERR_ARG, "%s: these weights know another vocabulary than train.tokenizer makes", path);
        free(path);
    }
    return rc;
}

int eval_train_tokenizer(evaluation *e)
{
    const ft_recipe *r = e->recipe;
    const ft_recipe_tokenizer *t = r->train->tokenizer;
    char size[32], *start = NULL;
    stage s;
    stage_begin(&s, e, "tokenizer", "");
    s.after = write_start;
    word(&s, "train");
    s.rc = hash_start(&s, &start);
    if (!s.rc)
        s.rc = refuse_weights(start, &s.st);
    free(start);
    for (unsigned d = 0; d < r->domains_count; d++) {
        int used = !d && !t->domains_count;
        for (unsigned i = 0; i < t->domains_count; i++)
            used |= !strcmp(t->domains[i], r->domains[d].name);
        if (used)
            corpora(&s, NULL, r->domains[d].train, r->domains[d].train_count);
    }
    snprintf(size, sizeof(size), "--size %lld", (long long)*t->size);
    options(&s, size);
    if (t->split) {
        options(&s, "--split");
        options(&s, t->split);
    }
    word(&s, "--replace"); /* what a run left that was killed before its mark */
    word(&s, "-o");
    take_word(&s, eval_work_path(e, s.name, NULL));
    return stage_run(&s, cli_tokenizer_train);
}

static int train_public(evaluation *e)
{
    const ft_recipe *r = e->recipe;
    stage s;
    char *start = NULL;
    stage_begin(&s, e, "public", "");
    word(&s, "public");
    if (r->train->tokenizer) {
        parent(&s, "tokenizer", "", NULL);
    } else {
        s.rc = hash_start(&s, &start);
        if (start)
            take_word(&s, start);
    }
    if (!e->rehearsal) {
        const ft_digest tokenizer = ft_tokenizer_digest(e->tokenizer); /* of all later stages too, by their parents */
        ft_hasher_add(&s.inputs, &tokenizer, sizeof(tokenizer));
    }
    corpora(&s, "--corpus", r->domains[0].train, r->domains[0].train_count);
    output(&s);
    options(&s, r->train->public);
    return stage_run(&s, cli_train_public);
}

/* A start with weights is the public model as it stands: what stages make of it stands on its weights. */
static int open_public(evaluation *e)
{
    ft_status st = {0};
    ft_model *m = NULL;
    char *start = eval_public_path(e);
    ft_code rc = start ? ft_model_open(&m, start, &st) : ft_fail(&st, FT_ERR_MEM, "out of memory");
    if (!rc && !e->rehearsal)
        rc = ft_model_digest(m, &e->public_weights, &st);
    ft_model_close(m);
    free(start);
    return rc ? cli_fail(&st) : CLI_OK;
}

/* An owner's expert beside the frozen public model, with public text mixed in. */
static int train_expert(evaluation *e, const ft_recipe_domain *d)
{
    stage s;
    stage_begin(&s, e, "expert-", d->name);
    word(&s, "expert");
    word(&s, "--public");
    public_model(&s);
    word(&s, "--owner");
    word(&s, d->name);
    corpora(&s, "--corpus", d->train, d->train_count);
    corpora(&s, "--public-corpus", e->recipe->domains[0].train, e->recipe->domains[0].train_count);
    output(&s);
    options(&s, e->recipe->train->expert);
    if (d->expert)
        options(&s, d->expert);
    return stage_run(&s, cli_train_expert);
}

/* A dense model of the owner's domain, everything trained: what soup, ensemble and btx are made of. */
static int train_branch(evaluation *e, const ft_recipe_domain *d)
{
    stage s;
    stage_begin(&s, e, "branch-", d->name);
    word(&s, "public");
    public_model(&s);
    corpora(&s, "--corpus", d->train, d->train_count);
    output(&s);
    options(&s, e->recipe->train->branch);
    return stage_run(&s, cli_train_public);
}

static int merge(evaluation *e)
{
    stage s;
    stage_begin(&s, e, "merged", "");
    word(&s, "merge");
    word(&s, "--public");
    public_model(&s);
    for (unsigned d = 1; d < e->recipe->domains_count; d++)
        if (eval_is_owner(e, d))
            parent(&s, "expert-", e->recipe->domains[d].name, "expert");
    word(&s, "-o");
    take_word(&s, eval_work_path(e, s.name, "model"));
    return stage_run(&s, cli_merge);
}

static int combine_branches(evaluation *e, const char *name, int how)
{
    stage s;
    stage_begin(&s, e, name, "");
    s.combines = how;
    const int64_t seed = e->recipe->seed ? *e->recipe->seed : 1;
    ft_hasher_add(&s.inputs, &seed, sizeof(seed));
    public_model(&s);
    for (unsigned d = 1; d < e->recipe->domains_count; d++)
        if (eval_is_owner(e, d))
            parent(&s, "branch-", e->recipe->domains[d].name, "model");
    return stage_run(&s, NULL);
}

/* Router-only training on every domain's proxy text; where a domain names none, on its training text. */
static int tune_router(evaluation *e, const char *name, const char *from)
{
    stage s;
    stage_begin(&s, e, name, "");
    char number[16];
    unsigned expert = 0;
    word(&s, "router");
    parent(&s, from, "", "model");
    for (unsigned d = 0; d < e->recipe->domains_count; d++) {
        const ft_recipe_domain *x = &e->recipe->domains[d];
        if (d && !eval_is_owner(e, d))
            continue;
        snprintf(number, sizeof(number), "%u", expert++);
        word(&s, "--domain");
        word(&s, number);
        if (x->proxy_count)
            corpora(&s, "--corpus", x->proxy, x->proxy_count);
        else
            corpora(&s, "--corpus", x->train, x->train_count);
    }
    output(&s);
    options(&s, e->recipe->train->router);
    return stage_run(&s, cli_train_router);
}

static int train_joint(evaluation *e, const char *name, const char *how)
{
    stage s;
    char experts[16];
    unsigned owners = 0;
    stage_begin(&s, e, name, "");
    word(&s, "joint");
    public_model(&s);
    for (unsigned d = 0; d < e->recipe->domains_count; d++)
        if (!d || eval_is_owner(e, d)) {
            owners += d > 0;
            corpora(&s, "--corpus", e->recipe->domains[d].train, e->recipe->domains[d].train_count);
        }
    snprintf(experts, sizeof(experts), "%u", owners + 1);
    word(&s, "--experts");
    word(&s, experts);
    output(&s);
    options(&s, how);
    return stage_run(&s, cli_train_joint);
}

static int each_owner(evaluation *e, const char *how, int (*train)(evaluation *e, const ft_recipe_domain *d))
{
    int code = CLI_OK;
    for (unsigned d = 1; d < e->recipe->domains_count && how && code == CLI_OK; d++)
        if (eval_is_owner(e, d))
            code = train(e, &e->recipe->domains[d]);
    return code;
}

int eval_train(evaluation *e)
{
    const ft_recipe_train *t = e->recipe->train;
    const int owners = eval_has_owners(e);
    int code = t->public ? train_public(e) : open_public(e);
    if (code == CLI_OK)
        code = each_owner(e, t->expert, train_expert);
    if (code == CLI_OK && t->expert && owners)
        code = merge(e);
    if (code == CLI_OK)
        code = each_owner(e, t->branch, train_branch);
    if (code == CLI_OK && t->branch && owners)
        code = combine_branches(e, "soup", 1);
    if (code == CLI_OK && t->branch && t->router && owners)
        code = combine_branches(e, "btx-start", 2);
    if (code == CLI_OK && t->expert && t->router && owners)
        code = tune_router(e, "tuned", "merged");
    if (code == CLI_OK && t->branch && t->router && owners)
        code = tune_router(e, "btx", "btx-start");
    if (code == CLI_OK && t->joint && owners)
        code = train_joint(e, "joint", t->joint);
    if (code == CLI_OK && t->joint2 && owners)
        code = train_joint(e, "joint2", t->joint2);
    return code;
}

int eval_rehearse(evaluation *e)
{
    e->rehearsal = 1;
    const int code = eval_train(e);
    e->rehearsal = 0;
    return code;
}
