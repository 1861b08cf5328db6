/* ft_federation: model + owners + indexes, opened from federation.yaml. The file
 * is read by libcyaml; an unknown key is an error with its line.
 *
 * Model, tokenizer, owners and limits stay as they were opened. The indexes do not:
 * `flextrace index add`, `remove`, `compact` and `build --force` replace one while it
 * is read. So they are read through a snapshot, which is what the indexes are at one
 * moment:
 *
 *     ft_federation_refresh(f, NULL, NULL);           (to see what is newest)
 *     ft_snapshot *s = ft_federation_snapshot(f);
 *     ft_trace_make(ft_snapshot_scope(s), ...);
 *     ft_snapshot_release(s);
 *
 * Lifetime  a snapshot and all that is reached through it (scope, owners, indexes,
 *           document ids and metadata) live until it is released, whatever is replaced
 *           or unlinked meanwhile; an index is closed when the last snapshot that
 *           holds it is released. A snapshot that is kept keeps the disk space of
 *           files that were removed: keep one for a request, not for good. All must be
 *           released before ft_federation_close. The other views live until then.
 * Threads   any number may refresh, take and release snapshots, and read. */
#ifndef FT_FEDERATION_H
#define FT_FEDERATION_H
#include "model/ft_engine.h"
#include "tracer/ft_store.h"
#include "tracer/ft_trace.h"

FT_API_BEGIN

typedef struct ft_federation ft_federation;

typedef struct ft_federation_limits {
    uint64_t request_bytes;                         /* 1 MiB: a larger body is 413 */
    unsigned request_seconds;                       /* 90: to read a request, and to answer it without streaming */
    unsigned max_running, max_waiting, connections; /* 32, 64, 256 */
} ft_federation_limits;

/* `path`: a federation.yaml or a folder that holds one. Relative paths in it are
 * relative to its folder. Opens model, tokenizer and indexes, and checks that they
 * belong together: a tokenizer digest or vocabulary that differs, an expert number
 * that the model lacks, two owners of one name or expert, all experts opted out are
 * FT_ERR_FORMAT. */
FT_CHECKED ft_code ft_federation_open(ft_federation **out, const char *path, ft_status *st);
void ft_federation_close(ft_federation *f);

const char *ft_federation_name(const ft_federation *f);
const char *ft_federation_listen(const ft_federation *f); /* "127.0.0.1:8080" by default */
const char *ft_federation_store(const ft_federation *f);  /* folder; NULL: none */
/* What federation.yaml says under `traces`: how the store keeps routing, and for how long it keeps traces. */
ft_store_options ft_federation_store_options(const ft_federation *f);
ft_retention ft_federation_retention(const ft_federation *f);
/* Folders of an owner's indexes, in their order: the number-th, or NULL behind the last. */
const char *ft_federation_index_folder(const ft_federation *f, const char *owner, size_t number);
/* compute, kv_type and limits: kv_bytes; the rest is zero. */
ft_engine_options ft_federation_engine(const ft_federation *f);
/* Name of a chat template (ft_chat_template.h); NULL: the checkpoint's own. */
const char *ft_federation_chat_template(const ft_federation *f);
ft_federation_limits ft_federation_get_limits(const ft_federation *f);
const ft_model *ft_federation_model(const ft_federation *f);
/* Path of the public text that `validation` names; NULL: none. */
const char *ft_federation_validation(const ft_federation *f);
/* Experts' usual shares over that text: as they were kept beside the store ("STORE.usual.json"), where model, tokenizer,
 * text and opted-out experts (they take no part) are still the same, else measured with the engine and kept. *measured: 1 when that was needed. Without a
 * text nothing happens. Before the first trace is made, by one thread.
 *   FT_ERR_NOT_FOUND, FT_ERR_FORMAT, FT_ERR_IO  the text cannot be read, or the result not be kept */
FT_CHECKED ft_code ft_federation_measure(ft_federation *f, ft_engine *e, int *measured, ft_status *st);
const ft_usual *ft_federation_usual(const ft_federation *f); /* NULL: not known */
const ft_tokenizer *ft_federation_tokenizer(const ft_federation *f);
/* Experts of owners that federation.yaml has `opted_out`: they take no part in anything, whatever
 * a request asks for; to be among the `without` of every session. */
uint64_t ft_federation_opted_out(const ft_federation *f);
/* "scripture,2": owners' names or expert numbers to a bit set; FT_ERR_ARG names what is neither. */
FT_CHECKED ft_code ft_federation_experts(const ft_federation *f, const char *list, uint64_t *bits, ft_status *st);

/* --- The indexes as they are now ------------------------------------------------ */

typedef struct ft_snapshot ft_snapshot;

/* The indexes that are in service. Never fails and never waits. */
ft_snapshot *ft_federation_snapshot(ft_federation *f);
const ft_trace_scope *ft_snapshot_scope(const ft_snapshot *s);
void ft_snapshot_release(ft_snapshot *s); /* NULL is allowed */

/* Looks whether an index was replaced (one call of stat each), opens those that were and
 * puts them into service; the others stay open. Whatever was replaced before the call is
 * in the next snapshot, except:
 *   - a new state that cannot be opened (damaged, another tokenizer) does not come into
 *     service, the old one stays; it is tried again when it is replaced, or after a second;
 *   - when another thread has been opening for a tenth of a second, this one goes on with
 *     the old state rather than wait longer.
 * `tell` (may be NULL) gets one line for each index that comes into service and one for
 * each fault, once; it must not refresh. Infini-gram folders are taken to stay as they are. */
void ft_federation_refresh(ft_federation *f, void (*tell)(void *context, const char *line), void *context);

/* Names of the owners that are served from an older state because the newest of an index
 * of theirs could not be opened; returns how many. They live until ft_federation_close. */
size_t ft_federation_faults(const ft_federation *f, const char *owners[FT_MAX_OWNERS]);

FT_API_END
#endif
