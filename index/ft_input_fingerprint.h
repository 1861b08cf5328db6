/* ft_input_fingerprint: whether the inputs of an interrupted build are what they were. */
#ifndef FT_INPUT_FINGERPRINT_H
#define FT_INPUT_FINGERPRINT_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

/* XXH3 (64 bits) over path, size and time of change of every file that the operands
 * name, folders walked as ft_corpus walks them; absolute paths, so that the working
 * folder does not matter. Reads no file. Take it before the inputs are opened: what is
 * replaced between the two is then told as changed, never missed.
 *   FT_ERR_NOT_FOUND, FT_ERR_IO  an operand that does not exist or cannot be read */
FT_CHECKED ft_code ft_input_fingerprint(const char *const *paths, size_t count, uint64_t *out, ft_status *st);

FT_API_END
#endif
