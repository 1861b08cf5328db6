/* One line of a JSONL corpus: {"id","text", …}. The other fields become the
 * metadata object, kept as they stand, byte for byte, white space included; only
 * a number that 64 bits cannot hold is put in quotes, so that every reader of
 * the metadata gets its digits. */
#ifndef FT_CORPUS_ROW_H
#define FT_CORPUS_ROW_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"

typedef struct ft_corpus_row {
    ft_buffer id; /* empty: the row has none (absent, null or "") */
    ft_buffer text;
    ft_buffer metadata;  /* one JSON object */
    ft_buffer key, path; /* scratch */
} ft_corpus_row;

/* Reads n bytes of valid UTF-8 into *row, whose buffers are reset first. The
 * message of FT_ERR_FORMAT says what is wrong and at which byte (from 1), without the file. */
FT_CHECKED ft_code ft_corpus_row_parse(ft_corpus_row *row, const char *line, size_t n, ft_status *st);
/* A row of which id and metadata alone are wanted: "text" may be missing and is left out,
 * an "id" that is neither string nor integer stays in the metadata. */
FT_CHECKED ft_code ft_corpus_row_parse_description(ft_corpus_row *row, const char *line, size_t n, ft_status *st);
/* Infini-gram's line about a document, {"path":…,"linenum":…,"metadata":{…}}, each of
 * which may be missing: its metadata object is such a description. Without an id there,
 * it is "PATH:LINENUM". */
FT_CHECKED ft_code ft_corpus_row_parse_origin(ft_corpus_row *row, const char *line, size_t n, ft_status *st);
void ft_corpus_row_release(ft_corpus_row *row);

#endif
