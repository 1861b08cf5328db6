/* /v1/compliance/training-summary: what the model was trained on, as Article 53(1)(d) of the AI Act asks. */
#include "api/compliance_internal.h"
#include "tracer/ft_summary.h"

#include <string.h>

/* Some four seconds of metadata at most; of more documents every second, third … is read. */
enum { MOST_DOCUMENTS = 1000000 };

/* Styles of its own and nothing else: whatever a text holds, nothing runs, and nothing is fetched. */
static const char policy[] = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
                             "frame-ancestors 'none'";

/* A browser gets the page. 0 after refusing another format. */
static int read_format(ft_request *q, int *html)
{
    const char *format = ft_request_query(q, "format"), *accept = ft_request_header(q, "Accept");
    *html =
        format ? !strcmp(format, "html") : accept && strstr(accept, "text/html") && !strstr(accept, "application/json");
    if (!format || *html || !strcmp(format, "json"))
        return 1;
    ft_refuse(q, 400, "invalid-parameter", "format", "'format' must be \"json\" or \"html\"");
    return 0;
}

static void answer_page(ft_request *q, const json_t *summary)
{
    ft_buffer page = {0};
    ft_status st = {0};
    if (ft_summary_page(summary, &page, &st)) {
        ft_refuse_status(q, NULL, &st);
    } else {
        ft_answer_header(q, "Content-Security-Policy", policy);
        ft_answer_header(q, "Referrer-Policy", "no-referrer");
        ft_answer_bytes(q, 200, "text/html; charset=utf-8", page.data, page.size);
    }
    ft_buffer_release(&page);
}

/* Needs no store: without one there is no log either, and what is told is meant for everybody. */
void ft_route_training_summary(ft_request *q)
{
    const ft_summary_options how = {.opted_out = ft_server_opted_out(q->server), .most_documents = MOST_DOCUMENTS};
    json_t *summary = NULL;
    ft_status st = {0};
    int html;
    if (!read_format(q, &html) || (q->server->store && !ft_log_request(q, "compliance.training-summary")))
        return;
    if (ft_summary_make(q->server->federation, ft_request_scope(q), &how, &summary, &st))
        ft_refuse_status(q, NULL, &st);
    else if (html)
        answer_page(q, summary);
    else
        ft_answer_json(q, 200, json_incref(summary));
    json_decref(summary);
}
