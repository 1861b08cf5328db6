/* Near-duplicates: bands of MinHash propose pairs, shingles decide, union-find gathers.
 *
 * Bands come one after another. In a band each text lies in one bucket (of those with
 * the same rows), so that buckets are worked on side by side, each on its own links and on
 * what earlier bands connected: the clusters do not depend on the number of threads. A
 * pair that is connected already is not compared again, so that a thousand copies of one
 * page, a little different each, cost a thousand comparisons and not half a million. */
#include "index/ft_stat_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    NONE = UINT32_MAX,
    PARTITIONS = 256,
    SCREENED_AT_MOST = 4096, /* signatures looked at for one text in one bucket */
    REFUTED_AT_MOST = 256    /* pairs compared in vain for one text */
};

typedef struct member { /* of a bucket */
    uint64_t key;       /* the band's five bytes */
    uint32_t text;
    uint32_t root; /* what earlier bands connected it to */
} member;

typedef struct search {
    ft_stat_work *w;
    uint32_t *documents; /* [texts] ascending */
    size_t texts;
    unsigned char *signatures; /* [texts][FT_STAT_ROWS] */
    uint16_t *refuted;         /* [texts] pairs compared in vain */
    uint32_t *parents;         /* [documents] union-find: the smallest number is the root */
    /* The band at work, by place: [texts] each. */
    unsigned band;
    size_t starts[PARTITIONS + 1];
    member *members;
    /* Components inside a bucket are lists of places; a list is known by its first. */
    uint32_t *next;      /* the next place in the list */
    uint32_t *tail;      /* of a list's first place: its last one; NONE: the list was merged into another */
    uint32_t *count;     /* of a list's first place: its members */
    uint32_t *next_list; /* of a list's first place: that of the next list in the bucket */
    _Atomic uint64_t compared, unchecked;
    atomic_int failed;
    pthread_mutex_t lock;
    ft_code rc;
    ft_status status;
} search;

/* --- Union-find --------------------------------------------------------------------- */

static uint32_t find(uint32_t *parents, uint32_t x)
{
    while (parents[x] != x)
        x = parents[x] = parents[parents[x]];
    return x;
}

static void unite(uint32_t *parents, uint32_t a, uint32_t b)
{
    a = find(parents, a);
    b = find(parents, b);
    if (a < b)
        parents[b] = a;
    else
        parents[a] = b;
}

/* --- One bucket ----------------------------------------------------------------------- */

static void fail(search *s, ft_code rc, const ft_status *st)
{
    pthread_mutex_lock(&s->lock);
    if (!s->rc) {
        s->rc = rc;
        s->status = *st;
    }
    pthread_mutex_unlock(&s->lock);
    atomic_store(&s->failed, 1);
}

static const unsigned char *signature_at(const search *s, uint32_t place)
{
    return s->signatures + (size_t)s->members[place].text * FT_STAT_ROWS;
}

/* The list that stays is the one that begins first, so the bucket's first never dies. */
static uint32_t merge_lists(search *s, uint32_t a, uint32_t b)
{
    const uint32_t stays = a < b ? a : b, goes = a < b ? b : a;
    s->next[s->tail[stays]] = goes;
    s->tail[stays] = s->tail[goes];
    s->count[stays] += s->count[goes];
    s->tail[goes] = NONE;
    return stays;
}

/* A pair that an earlier band proposed was compared then, or left out then. */
static int met_before(const search *s, const unsigned char *a, const unsigned char *b)
{
    for (size_t at = 0; at < (size_t)s->band * FT_STAT_BAND_ROWS; at += FT_STAT_BAND_ROWS)
        if (!memcmp(a + at, b + at, FT_STAT_BAND_ROWS))
            return 1;
    return 0;
}

typedef struct visitor { /* a text that looks for company in its bucket */
    uint32_t place;
    unsigned worker;
    unsigned screened;
    uint64_t apart, left_out; /* of the lists that it is not near to: members looked at; of these, not compared */
} visitor;

/* 1 when the text is near a member of `list`. */
static int is_near_list(search *s, visitor *v, uint32_t list)
{
    const unsigned char *own = signature_at(s, v->place);
    const uint32_t text = s->members[v->place].text;
    uint64_t apart = 0, left_out = 0;
    for (uint32_t y = list; y != NONE && v->screened < SCREENED_AT_MOST; y = s->next[y], apart++) {
        const unsigned char *other = signature_at(s, y);
        ft_status st;
        double similarity;
        v->screened++;
        if (ft_stat_signature_agreement(own, other) < FT_STAT_SCREEN || met_before(s, own, other))
            continue;
        if (s->refuted[text] >= REFUTED_AT_MOST) {
            left_out++;
            continue;
        }
        /* In this order a list's first member keeps its set from text to text. */
        const ft_code rc =
            ft_stat_jaccard(s->w, s->documents[s->members[y].text], s->documents[text], v->worker, &similarity, &st);
        if (rc) {
            fail(s, rc, &st);
            return 0;
        }
        atomic_fetch_add_explicit(&s->compared, 1, memory_order_relaxed);
        if (similarity >= FT_STAT_SIMILARITY)
            return 1;
        s->refuted[text]++;
    }
    v->apart += apart;
    v->left_out += left_out;
    return 0;
}

