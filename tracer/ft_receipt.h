/* ft_receipt: the signed statement of a trace (docs/receipts.md has every field): an in-toto
 * statement in a DSSE envelope that an owner or auditor checks alone, offline.
 *
 *   make     ft_receipt_digests, then ft_receipt_make
 *   verify   ft_dsse_parse, ft_dsse_verify, ft_receipt_read, ft_receipt_check_owner
 *   replay   ft_receipt_replay (ft_replay.h)
 *
 * Same trace, same digests, same secret: the same payload, byte for byte.
 *
 * What others must not see (an owner's documents; the prompt where that is asked for) stands in a
 * receipt as HMAC-SHA256 under a salt of that receipt and owner. Salts come from a secret that never leaves
 * the store; whoever has the salt can open what was hashed under it, and nothing else.
 *
 * Threads  any; nothing is shared. */
#ifndef FT_RECEIPT_H
#define FT_RECEIPT_H
#include "base/ft_json.h"
#include "base/ft_progress.h"
#include "index/ft_index.h"
#include "model/ft_fingerprint.h"
#include "tracer/ft_dsse.h"
#include "tracer/ft_store.h"

FT_API_BEGIN

#define FT_RECEIPT_PAYLOAD_TYPE "application/vnd.in-toto+json"
#define FT_STATEMENT_TYPE "https://in-toto.io/Statement/v1"
#define FT_RECEIPT_PREDICATE_TYPE "urn:flextrace:predicate:generation:v1"

/* --- Salts ---------------------------------------------------------------------- */

enum { FT_SALT_BYTES = 32 };
typedef struct ft_salt {
    unsigned char bytes[FT_SALT_BYTES];
} ft_salt;
/* Of the documents of an owner in the receipt of that trace; owner NULL: of the prompt. */
ft_salt ft_receipt_salt(const unsigned char secret[FT_STORE_SECRET], const char *trace_id, const char *owner);
/* "hmac-sha256:" and 64 hexadecimal digits. */
enum { FT_SALTED_HASH = 77 };
void ft_salted_hash(const ft_salt *salt, const void *bytes, size_t n, char out[FT_SALTED_HASH]);

/* --- Making ---------------------------------------------------------------------- */

/* "sha256:" and 64 hexadecimal digits. */
enum { FT_DIGEST_TEXT = 72 };
void ft_digest_text(const ft_digest *d, char out[FT_DIGEST_TEXT]);

/* {"model", "config", "experts": [...]}, null for an expert that was left out; NULL when memory is out. */
json_t *ft_model_digests_json(const ft_model_digests *d);
/* Names a model as it was served, as a trace does (provenance.engine.model_identity): its files' identity and, after
 * "-without-", the experts that federation.yaml had opted out: nothing read their weights. */
enum { FT_MODEL_IDENTITY = FT_DIGEST_TEXT + 26 };
void ft_model_identity_text(const ft_model *m, uint64_t opted_out, char out[FT_MODEL_IDENTITY]);
/* The digests of the model that is named so (NULL: `m` without the experts opted out now). The store knows them;
 * where it does not, and `m` (may be NULL) is that model, its weights are read, but for those experts', and the store
 * keeps what came out. New reference in *out.
 *   FT_ERR_NOT_FOUND  neither known nor `m`, or an expert has opted out since: it is not read any more
 *   others            of ft_model_digests_read */
FT_CHECKED ft_code ft_receipt_digests(ft_store *s, const char *identity, const ft_model *m, uint64_t opted_out,
                                      const ft_progress *progress, json_t **out, ft_status *st);

typedef struct ft_receipt_options {
    const unsigned char *secret; /* [FT_STORE_SECRET] of the trace's store */
    const json_t *digests;       /* ft_receipt_digests; NULL: none (a text that was given) */
    int hide_prompt;             /* its salted hash alone: it can then be replayed only by who knows it */
} ft_receipt_options;

/* The statement of a stored trace, appended as compact JSON. FT_ERR_FORMAT where the trace lacks what
 * a receipt states: it was kept by an earlier version, or redacted. */
FT_CHECKED ft_code ft_receipt_payload(const json_t *trace, const ft_receipt_options *o, ft_buffer *out, ft_status *st);
/* The same, signed: the text of an envelope, appended. */
FT_CHECKED ft_code ft_receipt_make(const json_t *trace, const ft_receipt_options *o, const ft_signer *signer,
                                   ft_buffer *out, ft_status *st);

void ft_receipt_id(const json_t *trace, char id[FT_TRACE_ID]); /* of a trace's receipt */
/* Puts the envelope into the store's log of receipts (ft_store_receipt_add), under the receipt's id: before it is
 * handed out. */
FT_CHECKED ft_code ft_receipt_enter(ft_store *s, const json_t *trace, const void *envelope, size_t n, ft_status *st);

/* --- Reading --------------------------------------------------------------------- */

typedef struct ft_receipt {
    json_t *statement;       /* owned; the rest are views into it, or what was made of it */
    const char *type;        /* the predicate's */
    const json_t *predicate; /* an object */
    int is_generation;       /* FT_RECEIPT_PREDICATE_TYPE: the fields below are set */
    uint32_t *prompt, *output;
    size_t prompt_count, output_count;
    int has_prompt;          /* its ids stand in the receipt */
    char contradiction[240]; /* "" or how the statement contradicts itself */
} ft_receipt;

/* Reads the payload of an envelope, whose signature the caller has verified. FT_ERR_FORMAT: no
 * in-toto statement, or a generation with a field that is missing or of another kind. Unknown
 * fields are ignored. The caller releases *out, also then. */
FT_CHECKED ft_code ft_receipt_read(ft_receipt *out, const ft_envelope *e, const char *where, ft_status *st);
void ft_receipt_release(ft_receipt *r);

/* --- An owner's look -------------------------------------------------------------- */

typedef struct ft_owner_check {
    int same_state;    /* the indexes are, all of them, in the state that the receipt names: counts are exact */
    size_t claimed;    /* spans that the receipt says stand in this owner's indexes */
    size_t confirmed;  /* of those: they do (in the same state: as often as it says) */
    size_t unclaimed;  /* spans that stand there in the same state, which the receipt does not say */
    size_t documents;  /* salted hashes of this owner's documents */
    size_t opened;     /* of those, with the salt: documents that hold their span */
    char refuted[240]; /* "" or the first that was not confirmed, not claimed or not opened */
} ft_owner_check;

/* Whose an index is, as the receipt has it: by its state, else by the name that the index records.
 * NULL: the receipt knows neither. */
const char *ft_receipt_owner_of(const ft_receipt *r, const ft_index *ix);

/* Looks all spans up in the indexes of one owner. Where these are in another state than the receipt's
 * (documents came or went), a claimed span need only be there. `salt` NULL: documents stay closed.
 *   FT_ERR_FORMAT  an index was built with another tokenizer, or is damaged */
FT_CHECKED ft_code ft_receipt_check_owner(const ft_receipt *r, const char *owner, const ft_index *const *indexes,
                                          size_t count, const ft_salt *salt, ft_owner_check *out, ft_status *st);

FT_API_END
#endif
