/* ft_corpus: documents out of files and folders, one after another, in a fixed order.
 *
 * Accepts JSONL ({"id","text",…}: the other fields are metadata), plain text,
 * HTML, and folders, .tar, .gz and .zst of these. A format is told by the name
 * (.jsonl .ndjson .json; .html .htm .xhtml; anything else is plain text) after
 * .gz/.zst is taken off; .tar, .tar.gz, .tgz, .tar.zst and .tzst are packed
 * folders (a tar within a tar is bad). Folders are walked in byte order of the
 * names, tars in their own order; links are not followed, and names that begin
 * with a period are left out. An operand itself may be a link, a pipe, hidden.
 *
 * JSONL       "text" is a string; "id" a string or an integer (absent, null or
 *             "": made of the file's name and line, "file.jsonl:17"). Blank
 *             lines are nothing. Metadata is kept byte for byte, but a number
 *             that 64 bits cannot hold is put in quotes.
 * Plain text  one document a file, id = its path below the operand that was
 *             named, or its file name; a tar's member is below it: "a.tar/b.txt".
 *             CRLF becomes LF.
 *             A file that holds NUL bytes is bad: it is no text.
 * HTML        likewise, as ft_html.h has it; the title, where there is one, is
 *             the metadata's "title".
 * A byte-order mark is taken off. An empty file is an empty document, an empty
 * JSONL file none.
 *
 * Units     sizes are bytes.
 * Memory    one line or one whole file at a time, and the list of the files' names.
 * Lifetime  a document's views live until the next call on the reader.
 * Threads   one owner.
 * Limits    a line, or a whole file once decompressed, above max_document_bytes
 *           is a bad document; what follows a bad line is read on. */
#ifndef FT_CORPUS_H
#define FT_CORPUS_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef struct ft_corpus ft_corpus;

typedef struct ft_document {
    const char *id;   /* NUL-terminated UTF-8; from "id", else made of the source and line */
    const char *text; /* UTF-8, may hold NUL; for HTML what a reader sees */
    size_t text_bytes;
    const char *metadata; /* one JSON object, "{}" at least; never holds "text" or "id" */
    size_t metadata_bytes;
    const char *source; /* file (and member: "a.tar/b.txt") the document came from */
    uint64_t line;      /* 1-based; 0 for whole-file formats */
} ft_document;

/* What the reader met and passed over, or stopped at. */
typedef struct ft_corpus_counts {
    uint64_t documents, bytes; /* delivered; text bytes */
    uint64_t bad;              /* bad lines, bad UTF-8, oversized, unreadable members */
    uint64_t input_bytes;      /* read from the files so far (compressed size), for progress */
    uint64_t input_total;      /* sum of the files' sizes, known from the start */
} ft_corpus_counts;

typedef struct ft_corpus_options {
    int skip_bad;                /* 0: the first bad document fails `next`; 1: it is reported and passed over */
    uint64_t max_document_bytes; /* 0: 256 MiB */
    /* Called for each document passed over, with "FILE:LINE: what". May be NULL. */
    void (*warn)(void *context, const char *message);
    void *warn_context;
} ft_corpus_options;

/* All `paths` must exist: a missing one is FT_ERR_NOT_FOUND now, not later. options NULL: none is skipped, and no error
 * speaks of --skip-bad, which the command does not have. */
FT_CHECKED ft_code ft_corpus_open(ft_corpus **out, const char *const *paths, size_t count,
                                  const ft_corpus_options *options, ft_status *st);
void ft_corpus_close(ft_corpus *c);

/* 1 with *out set, 0 at the end, in *more. A bad document with skip_bad 0 is
 * FT_ERR_FORMAT: "FILE:LINE: what; remedy", a file that the system refuses is
 * FT_ERR_IO; a further call goes on behind it. FT_ERR_MEM is never passed over. */
FT_CHECKED ft_code ft_corpus_next(ft_corpus *c, ft_document *out, int *more, ft_status *st);
ft_corpus_counts ft_corpus_progress(const ft_corpus *c);

FT_API_END
#endif
