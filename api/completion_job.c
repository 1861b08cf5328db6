/* A completion at work: submits its choices to the scheduler, collects what the
 * callbacks bring, streams it, ends. */
#include "api/completion_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    RUNNING_AT_ONCE = 4, /* choices of one request with the scheduler: it must not fill the queue alone */
    PING_SECONDS = 10
};

/* With the job's lock held: a worker looks at the job, now or again. */
static void wake(ft_job *job)
{
    if (job->busy) {
        job->again = 1;
        return;
    }
    job->busy = 1;
    ft_work_push(job->server, &job->work);
}

/* With the job's lock held: nobody waits for it any more. What of it is queued gives its
 * place up at once. */
static void set_cancelled(ft_job *job)
{
    if (job->cancelled)
        return;
    job->cancelled = 1;
    for (size_t i = 0; i < job->item_count; i++)
        if (job->items[i].submitted && !job->items[i].final)
            ft_scheduler_cancel(job->server->scheduler, &job->items[i]);
}

static void cancel(ft_job *job)
{
    pthread_mutex_lock(&job->lock);
    set_cancelled(job);
    pthread_mutex_unlock(&job->lock);
}

static int shows_routing(const ft_completion_request *r)
{
    return r->routing != FT_ROUTING_NONE || r->return_routed_experts;
}

static int needs_routing(const ft_completion_request *r)
{
    return r->trace || shows_routing(r);
}

/* --- What the scheduler brings ------------------------------------------------------ */

/* Room for `count` tokens, and for the score of the one that ends them. */
static ft_code grow(ft_item *item, size_t count, ft_status *st)
{
    size_t a = item->capacity, b = item->capacity, c = item->capacity * item->job->experts;
    size_t d = item->scores ? item->capacity + 1 : 0;
    ft_code rc = ft_array_grow((void **)&item->ids, &a, count, sizeof(*item->ids), st);
    if (!rc)
        rc = ft_array_grow((void **)&item->text_ends, &b, count, sizeof(*item->text_ends), st);
    if (!rc && item->job->experts) /* /metrics counts experts of all generations */
        rc = ft_array_grow((void **)&item->shares, &c, count * item->job->experts, sizeof(*item->shares), st);
    if (!rc && item->job->r.logprobs >= 0)
        rc = ft_array_grow((void **)&item->scores, &d, count + 1, sizeof(*item->scores), st);
    if (!rc)
        item->capacity = a < b ? a : b;
    if (!rc && item->scores && d - 1 < item->capacity)
        item->capacity = d - 1;
    if (!rc && item->shares && item->job->experts && c / item->job->experts < item->capacity)
        item->capacity = c / item->job->experts;
    return rc;
}

static ft_code collect(ft_item *item, const ft_generation *g, ft_status *st)
{
    const ft_generation_state now = ft_generation_get(g);
    const int room = now.count <= item->capacity && (item->scores || !now.scores);
    ft_code rc = room ? FT_OK : grow(item, now.count, st);
    if (!rc && now.text_bytes > item->text.size)
        rc = ft_buffer_append(&item->text, now.text + item->text.size, now.text_bytes - item->text.size, st);
    if (rc)
        return rc;
    const ft_routing routing = item->shares ? ft_generation_routing(g) : (ft_routing){0};
    const int scored = item->scores && now.scores;
    for (size_t i = item->count; i < now.count; i++) {
        const size_t t = item->prompt->count + i;
        item->ids[i] = now.ids[i];
        item->text_ends[i] = now.text_ends ? now.text_ends[i] : 0;
        if (scored)
            item->scores[i] = now.scores[i];
        if (item->shares)
            ft_routing_shares(&routing, t, t + 1, item->shares + i * item->job->experts);
    }
    if (scored && now.end_token != FT_NO_ID)
        item->scores[now.count] = now.scores[now.count];
    if (now.count > item->count) {
        item->last_at = ft_seconds_now();
        item->first_at = item->first_at > 0 ? item->first_at : item->last_at;
    }
    item->count = now.count;
    item->cached = now.cached_tokens;
    item->finish = now.finish;
    item->end_token = now.end_token;
    return FT_OK;
}

