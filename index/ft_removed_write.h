/* ft_removed_write: the two files that take documents out of a segment. Internal to
 * index/; docs/index-format.md. Nothing refers to them until a manifest does. */
#ifndef FT_REMOVED_WRITE_H
#define FT_REMOVED_WRITE_H
#include "base/ft_threads.h"
#include "index/ft_part.h"

/* Writes removed-documents-GENERATION and removed-ranks-GENERATION into `folder`, the
 * part's own or a copy of it. `numbers`: all `count` >= 1 documents of the part that are
 * removed from now on, earlier ones included, as the files number them, rising. *tokens:
 * how many tokens they hold. One pass over the suffixes by all threads of the pool, which
 * may be NULL; memory: two bits for each of the part's tokens.
 *   FT_ERR_ARG  a number that the part has not, or that does not rise */
FT_CHECKED ft_code ft_removed_write(const char *folder, uint64_t generation, const ft_part *part,
                                    const uint64_t *numbers, size_t count, ft_pool *pool, uint64_t *tokens,
                                    ft_status *st);
#endif
