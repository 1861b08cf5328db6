/* ft_origins: where and when the documents of corpora were taken from, as their metadata tell: domain names with what
 * of the corpora comes from each, and the span of dates. Metadata alone are read, no tokens.
 *
 * Domain    the first that a document's metadata hold of: the host of `url`, of `uri`, `domain`, and `source` where it
 *           is a URL; in lower case, without port and a leading "www.". Names as they stand: "a.example.org" is not
 *           counted with "example.org". Field names in any case; an object `metadata` inside is looked through after
 *           what stands beside it.
 * Dates     collected: `added`, `collected`, `crawled`, `crawl_date`, `crawl_timestamp`, `date_download`,
 *           `download_date`, `fetched`, `fetched_at`, `retrieved`, `retrieved_at`, `accessed`, `warc_date`,
 * `timestamp`; dated: `date`, `created`, `published`, which is when a text was made, so that it was not collected
 *           before. Strings that begin with YYYY-MM-DD.
 * Memory    the domains hold to what ft_origins_new was given; names that no longer fit count together in `rest`.
 * Cost      some four microseconds a document that is read.
 * Threads   one owner at a time. */
#ifndef FT_ORIGINS_H
#define FT_ORIGINS_H
#include "base/ft_progress.h"
#include "base/ft_status.h"
#include "index/ft_index_stat.h"

FT_API_BEGIN

typedef struct ft_origins ft_origins;

typedef struct ft_origin_dates {
    char first[11], last[11]; /* "2026-01-31"; "" where documents is 0 */
    uint64_t documents;
} ft_origin_dates;

/* Of one index or several: what is read is added to it. */
typedef struct ft_origins_seen {
    uint64_t read;       /* documents */
    uint64_t unreadable; /* of them, with metadata that are no JSON object */
    ft_origin_dates collected, dated;
} ft_origins_seen;

typedef struct ft_origins_options {
    uint64_t step;     /* every step-th document is read, from the first on; 0: 1 */
    const char *today; /* a later date is a mistake, and not counted; NULL: none is too late */
    const ft_progress *progress;
} ft_origins_options;

/* Domains by the tokens that come from them, the most first, then by name; views into `o`. */
typedef struct ft_origins_domains {
    const ft_stat_value *list;
    size_t count;
    ft_stat_value rest, none; /* of names that found no room; of documents without any (text NULL) */
} ft_origins_domains;

FT_CHECKED ft_code ft_origins_new(ft_origins **out, uint64_t memory_bytes, ft_status *st);
void ft_origins_free(ft_origins *o); /* NULL is allowed */

/* `o` NULL: dates alone.
 *   FT_ERR_FORMAT     the index is damaged
 *   FT_ERR_CANCELLED  by progress ("metadata", in documents of this index) */
FT_CHECKED ft_code ft_origins_read(ft_origins *o, const ft_index *ix, const ft_origins_options *options,
                                   ft_origins_seen *seen, ft_status *st);
/* Last: nothing is read any more afterwards. */
ft_origins_domains ft_origins_list(ft_origins *o);

FT_API_END
#endif
