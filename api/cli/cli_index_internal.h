/* What the files of `flextrace index` share. */
#ifndef FT_CLI_INDEX_INTERNAL_H
#define FT_CLI_INDEX_INTERNAL_H
#include "api/cli/cli.h"
#include "index/ft_query.h"
#include "index/ft_text_match.h"
#include "text/ft_tokenizer.h"

cli_command cli_index_build, cli_index_add, cli_index_remove, cli_index_compact;
cli_command cli_index_query, cli_index_stat, cli_index_verify;

/* A verb that reads a corpus into an index. */
typedef struct index_reader {
    const char *verb, *help;
    const cli_option *options;
    int add; /* to an index that is there */
} index_reader;
int index_read_corpus(const index_reader *reader, int argc, char **argv);

/* Indexes to be asked as one, and the tokenizer they share (NULL: none is known). */
typedef struct index_asker {
    ft_index_set set;
    ft_index **indexes;
    ft_tokenizer *tokenizer;
    ft_encoder *encoder;
    ft_encoding encoding;
    ft_text_matcher *matcher; /* NULL until the first "match":"text" */
} index_asker;

/* One row of `index query`; a new object, or NULL with the status set. */
json_t *index_answer(index_asker *a, const json_t *row, ft_status *st);

/* --- Inside a row ------------------------------------------------------------------- */

typedef struct index_question {
    index_asker *asker;
    const json_t *row;
    uint32_t *ids; /* from "ids" or "text"; not for "match":"text" */
    size_t n;
} index_question;

typedef json_t *index_answer_fn(const index_question *q, ft_status *st);

json_t *index_count_json(uint64_t v);
int index_has(const index_question *q, const char *field);
/* Field of 0 … 2^56; *out keeps its value when it is absent. */
ft_code index_read_count(const index_question *q, const char *field, int64_t low, uint64_t *out, ft_status *st);

/* Of a list of occurrences, [offset, offset + limit). */
typedef struct index_page {
    uint64_t offset;
    size_t limit;
} index_page;
/* "offset", and "maxnum" (or "limit", another name of it) from `low` to 10,000. */
ft_code index_read_page(const index_question *q, int64_t low, size_t usual, index_page *out, ft_status *st);
/* Adds "has_more" and "next_offset": what to ask for the next page, null after the last. */
void index_add_page(json_t *out, const index_page *page, uint64_t listed, uint64_t count);
/* {"doc_ix", "id", "owner"}; infini-gram records no id. */
json_t *index_document_json(const index_question *q, uint32_t index, const ft_doc_ref *doc);

/* What is shown of a document. */
typedef struct index_shape {
    uint64_t max_disp_len, needle_len, max_ctx_len;
    int context; /* 1: max_ctx_len tokens on both sides of the needle */
} index_shape;
ft_code index_read_shape(const index_question *q, index_shape *s, ft_status *st);
/* FT_ERR_NOT_FOUND between two documents. */
ft_code index_show_place(const index_question *q, const index_shape *s, const ft_place *place, ft_window *w,
                         ft_status *st);

/* What was found in a window: from `lead` bytes into token needle_in_window on, `tokens`
 * whole tokens, or, when `by_bytes`, `bytes` bytes. */
typedef struct index_needle {
    uint64_t tokens, lead, bytes;
    int by_bytes;
} index_needle;
json_t *index_window_json(const index_question *q, const ft_window *w, const index_needle *needle, ft_status *st);
/* {"cnt","approx","idxs","documents","message"} and the page; takes idxs and documents. */
json_t *index_documents_answer(const index_page *page, uint64_t listed, uint64_t count, json_t *idxs,
                               json_t *documents);

/* A copy of the ids of a text, in memory that the caller frees. */
ft_code index_encode(index_asker *a, const char *text, size_t bytes, uint32_t **ids, size_t *n, ft_status *st);

/* "match":"text" or not; checks "ignore_case" too. */
ft_code index_read_match(const index_question *q, int *by_text, ft_status *st);
/* "leading_space":"both" or not. */
ft_code index_read_leading_space(const index_question *q, int *both, ft_status *st);
json_t *index_count_both_spaces(const index_question *q, int by_text, ft_status *st);

index_answer_fn index_answer_doc, index_answer_docs;                /* cli_index_documents.c */
index_answer_fn index_text_count, index_text_find, index_text_docs; /* cli_index_text.c */

#endif
