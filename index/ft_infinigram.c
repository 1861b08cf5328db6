/* Infini-gram's folders, versions 4 and 5, as parts. The format is recorded nowhere
 * in them; what is known of it:
 *
 *   tokenized.N  tokens of 1, 2 or 4 bytes; each document is one separator (all bits
 *                set) and its tokens, last to first in version 5
 *   table.N      the suffix array: byte positions in w bytes, where w is the least
 *                number of bytes that holds every position of tokenized.N
 *   offset.N     u64 byte position of each document's separator
 *   metadata.N   one JSON object a line, metaoff.N: u64 byte position of each; optional
 *
 * table.N has as many entries as tokenized.N has tokens: so its size, divided by w,
 * gives the token width, and no two widths fit. */
#include "index/ft_part.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static char *shard_path(const char *folder, const char *file, unsigned shard)
{
    char name[40];
    snprintf(name, sizeof(name), "%s.%u", file, shard);
    return ft_path_join(folder, name);
}

static ft_code map_file(ft_map *out, const char *folder, const char *file, unsigned shard, int optional, ft_status *st)
{
    char *path = shard_path(folder, file, shard);
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    const ft_code rc = optional && !ft_path_exists(path) ? FT_OK : ft_map_open(out, path, st);
    free(path);
    return rc;
}

static unsigned pointer_bytes_for(uint64_t size)
{
    unsigned w = 1;
    while (w < 8 && (size - 1) >> 8 * w)
        w++;
    return w;
}

static ft_code find_widths(ft_part *p, ft_status *st)
{
    const uint64_t size = p->token_map.bytes, table = p->suffix_map.bytes;
    if (size == 0)
        return ft_fail(st, FT_ERR_FORMAT, "%s/tokenized.%u: empty", p->folder, p->shard);
    const unsigned w = pointer_bytes_for(size);
    for (unsigned width = 1; width <= 4; width *= 2)
        if (size % width == 0 && table % w == 0 && table / w == size / width) {
            p->token_bytes = width;
            p->pointer_bytes = w;
            p->n = size / width;
            p->end = width == 4 ? UINT32_MAX : ((uint32_t)1 << 8 * width) - 1;
            return FT_OK;
        }
    return ft_fail(st, FT_ERR_FORMAT,
                   "%s/table.%u: %" PRIu64 " bytes do not fit the %" PRIu64 " bytes of tokenized.%u at pointers of %u "
                   "bytes and any token width; truncated or damaged",
                   p->folder, p->shard, table, size, p->shard, w);
}

static ft_code check_offsets(ft_part *p, ft_status *st)
{
    uint64_t first;
    if (p->offset_map.bytes == 0 || p->offset_map.bytes % sizeof(first))
        return ft_fail(st, FT_ERR_FORMAT, "%s/offset.%u: %" PRIu64 " bytes are not whole entries of 8", p->folder,
                       p->shard, p->offset_map.bytes);
    p->documents = p->offset_map.bytes / sizeof(first);
    memcpy(&first, p->offset_map.data, sizeof(first));
    if (p->documents > p->n)
        return ft_fail(st, FT_ERR_FORMAT, "%s/offset.%u: %" PRIu64 " documents in %" PRIu64 " tokens", p->folder,
                       p->shard, p->documents, p->n);
    if (first != 0 || ft_part_token(p, 0) != p->end)
        return ft_fail(st, FT_ERR_FORMAT, "%s/tokenized.%u: byte 0: no separator of a first document", p->folder,
                       p->shard);
    if (p->metaoff_map.bytes != 0 && p->metaoff_map.bytes != p->offset_map.bytes)
        return ft_fail(st, FT_ERR_FORMAT, "%s/metaoff.%u: %" PRIu64 " bytes, expected %" PRIu64 " as in offset.%u",
                       p->folder, p->shard, p->metaoff_map.bytes, p->offset_map.bytes, p->shard);
    return FT_OK;
}

