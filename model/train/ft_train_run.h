/* ft_train_run: the training loop, its checkpoints and its metrics.
 *
 * Files in the run's folder
 *   checkpoint     step, trained tensors, optimizer state, the key of the private draws, SHA-256 at
 *                  the end; replaced by rename, so that a run killed at any instant goes on
 *                  from the last one, bit for bit as if it had not been killed.
 *   metrics.jsonl  a line a step: step, loss, ce, z, domain, grad_norm, rate, tokens, seconds.
 *   curve.svg      loss and rate over the steps, drawn from it with each checkpoint.
 *
 * Differential privacy: with dp_clip > 0 each step draws every example with probability
 * batch / examples from a secret stream, clips each example's gradient, adds noise to
 * the sum and divides by the expected batch; a gradient of public text, which is not private, may be mixed in. An
 * example is at most `length` tokens of one document, or a whole document. The run stops before a step that would
 * exceed epsilon, with all that the ledgers say was spent before. The checkpoint counts the steps, and the ledgers
 * know of them before they are done: neither going on nor another folder resets the count. Metrics, curve and
 * checkpoint are the owner's: nothing in them is noised.
 * Threads   one owner of trainer and data. */
#ifndef FT_TRAIN_RUN_H
#define FT_TRAIN_RUN_H
#include "model/train/ft_privacy.h"
#include "model/train/ft_train_data.h"
#include "model/train/ft_trainer.h"

FT_API_BEGIN

typedef struct ft_train_metrics {
    uint64_t step, steps, tokens; /* step counts from 1; tokens of this step */
    double loss, ce, z, domain, grad_norm, rate, seconds;
} ft_train_metrics;

typedef struct ft_train_options {
    const char *folder;
    uint64_t steps;
    size_t batch, micro, length; /* sequences a step, sequences at a time, tokens a sequence */
    ft_adamw adamw;              /* rate is the highest */
    ft_schedule schedule;
    uint64_t warmup, decay;
    double least;       /* the last rate, as a share of the highest */
    double clip;        /* global norm; 0: none */
    double z_loss;      /* the trainer's, for the record */
    double router_rate; /* likewise */
    double domain_loss; /* likewise; > 0 asks the data for domains */
    int bfloat16;       /* likewise */
    uint64_t seed;
    uint64_t checkpoint_every;         /* 0: at the end alone */
    uint64_t stop_after;               /* 0: none; as if killed cleanly after this step, for tests and stages */
    ft_train_data *data, *public_data; /* public_data may be NULL */
    double public_share;               /* of the windows, by chance that the seed decides */
    const char *start;                 /* how the trained values began, for the record; may be NULL */
    /* Differential privacy; dp_clip 0: none. */
    double dp_clip, noise_multiplier, epsilon, delta;
    ft_accountant accountant;
    int example_document; /* an example is a whole document */
    uint64_t examples;    /* how many are said to be there: the sampling rate is batch / examples; 0: those that are */
    const char *const *ledgers; /* paths: one for each body of data that the corpus holds (ft_ledger.h) */
    size_t ledger_count;        /* 0: this run's own steps alone count */
    /* Returns not 0 to stop with FT_ERR_CANCELLED, after a checkpoint. May be NULL. */
    int (*on_step)(void *context, const ft_train_metrics *m);
    void *context;
} ft_train_options;

typedef struct ft_train_report {
    uint64_t steps_done, resumed_at, tokens;
    ft_train_metrics last; /* also of a run that was complete before */
    int budget_reached;
    double sampling_rate;
    /* Of a private run: with all that its ledgers say, and by itself. */
    ft_privacy_spent spent, own;
    ft_accountant accountant; /* that `spent` is by */
    size_t earlier_runs;      /* that `spent` holds too */
} ft_train_report;

/*   FT_ERR_FORMAT     a checkpoint that is damaged or of another run (says what differs), or a
 *                     step whose loss or gradient is not finite: names the tensor; the last
 *                     good checkpoint stays
 *   FT_ERR_LIMIT      a budget that does not allow one step, or is spent; a ledger that another run has open
 *   FT_ERR_IO         among others a full disk: the last checkpoint stays whole
 *   FT_ERR_CANCELLED  on_step said so; goes on when called again */
FT_CHECKED ft_code ft_train_run(ft_trainer *t, const ft_train_options *o, ft_train_report *out, ft_status *st);

FT_API_END
#endif
