#include "api/cli/cli_evidence.h"

/* An engine for a moment: key-value memory as the machine has it, whatever a generation was given. */
static ft_code open_engine(ft_engine **out, const ft_model *m, ft_pool *pool, const ft_engine_options *how,
                           ft_status *st)
{
    const ft_engine_options o = {.compute = how->compute, .kv_type = how->kv_type};
    return ft_engine_new(out, m, pool, &o, st);
}

ft_code cli_measure_usual(ft_federation *f, ft_pool *pool, const ft_engine_options *how, ft_status *st)
{
    ft_engine *engine;
    int measured;
    if (!ft_federation_validation(f))
        return FT_OK;
    ft_code rc = open_engine(&engine, ft_federation_model(f), pool, how, st);
    if (!rc)
        rc = ft_federation_measure(f, engine, &measured, st);
    ft_engine_free(engine);
    return rc;
}

ft_code cli_find_causes(const ft_model *m, ft_pool *pool, const ft_engine_options *how, const cli_timeline *line,
                        ft_causal **out, ft_status *st)
{
    uint8_t experts[FT_MAX_EXPERTS];
    const ft_causal_request r = {.ids = line->ids,
                                 .first = line->first,
                                 .count = line->count,
                                 .without = line->without,
                                 .experts = experts,
                                 .expert_count = ft_causal_experts(m, line->without, line->experts, experts)};
    ft_engine *engine;
    int done = 0;
    *out = NULL;
    if (!r.expert_count || line->first >= line->count)
        return FT_OK;
    ft_code rc = open_engine(&engine, m, pool, how, st);
    if (!rc)
        rc = ft_causal_new(out, engine, &r, st);
    while (!rc && !done)
        rc = ft_causal_step(*out, pool, &done, st);
    if (rc) { /* its sessions are the engine's */
        ft_causal_free(*out);
        *out = NULL;
    }
    ft_engine_free(engine);
    return rc;
}
