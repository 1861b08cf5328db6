/* What the engine and the scheduler promise: nobody's bits depend on the company. */
#include "tests/model_fixture.h"
#include "tests/scheduler_fixture.h"

#include "model/ft_engine.h"

#include <pthread.h>

/* Widths that are no multiple of a vector, and work that is worth several threads. */
static const fixture WIDE = {.hidden = 72,
                             .intermediate = 150,
                             .layers = 2,
                             .heads = 6,
                             .kv_heads = 2,
                             .head_dim = 14,
                             .experts = 5,
                             .top_k = 3,
                             .vocab = 333,
                             .half = 1,
                             .config = ""};

static ft_model *open_model(const char *folder)
{
    ft_status st = {0};
    ft_model *m;
    assert_ok(ft_model_open(&m, folder, &st), st);
    return m;
}

static ft_pool *open_pool(unsigned threads)
{
    ft_status st = {0};
    ft_pool *pool;
    assert_ok(ft_pool_new(&pool, threads, &st), st);
    return pool;
}

static ft_engine *open_engine(const ft_model *m, ft_pool *pool, const ft_engine_options *o)
{
    ft_status st = {0};
    ft_engine *e;
    assert_ok(ft_engine_new(&e, m, pool, o, &st), st);
    return e;
}

static ft_session *open_on(ft_engine *e, uint64_t without, int capture)
{
    ft_status st = {0};
    ft_session *s;
    const ft_session_options o = {.without = without, .capture_routing = capture, .share_prefix = 1};
    assert_ok(ft_session_open_on(&s, e, &o, &st), st);
    return s;
}

/* --- Bits ------------------------------------------------------------------------------------- */

enum { TIMELINES = 12, LENGTH = 200, MOST_TOGETHER = 32 };

/* What a timeline gives when it is read alone, whole, on one thread. */
typedef struct timeline {
    uint32_t ids[LENGTH];
    uint64_t without;
    float *logits; /* [LENGTH, V] */
    ft_buffer routing;
} timeline;

static void keep_routing(const ft_session *s, ft_buffer *out)
{
    ft_status st = {0};
    const ft_routing r = ft_session_routing(s);
    out->size = 0;
    assert_ok(ft_buffer_append(out, r.probs, r.tokens * r.layers * r.experts * sizeof(float), &st), st);
    assert_ok(ft_buffer_append(out, r.expert_ids, r.tokens * r.layers * r.top_k, &st), st);
    assert_ok(ft_buffer_append(out, r.weights, r.tokens * r.layers * r.top_k * sizeof(float), &st), st);
}

/* Timelines that begin alike for a page or two, or not at all, with few sets of experts. */
static void make_timelines(timeline *t, const ft_model *m, const ft_engine_options *how, ft_random *random)
{
    const size_t V = ft_model_get_config(m)->vocab;
    ft_status st = {0};
    ft_engine_options alone = *how;
    alone.no_prefix_cache = 1;
    ft_engine *e = open_engine(m, NULL, &alone);
    for (size_t i = 0; i < TIMELINES; i++) {
        const size_t same = i ? ft_random_below(random, 4) * 48 : 0, other = i ? ft_random_below(random, i) : 0;
        for (size_t j = 0; j < LENGTH; j++)
            t[i].ids[j] = j < same ? t[other].ids[j] : (uint32_t)ft_random_below(random, V);
        t[i].without = ft_random_below(random, 2) ? t[other].without : ft_random_below(random, 31);
        t[i].logits = ft_alloc_array(LENGTH * V, sizeof(float));
        ft_session *s = open_on(e, t[i].without, 1);
        assert_ok(ft_session_read(s, t[i].ids, LENGTH, &(ft_outputs){.logits = t[i].logits}, NULL, &st), st);
        keep_routing(s, &t[i].routing);
        ft_session_close(s);
    }
    ft_engine_free(e);
}

typedef struct reader {
    ft_session *session;
    const timeline *t;
    int capture;
    float *logits; /* [LENGTH, V] */
    size_t from;   /* of the read that is under way */
} reader;

