/* ft_eval_recipe: what an evaluation recipe says (docs/evaluation.md lists the keys).
 *
 * Paths are as written: relative ones are the reader's to join.
 * Errors  as base/yaml_read.h: "PATH:LINE: …"; an unknown key is one.
 * Threads any. */
#ifndef FT_EVAL_RECIPE_H
#define FT_EVAL_RECIPE_H
#include "base/ft_status.h"

#include <stdint.h>

FT_API_BEGIN

typedef struct ft_recipe_domain {
    char *name;
    char **train, **proxy, **test;
    unsigned train_count, proxy_count, test_count;
    char *expert; /* options of its expert, after those of all experts; NULL: none */
} ft_recipe_domain;

/* A tokenizer of `size` entries, trained on the training text of these domains (none: the first). */
typedef struct ft_recipe_tokenizer {
    int64_t *size;
    char **domains, *split; /* split: as `flextrace tokenizer train` has it; NULL: its default */
    unsigned domains_count;
} ft_recipe_tokenizer;

/* Options of `flextrace train`, as one would write them; NULL: that stage, and what needs it, is left out. */
typedef struct ft_recipe_train {
    char *start; /* a folder with config.json, and with the tokenizer where none is trained; without `public`, it is
                    the public model, with its weights */
    ft_recipe_tokenizer *tokenizer; /* NULL: the recipe names one */
    char *public, *expert, *branch, *router, *joint, *joint2;
} ft_recipe_train;

/* A model that is there already, or a mix of systems named before. */
typedef struct ft_recipe_system {
    char *name, *model;
    int64_t *without; /* experts */
    unsigned without_count;
    char **mix;
    unsigned mix_count;
    int64_t *top;
} ft_recipe_system;

typedef struct ft_recipe_task {
    char *name, *file, *after, *stop;
    int64_t *limit, *new_tokens;
} ft_recipe_task;

typedef struct ft_recipe {
    char *name, *tokenizer; /* tokenizer NULL: train->tokenizer */
    int64_t *window, *test_bytes, *seed;
    ft_recipe_domain *domains; /* the first is the public one; those after it with `train` are owners' */
    unsigned domains_count;
    ft_recipe_train *train;
    ft_recipe_system *systems;
    unsigned systems_count;
    ft_recipe_task *choices, *exact;
    unsigned choices_count, exact_count;
} ft_recipe;

/* FT_ERR_FORMAT also for names that are used twice or make no file name, a mix of what is not there, nothing to
 * measure. */
FT_CHECKED ft_code ft_recipe_read(ft_recipe **out, const char *path, ft_status *st);
void ft_recipe_free(ft_recipe *r); /* NULL is allowed */

FT_API_END
#endif