static ft_code keep_routing(ft_item *item, const ft_generation *g, ft_status *st)
{
    const ft_routing r = ft_generation_routing(g);
    const size_t n = r.tokens * r.layers * r.top_k;
    item->routing_ids = ft_alloc_array(n, sizeof(*item->routing_ids));
    item->routing_weights = ft_alloc_array(n, sizeof(*item->routing_weights));
    if (!item->routing_ids || !item->routing_weights)
        return ft_fail(st, FT_ERR_MEM, "no room for the routing of %zu tokens", r.tokens);
    if (n) {
        memcpy(item->routing_ids, r.expert_ids, n * sizeof(*item->routing_ids));
        memcpy(item->routing_weights, r.weights, n * sizeof(*item->routing_weights));
    }
    /* Every expert's probability only where the store keeps them. */
    const size_t probabilities = r.tokens * r.layers * r.experts;
    if (r.probs && ft_federation_store_options(item->job->server->federation).routing == FT_ROUTING_PROBABILITIES) {
        item->routing_probs = ft_alloc_array(probabilities, sizeof(*item->routing_probs));
        if (!item->routing_probs)
            return ft_fail(st, FT_ERR_MEM, "no room for the routing of %zu tokens", r.tokens);
        memcpy(item->routing_probs, r.probs, probabilities * sizeof(*item->routing_probs));
    }
    item->routing = r;
    item->routing.probs = item->routing_probs;
    item->routing.expert_ids = item->routing_ids;
    item->routing.weights = item->routing_weights;
    return FT_OK;
}

/* What /metrics is told of a generation that ended. */
static void count_item(const ft_job *job, const ft_item *item)
{
    ft_metrics *m = &job->server->metrics;
    ft_metrics_generation(m, item->prompt->count, item->cached, item->count,
                          item->count ? item->first_at - job->started : -1, item->last_at - item->first_at);
    for (size_t i = 0; item->shares && i < item->count; i++)
        ft_metrics_shares(m, item->shares + i * job->experts, job->experts);
}

/* On the scheduler's thread, after every step: copies what is new, no more. */
static int on_step(void *context, const ft_generation *g, int final, ft_code rc, const ft_status *st)
{
    ft_item *item = context;
    ft_job *job = item->job;
    pthread_mutex_lock(&job->lock);
    ft_status own = {0};
    if (!item->rc && rc) {
        item->rc = rc;
        if (st)
            item->status = *st;
    }
    if (!item->rc && g) {
        item->rc = collect(item, g, &own);
        if (!item->rc && final && job->experts && needs_routing(&job->r))
            item->rc = keep_routing(item, g, &own);
        if (item->rc)
            item->status = own;
    }
    if (!job->cancelled && ft_client_gone(job->client))
        set_cancelled(job);
    const int stop = job->cancelled || item->rc != FT_OK;
    if (final) {
        item->final = 1;
        job->running--;
        count_item(job, item);
    }
    if (final || job->stream)
        wake(job);
    pthread_mutex_unlock(&job->lock);
    return stop;
}

/* --- Submitting ------------------------------------------------------------------- */

static ft_code submit(ft_job *job, ft_item *item, ft_status *st)
{
    ft_generate_request g = {.key = job->key,
                             .prompt = item->prompt->ids,
                             .prompt_count = item->prompt->count,
                             .max_new_tokens = job->r.max_tokens,
                             .sampling = job->r.sampling,
                             .without = job->r.without,
                             .stop_count = job->r.stop_count,
                             .stop_ids = job->r.stop_ids,
                             .stop_id_count = job->r.stop_id_count,
                             .include_stop = job->r.include_stop,
                             .keep_special = job->r.keep_special,
                             .ignore_end_of_text = job->r.ignore_end_of_text,
                             .capture_routing = job->experts > 0,
                             .scores = job->r.logprobs >= 0,
                             .top_scores = job->r.logprobs > 0 ? (size_t)job->r.logprobs : 0};
    memcpy(g.stop, job->r.stop, sizeof(g.stop));
    g.sampling.seed += item->index % job->r.n; /* choice 0 is what `flextrace generate` gives for the seed */
    pthread_mutex_lock(&job->lock);
    item->submitted = 1;
    job->running++;
    pthread_mutex_unlock(&job->lock);
    const ft_code rc = ft_scheduler_submit(job->server->scheduler, &g, on_step, item, st);
    pthread_mutex_lock(&job->lock);
    if (rc) {
        item->submitted = 0;
        job->running--;
    } else if (job->cancelled) { /* since we looked */
        ft_scheduler_cancel(job->server->scheduler, item);
    }
    pthread_mutex_unlock(&job->lock);
    return rc;
}

