/* ft_segment_source: a segment of an index as a list of sorted suffixes for ft_merge, its
 * removed documents left out. Internal to index/. */
#ifndef FT_SEGMENT_SOURCE_H
#define FT_SEGMENT_SOURCE_H
#include "index/ft_merge.h"
#include "index/ft_part.h"

typedef struct ft_segment_gap {
    uint64_t from;    /* position of a removed document in the segment */
    uint64_t removed; /* codes of it and of those before it, their ends too */
} ft_segment_gap;

typedef struct ft_segment_source {
    ft_merge_source source; /* first member */
    const ft_part *part;
    const ft_codes *text; /* of the segment that is being made */
    uint64_t base;        /* where this part's documents begin in it */
    ft_segment_gap *gaps;
    size_t gap_count;
} ft_segment_source;

/* `part` and `text` must outlive the source. */
FT_CHECKED ft_code ft_segment_source_init(ft_segment_source *out, const ft_part *part, const ft_codes *text,
                                          uint64_t base, ft_status *st);
void ft_segment_source_release(ft_segment_source *s); /* zeroed ones are allowed */
#endif
