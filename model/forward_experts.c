/* The experts of a pass: the router's choice for each token, and the products of each
 * expert over all tokens of the batch that chose it. */
#include "model/engine_internal.h"

#include <string.h>

/* --- Routing ----------------------------------------------------------------------------- */

/* Logits of the experts in `kept`, one after the other in `some`, by the router's rows of those alone:
 * nothing of the others is read. The router is computed in float32 whatever `compute` says. */
static size_t router_logits(const ft_engine *e, const ft_matrix *router, uint64_t kept, const float *x, float *some)
{
    size_t left = 0;
    for (size_t row = 0, n; row < router->rows; row += n) {
        n = 1;
        if (!(kept >> row & 1))
            continue;
        while (row + n < router->rows && (kept >> (row + n) & 1))
            n++;
        const ft_matrix rows = ft_matrix_rows(router, row, n);
        const ft_matmul m = {.w = rows.data,
                             .w_stride = rows.cols,
                             .rows = n,
                             .cols = rows.cols,
                             .x = x,
                             .x_stride = rows.cols * sizeof(*x),
                             .tokens = 1,
                             .out = some + left,
                             .out_stride = n};
        ft_kernels_matmul(&e->kernels, rows.type, FT_COMPUTE_FLOAT32)(&m);
        left += n;
    }
    return left;
}

/* The k largest of probs among `open` (the lower number first on a tie), and their mixing weights. */
static void choose(const ft_engine *e, const float *probs, uint64_t open, size_t k, uint8_t *chosen, float *weights)
{
    float sum = 0;
    for (size_t j = 0; j < k; j++) {
        size_t best = (size_t)__builtin_ctzll(open);
        for (size_t x = best + 1; x < e->experts; x++)
            if ((open >> x & 1) && probs[x] > probs[best])
                best = x;
        open &= ~((uint64_t)1 << best);
        chosen[j] = (uint8_t)best;
        weights[j] = probs[best];
        sum += probs[best];
    }
    for (size_t j = 0; j < k && e->model->config.norm_topk_prob; j++)
        weights[j] /= sum;
}

/* Router probabilities of one token over the experts that take part, written with its
 * choice into its page; a dense model has one expert, of weight 1. */
void ft_pass_route(ft_pass *p, size_t t)
{
    ft_engine *e = p->e;
    ft_scratch *z = &e->scratch;
    const ft_model_config *c = &e->model->config;
    const ft_token *token = &z->tokens[t];
    uint8_t *chosen = z->chosen + t * e->top_k;
    float *weights = z->weights + t * e->top_k, some[FT_MAX_EXPERTS] = {0};
    if (!c->experts) {
        *chosen = 0;
        *weights = 1;
        return;
    }
    const uint64_t kept = token->session->kept;
    const size_t k = token->session->top_k, at = token->position % FT_KV_PAGE;
    const size_t left = router_logits(e, &e->model->layers[p->layer].router, kept, z->x + t * c->hidden, some);
    const float *bias = e->model->layers[p->layer].expert_bias;
    for (size_t x = 0, i = 0; x < c->experts && bias; x++)
        if (kept >> x & 1)
            some[i++] += x ? bias[x - 1] : 0;
    e->kernels.softmax(some, left, 1);
    float *probs = ft_kv_probs(&e->kv, token->page, at) + p->layer * c->experts;
    for (size_t x = 0, i = 0; x < c->experts; x++)
        probs[x] = kept >> x & 1 ? some[i++] : 0;
    choose(e, probs, kept, k, chosen, weights);
    memcpy(ft_kv_weights(&e->kv, token->page, at) + p->layer * c->top_k, weights, k * sizeof(*weights));
    memcpy(ft_kv_chosen(&e->kv, token->page, at) + p->layer * c->top_k, chosen, k);
}

/* --- The experts' products ------------------------------------------------------------------ */

/* Pairs of a token in this layer. After the last layer's router nothing more is asked of a token
 * whose logits nobody wants: most of a prompt. */
static size_t choices_of(const ft_pass *p, const ft_token *token)
{
    const ft_model_config *c = &p->e->model->config;
    if (p->layer + 1 == c->layers && !token->logits && !token->final_norm && !token->hidden)
        return 0;
    return c->experts ? token->session->top_k : 1;
}

/* Groups the pairs (token, chosen expert) by expert; first_pair[x] is where x's begin. */
static void group_pairs(ft_pass *p)
{
    const ft_engine *e = p->e;
    ft_scratch *z = &p->e->scratch;
    size_t next[FT_MAX_EXPERTS + 1] = {0};
    for (size_t t = 0; t < p->tokens; t++)
        for (size_t j = 0; j < choices_of(p, &z->tokens[t]); j++)
            next[z->chosen[t * e->top_k + j] + 1]++;
    for (size_t x = 0; x < e->experts; x++)
        next[x + 1] += next[x];
    memcpy(p->first_pair, next, sizeof(next));
    for (size_t t = 0; t < p->tokens; t++)
        for (size_t j = 0; j < choices_of(p, &z->tokens[t]); j++) {
            const uint8_t x = z->chosen[t * e->top_k + j];
            const size_t pair = next[x]++;
            z->pair_token[pair] = (uint32_t)t;
            z->pair_expert[pair] = x;
            z->pair_slot[t * e->top_k + j] = (uint32_t)pair;
        }
}

/* --- First products ------------------------------------------------------------------------- */

static size_t pairs_of(const ft_pass *p, size_t expert)
{
    return p->first_pair[expert + 1] - p->first_pair[expert];
}

