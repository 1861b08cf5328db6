/* ft_html: what a reader sees of an HTML page, as plain text.
 *
 * Tags go; script, style, head, nav, footer, template and comments go with their
 * content; block elements stand on lines of their own; white space is folded
 * outside of pre and textarea; character references are resolved (numeric ones
 * and those of HTML 4). Any bytes are accepted: what is not mark-up is text.
 *
 * Cost    O(n), whatever the page.
 * Source  WHATWG HTML, section 13.2.5 (tokenization), reduced to what text needs. */
#ifndef FT_HTML_H
#define FT_HTML_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"

#include <stddef.h>

/* Appends the text of the page (valid UTF-8 in, valid UTF-8 out) to `out`. */
FT_CHECKED ft_code ft_html_text(const char *page, size_t n, ft_buffer *out, ft_status *st);

#endif
