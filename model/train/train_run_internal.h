/* train_run_internal: what the training loop's files share. */
#ifndef FT_TRAIN_RUN_INTERNAL_H
#define FT_TRAIN_RUN_INTERNAL_H
#include "model/train/ft_ledger.h"
#include "model/train/ft_noise.h"
#include "model/train/ft_train_run.h"
#include "model/train/train_checkpoint.h"

typedef struct ft_run {
    ft_trainer *t;
    const ft_train_options *o;
    ft_train_state state;
    char *checkpoint, *metrics, *curve; /* paths */
    int32_t *ids, *labels, *domains;    /* [capacity, length] */
    uint32_t *begin;
    size_t capacity; /* sequences */
    uint64_t last_checkpoint;
    /* Of a private run. */
    uint64_t examples;
    double rate; /* sampling */
    char name[FT_LEDGER_RUN], data[FT_DIGEST_HEX];
    ft_ledger **ledgers; /* [o->ledger_count] */
} ft_run;

/* Room for so many sequences; what was in it is gone. */
FT_CHECKED ft_code ft_run_reserve(ft_run *r, size_t sequences, ft_status *st);
/* Sequences from … to - 1 of the room. */
ft_batch ft_run_part(const ft_run *r, size_t from, size_t to, int packed);
size_t ft_run_labelled(const ft_run *r, size_t from, size_t to);

/* --- train_private.c --- */

/* Opens the ledgers; *end is how many steps the budget allows, at most o->steps. After the checkpoint was read. */
FT_CHECKED ft_code ft_run_budget(ft_run *r, uint64_t *end, ft_train_report *out, ft_status *st);
/* Before steps up to `end` are done. */
FT_CHECKED ft_code ft_run_set_aside(ft_run *r, uint64_t end, ft_status *st);
FT_CHECKED ft_code ft_run_private_gradients(ft_run *r, uint64_t step, ft_train_metrics *m, ft_status *st);
FT_CHECKED ft_code ft_run_spent(ft_run *r, ft_train_report *out, ft_status *st);
void ft_run_close_ledgers(ft_run *r);

/* --- train_curve.c --- */

/* A number of one line of metrics.jsonl, `field` as it is written there ("\"loss\":"); 0 where it is not. */
int ft_metric(const char *line, const char *field, double *out);
/* The curve of a metrics.jsonl as SVG. */
FT_CHECKED ft_code ft_train_curve(const char *metrics, const char *svg, ft_status *st);
#endif
