/* eval_report: looking into a report (ft_eval_report.h). What is absent reads as "", NaN, NULL. */
#ifndef FT_EVAL_REPORT_INTERNAL_H
#define FT_EVAL_REPORT_INTERNAL_H
#include <jansson.h>

const json_t *eval_report_find(const json_t *report, const char *kind); /* the first system of a kind */
/* The system of a kind that is an owner's, or of kind "without" lacks the owner's expert. */
const json_t *eval_report_of(const json_t *report, const char *kind, const char *owner);
const char *eval_report_text(const json_t *object, const char *field);
double eval_report_bits(const json_t *system, const char *domain);
double eval_report_mean(const json_t *system);
/* Mean over owners of what each one's own system of a kind has on the owner's domain. */
double eval_report_own_mean(const json_t *report, const char *kind);
int eval_report_is(const json_t *domain, const char *role);
#endif
