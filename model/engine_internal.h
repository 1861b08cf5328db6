/* engine_internal: an engine's and a session's memory (ft_engine.c, ft_session.c), and
 * the pass over a batch (ft_forward.c, forward_attention.c, forward_experts.c,
 * forward_products.c). */
#ifndef FT_ENGINE_INTERNAL_H
#define FT_ENGINE_INTERNAL_H
#include "base/ft_team.h"
#include "model/ft_engine.h"
#include "model/ft_prefix.h"
#include "model/model_internal.h"

#include <pthread.h>

enum {
    FT_BATCH_TOKENS = 256, /* that a pass takes; bits do not depend on it */
    FT_TILE_ROWS = 16,     /* queries that read keys and values together: some tokens' heads of one group */
    FT_PIECE_ROWS = 32,    /* rows of a matrix are dealt out in multiples of this, or of FT_GATED_ROWS */
    FT_MAX_PRODUCTS = FT_MAX_EXPERTS + 4,
};

/* One token of a pass. */
typedef struct ft_token {
    ft_session *session;
    uint32_t id, position, page;
    float *hidden, *final_norm, *logits; /* where they are wanted; NULL: nowhere */
    size_t hidden_stride;                /* from one level to the next */
} ft_token;

/* Tokens first … first + count - 1 of a pass: one session's, one after the other. */
typedef struct ft_tile {
    size_t first, count;
} ft_tile;

/* Rows that products read, prepared for each type of input that asks for it. */
typedef struct ft_inputs {
    char *rows[FT_INPUT_TYPES];
    size_t stride[FT_INPUT_TYPES]; /* bytes */
} ft_inputs;

/* out[t] = w x[t]; with `up` silu(w x[t]) * (up x[t]); with `places` row t goes to places[t]; with `ready` a gated
 * product's row t goes there, prepared (ft_gated.h). */
typedef struct ft_product {
    ft_matrix w, up;              /* up.data NULL: none */
    const char *x, *up_x;         /* rows as w and up read them */
    size_t x_stride, up_x_stride; /* bytes */
    const uint32_t *index;
    size_t tokens;
    float *out;
    size_t out_stride;
    float *const *places;
    char *ready;
    size_t ready_step; /* bytes */
    /* How it is dealt out: pieces of some rows, numbered through all products. */
    size_t piece_rows, first_piece, pieces;
    uint64_t cost_before, piece_cost;
} ft_product;

/* `next` is apart: every thread writes it. */
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
typedef struct ft_products {
    size_t count, pieces;
    uint64_t cost;
    ft_product list[FT_MAX_PRODUCTS];
    _Alignas(64) _Atomic uint64_t next; /* piece that nobody has yet */
} ft_products;

/* Memory of a pass over T <= batch tokens, P = T * k pairs of token and chosen expert. */
typedef struct ft_scratch {
    ft_token *tokens;                           /* [T] */
    ft_tile *tiles;                             /* [T] */
    float *x, *sub;                             /* [T, H] residual stream; what a block adds to it */
    float *q, *attention;                       /* [T, heads * D] */
    float *k, *v;                               /* [T, kv_heads * D] */
    float *cos, *sin;                           /* [T, D/2] */
    float *weights;                             /* [T, k] */
    uint8_t *chosen;                            /* [T, k] */
    uint32_t *pair_token, *pair_slot;           /* [P] grouped by expert: which token; and [T, k] where its pair is */
    uint8_t *pair_expert;                       /* [P] */
    float *gate, *down;                         /* [P, I], [P, down_stride] */
    ft_inputs hidden_in, attention_in, gate_in; /* of x, attention, gate */
    float **places;                             /* [T] rows of logits that are wanted */
    uint32_t *wanted;                           /* [T] and whose they are */
    float *scores;                              /* [members, score_rows, score_stride] */
    float *heads;     /* [members, 2, score_rows, D] queries of a tile, and what attention makes of them */
    uint32_t *depths; /* [members, score_rows] positions that a row sees of a page */
    float *blocks;    /* [members, block_stride] */
    size_t score_rows, score_stride, down_stride;
    size_t block_floats, block_stride; /* that are used at a time between two products; that a member has */
} ft_scratch;

/* Which types of input the products of a layer read: bit 1 << ft_input_type. */
typedef struct ft_layer_inputs {
    unsigned qkv, o, ffn, down;
} ft_layer_inputs;

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
typedef struct ft_pass {
    ft_engine *e;
    ft_team team;
    size_t tokens, tiles, wanted;
    size_t layer;
    size_t first_pair[FT_MAX_EXPERTS + 1];
    size_t floats; /* pairs whose gated products are floats, which have to be prepared */
    ft_products work;
    _Alignas(64) atomic_size_t next_task; /* of a step that is not of products: ft_pass_take */
} ft_pass;

