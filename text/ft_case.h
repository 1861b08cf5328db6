/* ft_case: characters that are equal but for case, by Unicode's simple case
 * folding: one character to one, the same in every language. "k" has three forms
 * (k, K, the Kelvin sign), "s" three (s, S, the long s); "ß" equals capital ẞ but
 * not "ss"; dotless ı and dotted İ equal nothing else. */
#ifndef FT_CASE_H
#define FT_CASE_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

enum { FT_CASE_FORMS = 8 }; /* room for the forms of any character: today at most 4 */

/* Writes the characters that equal this one, itself included, none twice; returns how
 * many: at least 1. */
size_t ft_case_forms(uint32_t code_point, uint32_t out[FT_CASE_FORMS]);

FT_API_END
#endif
