/* experts_internal: what the files of ft_experts share. */
#ifndef FT_EXPERTS_INTERNAL_H
#define FT_EXPERTS_INTERNAL_H
#include "model/train/ft_experts.h"
#include "model/train/ft_router_start.h"

/* What all experts are read beside. */
typedef struct experts_reading {
    const ft_parameters *public;
    const char *folder;          /* the public model's */
    const char *router;          /* a file with the public router row, or NULL */
    ft_router_public public_row; /* read when first wanted */
} experts_reading;

/* A pair, checked, whichever form it has; *manifest may stay NULL for one without. Both are the caller's. */
FT_CHECKED ft_code experts_read(ft_parameters *out, json_t **manifest, experts_reading *r, const char *folder,
                                ft_status *st);
int experts_is_file(const char *path);
float experts_rounded(float v); /* as a file of bfloat16 does */

FT_CHECKED ft_code experts_read_json(json_t **out, const char *folder, const char *name, ft_status *st);
int experts_hold(const char *folder, const char *name); /* whether the file is there */
int experts_has_digest(const json_t *o, const char *field, ft_digest d);
int experts_manifest_is_whole(const json_t *manifest); /* 1 where it says of itself what it is */
#endif