static void end_reader(reader *r, size_t *ended)
{
    ft_buffer routing = {0};
    if (r->capture && ft_session_length(r->session) == LENGTH) {
        keep_routing(r->session, &routing);
        assert_int_equal(routing.size, r->t->routing.size);
        assert_memory_equal(routing.data, r->t->routing.data, routing.size);
        ++*ended;
    }
    ft_buffer_release(&routing);
    ft_session_close(r->session);
    r->session = NULL;
}

/* One pass over some of the readers, each with some tokens. */
static void read_some(ft_engine *e, reader *readers, size_t V, ft_random *random, size_t *found)
{
    ft_status st = {0};
    ft_read reads[MOST_TOGETHER];
    reader *whose[MOST_TOGETHER];
    size_t count = 0, left = ft_engine_batch_tokens(e);
    for (size_t i = 0; i < MOST_TOGETHER; i++) {
        reader *r = &readers[i];
        if (!r->session || ft_random_below(random, 3) == 0)
            continue;
        size_t at = ft_session_length(r->session);
        if (ft_random_below(random, 2))
            *found += ft_session_find_prefix(r->session, r->t->ids + at, LENGTH - at);
        at = ft_session_length(r->session);
        size_t n = ft_random_below(random, 3) ? 1 : 1 + ft_random_below(random, 70);
        n = n < LENGTH - at ? n : LENGTH - at;
        n = n < left ? n : left;
        if (!n)
            continue;
        const int all = ft_random_below(random, 3) == 0;
        r->from = all ? at : at + n - 1;
        whose[count] = r;
        reads[count++] = (ft_read){r->session, r->t->ids + at, n,
                                   all ? (ft_outputs){.logits = r->logits} : (ft_outputs){.last_logits = r->logits}};
        left -= n;
    }
    assert_ok(ft_engine_read(e, reads, count, &st), st);
    for (size_t i = 0; i < count; i++) {
        const size_t end = ft_session_length(whose[i]->session);
        if (memcmp(whose[i]->logits, whose[i]->t->logits + whose[i]->from * V,
                   (end - whose[i]->from) * V * sizeof(float)) != 0)
            fail_msg("logits of tokens %zu to %zu are not those of the timeline alone", whose[i]->from, end);
    }
}

/* Random company: sessions come and go, read one token or many, share pages or do
 * not, with routing captured or not, until enough have been read to their ends. */
static void mix(const ft_model *m, const ft_engine_options *how, unsigned threads, uint64_t seed)
{
    const size_t V = ft_model_get_config(m)->vocab;
    timeline t[TIMELINES] = {{.without = 0}};
    reader readers[MOST_TOGETHER] = {{.session = NULL}};
    ft_random random;
    size_t ended = 0, found = 0;
    ft_random_init(&random, seed);
    make_timelines(t, m, how, &random);
    ft_pool *pool = open_pool(threads);
    ft_engine *e = open_engine(m, pool, how);
    while (ended < 40) {
        for (size_t i = 0; i < MOST_TOGETHER; i++) {
            reader *r = &readers[i];
            if (r->session && (ft_session_length(r->session) == LENGTH || ft_random_below(&random, 60) == 0)) {
                end_reader(r, &ended);
            } else if (r->session && ft_random_below(&random, 60) == 0) {
                ft_session_rewind(r->session, ft_random_below(&random, LENGTH));
            } else if (!r->session && ft_random_below(&random, 2)) {
                r->t = &t[ft_random_below(&random, TIMELINES)];
                r->capture = ft_random_below(&random, 3) != 0;
                r->session = open_on(e, r->t->without, r->capture);
                r->logits = r->logits ? r->logits : ft_alloc_array(LENGTH * V, sizeof(float));
            }
        }
        read_some(e, readers, V, &random, &found);
    }
    assert_true(found > 1000); /* or the prefix cache was not part of it */
    for (size_t i = 0; i < MOST_TOGETHER; i++) {
        if (readers[i].session)
            end_reader(&readers[i], &ended);
        free(readers[i].logits);
    }
    const ft_engine_load load = ft_engine_get_load(e);
    assert_int_equal(load.kv_bytes_used, load.prefix_pages * load.page_bytes); /* all pages came back */
    for (size_t i = 0; i < TIMELINES; i++) {
        free(t[i].logits);
        ft_buffer_release(&t[i].routing);
    }
    ft_engine_free(e);
    ft_pool_free(pool);
}

