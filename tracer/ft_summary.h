/* ft_summary: the public summary of training content that Article 53(1)(d) of the AI Act (Regulation (EU) 2024/1689)
 * asks for, in the sections of the Commission's template of July 2025.
 *
 * What can be known is computed: owners and their experts, states, indexes with their roots, documents and tokens, the
 * digests that the checkpoint's owners.json has, and from documents' metadata domain names and dates
 * (index/ft_origins.h). What only people know is what federation.yaml says under `summary:` and each owner's `source:`;
 * what nobody said is null, and stands in "not_stated" with its place in the file. docs/compliance.md has every field.
 *
 * It is a draft for whoever answers for it: nothing here can tell whether what was said is true, or all.
 *
 * Threads  any; the scope's snapshot is held by the caller. */
#ifndef FT_SUMMARY_H
#define FT_SUMMARY_H
#include "base/ft_progress.h"
#include "tracer/ft_federation.h"

FT_API_BEGIN

typedef struct ft_summary_options {
    uint64_t opted_out;      /* experts that take part in nothing: of federation.yaml, and by orders since */
    uint64_t most_documents; /* of all owners together, whose metadata are read, evenly spread; 0: all */
    const ft_progress *progress;
} ft_summary_options;

/* A new object in *out. Reads the metadata of documents, some four microseconds each, and no text; 64 MiB at most for
 * names of domains. FT_ERR_FORMAT     an index is damaged, or owners.json is no JSON FT_ERR_CANCELLED  by progress */
FT_CHECKED ft_code ft_summary_make(const ft_federation *f, const ft_trace_scope *scope,
                                   const ft_summary_options *options, json_t **out, ft_status *st);

/* That object as one page without script, to read, to print, and on a phone (base/ft_webpage.h). */
FT_CHECKED ft_code ft_summary_page(const json_t *summary, ft_buffer *out, ft_status *st);

FT_API_END
#endif
