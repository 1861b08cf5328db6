/* router_states: moments of the states that the layers' FFNs read. */
#ifndef FT_ROUTER_STATES_H
#define FT_ROUTER_STATES_H
#include "model/train/ft_router_start.h"

typedef struct ft_states {
    size_t layers, hidden;
    double *mean;   /* [layers, hidden] */
    double *second; /* [layers, hidden, hidden], or NULL */
    uint64_t tokens;
} ft_states;

/* Of at most `windows` windows of `text`; `t` keeps its activations. */
FT_CHECKED ft_code ft_states_collect(ft_states *out, int with_second, ft_trainer *t, ft_train_data *text, size_t length,
                                     size_t windows, ft_status *st);
void ft_states_free(ft_states *s);

/* x = (a + ridge * mean diagonal * I)^-1 x for `count` vectors x[i] [n]; a [n, n] is destroyed. 0 where a has no
 * inverse. */
int ft_states_solve(double *a, size_t n, double *const *x, size_t count);
#endif
