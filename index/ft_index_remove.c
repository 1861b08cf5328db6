#include "index/ft_index_remove.h"

#include "base/ft_buffer.h"
#include "index/ft_part.h"

#include <stdlib.h>

ft_code ft_removal_list_add_number(ft_removal_list *l, size_t segment, uint64_t number, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&l->list, &l->capacity, l->count + 1, sizeof(*l->list), st);
    if (!rc)
        l->list[l->count++] = (ft_removal){segment, number};
    return rc;
}

ft_code ft_removal_list_add(ft_removal_list *l, const ft_index *ix, const ft_doc_ref *doc, ft_status *st)
{
    uint64_t number;
    ft_code rc = ft_part_document_at(&ix->parts[doc->part], doc->start, &number, st);
    return rc ? rc : ft_removal_list_add_number(l, doc->part, number, st);
}

void ft_removal_list_release(ft_removal_list *l)
{
    free(l->list);
    *l = (ft_removal_list){0};
}

ft_code ft_removal_list_apply(ft_removal_list *l, ft_index_change *c, ft_status *st)
{
    if (!l->count)
        return FT_OK;
    return ft_fail(st, FT_ERR_UNSUPPORTED, "%s: not yet", c->folder);
}