static void bits_do_not_depend_on_the_company(void **state)
{
    (void)state;
    static const struct {
        ft_compute compute;
        ft_kv_type kv_type;
        size_t batch;
        unsigned threads;
    } cases[] = {{FT_COMPUTE_FLOAT32, FT_KV_F32, 100, 2},
                 {FT_COMPUTE_FLOAT32, FT_KV_F16, 256, 1},
                 {FT_COMPUTE_BFLOAT16, FT_KV_F32, 77, 1},
                 {FT_COMPUTE_BFLOAT16, FT_KV_BF16, 130, 2},
                 {FT_COMPUTE_BFLOAT16, FT_KV_F16, 40, 3}};
    ft_model *m = open_model(fixture_write("company", &WIDE));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        mix(m,
            &(ft_engine_options){.compute = cases[i].compute,
                                 .kv_type = cases[i].kv_type,
                                 .batch_tokens = cases[i].batch,
                                 .kv_bytes = 64 << 20},
            cases[i].threads, 11 + i);
    ft_model_close(m);
}

static void bits_of_quantized_weights_do_not_depend_on_the_company(void **state)
{
    (void)state;
    fixture f = WIDE;
    f.hidden = 64; /* whole groups of 32, and rows that are no whole blocks of 16 */
    f.intermediate = 96;
    f.heads = 4;
    f.head_dim = 8;
    f.vocab = 90;
    const char *folder = fixture_write("unquantized", &f);
    for (int bits = 4; bits <= 8; bits += 4) {
        char command[4096], name[32];
        snprintf(name, sizeof(name), "int%d", bits);
        snprintf(command, sizeof(command), "$FLEXTRACE model convert %s --to %s -o %s", folder, name,
                 ft_test_path(name));
        assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
        ft_model *m = open_model(ft_test_path(name));
        mix(m, &(ft_engine_options){.batch_tokens = 90, .kv_bytes = 64 << 20}, 2, 20 + (uint64_t)bits);
        ft_model_close(m);
    }
}

static void bits_of_a_dense_model_do_not_depend_on_the_company(void **state)
{
    (void)state;
    fixture f = WIDE;
    f.experts = f.top_k = 0;
    f.half = 0;
    f.kv_heads = 1; /* and all queries of one key */
    ft_model *m = open_model(fixture_write("dense-company", &f));
    ft_status st = {0};
    ft_pool *pool = open_pool(2);
    ft_engine *e = open_engine(m, pool, &(ft_engine_options){.kv_bytes = 8 << 20});
    float alone[333], together[3][333];
    uint32_t ids[130];
    ft_session *s[3];
    ft_read reads[3];
    for (uint32_t i = 0; i < 130; i++)
        ids[i] = i * 7 % 333;
    for (size_t n = 0; n < 3; n++) {
        s[n] = open_on(e, 0, 0);
        reads[n] = (ft_read){s[n], ids + n, 60, {.last_logits = together[n]}};
    }
    assert_ok(ft_engine_read(e, reads, 3, &st), st);
    for (size_t n = 0; n < 3; n++) {
        ft_session *one;
        assert_ok(ft_session_open(&one, m, NULL, NULL, &st), st);
        for (size_t i = 0; i < 60; i++)
            assert_ok(ft_session_read(one, ids + n + i, 1, &(ft_outputs){.last_logits = alone}, NULL, &st), st);
        assert_memory_equal(alone, together[n], sizeof(alone));
        ft_session_close(one);
        ft_session_close(s[n]);
    }
    ft_engine_free(e);
    ft_pool_free(pool);
    ft_model_close(m);
}

/* What differs must differ: else the test above would pass for an engine that ignores its options. */
static void compute_and_cache_types_have_bits_of_their_own(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = open_model(fixture_write("types", &WIDE));
    float logits[4][333];
    static const ft_engine_options hows[] = {{.compute = FT_COMPUTE_FLOAT32},
                                             {.compute = FT_COMPUTE_BFLOAT16},
                                             {.kv_type = FT_KV_F16},
                                             {.kv_type = FT_KV_BF16}};
    for (size_t i = 0; i < 4; i++) {
        ft_engine_options how = hows[i];
        how.kv_bytes = 1 << 20;
        ft_engine *e = open_engine(m, NULL, &how);
        ft_session *s = open_on(e, 0, 0);
        assert_ok(
            ft_session_read(s, (const uint32_t[]){1, 2, 3, 4}, 4, &(ft_outputs){.last_logits = logits[i]}, NULL, &st),
            st);
        float most = 0;
        for (size_t v = 0; v < 333; v++) {
            const float d = logits[i][v] > logits[0][v] ? logits[i][v] - logits[0][v] : logits[0][v] - logits[i][v];
            most = d > most ? d : most;
        }
        if (i == 0 ? most != 0 : !(most > 0 && most < 0.2f))
            fail_msg("case %zu differs by %g", i, (double)most);
        ft_session_close(s);
        ft_engine_free(e);
    }
    ft_model_close(m);
}

