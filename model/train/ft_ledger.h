/* ft_ledger: what private runs have spent of one body of data, in a file that outlives their checkpoints.
 *
 * A line of JSON says that a run may have done so many steps: it is appended and synced before the first of these
 * steps, so that a run killed at any instant has spent no more than its ledger says. Everything in one ledger adds
 * up, also when the corpus was changed since: use one ledger for one body of data.
 *   {"format":"flextrace-ledger-1","run":ID,"data":SHA-256,"example":TEXT,"sampling_rate":q,"noise_multiplier":s,
 *    "steps":n}
 * The last line of a run counts. ID is a digest of the run's secret key: a run that goes on from its checkpoint
 * draws what it would have drawn, and spends nothing twice. What is left of a line that a crash cut off is taken away.
 * Who deletes or edits the file resets the count: nothing on the owner's own machine can keep the owner from that.
 * Threads  one owner; the file is locked while it is open, against other processes too. */
#ifndef FT_LEDGER_H
#define FT_LEDGER_H
#include "model/train/ft_privacy.h"

FT_API_BEGIN

typedef struct ft_ledger ft_ledger;
enum { FT_LEDGER_RUN = 33 }; /* bytes of a run's name, with the terminator */

/* Opens, or makes, the file. `example` is what a run counts as one example: budgets of different ones do not add.
 *   FT_ERR_LIMIT   another run has it open
 *   FT_ERR_FORMAT  a line that is none, or runs with another example (says which) */
FT_CHECKED ft_code ft_ledger_open(ft_ledger **out, const char *path, const char *example, ft_status *st);
void ft_ledger_close(ft_ledger *l);

/* What runs other than `run` have spent: *count mechanisms, the ledger's until it is closed or appended to. */
const ft_privacy_mechanism *ft_ledger_others(ft_ledger *l, const char *run, size_t *count);
/* Steps that `run` has set aside; 0 where it is not there. */
uint64_t ft_ledger_steps(const ft_ledger *l, const char *run);
/* m->steps steps of `run`, all of them, may have been done from here on. Nothing where that is known already.
 *   FT_ERR_IO  a full disk: nothing was set aside */
FT_CHECKED ft_code ft_ledger_set_aside(ft_ledger *l, const char *run, const char *data, const ft_privacy_mechanism *m,
                                       ft_status *st);

FT_API_END
#endif
