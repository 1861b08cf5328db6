/* metrics_internal: what GET /metrics tells, counted as it happens. Prometheus text format
 * 0.0.4; names, units and bounds of docs/http.md. A label never names a document, a key
 * or a path: routes are their patterns.
 *
 * Threads  any number may count and read; one lock, held for a few additions. */
#ifndef FT_METRICS_INTERNAL_H
#define FT_METRICS_INTERNAL_H
#include "base/ft_buffer.h"
#include "model/ft_model.h"
#include "tracer/ft_trace.h"

#include <jansson.h>

#include <pthread.h>
#include <stddef.h>

enum { FT_METRIC_ROUTES = 48, FT_METRIC_CODES = 24, FT_METRIC_BOUNDS = 20, FT_METRIC_VERDICTS = 5 };

/* counts[i]: values up to bounds[i] and above bounds[i-1]; the last: above all. */
typedef struct ft_histogram {
    uint64_t counts[FT_METRIC_BOUNDS + 1];
    double sum;
} ft_histogram;

typedef struct ft_metrics {
    pthread_mutex_t lock; /* all below */
    struct {
        const char *route, *method; /* of the table; NULL: not used */
        ft_histogram seconds;
        struct {
            unsigned code;
            uint64_t count;
        } codes[FT_METRIC_CODES];
    } routes[FT_METRIC_ROUTES];
    uint64_t prompt_tokens, generation_tokens, cached_tokens;
    ft_histogram first_token, output_token, attribution; /* seconds */
    uint64_t routed_tokens[FT_MAX_EXPERTS];              /* whose largest share is the expert's */
    double routed_weight[FT_MAX_EXPERTS];                /* shares, summed over tokens */
    uint64_t spans[FT_METRIC_VERDICTS], receipts;
    struct {
        int looked;
        uint64_t removed, taken_down; /* documents, as last looked at; and since the start */
    } owners[FT_MAX_OWNERS];
} ft_metrics;

void ft_metrics_init(ft_metrics *m);
void ft_metrics_destroy(ft_metrics *m);

/* One answer; route NULL: none fitted. Names live as long as the metrics. */
void ft_metrics_request(ft_metrics *m, const char *route, const char *method, unsigned code, double seconds);
/* One generation that ended, failed or was cut; first_seconds < 0: no token came. */
void ft_metrics_generation(ft_metrics *m, size_t prompt_tokens, size_t cached_tokens, size_t tokens,
                           double first_seconds, double rest_seconds);
/* Shares of mixing weight [experts] of one token. */
void ft_metrics_shares(ft_metrics *m, const double *shares, size_t experts);
/* A trace or an attribution that was made. A span's verdict is its field of that name; one
 * without was found since it stands there word for word: "verbatim". */
void ft_metrics_trace(ft_metrics *m, const json_t *spans, double seconds);
void ft_metrics_receipt(ft_metrics *m); /* one that was signed */
/* How many documents are removed from an owner's indexes and not compacted away: what is more
 * than at the look before was taken down meanwhile. */
void ft_metrics_removed(ft_metrics *m, size_t owner, uint64_t documents);

/* --- Writing ------------------------------------------------------------------------ */

/* "# HELP", "# TYPE". type: "counter", "gauge", "histogram". */
FT_CHECKED ft_code ft_metric_head(ft_buffer *out, const char *name, const char *type, const char *help, ft_status *st);
/* One sample; labels: {name, value, …, NULL}, values escaped; NULL: none. */
FT_CHECKED ft_code ft_metric_sample(ft_buffer *out, const char *name, const char *const *labels, double value,
                                    ft_status *st);
/* Documents taken down, of these owners. */
FT_CHECKED ft_code ft_metrics_write_owners(ft_metrics *m, const ft_trace_scope *scope, ft_buffer *out, ft_status *st);
/* What else is counted above; the owner's name of an expert comes from owner_of. */
FT_CHECKED ft_code ft_metrics_write(ft_metrics *m, size_t experts,
                                    const char *(*owner_of)(void *context, size_t expert, char spare[24]),
                                    void *context, ft_buffer *out, ft_status *st);

#endif
