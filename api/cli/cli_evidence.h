/* What generate and trace need for evidence by model: usual shares, and causal passes. */
#ifndef FT_CLI_EVIDENCE_H
#define FT_CLI_EVIDENCE_H
#include "tracer/ft_federation.h"

/* Experts' usual shares, where the federation names a validation text. */
FT_CHECKED ft_code cli_measure_usual(ft_federation *f, ft_pool *pool, const ft_engine_options *how, ft_status *st);

/* What is lost without each expert of `experts` (0: all) over tokens [first, count) of the timeline. *out is NULL where
 * no expert can be left out. `ids` must outlive it. */
typedef struct cli_timeline {
    const uint32_t *ids;
    size_t first, count;
    uint64_t without, experts;
} cli_timeline;
FT_CHECKED ft_code cli_find_causes(const ft_model *m, ft_pool *pool, const ft_engine_options *how,
                                   const cli_timeline *line, ft_causal **out, ft_status *st);
#endif