static void mark_final(ft_item *item, ft_finish finish)
{
    item->finish = finish;
    item->final = 1;
}

/* A full queue is no failure once the job is admitted: the clock tries again. */
static ft_code submit_some(ft_job *job, ft_status *st)
{
    for (; job->next_item < job->item_count; job->next_item++) {
        ft_item *item = &job->items[job->next_item];
        pthread_mutex_lock(&job->lock);
        const int cancelled = job->cancelled || job->failure.code;
        const size_t running = job->running;
        if (cancelled || (job->r.max_tokens == 0 && !shows_routing(&job->r)))
            mark_final(item, cancelled ? FT_FINISH_ABORT : FT_FINISH_LENGTH);
        pthread_mutex_unlock(&job->lock);
        if (item->final && !cancelled)
            count_item(job, item); /* nothing is generated: its prompt is scored */
        if (item->final)
            continue;
        if (running >= RUNNING_AT_ONCE)
            return FT_OK;
        const ft_code rc = submit(job, item, st);
        if (rc)
            return rc;
    }
    return FT_OK;
}

/* --- Streaming ---------------------------------------------------------------------- */

static void write_event(ft_job *job, json_t *value)
{
    ft_buffer line = {0};
    ft_status st = {0};
    ft_code rc = value ? ft_buffer_append_str(&line, "data: ", &st) : FT_ERR_MEM;
    if (!rc)
        rc = ft_json_write(value, &line, &st);
    if (!rc)
        rc = ft_buffer_append_str(&line, "\n\n", &st);
    if (!rc)
        rc = ft_stream_write(job->stream, line.data, line.size, &st);
    json_decref(value);
    ft_buffer_release(&line);
    pthread_mutex_lock(&job->lock);
    job->last_write = ft_seconds_now();
    pthread_mutex_unlock(&job->lock);
    if (rc) { /* what cannot be written whole is not written on */
        cancel(job);
        ft_client_cut(job->client);
    }
}

/* What came since the last chunk, copied out from under the lock. */
typedef struct news {
    uint32_t *ids; /* all so far, for the search */
    size_t count;
    char *text;
    size_t text_bytes;
    /* Of the tokens that no chunk has told. */
    uint32_t *new_ids;
    double *shares;
    size_t *text_ends;
    ft_token_score *scores; /* NULL without logprobs */
    size_t told;            /* how many of them the next chunk tells */
    uint32_t end_token;
    int final;
} news;

static void news_release(news *n)
{
    free(n->ids);
    free(n->new_ids);
    free(n->scores);
    free(n->text);
    free(n->shares);
    free(n->text_ends);
}

static void *copy_of(const void *from, size_t count, size_t bytes)
{
    void *p = ft_alloc_array(count, bytes);
    if (p && from && count)
        memcpy(p, from, count * bytes);
    return p;
}

/* A token whose text waits (for the rest of a character, or since a stop string may begin
 * there) is told with that text, so that its numbers do not come before it. */
static size_t tokens_with_text(const ft_item *item, const news *n, size_t fresh)
{
    size_t with = 0;
    for (size_t i = 0; i < fresh; i++)
        if (n->text_ends[i] > (i ? n->text_ends[i - 1] : item->sent_text))
            with = i + 1;
    return with;
}

