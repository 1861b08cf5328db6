/* ft_store: traces kept in LMDB, readable by id after a restart.
 *
 * Lifetime  one open handle on a folder in a process.
 * Threads   any number; LMDB allows one writer at a time, and calls wait for it.
 * Files     docs/store.md has databases, keys and the schema version. */
#ifndef FT_STORE_H
#define FT_STORE_H
#include "base/ft_json.h"
#include "model/ft_session.h"

FT_API_BEGIN

typedef struct ft_store ft_store;

enum { FT_TRACE_ID = 31 }; /* "trc_" + 26 characters (Crockford base32: time, then random) + terminator */

/* Makes the folder where missing. max_bytes 0: 64 GiB of address space.
 *   FT_ERR_FORMAT  the folder is not ours, damaged, or from a newer version
 *   FT_ERR_IO      it cannot be made or opened */
FT_CHECKED ft_code ft_store_open(ft_store **out, const char *folder, uint64_t max_bytes, ft_status *st);
void ft_store_close(ft_store *s);

/* A fresh id, ordered by time. */
void ft_trace_id_new(char id[FT_TRACE_ID]);
/* 1 and the time in *milliseconds since 1970 where `id` has the form of one, else 0. */
int ft_trace_id_time(const char *id, uint64_t *milliseconds);
/* Puts "id" and "created" (the id's time) in front of the trace's fields; *trace is
 * replaced. FT_ERR_ARG where `id` is none. */
FT_CHECKED ft_code ft_trace_stamp(json_t **trace, const char *id, ft_status *st);

/* Written in one transaction; synced when it returns FT_OK. `routing` may be NULL;
 * where it is given it stands for "ids" and "weights" of the trace's "routing".
 *   FT_ERR_LIMIT  the store's maximum size was reached; nothing was written */
FT_CHECKED ft_code ft_store_put(ft_store *s, const char *id, const json_t *trace, const ft_routing *routing,
                                ft_status *st);
/* New reference in *trace, as it was put, routing included; FT_ERR_NOT_FOUND for an
 * id that is not there, FT_ERR_FORMAT where its bytes are damaged. */
FT_CHECKED ft_code ft_store_get(ft_store *s, const char *id, json_t **trace, ft_status *st);

/* Routing as stored: the chosen ids and weights, bit for bit; probs is NULL. A trace
 * without routing is FT_ERR_NOT_FOUND. */
typedef struct ft_stored_routing {
    ft_routing view;
    void *memory;
} ft_stored_routing;
void ft_stored_routing_release(ft_stored_routing *r);
FT_CHECKED ft_code ft_store_get_routing(ft_store *s, const char *id, ft_stored_routing *out, ft_status *st);

/* Newest first; `before` "" or an id. At most `limit` ids. */
FT_CHECKED ft_code ft_store_list(ft_store *s, const char *before, size_t limit, char (*ids)[FT_TRACE_ID], size_t *count,
                                 ft_status *st);
/* Small facts beside the traces, by name (at most 400 bytes), such as the digests of model files; they
 * are in no list and no export. get appends to *out. FT_ERR_NOT_FOUND: no such note. */
FT_CHECKED ft_code ft_store_note_get(ft_store *s, const char *name, ft_buffer *out, ft_status *st);
FT_CHECKED ft_code ft_store_note_put(ft_store *s, const char *name, const void *bytes, size_t n, ft_status *st);
/* 32 random bytes, made when first asked for, the same ever after: the salts of receipts come from
 * them. They leave the store in no other way. */
enum { FT_STORE_SECRET = 32 };
FT_CHECKED ft_code ft_store_secret(ft_store *s, unsigned char secret[FT_STORE_SECRET], ft_status *st);
/* One read transaction: for /readyz. */
FT_CHECKED ft_code ft_store_check(ft_store *s, ft_status *st);

FT_API_END
#endif
