/* cli_train_internal: what the verbs of `flextrace train` share. */
#ifndef FT_CLI_TRAIN_INTERNAL_H
#define FT_CLI_TRAIN_INTERNAL_H
#include "api/cli/cli.h"
#include "model/train/ft_router_start.h"
#include "model/train/ft_train_run.h"

cli_command cli_train_step;
cli_command cli_train_public; /* cli_train_run.c */
cli_command cli_train_expert;
cli_command cli_train_router;
cli_command cli_train_joint;
cli_command cli_train_direction; /* cli_train_direction.c */

enum { CLI_ROUTER_WINDOWS = 256 }; /* of public text, behind router.safetensors */

/* A run as the command line asked for it. */
typedef struct cli_train_request {
    ft_train_mode mode;
    int expert, json, bfloat16; /* expert: mode is FT_TRAIN_EXPERT */
    int dry_run;
    int joint, constant_channel;
    long long experts; /* joint: how many the model starts with; 0: as it is */
    const char *verb, *model, *out, *owner, *tokenizer;
    const char **corpus, **public_corpus, **held_out;
    size_t corpora, public_corpora, held_outs;
    int32_t *corpus_domain; /* [corpora]: an expert's number, or -1 */
    long long domain;       /* of the corpora that follow */
    ft_trainer_options trainer;
    ft_train_options run;
    int z_given, example_given;
    unsigned long long memory; /* 0: no ceiling */
    /* Of `train expert`. */
    const char *router, *ledger;
    int init_given, keep_bias, public_has_router;
    ft_router_init init;
    ft_router_public public_router;
    ft_train_data *held;
    ft_fold_report fold; /* tokens 0: nothing was measured */
} cli_train_request;

/* --- cli_train.c --- */

/* --precision: 1, or 0 when a usage error was printed. */
int cli_train_precision(const char *verb, const char *value, int *bfloat16);
/* Holds the run to --memory. */
FT_CHECKED ft_code cli_train_fit(cli_train_request *r, ft_trainer *t, ft_status *st);

/* --- cli_train_direction.c --- */

/* The public model in `folder`, for its states alone. */
FT_CHECKED ft_code cli_train_open_public(ft_trainer **t, const char *folder, unsigned threads, ft_status *st);
/* Makes `path` from the model in `folder`; shows nothing. */
FT_CHECKED ft_code cli_train_make_direction(const char *folder, ft_train_data *text, size_t length, unsigned threads,
                                            const char *path, uint64_t *tokens, ft_status *st);

/* --- cli_train_expert.c --- */

/* The public router's row, found or made; the pair's rows and bias set. */
FT_CHECKED ft_code cli_train_start_router(cli_train_request *r, ft_parameters *pair, ft_status *st);
/* Where the corpora's ledgers are: run.ledgers, the request's until cli_train_forget_ledgers. */
FT_CHECKED ft_code cli_train_find_ledgers(cli_train_request *r, ft_status *st);
void cli_train_forget_ledgers(cli_train_request *r);
/* Folds the biases, unless they are kept. */
FT_CHECKED ft_code cli_train_fold(cli_train_request *r, ft_trainer *t, ft_status *st);
/* What the run was: the summary, and for an expert the manifest. */
json_t *cli_train_record(const cli_train_request *r, const ft_train_report *report);
const char *cli_train_init_name(ft_router_init init);
/* 1 where `text` names one. */
int cli_train_init_named(const char *text, ft_router_init *out);
#endif
