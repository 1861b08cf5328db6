#include "tracer/ft_retention.h"


#include <inttypes.h>
#include <string.h>

enum { MOST_DAYS = 36500 };
static const uint64_t day_ms = UINT64_C(86400000);
static const char line_name[] = "retention"; /* the order in force, in the log */

/* The order's line; NULL: none is in force. */
static ft_code read_order(ft_store *s, json_t **line, ft_status *st)
{
    *line = NULL;
    const ft_code rc = s ? ft_store_logged(s, line_name, line, st) : FT_ERR_NOT_FOUND;
    if (!rc && json_is_true(json_object_get(*line, "withdrawn"))) {
        json_decref(*line);
        *line = NULL;
    }
    return rc == FT_ERR_NOT_FOUND ? FT_OK : rc;
}

/* Bounds of an order, or of its line. */
static ft_code read_bounds(const json_t *order, ft_retention *out, const char **field, ft_status *st)
{
    int64_t least = 0, most = 0, bytes = 0;
    *field = "min_days";
    ft_code rc = ft_json_get_int(order, *field, 0, MOST_DAYS, &least, st);
    if (!rc)
        rc = ft_json_get_int(order, *field = "max_days", 1, MOST_DAYS, &most, st);
    if (!rc)
        rc = ft_json_get_int(order, *field = "max_bytes", 1, INT64_C(1) << 46, &bytes, st);
    *out = (ft_retention){.max_age_ms = (uint64_t)most * day_ms,
                          .min_age_ms = (uint64_t)least * day_ms,
                          .max_bytes = (uint64_t)bytes};
    return rc;
}

ft_code ft_retention_read(ft_federation *f, ft_store *s, ft_retention_rules *out, ft_status *st)
{
    json_t *line;
    const char *field;
    *out = (ft_retention_rules){.keep = ft_federation_retention(f)};
    ft_code rc = read_order(s, &line, st);
    if (!rc && line) {
        rc = read_bounds(line, &out->keep, &field, st);
        out->held = json_is_string(json_object_get(line, "hold"));
        /* The file may have been changed since: its minimum holds. */
        const uint64_t floor = ft_federation_retention(f).min_age_ms;
        if (out->keep.min_age_ms < floor)
            out->keep.min_age_ms = floor;
        if (out->keep.max_age_ms && out->keep.max_age_ms < floor)
            out->keep.max_age_ms = floor;
    }
    json_decref(line);
    return rc;
}

static json_t *number_or_null(uint64_t n)
{
    return n ? json_integer((json_int_t)n) : json_null();
}

ft_code ft_retention_json(ft_federation *f, ft_store *s, json_t **out, ft_status *st)
{
    ft_retention_rules r;
    json_t *line = NULL;
    *out = NULL;
    ft_code rc = ft_retention_read(f, s, &r, st);
    if (!rc)
        rc = read_order(s, &line, st);
    if (rc)
        return rc;
    *out = json_pack("{s:s,s:o,s:o,s:o,s:O?,s:s,s:O?,s:O?,s:O?}", "object", "retention", "min_days",
                     number_or_null(r.keep.min_age_ms / day_ms), "max_days", number_or_null(r.keep.max_age_ms / day_ms),
                     "max_bytes", number_or_null(r.keep.max_bytes), "hold", json_object_get(line, "hold"), "source",
                     line ? "order" : "federation", "by", json_object_get(line, "who"), "at",
                     json_object_get(line, "time"), "seq", json_object_get(line, "seq"));
    json_decref(line);
    return *out ? FT_OK : ft_fail(st, FT_ERR_MEM, "retention: out of memory");
}

static ft_code check_fields(const json_t *order, const char **field, ft_status *st)
{
    static const char *const known[] = {"min_days", "max_days", "max_bytes", "hold"};
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)order, name, v)
    {
        size_t i = 0;
        while (i < 4 && strcmp(known[i], name) != 0)
            i++;
        if (i == 4) {
            *field = NULL;
            return ft_fail(st, FT_ERR_ARG, "retention has no field '%.60s'", name);
        }
    }
    const char *hold = NULL;
    *field = "hold";
    const ft_code rc = ft_json_get_string(order, "hold", &hold, st);
    return !rc && hold && !*hold ? ft_fail(st, FT_ERR_ARG, "'hold' must be the reason of the hold, or null") : rc;
}

static ft_code check_conflicts(const ft_retention *asked, const ft_retention *configured, const char **field,
                               ft_status *st)
{
    *field = "min_days";
    if (asked->min_age_ms < configured->min_age_ms)
        return ft_fail(st, FT_ERR_UNSUPPORTED,
                       "federation.yaml keeps every trace for %" PRIu64 " days: 'min_days' must not be below",
                       configured->min_age_ms / day_ms);
    *field = "max_days";
    if (asked->max_age_ms && asked->max_age_ms < asked->min_age_ms)
        return ft_fail(st, FT_ERR_UNSUPPORTED,
                       "traces cannot be kept for at least %" PRIu64 " days and at most %" PRIu64,
                       asked->min_age_ms / day_ms, asked->max_age_ms / day_ms);
    return FT_OK;
}

ft_code ft_retention_order(ft_federation *f, ft_store *s, const char *who, const json_t *order, const char **field,
                           ft_status *st)
{
    ft_retention asked;
    const char *ignored;
    const ft_retention configured = ft_federation_retention(f);
    field = field ? field : &ignored;
    *field = NULL;
    if (!order)
        return ft_store_log_as(s, line_name, who, "retention.set", json_pack("{s:b}", "withdrawn", 1), st);
    ft_code rc = check_fields(order, field, st);
    if (!rc)
        rc = read_bounds(order, &asked, field, st);
    if (!rc)
        rc = check_conflicts(&asked, &configured, field, st);
    return rc ? rc : ft_store_log_as(s, line_name, who, "retention.set", json_copy((json_t *)(uintptr_t)order), st);
}

ft_code ft_retention_permits(ft_federation *f, ft_store *s, const ft_erasure *e, ft_status *st)
{
    ft_retention_rules r;
    const ft_code rc = ft_retention_read(f, s, &r, st);
    if (rc || e->policy == FT_ERASE_LIST)
        return rc;
    if (r.held)
        return ft_fail(st, FT_ERR_UNSUPPORTED,
                       "stored outputs are under a legal hold: only policy 'list' is possible until it is lifted");
    if (e->policy == FT_ERASE_DELETE && r.keep.min_age_ms)
        return ft_fail(st, FT_ERR_UNSUPPORTED,
                       "stored outputs have to be kept for %" PRIu64
                       " days: policy 'redact' keeps them without the words",
                       r.keep.min_age_ms / day_ms);
    return FT_OK;
}