static int take_news(ft_job *job, ft_item *item, news *n)
{
    const size_t from = item->sent_tokens;
    pthread_mutex_lock(&job->lock);
    n->final = item->final;
    n->count = item->count;
    n->end_token = item->final && item->scores ? item->end_token : FT_NO_ID;
    const size_t fresh = item->count - from, scored = fresh + (n->end_token != FT_NO_ID);
    n->text_bytes = item->text.size - item->sent_text;
    n->text = copy_of(item->text.data ? item->text.data + item->sent_text : NULL, n->text_bytes, 1);
    n->ids = job->r.trace ? copy_of(item->ids, item->count, sizeof(*n->ids)) : NULL;
    n->text_ends = copy_of(item->text_ends ? item->text_ends + from : NULL, fresh, sizeof(*n->text_ends));
    n->new_ids = ft_alloc_array(fresh + 1, sizeof(*n->new_ids)); /* and the one that ends them */
    if (n->new_ids && fresh)
        memcpy(n->new_ids, item->ids + from, fresh * sizeof(*n->new_ids));
    if (item->scores)
        n->scores = copy_of(item->scores + from, scored, sizeof(*n->scores));
    if (item->shares && needs_routing(&job->r))
        n->shares = copy_of(item->shares + from * job->experts, fresh * job->experts, sizeof(*n->shares));
    const int whole =
        n->text && n->text_ends && n->new_ids && (n->ids || !job->r.trace) && (n->scores || !item->scores);
    pthread_mutex_unlock(&job->lock);
    n->told = fresh;
    if (whole && n->scores && !n->final)
        n->told = tokens_with_text(item, n, fresh);
    return whole;
}

/* Each new token's piece of the chunk's text, and the experts' shares in it. */
static json_t *shares_extra(const ft_job *job, const ft_item *item, const news *n)
{
    if (!job->r.trace)
        return NULL;
    json_t *pieces = json_array(), *shares = json_array();
    size_t at = item->sent_text;
    for (size_t i = 0; i < n->told; i++) {
        size_t end =
            n->text_ends[i] < item->sent_text + n->text_bytes ? n->text_ends[i] : item->sent_text + n->text_bytes;
        end = end < at ? at : end;
        (void)json_array_append_new(pieces, ft_json_text(n->text + (at - item->sent_text), end - at));
        at = end;
        json_t *row = n->shares ? json_array() : json_null();
        for (size_t e = 0; n->shares && e < job->experts; e++)
            (void)json_array_append_new(row, json_real(n->shares[i * job->experts + e]));
        (void)json_array_append_new(shares, row);
    }
    return json_pack("{s:I,s:o,s:o}", "first", (json_int_t)item->sent_tokens, "pieces", pieces, "shares", shares);
}

/* The numbers of a prompt's tokens, where the answer shows them; once for all its choices. */
static ft_code score_prompt(ft_job *job, ft_item *item, ft_status *st)
{
    ft_prompt *p = item->prompt;
    const int64_t echoed = job->r.echo ? job->r.logprobs : -1;
    const int64_t most = echoed > job->r.prompt_logprobs ? echoed : job->r.prompt_logprobs;
    if (most < 0 || p->scores)
        return FT_OK;
    ft_token_score *scores = ft_alloc_array(p->count, sizeof(*scores));
    if (!scores)
        return ft_fail(st, FT_ERR_MEM, "no room for %zu log-probabilities", p->count);
    const ft_code rc =
        ft_score_ids(job->server, p->ids, p->count, job->r.without, (size_t)most, scores, job->client, st);
    if (rc)
        free(scores);
    else
        p->scores = scores;
    return rc;
}

/* The stream ends with this fault, unless there was one before. */
static void fail(ft_job *job, ft_code rc, const ft_status *st)
{
    if (job->failure.code)
        return;
    job->failure = *st;
    job->failure.code = rc;
}

/* What stands before the text: chat's first delta, or the prompt where it is echoed. */
static void stream_begin(ft_job *job, ft_item *item)
{
    ft_buffer text = {0};
    ft_status st = {0};
    item->begun = 1;
    if (job->r.chat) {
        json_t *chunk = ft_output_chunk(job, item, "", 0, NULL, NULL, NULL);
        json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0);
        (void)json_object_set_new(choice, "delta", ft_output_delta("assistant", "", 0));
        write_event(job, chunk);
    } else if (job->r.echo) {
        ft_code rc = score_prompt(job, item, &st);
        if (!rc)
            rc = ft_output_prompt_text(job, item, &text, &st);
        if (!rc)
            write_event(job, ft_output_chunk(job, item, text.data ? text.data : "", text.size, NULL,
                                             ft_output_prompt_part(job, item), NULL));
        else {
            fail(job, rc, &st);
            cancel(job);
        }
    }
    ft_buffer_release(&text);
}

