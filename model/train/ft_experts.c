#include "model/train/experts_internal.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_utf8.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Digests ------------------------------------------------------------------------------- */

static void record(crypto_hash_sha256_state *h, const char *name, const float *values, size_t count)
{
    crypto_hash_sha256_update(h, (const unsigned char *)name, strlen(name) + 1);
    crypto_hash_sha256_update(h, (const unsigned char *)values, count * sizeof(*values));
}

static const char *const projections[3] = {"gate", "up", "down"};

ft_digest ft_public_digest(const ft_parameters *p)
{
    ft_digest d;
    crypto_hash_sha256_state h;
    crypto_hash_sha256_init(&h);
    record(&h, "embed", p->embed->value, p->embed->count);
    for (size_t l = 0; l < p->config.layers; l++) {
        const ft_layer_parameters *y = &p->layers[l];
        const ft_parameter *shared[] = {y->q, y->k, y->v, y->o, y->q_norm, y->k_norm, y->after_attention, y->after};
        for (size_t i = 0; i < 8; i++)
            record(&h, shared[i]->name, shared[i]->value, shared[i]->count);
        for (size_t i = 0; i < 3; i++)
            record(&h, projections[i], y->experts[i].value, y->experts[i].count);
    }
    record(&h, "norm", p->norm->value, p->norm->count);
    record(&h, "head", p->head->value, p->head->count);
    crypto_hash_sha256_final(&h, d.bytes);
    return d;
}

ft_digest ft_expert_digest(const ft_parameters *p, size_t expert)
{
    ft_digest d;
    crypto_hash_sha256_state h;
    crypto_hash_sha256_init(&h);
    for (size_t l = 0; l < p->config.layers; l++) {
        for (size_t i = 0; i < 3; i++) {
            const ft_parameter *x = &p->layers[l].experts[3 * expert + i];
            record(&h, projections[i], x->value, x->count);
        }
        if (p->layers[l].router)
            record(&h, "router", p->layers[l].router->value + expert * p->config.hidden, p->config.hidden);
        /* A bias of 0 is none: beside an expert that has one, the others get 0. */
        if (expert && p->layers[l].bias && p->layers[l].bias->value[expert - 1] != 0)
            record(&h, "bias", p->layers[l].bias->value + expert - 1, 1);
    }
    crypto_hash_sha256_final(&h, d.bytes);
    return d;
}

/* --- Folders ----------------------------------------------------------------------------------- */

static ft_code write_json(const json_t *value, const char *folder, const char *name, ft_status *st)
{
    char *path = ft_path_join(folder, name), *text = value ? json_dumps(value, JSON_INDENT(1)) : NULL;
    const ft_code rc = path && text ? ft_file_write(path, text, strlen(text), st)
                                    : ft_fail(st, FT_ERR_MEM, "%s/%s: out of memory", folder, name);
    free(path);
    free(text);
    return rc;
}

