/* cli_index_stat: what `flextrace index stat` shows, as table, JSON and page. */
#ifndef FT_CLI_INDEX_STAT_H
#define FT_CLI_INDEX_STAT_H
#include "api/cli/cli_index_internal.h"
#include "index/ft_index_stat.h"

typedef struct stat_report {
    const ft_index *ix;
    ft_index_info info;
    const ft_index_stat *deep;     /* NULL: the manifest's facts alone */
    const ft_tokenizer *tokenizer; /* NULL: n-grams are shown as ids */
} stat_report;

void stat_print_table(const stat_report *r);
json_t *stat_json(const stat_report *r);
/* One self-contained page. All that comes from the corpus is escaped. r->deep is not NULL. */
FT_CHECKED ft_code stat_page(const stat_report *r, ft_buffer *out, ft_status *st);

/* --- Shared by the three ------------------------------------------------------------ */

/* The id that a trace shows too: the recorded one; infini-gram's out of the metadata, or
 * else file and line; "document NUMBER" where there is none. A new string, NULL without memory. */
json_t *stat_document_id(const stat_report *r, uint64_t number);
/* Replaces the buffer's content by the text of the n-gram, or its ids where there is no
 * tokenizer. FT_ERR_MEM. */
FT_CHECKED ft_code stat_ngram_text(const stat_report *r, const uint32_t *ids, unsigned n, ft_buffer *out,
                                   ft_status *st);
double stat_bytes_per_token(const ft_index_info *info);
/* Lowest and highest length of a histogram's row. */
void stat_histogram_range(unsigned k, uint64_t *from, uint64_t *to);
/* The last row of the histogram that is not empty. */
unsigned stat_histogram_last(const ft_stat_lengths *l);

#endif
