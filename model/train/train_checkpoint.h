/* train_checkpoint: the file a run goes on from.
 *
 * Layout   "FTTRAIN1", u64 bytes of JSON, JSON {"step","tokens","run"}, 32 bytes key, then for
 *          each trained tensor value, first and second moment (float32); SHA-256 of all before it. */
#ifndef FT_TRAIN_CHECKPOINT_H
#define FT_TRAIN_CHECKPOINT_H
#include "model/train/ft_noise.h"
#include "model/train/ft_trainer.h"

typedef struct ft_train_state {
    uint64_t step, tokens; /* done */
    unsigned char key[FT_NOISE_KEY_BYTES];
    const char *run; /* what the run is: a checkpoint of another one is refused */
} ft_train_state;

FT_CHECKED ft_code ft_train_checkpoint_write(const char *path, ft_trainer *t, const ft_train_state *s, ft_status *st);
/* Sets step, tokens, key and the trainer's tensors; FT_ERR_NOT_FOUND where there is none. */
FT_CHECKED ft_code ft_train_checkpoint_read(const char *path, ft_trainer *t, ft_train_state *s, ft_status *st);
/* Removes what a run that was killed while it wrote `path` left beside it. Nobody else may be writing there. */
void ft_train_checkpoint_tidy(const char *folder);
#endif
