/* flextrace train expert: how an owner's router begins, what becomes of its bias, and what the manifest says. */
#include "api/cli/cli_train_internal.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"

#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { START_WINDOWS = 64, FOLD_WINDOWS = 64 };

static const char *const inits[] = {[FT_ROUTER_PUBLIC] = "public",
                                    [FT_ROUTER_MEAN] = "mean",
                                    [FT_ROUTER_DISCRIMINANT] = "discriminant",
                                    [FT_ROUTER_WHITENED] = "whitened"};

const char *cli_train_init_name(ft_router_init init)
{
    return inits[init];
}

int cli_train_init_named(const char *text, ft_router_init *out)
{
    for (int i = 0; i < 4; i++)
        if (!strcmp(text, inits[i])) {
            *out = (ft_router_init)i;
            return 1;
        }
    return 0;
}

/* --- Start ----------------------------------------------------------------------------------------- */

/* From --router, from beside the public model, or made from public text. */
static ft_code find_public_router(cli_train_request *r, ft_trainer *public, const ft_model_config *c, ft_status *st)
{
    char *beside = ft_path_join(r->model, "router.safetensors");
    ft_code rc = beside ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", r->model);
    if (!rc && (r->router || ft_path_exists(beside)))
        rc = ft_router_public_open(&r->public_router, r->router ? r->router : beside, c, st);
    else if (!rc && r->run.public_data)
        rc =
            ft_router_public_make(&r->public_router, public, r->run.public_data, r->run.length, CLI_ROUTER_WINDOWS, st);
    else if (!rc)
        rc = ft_fail(st, FT_ERR_NOT_FOUND,
                     "%s: is not there, so that the expert's bias could not be folded; make it from public text with "
                     "'flextrace train direction %s --corpus C', or give --public-corpus",
                     beside, r->model);
    free(beside);
    return rc;
}

/* The best start that what is there allows. */
static ft_router_init best_init(const cli_train_request *r)
{
    if (r->run.dp_clip > 0)
        return FT_ROUTER_PUBLIC;
    if (r->run.public_data)
        return FT_ROUTER_DISCRIMINANT;
    return r->public_router.mean ? FT_ROUTER_MEAN : FT_ROUTER_PUBLIC;
}

ft_code cli_train_start_router(cli_train_request *r, ft_parameters *pair, ft_status *st)
{
    ft_trainer *public = NULL;
    ft_code rc = cli_train_open_public(&public, r->model, r->trainer.threads, st);
    if (!rc)
        rc = find_public_router(r, public, &pair->config, st);
    if (!rc && !r->init_given)
        r->init = best_init(r);
    const ft_router_start_options o = {.init = r->init,
                                       .owner = r->run.data,
                                       .public = r->run.public_data,
                                       .length = r->run.length,
                                       .windows = START_WINDOWS};
    if (!rc)
        rc = ft_router_start(pair, &r->public_router, !r->public_has_router, public, &o, st);
    r->run.start = cli_train_init_name(r->init);
    ft_trainer_close(public);
    return rc;
}

/* --- Ledgers --------------------------------------------------------------------------------------- */

/* ".NAME.privacy-ledger" beside the corpus, wherever it was named from. */
static char *ledger_beside(const char *corpus)
{
    char *full = realpath(corpus, NULL), *copy = full ? strdup(full) : NULL, *out = NULL;
    if (copy) {
        const char *name = strrchr(full, '/');
        char file[512];
        snprintf(file, sizeof(file), ".%.480s.privacy-ledger", name ? name + 1 : full);
        out = ft_path_join(dirname(copy), file);
    }
    free(full);
    free(copy);
    return out;
}

ft_code cli_train_find_ledgers(cli_train_request *r, ft_status *st)
{
    const size_t n = r->ledger ? 1 : r->corpora;
    char **paths = ft_alloc_array(n, sizeof(*paths));
    ft_code rc = paths ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < n && !rc; i++) {
        paths[i] = r->ledger ? strdup(r->ledger) : ledger_beside(r->corpus[i]);
        if (!paths[i])
            rc = ft_fail(st, FT_ERR_IO, "%s: %s; name a ledger with --ledger", r->corpus[i], strerror(errno));
        for (size_t k = 0; k < i && !rc; k++) /* a corpus that was named twice */
            if (!strcmp(paths[k], paths[i]))
                rc = ft_fail(st, FT_ERR_ARG, "%s: given twice", r->corpus[i]);
    }
    r->run.ledgers = (const char *const *)paths;
    r->run.ledger_count = n;
    return rc;
}

