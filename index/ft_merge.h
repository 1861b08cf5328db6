/* ft_merge: several sorted lists of suffixes become one, without sorting again. The
 * builder's sorted runs and the segments that a compaction joins are merged alike.
 * Internal to index/.
 *
 * Each suffix comes with what it shares with the one before it in its list. Of two that
 * stand against the same last output, the one that shares more comes first, and what
 * they share with each other is known without a look at the text: only where both share
 * equally much, and go on with the same code, are they compared from there on.
 *
 * Threads   the output is cut into partitions of whole stripes; each thread merges its
 *           own and hands stripes to the suffix writer as they fill.
 * Source    offset-value codes: Conner, IBM Technical Disclosure Bulletin 20(7), 1977;
 *           Graefe and Do, "Offset-value coding in database query processing", EDBT 2023. */
#ifndef FT_MERGE_H
#define FT_MERGE_H
#include "base/ft_progress.h"
#include "base/ft_status.h"
#include "base/ft_threads.h"
#include "index/ft_suffix_writer.h"

#include <stddef.h>
#include <stdint.h>

/* A suffix, and what tells it from the one before in its list: `shared` codes are equal
 * (at most FT_SHARED_MAX, which also says "equal suffixes"), `code` follows them here, and
 * `bit` leading bits of it are equal too. */
typedef struct ft_merge_item {
    uint64_t position;
    uint32_t code;
    unsigned char shared, bit;
} ft_merge_item;

/* A sorted list. Several threads read one source at once. */
typedef struct ft_merge_source ft_merge_source;
struct ft_merge_source {
    uint64_t count;
    /* Position in the merged text of suffix i < count. */
    ft_code (*position)(const ft_merge_source *s, uint64_t i, uint64_t *out, ft_status *st);
    /* Items [from, from + n), n <= FT_MERGE_READ, n <= count - from. What item `from` shares
     * does not matter when `from` is 0 or `first` is set: the merge asks the text. */
    ft_code (*read)(const ft_merge_source *s, uint64_t from, size_t n, int first, ft_merge_item *out, ft_status *st);
};

enum { FT_MERGE_READ = 512, FT_CODES_BEHIND = 8 /* bytes that are readable behind a text */ };

/* The suffixes of all sources, which together are all of `text`, in order, to `out`.
 * Equal suffixes stand by position. `progress` reports tokens under the name "merge".
 *   FT_ERR_CANCELLED, FT_ERR_MEM, FT_ERR_IO, and what the sources return */
FT_CHECKED ft_code ft_merge(ft_suffix_writer *out, const ft_merge_source *const *sources, size_t count,
                            const ft_codes *text, ft_pool *pool, const ft_progress *progress, ft_status *st);

/* A merge reads its text at random: a copy in large pages saves a walk through the page
 * table at each look. The copy's bytes, which the caller frees; NULL when memory is out:
 * then the mapped file does as well. */
unsigned char *ft_codes_copy(const ft_codes *text);
/* The same to a block of ft_packed_bytes and FT_CODES_BEHIND more. */
void ft_codes_copy_to(unsigned char *block, const ft_codes *text);
#endif
