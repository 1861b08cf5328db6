/* ft_prov: a trace as W3C PROV, for the lineage tools of others (PROV-JSON; docs/receipts.md says what becomes what).
 *
 * What was generated, the prompt, model, experts, indexes, spans and documents are entities, generation, search and
 * redaction activities, owners, service and key agents. It names what the trace names and says nothing that the trace
 * does not say; texts are left out.
 *
 * Source  https://www.w3.org/submissions/prov-json/, PROV-DM for the meaning of each relation. */
#ifndef FT_PROV_H
#define FT_PROV_H
#include "base/ft_json.h"

FT_API_BEGIN

/* A new object in *out: the document of a stored trace. FT_ERR_ARG: the trace has no id. */
FT_CHECKED ft_code ft_prov_json(const json_t *trace, json_t **out, ft_status *st);

FT_API_END
#endif