/* Compares a text, of list `own`, with the bucket's other lists. Returns the list that it is
 * in then. */
static uint32_t connect_text(search *s, uint32_t first, uint32_t place, uint32_t own, unsigned worker)
{
    visitor v = {.place = place, .worker = worker};
    for (uint32_t before = NONE, list = first;
         list != NONE && v.screened < SCREENED_AT_MOST && !atomic_load(&s->failed);) {
        const uint32_t following = s->next_list[list];
        if (s->tail[list] == NONE && following != NONE) { /* merged: out of the chain; the ends stay */
            s->next_list[before] = following;
            list = following;
            continue;
        }
        if (list != own && s->tail[list] != NONE && is_near_list(s, &v, list))
            own = merge_lists(s, own, list);
        before = list;
        list = following;
    }
    uint64_t unchecked = v.left_out;
    if (v.screened == SCREENED_AT_MOST)
        unchecked += place - first + 1 - s->count[own] - v.apart; /* nobody has looked at these */
    if (unchecked)
        atomic_fetch_add_explicit(&s->unchecked, unchecked, memory_order_relaxed);
    return own;
}

static void connect_bucket(search *s, uint32_t first, uint32_t end, unsigned worker)
{
    uint32_t own = NONE, last_list = NONE;
    for (uint32_t place = first; place < end && !atomic_load(&s->failed); place++) {
        if (place > first && s->members[place].root == s->members[place - 1].root) {
            s->next[s->tail[own]] = place;
            s->tail[own] = place;
            s->count[own]++;
        } else {
            own = s->tail[place] = place;
            s->count[place] = 1;
            if (last_list != NONE)
                s->next_list[last_list] = place;
            last_list = place;
        }
        own = connect_text(s, first, place, own, worker);
    }
}

/* --- One band ---------------------------------------------------------------------------- */

static int compare_members(const void *a, const void *b)
{
    const member *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->root != y->root)
        return x->root < y->root ? -1 : 1;
    return x->text < y->text ? -1 : x->text > y->text;
}

static void connect_partition(void *context, size_t task, unsigned worker)
{
    search *s = context;
    const size_t from = s->starts[task], to = s->starts[task + 1];
    if (to - from < 2)
        return;
    qsort(s->members + from, to - from, sizeof(*s->members), compare_members);
    for (size_t i = from, end; i < to; i = end) {
        for (end = i + 1; end < to && s->members[end].key == s->members[i].key; end++)
            ;
        if (end - i > 1)
            connect_bucket(s, (uint32_t)i, (uint32_t)end, worker);
    }
}

static const unsigned char *band_of(const search *s, size_t text)
{
    return s->signatures + text * FT_STAT_ROWS + (size_t)s->band * FT_STAT_BAND_ROWS;
}

/* Buckets never leave the partition that their first byte names. */
static void spread_members(search *s)
{
    size_t at[PARTITIONS] = {0};
    for (size_t i = 0; i < s->texts; i++)
        at[band_of(s, i)[0]]++;
    s->starts[0] = 0;
    for (unsigned p = 0; p < PARTITIONS; p++) {
        s->starts[p + 1] = s->starts[p] + at[p];
        at[p] = s->starts[p];
    }
    for (size_t i = 0; i < s->texts; i++) {
        const unsigned char *row = band_of(s, i);
        uint64_t key = 0;
        for (unsigned k = 0; k < FT_STAT_BAND_ROWS; k++)
            key = key << 8 | row[k];
        s->members[at[row[0]]++] = (member){key, (uint32_t)i, find(s->parents, s->documents[i])};
    }
}

static ft_code connect_band(search *s, ft_status *st)
{
    spread_members(s);
    memset(s->next, 0xFF, s->texts * sizeof(*s->next)); /* NONE */
    memset(s->next_list, 0xFF, s->texts * sizeof(*s->next_list));
    ft_pool_run(s->w->pool, PARTITIONS, connect_partition, s);
    if (s->rc) {
        if (st)
            *st = s->status;
        return s->rc;
    }
    for (size_t i = 0; i < s->texts; i++)
        if (s->next[i] != NONE)
            unite(s->parents, s->documents[s->members[i].text], s->documents[s->members[s->next[i]].text]);
    return ft_stat_report(s->w, "near", s->band + 1, FT_STAT_BANDS, "bands", st);
}

/* --- All ------------------------------------------------------------------------------------ */

static ft_code sign_text(void *context, uint64_t text, unsigned worker, ft_status *st)
{
    search *s = context;
    const uint32_t number = s->documents[text], *ids;
    ft_code rc = ft_stat_tokens(s->w, number, worker, &ids, st);
    if (!rc)
        ft_stat_signature(ids, (size_t)s->w->lengths[number], s->signatures + text * FT_STAT_ROWS);
    return rc;
}

