/* A federation's indexes while they are replaced: snapshots, and looking for what is new.
 *
 * The snapshot in service is one pointer behind a lock that is held only to count a
 * holder. A newer one is made beside it and shares the indexes that did not change. */
#include "tracer/federation_internal.h"

#include "base/ft_buffer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PATIENCE_MS = 100, /* for another thread that opens */
    RETRY_MS = 1000    /* a fault that the manifest does not show (a lost file, memory) may pass */
};

/* --- Indexes that several snapshots hold -------------------------------------------- */

static held_index *held_index_hold(held_index *h)
{
    atomic_fetch_add(&h->holders, 1);
    return h;
}

void held_index_release(held_index *h)
{
    if (!h || atomic_fetch_sub(&h->holders, 1) != 1)
        return;
    ft_index_close(h->index);
    free(h);
}

ft_code held_index_open(held_index **out, const ft_federation *f, const index_slot *slot, ft_status *st)
{
    *out = NULL;
    held_index *h = calloc(1, sizeof(*h));
    if (!h)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", slot->folder);
    atomic_init(&h->holders, 1);
    const ft_infinigram_options o = {4, ft_tokenizer_end_of_text(f->tokenizer), ft_tokenizer_vocab_size(f->tokenizer)};
    ft_code rc = ft_index_open_any(&h->index, slot->folder, &o, st);
    if (!rc) {
        const ft_index_info info = ft_index_get_info(h->index);
        const ft_digest model = ft_tokenizer_digest(f->tokenizer);
        if (!info.is_infinigram && memcmp(&info.tokenizer_digest, &model, sizeof(model)) != 0)
            rc = ft_fail(st, FT_ERR_FORMAT,
                         "index %s was built with another tokenizer than the model's; rebuild it with -t %s",
                         slot->name, f->yaml->model);
    }
    if (rc)
        held_index_release(h);
    else
        *out = h;
    return rc;
}

/* --- Snapshots ------------------------------------------------------------------------ */

static ft_snapshot *hold(ft_snapshot *s)
{
    atomic_fetch_add(&s->holders, 1);
    return s;
}

void ft_snapshot_release(ft_snapshot *s)
{
    if (!s || atomic_fetch_sub(&s->holders, 1) != 1)
        return;
    for (size_t i = 0; s->held && i < s->count; i++)
        held_index_release(s->held[i]);
    free(s->held);
    free(s->indexes);
    free(s->owners);
    free(s);
}

static void fill_owners(ft_snapshot *s, const yaml_federation *y)
{
    size_t first = 0;
    for (unsigned i = 0; i < y->owners_count; i++) {
        const yaml_owner *o = &y->owners[i];
        s->owners[i] = (ft_owner){.name = o->name,
                                  .description = o->description ? o->description : "",
                                  .expert = o->expert ? (int)*o->expert : -1,
                                  .indexes = s->indexes + first,
                                  .index_count = o->index_count};
        first += o->index_count;
    }
}

ft_code snapshot_new(ft_snapshot **out, const ft_federation *f, held_index **held, ft_status *st)
{
    const yaml_federation *y = f->yaml;
    ft_snapshot *s = calloc(1, sizeof(*s));
    *out = NULL;
    if (!s) {
        for (size_t i = 0; i < f->slot_count; i++)
            held_index_release(held[i]);
        free(held);
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", f->path);
    }
    atomic_init(&s->holders, 1);
    s->held = held;
    s->count = f->slot_count;
    s->owners = ft_alloc_array(y->owners_count, sizeof(*s->owners));
    s->indexes = ft_alloc_array(s->count, sizeof(*s->indexes));
    if (!s->owners || !s->indexes) {
        ft_snapshot_release(s);
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", f->path);
    }
    for (size_t i = 0; i < s->count; i++)
        s->indexes[i] = held[i]->index;
    fill_owners(s, y);
    s->scope = (ft_trace_scope){.tokenizer = f->tokenizer,
                                .model = f->model,
                                .owners = s->owners,
                                .owner_count = y->owners_count,
                                .lexicon = f->lexicon,
                                .thresholds = &f->thresholds,
                                .usual = &f->usual,
                                .delimiters = f->delimiters,
                                .word_starts = f->word_starts};
    *out = s;
    return FT_OK;
}

ft_snapshot *ft_federation_snapshot(ft_federation *f)
{
    pthread_mutex_lock(&f->lock);
    ft_snapshot *s = hold(f->current);
    pthread_mutex_unlock(&f->lock);
    return s;
}

const ft_trace_scope *ft_snapshot_scope(const ft_snapshot *s)
{
    return &s->scope;
}

