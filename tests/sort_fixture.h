/* Suffixes of documents, each ended by UINT32_MAX, through the library's own sort. */
#ifndef FT_SORT_FIXTURE_H
#define FT_SORT_FIXTURE_H
#include "index/ft_suffix_sort.h"

#include <stdlib.h>

/* order [n]; the last token ends a document. */
static inline ft_code sort_documents(uint32_t *order, const uint32_t *tokens, size_t n, ft_status *st)
{
    uint32_t documents = 0, end = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        documents += tokens[i] == UINT32_MAX;
        if (tokens[i] != UINT32_MAX && tokens[i] > most)
            most = tokens[i];
    }
    uint32_t *text = calloc(n + 1, sizeof(*text));
    if (!text)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        text[i] = tokens[i] == UINT32_MAX ? end++ : tokens[i] + documents;
    const ft_code rc = ft_suffix_sort((int32_t *)(void *)order, text, n, (size_t)documents + most + 1, NULL, st);
    free(text);
    return rc;
}
#endif
