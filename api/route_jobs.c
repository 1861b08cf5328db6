/* /v1/jobs: what became of takedowns that were not waited for. */
#include "api/compliance_internal.h"
#include "api/erasure_jobs.h"

#include <string.h>

void ft_route_jobs(ft_request *q)
{
    if (!ft_needs_store(q) || !ft_log_request(q, "jobs.list"))
        return;
    json_t *list = ft_tasks_json(q->server);
    const size_t n = json_array_size(list);
    ft_answer_json(q, 200,
                   json_pack("{s:s,s:o,s:O?,s:O?,s:b}", "object", "list", "data", list, "first_id",
                             json_object_get(json_array_get(list, 0), "id"), "last_id",
                             json_object_get(json_array_get(list, n - 1), "id"), "has_more", 0));
}

static void refuse_job(ft_request *q, const ft_status *st)
{
    if (st->code == FT_ERR_NOT_FOUND)
        ft_refuse(q, 404, "not-found", NULL, "there is no job '%.60s'", q->segment[0]);
    else if (st->code == FT_ERR_ARG)
        ft_refuse(q, 409, "job-ended", NULL, "%s", st->msg);
    else
        ft_refuse_status(q, NULL, st);
}

void ft_route_job(ft_request *q)
{
    json_t *job = NULL;
    ft_status st = {0};
    if (!ft_needs_store(q))
        return;
    if (ft_task_get(q->server, q->segment[0], &job, &st))
        refuse_job(q, &st);
    else
        ft_answer_json(q, 200, job);
}

void ft_route_job_cancel(ft_request *q)
{
    json_t *job = NULL;
    ft_status st = {0};
    if (!ft_needs_store(q) || !ft_log_request(q, "jobs.cancel"))
        return;
    if (ft_task_cancel(q->server, q->segment[0], &job, &st))
        refuse_job(q, &st);
    else
        ft_answer_job(q, job);
}
