/* What one pass reads.
 *
 * Every request that writes reads its one token. What is left of the pass goes to prompts,
 * as many of their tokens as keep the pass short enough for those who write: the
 * time of a token is measured as passes go. Keys take turns, and within a key
 * requests do, a few hundred tokens at a time; so neither a long prompt nor a crowd of them keeps
 * others waiting for long.
 *
 * Memory goes to who came first. When pages are out the youngest gives its own back and
 * reads again later what it had read, which gives the same bits. So the oldest always
 * gets on, and with it everyone in the end. */
#include "model/scheduler_internal.h"

#include "model/engine_internal.h"

enum {
    FIRST_CHUNK = 32,   /* prompt tokens beside streams, before anything was measured */
    LEAST_CHUNK = 16,   /* however slow the machine: prompts must end */
    TURN_TOKENS = 512,  /* of a prompt, before another one of the same key may go on */
    CHUNK_MULTIPLE = 8, /* tokens that kernels take together */
};
static const double PASS_SECONDS = 0.12; /* that a stream may wait for its next token while prompts are read */

/* --- Memory ------------------------------------------------------------------------------- */

int ft_scheduler_pause_one(ft_scheduler *s, const ft_job *older)
{
    ft_job *victim = NULL;
    for (ft_job *j = older ? older->next : s->running; j; j = j->next)
        if (ft_generation_pages(j->generation))
            victim = j;
    if (!victim)
        return 0;
    ft_generation_pause(victim->generation);
    victim->paused = 1;
    for (size_t i = 0; i < s->batch_count; i++) /* it may be in the pass already */
        if (s->batch[i] == victim) {
            victim->reads = 0;
            s->batch[i] = s->batch[--s->batch_count];
            s->reads[i] = s->reads[s->batch_count];
            break;
        }
    pthread_mutex_lock(&s->lock);
    s->pauses++;
    pthread_mutex_unlock(&s->lock);
    return 1;
}

/* Room for all that is known of it, beside one more page for everybody else who runs. */
int ft_scheduler_has_room(const ft_scheduler *s, const ft_job *j)
{
    size_t others = 0;
    for (const ft_job *r = s->running; r; r = r->next)
        others += r != j && ft_generation_pages(r->generation) != 0;
    const size_t needed = ft_generation_unread(j->generation) / FT_KV_PAGE + 1;
    return !others || ft_engine_free_pages(s->engine, needed + others) >= needed + others;
}

/* Puts the next tokens of a request into the pass; 0 when there is no memory for it. */
static int add(ft_scheduler *s, ft_job *j, size_t most)
{
    const ft_read next = ft_generation_next(j->generation, most);
    ft_status st = {0};
    ft_code rc;
    while ((rc = ft_session_reserve(next.session, next.count, &st)) == FT_ERR_LIMIT)
        if (!ft_scheduler_pause_one(s, j))
            return 0;
    if (rc) {
        j->rc = rc;
        j->st = st;
    }
    j->reads = rc ? 0 : next.count;
    s->reads[s->batch_count] = next;
    s->reads[s->batch_count].count = j->reads;
    s->batch[s->batch_count++] = j;
    return 1;
}

/* --- Prompts ------------------------------------------------------------------------------ */

/* Tokens of prompts beside `writing` streams. */
static size_t prompt_budget(const ft_scheduler *s, size_t writing)
{
    const size_t left = ft_engine_batch_tokens(s->engine) - writing;
    if (!writing)
        return left;
    if (s->prompt_token_seconds <= 0)
        return left < FIRST_CHUNK ? left : FIRST_CHUNK;
    const double fit = (PASS_SECONDS - s->decode_seconds) / s->prompt_token_seconds;
    if (fit <= LEAST_CHUNK)
        return left < LEAST_CHUNK ? left : LEAST_CHUNK;
    return fit < (double)left ? (size_t)fit / CHUNK_MULTIPLE * CHUNK_MULTIPLE : left;
}

static int goes_before(const ft_job *a, const ft_job *b)
{
    if (a->key != b->key)
        return a->key->served < b->key->served;
    return a->prompt_turns < b->prompt_turns; /* else the older one stays in front */
}

/* Somebody in the pass reads the page that this one reads next: it can have that afterwards. */
static int is_read_already(const ft_scheduler *s, const ft_job *j)
{
    for (size_t i = 0; i < s->batch_count; i++)
        if (s->batch[i]->reads >= FT_KV_PAGE && ft_generation_same_page(s->batch[i]->generation, j->generation))
            return 1;
    return 0;
}

static ft_job *next_prompt(const ft_scheduler *s)
{
    ft_job *best = NULL;
    for (ft_job *j = s->running; j; j = j->next) {
        const int looked_at = j->reads || j->rc || j->passed_over == s->pass;
        if (looked_at || ft_generation_unread(j->generation) <= 1)
            continue;
        if (!best || goes_before(j, best))
            best = j;
    }
    return best;
}

static void add_prompts(ft_scheduler *s, size_t budget)
{
    ft_job *j;
    while (budget && (j = next_prompt(s))) {
        j->passed_over = s->pass; /* unless it gets on */
        if (j->paused && j != s->running && !ft_scheduler_has_room(s, j))
            continue;
        ft_generation_find_prefix(j->generation);
        if (is_read_already(s, j) || !add(s, j, budget))
            continue;
        j->paused = 0;
        j->key->served = s->pass;
        j->prompt_part += j->reads;
        if (j->prompt_part >= TURN_TOKENS) {
            j->prompt_turns++;
            j->prompt_part = 0;
        }
        budget -= j->reads;
    }
}

void ft_scheduler_fill(ft_scheduler *s)
{
    s->batch_count = 0;
    s->pass++;
    for (ft_job *j = s->running; j; j = j->next)
        j->reads = 0;
    /* From the oldest on: whoever is paused for one of them came later and is not in the pass yet. */
    for (ft_job *j = s->running; j; j = j->next)
        if (ft_generation_unread(j->generation) == 1)
            (void)add(s, j, 1); /* without memory for it, it waits */
    add_prompts(s, prompt_budget(s, s->batch_count));
}

/* --- Measuring ----------------------------------------------------------------------------- */

static void towards(double *mean, double value)
{
    *mean = *mean > 0 ? *mean + (value - *mean) / 4 : value;
}

void ft_scheduler_measure(ft_scheduler *s, double seconds)
{
    size_t prompt = 0, writing = 0;
    for (size_t i = 0; i < s->batch_count; i++) {
        const size_t n = s->reads[i].count;
        writing += n == 1;
        prompt += n > 1 ? n : 0;
    }
    if (s->on_pass)
        seconds = s->on_pass(s->pass_context, writing, prompt, seconds);
    if (!prompt)
        towards(&s->decode_seconds, seconds);
    else if (prompt >= CHUNK_MULTIPLE)
        towards(&s->prompt_token_seconds,
                (seconds > s->decode_seconds ? seconds - s->decode_seconds : seconds / 2) / (double)prompt);
}
