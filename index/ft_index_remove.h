/* ft_index_remove: documents taken out of an index. They leave every answer at once, and
 * the files when the index is compacted: docs/index-format.md.
 *
 * What is removed from a segment stands in two files beside it, the numbers of the
 * documents and the ranks of their suffixes, so that a query subtracts them. */
#ifndef FT_INDEX_REMOVE_H
#define FT_INDEX_REMOVE_H
#include "index/ft_index.h"
#include "index/ft_index_change.h"

/* Documents to be removed, by segment. A zeroed list is empty. */
typedef struct ft_removal {
    size_t segment;  /* in the manifest */
    uint64_t number; /* of the document in it, removed ones counted */
} ft_removal;
typedef struct ft_removal_list {
    ft_removal *list;
    size_t count, capacity;
} ft_removal_list;

FT_CHECKED ft_code ft_removal_list_add(ft_removal_list *l, const ft_index *ix, const ft_doc_ref *doc, ft_status *st);
FT_CHECKED ft_code ft_removal_list_add_number(ft_removal_list *l, size_t segment, uint64_t number, ft_status *st);
void ft_removal_list_release(ft_removal_list *l);
/* Writes the files of every segment concerned, beside those removed before, into the
 * change; the same document twice counts once (list and count are so afterwards). */
FT_CHECKED ft_code ft_removal_list_apply(ft_removal_list *l, ft_index_change *c, ft_status *st);
#endif
