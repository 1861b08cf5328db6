/* ft_erasure: documents taken out of an owner's indexes, what past outputs repeat of them taken out of the store, and a
 * certificate of both.
 *
 * Which outputs  All are read. Those count with a span of at least min_tokens that cites an erased document,
 *                or that the owner's indexes held and whose tokens stand in one though other documents were
 *                shown for it; or whose response or prompt has eight (or min_tokens, if that is more) of an
 *                erased document's tokens in a row anywhere else.
 *
 * Redaction      Of these stretches the text, in response, prompt, snippets and wherever else it stands in the
 *                trace, becomes "*" and characters of the same length, so that positions stay right; their token
 *                ids become null; what was shown of the erased document is dropped. Routing and verdicts stay.
 *
 * Threads        One erasure at a time on an index; readers go on. */
#ifndef FT_ERASURE_H
#define FT_ERASURE_H
#include "base/ft_progress.h"
#include "tracer/ft_federation.h"

FT_API_BEGIN

typedef enum ft_erasure_policy {
    FT_ERASE_REDACT, /* the spans go, the outputs stay */
    FT_ERASE_DELETE, /* the outputs go */
    FT_ERASE_LIST    /* the store stays as it is: outputs are named */
} ft_erasure_policy;
FT_CHECKED ft_code ft_erasure_policy_read(const char *name, ft_erasure_policy *out, ft_status *st);

typedef struct ft_erasure {
    const char *owner;
    const char *const *documents; /* ids */
    size_t document_count;
    ft_erasure_policy policy;
    uint32_t min_tokens; /* shorter spans stay; 0: 1 */
    int compact;         /* index and store are compacted: afterwards the bytes are in no file of theirs */
    const char *reason, *who;
    const ft_progress *progress; /* NULL: none. Steps: 0 remove, 1 redact, 2 compact, 3 certify; of FT_ERASURE_STEPS */
} ft_erasure;
enum { FT_ERASURE_STEPS = 4 };

/* payloadType of a certificate in a DSSE envelope (ft_dsse.h); the payload is its JSON. */
#define FT_TAKEDOWN_TYPE "application/vnd.flextrace.takedown+json"

/* *certificate is a new object: {"object": "takedown", "id", "owner", "documents": [{"id", "found", "tokens"}],
 * "reason", "policy", "min_tokens", "accepted", "hidden", "redacted", "erased": times, or null where it did not come to
 * that, "indexes": [{"index", "documents", "root_before", "root_after"}], "outputs": [{"id", "spans", "tokens"}],
 * "does_not_reach": […]}. It is a line of the store's log too ("takedown"). `s` may be NULL: the indexes alone.
 *   FT_ERR_NOT_FOUND  no index of the owner has any of the documents, and no output cites one; nothing was changed
 *   FT_ERR_ARG        no such owner, or somebody else is changing an index
 *   FT_ERR_UNSUPPORTED  retention forbids it (ft_retention.h); nothing was changed
 *   FT_ERR_CANCELLED  progress said stop
 * A failure on the way leaves what was done until then; the same request again does the rest. */
FT_CHECKED ft_code ft_erase(ft_federation *f, ft_store *s, const ft_erasure *e, json_t **certificate, ft_status *st);

/* The certificate of that id, out of the log; a new reference. FT_ERR_NOT_FOUND: there is none. */
FT_CHECKED ft_code ft_erasure_find(ft_store *s, const char *id, json_t **certificate, ft_status *st);

/* What is left of the certificate's documents (erasure_check.c): {"object": "takedown.check", "id", "owner", "checked",
 * "verdict", "clean", "documents_in_indexes", "outputs_that_cite", "indexes", "store", "caches", "exports",
 * "not_reached"}; docs/compliance.md has the fields of each. New reference. The indexes are read as they lie on the
 * disk, not as they are served. Where a file still has the documents' tokens every output is compared with them, as a
 * takedown does; where none has, those that cite the documents and those that the certificate names are
 * looked into. Reads the log for exports. An index that cannot be read is told as "unknown".
 *   FT_ERR_FORMAT  the certificate names no owner, or a stored trace is damaged */
FT_CHECKED ft_code ft_erasure_check(ft_federation *f, ft_store *s, const json_t *certificate, json_t **out,
                                    ft_status *st);

FT_API_END
#endif