void cli_train_forget_ledgers(cli_train_request *r)
{
    char **paths = (char **)(uintptr_t)r->run.ledgers;
    for (size_t i = 0; paths && i < r->run.ledger_count; i++)
        free(paths[i]);
    free((void *)paths);
    r->run.ledgers = NULL;
    r->run.ledger_count = 0;
}

/* --- Fold ------------------------------------------------------------------------------------------ */

ft_code cli_train_fold(cli_train_request *r, ft_trainer *t, ft_status *st)
{
    if (r->keep_bias)
        return FT_OK;
    return ft_router_fold_measured(t, &r->public_router, r->held ? r->held : r->run.data, r->run.length, FOLD_WINDOWS,
                                   &r->fold, st);
}

/* --- Manifest -------------------------------------------------------------------------------------- */

static json_t *epsilon_json(double epsilon)
{
    return isfinite(epsilon) ? json_real(epsilon) : json_null();
}

static json_t *privacy_json(const cli_train_request *r, const ft_train_report *report)
{
    const ft_train_options *o = &r->run;
    char example[160];
    if (o->example_document)
        snprintf(example, sizeof(example), "one document, whatever its length");
    else
        snprintf(example, sizeof(example), "at most %zu tokens of one document; a longer document is several examples",
                 o->length);
    return json_pack("{s:o, s:f, s:s, s:o, s:I, s:f, s:f, s:I, s:f, s:s, s:s, s:s, s:s, s:s}", "epsilon",
                     epsilon_json(report->spent.epsilon), "delta", o->delta, "accountant",
                     report->accountant == FT_ACCOUNTANT_PLD ? "pld" : "rdp", "epsilon_of_this_run",
                     epsilon_json(report->own.epsilon), "earlier_runs", (json_int_t)report->earlier_runs,
                     "noise_multiplier", o->noise_multiplier, "sampling_rate", report->sampling_rate, "steps",
                     (json_int_t)report->steps_done, "clip", o->dp_clip, "sampling", "Poisson", "example", example,
                     "neighbours", "one example more or less", "router_start", "public text alone",
                     "number_of_examples", o->examples ? "declared" : "batch / sampling_rate, exact");
}

static json_t *router_json(const cli_train_request *r)
{
    json_t *j = json_pack("{s:s, s:s, s:I}", "init", cli_train_init_name(r->init), "bias",
                          r->keep_bias ? "kept" : "folded", "public_tokens", (json_int_t)r->public_router.tokens);
    if (j && r->fold.tokens && r->run.dp_clip <= 0) /* figures of the owner's text do not leave a private run */
        json_object_set_new(j, "fold",
                            json_pack("{s:f, s:f, s:f, s:I, s:s}", "bits_per_byte_exact", r->fold.exact,
                                      "bits_per_byte_folded", r->fold.folded, "same_first_choice", r->fold.agreement,
                                      "tokens", (json_int_t)r->fold.tokens, "text",
                                      r->held ? "held out" : "the training text"));
    return j;
}

/* What depends on the owner's text beyond the noised gradients: no private run's manifest has it. */
static int add_counts(json_t *j, const cli_train_request *r, const ft_train_report *report)
{
    char data[FT_DIGEST_HEX];
    const ft_digest d = ft_train_data_digest(r->run.data);
    ft_digest_hex(&d, data);
    json_t *counts = json_pack("{s:I, s:f, s:s, s:I}", "tokens", (json_int_t)report->tokens, "loss", report->last.loss,
                               "data", data, "documents", (json_int_t)ft_train_data_documents(r->run.data));
    const int bad = !counts || json_object_update(j, counts);
    json_decref(counts);
    return bad;
}

json_t *cli_train_record(const cli_train_request *r, const ft_train_report *report)
{
    const ft_train_options *o = &r->run;
    int bad = 0;
    json_t *j =
        json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:I}", "format", "flextrace-expert-1", "steps",
                  (json_int_t)report->steps_done, "batch", (json_int_t)o->batch, "length", (json_int_t)o->length,
                  "rate", o->adamw.rate, "z_loss", o->z_loss, "seed", (json_int_t)o->seed);
    if (j && o->dp_clip <= 0)
        bad |= add_counts(j, r, report);
    if (j && r->owner)
        bad |= json_object_set_new(j, "owner", json_string(r->owner));
    if (j && r->expert)
        bad |= json_object_set_new(j, "router", router_json(r));
    if (j && o->dp_clip > 0)
        bad |= json_object_set_new(j, "privacy", privacy_json(r, report));
    if (!bad)
        return j;
    json_decref(j);
    return NULL;
}
