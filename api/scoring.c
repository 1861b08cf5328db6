/* Log-probabilities of given tokens: one teacher-forced pass, a chunk at a time on
 * the scheduler's thread, so that running generations get their turns in between. */
#include "api/completion_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct pass {
    ft_server *server;
    ft_session *session;
    const uint32_t *ids;
    size_t n, k, vocab;
    float *logits; /* [CHUNK, vocab] */
    ft_token_score *scores;
    size_t read; /* tokens so far */
    uint64_t without;
    ft_code rc;
    ft_status st;
} pass;

enum { CHUNK = 32 };

static void read_chunk(void *context, ft_pool *pool)
{
    (void)pool;
    pass *p = context;
    if (!p->session) {
        const ft_session_options how = {.without = p->without, .max_tokens = p->n};
        p->rc = ft_session_open_on(&p->session, ft_scheduler_engine(p->server->scheduler), &how, &p->st);
        if (p->rc)
            return;
    }
    const size_t left = p->n - 1 - p->read, count = left < CHUNK ? left : CHUNK;
    p->rc = ft_session_read(p->session, p->ids + p->read, count, &(ft_outputs){.logits = p->logits}, &p->server->cancel,
                            &p->st);
    for (size_t i = 0; !p->rc && i < count; i++) {
        const size_t t = p->read + i + 1; /* this row foretells token t */
        ft_token_score_row(p->logits + i * p->vocab, p->vocab, p->ids[t], p->k, &p->scores[t]);
    }
    p->read += count;
}

ft_code ft_score_ids(ft_server *s, const uint32_t *ids, size_t n, uint64_t without, size_t k, ft_token_score *scores,
                     ft_client *client, ft_status *st)
{
    if (n < 2)
        return FT_OK;
    const size_t vocab = ft_model_get_config(s->model)->vocab;
    pass p = {.server = s,
              .ids = ids,
              .n = n,
              .k = k < vocab ? k : vocab,
              .vocab = vocab,
              .scores = scores,
              .without = without};
    size_t elements;
    ft_code rc = ft_size_mul(CHUNK, vocab, &elements, st);
    if (rc)
        return rc;
    p.logits = ft_alloc_array(elements, sizeof(float));
    if (!p.logits)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    while (!rc && p.read < n - 1) {
        if (client && ft_client_gone(client))
            rc = ft_fail(st, FT_ERR_CANCELLED, "the client went away");
        else
            rc = ft_scheduler_call(s->scheduler, read_chunk, &p, st);
        if (!rc && p.rc) {
            rc = p.rc;
            if (st)
                *st = p.st;
        }
    }
    ft_session_close(p.session);
    free(p.logits);
    return rc;
}