static void a_decode_step_of_a_batch_allocates_nothing(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = open_model(fixture_write("steady-batch", &WIDE));
    ft_pool *pool = open_pool(2);
    ft_engine *e = open_engine(m, pool, &(ft_engine_options){.kv_bytes = 16 << 20});
    enum { B = 8 };
    ft_session *s[B];
    ft_read reads[B];
    uint32_t ids[B];
    static float logits[B][333];
    for (size_t b = 0; b < B; b++) {
        const ft_session_options o = {.max_tokens = 200, .capture_routing = 1, .share_prefix = 1};
        assert_ok(ft_session_open_on(&s[b], e, &o, &st), st);
        reads[b] = (ft_read){s[b], &ids[b], 1, {.last_logits = logits[b]}};
    }
    for (uint32_t i = 0; i < 200; i++) {
        for (uint32_t b = 0; b < B; b++)
            ids[b] = (i * b + i) % 333;
        ft_test_fail_allocation(1);
        const ft_code rc = ft_engine_read(e, reads, B, &st);
        const int allocated = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        assert_ok(rc, st);
        assert_false(allocated);
    }
    for (size_t b = 0; b < B; b++)
        ft_session_close(s[b]);
    ft_engine_free(e);
    ft_pool_free(pool);
    ft_model_close(m);
}

/* --- The prefix cache ----------------------------------------------------------------------------- */

static size_t found_for(ft_engine *e, const uint32_t *ids, size_t n, uint64_t without)
{
    ft_session *s = open_on(e, without, 0);
    const size_t found = ft_session_find_prefix(s, ids, n);
    assert_int_equal(ft_session_length(s), found);
    ft_session_close(s);
    return found;
}

static void whole_pages_are_found_again_by_the_same_tokens_and_experts(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = open_model(fixture_write("prefix", &FIXTURE));
    ft_engine *e = open_engine(m, NULL, &(ft_engine_options){.kv_bytes = 4 << 20});
    uint32_t ids[200], other[200];
    for (uint32_t i = 0; i < 200; i++)
        ids[i] = i * 3 % 40;
    ft_session *s = open_on(e, 2, 0);
    assert_int_equal(ft_session_find_prefix(s, ids, 200), 0);
    assert_ok(ft_session_read(s, ids, 199, NULL, NULL, &st), st);
    assert_int_equal(found_for(e, ids, 200, 2), 192); /* while the first one still reads */
    ft_session_close(s);
    assert_int_equal(found_for(e, ids, 200, 2), 192);
    assert_int_equal(found_for(e, ids, 192, 2), 128); /* one has to be read */
    assert_int_equal(found_for(e, ids, 64, 2), 0);
    assert_int_equal(found_for(e, ids, 200, 0), 0); /* another set of experts */
    assert_int_equal(found_for(e, ids, 200, 6), 0);
    assert_int_equal(found_for(e, ids + 64, 136, 2), 0); /* the same page at another place */
    memcpy(other, ids, sizeof(ids));
    other[70]++;
    assert_int_equal(found_for(e, other, 200, 2), 64);
    other[0]++;
    assert_int_equal(found_for(e, other, 200, 2), 0);
    /* The third page after another second one is another page. */
    memcpy(other, ids, sizeof(ids));
    other[127]++;
    s = open_on(e, 2, 0);
    assert_ok(ft_session_read(s, other, 128, NULL, NULL, &st), st);
    ft_session_close(s);
    assert_int_equal(found_for(e, other, 200, 2), 128);
    ft_engine_free(e);
    ft_model_close(m);
}

