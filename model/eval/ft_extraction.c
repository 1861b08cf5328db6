#include "model/eval/ft_extraction.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_random.h"
#include "base/ft_utf8.h"
#include "model/eval/ft_edit_distance.h"
#include "model/eval/ft_eval_generate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ft_extraction_options ft_extraction_defaults(void)
{
    return (ft_extraction_options){.prefix = 32,
                                   .new_tokens = 256,
                                   .samples = 10,
                                   .least = 32,
                                   .top_k = 50,
                                   .top_p = 0.95,
                                   .temperature = 1,
                                   .threshold = 0.9,
                                   .seed = 1};
}

typedef struct attack {
    const ft_extraction_options *o;
    const ft_eval_text *text;
    const ft_tokenizer *tokenizer;
    ft_extraction *out;
    size_t *todo, todo_count; /* places in out->documents that are not done */
    size_t *left;             /* [out->count]: samples to come */
    FILE *record;
    ft_edit_scratch scratch;
    ft_buffer written, original;
    uint32_t *characters[2];
    size_t capacity[2];
} attack;

/* --- Candidates ------------------------------------------------------------------------------- */

/* Tokens of a document without the end of its text. */
static size_t length_of(const attack *a, size_t document)
{
    return a->text->documents[document].count - 1;
}

static size_t wanted_of(const attack *a, size_t document)
{
    const size_t rest = length_of(a, document) - a->o->prefix;
    return rest < a->o->new_tokens ? rest : a->o->new_tokens;
}

static int by_document(const void *x, const void *y)
{
    const size_t a = ((const ft_extracted *)x)->document, b = ((const ft_extracted *)y)->document;
    return (a > b) - (a < b);
}

/* All candidates, of which the seed draws (Fisher and Yates). */
static ft_code choose(attack *a, ft_status *st)
{
    ft_extraction *x = a->out;
    const size_t least = a->o->prefix + (a->o->least ? a->o->least : 1);
    x->documents = ft_alloc_array(a->text->count, sizeof(*x->documents));
    if (!x->documents)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t d = 0; d < a->text->count; d++)
        if (length_of(a, d) >= least)
            x->documents[x->count++] = (ft_extracted){.document = d, .similarity = -1, .wanted = wanted_of(a, d)};
    x->candidates = x->count;
    if (!x->count)
        return ft_fail(st, FT_ERR_FORMAT, "no document has the %zu tokens that the attack needs", least);
    if (a->o->documents && a->o->documents < x->count) {
        ft_random r;
        ft_random_init(&r, a->o->seed);
        for (size_t i = 0; i < a->o->documents; i++) {
            const size_t k = i + ft_random_below(&r, x->count - i);
            const ft_extracted swap = x->documents[i];
            x->documents[i] = x->documents[k];
            x->documents[k] = swap;
        }
        x->count = a->o->documents;
        qsort(x->documents, x->count, sizeof(*x->documents), by_document);
    }
    return FT_OK;
}

/* --- The record --------------------------------------------------------------------------------- */

static ft_code describe(char **out, const attack *a, const ft_model *m, ft_status *st)
{
    const ft_extraction_options *o = a->o;
    ft_digest weights;
    char model[FT_DIGEST_HEX], corpus[FT_DIGEST_HEX], tokenizer[FT_DIGEST_HEX];
    ft_code rc = ft_model_digest(m, &weights, st);
    if (rc)
        return rc;
    const ft_digest ids = ft_digest_of(a->text->ids, a->text->tokens * sizeof(*a->text->ids));
    const ft_digest t = ft_tokenizer_digest(a->tokenizer);
    ft_digest_hex(&weights, model);
    ft_digest_hex(&ids, corpus);
    ft_digest_hex(&t, tokenizer);
    json_t *j = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:I, s:I, s:b}", "model", model,
                          "corpus", corpus, "tokenizer", tokenizer, "prefix", (json_int_t)o->prefix, "new_tokens",
                          (json_int_t)o->new_tokens, "samples", (json_int_t)o->samples, "least", (json_int_t)o->least,
                          "documents", (json_int_t)o->documents, "top_k", (json_int_t)o->top_k, "top_p", o->top_p,
                          "temperature", o->temperature, "threshold", o->threshold, "seed", (json_int_t)o->seed,
                          "without", (json_int_t)o->without, "on_text", o->on_text);
    *out = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    return *out ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

static ft_extracted *find(attack *a, size_t document)
{
    const ft_extracted key = {.document = document};
    return bsearch(&key, a->out->documents, a->out->count, sizeof(key), by_document);
}

