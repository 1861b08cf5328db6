/* text_match_internal: the pieces of ft_text_match.
 *
 *   ft_text_vocabulary   the tokens' byte strings, sorted                      text_vocabulary.c
 *   ft_text_automaton    the query as a machine that reads bytes               text_automaton.c
 *   ft_text_search       which tokens can begin the query, and go on with it   text_search.c
 *   ft_text_walk_part    ranges of the suffix array that spell the query       text_walk.c
 *
 * In parts whose documents are stored last token first everything runs backwards:
 * strings and query are reversed, and "begins" below reads "ends". */
#ifndef FT_TEXT_MATCH_INTERNAL_H
#define FT_TEXT_MATCH_INTERNAL_H
#include "index/ft_part.h"
#include "text/ft_tokenizer.h"

/* --- Vocabulary -------------------------------------------------------------------- */

/* Half-open run of sorted strings that share their first bytes. */
typedef struct ft_text_run {
    uint32_t lo, hi;
} ft_text_run;

typedef struct ft_text_vocabulary {
    uint32_t size;       /* ids are below */
    unsigned char *text; /* the strings one after another */
    uint32_t *at;        /* [size + 1] where each begins in `text` */
    uint32_t *sorted;    /* [sorted_count] ids of the strings that are not empty, in the order of their bytes */
    uint32_t sorted_count, longest_bytes;
    uint32_t *empty; /* [empty_count] ids that stand for no text */
    uint32_t empty_count;
} ft_text_vocabulary;

void ft_text_vocabulary_release(ft_text_vocabulary *v);
/* All tokens of `t`, each string backwards when `reversed`. */
FT_CHECKED ft_code ft_text_vocabulary_of_tokenizer(ft_text_vocabulary *out, const ft_tokenizer *t, int reversed,
                                                   ft_status *st);
/* A token is a byte. */
FT_CHECKED ft_code ft_text_vocabulary_of_bytes(ft_text_vocabulary *out, ft_status *st);

static inline const unsigned char *ft_text_of(const ft_text_vocabulary *v, uint32_t id, uint32_t *n) /* id < size */
{
    *n = v->at[id + 1] - v->at[id];
    return v->text + v->at[id];
}
/* Of strings that agree in `depth` bytes, those that go on with `byte`. */
ft_text_run ft_text_vocabulary_narrow(const ft_text_vocabulary *v, ft_text_run r, uint32_t depth, unsigned char byte);

/* --- Automaton ----------------------------------------------------------------------- */

/* Deterministic: from a state, a byte leads to one state or nowhere. States are places
 * in the query; without case folding, state i is "i bytes read". A character that has
 * several forms branches into their bytes and comes together behind them. As no
 * character's bytes begin (or end) another's, a reading that starts at one byte ends at
 * one byte, and the other way round. */
typedef struct ft_text_edge {
    uint32_t to;
    unsigned char byte;
} ft_text_edge;
typedef struct ft_text_automaton {
    ft_text_edge *edges;
    uint32_t *first; /* [states + 1] first edge of each state */
    uint32_t states; /* state 0 is the beginning, states - 1 is "all read" */
    size_t edges_capacity, first_capacity;
    unsigned char begins[256]; /* 1: the byte leads somewhere from state 0 */
} ft_text_automaton;

enum { FT_TEXT_NOWHERE = UINT32_MAX };

void ft_text_automaton_release(ft_text_automaton *a);
/* n >= 1 bytes, which need not be UTF-8: what is no whole character has one form. */
FT_CHECKED ft_code ft_text_automaton_compile(ft_text_automaton *out, const char *query, size_t n, int ignore_case,
                                             int reversed, ft_status *st);
static inline uint32_t ft_text_automaton_end(const ft_text_automaton *a)
{
    return a->states - 1;
}
/* Reads up to n bytes from `state`, stopping when all of the query is read; *used (may
 * be NULL) receives how many bytes that took. */
uint32_t ft_text_automaton_run(const ft_text_automaton *a, uint32_t state, const unsigned char *p, uint32_t n,
                               uint32_t *used);

/* --- Search ---------------------------------------------------------------------------- */

/* A token in whose middle the query begins: `offset` bytes in, offset >= 1. Behind the
 * token's last byte, or where the query ended before that, the automaton is in `state`. */
typedef struct ft_text_start {
    uint32_t state, token, offset;
} ft_text_start;

/* A token that goes on with the query and is used up by it. */
typedef struct ft_text_step {
    uint32_t token, state;
} ft_text_step;

/* How the query can go on at a state, with one more token. */
typedef struct ft_text_follow {
    ft_text_step *steps;
    size_t step_count, steps_capacity;
    ft_text_run *ends; /* runs of sorted strings in which the query ends */
    size_t end_count, ends_capacity;
    uint64_t choices; /* tokens in steps and ends */
} ft_text_follow;

typedef struct ft_text_search {
    const ft_text_vocabulary *vocabulary;
    ft_text_automaton automaton;
    ft_text_follow **follow; /* [states], filled when first needed */
    ft_text_start *starts;   /* by state, then token */
    size_t start_count;
    uint32_t *offset_of; /* [vocabulary size] scratch of text_walk: 0, or where a start's token holds the query */
} ft_text_search;

void ft_text_search_release(ft_text_search *s);
FT_CHECKED ft_code ft_text_search_init(ft_text_search *out, const ft_text_vocabulary *v, const char *query, size_t n,
                                       int ignore_case, int reversed, ft_status *st);
FT_CHECKED ft_code ft_text_search_follow(ft_text_search *s, uint32_t state, const ft_text_follow **out, ft_status *st);

/* --- Walk -------------------------------------------------------------------------------- */

/* An occurrence begins `offset` bytes into the token at pos. */
typedef struct ft_text_place {
    uint64_t pos;
    uint32_t offset;
} ft_text_place;

/* Receives all occurrences in a fixed order. */
typedef struct ft_text_tally {
    uint64_t count;
    uint64_t from; /* of the occurrences, in order, [from, from + limit) are kept */
    size_t limit;
    ft_text_place *places; /* [limit] */
    size_t kept;
} ft_text_tally;

/* Adds the occurrences of one part. */
FT_CHECKED ft_code ft_text_walk_part(ft_text_search *s, const ft_part *p, ft_text_tally *tally, ft_status *st);

#endif
