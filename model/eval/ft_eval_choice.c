#include "model/eval/ft_eval_choice.h"

#include "base/ft_buffer.h"
#include "base/ft_json.h"
#include "base/ft_utf8.h"
#include "model/eval/eval_items.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CHOICES = 64, MOST_FILE_BYTES = 256 << 20 };

double ft_eval_standard_error(double accuracy, size_t n)
{
    return n ? sqrt(accuracy * (1 - accuracy) / (double)n) : 0;
}

/* A context with its choices, encoded. ids: the context, or its right end; choice c is
 * parts[c] … parts[c + 1] of `choices`. */
typedef struct item {
    uint32_t *ids, *choices;
    size_t count, parts[MOST_CHOICES + 1], ways, gold;
    size_t bytes[MOST_CHOICES], characters[MOST_CHOICES];
} item;

static void item_release(item *it)
{
    free(it->ids);
    free(it->choices);
    memset(it, 0, sizeof(*it));
}

static ft_code append(uint32_t **ids, size_t *count, const ft_encoding *e, ft_status *st)
{
    uint32_t *grown = realloc(*ids, (*count + e->count + 1) * sizeof(*grown));
    if (!grown)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    memcpy(grown + *count, e->ids, e->count * sizeof(*grown));
    *ids = grown;
    *count += e->count;
    return FT_OK;
}

static ft_code add_choice(item *it, const char *text, ft_encoder *encoder, ft_encoding *e, ft_status *st)
{
    const size_t bytes = strlen(text);
    size_t count = it->parts[it->ways];
    ft_code rc = ft_encoder_encode_ids(encoder, text, bytes, e, st);
    if (!rc && !e->count)
        rc = ft_fail(st, FT_ERR_FORMAT, "\"choices\": one is empty");
    if (!rc)
        rc = append(&it->choices, &count, e, st);
    if (rc)
        return rc;
    it->bytes[it->ways] = bytes;
    it->characters[it->ways] = ft_utf8_count(text, bytes);
    it->parts[++it->ways] = count;
    return FT_OK;
}

/* An empty context is the end-of-text token: something has to stand before the first choice. */
static ft_code read_item(item *it, const json_t *row, const char *field, const ft_tokenizer *tokenizer,
                         ft_encoder *encoder, ft_encoding *e, ft_status *st)
{
    const char *context = NULL;
    int64_t gold = -1;
    size_t i;
    const json_t *list = json_object_get(row, "choices"), *one;
    memset(it, 0, sizeof(*it));
    ft_code rc = ft_json_get_string(row, field, &context, st);
    if (!rc && !context)
        rc = ft_fail(st, FT_ERR_FORMAT, "\"%s\" is missing", field);
    if (!rc && (json_array_size(list) < 2 || json_array_size(list) > MOST_CHOICES))
        rc = ft_fail(st, FT_ERR_FORMAT, "\"choices\" must be 2 to %d strings", MOST_CHOICES);
    if (!rc)
        rc = ft_json_get_int(row, "gold", 0, (int64_t)json_array_size(list) - 1, &gold, st);
    if (!rc && gold < 0)
        rc = ft_fail(st, FT_ERR_FORMAT, "\"gold\" is missing");
    if (!rc)
        rc = ft_encoder_encode_ids(encoder, context, strlen(context), e, st);
    if (!rc)
        rc = append(&it->ids, &it->count, e, st);
    if (!rc && !it->count)
        it->ids[it->count++] = ft_tokenizer_end_of_text(tokenizer);
    json_array_foreach(list, i, one)
    {
        if (!rc && !json_is_string(one))
            rc = ft_fail(st, FT_ERR_FORMAT, "\"choices\" must be strings");
        if (!rc)
            rc = add_choice(it, json_string_value(one), encoder, e, st);
    }
    it->gold = gold < 0 ? 0 : (size_t)gold;
    return rc;
}