static void stream_tokens(ft_job *job, ft_item *item, const news *n)
{
    json_t *logprobs = NULL;
    const size_t end = n->end_token != FT_NO_ID;
    if (n->scores) {
        if (end)
            n->new_ids[n->told] = n->end_token;
        logprobs = ft_output_generated_part(job, item, n->new_ids, n->scores, n->told + end);
    }
    write_event(job, ft_output_chunk(job, item, n->text, n->text_bytes, NULL, logprobs, shares_extra(job, item, n)));
    item->sent_tokens += n->told;
    item->sent_text += n->text_bytes;
}

/* Sends what is new; 1 when the item is final and nothing more will come. */
static int stream_news(ft_job *job, ft_item *item)
{
    news n = {0};
    const int whole = take_news(job, item, &n);
    const int final = n.final;
    if (!item->begun)
        stream_begin(job, item);
    const int late = final && (n.told || n.end_token != FT_NO_ID) && (job->r.trace || n.scores);
    if (whole && (n.text_bytes || late))
        stream_tokens(job, item, &n);
    else if (!whole && final)
        fail(job, FT_ERR_MEM, &(ft_status){.msg = "out of memory at the end of a stream"});
    if (whole && !final && job->r.trace && n.count) {
        json_t *operations = ft_live_spans(job, item, n.ids, n.count);
        if (operations)
            write_event(job, ft_output_chunk(job, item, "", 0, NULL, NULL, json_pack("{s:o}", "spans", operations)));
    }
    news_release(&n);
    return final;
}

static void stream_end_of_item(ft_job *job, ft_item *item)
{
    json_t *operations = item->trace ? ft_live_spans_end(item) : NULL;
    if (operations)
        write_event(job, ft_output_chunk(job, item, "", 0, NULL, NULL, json_pack("{s:o}", "spans", operations)));
    write_event(job, ft_output_chunk(job, item, "", 0, ft_output_finish(item), NULL, ft_item_extra(job, item)));
}

/* --- Ends ----------------------------------------------------------------------------- */

/* After its last token: numbers, trace, last chunk. A trace is made of an aborted
 * choice too, so that the store shows what was generated. */
static void end_item(ft_job *job, ft_item *item)
{
    ft_status st = item->status;
    ft_code rc = item->rc;
    const int aborted = item->finish == FT_FINISH_ABORT;
    item->ended = 1;
    if (!rc && !job->stream && !aborted)
        rc = score_prompt(job, item, &st);
    if (!rc && job->r.trace && job->r.max_tokens && item->submitted)
        rc = ft_item_trace(job, item, &st);
    if (rc)
        fail(job, rc, &st);
    if (!rc && job->stream && !aborted)
        stream_end_of_item(job, item);
}

/* The status and words for a job that did not come to its end. */
static unsigned failure_of(const ft_job *job, int timed_out, char message[600])
{
    static const char timeout[] = "not finished within the time that the server allows an answer that does not "
                                  "stream (limits.request_seconds); ask for fewer tokens, or stream";
    const ft_code code = job->failure.code;
    const int ours = code && code != FT_ERR_LIMIT && code != FT_ERR_MEM && !timed_out && !job->server->cancel;
    if (ours)
        snprintf(message, 600, "the server could not do this; its log says why, under request %s", job->request_id);
    else
        snprintf(message, 600, "%s",
                 timed_out              ? timeout
                 : job->server->cancel  ? "the server is shutting down"
                 : code == FT_ERR_LIMIT ? job->failure.msg
                 : code                 ? "out of memory"
                                        : "the client went away");
    return ours ? 500 : 503;
}

