/* ft_train_data: a corpus as training windows.
 *
 * Packed windows  the documents, each ended by end-of-text, in an order that is a function
 *         of seed and epoch, make one stream, which is cut into windows of `length` tokens. They
 *         are taken in strides of the golden ratio, so that those of a step, and of steps that
 *         follow each other, are of different documents however long these are.
 *         Labels are the next tokens; the token that ends a document has none. Attention stays
 *         within documents (`begin`), and within the window.
 * Examples        for differential privacy: example e is at most `length` tokens of one
 *         document, never of two; what is left of a short one is padding without labels.
 *         Or a whole document is one: its pieces of `length` tokens, one after the other.
 * A window is a function of data, seed and its number alone: a run goes on from a step number.
 * Domains  a path may be said to be a domain's: expert e's, which `train router --domain-loss` leads its tokens to.
 * Memory  29 bytes a document. Tokens lie in a file without a name in $TMPDIR (/var/tmp), 4 bytes each, which is
 *         mapped: the system keeps in memory what it has room for, and the file is gone when the data is closed.
 * Threads one owner. */
#ifndef FT_TRAIN_DATA_H
#define FT_TRAIN_DATA_H
#include "base/ft_digest.h"
#include "base/ft_progress.h"
#include "text/ft_tokenizer.h"

FT_API_BEGIN

typedef struct ft_train_data ft_train_data;

/* Reads and encodes all. Ids must be below `vocab`.
 *   FT_ERR_FORMAT  no document, or a tokenizer with more ids than the model has: it is another's
 *   FT_ERR_IO      no room for the tokens in $TMPDIR */
FT_CHECKED ft_code ft_train_data_open(ft_train_data **out, const char *const *paths, size_t count,
                                      const ft_tokenizer *tokenizer, size_t vocab, const ft_progress *progress,
                                      ft_status *st);
/* The same; domain [count]: each path's, below FT_MAX_EXPERTS, or negative for none. */
FT_CHECKED ft_code ft_train_data_open_domains(ft_train_data **out, const char *const *paths, const int32_t *domain,
                                              size_t count, const ft_tokenizer *tokenizer, size_t vocab,
                                              const ft_progress *progress, ft_status *st);
/* Documents that are ids already: tokens [starts[documents]], each ended by end-of-text. Copied. */
FT_CHECKED ft_code ft_train_data_of_ids(ft_train_data **out, const int32_t *tokens, const uint64_t *starts,
                                        size_t documents, ft_status *st);
void ft_train_data_close(ft_train_data *d);

uint64_t ft_train_data_tokens(const ft_train_data *d); /* with the ends of documents */
uint64_t ft_train_data_bytes(const ft_train_data *d);  /* of their text; 0 of ids without one */
uint64_t ft_train_data_documents(const ft_train_data *d);
ft_digest ft_train_data_digest(const ft_train_data *d); /* SHA-256 of the tokens */

/* ids, labels, begin [length]. */
FT_CHECKED ft_code ft_train_data_window(ft_train_data *d, uint64_t seed, uint64_t window, size_t length, int32_t *ids,
                                        int32_t *labels, uint32_t *begin, ft_status *st);
/* domain [length]: of the documents that such a window's tokens are of; -1: none. */
void ft_train_data_domains(ft_train_data *d, uint64_t seed, uint64_t window, size_t length, int32_t *domain);

uint64_t ft_train_data_examples(ft_train_data *d, size_t length);
void ft_train_data_example(ft_train_data *d, uint64_t example, size_t length, int32_t *ids, int32_t *labels);
/* Pieces of one document; a piece's last token has the next piece's first as its label. */
uint64_t ft_train_data_pieces(const ft_train_data *d, uint64_t document, size_t length);
void ft_train_data_piece(const ft_train_data *d, uint64_t document, uint64_t piece, size_t length, int32_t *ids,
                         int32_t *labels);

FT_API_END
#endif
