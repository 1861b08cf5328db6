/* train_run_fixture: a small corpus of ids, and runs of the goldens' model on it. */
#ifndef FT_TRAIN_RUN_FIXTURE_H
#define FT_TRAIN_RUN_FIXTURE_H
#include "tests/train_fixture.h"

#include "model/train/ft_train_run.h"

enum { DOCUMENTS = 40, LENGTH = 16, END = 0 };

/* Documents of 3 to 22 tokens, each an arithmetic sequence that tells its number. */
__attribute__((unused)) static ft_train_data *some_data(uint64_t *total)
{
    static int32_t tokens[DOCUMENTS * 23];
    static uint64_t starts[DOCUMENTS + 1];
    uint64_t at = 0;
    for (uint64_t d = 0; d < DOCUMENTS; d++) {
        starts[d] = at;
        for (uint64_t i = 0; i < 3 + d % 20; i++)
            tokens[at++] = (int32_t)(1 + (d + i * 3) % 63);
        tokens[at++] = END;
    }
    starts[DOCUMENTS] = at;
    if (total)
        *total = at;
    ft_train_data *d;
    ft_status st = {0};
    assert_ok(ft_train_data_of_ids(&d, tokens, starts, DOCUMENTS, &st), st);
    return d;
}

__attribute__((unused)) static const ft_train_options usual = {
    .steps = 7,
    .batch = 5,
    .micro = 2,
    .length = LENGTH,
    .adamw = {.rate = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8},
    .schedule = FT_SCHEDULE_COSINE,
    .warmup = 2,
    .least = 0.1,
    .clip = 1,
    .seed = 3,
    .checkpoint_every = 2};

__attribute__((unused)) static ft_trainer *trainer(ft_train_mode mode)
{
    ft_trainer *t;
    ft_status st = {0};
    assert_ok(ft_trainer_open(&t, golden_model("run-model", 0), &(ft_trainer_options){.mode = mode, .threads = 1}, &st),
              st); /* one thread: runs are forked */
    return t;
}

__attribute__((unused)) static void same_weights(ft_trainer *a, ft_trainer *b)
{
    const ft_parameters *p = ft_trainer_parameters(a), *q = ft_trainer_parameters(b);
    for (size_t i = 0; i < p->count; i++)
        assert_memory_equal(p->all[i].value, q->all[i].value, p->all[i].count * sizeof(float));
}

__attribute__((unused)) static size_t lines_of(const char *path)
{
    size_t n, lines = 0;
    char *text = ft_test_read(path, &n);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    free(text);
    return lines;
}

__attribute__((unused)) static ft_train_options private_options(void)
{
    ft_train_options o = usual;
    o.dp_clip = 0.5;
    o.noise_multiplier = 1;
    o.epsilon = 50;
    o.delta = 1e-5;
    return o;
}
#endif