static ft_code out_of_memory(const search *s, ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "no memory to look for near-duplicates among %zu texts", s->texts);
}

static ft_code choose_texts(search *s, size_t documents, ft_status *st)
{
    const ft_stat_work *w = s->w;
    s->parents = ft_alloc_array(documents, sizeof(*s->parents));
    s->documents = ft_alloc_array(documents, sizeof(*s->documents));
    if (!s->parents || !s->documents)
        return out_of_memory(s, st);
    for (uint32_t i = 0; i < documents; i++) {
        s->parents[i] = i;
        if (w->leaders[i] == i && w->lengths[i] >= FT_STAT_SHINGLE)
            s->documents[s->texts++] = i;
    }
    return FT_OK;
}

static ft_code connect_texts(search *s, ft_status *st)
{
    s->signatures = ft_alloc_array(s->texts, FT_STAT_ROWS);
    s->refuted = ft_alloc_array(s->texts, sizeof(*s->refuted));
    s->members = ft_alloc_array(s->texts, sizeof(*s->members));
    s->next = ft_alloc_array(s->texts, sizeof(*s->next));
    s->tail = ft_alloc_array(s->texts, sizeof(*s->tail));
    s->count = ft_alloc_array(s->texts, sizeof(*s->count));
    s->next_list = ft_alloc_array(s->texts, sizeof(*s->next_list));
    if (!s->signatures || !s->refuted || !s->members || !s->next || !s->tail || !s->count || !s->next_list)
        return out_of_memory(s, st);
    ft_code rc = ft_stat_each(s->w, "sign", s->documents, s->texts, sign_text, s, st);
    for (s->band = 0; s->band < FT_STAT_BANDS && !rc; s->band++)
        rc = connect_band(s, st);
    return rc;
}

static void release_texts(search *s)
{
    free(s->signatures);
    free(s->refuted);
    free(s->members);
    free(s->next);
    free(s->tail);
    free(s->count);
    free(s->next_list);
    s->signatures = NULL;
    s->refuted = NULL;
    s->members = NULL;
    s->next = s->tail = s->count = s->next_list = NULL;
}

typedef struct cluster { /* by its root */
    uint64_t documents, tokens;
    uint32_t texts;
    uint32_t place; /* among the largest, from 1 */
} cluster;

/* The first texts of each cluster that is shown, and how near they are to the first. */
static ft_code show_members(search *s, cluster *clusters, size_t documents, ft_status *st)
{
    ft_stat_groups *out = &s->w->out->near;
    ft_code rc = FT_OK;
    for (size_t i = 0; i < out->shown; i++)
        clusters[out->largest[i].number[0]].place = (uint32_t)i + 1;
    for (uint32_t d = 0; d < documents && !rc; d++) {
        if (s->w->leaders[d] != d)
            continue;
        const uint32_t place = clusters[find(s->parents, d)].place;
        ft_stat_group *g = place ? &out->largest[place - 1] : NULL;
        if (!g || g->shown == FT_STAT_EXAMPLES)
            continue;
        g->number[g->shown] = d;
        rc = ft_stat_jaccard(s->w, g->number[0], d, 0, &g->similarity[g->shown++], st);
    }
    return rc;
}

static ft_code count_clusters(search *s, size_t documents, ft_status *st)
{
    ft_stat_groups *out = &s->w->out->near;
    const ft_stat_work *w = s->w;
    cluster *clusters = ft_alloc_array(documents, sizeof(*clusters));
    if (!clusters)
        return out_of_memory(s, st);
    for (uint32_t d = 0; d < documents; d++) {
        if (w->leaders[d] == NONE)
            continue; /* removed */
        cluster *c = &clusters[find(s->parents, w->leaders[d])];
        c->documents++;
        c->tokens += w->lengths[d];
        c->texts += w->leaders[d] == d;
    }
    for (uint32_t d = 0; d < documents; d++) {
        const cluster *c = &clusters[d];
        if (c->texts < 2)
            continue;
        out->groups++;
        out->texts += c->texts;
        out->documents += c->documents;
        out->tokens += c->tokens;
        out->surplus_documents += c->documents - 1;
        out->surplus_tokens += c->tokens - w->lengths[d];
        ft_stat_groups_offer(out, w->top,
                             &(ft_stat_group){.documents = c->documents, .tokens = c->tokens, .number = {d}});
    }
    out->compared_pairs = s->compared;
    out->unchecked_pairs = s->unchecked;
    ft_code rc = show_members(s, clusters, documents, st);
    free(clusters);
    return rc;
}

ft_code ft_stat_find_near(ft_stat_work *w, ft_status *st)
{
    const size_t documents = (size_t)ft_index_get_info(w->ix).documents;
    search s = {.w = w};
    pthread_mutex_init(&s.lock, NULL);
    ft_code rc = choose_texts(&s, documents, st);
    if (!rc)
        rc = connect_texts(&s, st);
    release_texts(&s);
    if (!rc)
        rc = count_clusters(&s, documents, st);
    free(s.documents);
    free(s.parents);
    pthread_mutex_destroy(&s.lock);
    return rc;
}