ft_code experts_read_json(json_t **out, const char *folder, const char *name, ft_status *st)
{
    char *path = ft_path_join(folder, name);
    const ft_code rc =
        path ? ft_json_read_file(out, path, 1 << 24, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    free(path);
    return rc;
}

int experts_hold(const char *folder, const char *name)
{
    char *path = ft_path_join(folder, name);
    const int there = path && ft_path_exists(path);
    free(path);
    return there;
}

static ft_code copy(const char *from, const char *to, const char *name, ft_status *st)
{
    ft_buffer bytes = {0};
    char *a = ft_path_join(from, name), *b = ft_path_join(to, name);
    ft_code rc = a && b ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", name);
    if (!rc && !ft_path_exists(a))
        goto done;
    if (!rc)
        rc = ft_file_read(a, 0, &bytes, st);
    if (!rc)
        rc = ft_file_write(b, bytes.data, bytes.size, st);
done:
    ft_buffer_release(&bytes);
    free(a);
    free(b);
    return rc;
}

ft_code ft_model_export(const ft_parameters *p, const char *source, const char *folder, int bfloat16, ft_status *st)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json", "generation_config.json"};
    json_t *config = NULL;
    char *weights = ft_path_join(folder, "model.safetensors");
    ft_code rc = weights ? ft_folder_make(folder, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc)
        rc = experts_read_json(&config, source, "config.json", st);
    if (!rc && p->config.experts) {
        json_object_set_new(config, "architectures", json_pack("[s]", "FlexOlmoForCausalLM"));
        json_object_set_new(config, "model_type", json_string("flex_olmo"));
        json_object_set_new(config, "num_experts", json_integer((json_int_t)p->config.experts));
        json_object_set_new(config, "num_experts_per_tok", json_integer((json_int_t)p->config.top_k));
        json_object_set_new(config, "norm_topk_prob", json_boolean(p->config.norm_topk_prob));
        json_object_del(config, "flextrace_expert_bias");
        if (p->layers[0].bias) /* a name for what other programs do not know */
            json_object_set_new(config, "flextrace_expert_bias", json_true());
    }
    if (!rc) {
        json_object_set_new(config, "torch_dtype", json_string(bfloat16 ? "bfloat16" : "float32"));
        json_object_del(config, "dtype");
        rc = write_json(config, folder, "config.json", st);
    }
    for (size_t i = 0; i < 3 && !rc; i++)
        rc = copy(source, folder, files[i], st);
    if (!rc)
        rc = ft_parameters_save(p, weights, FT_SAVE_ALL, bfloat16, NULL, st);
    json_decref(config);
    free(weights);
    return rc;
}

static int set_digest(json_t *o, const char *field, ft_digest d)
{
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(&d, hex);
    return json_object_set_new(o, field, json_string(hex));
}

int experts_has_digest(const json_t *o, const char *field, ft_digest d)
{
    char hex[FT_DIGEST_HEX];
    const char *there = json_string_value(json_object_get(o, field));
    ft_digest_hex(&d, hex);
    return there && !strcmp(there, hex);
}

