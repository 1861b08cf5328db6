/* POST /v1/completions, /v1/chat/completions: what can be refused is refused here, before the first byte. */
#include "api/completion_internal.h"
#include "api/routes_internal.h"

void ft_route_completions(ft_request *q)
{
    ft_completion_request r;
    if (!ft_completion_read(q, &r))
        return;
    (void)ft_job_start(q, &r);
    ft_completion_release(&r);
}

void ft_route_chat(ft_request *q)
{
    ft_completion_request r;
    if (!ft_chat_read(q, &r))
        return;
    (void)ft_job_start(q, &r);
    ft_completion_release(&r);
}
