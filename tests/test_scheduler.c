/* Many generations: who gets into a pass, who waits, who gives up. */
#include "tests/model_fixture.h"
#include "tests/scheduler_fixture.h"

#include "model/ft_generate.h"

#include <pthread.h>

static void count_call(void *context, ft_pool *pool)
{
    assert_non_null(pool);
    ++*(int *)context;
}

enum { CLIENTS = 6, NEW = 20 };

static void is_what_it_is_alone(const ft_model *m, const ft_generate_request *r, const uint32_t *ids)
{
    ft_status st = {0};
    ft_generation *g;
    assert_ok(ft_generation_open(&g, m, NULL, NULL, r, &st), st);
    while (ft_generation_get(g).finish == FT_FINISH_NONE)
        assert_ok(ft_generation_step(g, &st), st);
    assert_int_equal(ft_generation_get(g).count, r->max_new_tokens);
    assert_memory_equal(ids, ft_generation_get(g).ids, r->max_new_tokens * sizeof(*ids));
    ft_generation_close(g);
}

static void generations_side_by_side_are_what_they_are_alone(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    ft_scheduler *s;
    assert_ok(ft_model_open(&m, fixture_write("many", &FIXTURE), &st), st);
    assert_ok(
        ft_scheduler_new(&s, m, NULL, &(ft_scheduler_options){.threads = 2, .max_running = 3, .max_waiting = 9}, &st),
        st);
    client clients[CLIENTS];
    uint32_t prompts[CLIENTS][90];
    ft_generate_request r[CLIENTS];
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = new_client();
        for (uint32_t j = 0; j < 90; j++)
            prompts[i][j] = (uint32_t)(j * 7 + i * 3) % 40;
        r[i] = (ft_generate_request){.prompt = prompts[i],
                                     .prompt_count = 1 + 17 * i,
                                     .max_new_tokens = NEW,
                                     .sampling = {.temperature = 1, .top_p = 1, .seed = i},
                                     .without = (uint64_t)(i & 1)};
        assert_ok(ft_scheduler_submit(s, &r[i], on_step, &clients[i], &st), st);
    }
    int calls = 0;
    assert_ok(ft_scheduler_call(s, count_call, &calls, &st), st);
    assert_int_equal(calls, 1);
    for (size_t i = 0; i < CLIENTS; i++) {
        wait_for(&clients[i]);
        assert_int_equal(clients[i].finals, 1);
        assert_int_equal(clients[i].finish, FT_FINISH_LENGTH);
        assert_int_equal(clients[i].count, NEW);
        is_what_it_is_alone(m, &r[i], clients[i].ids);
    }
    ft_scheduler_free(s);
    ft_model_close(m);
}

static void an_answer_from_the_callback_aborts(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    ft_scheduler *s;
    const uint32_t prompt[] = {1};
    client c = new_client();
    c.stop_after = 4;
    assert_ok(ft_model_open(&m, fixture_write("abort", &FIXTURE), &st), st);
    assert_ok(ft_scheduler_new(&s, m, NULL, NULL, &st), st);
    const ft_generate_request r = {.prompt = prompt, .prompt_count = 1, .max_new_tokens = 60, .sampling = {.top_p = 1}};
    assert_ok(ft_scheduler_submit(s, &r, on_step, &c, &st), st);
    wait_for(&c);
    assert_int_equal(c.finish, FT_FINISH_ABORT);
    assert_int_equal(c.steps, 5); /* the fourth answered, the fifth was the final one */
    assert_int_equal(c.count, 4); /* the pass that read the prompt wrote the first */
    ft_scheduler_free(s);
    ft_model_close(m);
}