/* SHA-256 of everything else in it, as compact JSON with sorted keys; 0 where memory is out. */
static int manifest_digest(const json_t *manifest, ft_digest *out)
{
    json_t *rest = json_copy((json_t *)(uintptr_t)manifest);
    if (rest)
        json_object_del(rest, "digest");
    char *text = rest ? json_dumps(rest, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (text)
        *out = ft_digest_of(text, strlen(text));
    json_decref(rest);
    free(text);
    return text != NULL;
}

int experts_manifest_is_whole(const json_t *manifest)
{
    ft_digest d;
    return manifest_digest(manifest, &d) && experts_has_digest(manifest, "digest", d);
}

ft_code ft_expert_export(const ft_parameters *pair, const char *folder, json_t *manifest, ft_status *st)
{
    /* A view of the tensors that leave the owner. */
    ft_parameters out = {.config = pair->config};
    char *path = ft_path_join(folder, "model.safetensors");
    out.all = ft_alloc_array(5 * pair->config.layers, sizeof(*out.all));
    ft_code rc = path && out.all ? ft_folder_make(folder, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    for (size_t l = 0; l < pair->config.layers && !rc; l++) {
        for (size_t i = 0; i < 3; i++)
            out.all[out.count++] = pair->layers[l].experts[3 + i];
        out.all[out.count++] = *pair->layers[l].router;
        if (pair->layers[l].bias)
            out.all[out.count++] = *pair->layers[l].bias;
    }
    ft_digest whole;
    if (!rc && (set_digest(manifest, "public", ft_public_digest(pair)) ||
                set_digest(manifest, "expert", ft_expert_digest(pair, 1)) || !manifest_digest(manifest, &whole) ||
                set_digest(manifest, "digest", whole)))
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc)
        rc = ft_parameters_save(&out, path, FT_SAVE_ALL, 0, NULL, st);
    if (!rc)
        rc = write_json(manifest, folder, "manifest.json", st);
    free(out.all);
    free(path);
    return rc;
}

/* --- Putting together ---------------------------------------------------------------------------- */

/* A folder that is read is not written over. */
static ft_code check_out(const char *out, const char *in, ft_status *st)
{
    return ft_path_same(out, in) ? ft_fail(st, FT_ERR_ARG, "%s: is read; -o names another folder", out) : FT_OK;
}

/* `m` with the pair's expert as its last; first: router row 0 is the pair's, else it must be equal. */
static ft_code join(ft_parameters *m, const ft_parameters *pair, int first, const char *folder, ft_status *st)
{
    ft_parameters bigger;
    const size_t H = m->config.hidden, bytes = H * sizeof(float);
    const int biased = (m->config.experts > 1 && m->layers[0].bias) || pair->layers[0].bias;
    ft_code rc = ft_parameters_add_expert(&bigger, m, biased, 0, st);
    if (rc)
        return rc;
    const size_t last = bigger.config.experts - 1;
    for (size_t l = 0; l < m->config.layers && !rc; l++) {
        float *router = bigger.layers[l].router->value;
        const float *theirs = pair->layers[l].router->value;
        if (first)
            memcpy(router, theirs, bytes);
        else if (memcmp(router, theirs, bytes) != 0)
            rc = ft_fail(
                st, FT_ERR_FORMAT,
                "%s: tensor %s: row 0, the public expert's, is not that of the other experts: another --router, or "
                "one tuned since; merge all experts anew, then tune",
                folder, pair->layers[l].router->name);
        memcpy(router + last * H, theirs + H, bytes);
        if (pair->layers[l].bias)
            bigger.layers[l].bias->value[last - 1] = pair->layers[l].bias->value[0];
        for (size_t i = 0; i < 3; i++) {
            ft_parameter *x = &bigger.layers[l].experts[3 * last + i];
            memcpy(x->value, pair->layers[l].experts[3 + i].value, x->count * sizeof(float));
        }
    }
    if (rc) {
        ft_parameters_close(&bigger);
        return rc;
    }
    ft_parameters_close(m);
    *m = bigger;
    return FT_OK;
}

const char *ft_owner_name_fault(const char *name)
{
    const size_t n = strlen(name);
    if (n == 0 || n > 100)
        return "is not 1 to 100 bytes long";
    for (size_t at = 0; at < n;) {
        const ft_utf8_step c = ft_utf8_next(name + at, n - at);
        if (!c.valid)
            return "is no UTF-8";
        if (c.code_point < 0x20 || (c.code_point >= 0x7f && c.code_point < 0xa0) || c.code_point == ',')
            return "holds a comma or a control character";
        at += c.length;
    }
    if (strspn(name, "0123456789") == n)
        return "is a number, as experts have";
    return strcmp(name, "public") != 0 ? NULL : "is that of expert 0";
}

/* Of the manifest; else the name of the folder, of the one that holds it where it is a file. */
static json_t *owner_of(const json_t *manifest, const char *path)
{
    json_t *owner = json_object_get(manifest, "owner");
    size_t end = strlen(path), begin = 0;
    if (json_is_string(owner))
        return json_incref(owner);
    for (int up = experts_is_file(path); up >= 0; up--) {
        while (end > 1 && path[end - 1] == '/')
            end--;
        for (begin = end; begin && path[begin - 1] != '/'; begin--)
            ;
        if (!up || begin == 0)
            break;
        end = begin;
    }
    return json_stringn(path + begin, end - begin);
}

static int add_owner(json_t *owners, const ft_parameters *m, size_t expert, json_t *owner, json_t *manifest,
                     int unverified)
{
    json_t *o = json_pack("{s:I, s:o, s:O?}", "expert", (json_int_t)expert, "owner", owner, "manifest", manifest);
    int bad = !o || set_digest(o, "digest", ft_expert_digest(m, expert));
    if (o && unverified)
        bad |= json_object_set_new(o, "unverified", json_string("no manifest names its public model"));
    bad |= json_array_append_new(json_object_get(owners, "experts"), o);
    return bad;
}

/* With the digest of all that it says. */
static ft_code write_owners(json_t *owners, const char *folder, ft_status *st)
{
    ft_digest d;
    if (!manifest_digest(owners, &d) || set_digest(owners, "digest", d))
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    return write_json(owners, folder, "owners.json", st);
}

static ft_code finish(const ft_parameters *m, json_t *owners, const char *source, const char *out, int bfloat16,
                      ft_status *st)
{
    const ft_code rc = ft_model_export(m, source, out, bfloat16, st);
    return rc ? rc : write_owners(owners, out, st);
}

static int is_bfloat16(const char *folder)
{
    json_t *config = NULL;
    if (experts_read_json(&config, folder, "config.json", NULL))
        return 0; /* the opening of the model says what is wrong */
    const char *type = json_string_value(json_object_get(config, "torch_dtype"));
    const int is = type && !strcmp(type, "bfloat16");
    json_decref(config);
    return is;
}

/* With bfloat16 the digests are those of the rounded values: what the file holds. */
static void round_all(ft_parameters *p)
{
    for (size_t i = 0; i < p->count; i++)
        for (size_t k = 0; k < p->all[i].count; k++)
            p->all[i].value[k] = experts_rounded(p->all[i].value[k]);
}

static ft_code open_public(ft_parameters *p, const char *folder, ft_status *st)
{
    ft_code rc = ft_parameters_open(p, folder, st);
    if (!rc && p->config.experts > 1) {
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: has %zu experts; a public model has one", folder, p->config.experts);
        ft_parameters_close(p);
    }
    return rc;
}

static ft_code stack(ft_parameters *m, experts_reading *r, const char *const *experts, size_t count, json_t **manifests,
                     ft_status *st)
{
    ft_digest seen[FT_MAX_EXPERTS];
    ft_code rc = count < FT_MAX_EXPERTS
                     ? FT_OK
                     : ft_fail(st, FT_ERR_LIMIT, "%zu experts; a model has at most %d", count + 1, FT_MAX_EXPERTS);
    for (size_t i = 0; i < count && !rc; i++) {
        ft_parameters pair;
        rc = experts_read(&pair, &manifests[i], r, experts[i], st);
        if (rc)
            break;
        seen[i] = ft_expert_digest(&pair, 1);
        for (size_t k = 0; k < i && !rc; k++)
            if (!memcmp(&seen[k], &seen[i], sizeof(*seen)))
                rc = ft_fail(st, FT_ERR_FORMAT, "%s: is the same expert as %s", experts[i], experts[k]);
        if (!rc && i == 0)
            rc = ft_parameters_open(m, r->folder, st);
        if (!rc)
            rc = join(m, &pair, i == 0 && !r->public->config.experts, experts[i], st);
        ft_parameters_close(&pair);
    }
    return rc;
}

ft_code ft_experts_merge(const char *public, const char *const *experts, size_t count, const ft_merge_options *options,
                         const char *out, ft_status *st)
{
    ft_parameters p = {0}, m = {0};
    const ft_merge_options o = options ? *options : (ft_merge_options){0};
    experts_reading r = {.public = &p, .folder = public, .router = o.router};
    json_t **manifests = ft_alloc_array(count, sizeof(*manifests));
    json_t *owners = json_pack("{s:i, s:[]}", "version", 1, "experts");
    ft_code rc = check_out(out, public, st);
    for (size_t i = 0; i < count && !rc; i++)
        rc = check_out(out, experts[i], st);
    if (!rc)
        rc = open_public(&p, public, st);
    if (!rc && (!manifests || !owners))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = stack(&m, &r, experts, count, manifests, st);
    if (!rc && o.bfloat16)
        round_all(&m);
    int bad = !rc && (set_digest(owners, "public", ft_public_digest(&m)) ||
                      add_owner(owners, &m, 0, json_string("public"), NULL, 0));
    for (size_t i = 0; i < count && !rc; i++)
        bad |=
            add_owner(owners, &m, i + 1, owner_of(manifests[i], experts[i]), manifests[i], experts_is_file(experts[i]));
    if (!rc && bad)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", out);
    if (!rc)
        rc = finish(&m, owners, public, out, o.bfloat16, st);
    ft_parameters_close(&m);
    ft_parameters_close(&p);
    ft_router_public_close(&r.public_row);
    for (size_t i = 0; manifests && i < count; i++)
        json_decref(manifests[i]);
    free(manifests);
    json_decref(owners);
    return rc;
}

/* By the digests that owners.json has, which a tuned or rounded expert has changed. */
static ft_code check_new(const json_t *owners, const ft_parameters *pair, const char *merged, const char *expert,
                         ft_status *st)
{
    const ft_digest d = ft_expert_digest(pair, 1);
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(owners, "experts"), i, one)
    {
        if (experts_has_digest(one, "digest", d) || experts_has_digest(json_object_get(one, "manifest"), "expert", d))
            return ft_fail(st, FT_ERR_FORMAT, "%s: is expert %zu of %s already", expert, i, merged);
    }
    return FT_OK;
}