static void end_job(ft_job *job)
{
    ft_server *s = job->server;
    pthread_mutex_lock(&job->lock);
    const int bad = job->failure.code || job->cancelled, timed_out = job->timed_out;
    pthread_mutex_unlock(&job->lock);
    char message[600];
    const unsigned status = failure_of(job, timed_out, message);
    if (job->failure.code)
        ft_server_log(s, "%s: %s: %s", job->request_id, job->id, job->failure.msg);
    if (job->stream) {
        if (bad) {
            write_event(job, ft_openai_error(status, status == 503 ? "overloaded" : NULL, NULL, NULL, message));
        } else {
            if (job->r.include_usage) {
                json_t *last = ft_output_chunk(job, &job->items[0], "", 0, NULL, NULL, NULL);
                (void)json_object_set_new(last, "choices", json_array());
                (void)json_object_set_new(last, "usage", ft_output_usage(job));
                write_event(job, last);
            }
            if (ft_stream_write(job->stream, "data: [DONE]\n\n", 14, NULL) != FT_OK)
                ft_server_log(s, "%s: out of memory at the end of the stream", job->id);
        }
        ft_stream_end(job->stream, 0);
    } else if (bad) {
        ft_refuse(job->request, status, status == 503 ? "overloaded" : NULL, NULL, "%s", message);
    } else {
        ft_answer_json(job->request, 200, ft_output_whole(job));
    }
    if (job->request)
        ft_request_done(job->request);
    pthread_mutex_lock(&s->jobs_lock);
    *job->link = job->next;
    if (job->next)
        job->next->link = job->link;
    pthread_mutex_unlock(&s->jobs_lock);
    ft_job_free(job);
    ft_job_ends(s);
}

/* --- The worker's turn ------------------------------------------------------------------ */

static int is_final(ft_job *job, const ft_item *item)
{
    pthread_mutex_lock(&job->lock);
    const int final = item->final;
    pthread_mutex_unlock(&job->lock);
    return final;
}

static void move_on(ft_job *job)
{
    ft_status st = {0};
    const ft_code rc = submit_some(job, &st);
    if (rc && rc != FT_ERR_LIMIT)
        fail(job, rc, &st);
    for (size_t i = 0; i < job->item_count; i++) {
        ft_item *item = &job->items[i];
        if (item->ended || (!item->submitted && !is_final(job, item)))
            continue;
        if (job->stream ? stream_news(job, item) : is_final(job, item))
            end_item(job, item);
    }
}

static void run_job(ft_work *work)
{
    ft_job *job = (ft_job *)work;
    for (;;) {
        pthread_mutex_lock(&job->lock);
        job->again = 0;
        pthread_mutex_unlock(&job->lock);
        move_on(job);
        size_t ended = 0;
        for (size_t i = 0; i < job->item_count; i++)
            ended += (size_t)job->items[i].ended;
        if (ended == job->item_count) {
            end_job(job);
            return;
        }
        pthread_mutex_lock(&job->lock);
        const int again = job->again || (job->failure.code && job->next_item < job->item_count);
        job->busy = again;
        pthread_mutex_unlock(&job->lock);
        if (!again)
            return;
    }
}

/* --- The clock ------------------------------------------------------------------------- */

/* With the job's lock held: 1 when its client has just gone. */
static int is_left(ft_job *job)
{
    if (job->cancelled || !ft_client_gone(job->client))
        return 0;
    set_cancelled(job);
    return 1;
}

/* The places of those who do not wait any more, for somebody who needs one now. */
static void drop_left(ft_server *s)
{
    pthread_mutex_lock(&s->jobs_lock);
    for (ft_job *job = s->jobs; job; job = job->next) {
        pthread_mutex_lock(&job->lock);
        if (is_left(job))
            wake(job);
        pthread_mutex_unlock(&job->lock);
    }
    pthread_mutex_unlock(&s->jobs_lock);
}

/* With the job's lock held. From the clock and between two events, for the worker may be scoring a prompt or looking
 * for causes meanwhile, which takes as long as it takes. */
static void ping(ft_job *job, double now)
{
    job->last_write = now;
    if (ft_stream_write(job->stream, ": ping\n\n", 8, NULL) != FT_OK)
        set_cancelled(job);
}

void ft_jobs_tick(ft_server *s, double now)
{
    pthread_mutex_lock(&s->jobs_lock);
    for (ft_job *job = s->jobs; job; job = job->next) {
        pthread_mutex_lock(&job->lock);
        if (job->stream && now - job->last_write > PING_SECONDS)
            ping(job, now);
        if (job->stream && ft_stream_stalled(job->stream, now, s->limits.request_seconds))
            ft_client_cut(job->client);
        int look = is_left(job);
        if (!job->cancelled && !job->stream && now > job->deadline) {
            job->timed_out = look = 1;
            set_cancelled(job);
        }
        if (!job->running && !job->busy) /* it waits for room in the scheduler's queue */
            look = 1;
        if (look)
            wake(job);
        pthread_mutex_unlock(&job->lock);
    }
    pthread_mutex_unlock(&s->jobs_lock);
}