/* A line of a document that was done. */
static ft_code take_line(attack *a, const json_t *row, ft_status *st)
{
    int64_t document = -1, sample = 0;
    double similarity = -1;
    ft_code rc = ft_json_get_int(row, "document", 0, INT64_MAX, &document, st);
    if (!rc)
        rc = ft_json_get_int(row, "sample", 0, INT64_MAX, &sample, st);
    if (!rc)
        rc = ft_json_get_number(row, "similarity", 0, 1, &similarity, st);
    ft_extracted *x = rc || document < 0 || similarity < 0 ? NULL : find(a, (size_t)document);
    if (!rc && !x)
        rc = ft_fail(st, FT_ERR_FORMAT, "no line of this attack");
    if (rc)
        return rc;
    x->similarity = similarity;
    x->sample = (size_t)sample;
    x->leaks = similarity >= a->o->threshold;
    if (json_object_get(row, "ids"))
        rc = ft_json_get_ids(row, "ids", &x->ids, &x->count, st);
    return rc;
}

/* Reads what is there; *end is where the last whole line ends. */
static ft_code read_record(attack *a, const char *about, size_t *end, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = ft_file_read(a->o->record, 0, &text, st);
    size_t line = 0;
    *end = 0;
    while (!rc && *end < text.size) {
        const char *from = text.data + *end, *stop = memchr(from, '\n', text.size - *end);
        json_t *row = NULL;
        if (!stop)
            break; /* the run was killed in the middle of it */
        const size_t n = (size_t)(stop - from);
        if (line++ == 0) {
            if (n != strlen(about) || memcmp(from, about, n) != 0)
                rc = ft_fail(st, FT_ERR_FORMAT, "%s: the record of another attack; choose another file", a->o->record);
        } else {
            rc = ft_json_parse(&row, from, n, a->o->record, st);
            if (!rc)
                rc = take_line(a, row, st);
            if (rc && st)
                ft_status_prefix(st, "%s:%zu", a->o->record, line);
            json_decref(row);
        }
        *end += n + 1;
    }
    ft_buffer_release(&text);
    return rc;
}

static ft_code open_record(attack *a, const ft_model *m, ft_status *st)
{
    char *about = NULL;
    size_t end = 0;
    if (!a->o->record)
        return FT_OK;
    ft_code rc = describe(&about, a, m, st);
    if (!rc && ft_path_exists(a->o->record))
        rc = read_record(a, about, &end, st);
    if (!rc && end && truncate(a->o->record, (off_t)end) != 0)
        rc = ft_fail(st, FT_ERR_IO, "%s: %s", a->o->record, strerror(errno));
    if (!rc && !(a->record = fopen(a->o->record, end ? "a" : "w")))
        rc = ft_fail(st, FT_ERR_IO, "%s: %s", a->o->record, strerror(errno));
    if (!rc && !end && (fprintf(a->record, "%s\n", about) < 0 || fflush(a->record))) /* allowed: the record */
        rc = ft_fail(st, FT_ERR_IO, "%s: %s", a->o->record, strerror(errno));
    free(about);
    return rc;
}

static ft_code write_line(attack *a, const ft_extracted *x, ft_status *st)
{
    if (!a->record)
        return FT_OK;
    json_t *row = json_pack("{s:I, s:s, s:f, s:I, s:b}", "document", (json_int_t)x->document, "id",
                            a->text->documents[x->document].id, "similarity", x->similarity, "sample",
                            (json_int_t)x->sample, "leaks", x->leaks);
    if (row && x->ids)
        json_object_set_new(row, "ids", ft_json_ids(x->ids, x->count));
    char *line = row ? json_dumps(row, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    ft_code rc = line ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc && (fprintf(a->record, "%s\n", line) < 0 || fflush(a->record))) /* allowed: the record */
        rc = ft_fail(st, FT_ERR_IO, "%s: %s", a->o->record, strerror(errno));
    free(line);
    json_decref(row);
    return rc;
}

/* --- Drawing and comparing ------------------------------------------------------------------------- */

/* A stream of its own for each document and sample (splitmix64's finisher, twice). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void fill(void *context, size_t i, ft_generate_request *r)
{
    const attack *a = context;
    const ft_extraction_options *o = a->o;
    const ft_extracted *x = &a->out->documents[a->todo[i / o->samples]];
    r->prompt = a->text->ids + a->text->documents[x->document].first;
    r->prompt_count = o->prefix;
    r->max_new_tokens = x->wanted;
    r->without = o->without;
    r->sampling = (ft_sampling){.temperature = o->temperature,
                                .top_k = o->top_k,
                                .top_p = o->top_p,
                                .seed = mix(mix(o->seed + 0x9e3779b97f4a7c15u * (x->document + 1)) + i % o->samples)};
}

/* The text of ids as Unicode characters. */
static ft_code characters(attack *a, int which, ft_buffer *text, const uint32_t *ids, size_t n, size_t *count,
                          ft_status *st)
{
    ft_buffer_reset(text);
    *count = 0;
    ft_code rc = ft_tokenizer_decode(a->tokenizer, ids, n, 0, text, st);
    if (!rc)
        rc = ft_array_grow((void **)&a->characters[which], &a->capacity[which], text->size + 1, sizeof(uint32_t), st);
    for (size_t at = 0; !rc && at < text->size;) {
        const ft_utf8_step s = ft_utf8_next(text->data + at, text->size - at);
        a->characters[which][(*count)++] = s.code_point;
        at += s.length;
    }
    return rc;
}