ft_code ft_experts_add(const char *merged, const char *expert, const char *out, ft_status *st)
{
    const int bfloat16 = is_bfloat16(merged);
    ft_parameters m = {0}, pair, alone;
    json_t *owners = NULL, *manifest = NULL;
    int bad = -1;
    ft_code rc = check_out(out, merged, st);
    if (!rc)
        rc = check_out(out, expert, st);
    if (!rc)
        rc = ft_experts_verify(merged, &bad, &owners, st);
    if (!rc && bad != -1)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: does not hold what its owners.json says; 'model verify' tells where",
                     merged);
    if (!rc)
        rc = ft_parameters_open(&m, merged, st);
    if (rc) {
        json_decref(owners);
        return rc;
    }
    alone = m; /* the public part of it: expert 0 stands first in each layer */
    alone.config.experts = 1;
    experts_reading r = {.public = &alone, .folder = merged};
    rc = experts_read(&pair, &manifest, &r, expert, st);
    if (!rc) {
        rc = check_new(owners, &pair, merged, expert, st);
        if (!rc)
            rc = join(&m, &pair, 0, expert, st);
        ft_parameters_close(&pair);
    }
    if (!rc && bfloat16)
        round_all(&m);
    if (!rc &&
        add_owner(owners, &m, m.config.experts - 1, owner_of(manifest, expert), manifest, experts_is_file(expert)))
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", out);
    if (!rc)
        rc = finish(&m, owners, merged, out, bfloat16, st);
    ft_parameters_close(&m);
    json_decref(manifest);
    json_decref(owners);
    return rc;
}

