/* ft_manifest: the one file that says what an index consists of. Whoever replaces it,
 * by rename, replaces the index. Internal to index/; docs/index-format.md. */
#ifndef FT_MANIFEST_H
#define FT_MANIFEST_H
#include "base/ft_digest.h"
#include "base/ft_status.h"
#include "base/ft_threads.h"
#include "index/ft_section.h"

enum { FT_MANIFEST_VERSION = 3, FT_MANIFEST_MAX_BYTES = 16 << 20, FT_NAME_MAX = 64 };

typedef struct ft_manifest_file {
    char name[FT_NAME_MAX]; /* "segment-000001/tokens", "tokenizer.json" */
    uint64_t bytes;
    ft_digest digest; /* ft_file_tree_digest */
} ft_manifest_file;

typedef struct ft_manifest_segment {
    char name[FT_NAME_MAX];
    uint64_t documents, tokens, text_bytes; /* as written, removed ones included */
    uint64_t removed;                       /* generation of its removed-* files; 0: nothing is removed */
    uint64_t removed_documents, removed_tokens;
} ft_manifest_segment;

typedef struct ft_manifest {
    uint64_t generation; /* counts the manifests of this folder, from 1 */
    char *owner;         /* never NULL */
    int has_tokenizer;   /* tokenizer.json stands in the folder */
    ft_digest tokenizer; /* SHA-256 of its bytes, as ft_tokenizer_digest */
    uint32_t vocab_size, end_of_text;
    unsigned token_bytes;
    ft_manifest_segment *segments;
    size_t segment_count, segment_capacity;
    ft_manifest_file *files;
    size_t file_count, file_capacity;
    ft_digest root;
} ft_manifest;

void ft_manifest_release(ft_manifest *m);

/* FT_ERR_NOT_FOUND: no manifest in the folder; FT_ERR_FORMAT: damaged, newer, or it
 * names a file outside. Sizes of the files are compared, their content is not. */
FT_CHECKED ft_code ft_manifest_read(ft_manifest *out, const char *folder, ft_status *st);
/* What tells folder/manifest.json from the file that replaces it: device, inode, size and
 * time of writing, hashed. 0: there is none. One call of stat. */
uint64_t ft_manifest_stamp(const char *folder);
/* Computes the root and writes folder/manifest.json. */
FT_CHECKED ft_code ft_manifest_write(ft_manifest *m, const char *folder, ft_status *st);

/* Bytes of the segments' files: what grows with the corpus. */
uint64_t ft_manifest_segment_bytes(const ft_manifest *m);

/* Appends the file folder/name, measured and hashed. */
FT_CHECKED ft_code ft_manifest_add_file(ft_manifest *m, const char *folder, const char *name, ft_pool *pool,
                                        ft_status *st);

/* Root of the Merkle tree over the file's blocks of 1 MiB: it can be computed by many
 * threads, and a block proved without the rest. By BLAKE2b (base/ft_digest.h). */
FT_CHECKED ft_code ft_file_tree_digest(ft_digest *out, uint64_t *bytes, const char *path, ft_pool *pool, ft_status *st);
/* Root over the manifest's head and files, in order. */
FT_CHECKED ft_code ft_manifest_root(const ft_manifest *m, ft_digest *out, ft_status *st);
#endif