struct ft_engine {
    const ft_model *model;
    ft_pool *pool;
    ft_kernels kernels;
    ft_compute compute;
    size_t batch, max_tokens, tile; /* tokens of a pass, of a session, of a tile of attention */
    size_t experts, top_k, members; /* a dense model's FFN counts as its one expert; threads */
    float *inv_freq, rope_scaling;  /* [D/2] */
    ft_layer_inputs *inputs;        /* [layers] */
    ft_scratch scratch;
    ft_pass *pass;
    /* Called without the lock when pages are out: the scheduler takes them from a running
     * request. 0: it cannot. */
    int (*reclaim)(void *context);
    void *reclaim_context;
    pthread_mutex_t lock; /* of what follows */
    int lock_made;
    ft_kv kv;
    ft_prefix prefix; /* entries NULL: none */
    uint64_t prefix_asked, prefix_found;
};

struct ft_session {
    ft_engine *engine;
    ft_engine *own;       /* the same, when nobody shares it */
    uint64_t kept;        /* bit e: expert e takes part */
    size_t top_k, length; /* k'; tokens read */
    size_t max_tokens;
    int capture, share;
    uint32_t *pages; /* [max_tokens / 64, rounded up] */
    size_t page_count;
    /* Routing of all tokens read, gathered from the pages; grown to `capacity` tokens. */
    size_t capacity;
    float *routing_probs;   /* [capacity, L, E] */
    float *routing_weights; /* [capacity, L, k'] */
    uint8_t *routing_ids;   /* [capacity, L, k'] */
};

/* The pass over e->pass->tokens tokens of the scratch; their pages are there. */
void ft_forward(ft_engine *e);

/* Tasks *first … *end - 1 of a step, at most `share` of its `tasks`, which nobody has yet; 0: none is left. Threads
 * take their share one after the other, so that one that is held up has less to do. */
static inline int ft_pass_take(ft_pass *p, size_t tasks, size_t share, size_t *first, size_t *end)
{
    *first = atomic_fetch_add_explicit(&p->next_task, share, memory_order_relaxed);
    *end = *first + share < tasks ? *first + share : tasks;
    return *first < tasks;
}

/* A share of `count` tokens or pairs: some microseconds. */
static inline size_t ft_pass_share(const ft_pass *p, size_t count)
{
    const size_t share = 1 + count / (4 * (size_t)p->team.size);
    return share < 8 ? share : 8;
}

/* Steps of a pass. */
void ft_pass_place(ft_pass *p, size_t t); /* a token's query and key, normed and rotated; key and value into its page */
void ft_pass_attend(ft_pass *p, unsigned member); /* `member`: the thread's place in the team */
void ft_pass_route(ft_pass *p, size_t t); /* the experts of a token */
void ft_pass_group(void *pass);           /* serial: pairs by expert, and their gate and up laid out */
int ft_pass_gathers(const ft_pass *p);    /* then ft_pass_gather is a step before the first products */
void ft_pass_gather(ft_pass *p);
int ft_pass_prepares_pairs(const ft_pass *p); /* then ft_pass_prepare_pairs is a step behind them */
void ft_pass_prepare_pairs(ft_pass *p);
void ft_pass_deal_down(void *pass);         /* serial */
void ft_pass_combine(ft_pass *p, size_t t); /* sub = the experts' outputs by their weights */

/* --- forward_products.c --- */
void ft_products_clear(ft_products *p);
/* The product of w and rows that `in` has prepared. */
ft_product *ft_products_add(ft_products *p, const ft_engine *e, const ft_matrix *w, const ft_inputs *in,
                            const uint32_t *index, size_t tokens, float *out, size_t out_stride);
/* As that, gated: out[t] = silu(gate x[t]) * (up x[t]). */
ft_product *ft_products_add_gated(ft_products *p, const ft_engine *e, const ft_expert *expert, const ft_inputs *in,
                                  const uint32_t *index, size_t tokens, float *out, size_t out_stride);
/* After the last one: numbers the pieces. */
void ft_products_deal(ft_products *p);
/* Works on pieces until none is left. */
void ft_products_run(ft_pass *p, unsigned member);
/* Prepares row t of `in` from floats for every type in `types`. */
void ft_inputs_prepare(const ft_engine *e, ft_inputs *in, unsigned types, size_t t, const float *x, size_t cols);
/* The type of input that products with `w` read, as a bit. */
unsigned ft_input_bit(const ft_engine *e, const ft_matrix *w);

/* --- ft_session.c --- */
/* Gathers the routing of tokens from `from` on out of the pages. */
void ft_session_gather(ft_session *s, size_t from);
/* After a read: full pages become entries of the prefix cache. */
void ft_session_publish(ft_session *s, size_t from);
#endif