/* Takes expert `gone` out of the arrays of each layer; what follows gets the number before. */
static void take_out(ft_parameters *m, size_t gone)
{
    const size_t E = m->config.experts, H = m->config.hidden;
    size_t kept = 0;
    int biased = 0;
    for (size_t l = 0; l < m->config.layers; l++) {
        ft_layer_parameters *y = &m->layers[l];
        ft_parameter *r = y->router;
        for (size_t e = gone + 1; e < E; e++)
            for (size_t i = 0; i < 3; i++) /* values alone move: names stay where they are */ {
                float *t = y->experts[3 * (e - 1) + i].value;
                y->experts[3 * (e - 1) + i].value = y->experts[3 * e + i].value;
                y->experts[3 * e + i].value = t;
            }
        for (size_t i = 0; i < 3; i++)
            y->experts[3 * (E - 1) + i].name[0] = 0;
        memmove(r->value + gone * H, r->value + (gone + 1) * H, (E - 1 - gone) * H * sizeof(float));
        r->shape[0] = E - 1;
        r->count = (E - 1) * H;
        if (!y->bias)
            continue;
        memmove(y->bias->value + gone - 1, y->bias->value + gone, (E - 1 - gone) * sizeof(float));
        y->bias->shape[0] = y->bias->count = E - 2;
        for (size_t e = 0; e < E - 2; e++)
            biased |= y->bias->value[e] != 0;
    }
    for (size_t l = 0; l < m->config.layers && !biased; l++) { /* no expert that is left kept one */
        if (m->layers[l].bias)
            m->layers[l].bias->name[0] = 0;
        m->layers[l].bias = NULL;
    }
    for (size_t i = 0; i < m->count; i++) {
        if (m->all[i].name[0])
            m->all[kept++] = m->all[i];
        else
            free(m->all[i].value);
    }
    m->count = kept;
    m->config.experts = E - 1;
    m->config.top_k = m->config.top_k < E - 1 ? m->config.top_k : E - 1;
}