static void scores_do_not_take_from_the_cache(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = open_model(fixture_write("scores", &FIXTURE));
    ft_engine *e = open_engine(m, NULL, &(ft_engine_options){.kv_bytes = 4 << 20});
    uint32_t ids[130] = {1, 2, 3};
    ft_session *s = open_on(e, 0, 0);
    assert_ok(ft_session_read(s, ids, 130, NULL, NULL, &st), st);
    ft_session_close(s);
    assert_ok(ft_session_open_on(&s, e, NULL, &st), st); /* share_prefix 0 */
    assert_int_equal(ft_session_find_prefix(s, ids, 130), 0);
    ft_session_close(s);
    ft_engine_free(e);
    ft_model_close(m);
}

static void a_shared_page_is_never_written(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = open_model(fixture_write("shared", &FIXTURE));
    ft_engine *e = open_engine(m, NULL, &(ft_engine_options){.kv_bytes = 4 << 20});
    uint32_t ids[100], other[100];
    float want[40], got[40];
    for (uint32_t i = 0; i < 100; i++) {
        ids[i] = i % 40;
        other[i] = i < 20 ? ids[i] : (i * 11 + 5) % 40;
    }
    ft_session *a = open_on(e, 0, 0), *b = open_on(e, 0, 0);
    assert_ok(ft_session_read(a, ids, 99, NULL, NULL, &st), st);
    assert_int_equal(ft_session_find_prefix(b, ids, 100), 64);
    ft_session_rewind(b, 20); /* into the page that both have */
    assert_ok(ft_session_read(b, other + 20, 80, NULL, NULL, &st), st);
    assert_ok(ft_session_read(a, ids + 99, 1, &(ft_outputs){.last_logits = got}, NULL, &st), st);
    ft_session *alone;
    assert_ok(ft_session_open(&alone, m, NULL, NULL, &st), st);
    assert_ok(ft_session_read(alone, ids, 100, &(ft_outputs){.last_logits = want}, NULL, &st), st);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(found_for(e, other, 100, 0), 64);
    ft_session_close(alone);
    ft_session_close(a);
    ft_session_close(b);
    ft_engine_free(e);
    ft_model_close(m);
}

/* --- Memory that is out --------------------------------------------------------------------------- */

static size_t page_bytes(const ft_model *m)
{
    ft_engine *e = open_engine(m, NULL, &(ft_engine_options){.kv_bytes = 1});
    const size_t bytes = ft_engine_get_load(e).page_bytes;
    assert_int_equal(ft_engine_capacity(e), 64); /* less than a page is a page */
    ft_engine_free(e);
    return bytes;
}

static void a_session_without_memory_stays_as_it_was(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = open_model(fixture_write("exhausted", &FIXTURE));
    ft_engine *e = open_engine(m, NULL, &(ft_engine_options){.kv_bytes = 4 * page_bytes(m)});
    uint32_t ids[256];
    for (uint32_t i = 0; i < 256; i++)
        ids[i] = i % 40;
    ft_session *a = open_on(e, 0, 0), *b = open_on(e, 1, 0);
    assert_ok(ft_session_read(a, ids, 150, NULL, NULL, &st), st);
    assert_ok(ft_session_read(b, ids, 60, NULL, NULL, &st), st);
    assert_int_equal(ft_session_read(b, ids, 10, NULL, NULL, &st), FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "key-value memory of 256 tokens"));
    assert_int_equal(ft_session_length(b), 60);
    assert_ok(ft_session_read(b, ids, 4, NULL, NULL, &st), st);
    assert_int_equal(ft_session_read(b, ids, 1, NULL, NULL, &st), FT_ERR_LIMIT);
    ft_session_close(a); /* its pages stay in the prefix cache, which gives them up */
    assert_int_equal(ft_engine_get_load(e).prefix_pages, 3);
    assert_ok(ft_session_read(b, ids, 192, NULL, NULL, &st), st);
    assert_int_equal(ft_session_read(b, ids, 1, NULL, NULL, &st), FT_ERR_LIMIT);
    assert_int_equal(found_for(e, ids, 150, 0), 0);
    ft_session_close(b);
    ft_engine_free(e);
    ft_model_close(m);
}

/* --- The scheduler ---------------------------------------------------------------------------------- */

