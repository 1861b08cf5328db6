/* Reading pairs and hand-overs, each checked against the public model. */
#include "model/train/experts_internal.h"

#include "base/ft_file.h"
#include "model/ft_quantize.h"
#include "model/ft_safetensors.h"
#include "model/kernels/ft_float.h"

#include <stdlib.h>
#include <string.h>

int experts_is_file(const char *path)
{
    return ft_path_exists(path) && !ft_path_is_folder(path);
}

/* Row 0 for a hand-over that holds its own row alone: that of `router`, of router.safetensors beside the public
 * model, or of the public model itself. */
static ft_code public_row(const float **out, experts_reading *r, size_t layer, const char *expert, ft_status *st)
{
    const ft_parameters *p = r->public;
    if (!r->router && p->layers[layer].router) {
        *out = p->layers[layer].router->value;
        return FT_OK;
    }
    if (!r->public_row.row) {
        char *beside = ft_path_join(r->folder, "router.safetensors");
        const char *path = r->router ? r->router : beside;
        ft_code rc = path ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", expert);
        if (!rc && !ft_path_exists(path))
            rc = ft_fail(st, FT_ERR_NOT_FOUND,
                         "%s: holds no public router row, and there is no %s; name the file with --router", expert,
                         path);
        if (!rc)
            rc = ft_router_public_open(&r->public_row, path, &p->config, st);
        free(beside);
        if (rc)
            return rc;
    }
    *out = r->public_row.row + layer * p->config.hidden;
    return FT_OK;
}

/* The router's rows of a hand-over: both, or the owner's alone. */
static ft_code read_rows(ft_parameter *p, const ft_tensor *t, experts_reading *r, size_t layer, const char *expert,
                         ft_status *st)
{
    const size_t H = r->public->config.hidden;
    const float *first;
    if (t->dims == 2 && t->shape[0] == 1 && t->shape[1] == H && ft_tensor_widen(p->value + H, t, H)) {
        const ft_code rc = public_row(&first, r, layer, expert, st);
        if (!rc)
            memcpy(p->value, first, H * sizeof(*first));
        return rc;
    }
    if (t->dims != 2 || t->shape[0] != 2 || t->shape[1] != H || !ft_tensor_widen(p->value, t, p->count))
        return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %s is not [2, %zu] or [1, %zu] floats", expert, p->name, H, H);
    return FT_OK;
}

/* Where the public model has its router's row beside it, an expert's row 0 is that very row; one that it holds itself
 * is compared when experts are put together. */
static ft_code check_row(const ft_parameters *pair, experts_reading *r, const char *expert, ft_status *st)
{
    ft_code rc = FT_OK;
    if (!r->router && (r->public->layers[0].router || !experts_hold(r->folder, "router.safetensors")))
        return FT_OK;
    for (size_t l = 0; l < pair->config.layers && !rc; l++) {
        const float *row;
        rc = public_row(&row, r, l, expert, st);
        if (!rc && memcmp(row, pair->layers[l].router->value, pair->config.hidden * sizeof(*row)) != 0)
            rc = ft_fail(st, FT_ERR_FORMAT,
                         "%s: tensor %s: row 0, the public expert's, is not that of %s; name the file that the expert "
                         "was trained with by --router",
                         expert, pair->layers[l].router->name, r->router ? r->router : r->folder);
    }
    return rc;
}

static int same_shape(const ft_parameter *p, const ft_tensor *t)
{
    int same = t->dims == p->dims;
    for (unsigned d = 0; d < p->dims && same; d++)
        same = t->shape[d] == p->shape[d];
    return same;
}

/* X.qweight and X.scales in the place of X.weight, as `model convert` writes them (ft_quantize.h); what they stand for.
 */
static ft_code read_packed(ft_parameter *p, ft_weights *w, const char *expert, ft_status *st)
{
    char name[300];
    const int stem = (int)(strlen(p->name) - strlen("weight"));
    snprintf(name, sizeof(name), "%.*sscales", stem, p->name);
    const ft_tensor *scales = ft_weights_find(w, name);
    snprintf(name, sizeof(name), "%.*sqweight", stem, p->name);
    const ft_tensor *q = ft_weights_find(w, name);
    if (!q || !scales)
        return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %s is missing", expert, p->name);
    const size_t rows = p->shape[0], cols = p->shape[1], blocks = ft_quant_blocks(rows), groups = cols / FT_GROUP;
    ft_weight_type type;
    if (cols % FT_GROUP || !ft_quant_is_packed(q, scales, &type) || q->shape[0] != blocks || q->shape[1] != groups)
        return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %s is not of the public model's shape", expert, name);
    const size_t bytes = ft_quant_block_bytes(type, cols), scale_bytes = ft_quant_scale_bytes(cols);
    for (size_t r = 0; r < rows; r++)
        ft_dequantize_row(type, (const char *)q->data + r / FT_BLOCK_ROWS * bytes,
                          (const char *)scales->data + r / FT_BLOCK_ROWS * scale_bytes, r % FT_BLOCK_ROWS, cols,
                          p->value + r * cols);
    return FT_OK;
}

