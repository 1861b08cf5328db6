/* ft_html: what a reader sees of an HTML page.
 *
 * A tolerant tokenizer, not a browser: tags may be unclosed or misnested,
 * quotes may stay open, '<' and '&' may stand alone; every input gives some
 * text. Block elements (p, li, h1, tr…) break the line, paragraphs and what is
 * like them leave a blank line; elsewhere white space collapses to one space,
 * except in pre and its like, where it is kept. Character references are
 * decoded, a no-break space becomes a space, soft hyphens go. head, script,
 * style, nav, footer, template and what else a page does not show give nothing.
 * Of a CDATA section the content is text; comments, doctypes and processing
 * instructions are not.
 *
 * Cost  linear in the input, whatever it holds.
 * Source  https://html.spec.whatwg.org/multipage/parsing.html, 13.2.5. */
#ifndef FT_HTML_H
#define FT_HTML_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"

#include <stddef.h>

FT_API_BEGIN

/* Appends the text to `text`, without white space at either end and, unless
 * `title` is NULL, that of the title element to `title`. The bytes are valid
 * UTF-8 (elsewise the text is as invalid as they are). FT_ERR_MEM, FT_ERR_LIMIT. */
FT_CHECKED ft_code ft_html_text(const char *html, size_t n, ft_buffer *text, ft_buffer *title, ft_status *st);

FT_API_END
#endif