/* The same request by itself. */
static void check_alone(const ft_model *m, const ft_generate_request *r, const client *c)
{
    ft_status st = {0};
    ft_generation *g;
    assert_ok(ft_generation_open(&g, m, NULL, NULL, r, &st), st);
    while (ft_generation_get(g).finish == FT_FINISH_NONE)
        assert_ok(ft_generation_step(g, &st), st);
    const ft_generation_state end = ft_generation_get(g);
    assert_int_equal(c->rc, FT_OK);
    assert_int_equal(c->finish, end.finish);
    assert_int_equal(c->count, end.count);
    assert_memory_equal(c->ids, end.ids, end.count * sizeof(uint32_t));
    ft_generation_close(g);
}

enum { CLIENTS = 24, PROMPT = 220, NEW = 90 };

/* Prompts that share beginnings, other lengths, seeds, keys and sets of experts. */
static void run_clients(const ft_model *m, const ft_scheduler_options *o, size_t *cached, ft_scheduler_load *end)
{
    static const char *const keys[] = {NULL, "a", "b"};
    static uint32_t prompts[CLIENTS][PROMPT];
    static client clients[CLIENTS];
    ft_generate_request r[CLIENTS];
    ft_status st = {0};
    ft_scheduler *s;
    assert_ok(ft_scheduler_new(&s, m, NULL, o, &st), st);
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = new_client();
        for (uint32_t j = 0; j < PROMPT; j++)
            prompts[i][j] = (uint32_t)(j * 7 + (j < 130 ? i % 2 : i)) % 40;
        r[i] = (ft_generate_request){.key = keys[i % 3],
                                     .prompt = prompts[i],
                                     .prompt_count = i % 5 ? 1 + i * 9 : PROMPT,
                                     .max_new_tokens = i % 7 ? NEW : 3,
                                     .sampling = {.temperature = i % 4 ? 1 : 0, .top_p = 1, .seed = i},
                                     .without = i % 3 ? 0 : 2,
                                     .capture_routing = i & 1};
        assert_ok(ft_scheduler_submit(s, &r[i], on_step, &clients[i], &st), st);
    }
    *cached = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        wait_for(&clients[i]);
        assert_int_equal(clients[i].finals, 1);
        *cached += clients[i].cached;
        check_alone(m, &r[i], &clients[i]);
    }
    *end = ft_scheduler_get_load(s);
    ft_scheduler_free(s);
}

static void tokens_do_not_depend_on_who_else_runs(void **state)
{
    (void)state;
    ft_model *m = open_model(fixture_write("clients", &FIXTURE));
    ft_scheduler_load end;
    size_t cached;
    run_clients(m, &(ft_scheduler_options){.threads = 2, .max_running = 7}, &cached, &end);
    assert_true(cached >= 64);
    assert_int_equal(end.pauses, 0);
    ft_model_close(m);
}

/* One of them fits the memory, all of them do not: they wait, are set back, and end as they would alone. */
static void requests_wait_for_memory_and_none_fails(void **state)
{
    (void)state;
    ft_model *m = open_model(fixture_write("pressed", &FIXTURE));
    ft_scheduler_load end;
    size_t cached;
    run_clients(m, &(ft_scheduler_options){.threads = 1, .max_running = 9, .kv_bytes = 11 * page_bytes(m)}, &cached,
                &end);
    assert_true(end.pauses > 0);
    assert_int_equal(end.engine.kv_bytes_used, end.engine.prefix_pages * end.engine.page_bytes);
    ft_model_close(m);
}

static void what_could_never_fit_is_refused(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = open_model(fixture_write("never", &FIXTURE));
    ft_scheduler *s;
    client c = new_client();
    const uint32_t prompt[] = {1, 2};
    assert_ok(ft_scheduler_new(&s, m, NULL, &(ft_scheduler_options){.kv_bytes = 2 * page_bytes(m)}, &st), st);
    ft_generate_request r = {.prompt = prompt, .prompt_count = 2, .max_new_tokens = 127, .sampling = {.top_p = 1}};
    assert_ok(ft_scheduler_submit(s, &r, on_step, &c, &st), st); /* the last token is not read */
    wait_for(&c);
    assert_int_equal(c.count, 127);
    r.max_new_tokens = 128;
    assert_int_equal(ft_scheduler_submit(s, &r, on_step, &c, &st), FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "--kv-memory"));
    ft_scheduler_free(s);
    ft_model_close(m);
}