/* What one session reads for one choice: the context's last token, then the choice. */
typedef struct lane {
    const item *it;
    const uint32_t *context; /* what of it fits */
    size_t count;
    uint32_t *ids; /* [longest choice + 1] */
    float *log2p;
} lane;

static ft_code open_lane(lane *l, const item *it, size_t window, ft_status *st)
{
    size_t longest = 0;
    for (size_t c = 0; c < it->ways; c++)
        longest = it->parts[c + 1] - it->parts[c] > longest ? it->parts[c + 1] - it->parts[c] : longest;
    if (longest > window)
        return ft_fail(st, FT_ERR_FORMAT, "a choice of %zu tokens does not fit the window of %zu", longest, window);
    const size_t room = window - longest + 1; /* the last token of a choice is not read */
    l->it = it;
    l->count = it->count < room ? it->count : room;
    l->context = it->ids + it->count - l->count;
    l->ids = ft_alloc_array(longest + 1, sizeof(*l->ids));
    l->log2p = ft_alloc_array(longest + 1, sizeof(*l->log2p));
    return l->ids && l->log2p ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

/* S of every choice of n items, n at most the scorer's sessions; sums [n][MOST_CHOICES], nats. */
static ft_code score_items(ft_scorer *s, const item *items, size_t n, double (*sums)[MOST_CHOICES], ft_status *st)
{
    lane *lanes = ft_alloc_array(n, sizeof(*lanes));
    ft_score *scores = ft_alloc_array(n, sizeof(*scores));
    size_t ways = 0, reads = 0;
    ft_code rc = lanes && scores ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < n && !rc; i++) {
        rc = open_lane(&lanes[i], &items[i], ft_scorer_window(s), st);
        ways = items[i].ways > ways ? items[i].ways : ways;
        ft_session_rewind(ft_scorer_session(s, i), 0);
        if (!rc && lanes[i].count > 1)
            scores[reads++] = (ft_score){
                .session = i, .ids = lanes[i].context, .count = lanes[i].count - 1, .from = lanes[i].count - 1};
    }
    if (!rc && reads)
        rc = ft_scorer_read(s, scores, reads, st);
    for (size_t c = 0; c < ways && !rc; c++) {
        reads = 0;
        for (size_t i = 0; i < n; i++) {
            lane *l = &lanes[i];
            if (c >= l->it->ways)
                continue;
            const size_t tokens = l->it->parts[c + 1] - l->it->parts[c];
            const uint32_t *choice = l->it->choices + l->it->parts[c];
            l->ids[0] = l->context[l->count - 1];
            memcpy(l->ids + 1, choice, (tokens - 1) * sizeof(*choice));
            ft_session_rewind(ft_scorer_session(s, i), l->count - 1);
            scores[reads++] =
                (ft_score){.session = i, .ids = l->ids, .targets = choice, .count = tokens, .out = l->log2p};
        }
        rc = ft_scorer_read(s, scores, reads, st);
        for (size_t i = 0; i < n && !rc; i++) {
            if (c >= lanes[i].it->ways)
                continue;
            sums[i][c] = 0;
            for (size_t t = 0; t < lanes[i].it->parts[c + 1] - lanes[i].it->parts[c]; t++)
                sums[i][c] += (double)lanes[i].log2p[t] * log(2);
        }
    }
    for (size_t i = 0; lanes && i < n; i++) {
        free(lanes[i].ids);
        free(lanes[i].log2p);
    }
    free(lanes);
    free(scores);
    return rc;
}

/* The index of the largest sums[c] / per[c] (NULL: sums alone). */
static size_t best(const double *sums, const size_t *per, size_t ways)
{
    size_t at = 0;
    for (size_t c = 1; c < ways; c++)
        if (sums[c] / (per ? (double)per[c] : 1) > sums[at] / (per ? (double)per[at] : 1))
            at = c;
    return at;
}

