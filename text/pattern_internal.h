/* pattern_internal: the pre-tokenizers' well-known regular expressions, cut by
 * hand. A pattern is recognised by its exact text; every other goes to
 * regex_internal, which also stays the reference that the tests hold this to.
 *
 *   cl100k  of GPT-4, Llama 3 and OLMo (dolma2)
 *   qwen2   the same with digits one by one
 *   gpt2    of ByteLevel
 *
 * Each of them matches at every place of every text: so the pieces are the
 * matches, there is nothing between them, and where one ends the next begins. */
#ifndef FT_PATTERN_INTERNAL_H
#define FT_PATTERN_INTERNAL_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct ft_cutter ft_cutter;

extern const char ft_pattern_cl100k[], ft_pattern_qwen2[], ft_pattern_gpt2[];

/* *out is NULL where the pattern is none of ours. */
FT_CHECKED ft_code ft_cutter_new(ft_cutter **out, const char *pattern, size_t n, ft_status *st);
void ft_cutter_free(ft_cutter *c);

/* Cuts text[at .. n), valid UTF-8 of less than 2^32 bytes, where `at` is the start
 * of a piece: the ends of its first pieces, at most `most`, go to ends. Gives how
 * many; 0 only where at == n. */
size_t ft_cutter_cut(const ft_cutter *c, const char *text, size_t at, size_t n, uint32_t *ends, size_t most);
#endif
