/* ft_eval_report: measured systems as a JSON report, and the report as a table, CSV and a page.
 *
 * A report is
 *   {"name", "window", "vocabulary",
 *    "domains":  [{"name", "role": "public" | "owner" | "other", "documents", "bytes", "tokens"}],
 *    "systems":  [{"name", "kind", "bits_per_byte": {DOMAIN: x}, "mean"?, "owner"? | "without"?,
 *                  "experts"?: [NAME], "shares"?: {DOMAIN: [x]}, "first"?: {DOMAIN: [x]},
 *                  "choices"?: {TASK: {…}}, "exact"?: {TASK: {…}}}],
 *    "compared": [{"what", "value", "unit"}]}
 * and everything shown is computed from it. Kinds: public, pair, branch, soup, ensemble, btx, merged,
 * without, tuned, tuned-without, joint, joint2, given.
 * Ownership  reports are the caller's; text is appended to the caller's buffer. */
#ifndef FT_EVAL_REPORT_H
#define FT_EVAL_REPORT_H
#include "base/ft_buffer.h"

#include <jansson.h>

FT_API_BEGIN

/* Whether systems of that kind are a model without one expert: "without" says whose. */
int ft_eval_leaves_out(const char *kind);

/* Sets each system's "mean" (bits per byte over the owners' domains, or where there are none over all) and the report's
 * "compared": what the systems are worth relative to each other, as far as those that it takes are there. */
FT_CHECKED ft_code ft_eval_compare(json_t *report, ft_status *st);

FT_CHECKED ft_code ft_eval_table(const json_t *report, ft_buffer *out, ft_status *st);
/* system,kind,measure,domain,value: a line a figure, RFC 4180. */
FT_CHECKED ft_code ft_eval_csv(const json_t *report, ft_buffer *out, ft_status *st);
/* One self-contained HTML page. */
FT_CHECKED ft_code ft_eval_page(const json_t *report, ft_buffer *out, ft_status *st);

FT_API_END
#endif