/* Holds the scheduler's thread from gate_close to gate_open, so that a queue can be filled. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int entered, open;
    ft_scheduler *scheduler;
    pthread_t thread;
} gate;

static void gate_hold(void *context, ft_pool *pool)
{
    (void)pool;
    gate *g = context;
    pthread_mutex_lock(&g->lock);
    g->entered = 1;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void *gate_run(void *argument)
{
    gate *g = argument;
    return ft_scheduler_call(g->scheduler, gate_hold, g, NULL) ? argument : NULL;
}

static void gate_close(gate *g, ft_scheduler *s)
{
    *g = (gate){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .scheduler = s};
    assert_int_equal(pthread_create(&g->thread, NULL, gate_run, g), 0);
    pthread_mutex_lock(&g->lock);
    while (!g->entered)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void gate_open(gate *g)
{
    void *failed;
    pthread_mutex_lock(&g->lock);
    g->open = 1;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    assert_int_equal(pthread_join(g->thread, &failed), 0);
    assert_null(failed);
}

static void a_full_queue_refuses_and_freeing_ends_what_waits(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    ft_scheduler *s;
    gate g;
    const uint32_t prompt[] = {1};
    client clients[4];
    assert_ok(ft_model_open(&m, fixture_write("queue", &FIXTURE), &st), st);
    assert_ok(
        ft_scheduler_new(&s, m, NULL, &(ft_scheduler_options){.threads = 1, .max_running = 1, .max_waiting = 2}, &st),
        st);
    gate_close(&g, s);
    const ft_generate_request r = {.prompt = prompt, .prompt_count = 1, .max_new_tokens = 60, .sampling = {.top_p = 1}};
    for (int i = 0; i < 4; i++) {
        clients[i] = new_client();
        const ft_code rc = ft_scheduler_submit(s, &r, on_step, &clients[i], &st);
        assert_int_equal(rc, i < 3 ? FT_OK : FT_ERR_LIMIT); /* one may run, two may wait */
    }
    assert_int_equal(ft_scheduler_get_load(s).waiting, 3);
    gate_open(&g);
    ft_scheduler_free(s); /* while they run or wait */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(clients[i].finals, 1);
        assert_true(clients[i].finish == FT_FINISH_ABORT || clients[i].finish == FT_FINISH_LENGTH);
    }
    assert_int_equal(clients[3].steps, 0);
    ft_model_close(m);
}

/* Between two passes, nothing of it running yet. */
static void a_burst_finds_all_the_places_that_there_will_be(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    ft_scheduler *s;
    gate g;
    enum { RUN = 4, WAIT = 2 };
    const uint32_t prompt[] = {1};
    client clients[RUN + WAIT + 1];
    assert_ok(ft_model_open(&m, fixture_write("burst", &FIXTURE), &st), st);
    assert_ok(ft_scheduler_new(&s, m, NULL,
                               &(ft_scheduler_options){.threads = 1, .max_running = RUN, .max_waiting = WAIT}, &st),
              st);
    gate_close(&g, s);
    const ft_generate_request r = {.prompt = prompt, .prompt_count = 1, .max_new_tokens = 3, .sampling = {.top_p = 1}};
    for (int i = 0; i <= RUN + WAIT; i++) {
        clients[i] = new_client();
        assert_int_equal(ft_scheduler_submit(s, &r, on_step, &clients[i], &st), i < RUN + WAIT ? FT_OK : FT_ERR_LIMIT);
    }
    gate_open(&g);
    for (int i = 0; i < RUN + WAIT; i++)
        wait_for(&clients[i]);
    ft_scheduler_free(s);
    ft_model_close(m);
}

/* --- Giving up ------------------------------------------------------------------------------ */