void ft_jobs_abort(ft_server *s)
{
    pthread_mutex_lock(&s->jobs_lock);
    for (ft_job *job = s->jobs; job; job = job->next) {
        pthread_mutex_lock(&job->lock);
        set_cancelled(job);
        wake(job);
        pthread_mutex_unlock(&job->lock);
    }
    pthread_mutex_unlock(&s->jobs_lock);
}

/* --- Birth and death -------------------------------------------------------------------- */

void ft_job_free(ft_job *job)
{
    if (!job)
        return;
    for (size_t i = 0; job->items && i < job->item_count; i++) {
        ft_item *item = &job->items[i];
        free(item->ids);
        free(item->text_ends);
        free(item->shares);
        ft_buffer_release(&item->text);
        free(item->routing_ids);
        free(item->routing_weights);
        free(item->routing_probs);
        ft_span_tracker_free(item->tracker);
        free(item->live);
        json_decref(item->trace);
        json_decref(item->receipt);
        free(item->scores);
        ft_text_stream_free(item->offset_stream);
    }
    free(job->items);
    ft_completion_release(&job->r);
    ft_stream_release(job->stream);
    ft_client_release(job->client);
    pthread_mutex_destroy(&job->lock);
    free(job);
}

static ft_job *new_job(ft_request *q, ft_completion_request *r)
{
    ft_job *job = calloc(1, sizeof(*job));
    if (!job)
        return NULL;
    pthread_mutex_init(&job->lock, NULL);
    job->work.run = run_job;
    job->server = q->server;
    job->client = q->client;
    atomic_fetch_add(&q->client->references, 1);
    job->r = *r;
    *r = (ft_completion_request){0}; /* the job owns it from here on */
    job->busy = 1;
    job->created = (int64_t)time(NULL);
    job->last_write = ft_seconds_now();
    job->started = q->started;
    job->deadline = q->started + q->server->limits.request_seconds;
    job->experts = ft_model_get_config(q->server->model)->experts;
    snprintf(job->id, sizeof(job->id), "%s-%016" PRIx64 "%08" PRIx32, job->r.chat ? "chatcmpl" : "cmpl",
             ft_random_seed(), (uint32_t)ft_random_seed());
    snprintf(job->key, sizeof(job->key), "%s", q->key);
    snprintf(job->request_id, sizeof(job->request_id), "%s", q->id);
    job->items = ft_alloc_array(job->r.prompt_count * job->r.n, sizeof(*job->items));
    if (!job->items) {
        ft_job_free(job);
        return NULL;
    }
    job->item_count = job->r.prompt_count * job->r.n;
    for (size_t i = 0; i < job->item_count; i++) {
        job->items[i].job = job;
        job->items[i].index = i;
        job->items[i].prompt = &job->r.prompts[i / job->r.n];
        job->items[i].end_token = FT_NO_ID;
    }
    return job;
}

static void enlist(ft_job *job)
{
    ft_server *s = job->server;
    ft_job_begins(s);
    pthread_mutex_lock(&s->jobs_lock);
    job->next = s->jobs;
    job->link = &s->jobs;
    if (job->next)
        job->next->link = &job->next;
    s->jobs = job;
    pthread_mutex_unlock(&s->jobs_lock);
}

int ft_job_start(ft_request *q, ft_completion_request *r)
{
    ft_status st = {0};
    const int streams = r->stream;
    ft_job *job = new_job(q, r);
    ft_code rc = job ? FT_OK : ft_fail(&st, FT_ERR_MEM, "out of memory");
    if (!rc && streams)
        rc = ft_stream_new(&job->stream, &st);
    if (!rc)
        rc = submit_some(job, &st);
    if (rc == FT_ERR_LIMIT && job && job->next_item == 0) {
        drop_left(q->server);
        rc = submit_some(job, &st);
    }
    if (rc && job && job->next_item > 0) /* part of it is with the scheduler: admitted */
        rc = FT_OK;
    if (rc) {
        ft_refuse_status(q, NULL, &st);
        ft_job_free(job);
        return 0;
    }
    enlist(job);
    if (streams) {
        ft_answer_stream(q, "text/event-stream", job->stream);
        ft_work_push(job->server, &job->work);
    } else {
        job->request = q;
        q->then = &job->work;
    }
    return 1;
}