static void a_cancelled_request_gives_its_memory_back(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = open_model(fixture_write("cancelled", &FIXTURE));
    ft_scheduler *s;
    uint32_t prompt[300];
    client clients[4];
    for (uint32_t i = 0; i < 300; i++)
        prompt[i] = i % 40;
    assert_ok(ft_scheduler_new(&s, m, NULL, &(ft_scheduler_options){.threads = 1}, &st), st);
    for (size_t i = 0; i < 4; i++) {
        clients[i] = new_client();
        clients[i].stop_after = 1 + i;
        const ft_generate_request r = {
            .prompt = prompt + i, .prompt_count = 280, .max_new_tokens = 90, .sampling = {.top_p = 1}};
        assert_ok(ft_scheduler_submit(s, &r, on_step, &clients[i], &st), st);
    }
    for (size_t i = 0; i < 4; i++) {
        wait_for(&clients[i]);
        assert_int_equal(clients[i].finish, FT_FINISH_ABORT);
        assert_int_equal(clients[i].steps, clients[i].stop_after + 1); /* the step that answered, and the last word */
    }
    ft_scheduler_load load;
    do
        load = ft_scheduler_get_load(s);
    while (load.running); /* the last word comes before the memory */
    assert_int_equal(load.engine.kv_bytes_used, load.engine.prefix_pages * load.engine.page_bytes);
    ft_scheduler_free(s);
    ft_model_close(m);
}

static void keys_are_let_in_by_turns(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = open_model(fixture_write("turns", &FIXTURE));
    ft_scheduler *s;
    const uint32_t prompt[] = {1, 2, 3};
    client crowd[12], one[2];
    size_t order = 0;
    assert_ok(ft_scheduler_new(&s, m, NULL, &(ft_scheduler_options){.threads = 1, .max_running = 1}, &st), st);
    ft_generate_request r = {
        .key = "crowd", .prompt = prompt, .prompt_count = 3, .max_new_tokens = 120, .sampling = {.top_p = 1}};
    for (size_t i = 0; i < 12; i++) {
        crowd[i] = new_client();
        crowd[i].order = &order;
        assert_ok(ft_scheduler_submit(s, &r, on_step, &crowd[i], &st), st);
    }
    r.key = NULL;
    for (size_t i = 0; i < 2; i++) {
        one[i] = new_client();
        one[i].order = &order;
        assert_ok(ft_scheduler_submit(s, &r, on_step, &one[i], &st), st);
    }
    for (size_t i = 0; i < 12; i++)
        wait_for(&crowd[i]);
    for (size_t i = 0; i < 2; i++)
        wait_for(&one[i]);
    assert_true(crowd[11].place == 14); /* the crowd's last is the last of all */
    assert_true(one[0].place <= 9 && one[1].place <= 11);
    ft_scheduler_free(s);
    ft_model_close(m);
}

/* Streams go on while a long prompt comes in. */
static void a_long_prompt_is_read_between_the_steps_of_others(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = open_model(fixture_write("between", &WIDE));
    ft_scheduler *s;
    uint32_t prompt[480];
    client stream = new_client(), prompted = new_client();
    for (uint32_t i = 0; i < 480; i++)
        prompt[i] = i % 333;
    assert_ok(ft_scheduler_new(&s, m, NULL, &(ft_scheduler_options){.threads = 2}, &st), st);
    ft_generate_request r = {.prompt = prompt, .prompt_count = 1, .max_new_tokens = 120, .sampling = {.top_p = 1}};
    assert_ok(ft_scheduler_submit(s, &r, on_step, &stream, &st), st);
    pthread_mutex_lock(&stream.lock);
    while (stream.count < 2)
        pthread_cond_wait(&stream.changed, &stream.lock);
    pthread_mutex_unlock(&stream.lock);
    r.prompt_count = 480;
    r.max_new_tokens = 1;
    assert_ok(ft_scheduler_submit(s, &r, on_step, &prompted, &st), st);
    wait_for(&prompted);
    assert_true(prompted.steps >= 2);
    wait_for(&stream);
    assert_int_equal(stream.count, 120);
    ft_scheduler_free(s);
    ft_model_close(m);
}