static ft_code compare(attack *a, const ft_extracted *x, const uint32_t *ids, size_t count, double *out, ft_status *st)
{
    const uint32_t *wanted = a->text->ids + a->text->documents[x->document].first + a->o->prefix;
    if (!a->o->on_text)
        return ft_edit_similarity(&a->scratch, wanted, x->wanted, ids, count, out, st);
    size_t m, n;
    ft_code rc = characters(a, 0, &a->original, wanted, x->wanted, &m, st);
    if (!rc)
        rc = characters(a, 1, &a->written, ids, count, &n, st);
    return rc ? rc : ft_edit_similarity(&a->scratch, a->characters[0], m, a->characters[1], n, out, st);
}

static ft_code done(void *context, size_t i, const uint32_t *ids, size_t count, ft_status *st)
{
    attack *a = context;
    const size_t place = a->todo[i / a->o->samples], sample = i % a->o->samples;
    ft_extracted *x = &a->out->documents[place];
    double similarity;
    ft_code rc = compare(a, x, ids, count, &similarity, st);
    /* Samples end in any order: of equal ones the first counts. */
    if (!rc && (similarity > x->similarity || (similarity == x->similarity && sample < x->sample))) { /* NOLINT */
        x->similarity = similarity;
        x->sample = sample;
        x->leaks = similarity >= a->o->threshold;
        if (x->leaks) {
            uint32_t *copy = ft_alloc_array(count, sizeof(*copy));
            if (!copy)
                return ft_fail(st, FT_ERR_MEM, "out of memory");
            memcpy(copy, ids, count * sizeof(*copy));
            free(x->ids);
            x->ids = copy;
            x->count = count;
        }
    }
    if (!rc && --a->left[place] == 0)
        rc = write_line(a, x, st);
    return rc;
}

static ft_code list_todo(attack *a, ft_status *st)
{
    a->todo = ft_alloc_array(a->out->count, sizeof(*a->todo));
    a->left = ft_alloc_array(a->out->count, sizeof(*a->left));
    if (!a->todo || !a->left)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < a->out->count; i++)
        if (a->out->documents[i].similarity < 0) {
            a->todo[a->todo_count++] = i;
            a->left[i] = a->o->samples;
        }
    return FT_OK;
}

ft_code ft_extraction_run(ft_extraction *out, const ft_model *m, const ft_tokenizer *tokenizer, ft_pool *pool,
                          const ft_eval_text *text, const ft_extraction_options *o, const ft_progress *progress,
                          ft_status *st)
{
    attack a = {.o = o, .text = text, .tokenizer = tokenizer, .out = out};
    memset(out, 0, sizeof(*out));
    if (!o->prefix || !o->samples || !o->new_tokens)
        return ft_fail(st, FT_ERR_ARG, "an attack needs a prefix, new tokens and samples, one at least of each");
    ft_code rc = choose(&a, st);
    if (!rc)
        rc = open_record(&a, m, st);
    if (!rc)
        rc = list_todo(&a, st);
    if (!rc && a.todo_count) {
        const ft_eval_writer w = {.fill = fill,
                                  .done = done,
                                  .context = &a,
                                  .count = a.todo_count * o->samples,
                                  .max_tokens = o->prefix + o->new_tokens};
        rc = ft_eval_write(m, pool, &w, progress, st);
    }
    for (size_t i = 0; i < out->count && !rc; i++)
        out->leaked += out->documents[i].leaks != 0;
    if (a.record && fclose(a.record) && !rc)
        rc = ft_fail(st, FT_ERR_IO, "%s: %s", o->record, strerror(errno));
    free(a.todo);
    free(a.left);
    free(a.characters[0]);
    free(a.characters[1]);
    ft_buffer_release(&a.written);
    ft_buffer_release(&a.original);
    ft_edit_scratch_release(&a.scratch);
    if (rc)
        ft_extraction_release(out);
    return rc;
}

void ft_extraction_release(ft_extraction *x)
{
    for (size_t i = 0; i < x->count; i++)
        free(x->documents[i].ids);
    free(x->documents);
    memset(x, 0, sizeof(*x));
}
