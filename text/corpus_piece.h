/* A corpus in two steps, so that many threads can read one: what must be done in order, and
 * what each document can have done to it anywhere.
 *
 * ft_corpus_cut unpacks, and cuts lines; it hands out pieces: a line of JSONL, or a whole
 * file. ft_corpus_piece_parse makes a document of a piece (UTF-8, JSON, HTML). What is wrong
 * comes out of either, and ft_corpus_settle, called for it in the order of the pieces, says
 * what that means. ft_corpus_next is the three in a row: whoever calls them himself gets
 * the same documents, messages and counts, at any number of threads.
 *
 * Whole files that are packed in nothing are pieces that name the file: the parser reads them.
 *
 * Lifetime  a piece's views live until the next call on the corpus; who keeps a piece, copies
 *           them. A document's live until the next call on the parser, or as long as the piece.
 * Threads   one owner of the corpus, one of each parser. */
#ifndef FT_CORPUS_PIECE_H
#define FT_CORPUS_PIECE_H
#include "text/corpus_row.h"
#include "text/ft_corpus.h"

typedef enum ft_corpus_format { FT_CORPUS_PLAIN, FT_CORPUS_HTML, FT_CORPUS_JSONL } ft_corpus_format;

typedef struct ft_corpus_piece {
    ft_corpus_format format;
    const char *bytes; /* a line without its end, or a whole file; NULL: it is to be read from `path` */
    size_t size;       /* of `path`, what the folder said */
    const char *path;
    const char *source, *label; /* UTF-8: the file as messages name it, and as ids do */
    uint64_t item;              /* number of file or member: where it is the same, so are the two above */
    uint64_t line;              /* 1-based; 0 for whole files */
} ft_corpus_piece;

typedef struct ft_corpus_parser {
    uint64_t max_document_bytes;
    uint64_t input_bytes; /* read from files; whoever counts them sets it to 0 */
    ft_corpus_row row;
    ft_buffer bytes, text, title; /* a whole file; its text, where that is another; a page's title */
} ft_corpus_parser;

/* The next piece, 0 at the end, in *more. A failure is what stands next; a further call goes
 * on behind it. Counts input bytes, nothing else. */
FT_CHECKED ft_code ft_corpus_cut(ft_corpus *c, ft_corpus_piece *out, int *more, ft_status *st);

void ft_corpus_parser_init(ft_corpus_parser *p, const ft_corpus *c);
void ft_corpus_parser_release(ft_corpus_parser *p); /* frees; may be used again */
/* FT_ERR_FORMAT, _IO and _NOT_FOUND name the file, and the line where it has some. */
FT_CHECKED ft_code ft_corpus_piece_parse(ft_corpus_parser *p, const ft_corpus_piece *piece, ft_document *out,
                                         ft_status *st);

/* What a failure means: it is counted and told, and FT_OK; or it ends the reading. */
FT_CHECKED ft_code ft_corpus_settle(ft_corpus *c, ft_code rc, const char *why, ft_status *st);
/* Adds to the counts what parsers did. */
void ft_corpus_count(ft_corpus *c, uint64_t documents, uint64_t text_bytes, uint64_t input_bytes);

#endif
