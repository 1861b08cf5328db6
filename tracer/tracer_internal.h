/* What the files of this room share, and nobody else sees. */
#ifndef FT_TRACER_INTERNAL_H
#define FT_TRACER_INTERNAL_H
#include "tracer/ft_trace.h"

/* --- Tokens to text ---------------------------------------------------------- */

/* Where the boundary before a token lies in the text. A token may end inside a
 * character: `floor` is the character's start, `ceil` its end; equal elsewhere. */
typedef struct boundary {
    uint32_t floor, ceil, floor_char, ceil_char;
} boundary;

/* The text of n tokens, repaired as ft_tokenizer_decode does. Token i alone has
 * [at[i].floor, at[i + 1].floor): a character belongs to the token that completes
 * it, so the pieces join to the text. Tokens [s, e) touch [at[s].floor, at[e].ceil). */
typedef struct text_map {
    ft_buffer text;
    boundary *at; /* [n + 1] */
    size_t n, capacity;
    size_t trimmed; /* bytes left out at the start: the rest of a character that began before */
} text_map;

/* Characters that the first or last token cuts at the outer edge are left out
 * (not shown as U+FFFD) where the flag is given. */
enum { TEXT_TRIM_START = 1, TEXT_TRIM_END = 2 };
/* `out` is zeroed, or was made before: then its memory is used again. FT_ERR_LIMIT: 4 GiB of text or more. */
FT_CHECKED ft_code text_map_make(text_map *out, const ft_lexicon *l, const uint32_t *ids, size_t n, unsigned flags,
                                 ft_status *st);
void text_map_release(text_map *m);

/* --- Documents --------------------------------------------------------------- */

/* One document that a span stands in. */
typedef struct found {
    size_t span, owner, index; /* index: in the flat list of the scope's indexes */
    ft_doc_ref document;
    uint64_t position; /* of the match, in reading order */
    double score;
    int placed; /* what stands in the document before its snippet is known: */
    uint64_t bytes_before, characters_before;
} found;

typedef struct found_list {
    found *items; /* by span; within one best score first */
    size_t count, capacity;
} found_list;

/* The scope's indexes one after another, and whose each is. */
typedef struct flat_indexes {
    const ft_index **indexes;
    size_t *owners, count;
} flat_indexes;
FT_CHECKED ft_code flat_indexes_make(flat_indexes *out, const ft_trace_scope *scope, ft_status *st);
void flat_indexes_release(flat_indexes *f);

void found_list_release(found_list *l);

/* The id that a trace has of a document: the recorded one, or what stands for it. A string; NULL when
 * memory is out. */
json_t *trace_document_id(const ft_doc_ref *document);

/* --- JSON -------------------------------------------------------------------- */

/* Sets object[key] = value (taking it over); a NULL value or full memory sets *failed. Keys are names of ours: that
 * they are UTF-8 is not looked at again. */
static inline void put(json_t *object, const char *key, json_t *value, int *failed)
{
    if (!value || json_object_set_new_nocheck(object, key, value) != 0)
        *failed = 1;
}

static inline json_t *json_size(uint64_t n)
{
    return json_integer((json_int_t)n);
}

/* n doubles; NULL when memory is out. */
json_t *json_numbers(const double *values, size_t n);

/* "provenance" (trace_provenance.c): tokenizer, indexes and routing; NULL when memory is out. */
json_t *provenance_json(const ft_trace_scope *scope, const ft_trace_input *input);

/* RFC 3339, whole seconds; null for 0. */
json_t *audit_time(uint64_t ms);
uint64_t audit_now_ms(void);

/* Base64 of the routing's chosen ids (int32) and weights (float32), set as "ids"
 * and "weights" of the object. 0 when memory is out. */
int routing_json_fill(json_t *object, const ft_routing *r);

#endif