/* Whether an expert's first products go straight into the input of its last one. */
static int is_gated(const ft_pass *p, size_t expert)
{
    const ft_layer_inputs *in = &p->e->inputs[p->layer];
    const unsigned bf16 = 1u << FT_INPUT_BF16;
    return p->e->kernels.gated && in->ffn == bf16 && in->down == bf16 && pairs_of(p, expert) >= FT_GATED_TOKENS;
}

/* Whether the tokens of such an expert are laid side by side, as a family's products like them. They take the room of
 * the floats that it does without. */
static int is_gathered(const ft_pass *p, size_t expert)
{
    const ft_engine *e = p->e;
    const size_t n = pairs_of(p, expert);
    return is_gated(p, expert) && e->kernels.dense && n > e->kernels.dense && n < p->tokens &&
           e->scratch.hidden_in.stride[FT_INPUT_BF16] <= e->model->config.intermediate * sizeof(float);
}

int ft_pass_gathers(const ft_pass *p)
{
    for (size_t x = 0; x < p->e->experts; x++)
        if (is_gathered(p, x))
            return 1;
    return 0;
}

static char *gathered_of(const ft_pass *p, size_t expert)
{
    return (char *)(p->e->scratch.gate + p->first_pair[expert] * p->e->model->config.intermediate);
}

void ft_pass_gather(ft_pass *p)
{
    const ft_scratch *z = &p->e->scratch;
    const size_t bytes = z->hidden_in.stride[FT_INPUT_BF16], pairs = p->first_pair[p->e->experts];
    size_t i, end;
    while (ft_pass_take(p, pairs, ft_pass_share(p, pairs), &i, &end))
        for (; i < end; i++) {
            const size_t x = z->pair_expert[i];
            if (is_gathered(p, x))
                memcpy(gathered_of(p, x) + (i - p->first_pair[x]) * bytes,
                       z->hidden_in.rows[FT_INPUT_BF16] + z->pair_token[i] * bytes, bytes);
        }
}

static void add_first_products(ft_pass *p, size_t expert)
{
    const ft_engine *e = p->e;
    const ft_scratch *z = &e->scratch;
    const size_t I = e->model->config.intermediate, at = p->first_pair[expert], n = pairs_of(p, expert);
    const int gathered = is_gathered(p, expert), in_order = gathered || n == p->tokens;
    ft_inputs in = z->hidden_in;
    if (gathered)
        in.rows[FT_INPUT_BF16] = gathered_of(p, expert);
    ft_product *one = ft_products_add_gated(&p->work, e, &e->model->layers[p->layer].experts[expert], &in,
                                            in_order ? NULL : z->pair_token + at, n, z->gate + at * I, I);
    if (is_gated(p, expert)) {
        one->ready_step = z->gate_in.stride[FT_INPUT_BF16];
        one->ready = z->gate_in.rows[FT_INPUT_BF16] + at * one->ready_step;
    } else
        p->floats += n;
}

void ft_pass_group(void *pass)
{
    ft_pass *p = pass;
    const ft_engine *e = p->e;
    group_pairs(p);
    ft_products_clear(&p->work);
    p->floats = 0;
    for (size_t x = 0; x < e->experts; x++)
        if (pairs_of(p, x)) {
            ft_model_expert_want(e->model, p->layer, x);
            add_first_products(p, x);
        }
    ft_products_deal(&p->work);
}

/* --- Last products -------------------------------------------------------------------------- */

static const ft_matrix *down_of(const ft_pass *p, size_t expert)
{
    return &p->e->model->layers[p->layer].experts[expert].down;
}

int ft_pass_prepares_pairs(const ft_pass *p)
{
    return p->floats && (p->e->inputs[p->layer].down & ~(1u << FT_INPUT_F32)) != 0;
}

void ft_pass_prepare_pairs(ft_pass *p)
{
    ft_engine *e = p->e;
    const size_t I = e->model->config.intermediate, pairs = p->first_pair[e->experts];
    size_t i, end;
    while (ft_pass_take(p, pairs, ft_pass_share(p, pairs), &i, &end))
        for (; i < end; i++) {
            const size_t x = e->scratch.pair_expert[i];
            if (!is_gated(p, x))
                ft_inputs_prepare(e, &e->scratch.gate_in, ft_input_bit(e, down_of(p, x)), i, e->scratch.gate + i * I,
                                  I);
        }
}

void ft_pass_deal_down(void *pass)
{
    ft_pass *p = pass;
    const ft_engine *e = p->e;
    ft_scratch *z = &p->e->scratch;
    const size_t step = z->down_stride;
    ft_products_clear(&p->work);
    for (size_t x = 0; x < e->experts; x++) {
        const size_t at = p->first_pair[x], n = p->first_pair[x + 1] - at;
        if (!n)
            continue;
        ft_product *one = ft_products_add(&p->work, e, down_of(p, x), &z->gate_in, NULL, n, z->down + at * step, step);
        one->x += at * one->x_stride;
    }
    ft_products_deal(&p->work);
}

/* sub[t] = sum over the chosen of weight * down, largest weight first. */
void ft_pass_combine(ft_pass *p, size_t t)
{
    const ft_engine *e = p->e;
    const ft_scratch *z = &e->scratch;
    const size_t H = e->model->config.hidden, k = e->top_k, n = choices_of(p, &z->tokens[t]);
    float *sub = z->sub + t * H;
    memset(sub, 0, H * sizeof(*sub));
    for (size_t j = 0; j < n; j++)
        e->kernels.add_scaled(sub, z->down + z->pair_slot[t * k + j] * z->down_stride, z->weights[t * k + j], H);
}
