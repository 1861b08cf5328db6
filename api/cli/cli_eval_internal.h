/* cli_eval_internal: what the files of `flextrace eval` share.
 *
 * Files in the work folder
 *   STAGE/stage.json     {"inputs": hex, "done": bool}: what the stage was made of
 *   STAGE/model          its model (STAGE as `flextrace train` leaves it)
 *   results/NAME.json    {"inputs": hex, "result": {…}} of a system; NAME.npy: its tokens' log2 p
 *   report.json, report.csv, report.html */
#ifndef FT_CLI_EVAL_INTERNAL_H
#define FT_CLI_EVAL_INTERNAL_H
#include "api/cli/cli.h"

#include "base/ft_digest.h"
#include "model/eval/ft_eval_system.h"

enum { EVAL_NAME = 160, EVAL_MIX = 64 };

typedef struct evaluation {
    const char *recipe_path, *data, *out, *tokenizer_path;
    char *base; /* the recipe's folder */
    int json, only_train;
    int rehearsal; /* stages check their options and that their corpora are there, and do nothing else */
    unsigned threads;
    ft_recipe *recipe;
    ft_tokenizer *tokenizer;
    ft_eval_setting setting;
    ft_eval_text *texts;
    char **choices, **exact; /* tasks' files */
    ft_pool *pool;
    size_t stages;            /* begun so far */
    ft_digest public_weights; /* of a public model that is there already */
} evaluation;

/* A path of the recipe, where it is: "$NAME/…" below the environment's folder, else below `folder` (NULL: as it is).
 * The caller frees it. FT_ERR_ARG: the variable is not set. */
FT_CHECKED ft_code eval_path(char **out, const char *path, const char *folder, ft_status *st);
/* Data: below --data, else the recipe's folder. Everything else: the recipe's folder. */
FT_CHECKED ft_code eval_data_path(char **out, const evaluation *e, const char *path, ft_status *st);

/* FT_ERR_IO where there is nothing. */
FT_CHECKED ft_code eval_there(const char *path, ft_status *st);

/* "WORK/NAME/FILE"; file NULL: the folder. The caller frees it. NULL: out of memory. */
char *eval_work_path(const evaluation *e, const char *name, const char *file);
/* The public model's folder: the stage's, or the recipe's start where the recipe trains none. As above. */
char *eval_public_path(const evaluation *e);
/* {"inputs","done"|"result"} of a file; NULL where there is none that can be read. */
json_t *eval_read_mark(const char *path);
int eval_is_mark(const json_t *mark, const ft_digest *inputs);

/* --- cli_eval_stages.c: trains what the recipe's `train` asks for. Exit codes; what failed was told. --- */
int eval_train(evaluation *e);
/* What a later stage would stop at, after hours, is said before the first: its options and its corpora. */
int eval_rehearse(evaluation *e);
/* The folder "tokenizer": the recipe's tokenizer trained, and config.json of the start with its vocabulary. */
int eval_train_tokenizer(evaluation *e);
/* 1 where the recipe has the stages that make such systems. */
int eval_has_owners(const evaluation *e);
int eval_is_owner(const evaluation *e, unsigned domain);

/* --- cli_eval_systems.c: measures all systems. *report is the caller's. --- */
FT_CHECKED ft_code eval_measure(evaluation *e, json_t **report, ft_status *st);
#endif