ft_code ft_experts_remove(const char *merged, size_t gone, const char *out, ft_status *st)
{
    const int bfloat16 = is_bfloat16(merged);
    ft_parameters m = {0};
    json_t *owners = NULL, *list, *one;
    size_t i;
    ft_code rc = check_out(out, merged, st);
    if (!rc)
        rc = experts_read_json(&owners, merged, "owners.json", st);
    if (!rc)
        rc = ft_parameters_open(&m, merged, st);
    if (!rc && (gone == 0 || gone >= m.config.experts || m.config.experts < 3))
        rc =
            ft_fail(st, FT_ERR_ARG, "%s: expert %zu cannot be removed; it has experts 1 to %zu, of which one must stay",
                    merged, gone, m.config.experts ? m.config.experts - 1 : 0);
    if (!rc) {
        take_out(&m, gone);
        list = json_object_get(owners, "experts");
        json_array_remove(list, gone);
        json_array_foreach(list, i, one)
        {
            json_object_set_new(one, "expert", json_integer((json_int_t)i));
        }
        /* Layers' pointers no longer hold: the file is written from the list of all tensors. */
        rc = finish(&m, owners, merged, out, bfloat16, st);
    }
    ft_parameters_close(&m);
    json_decref(owners);
    return rc;
}

/* 1 where the manifest is whole and tells of this expert: its owner, and, where nothing was rounded or tuned since, its
 * tensors. */
static int manifest_fits(const json_t *one, int as_trained)
{
    const json_t *manifest = json_object_get(one, "manifest");
    const char *owner = json_string_value(json_object_get(manifest, "owner")),
               *digest = json_string_value(json_object_get(one, "digest")),
               *expert = json_string_value(json_object_get(manifest, "expert")),
               *here = json_string_value(json_object_get(one, "owner"));
    if (!json_is_object(manifest))
        return 1;
    return experts_manifest_is_whole(manifest) && (!owner || (here && !strcmp(owner, here))) &&
           (!as_trained || (digest && expert && !strcmp(digest, expert)));
}

ft_code ft_experts_verify(const char *merged, int *bad, json_t **owners, ft_status *st)
{
    ft_parameters m;
    json_t *o = NULL;
    ft_code rc = experts_read_json(&o, merged, "owners.json", st);
    if (!rc)
        rc = ft_parameters_open(&m, merged, st);
    if (!rc) {
        const json_t *list = json_object_get(o, "experts");
        const int as_trained = !is_bfloat16(merged) && !json_is_true(json_object_get(o, "router_tuned"));
        *bad = experts_has_digest(o, "public", ft_public_digest(&m)) ? -1 : 0;
        if (json_array_size(list) != m.config.experts)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s/owners.json: tells of %zu experts, the model has %zu", merged,
                         json_array_size(list), m.config.experts);
        for (size_t e = 0; e < m.config.experts && !rc && *bad < 0; e++) {
            const json_t *one = json_array_get(list, e);
            if (!experts_has_digest(one, "digest", ft_expert_digest(&m, e)) || !manifest_fits(one, as_trained))
                *bad = (int)e;
        }
        if (!rc && *bad == -1 && !experts_manifest_is_whole(o)) /* nor is one that says nothing of itself */
            *bad = FT_OWNERS_CHANGED;
        ft_parameters_close(&m);
    }
    if (!rc && owners)
        *owners = json_incref(o);
    json_decref(o);
    return rc;
}

ft_code ft_experts_tuned(const char *merged, const char *folder, ft_status *st)
{
    ft_parameters p;
    json_t *owners = NULL, *one;
    size_t e;
    int changed, bad = 0;
    if (!experts_hold(merged, "owners.json"))
        return FT_OK;
    ft_code rc = ft_experts_verify(merged, &changed, &owners, st);
    if (!rc)
        rc = ft_parameters_open(&p, folder, st);
    if (rc) {
        json_decref(owners);
        return rc;
    }
    json_array_foreach(json_object_get(owners, "experts"), e, one)
    {
        bad |= set_digest(one, "digest", ft_expert_digest(&p, e));
    }
    if (changed != 0) /* else the old one goes on showing it */
        bad |= set_digest(owners, "public", ft_public_digest(&p));
    bad |= json_object_set_new(owners, "router_tuned", json_true());
    rc = bad ? ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder) : write_owners(owners, folder, st);
    ft_parameters_close(&p);
    json_decref(owners);
    return rc;
}
