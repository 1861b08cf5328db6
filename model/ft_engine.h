/* ft_engine: what sessions on one model share: the threads, the paged key-value
 * memory, the prefix cache, scratch; and one pass over the tokens of many sessions.
 *
 * A pass takes tokens of any number of sessions, decode tokens and chunks of prompts
 * together, each with its own position and its own set of experts. Every matrix is
 * read once a pass, an expert's for all tokens that chose it.
 *
 * Bits     what a token gets depends on the tokens before it in its session, the
 *          session's experts, the kernel family, `compute` and `kv_type` alone: not
 *          on its company, on chunks, threads, or on what came from the prefix cache.
 * Memory   kv_bytes bounds the cache of all sessions and of the prefix cache
 *          together; it is reserved when the engine opens and taken as it is written.
 *          A pass over sessions with reserved room allocates nothing.
 * Threads  sessions may be opened and closed from any thread; one thread at a time
 *          reads. The pool is used during reads only.
 * Source   Yu et al., "Orca", 2022 (batches that change every step); Kwon et al.,
 *          "PagedAttention", 2023. */
#ifndef FT_ENGINE_H
#define FT_ENGINE_H
#include "model/ft_session.h"
#include "model/ft_precision.h"

FT_API_BEGIN

typedef struct ft_engine ft_engine;

typedef struct ft_engine_options {
    size_t kv_bytes; /* 0: an eighth of the machine's memory; without prefix cache, what one session of max_tokens
                        needs. Less than one page is one page */
    ft_kv_type kv_type;
    ft_compute compute;
    size_t batch_tokens; /* that one pass takes at most; 0: 256 */
    size_t max_tokens;   /* of the longest session; 0: the config's max_position */
    int no_prefix_cache;
} ft_engine_options;

/* `pool` (NULL: the caller's thread alone) and `m` must outlive the engine, the engine its sessions. */
FT_CHECKED ft_code ft_engine_new(ft_engine **out, const ft_model *m, ft_pool *pool, const ft_engine_options *o,
                                 ft_status *st);
void ft_engine_free(ft_engine *e);

/* As ft_session_open, on a shared engine. Its memory comes as it reads. */
FT_CHECKED ft_code ft_session_open_on(ft_session **out, ft_engine *e, const ft_session_options *o, ft_status *st);

/* What one session reads in a pass: ids[0..count) after what it has read. */
typedef struct ft_read {
    ft_session *session;
    const uint32_t *ids;
    size_t count;
    ft_outputs out;
} ft_read;

/* One pass. The sessions are of this engine, each at most once; the tokens are
 * batch_tokens at most together. Fails as ft_session_read does, and then no
 * session has read anything; FT_ERR_LIMIT also when the key-value memory is out. */
FT_CHECKED ft_code ft_engine_read(ft_engine *e, const ft_read *reads, size_t count, ft_status *st);
size_t ft_engine_batch_tokens(const ft_engine *e);
const ft_model *ft_engine_model(const ft_engine *e);

/* Room for `count` more tokens, so that a later read of them cannot run out. FT_ERR_LIMIT when
 * the memory is out even after the prefix cache gave up what nobody reads. */
FT_CHECKED ft_code ft_session_reserve(ft_session *s, size_t count, ft_status *st);

/* Puts whole pages that the prefix cache has for ids[0..count), the tokens that come next,
 * behind what the session has read; returns how many tokens that is. Never all of
 * them, since the last one has to be read for its logits. */
size_t ft_session_find_prefix(ft_session *s, const uint32_t *ids, size_t count);

typedef struct ft_engine_load {
    size_t kv_bytes, kv_bytes_used; /* used: by sessions and the prefix cache */
    size_t page_bytes, prefix_pages;
    uint64_t prefix_asked_tokens, prefix_found_tokens; /* of ft_session_find_prefix, since the start */
} ft_engine_load;
ft_engine_load ft_engine_get_load(ft_engine *e);
/* Tokens that one session may hold, as far as the key-value memory goes. */
size_t ft_engine_capacity(const ft_engine *e);

/* "float32", "bfloat16" or "float16"; FT_ERR_ARG names what is possible. */
FT_CHECKED ft_code ft_compute_parse(ft_compute *out, const char *name, ft_status *st);
FT_CHECKED ft_code ft_kv_type_parse(ft_kv_type *out, const char *name, ft_status *st);
/* Puts what is given (NULL, NULL, 0: as it was) into `o`: how a command line overrides a configuration. */
FT_CHECKED ft_code ft_engine_options_override(ft_engine_options *o, const char *compute, const char *kv_type,
                                              size_t kv_bytes, ft_status *st);
const char *ft_compute_name(ft_compute c);
const char *ft_kv_type_name(ft_kv_type t);

FT_API_END
#endif
