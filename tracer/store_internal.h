/* How traces and routing look inside the store; docs/store.md draws it. */
#ifndef FT_STORE_INTERNAL_H
#define FT_STORE_INTERNAL_H
#include "tracer/ft_store.h"

/* JSON without its "id" being touched; with `apart` the routing's "ids" and
 * "weights", which are stored beside it, are left out. */
FT_CHECKED ft_code pack_trace(ft_buffer *out, const json_t *trace, int apart, ft_status *st);
FT_CHECKED ft_code unpack_trace(json_t **out, const ft_buffer *value, const char *id, ft_status *st);

FT_CHECKED ft_code pack_routing(ft_buffer *out, const ft_routing *r, ft_status *st);
FT_CHECKED ft_code unpack_routing(ft_stored_routing *out, const ft_buffer *value, const char *id, ft_status *st);

#endif
