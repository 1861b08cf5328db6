/* ft_fingerprint: which model it is that computed: digests of all its weights and of
 * each expert's, and an identity that costs nothing and says when they need not be
 * read again.
 *
 * Digest    SHA-256 over one record a tensor, in byte order of the names: name, dtype
 *           and shape as text, each ended by NUL, then the SHA-256 of its bytes. Of the
 *           model: all tensors (ft_model_digest). Of an expert: those whose name holds
 *           ".experts.E."; the router's rows, which are one tensor, are the model's.
 *           An expert that is left out has no digest and no record in the model's; of a
 *           tensor that holds all experts, its part of the bytes is passed over.
 * Identity  SHA-256 over name, size, inode, and times of change of the files that the
 *           model was opened from and of config.json. Whoever writes to one of them
 *           changes it; whoever may set the machine's clock can forge it.
 * Threads   any. */
#ifndef FT_FINGERPRINT_H
#define FT_FINGERPRINT_H
#include "base/ft_progress.h"
#include "model/ft_model.h"

FT_API_BEGIN

typedef struct ft_model_digests {
    ft_digest model, config; /* config: of the bytes of config.json */
    ft_digest experts[FT_MAX_EXPERTS];
    size_t expert_count; /* 0 of a dense model */
    uint64_t unread;     /* bit e: expert e was left out; its digest is zero */
} ft_model_digests;

/* Of the files as they were when the model was opened. */
ft_digest ft_model_identity(const ft_model *m);

/* Reads all weights but those of the experts in `without`, by file and not through the
 * mapping. Some 0.3 GB/s on one core.
 *   FT_ERR_CANCELLED  by progress
 *   FT_ERR_IO         a file cannot be read, or is not the one that was opened any more */
FT_CHECKED ft_code ft_model_digests_read(const ft_model *m, uint64_t without, const ft_progress *progress,
                                         ft_model_digests *out, ft_status *st);

FT_API_END
#endif