/* --- Faults --------------------------------------------------------------------------------------------- */

static ft_code open_and_read(void *model, ft_status *st)
{
    const ft_model *m = model;
    ft_engine *e;
    ft_session *s = NULL;
    uint32_t ids[300] = {0};
    ft_code rc = ft_engine_new(&e, m, NULL, &(ft_engine_options){.kv_bytes = 4 << 20}, st);
    if (!rc)
        rc = ft_session_open_on(&s, e, &(ft_session_options){.capture_routing = 1, .share_prefix = 1}, st);
    if (!rc)
        rc = ft_session_read(s, ids, 300, NULL, NULL, st);
    ft_session_close(s);
    ft_engine_free(e);
    return rc;
}

static void every_allocation_of_an_engine_may_fail(void **state)
{
    (void)state;
    ft_model *m = open_model(fixture_write("engine-faults", &FIXTURE));
    ft_test_each_allocation_fails(open_and_read, m);
    ft_model_close(m);
}

/* --- Options ---------------------------------------------------------------------------------------------- */

static void shows(const char *arguments, int code, const char *what)
{
    char command[4096], *out, *err;
    snprintf(command, sizeof(command), "$FLEXTRACE %s", arguments);
    const int got = ft_test_shell(command, &out, &err);
    if (got != code || (!strstr(err, what) && !strstr(out, what)))
        fail_msg("%s: %d: %s%s", arguments, got, out, err);
    free(out);
    free(err);
}

static void commands_take_precision_and_memory(void **state)
{
    (void)state;
    char line[3072], yaml[2048], model[1024];
    snprintf(model, sizeof(model), "%s", ft_test_source("demo/model"));
    snprintf(line, sizeof(line), "generate %s -p 'In the beginning' -n 4 --compute bfloat16 --kv-type float16", model);
    shows(line, 0, " ");
    snprintf(line, sizeof(line), "generate %s -p x -n 4 --compute int8", model);
    shows(line, 2, "it can be float32 or bfloat16");
    snprintf(line, sizeof(line), "generate %s -p x -n 4 --kv-type bf", model);
    shows(line, 2, "it can be float32, float16 or bfloat16");
    snprintf(line, sizeof(line), "generate %s -p x -n 100 --kv-memory 1K", model);
    shows(line, 3, "a larger --kv-memory");
    snprintf(yaml, sizeof(yaml), "model: %s\ncompute: bfloat16\nkv_type: float61\n", model);
    snprintf(line, sizeof(line), "generate %s -p x -n 4", ft_test_write("bad.yaml", yaml, strlen(yaml)));
    shows(line, 3, "bad.yaml:3: the key-value cache's type is 'float61'");
    snprintf(yaml, sizeof(yaml), "model: %s\nkv_type: bfloat16\nlimits:\n  kv_bytes: 100000000\n", model);
    snprintf(line, sizeof(line), "generate %s -p x -n 4", ft_test_write("good.yaml", yaml, strlen(yaml)));
    shows(line, 0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_the_company),
        cmocka_unit_test(bits_of_quantized_weights_do_not_depend_on_the_company),
        cmocka_unit_test(bits_of_a_dense_model_do_not_depend_on_the_company),
        cmocka_unit_test(compute_and_cache_types_have_bits_of_their_own),
        cmocka_unit_test(a_decode_step_of_a_batch_allocates_nothing),
        cmocka_unit_test(whole_pages_are_found_again_by_the_same_tokens_and_experts),
        cmocka_unit_test(scores_do_not_take_from_the_cache),
        cmocka_unit_test(a_shared_page_is_never_written),
        cmocka_unit_test(a_session_without_memory_stays_as_it_was),
        cmocka_unit_test(tokens_do_not_depend_on_who_else_runs),
        cmocka_unit_test(requests_wait_for_memory_and_none_fails),
        cmocka_unit_test(what_could_never_fit_is_refused),
        cmocka_unit_test(a_cancelled_request_gives_its_memory_back),
        cmocka_unit_test(keys_are_let_in_by_turns),
        cmocka_unit_test(a_long_prompt_is_read_between_the_steps_of_others),
        cmocka_unit_test(every_allocation_of_an_engine_may_fail),
        cmocka_unit_test(commands_take_precision_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
