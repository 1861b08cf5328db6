/* What federation.yaml says of training content: kinds of sources, and dates. */
#include "tracer/federation_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[] = {"public", "licensed", "third_party", "crawled", "user", "synthetic", "other"};

source_kind source_kind_of(const yaml_owner *o)
{
    unsigned k = 0;
    if (!o->source || !o->source->kind)
        return SOURCE_UNSTATED;
    while (k < SOURCE_UNSTATED && strcmp(kinds[k], o->source->kind) != 0)
        k++;
    return (source_kind)k;
}

/* "2026", "2026-01" or "2026-01-31". */
static int is_date(const char *text)
{
    static const char form[] = "dddd-dd-dd";
    const size_t n = strlen(text);
    if (n != 4 && n != 7 && n != 10)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return 0;
    const long month = n > 4 ? strtol(text + 5, NULL, 10) : 1, day = n > 7 ? strtol(text + 8, NULL, 10) : 1;
    return month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

static ft_code check_date(const ft_federation *f, const yaml_owner *o, const char *key, const char *date, ft_status *st)
{
    return !date || is_date(date) ? FT_OK
                                  : ft_fail(st, FT_ERR_FORMAT,
                                            "%s:%zu: owner %s: source: %s must be a day, a month or a year, as in "
                                            "2026-01-31, not '%s'",
                                            f->path, yaml_federation_line(f->path, key, date, 1), o->name, key, date);
}

ft_code federation_check_summary(const ft_federation *f, ft_status *st)
{
    ft_code rc = FT_OK;
    for (unsigned i = 0; i < f->yaml->owners_count && !rc; i++) {
        const yaml_owner *o = &f->yaml->owners[i];
        const yaml_source *s = o->source;
        if (!s)
            continue;
        if (s->kind && source_kind_of(o) == SOURCE_UNSTATED)
            return ft_fail(st, FT_ERR_FORMAT,
                           "%s:%zu: owner %s: source: '%s' is no kind; public, licensed, third_party, crawled, user, "
                           "synthetic and other are",
                           f->path, yaml_federation_line(f->path, "kind", s->kind, 1), o->name, s->kind);
        if (s->tokens && *s->tokens < 0) {
            char text[30];
            snprintf(text, sizeof(text), "%" PRId64, *s->tokens);
            return ft_fail(st, FT_ERR_FORMAT, "%s:%zu: owner %s: source: tokens must not be negative", f->path,
                           yaml_federation_line(f->path, "tokens", text, 1), o->name);
        }
        rc = check_date(f, o, "collected_from", s->collected_from, st);
        if (!rc)
            rc = check_date(f, o, "collected_to", s->collected_to, st);
        if (!rc && s->collected_from && s->collected_to && strcmp(s->collected_from, s->collected_to) > 0 &&
            strncmp(s->collected_from, s->collected_to, strlen(s->collected_to)) != 0)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s:%zu: owner %s: source: collected_from is later than collected_to",
                         f->path, yaml_federation_line(f->path, "collected_from", s->collected_from, 1), o->name);
    }
    return rc;
}
