/* ft_stat_values: a document's metadata as values, and how often each value occurs. */
#ifndef FT_STAT_VALUES_H
#define FT_STAT_VALUES_H
#include "base/ft_arena.h"
#include "index/ft_index_stat.h"

#include <jansson.h>

/* --- One document's values ------------------------------------------------------------- */

typedef struct ft_stat_text {
    char text[FT_STAT_VALUE_BYTES + 1]; /* "": none */
} ft_stat_text;

void ft_stat_text_append(ft_stat_text *out, const char *text, size_t n); /* cut at a character */
/* Host of a URL (RFC 3986: after "//" and user information, before port and path), in
 * lower case. Without a scheme, what stands before the first slash. */
void ft_stat_host(const json_t *value, ft_stat_text *out);
/* The member of that name, in any case; NULL: absent. */
const json_t *ft_stat_member(const json_t *object, const char *name);
/* Infini-gram's lines hold the row as "metadata", and a corpus row may itself hold one. */
enum { FT_STAT_NESTED_AT_MOST = 3 };
/* The metadata as an object, which the caller drops; NULL in *out where there are none, or, with *unreadable, where
 * they are none. FT_ERR_MEM alone is a failure. */
FT_CHECKED ft_code ft_stat_metadata(const ft_doc_ref *doc, json_t **out, int *unreadable, ft_status *st);

/* --- Counting values -------------------------------------------------------------------- */

typedef struct ft_stat_table {
    ft_stat_value *values; /* [count] */
    size_t count, capacity;
    uint32_t *slots; /* [size] index in values + 1; 0: free */
    size_t size;     /* power of two, at least twice count; 0 at first */
    ft_arena *arena; /* texts */
    uint64_t bytes, bytes_allowed;
    ft_stat_value rest, none;
} ft_stat_table;

FT_CHECKED ft_code ft_stat_table_init(ft_stat_table *t, uint64_t bytes_allowed, ft_status *st);
void ft_stat_table_release(ft_stat_table *t); /* zeroed ones are allowed */
/* A document of so many tokens that has this value ("": none). One that finds no room counts in `rest`. */
FT_CHECKED ft_code ft_stat_count(ft_stat_table *t, const char *text, uint64_t tokens, ft_status *st);

#endif