ft_code ft_part_open_shard(ft_part *out, const char *folder, unsigned shard, const ft_infinigram_options *options,
                           ft_status *st)
{
    *out = (ft_part){.bytewise = 1, .shard = shard, .reversed = options->version == 5};
    ft_part *p = out;
    p->folder = strdup(folder);
    ft_code rc = p->folder ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc)
        rc = map_file(&p->token_map, folder, "tokenized", shard, 0, st);
    if (!rc)
        rc = map_file(&p->suffix_map, folder, "table", shard, 0, st);
    if (!rc)
        rc = map_file(&p->offset_map, folder, "offset", shard, 0, st);
    if (!rc)
        rc = map_file(&p->metadata_map, folder, "metadata", shard, 1, st);
    if (!rc)
        rc = map_file(&p->metaoff_map, folder, "metaoff", shard, 1, st);
    p->tokens = p->token_map.data;
    p->suffixes = p->suffix_map.data;
    if (!rc)
        rc = find_widths(p, st);
    if (!rc)
        rc = check_offsets(p, st);
    if (rc)
        ft_part_close(p);
    return rc;
}

static int has_shard(const char *folder, unsigned shard)
{
    char *path = shard_path(folder, "tokenized", shard);
    const int has = path && ft_path_exists(path);
    free(path);
    return has;
}

int ft_index_is_infinigram(const char *folder)
{
    return has_shard(folder, 0);
}

static ft_code open_shards(ft_index *ix, const ft_infinigram_options *options, ft_status *st)
{
    unsigned shards = 0;
    while (shards <= FT_INDEX_MAX_PARTS && has_shard(ix->folder, shards))
        shards++;
    if (shards == 0)
        return ft_fail(st, FT_ERR_NOT_FOUND, "%s: no infini-gram index there: it holds no tokenized.0", ix->folder);
    if (shards > FT_INDEX_MAX_PARTS)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "%s: more than %d shards", ix->folder, FT_INDEX_MAX_PARTS);
    ix->parts = ft_alloc_array(shards, sizeof(*ix->parts));
    if (!ix->parts)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", ix->folder);
    for (unsigned i = 0; i < shards; i++) {
        ft_part *p = &ix->parts[i];
        ft_code rc = ft_part_open_shard(p, ix->folder, i, options, st);
        if (rc)
            return rc;
        ix->part_count++;
        if (p->token_bytes != ix->parts[0].token_bytes)
            return ft_fail(st, FT_ERR_FORMAT, "%s/tokenized.%u: tokens of %u bytes, those of shard 0 have %u",
                           ix->folder, i, p->token_bytes, ix->parts[0].token_bytes);
        p->first_document = ix->info.documents;
        ix->info.documents += p->documents;
        ix->info.tokens += p->n - p->documents;
        ix->info.disk_bytes += p->token_map.bytes + p->suffix_map.bytes + p->offset_map.bytes + p->metadata_map.bytes +
                               p->metaoff_map.bytes;
    }
    return FT_OK;
}

ft_code ft_index_open_infinigram(ft_index **out, const char *folder, const ft_infinigram_options *options,
                                 ft_status *st)
{
    *out = NULL;
    if (options->version != 4 && options->version != 5)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "%s: infini-gram version %d; 4 and 5 are read", folder,
                       options->version);
    ft_index *ix = calloc(1, sizeof(*ix));
    ft_code rc = FT_OK;
    if (!ix || !(ix->folder = strdup(folder)))
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc)
        rc = open_shards(ix, options, st);
    if (rc) {
        ft_index_close(ix);
        return rc;
    }
    ft_index_info *info = &ix->info;
    info->parts = ix->part_count;
    info->token_bytes = ix->parts[0].token_bytes;
    info->vocab_size = options->vocab_size;
    info->end_of_text = options->end_of_text;
    info->owner = "";
    info->folder = ix->folder;
    info->is_infinigram = 1;
    info->infinigram_version = options->version;
    *out = ix;
    return FT_OK;
}

ft_code ft_index_open_any(ft_index **out, const char *folder, const ft_infinigram_options *options, ft_status *st)
{
    return ft_index_is_infinigram(folder) ? ft_index_open_infinigram(out, folder, options, st)
                                          : ft_index_open(out, folder, st);
}
