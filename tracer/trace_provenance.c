/* What a trace was made against, taken down while it is at hand: a receipt may be asked
 * for long after index, model or machine have changed. */
#include "base/ft_cpu.h"
#include "tracer/ft_receipt.h"
#include "tracer/tracer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "digests are over little-endian values");

static json_t *digest_json(const ft_digest *d)
{
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(d, hex);
    return json_sprintf("sha256:%s", hex);
}

/* Piece by piece: ids are kept as bytes, and stated as int32 like everywhere else. */
ft_digest ft_routing_digest(const ft_routing *r)
{
    enum { PIECE = 1024 };
    int32_t ids[PIECE];
    const size_t n = r->tokens * r->layers * r->top_k;
    ft_hasher h;
    ft_hasher_init(&h);
    for (size_t at = 0; at < n; at += PIECE) {
        const size_t count = n - at < PIECE ? n - at : PIECE;
        for (size_t i = 0; i < count; i++)
            ids[i] = r->expert_ids[at + i];
        ft_hasher_add(&h, ids, count * sizeof(*ids));
    }
    if (n)
        ft_hasher_add(&h, r->weights, n * sizeof(*r->weights));
    return ft_hasher_end(&h);
}

static json_t *routing_json(const ft_routing *r)
{
    const ft_digest digest = ft_routing_digest(r);
    int failed = 0;
    json_t *out = json_object();
    put(out, "digest", digest_json(&digest), &failed);
    put(out, "shape", json_pack("[I,I,I]", (json_int_t)r->tokens, (json_int_t)r->layers, (json_int_t)r->top_k),
        &failed);
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

static json_t *indexes_json(const ft_trace_scope *scope, int *failed)
{
    static const ft_digest none;
    json_t *list = json_array();
    for (size_t o = 0; o < scope->owner_count; o++)
        for (size_t i = 0; i < scope->owners[o].index_count; i++) {
            const ft_index_info info = ft_index_get_info(scope->owners[o].indexes[i]);
            json_t *x = json_object();
            put(x, "owner", json_string_nocheck(scope->owners[o].name), failed);
            put(x, "root", memcmp(&info.root, &none, sizeof(none)) != 0 ? digest_json(&info.root) : json_null(),
                failed);
            put(x, "documents", json_size(info.documents), failed);
            put(x, "tokens", json_size(info.tokens), failed);
            *failed |= json_array_append_new(list, x) != 0;
        }
    return list;
}

json_t *provenance_json(const ft_trace_scope *scope, const ft_trace_input *input)
{
    int failed = 0;
    json_t *out = json_object();
    const ft_digest tokenizer = scope->tokenizer ? ft_tokenizer_digest(scope->tokenizer) : (ft_digest){{0}};
    put(out, "tokenizer_digest", scope->tokenizer ? digest_json(&tokenizer) : json_null(), &failed);
    put(out, "indexes", indexes_json(scope, &failed), &failed);
    put(out, "routing", input->routing && input->routing->experts ? routing_json(input->routing) : json_null(),
        &failed);
    put(out, "engine", json_null(), &failed);
    put(out, "output_digest", json_null(), &failed);
    put(out, "generated_from", json_null(), &failed);
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

ft_code ft_trace_set_engine(json_t *trace, const ft_model *m, uint64_t opted_out, const ft_engine_options *how,
                            ft_status *st)
{
    int failed = 0;
    char identity[FT_MODEL_IDENTITY];
    ft_model_identity_text(m, opted_out, identity);
    json_t *provenance = json_object_get(trace, "provenance"), *engine = json_object();
    put(engine, "version", json_string(FT_VERSION), &failed);
    put(engine, "kernels", json_string(ft_cpu_family_name(ft_cpu_isa())), &failed);
    put(engine, "compute", json_string(ft_compute_name(how->compute)), &failed);
    put(engine, "kv_type", json_string(ft_kv_type_name(how->kv_type)), &failed);
    put(engine, "model_identity", json_string(identity), &failed);
    put(provenance, "engine", engine, &failed);
    return failed ? ft_fail(st, FT_ERR_MEM, "trace: out of memory") : FT_OK;
}

ft_code ft_trace_set_output(json_t *trace, const char *text, size_t bytes, size_t generated_from, ft_status *st)
{
    int failed = 0;
    json_t *provenance = json_object_get(trace, "provenance");
    const ft_digest digest = text ? ft_digest_of(text, bytes) : (ft_digest){{0}};
    put(provenance, "output_digest", text ? digest_json(&digest) : json_null(), &failed);
    put(provenance, "generated_from", json_size(generated_from), &failed);
    return failed ? ft_fail(st, FT_ERR_MEM, "trace: out of memory") : FT_OK;
}
