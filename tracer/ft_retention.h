/* ft_retention: how long traces are kept, and what forbids to delete them.
 *
 * federation.yaml says so, or an order that was given since: it then stands instead of what the file says, until it is
 * withdrawn. An order is a line of the store's log ("retention.set"), so that who gave it and when cannot be altered
 * unseen. The file's minimum is a floor: no order lowers it.
 *
 * Threads  any number. */
#ifndef FT_RETENTION_H
#define FT_RETENTION_H
#include "tracer/ft_erasure.h"

FT_API_BEGIN

/* What is in force. */
typedef struct ft_retention_rules {
    ft_retention keep;
    int held; /* a legal hold: nothing is deleted or redacted, by age, by size or by erasure */
} ft_retention_rules;
FT_CHECKED ft_code ft_retention_read(ft_federation *f, ft_store *s, ft_retention_rules *out, ft_status *st);

/* The same as an object: {"object": "retention", "min_days", "max_days", "max_bytes", "hold": "reason" or null,
 * "source": "federation" or "order", "by", "at", "seq"}; null: no such bound, or no order. New reference. */
FT_CHECKED ft_code ft_retention_json(ft_federation *f, ft_store *s, json_t **out, ft_status *st);

/* Puts an order into force: {"min_days", "max_days", "max_bytes", "hold"}, each absent or null where there is no such
 * bound, or no hold. NULL withdraws the order there is. *field (may be NULL) names what was wrong.
 *   FT_ERR_ARG          an unknown or wrong field
 *   FT_ERR_UNSUPPORTED  the order contradicts itself or the federation's minimum; nothing was changed */
FT_CHECKED ft_code ft_retention_order(ft_federation *f, ft_store *s, const char *who, const json_t *order,
                                      const char **field, ft_status *st);

/* Why an erasure may not be done: under a hold nothing but policy "list" may; where traces have a minimum age nothing
 * is deleted by request, though redacted it may be. FT_ERR_UNSUPPORTED says which. ft_erase asks this first. */
FT_CHECKED ft_code ft_retention_permits(ft_federation *f, ft_store *s, const ft_erasure *e, ft_status *st);

FT_API_END
#endif