static void who_gives_up_in_the_queue_frees_the_place_at_once(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    ft_scheduler *s;
    gate g;
    const uint32_t prompt[] = {1};
    client clients[5];
    assert_ok(ft_model_open(&m, fixture_write("leave", &FIXTURE), &st), st);
    assert_ok(
        ft_scheduler_new(&s, m, NULL, &(ft_scheduler_options){.threads = 1, .max_running = 1, .max_waiting = 2}, &st),
        st);
    gate_close(&g, s); /* so that nobody is let in */
    ft_generate_request r = {.prompt = prompt, .prompt_count = 1, .max_new_tokens = 9, .sampling = {.top_p = 1}};
    for (int i = 0; i < 5; i++)
        clients[i] = new_client();
    for (int i = 0; i < 3; i++) {
        r.key = i == 1 ? "another" : NULL;
        assert_ok(ft_scheduler_submit(s, &r, on_step, &clients[i], &st), st);
    }
    r.key = NULL;
    assert_int_equal(ft_scheduler_submit(s, &r, on_step, &clients[3], &st), FT_ERR_LIMIT);
    ft_scheduler_cancel(s, &clients[2]);
    ft_scheduler_cancel(s, &clients[2]); /* no more than once */
    ft_scheduler_cancel(s, &st);         /* nobody's */
    assert_int_equal(ft_scheduler_get_load(s).waiting, 2);
    assert_ok(ft_scheduler_submit(s, &r, on_step, &clients[3], &st), st);
    assert_int_equal(ft_scheduler_submit(s, &r, on_step, &clients[4], &st), FT_ERR_LIMIT);
    ft_scheduler_cancel(s, &clients[1]); /* the only one of its key */
    ft_scheduler_cancel(s, &clients[3]); /* the last of its key: the next one stands behind the first */
    assert_ok(ft_scheduler_submit(s, &r, on_step, &clients[4], &st), st);
    assert_int_equal(ft_scheduler_get_load(s).waiting, 2);
    gate_open(&g);
    for (int i = 0; i < 5; i++) {
        wait_for(&clients[i]);
        const int stays = i == 0 || i == 4;
        assert_int_equal(clients[i].finals, 1);
        assert_int_equal(clients[i].finish, stays ? FT_FINISH_LENGTH : FT_FINISH_ABORT);
        assert_int_equal(clients[i].count, stays ? 9 : 0);
    }
    ft_scheduler_free(s);
    ft_model_close(m);
}

typedef struct leaver {
    client own;
    ft_scheduler *scheduler;
} leaver;

/* Gives up from its own callback, by ft_scheduler_cancel. */
static int leave(void *context, const ft_generation *g, int final, ft_code rc, const ft_status *st)
{
    leaver *l = context;
    if (!final && ft_generation_get(g).count == 3)
        ft_scheduler_cancel(l->scheduler, l);
    return on_step(&l->own, g, final, rc, st);
}

static void who_gives_up_while_running_ends_after_the_pass(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    const uint32_t prompt[] = {1};
    leaver l = {.own = new_client()};
    assert_ok(ft_model_open(&m, fixture_write("leave-running", &FIXTURE), &st), st);
    assert_ok(ft_scheduler_new(&l.scheduler, m, NULL, NULL, &st), st);
    const ft_generate_request r = {.prompt = prompt, .prompt_count = 1, .max_new_tokens = 60, .sampling = {.top_p = 1}};
    assert_ok(ft_scheduler_submit(l.scheduler, &r, leave, &l, &st), st);
    wait_for(&l.own);
    assert_int_equal(l.own.finish, FT_FINISH_ABORT);
    assert_int_equal(l.own.count, 4); /* of the pass that was next; its callback was the final one */
    ft_scheduler_free(l.scheduler);
    ft_model_close(m);
}

/* --- Streams beside a long prompt -------------------------------------------------------------- */

