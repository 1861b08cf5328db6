#include "model/eval/ft_eval_system.h"

#include "base/ft_buffer.h"
#include "model/eval/ft_eval_choice.h"
#include "model/eval/ft_eval_generate.h"

#include <math.h>
#include <stdlib.h>

enum { NEW_TOKENS = 64 };

static size_t all_tokens(const ft_eval_setting *e)
{
    size_t n = 0;
    for (unsigned d = 0; d < e->recipe->domains_count; d++)
        n += e->texts[d].tokens;
    return n;
}

json_t *ft_eval_system_bits(const ft_eval_setting *e, const float *log2p)
{
    json_t *bits = json_object();
    size_t at = 0;
    int bad = !bits;
    for (unsigned d = 0; d < e->recipe->domains_count; d++) {
        bad |= json_object_set_new(bits, e->recipe->domains[d].name,
                                   json_real(ft_eval_bits_per_byte(&e->texts[d], log2p + at)));
        at += e->texts[d].tokens;
    }
    json_t *out = bad ? NULL : json_pack("{s:o}", "bits_per_byte", bits);
    if (bad)
        json_decref(bits);
    return out;
}

static int add_shares(json_t *shares, json_t *first, const char *domain, const ft_eval_shares *s)
{
    json_t *w = json_array(), *f = json_array();
    for (size_t x = 0; x < s->experts; x++) {
        json_array_append_new(w, json_real(s->decisions ? s->weight[x] / (double)s->decisions : 0));
        json_array_append_new(f, json_real(s->decisions ? s->first[x] / (double)s->decisions : 0));
    }
    return json_object_set_new(shares, domain, w) | json_object_set_new(first, domain, f);
}

static ft_code measure_texts(json_t **out, const ft_eval_setting *e, ft_scorer *s, size_t experts, float *log2p,
                             const ft_progress *progress, ft_status *st)
{
    json_t *shares = json_object(), *first = json_object();
    ft_code rc = FT_OK;
    size_t at = 0;
    int bad = !shares || !first;
    for (unsigned d = 0; d < e->recipe->domains_count && !rc; d++) {
        ft_eval_shares of;
        rc = ft_eval_bits(s, &e->texts[d], log2p + at, experts > 1 ? &of : NULL, progress, st);
        at += e->texts[d].tokens;
        if (!rc && experts > 1)
            bad |= add_shares(shares, first, e->recipe->domains[d].name, &of);
    }
    *out = rc ? NULL : ft_eval_system_bits(e, log2p);
    bad |= !rc && !*out;
    if (!rc && !bad && experts > 1)
        bad = json_object_set(*out, "shares", shares) | json_object_set(*out, "first", first);
    json_decref(shares);
    json_decref(first);
    return bad && !rc ? ft_fail(st, FT_ERR_MEM, "out of memory") : rc;
}

static ft_code choose(json_t *out, const ft_eval_setting *e, const ft_model *m, uint64_t without,
                      const ft_progress *progress, ft_status *st)
{
    if (!e->recipe->choices_count)
        return FT_OK;
    ft_scorer *s;
    ft_code rc = ft_scorer_new(&s, m, e->pool, 0, without, 0, st);
    json_t *all = json_object();
    for (unsigned i = 0; i < e->recipe->choices_count && !rc; i++) {
        const ft_recipe_task *t = &e->recipe->choices[i];
        ft_eval_choices c;
        rc = ft_eval_choose(&c, s, e->tokenizer, e->choices[i], t->limit ? (size_t)*t->limit : 0, progress, st);
        if (rc)
            break;
        json_t *o = json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "items", (json_int_t)c.items, "acc", c.acc,
                              "acc_per_byte", c.acc_per_byte, "acc_per_char", c.acc_per_char, "bpb", c.bpb, "chance",
                              c.chance, "standard_error", ft_eval_standard_error(c.acc, c.items));
        if (o && isfinite(c.acc_uncond))
            json_object_set_new(o, "acc_uncond", json_real(c.acc_uncond));
        if (json_object_set_new(all, t->name, o))
            rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    if (!rc && json_object_set(out, "choices", all))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    json_decref(all);
    ft_scorer_free(s);
    return rc;
}

static ft_code match(json_t *out, const ft_eval_setting *e, const ft_model *m, uint64_t without,
                     const ft_progress *progress, ft_status *st)
{
    if (!e->recipe->exact_count)
        return FT_OK;
    ft_code rc = FT_OK;
    json_t *all = json_object();
    for (unsigned i = 0; i < e->recipe->exact_count && !rc; i++) {
        const ft_recipe_task *t = &e->recipe->exact[i];
        const ft_eval_exact_options o = {.new_tokens = t->new_tokens ? (size_t)*t->new_tokens : NEW_TOKENS,
                                         .limit = t->limit ? (size_t)*t->limit : 0,
                                         .after = t->after,
                                         .stop = t->stop,
                                         .without = without};
        ft_eval_exact x;
        rc = ft_eval_match(&x, m, e->pool, e->tokenizer, e->exact[i], &o, progress, st);
        if (rc)
            break;
        const double share = x.items ? (double)x.right / (double)x.items : 0;
        if (json_object_set_new(all, t->name,
                                json_pack("{s:I, s:I, s:f, s:f}", "items", (json_int_t)x.items, "right",
                                          (json_int_t)x.right, "exact", share, "standard_error",
                                          ft_eval_standard_error(share, x.items))))
            rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    if (!rc && json_object_set(out, "exact", all))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    json_decref(all);
    return rc;
}

ft_code ft_eval_system(json_t **out, const ft_eval_setting *e, const char *folder, uint64_t without, float *log2p,
                       const ft_progress *progress, ft_status *st)
{
    ft_model *m = NULL;
    ft_scorer *s = NULL;
    float *own = NULL;
    size_t experts = 0;
    *out = NULL;
    ft_code rc = ft_model_open(&m, folder, st);
    if (!rc) {
        experts = ft_model_get_config(m)->experts;
        if (ft_tokenizer_vocab_size(e->tokenizer) > ft_model_get_config(m)->vocab)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: has a vocabulary of %zu, the recipe's tokenizer %u ids", folder,
                         ft_model_get_config(m)->vocab, ft_tokenizer_vocab_size(e->tokenizer));
    }
    if (!rc && !log2p && !(log2p = own = ft_alloc_array(all_tokens(e), sizeof(*own))))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_scorer_new(&s, m, e->pool, e->window, without, experts > 1, st);
    if (!rc)
        rc = measure_texts(out, e, s, experts, log2p, progress, st);
    if (!rc)
        rc = choose(*out, e, m, without, progress, st);
    if (!rc)
        rc = match(*out, e, m, without, progress, st);
    if (rc) {
        json_decref(*out);
        *out = NULL;
    }
    free(own);
    ft_scorer_free(s);
    ft_model_close(m);
    return rc;
}
