/* ft_webpage: what pages that stand alone have in common: no script, nothing fetched, light and dark, colours and type
 * of web-static/style.css. Their policy forbids scripts and requests, should a text break out all the same.
 *
 * Threads  any. */
#ifndef FT_WEBPAGE_H
#define FT_WEBPAGE_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"

#include <stddef.h>

FT_API_BEGIN

/* From the doctype to the rules for `body`, inside <style>: the page goes on with rules of its own, closes the element,
 * and has its title and <main> to follow. Custom properties: --paper, --card, --ink, --soft, --line, --well, --c1,
 * --c2, --ui, --mono. */
extern const char ft_webpage_head[];

/* Appends text for the content of an element or a quoted attribute: &, <, >, " and ' by name, ends of lines and tabs as
 * spaces, what is no character, and control characters, as U+FFFD. At most `most` characters, then "…". */
#define FT_WEBPAGE_WHOLE ((size_t)-1)
FT_CHECKED ft_code ft_webpage_escape(ft_buffer *out, const char *text, size_t n, size_t most, ft_status *st);
/* The same for <code>: spaces, tabs and ends of lines are shown, each in an <i>. */
FT_CHECKED ft_code ft_webpage_escape_code(ft_buffer *out, const char *text, size_t n, size_t most, ft_status *st);

FT_API_END
#endif
