/* ft_federation: model + owners + indexes, opened from federation.yaml. The file
 * is read by libcyaml; an unknown key is an error with its line.
 *
 * Lifetime  all views live until ft_federation_close.
 * Threads   immutable once open. */
#ifndef FT_FEDERATION_H
#define FT_FEDERATION_H
#include "tracer/ft_trace.h"

FT_API_BEGIN

typedef struct ft_federation ft_federation;

typedef struct ft_federation_limits {
    uint64_t request_bytes;                         /* 1 MiB: a larger body is 413 */
    unsigned request_seconds;                       /* 90: to read a request, and to answer it without streaming */
    unsigned max_running, max_waiting, connections; /* 8, 64, 256 */
} ft_federation_limits;

/* `path`: a federation.yaml or a folder that holds one. Relative paths in it are
 * relative to its folder. Opens model, tokenizer and indexes, and checks that they
 * belong together: a tokenizer digest or vocabulary that differs, an expert number
 * that the model lacks, two owners of one name or expert are FT_ERR_FORMAT. */
FT_CHECKED ft_code ft_federation_open(ft_federation **out, const char *path, ft_status *st);
void ft_federation_close(ft_federation *f);

const char *ft_federation_name(const ft_federation *f);
const char *ft_federation_listen(const ft_federation *f); /* "127.0.0.1:8080" by default */
const char *ft_federation_store(const ft_federation *f);  /* folder; NULL: none */
ft_federation_limits ft_federation_get_limits(const ft_federation *f);
const ft_trace_scope *ft_federation_scope(const ft_federation *f);
const ft_model *ft_federation_model(const ft_federation *f);
const ft_tokenizer *ft_federation_tokenizer(const ft_federation *f);
/* Owner by name; NULL if none. */
const ft_owner *ft_federation_owner(const ft_federation *f, const char *name);
/* "scripture,2": owners' names or expert numbers to a bit set; FT_ERR_ARG names what is neither. */
FT_CHECKED ft_code ft_federation_experts(const ft_federation *f, const char *list, uint64_t *bits, ft_status *st);

FT_API_END
#endif
