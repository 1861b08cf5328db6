/* ft_document_set: documents of one index, selected by id, by metadata, by what stands in
 * them; what a takedown removes.
 *
 * Lifetime  of the index that it was made for. A zeroed set may be released.
 * Threads   one owner.
 * Memory    a bit a document. */
#ifndef FT_DOCUMENT_SET_H
#define FT_DOCUMENT_SET_H
#include "base/ft_progress.h"
#include "base/ft_status.h"
#include "index/ft_index.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef struct ft_document_set {
    const ft_index *index;
    uint64_t *bits;
    uint64_t documents, tokens; /* selected so far */
} ft_document_set;

FT_CHECKED ft_code ft_document_set_init(ft_document_set *out, const ft_index *index, ft_status *st);
void ft_document_set_release(ft_document_set *s); /* NULL is allowed */

/* One document; again is nothing. */
FT_CHECKED ft_code ft_document_set_add(ft_document_set *s, const ft_doc_ref *doc, ft_status *st);
/* All with this id; *found (may be NULL) says how many. O(log documents) for each segment. */
FT_CHECKED ft_code ft_document_set_add_id(ft_document_set *s, const char *id, uint64_t *found, ft_status *st);
/* All whose metadata has `field`, of its top level, with this value: the string, or the
 * JSON text of a value that is none (2020, true, null, ["a","b"]). Reads all metadata;
 * `progress` (may be NULL) says "metadata", in documents.
 *   FT_ERR_FORMAT  metadata that is no JSON: names the document */
FT_CHECKED ft_code ft_document_set_add_where(ft_document_set *s, const char *field, const char *value,
                                             const ft_progress *progress, ft_status *st);
/* All in which the tokens stand. FT_ERR_ARG: no token, which all documents hold. */
FT_CHECKED ft_code ft_document_set_add_tokens(ft_document_set *s, const uint32_t *ids, size_t n, ft_status *st);

/* All in which the bytes of the text stand, whatever tokens they were cut into:
 * index/ft_text_match.h, whose errors it has. */
struct ft_tokenizer;
FT_CHECKED ft_code ft_document_set_add_text(ft_document_set *s, const struct ft_tokenizer *tokenizer, const char *text,
                                            size_t bytes, int ignore_case, ft_status *st);

/* The first selected document whose number is at least `from`; FT_ERR_NOT_FOUND behind the last. */
FT_CHECKED ft_code ft_document_set_next(const ft_document_set *s, uint64_t from, ft_doc_ref *out, ft_status *st);

FT_API_END
#endif
