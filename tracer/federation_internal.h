/* federation.yaml as read: what it says, before anything is opened. */
#ifndef FT_FEDERATION_INTERNAL_H
#define FT_FEDERATION_INTERNAL_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct yaml_owner {
    char *name, *description;
    int64_t *expert;
    char **index;
    unsigned index_count;
} yaml_owner;

typedef struct yaml_limits {
    int64_t *request_bytes, *request_seconds, *max_running, *max_waiting, *connections;
} yaml_limits;

typedef struct yaml_federation {
    char *name, *listen, *model, *store, *validation;
    yaml_owner *owners;
    unsigned owners_count;
    yaml_limits *limits;
} yaml_federation;

/* Reads the file; every message starts with "PATH:LINE:". The caller frees *out
 * with yaml_federation_free. */
FT_CHECKED ft_code yaml_federation_read(yaml_federation **out, const char *path, ft_status *st);
void yaml_federation_free(yaml_federation *f);

/* The line of the nth (from 1) value `text` whose key, or whatever value stands just
 * before it, is `before`; 1 where there is none. For messages about what was read. */
size_t yaml_federation_line(const char *path, const char *before, const char *text, unsigned nth);

#endif