/* The tensors of a hand-over, laid into a copy of the public model with one expert more. */
static ft_code read_hand_over(ft_parameters *out, experts_reading *r, const char *expert, const json_t *manifest,
                              ft_status *st)
{
    ft_weights *w = NULL;
    if (manifest && !experts_has_digest(manifest, "public", ft_public_digest(r->public)))
        return ft_fail(
            st, FT_ERR_FORMAT,
            "%s/manifest.json: \"public\" names another public model than the given one (rounded since, by merge "
            "--bfloat16, it is another: merge all experts anew)",
            expert);
    ft_code rc = experts_is_file(expert) ? ft_weights_open_file(&w, expert, st) : ft_weights_open(&w, expert, st);
    if (rc)
        return rc;
    const int biased = ft_weights_find(w, "model.layers.0.mlp.gate.expert_bias") != NULL;
    rc = ft_parameters_add_expert(out, r->public, biased, 0, st);
    for (size_t i = 0, layer = 0; i < out->count && !rc; i++) {
        ft_parameter *p = &out->all[i];
        const int gate = strstr(p->name, ".mlp.gate.weight") != NULL;
        if (!strstr(p->name, ".experts.1.") && !strstr(p->name, ".mlp.gate."))
            continue;
        const ft_tensor *t = ft_weights_find(w, p->name);
        if (!t && !gate && strstr(p->name, ".weight"))
            rc = read_packed(p, w, expert, st);
        else if (!t)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: tensor %s is missing", expert, p->name);
        else if (gate)
            rc = read_rows(p, t, r, layer, expert, st);
        else if (!same_shape(p, t) || !ft_tensor_widen(p->value, t, p->count))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: tensor %s is not floats of the public model's shape", expert, p->name);
        layer += gate;
    }
    ft_weights_close(w);
    if (rc)
        ft_parameters_close(out);
    return rc;
}

float experts_rounded(float v)
{
    const uint16_t half = ft_bf16_of(v);
    return ft_bf16_at(&half, 0);
}

/* Why a shared tensor that is not the public one's (both of a->count elements) may differ, and what to do. */
static const char *differs(const ft_parameter *a, const ft_parameter *b)
{
    for (size_t k = 0; k < a->count; k++)
        if (b->value[k] != experts_rounded(a->value[k]))
            return "the expert was trained from another one";
    return "it was rounded to bfloat16; give the expert's own folder (OUT/expert), or train without --bfloat16";
}

static ft_code check_shared(const ft_parameters *pair, const ft_parameters *public, const char *folder, ft_status *st)
{
    ft_parameters want; /* the public model under the pair's names */
    ft_code rc = ft_parameters_add_expert(&want, public, 0, 0, st);
    if (rc)
        return rc;
    for (size_t i = 0; i < want.count && !rc; i++) {
        const ft_parameter *a = &want.all[i], *b = NULL;
        if (strstr(a->name, ".experts.1.") || strstr(a->name, ".mlp.gate."))
            continue;
        for (size_t k = 0; k < pair->count && !b; k++)
            b = !strcmp(pair->all[k].name, a->name) ? &pair->all[k] : NULL;
        const int same_size = b && b->count == a->count;
        if (!same_size || memcmp(a->value, b->value, a->count * sizeof(float)) != 0)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: tensor %s is not the public model's, bit for bit: %s", folder, a->name,
                         same_size ? differs(a, b) : "the expert was trained from another one");
    }
    ft_parameters_close(&want);
    return rc;
}

static ft_code check_values(const ft_parameters *pair, const char *folder, ft_status *st)
{
    const char *bad = ft_parameters_not_finite(pair);
    return bad ? ft_fail(st, FT_ERR_FORMAT, "%s: tensor %s holds NaN or infinity", folder, bad) : FT_OK;
}

ft_code experts_read(ft_parameters *out, json_t **manifest, experts_reading *r, const char *folder, ft_status *st)
{
    ft_code rc = FT_OK;
    *manifest = NULL;
    memset(out, 0, sizeof(*out));
    if (experts_hold(folder, "manifest.json"))
        rc = experts_read_json(manifest, folder, "manifest.json", st);
    if (!rc && *manifest && !experts_manifest_is_whole(*manifest)) {
        rc = ft_fail(st, FT_ERR_FORMAT, "%s/manifest.json: was changed: \"digest\" is not the SHA-256 of the rest",
                     folder);
        json_decref(*manifest);
        *manifest = NULL;
    }
    const char *owner = rc ? NULL : json_string_value(json_object_get(*manifest, "owner"));
    if (owner && ft_owner_name_fault(owner)) {
        rc = ft_fail(st, FT_ERR_FORMAT, "%s/manifest.json: the owner's name %s", folder, ft_owner_name_fault(owner));
        json_decref(*manifest);
        *manifest = NULL;
    }
    if (rc)
        return rc;
    if (experts_hold(folder, "config.json")) {
        rc = ft_parameters_open(out, folder, st);
        if (!rc && out->config.experts != 2)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: has %zu experts; an owner's model has two", folder,
                         out->config.experts);
        if (!rc)
            rc = check_shared(out, r->public, folder, st);
    } else if (*manifest || experts_is_file(folder)) {
        rc = read_hand_over(out, r, folder, *manifest, st);
    } else {
        rc = ft_fail(st, FT_ERR_NOT_FOUND,
                     "%s: neither config.json nor manifest.json nor a .safetensors file: no expert", folder);
    }
    if (!rc && *manifest && !experts_has_digest(*manifest, "expert", ft_expert_digest(out, 1)))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s/manifest.json: \"expert\" is not the SHA-256 of the tensors beside it",
                     folder);
    if (!rc)
        rc = check_values(out, folder, st);
    if (!rc)
        rc = check_row(out, r, folder, st);
    if (rc) {
        ft_parameters_close(out);
        json_decref(*manifest);
        *manifest = NULL;
    }
    return rc;
}
