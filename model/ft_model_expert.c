/* Where one expert's weights lie, and asking the system to read them. */
#include "base/ft_file.h"
#include "model/ft_quantize.h"
#include "model/model_internal.h"

enum { PARTS = 6 }; /* three matrices, their scales */

/* What one expert's tensors of one layer occupy: in order, touching ones joined. */
typedef struct stretches {
    struct stretch {
        const char *at;
        size_t bytes;
    } list[PARTS];
    size_t count;
} stretches;

static void add(stretches *s, const void *at, size_t bytes)
{
    size_t i = s->count++;
    for (; i > 0 && s->list[i - 1].at > (const char *)at; i--)
        s->list[i] = s->list[i - 1];
    s->list[i] = (struct stretch){at, bytes};
}

static void add_matrix(stretches *s, const ft_matrix *m)
{
    add(s, m->data, ft_matrix_bytes(m));
    if (m->scales)
        add(s, m->scales, ft_quant_blocks(m->rows) * ft_quant_scale_bytes(m->cols));
}

static stretches find(const ft_model *m, size_t layer, size_t expert)
{
    const ft_expert *x = &m->layers[layer].experts[expert];
    stretches s = {.count = 0};
    add_matrix(&s, &x->gate);
    add_matrix(&s, &x->up);
    add_matrix(&s, &x->down);
    size_t kept = 0;
    for (size_t i = 1; i < s.count; i++) {
        struct stretch *before = &s.list[kept];
        if (before->at + before->bytes == s.list[i].at)
            before->bytes += s.list[i].bytes;
        else
            s.list[++kept] = s.list[i];
    }
    s.count = kept + 1;
    return s;
}

static void advise(const ft_model *m, size_t layer, size_t expert, ft_map_advice advice)
{
    const stretches s = find(m, layer, expert);
    for (size_t i = 0; i < s.count; i++)
        ft_map_advise(s.list[i].at, s.list[i].bytes, advice);
}

/* Advice splits a mapping: the whole pages of each expert become one of their own,
 * into which neither readahead nor the mapping of neighbouring pages reaches. */
void ft_model_set_experts_apart(const ft_model *m)
{
    for (size_t l = 0; l < m->config.layers; l++)
        for (size_t e = 0; e < m->config.experts; e++)
            advise(m, l, e, FT_MAP_RANDOM);
}

void ft_model_expert_want(const ft_model *m, size_t layer, size_t expert)
{
    if (!m->config.experts)
        return;
    atomic_uchar *flag = &m->wanted[layer * m->config.experts + expert];
    if (atomic_load_explicit(flag, memory_order_relaxed) || atomic_exchange_explicit(flag, 1, memory_order_relaxed))
        return;
    /* Read once from end to end, here and after the system has put pages out. */
    advise(m, layer, expert, FT_MAP_NORMAL);
    advise(m, layer, expert, FT_MAP_WILL_NEED);
}

size_t ft_model_expert_pages(const ft_model *m, size_t layer, size_t expert, size_t i, const void **at)
{
    const stretches s = find(m, layer, expert);
    for (size_t k = 0; k < s.count; k++) {
        const size_t bytes = ft_map_pages(s.list[k].at, s.list[k].bytes, at);
        if (bytes && i-- == 0)
            return bytes;
    }
    *at = NULL;
    return 0;
}
