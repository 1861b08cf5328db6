/* ft_experts: what an owner hands over, and models put together from it without training.
 *
 * A pair        the folder of a two-expert model: the public one, and the owner's expert 1.
 * A hand-over   a folder with the owner's tensors alone: model.safetensors holds
 *               model.layers.N.mlp.experts.1.* and mlp.gate.weight [2, hidden], whose row 0 is the public
 *               one, and manifest.json, which names the public model by its digest. Or one .safetensors file
 *               of any name, without a manifest, where mlp.gate.weight may be [1, hidden], the owner's row alone:
 *               nothing shows from which public model it was trained. F32, BF16, F16, or packed by `model convert`
 *               (int8, int4): a merge takes the values that the packed ones stand for.
 * Biases        mlp.gate.expert_bias, where an owner kept it; beside it the other experts have 0.
 * A merge       a model folder with owners.json: for each expert owner, digest, manifest; "digest" is that of all else
 *               in it, as a manifest's is (files of earlier versions have none).
 *
 * Digests are SHA-256 over names and float32 values, so that they do not depend on how a
 * file stores them: the public one covers everything but router and owners' experts. */
#ifndef FT_EXPERTS_H
#define FT_EXPERTS_H
#include "model/train/ft_parameters.h"

#include <jansson.h>

FT_API_BEGIN

ft_digest ft_public_digest(const ft_parameters *p);
ft_digest ft_expert_digest(const ft_parameters *p,
                           size_t expert); /* its three matrices and its router row, all layers */

/* A folder that loads: config.json (that of `source`, with the experts of p), weights, and the
 * tokenizer's files where source has them. */
FT_CHECKED ft_code ft_model_export(const ft_parameters *p, const char *source, const char *folder, int bfloat16,
                                   ft_status *st);
/* Why an owner cannot be called so, or NULL: a name is 1 to 100 bytes of UTF-8 without control characters and commas,
 * no number and not "public": it stands in lists of owners, in lines, and beside experts' numbers. */
const char *ft_owner_name_fault(const char *name);

/* The hand-over of expert 1 of a pair. `manifest` gains "public" and "expert" (digests), and "digest": SHA-256 of
 * everything else in it as compact JSON with sorted keys. It shows a change; it is no signature. */
FT_CHECKED ft_code ft_expert_export(const ft_parameters *pair, const char *folder, json_t *manifest, ft_status *st);

typedef struct ft_merge_options {
    int bfloat16;
    const char *router; /* the public router row (ft_router_start.h) for hand-overs that have none; NULL:
                           router.safetensors beside the public model */
} ft_merge_options;

/* Public model and pairs or hand-overs side by side; owners.json records them. options may be NULL.
 *   FT_ERR_FORMAT a shared tensor that is not the public model's, bit for bit (named), a
 *                 hand-over of another public model, a manifest that does not fit its tensors, a router
 *                 row 0 that is not the public model's where that has one, NaN, one expert twice
 *   FT_ERR_ARG    `out` is a folder that is read */
FT_CHECKED ft_code ft_experts_merge(const char *public, const char *const *experts, size_t count,
                                    const ft_merge_options *options, const char *out, ft_status *st);
/* A merged model with one more expert, or without expert `gone` (its number), as a new
 * folder whose weights have the type that the merged one's config.json names. */
FT_CHECKED ft_code ft_experts_add(const char *merged, const char *expert, const char *out, ft_status *st);
FT_CHECKED ft_code ft_experts_remove(const char *merged, size_t gone, const char *out, ft_status *st);
/* `folder` is `merged` with another router, perhaps rounded to bfloat16: merged's owners.json for it, with the digests of
 * what it holds and "router_tuned". Nothing where merged has none. */
FT_CHECKED ft_code ft_experts_tuned(const char *merged, const char *folder, ft_status *st);
enum { FT_OWNERS_CHANGED = -2 };
/* Digests against owners.json. *bad: -1 all hold; 0 what is shared was touched; else the expert, its owner's name or its
 * manifest; FT_OWNERS_CHANGED: what else owners.json says.
 * *owners (may be NULL) is the file's content, the caller's. */
FT_CHECKED ft_code ft_experts_verify(const char *merged, int *bad, json_t **owners, ft_status *st);

FT_API_END
#endif