static void count(ft_eval_choices *out, const item *it, const double *sums, const double *uncond)
{
    double difference[MOST_CHOICES];
    out->items++;
    out->acc += best(sums, NULL, it->ways) == it->gold;
    out->acc_per_char += best(sums, it->characters, it->ways) == it->gold;
    out->acc_per_byte += best(sums, it->bytes, it->ways) == it->gold;
    out->bpb -= sums[it->gold] / (log(2) * (double)it->bytes[it->gold]);
    out->chance += 1 / (double)it->ways;
    for (size_t c = 0; c < it->ways; c++)
        difference[c] = sums[c] - (uncond ? uncond[c] : NAN);
    out->acc_uncond += uncond ? (double)(best(difference, NULL, it->ways) == it->gold) : NAN;
}

typedef struct batch {
    item *with, *without; /* [most] */
    double (*sums)[MOST_CHOICES], (*uncond)[MOST_CHOICES];
    size_t count, most;
    int has_uncond;
} batch;

static ft_code run_batch(batch *b, ft_scorer *s, ft_eval_choices *out, ft_status *st)
{
    ft_code rc = score_items(s, b->with, b->count, b->sums, st);
    if (!rc && b->has_uncond)
        rc = score_items(s, b->without, b->count, b->uncond, st);
    for (size_t i = 0; i < b->count; i++) {
        if (!rc)
            count(out, &b->with[i], b->sums[i], b->has_uncond ? b->uncond[i] : NULL);
        item_release(&b->with[i]);
        item_release(&b->without[i]);
    }
    b->count = 0;
    return rc;
}

ft_code ft_eval_choose(ft_eval_choices *out, ft_scorer *s, const ft_tokenizer *tokenizer, const char *path,
                       size_t limit, const ft_progress *progress, ft_status *st)
{
    eval_items lines = {0};
    ft_encoder *encoder = NULL;
    ft_encoding e = {0};
    batch b = {.most = ft_scorer_sessions(s), .has_uncond = 1};
    memset(out, 0, sizeof(*out));
    b.with = ft_alloc_array(b.most, sizeof(*b.with));
    b.without = ft_alloc_array(b.most, sizeof(*b.without));
    b.sums = ft_alloc_array(b.most, sizeof(*b.sums));
    b.uncond = ft_alloc_array(b.most, sizeof(*b.uncond));
    ft_code rc = b.with && b.without && b.sums && b.uncond ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = eval_items_read(&lines, path, limit, st);
    if (!rc)
        rc = ft_encoder_new(&encoder, tokenizer, st);
    for (size_t i = 0; i < lines.count && !rc; i++)
        b.has_uncond &= json_is_string(json_object_get(lines.rows[i], "uncond_context"));
    for (size_t i = 0; i < lines.count && !rc; i++) {
        const size_t at = b.count++;
        rc = read_item(&b.with[at], lines.rows[i], "context", tokenizer, encoder, &e, st);
        if (!rc && b.has_uncond)
            rc = read_item(&b.without[at], lines.rows[i], "uncond_context", tokenizer, encoder, &e, st);
        if (rc && st)
            ft_status_prefix(st, "%s:%zu", path, lines.lines[i]);
        if (!rc && (b.count == b.most || i + 1 == lines.count))
            rc = run_batch(&b, s, out, st);
        if (!rc && ft_progress_report(progress, "choose", i + 1, lines.count, "items"))
            rc = ft_fail(st, FT_ERR_CANCELLED, "stopped");
    }
    for (size_t i = 0; b.with && b.without && i < b.count; i++) {
        item_release(&b.with[i]);
        item_release(&b.without[i]);
    }
    if (out->items) {
        double *const means[] = {&out->acc,        &out->acc_per_char, &out->acc_per_byte,
                                 &out->acc_uncond, &out->bpb,          &out->chance};
        for (size_t i = 0; i < sizeof(means) / sizeof(*means); i++)
            *means[i] /= (double)out->items;
    }
    free(b.with);
    free(b.without);
    free(b.sums);
    free(b.uncond);
    ft_encoding_release(&e);
    ft_encoder_free(encoder);
    eval_items_release(&lines);
    return rc;
}
