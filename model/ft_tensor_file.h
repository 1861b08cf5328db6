/* ft_tensor_file: a .safetensors file written tensor by tensor, which appears whole or
 * not at all, and whose writing can be stopped anywhere and taken up again.
 *
 * What is written stands in PATH.part; PATH.journal says which tensors of it are whole
 * and on the disk. A writer that finds both, for the same work, goes on with the rest.
 * The journal outlives the commit, so that whoever writes several files knows which of
 * them belong to its work; ft_tensor_file_forget removes it.
 *
 * Layout    the header is filled up so that data begins at a multiple of 4096; its
 *           "__metadata__" holds for each tensor NAME "sha256:NAME", and for each
 *           tensor of the source that it was made from "source_sha256:NAME".
 * Threads   one owner; ft_tensor_file_put may be called from any thread. */
#ifndef FT_TENSOR_FILE_H
#define FT_TENSOR_FILE_H
#include "base/ft_digest.h"
#include "base/ft_status.h"
#include "model/ft_safetensors.h"

/* A tensor to write. Names and dtypes are borrowed. */
typedef struct ft_tensor_spec {
    const char *name, *dtype, *source; /* source: name of the tensor it is made from; NULL: of none */
    unsigned dims;
    size_t shape[FT_TENSOR_MAX_DIMS];
    uint64_t bytes, offset;          /* offset in the data: ft_tensor_file_open sets it */
    ft_digest digest, source_digest; /* the caller sets them before ft_tensor_file_done */
    int done;                        /* whole and on the disk, or soon will be */
} ft_tensor_spec;

typedef struct ft_tensor_file {
    char *path, *part, *journal;
    ft_tensor_spec *specs; /* the caller's; laid out in this order */
    size_t count;
    int fd, journal_fd;
    uint64_t data_at, since_sync;
    size_t *pending, pending_count; /* done, not yet in the journal */
    int finished;                   /* the file was there already, whole */
} ft_tensor_file;

/* `work` names what the file is made of: what another work left is written anew. Sets
 * offset, and for tensors that are there done and digests, of each spec. */
FT_CHECKED ft_code ft_tensor_file_open(ft_tensor_file *f, const char *path, ft_tensor_spec *specs, size_t count,
                                       const ft_digest *work, ft_status *st);
/* Bytes `at` … of a tensor. */
FT_CHECKED ft_code ft_tensor_file_put(const ft_tensor_file *f, size_t spec, uint64_t at, const void *bytes, size_t n,
                                      ft_status *st);
/* All of that tensor was put, its digests are set. */
FT_CHECKED ft_code ft_tensor_file_done(ft_tensor_file *f, size_t spec, ft_status *st);
/* Header, sync, rename; all tensors are done. */
FT_CHECKED ft_code ft_tensor_file_commit(ft_tensor_file *f, ft_status *st);
void ft_tensor_file_close(ft_tensor_file *f); /* keeps what is on the disk; a zeroed struct is allowed */
void ft_tensor_file_forget(const char *path); /* removes PATH.journal */
#endif
