/* The federation's own files share this: federation.yaml as read, before anything is
 * opened; and the indexes, which are replaced while they are read. */
#ifndef FT_FEDERATION_INTERNAL_H
#define FT_FEDERATION_INTERNAL_H
#include "tracer/ft_federation.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Where an owner's data come from: the sections of the summary of training content (ft_summary.h). */
typedef enum source_kind {
    SOURCE_PUBLIC,
    SOURCE_LICENSED,
    SOURCE_THIRD_PARTY,
    SOURCE_CRAWLED,
    SOURCE_USER,
    SOURCE_SYNTHETIC,
    SOURCE_OTHER,
    SOURCE_UNSTATED
} source_kind;
typedef struct yaml_source {
    char *kind, *licence, *link, *collected_from, *collected_to, *description, *crawler, *crawler_behaviour, *generator;
    int64_t *tokens; /* where there is no index that tells */
    bool *ongoing;
} yaml_source;

/* What only people know of the model and its training data. */
typedef struct yaml_summary {
    char *provider, *contact, *representative, *model, *version, *dependencies, *placed_on_market, *content_types,
        *languages, *reservations, *illegal_content, *notes;
    bool *code_of_practice, *sme;
} yaml_summary;

typedef struct yaml_owner {
    char *name, *description;
    int64_t *expert;
    bool opted_out;
    yaml_source *source;
    char **index;
    unsigned index_count;
} yaml_owner;

typedef struct yaml_limits {
    int64_t *request_bytes, *request_seconds, *max_running, *max_waiting, *connections, *kv_bytes;
} yaml_limits;

typedef struct yaml_key {
    char *public, *from, *to, *revoked_at;
} yaml_key;
typedef struct yaml_evidence {
    double *verbatim_tokens, *verbatim_nats, *routing_excess, *routing_ratio, *causal_nats, *causal_nats_per_token;
} yaml_evidence;
typedef struct yaml_traces {
    char *routing;
    int64_t *min_days, *max_days, *max_bytes;
} yaml_traces;

typedef struct yaml_federation {
    char *name, *listen, *model, *store, *validation, *chat_template, *compute, *kv_type, *signing_key;
    yaml_key *old_keys;
    unsigned old_keys_count;
    yaml_owner *owners;
    unsigned owners_count;
    yaml_limits *limits;
    int64_t *validation_tokens;
    yaml_evidence *evidence;
    yaml_traces *traces;
    yaml_summary *summary;
} yaml_federation;

/* Reads the file; every message starts with "PATH:LINE:". The caller frees *out
 * with yaml_federation_free. */
FT_CHECKED ft_code yaml_federation_read(yaml_federation **out, const char *path, ft_status *st);
void yaml_federation_free(yaml_federation *f);

/* The line of the nth (from 1) value `text` whose key, or whatever value stands just
 * before it, is `before`; 1 where there is none. For messages about what was read. */
size_t yaml_federation_line(const char *path, const char *before, const char *text, unsigned nth);

/* --- What people say of training content (federation_summary.c) ----------------------- */

/* SOURCE_UNSTATED: no source, no kind, or a name that is none. */
source_kind source_kind_of(const yaml_owner *o);
/* Kinds and dates that are none are FT_ERR_FORMAT, with their line. */
FT_CHECKED ft_code federation_check_summary(const ft_federation *f, ft_status *st);

/* --- What is opened (ft_federation.c) ------------------------------------------- */

/* An open index and the number of those who hold it: snapshots, and whoever makes one. */
typedef struct held_index {
    ft_index *index;
    atomic_size_t holders;
} held_index;

/* One entry of an owner's `index:`, and the fault of its newest state, where it has one.
 * The three are hints, each good alone: at worst an index is tried once more. */
typedef struct index_slot {
    const char *name; /* as federation.yaml has it */
    char *folder;
    const yaml_owner *owner;
    atomic_int failed;
    _Atomic uint64_t failed_stamp; /* of the manifest that could not be opened */
    _Atomic int64_t retry_ms;      /* it is not tried again before, unless it is replaced */
} index_slot;

struct ft_snapshot {
    atomic_size_t holders;
    ft_trace_scope scope; /* its sets belong to the federation */
    ft_owner *owners;
    held_index **held; /* [slot_count], each held once */
    const ft_index **indexes;
    size_t count;
};

struct ft_federation {
    char *path, *folder; /* of federation.yaml */
    yaml_federation *yaml;
    char *store, *validation;
    ft_model *model;
    ft_tokenizer *tokenizer;
    ft_lexicon *lexicon;
    ft_thresholds thresholds;
    size_t validation_tokens;
    ft_usual usual; /* tokens 0 until ft_federation_usual */
    ft_token_set delimiters, word_starts;
    ft_federation_limits limits;
    ft_store_options store_options;
    ft_retention retention;
    ft_engine_options engine;
    uint64_t opted_out; /* bit e: expert e, whatever requests say */
    index_slot *slots;  /* owner by owner */
    size_t slot_count;

    pthread_mutex_t lock; /* of `current`; held for a few instructions */
    ft_snapshot *current;
    pthread_mutex_t opening; /* held by the one who opens what is new */
};

/* Opens what the slot names and checks that it was built with the model's tokenizer. The
 * caller has the one hold on *out. */
FT_CHECKED ft_code held_index_open(held_index **out, const ft_federation *f, const index_slot *slot, ft_status *st);
void held_index_release(held_index *h); /* NULL is allowed */

/* A snapshot of one index a slot; takes over the holds on `held` and the list itself, and
 * also releases them where it fails. */
FT_CHECKED ft_code snapshot_new(ft_snapshot **out, const ft_federation *f, held_index **held, ft_status *st);

#endif
