/* flextrace eval: a recipe's systems trained and measured, as a table, CSV, JSON and a page. */
#include "api/cli/cli_eval_internal.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "model/eval/ft_eval_report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

cli_command cli_eval;

static const char help[] =
    "Usage: flextrace eval RECIPE.yaml [-o WORK] [OPTIONS]\n\n"
    "Measures systems: bits per byte of each domain, multiple choice, exact match, routing shares.\n"
    "Where the recipe says how, it first trains them: public model, owners' experts, merge, and\n"
    "their peers (dense branches, soup, ensemble, BTX-like, router tuning, joint). Every stage and\n"
    "every system is skipped where its result is there and what it was made of is unchanged; what was\n"
    "stopped or killed goes on when the same command is given again. docs/evaluation.md lists the keys.\n\n"
    "  -o WORK            folder of models and results (default: the recipe's name without .yaml,\n"
    "                     below the current folder); in it report.json, report.csv, report.html\n"
    "  --data FOLDER      where corpora and tasks with relative paths are (default: the recipe's\n"
    "                     folder); a path \"$NAME/file\" is below the folder in the environment's NAME\n"
    "  --only-train       stop before measuring\n"
    "  --threads N        0: one for each processor (default); figures do not depend on it\n"
    "  --json             the report as JSON instead of tables\n\n"
    "Examples:\n"
    "  flextrace eval demo/flexmix.yaml --data flexmix-mini -o flexmix\n"
    "  flextrace eval mine.yaml --json | jq '.systems[] | {name, mean}'\n";

/* --- Paths --------------------------------------------------------------------------------------- */