/* --- What is new ------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int is_due(index_slot *slot, const ft_index *ix)
{
    if (ft_index_is_current(ix)) {
        if (atomic_load(&slot->failed)) /* what was open is back */
            atomic_store(&slot->failed, 0);
        return 0;
    }
    return !atomic_load(&slot->failed) || now_ms() >= atomic_load(&slot->retry_ms) ||
           ft_index_stamp(slot->folder) != atomic_load(&slot->failed_stamp);
}

static int something_is_due(ft_federation *f)
{
    ft_snapshot *s = ft_federation_snapshot(f);
    int due = 0;
    for (size_t i = 0; !due && i < s->count; i++)
        due = is_due(&f->slots[i], s->indexes[i]);
    ft_snapshot_release(s);
    return due;
}

typedef struct teller {
    void (*tell)(void *context, const char *line);
    void *context;
} teller;

/* `stamp`: of the manifest as it stood before the attempt. */
static void note_fault(index_slot *slot, uint64_t stamp, const ft_status *st, teller to)
{
    const int known = atomic_load(&slot->failed) && atomic_load(&slot->failed_stamp) == stamp;
    atomic_store(&slot->failed_stamp, stamp);
    atomic_store(&slot->retry_ms, now_ms() + RETRY_MS);
    atomic_store(&slot->failed, 1);
    if (known || !to.tell)
        return;
    char line[sizeof(st->msg) + 256];
    snprintf(line, sizeof(line), "owner %s: %s; the index as it was before stays in service", slot->owner->name,
             st->msg);
    to.tell(to.context, line);
}

static void tell_new(const index_slot *slot, const ft_index *ix, teller to)
{
    if (!to.tell)
        return;
    const ft_index_info info = ft_index_get_info(ix);
    char line[512];
    snprintf(line, sizeof(line), "owner %s: index %.300s was replaced: now %" PRIu64 " documents, %" PRIu64 " tokens",
             slot->owner->name, slot->name, info.documents, info.tokens);
    to.tell(to.context, line);
}

/* The newest of each index where it can be had, else the one in `old`; *changed says
 * whether any is new. NULL when memory is out. */
static held_index **open_newest(ft_federation *f, const ft_snapshot *old, int *changed, teller to)
{
    held_index **held = ft_alloc_array(f->slot_count, sizeof(*held));
    *changed = 0;
    for (size_t i = 0; held && i < f->slot_count; i++) {
        index_slot *slot = &f->slots[i];
        ft_status st = {0};
        if (is_due(slot, old->indexes[i])) {
            const uint64_t stamp = ft_index_stamp(slot->folder);
            if (held_index_open(&held[i], f, slot, &st) == FT_OK) {
                atomic_store(&slot->failed, 0);
                *changed = 1;
            } else {
                note_fault(slot, stamp, &st, to);
            }
        }
        if (!held[i])
            held[i] = held_index_hold(old->held[i]);
    }
    return held;
}

/* With `opening` held, so that nobody else puts a snapshot into service. */
static void replace(ft_federation *f, teller to)
{
    ft_snapshot *old = ft_federation_snapshot(f), *new = NULL;
    int changed;
    ft_status st;
    held_index **held = open_newest(f, old, &changed, to);
    if (held && snapshot_new(&new, f, held, &st) == FT_OK && changed) {
        pthread_mutex_lock(&f->lock);
        ft_snapshot *before = f->current;
        f->current = hold(new);
        pthread_mutex_unlock(&f->lock);
        ft_snapshot_release(before);
        for (size_t i = 0; i < f->slot_count; i++)
            if (new->held[i] != old->held[i])
                tell_new(&f->slots[i], new->indexes[i], to);
    }
    ft_snapshot_release(new);
    ft_snapshot_release(old);
}

void ft_federation_refresh(ft_federation *f, void (*tell)(void *context, const char *line), void *context)
{
    if (!something_is_due(f))
        return;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PATIENCE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    if (pthread_mutex_timedlock(&f->opening, &until) != 0)
        return;
    if (something_is_due(f)) /* who held it before may have seen to it */
        replace(f, (teller){tell, context});
    pthread_mutex_unlock(&f->opening);
}

size_t ft_federation_faults(const ft_federation *f, const char *owners[FT_MAX_OWNERS])
{
    size_t n = 0;
    for (size_t i = 0; i < f->slot_count && n < FT_MAX_OWNERS; i++)
        if (atomic_load(&f->slots[i].failed) && (!n || strcmp(owners[n - 1], f->slots[i].owner->name) != 0))
            owners[n++] = f->slots[i].owner->name;
    return n;
}