/* Passes, and what they are said to cost: 10 ms, and so much a token of a prompt. */
typedef struct passes {
    struct {
        size_t writing, prompt;
        double seconds;
    } list[400];
    size_t count;
    double prompt_token_seconds;
    /* The second pass waits, so that the prompt comes while the stream runs. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int reached, go;
} passes;

static double note_pass(void *context, size_t writing, size_t prompt_tokens, double seconds)
{
    passes *p = context;
    assert_true(p->count < 400);
    seconds = 0.01 + (double)prompt_tokens * p->prompt_token_seconds;
    p->list[p->count].writing = writing;
    p->list[p->count].prompt = prompt_tokens;
    p->list[p->count++].seconds = seconds;
    pthread_mutex_lock(&p->lock);
    p->reached |= p->count == 2;
    pthread_cond_broadcast(&p->changed);
    while (p->reached && !p->go)
        pthread_cond_wait(&p->changed, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return seconds;
}

/* A stream of 100 tokens and a prompt of 400, on a machine of which a prompt's token takes
 * `token_seconds`: what the passes held until the prompt was read. */
static void long_prompt_beside_a_stream(passes *p, double token_seconds)
{
    ft_status st = {0};
    ft_model *m;
    ft_scheduler *s;
    uint32_t prompt[400];
    for (uint32_t i = 0; i < 400; i++)
        prompt[i] = i * 7 % 40;
    client stream = new_client(), reader = new_client();
    *p = (passes){
        .prompt_token_seconds = token_seconds, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    assert_ok(ft_model_open(&m, fixture_write("stall", &FIXTURE), &st), st);
    const ft_scheduler_options o = {.threads = 1, .on_pass = note_pass, .pass_context = p};
    assert_ok(ft_scheduler_new(&s, m, NULL, &o, &st), st);
    const ft_generate_request one = {
        .prompt = prompt, .prompt_count = 1, .max_new_tokens = 100, .sampling = {.top_p = 1}, .ignore_end_of_text = 1};
    const ft_generate_request other = {
        .prompt = prompt, .prompt_count = 400, .max_new_tokens = 1, .sampling = {.top_p = 1}, .ignore_end_of_text = 1};
    assert_ok(ft_scheduler_submit(s, &one, on_step, &stream, &st), st);
    pthread_mutex_lock(&p->lock);
    while (!p->reached)
        pthread_cond_wait(&p->changed, &p->lock);
    pthread_mutex_unlock(&p->lock);
    assert_ok(ft_scheduler_submit(s, &other, on_step, &reader, &st), st);
    pthread_mutex_lock(&p->lock);
    p->go = 1;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    wait_for(&stream);
    wait_for(&reader);
    assert_int_equal(stream.steps, 100); /* told of each of its tokens as it came */
    ft_scheduler_free(s);
    ft_model_close(m);
}

/* Whatever a token costs, from the second chunk on (the first one measures) no pass is made
 * longer than 120 ms, unless that were less than 16 tokens; and every pass that reads of the
 * prompt writes a token of the stream. */
static void a_stream_gets_its_token_between_any_two_chunks_of_a_prompt(void **state)
{
    (void)state;
    static const struct {
        double token_seconds;
        size_t chunk;
    } machines[] = {{0.00001, 255}, {0.001, 104}, {0.002, 48}, {0.005, 16}, {0.1, 16}};
    static passes p;
    for (size_t k = 0; k < sizeof(machines) / sizeof(*machines); k++) {
        long_prompt_beside_a_stream(&p, machines[k].token_seconds);
        size_t chunks = 0, read = 0;
        for (size_t i = 0; i < p.count && read < 400; i++) {
            if (!p.list[i].prompt)
                continue;
            chunks++;
            read += p.list[i].prompt;
            assert_int_equal(p.list[i].writing, 1);
            const size_t rest = 400 - (read - p.list[i].prompt);
            const size_t want = chunks == 1 ? 32 : machines[k].chunk;
            if (p.list[i].prompt != (want < rest ? want : rest))
                fail_msg("%g s a token: chunk %zu has %zu tokens, not %zu", machines[k].token_seconds, chunks,
                         p.list[i].prompt, want);
            if (chunks > 1 && machines[k].chunk > 16)
                assert_true(p.list[i].seconds <= 0.12);
        }
        assert_int_equal(read, 400);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generations_side_by_side_are_what_they_are_alone),
        cmocka_unit_test(an_answer_from_the_callback_aborts),
        cmocka_unit_test(a_full_queue_refuses_and_freeing_ends_what_waits),
        cmocka_unit_test(a_burst_finds_all_the_places_that_there_will_be),
        cmocka_unit_test(who_gives_up_in_the_queue_frees_the_place_at_once),
        cmocka_unit_test(who_gives_up_while_running_ends_after_the_pass),
        cmocka_unit_test(a_stream_gets_its_token_between_any_two_chunks_of_a_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