ft_code eval_path(char **out, const char *path, const char *folder, ft_status *st)
{
    *out = NULL;
    char name[64];
    const char *below = folder, *rest = path;
    if (*path == '$') {
        const size_t n = strcspn(path + 1, "/");
        snprintf(name, sizeof(name), "%.*s", n < sizeof(name) ? (int)n : 0, path + 1);
        below = getenv(name);
        rest = path[n + 1] ? path + n + 2 : ".";
        if (!below || !*below)
            return ft_fail(st, FT_ERR_ARG, "%s: set the environment's %s to the folder", path, name);
    }
    *out = below ? ft_path_join(below, rest) : strdup(rest);
    return *out ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

ft_code eval_data_path(char **out, const evaluation *e, const char *path, ft_status *st)
{
    return eval_path(out, path, e->data ? e->data : e->base, st);
}

ft_code eval_there(const char *path, ft_status *st)
{
    return ft_path_exists(path) ? FT_OK : ft_fail(st, FT_ERR_IO, "%s: cannot open: %s", path, strerror(ENOENT));
}

char *eval_work_path(const evaluation *e, const char *name, const char *file)
{
    char *folder = ft_path_join(e->out, name);
    if (!folder || !file)
        return folder;
    char *path = ft_path_join(folder, file);
    free(folder);
    return path;
}

char *eval_public_path(const evaluation *e)
{
    char *start = NULL;
    if (e->recipe->train->public)
        return eval_work_path(e, "public", "model");
    return eval_path(&start, e->recipe->train->start, e->base, NULL) ? NULL : start;
}

json_t *eval_read_mark(const char *path)
{
    json_t *mark = NULL;
    if (!ft_path_exists(path) || ft_json_read_file(&mark, path, 1 << 26, NULL))
        return NULL;
    return mark;
}

int eval_is_mark(const json_t *mark, const ft_digest *inputs)
{
    char hex[FT_DIGEST_HEX];
    const char *there = json_string_value(json_object_get(mark, "inputs"));
    ft_digest_hex(inputs, hex);
    return there && !strcmp(there, hex);
}

/* --- Opening --------------------------------------------------------------------------------------- */

static ft_code open_recipe(evaluation *e, ft_status *st)
{
    const char *slash = strrchr(e->recipe_path, '/');
    e->base = slash ? strndup(e->recipe_path, (size_t)(slash - e->recipe_path)) : strdup(".");
    if (!e->base)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    if (slash == e->recipe_path)
        e->base[0] = 0; /* below the root */
    const ft_code rc = ft_recipe_read(&e->recipe, e->recipe_path, st);
    return rc ? rc : ft_folder_make(e->out, st);
}

/* The recipe's, or that of the stage that trains one. */
static ft_code open_tokenizer(evaluation *e, ft_status *st)
{
    char *path = NULL;
    ft_code rc = FT_OK;
    if (e->recipe->tokenizer)
        rc = eval_path(&path, e->recipe->tokenizer, e->base, st);
    else if (!(path = eval_work_path(e, "tokenizer", NULL)))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_tokenizer_open(&e->tokenizer, path, st);
    free(path);
    return rc;
}

static ft_code open_texts(evaluation *e, ft_status *st)
{
    const ft_recipe *r = e->recipe;
    const uint64_t most = r->test_bytes ? (uint64_t)*r->test_bytes : 0;
    const size_t vocab = ft_tokenizer_vocab_size(e->tokenizer);
    ft_code rc = FT_OK;
    e->texts = ft_alloc_array(r->domains_count, sizeof(*e->texts));
    if (!e->texts)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    for (unsigned d = 0; d < r->domains_count && !rc; d++) {
        char *paths[256];
        unsigned n = 0;
        for (; n < r->domains[d].test_count && n < 256 && !rc; n++)
            rc = eval_data_path(&paths[n], e, r->domains[d].test[n], st);
        if (!rc)
            rc = ft_eval_text_open(&e->texts[d], (const char *const *)paths, n, e->tokenizer, vocab, most, NULL, st);
        while (n)
            free(paths[--n]);
    }
    return rc;
}

static ft_code open_tasks(char ***out, evaluation *e, const ft_recipe_task *tasks, unsigned count, ft_status *st)
{
    ft_code rc = FT_OK;
    *out = ft_alloc_array(count, sizeof(**out));
    if (!*out)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    for (unsigned i = 0; i < count && !rc; i++) {
        rc = eval_data_path(&(*out)[i], e, tasks[i].file, st);
        if (!rc)
            rc = eval_there((*out)[i], st);
    }
    return rc;
}

static ft_code open_setting(evaluation *e, ft_status *st)
{
    const ft_recipe *r = e->recipe;
    ft_code rc = open_texts(e, st);
    if (!rc)
        rc = open_tasks(&e->choices, e, r->choices, r->choices_count, st);
    if (!rc)
        rc = open_tasks(&e->exact, e, r->exact, r->exact_count, st);
    if (!rc)
        rc = ft_pool_new(&e->pool, e->threads, st);
    if (!rc)
        e->setting = (ft_eval_setting){.recipe = r,
                                       .tokenizer = e->tokenizer,
                                       .texts = e->texts,
                                       .choices = (const char *const *)e->choices,
                                       .exact = (const char *const *)e->exact,
                                       .pool = e->pool,
                                       .window = r->window ? (size_t)*r->window : 0};
    return rc;
}

static void close_all(evaluation *e)
{
    for (unsigned d = 0; e->texts && d < e->recipe->domains_count; d++)
        ft_eval_text_close(&e->texts[d]);
    for (unsigned i = 0; e->choices && i < e->recipe->choices_count; i++)
        free(e->choices[i]);
    for (unsigned i = 0; e->exact && i < e->recipe->exact_count; i++)
        free(e->exact[i]);
    free(e->texts);
    free(e->choices);
    free(e->exact);
    free(e->base);
    ft_pool_free(e->pool);
    ft_tokenizer_close(e->tokenizer);
    ft_recipe_free(e->recipe);
}

/* --- Results ------------------------------------------------------------------------------------------ */

static ft_code write_text(const evaluation *e, const char *name, const ft_buffer *text, ft_status *st)
{
    char *path = eval_work_path(e, name, NULL);
    const ft_code rc =
        path ? ft_file_write(path, text->data, text->size, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    free(path);
    return rc;
}

static ft_code write_report(const evaluation *e, const json_t *report, ft_status *st)
{
    typedef ft_code make_fn(const json_t *report, ft_buffer *out, ft_status *st);
    static const struct {
        const char *name;
        make_fn *make;
    } files[] = {{"report.json", ft_json_write}, {"report.csv", ft_eval_csv}, {"report.html", ft_eval_page}};
    ft_code rc = FT_OK;
    for (size_t i = 0; i < 3 && !rc; i++) {
        ft_buffer text = {0};
        rc = files[i].make(report, &text, st);
        if (!rc)
            rc = write_text(e, files[i].name, &text, st);
        ft_buffer_release(&text);
    }
    return rc;
}

static int show(const evaluation *e, json_t *report, ft_status *st)
{
    if (e->json)
        return cli_print_json(json_incref(report));
    ft_buffer table = {0};
    const ft_code rc = ft_eval_table(report, &table, st);
    if (!rc)
        printf("%s\n%s/report.html, report.csv, report.json\n", table.data, e->out);
    ft_buffer_release(&table);
    return rc ? cli_fail(st) : CLI_OK;
}

static int measure(evaluation *e)
{
    ft_status st = {0};
    json_t *report = NULL;
    ft_code rc = eval_measure(e, &report, &st);
    if (!rc)
        rc = ft_eval_compare(report, &st);
    if (!rc)
        rc = write_report(e, report, &st);
    const int code = rc ? cli_fail(&st) : show(e, report, &st);
    json_decref(report);
    return code;
}

/* All that is read is looked at before anything is trained. */
static int work(evaluation *e)
{
    ft_status st = {0};
    int code = CLI_OK;
    ft_code rc = open_recipe(e, &st);
    if (!rc && e->recipe->train)
        code = eval_rehearse(e);
    if (!rc && code == CLI_OK && !e->recipe->tokenizer)
        code = eval_train_tokenizer(e);
    if (!rc && code == CLI_OK)
        rc = open_tokenizer(e, &st);
    if (!rc && code == CLI_OK && !e->only_train)
        rc = open_setting(e, &st);
    if (rc)
        return cli_fail(&st);
    if (code == CLI_OK && e->recipe->train)
        code = eval_train(e);
    return code == CLI_OK && !e->only_train ? measure(e) : code;
}

static int take(void *context, const char *name, const char *value)
{
    evaluation *e = context;
    long long threads;
    if (!name && e->recipe_path)
        return cli_usage("eval", "one RECIPE, not also '%.60s'", value);
    if (!name)
        e->recipe_path = value;
    else if (!strcmp(name, "output"))
        e->out = value;
    else if (!strcmp(name, "data"))
        e->data = value;
    else if (!strcmp(name, "only-train"))
        e->only_train = 1;
    else if (!strcmp(name, "json"))
        e->json = 1;
    else if (!cli_integer("eval", name, value, 0, 1024, &threads))
        return CLI_USAGE;
    else
        e->threads = (unsigned)threads;
    return CLI_OK;
}

int cli_eval(int argc, char **argv)
{
    static const cli_option options[] = {{"output", 'o', 1}, {"data", 0, 1},   {"only-train", 0, 0}, {"threads", 0, 1},
                                         {"json", 0, 0},     {"help", 'h', 0}, {NULL, 0, 0}};
    cli_args a = {.subcommand = "eval", .options = options, .argc = argc, .argv = argv};
    evaluation e = {0};
    char work_folder[256];
    int helped;
    int code = cli_take_all(&a, help, take, &e, &helped);
    if (code != CLI_OK || helped)
        return code;
    if (!e.recipe_path)
        return cli_usage("eval", "needs a RECIPE.yaml");
    if (!e.out) {
        const char *slash = strrchr(e.recipe_path, '/'), *file = slash ? slash + 1 : e.recipe_path;
        snprintf(work_folder, sizeof(work_folder), "%.*s", (int)strcspn(file, "."), file);
        e.out = work_folder[0] ? work_folder : "eval";
    }
    code = work(&e);
    close_all(&e);
    return code;
}
