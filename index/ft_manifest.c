#include "index/ft_manifest.h"

#include "base/ft_json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <xxhash.h>

static const char format_name[] = "flextrace-index";
/* The file ends with the checksum of all before it; fixed width, so it is found from the end. */
static const char tail_format[] = ",\"checksum\":\"%016" PRIx64 "\"}\n";
enum { TAIL_BYTES = 32, TREE_BLOCK = 1 << 20, BLOCKS_AT_ONCE = 4, NO_TOKEN = -1 };

void ft_manifest_release(ft_manifest *m)
{
    free(m->owner);
    free(m->segments);
    free(m->files);
    *m = (ft_manifest){0};
}

/* --- Digests -------------------------------------------------------------------- */

typedef struct tree_job {
    const ft_map *map;
    ft_digest *leaves;
} tree_job;

/* Several blocks of the file, so that they can be hashed side by side; its last one may be short. */
static void hash_blocks(void *context, size_t task, unsigned worker)
{
    (void)worker;
    const tree_job *j = context;
    const uint64_t at = (uint64_t)task * BLOCKS_AT_ONCE * TREE_BLOCK, left = j->map->bytes - at;
    const unsigned char *from = j->map->data + at;
    ft_digest *out = j->leaves + task * BLOCKS_AT_ONCE;
    const size_t whole = left / TREE_BLOCK < BLOCKS_AT_ONCE ? (size_t)(left / TREE_BLOCK) : BLOCKS_AT_ONCE;
    ft_merkle_leaves(FT_MERKLE_BLAKE2B, from, TREE_BLOCK, whole, out);
    if (whole < BLOCKS_AT_ONCE && left % TREE_BLOCK)
        out[whole] = ft_merkle_leaf(FT_MERKLE_BLAKE2B, from + whole * TREE_BLOCK, (size_t)(left % TREE_BLOCK));
}

ft_code ft_file_tree_digest(ft_digest *out, uint64_t *bytes, const char *path, ft_pool *pool, ft_status *st)
{
    ft_map map;
    ft_code rc = ft_map_open(&map, path, st);
    if (rc)
        return rc;
    const size_t blocks = (size_t)(map.bytes / TREE_BLOCK + (map.bytes % TREE_BLOCK != 0));
    tree_job job = {&map, ft_alloc_array(blocks, sizeof(ft_digest))};
    if (job.leaves) {
        ft_pool_run(pool, (blocks + BLOCKS_AT_ONCE - 1) / BLOCKS_AT_ONCE, hash_blocks, &job);
        *out =
            blocks ? ft_merkle_root(FT_MERKLE_BLAKE2B, job.leaves, blocks) : ft_merkle_leaf(FT_MERKLE_BLAKE2B, "", 0);
        *bytes = map.bytes;
    } else {
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    }
    free(job.leaves);
    ft_map_close(&map);
    return rc;
}

ft_code ft_manifest_add_file(ft_manifest *m, const char *folder, const char *name, ft_pool *pool, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&m->files, &m->file_capacity, m->file_count + 1, sizeof(*m->files), st);
    if (rc)
        return rc;
    ft_manifest_file *f = &m->files[m->file_count];
    snprintf(f->name, sizeof(f->name), "%s", name);
    char *path = ft_path_join(folder, name);
    rc = path ? ft_file_tree_digest(&f->digest, &f->bytes, path, pool, st)
              : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    free(path);
    if (!rc)
        m->file_count++;
    return rc;
}

uint64_t ft_manifest_segment_bytes(const ft_manifest *m)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < m->file_count; i++)
        bytes += strchr(m->files[i].name, '/') ? m->files[i].bytes : 0;
    return bytes;
}

/* --- As JSON ---------------------------------------------------------------------- */

static json_t *hex_string(const ft_digest *d)
{
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(d, hex);
    return json_string(hex);
}

static json_t *file_json(const ft_manifest_file *f)
{
    return json_pack("{s:s,s:I,s:o}", "name", f->name, "bytes", (json_int_t)f->bytes, "digest", hex_string(&f->digest));
}

/* All but files, root and checksum. */
static json_t *head_json(const ft_manifest *m)
{
    json_t *segments = json_array();
    for (size_t i = 0; segments && i < m->segment_count; i++) {
        const ft_manifest_segment *s = &m->segments[i];
        json_array_append_new(
            segments, json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I}", "name", s->name, "documents", (json_int_t)s->documents,
                                "tokens", (json_int_t)s->tokens, "text_bytes", (json_int_t)s->text_bytes, "removed",
                                (json_int_t)s->removed, "removed_documents", (json_int_t)s->removed_documents,
                                "removed_tokens", (json_int_t)s->removed_tokens));
    }
    return json_pack("{s:s,s:i,s:I,s:s,s:o,s:I,s:o,s:i,s:o}", "format", format_name, "version", FT_MANIFEST_VERSION,
                     "generation", (json_int_t)m->generation, "owner", m->owner, "tokenizer",
                     m->has_tokenizer ? hex_string(&m->tokenizer) : json_null(), "vocab_size",
                     (json_int_t)m->vocab_size, "end_of_text",
                     m->end_of_text == UINT32_MAX ? json_null() : json_integer(m->end_of_text), "token_bytes",
                     (int)m->token_bytes, "segments", segments);
}

/* Leaf of the root: the value as compact JSON. Consumes the reference. */
static ft_code json_leaf(ft_digest *out, json_t *value, ft_buffer *scratch, ft_status *st)
{
    ft_buffer_reset(scratch);
    ft_code rc = value ? ft_json_write(value, scratch, st) : ft_fail(st, FT_ERR_MEM, "manifest: out of memory");
    if (!rc)
        *out = ft_merkle_leaf(FT_MERKLE_SHA256, scratch->data, scratch->size);
    json_decref(value);
    return rc;
}

ft_code ft_manifest_root(const ft_manifest *m, ft_digest *out, ft_status *st)
{
    ft_buffer scratch = {0};
    ft_digest *leaves = ft_alloc_array(m->file_count + 1, sizeof(*leaves));
    ft_code rc =
        leaves ? json_leaf(&leaves[0], head_json(m), &scratch, st) : ft_fail(st, FT_ERR_MEM, "manifest: out of memory");
    for (size_t i = 0; i < m->file_count && !rc; i++)
        rc = json_leaf(&leaves[i + 1], file_json(&m->files[i]), &scratch, st);
    if (!rc)
        *out = ft_merkle_root(FT_MERKLE_SHA256, leaves, m->file_count + 1);
    free(leaves);
    ft_buffer_release(&scratch);
    return rc;
}

ft_code ft_manifest_write(ft_manifest *m, const char *folder, ft_status *st)
{
    ft_code rc = ft_manifest_root(m, &m->root, st);
    if (rc)
        return rc;
    ft_buffer text = {0};
    char *path = ft_path_join(folder, "manifest.json");
    json_t *all = head_json(m), *files = json_array();
    for (size_t i = 0; files && i < m->file_count; i++)
        json_array_append_new(files, file_json(&m->files[i]));
    if (!path || !all || json_object_set_new(all, "files", files) ||
        json_object_set_new(all, "root", hex_string(&m->root)))
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    else
        rc = ft_json_write(all, &text, st);
    if (!rc) {
        text.size--; /* the closing brace moves behind the checksum */
        rc = ft_buffer_printf(&text, st, tail_format, (uint64_t)XXH3_64bits(text.data, text.size));
    }
    if (!rc)
        rc = ft_file_write(path, text.data, text.size, st);
    json_decref(all);
    free(path);
    ft_buffer_release(&text);
    return rc;
}

/* --- Reading ------------------------------------------------------------------------- */

uint64_t ft_manifest_stamp(const char *folder)
{
    char path[4096]; /* a longer one names nothing; no memory to ask for, so it cannot fail */
    struct stat info;
    const int n = snprintf(path, sizeof(path), "%s/manifest.json", folder);
    if (n < 0 || (size_t)n >= sizeof(path) || stat(path, &info) != 0)
        return 0;
    const uint64_t what[] = {(uint64_t)info.st_dev, (uint64_t)info.st_ino, (uint64_t)info.st_size,
                             (uint64_t)info.st_mtim.tv_sec, (uint64_t)info.st_mtim.tv_nsec};
    const uint64_t stamp = XXH3_64bits(what, sizeof(what));
    return stamp ? stamp : 1;
}

/* Names come from a file: letters, digits, '-', '_', '.', and '/' between two of them,
 * so that none leads outside the folder. */
static int name_is_plain(const char *name)
{
    const size_t n = strlen(name);
    int slashes = 0;
    for (size_t i = 0; i < n; i++) {
        const char c = name[i];
        const int letter =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        const int start = i == 0 || name[i - 1] == '/';
        slashes += c == '/';
        if (!letter && (start || (c != '.' && c != '/')))
            return 0;
    }
    return n > 0 && n < FT_NAME_MAX && name[n - 1] != '/' && slashes <= 1;
}

static ft_code read_name(const json_t *from, char name[FT_NAME_MAX], const char *path, ft_status *st)
{
    const char *text = NULL;
    ft_code rc = ft_json_get_string(from, "name", &text, st);
    if (!rc && (!text || !name_is_plain(text)))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: '%.80s' is not a name inside an index", path, text ? text : "");
    if (!rc)
        snprintf(name, FT_NAME_MAX, "%s", text);
    return rc;
}

static ft_code read_count(const json_t *from, const char *field, uint64_t *out, ft_status *st)
{
    int64_t v = 0;
    ft_code rc = ft_json_get_int(from, field, 0, (int64_t)1 << 56, &v, st);
    *out = (uint64_t)v;
    return rc;
}

static ft_code read_digest(const json_t *from, const char *field, ft_digest *out, ft_status *st)
{
    const char *hex = "";
    ft_code rc = ft_json_get_string(from, field, &hex, st);
    return rc ? rc : ft_digest_parse(out, hex, st);
}

static ft_code read_segments(ft_manifest *m, const json_t *list, const char *path, ft_status *st)
{
    const size_t count = json_array_size(list);
    m->segments = ft_alloc_array(count, sizeof(*m->segments));
    if (!m->segments)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    for (size_t i = 0; i < count; i++) {
        ft_manifest_segment *s = &m->segments[m->segment_count++];
        const json_t *from = json_array_get(list, i);
        ft_code rc = read_name(from, s->name, path, st);
        if (!rc)
            rc = read_count(from, "documents", &s->documents, st);
        if (!rc)
            rc = read_count(from, "tokens", &s->tokens, st);
        if (!rc)
            rc = read_count(from, "text_bytes", &s->text_bytes, st);
        if (!rc)
            rc = read_count(from, "removed", &s->removed, st);
        if (!rc)
            rc = read_count(from, "removed_documents", &s->removed_documents, st);
        if (!rc)
            rc = read_count(from, "removed_tokens", &s->removed_tokens, st);
        if (!rc && (s->removed_documents > s->documents || s->removed_tokens > s->tokens ||
                    !s->removed != !s->removed_documents))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: more is removed from %s than it holds", path, s->name);
        if (rc)
            return rc;
    }
    return FT_OK;
}

static ft_code read_files(ft_manifest *m, const json_t *list, const char *path, ft_status *st)
{
    const size_t count = json_array_size(list);
    m->files = ft_alloc_array(count, sizeof(*m->files));
    if (!m->files)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    for (size_t i = 0; i < count; i++) {
        ft_manifest_file *f = &m->files[m->file_count++];
        const json_t *from = json_array_get(list, i);
        ft_code rc = read_name(from, f->name, path, st);
        if (!rc)
            rc = read_count(from, "bytes", &f->bytes, st);
        if (!rc)
            rc = read_digest(from, "digest", &f->digest, st);
        if (rc)
            return rc;
    }
    return FT_OK;
}

static ft_code read_head(ft_manifest *m, const json_t *from, const char *path, ft_status *st)
{
    const char *format = "", *owner = "", *tokenizer = NULL;
    int64_t version = 0, vocab = 0, end = NO_TOKEN, bytes = 0;
    ft_code rc = ft_json_get_string(from, "format", &format, st);
    if (!rc && strcmp(format, format_name) != 0)
        return ft_fail(st, FT_ERR_FORMAT, "%s: not the manifest of a flextrace index", path);
    if (!rc)
        rc = ft_json_get_int(from, "version", 0, INT32_MAX, &version, st);
    if (!rc && version != FT_MANIFEST_VERSION)
        return ft_fail(st, FT_ERR_FORMAT, "%s: format version %d, this program reads %d; build the index again", path,
                       (int)version, FT_MANIFEST_VERSION);
    if (!rc)
        rc = read_count(from, "generation", &m->generation, st);
    if (!rc)
        rc = ft_json_get_string(from, "owner", &owner, st);
    if (!rc)
        rc = ft_json_get_string(from, "tokenizer", &tokenizer, st);
    if (!rc && tokenizer)
        rc = ft_digest_parse(&m->tokenizer, tokenizer, st);
    if (!rc)
        rc = ft_json_get_int(from, "vocab_size", 1, 0xFFFFFF, &vocab, st);
    if (!rc)
        rc = ft_json_get_int(from, "end_of_text", 0, UINT32_MAX, &end, st);
    if (!rc)
        rc = ft_json_get_int(from, "token_bytes", 2, 3, &bytes, st);
    if (!rc && bytes != (vocab <= 0xFFFF ? 2 : 3))
        rc = ft_fail(st, FT_ERR_FORMAT, "%d token bytes do not fit a vocabulary of %d", (int)bytes, (int)vocab);
    if (rc)
        return rc;
    m->has_tokenizer = tokenizer != NULL;
    m->vocab_size = (uint32_t)vocab;
    m->end_of_text = end == NO_TOKEN ? UINT32_MAX : (uint32_t)end;
    m->token_bytes = (unsigned)bytes;
    m->owner = strdup(owner);
    return m->owner ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
}

static ft_code read_fields(ft_manifest *m, const json_t *from, const char *path, ft_status *st)
{
    ft_digest root;
    ft_code rc = read_head(m, from, path, st);
    if (!rc)
        rc = read_segments(m, json_object_get(from, "segments"), path, st);
    if (!rc)
        rc = read_files(m, json_object_get(from, "files"), path, st);
    if (!rc)
        rc = read_digest(from, "root", &m->root, st);
    if (!rc)
        rc = ft_manifest_root(m, &root, st);
    if (!rc && memcmp(&root, &m->root, sizeof(root)) != 0)
        rc = ft_fail(st, FT_ERR_FORMAT, "the root does not follow from the files listed");
    if (rc == FT_ERR_ARG) /* a field of the wrong type: here that is a damaged file */
        rc = FT_ERR_FORMAT;
    if (rc && st) {
        st->code = rc;
        if (strncmp(st->msg, path, strlen(path)) != 0)
            ft_status_prefix(st, "%s", path);
    }
    return rc;
}

static ft_code check_sizes(const ft_manifest *m, const char *folder, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; i < m->file_count && !rc; i++) {
        char *path = ft_path_join(folder, m->files[i].name);
        struct stat info;
        if (!path)
            rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
        else if (stat(path, &info) != 0)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: missing, though the manifest names it", path);
        else if ((uint64_t)info.st_size != m->files[i].bytes)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: %" PRIu64 " bytes, the manifest says %" PRIu64, path,
                         (uint64_t)info.st_size, m->files[i].bytes);
        free(path);
    }
    return rc;
}

ft_code ft_manifest_read(ft_manifest *out, const char *folder, ft_status *st)
{
    *out = (ft_manifest){0};
    ft_buffer text = {0};
    json_t *json = NULL;
    char *path = ft_path_join(folder, "manifest.json"), tail[TAIL_BYTES + 1];
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    ft_code rc = ft_file_read(path, FT_MANIFEST_MAX_BYTES, &text, st);
    if (rc == FT_ERR_NOT_FOUND)
        rc = ft_fail(st, rc, "%s: no index there: it holds no manifest.json", folder);
    if (rc)
        goto done;
    const size_t body = text.size < TAIL_BYTES ? 0 : text.size - TAIL_BYTES;
    snprintf(tail, sizeof(tail), tail_format, (uint64_t)XXH3_64bits(text.data, body));
    if (!body || memcmp(text.data + body, tail, TAIL_BYTES) != 0) {
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: its checksum fails; the file is damaged or was edited", path);
        goto done;
    }
    rc = ft_json_parse(&json, text.data, text.size, path, st);
    if (!rc)
        rc = read_fields(out, json, path, st);
    if (!rc)
        rc = check_sizes(out, folder, st);
done:
    if (rc)
        ft_manifest_release(out);
    json_decref(json);
    ft_buffer_release(&text);
    free(path);
    return rc;
}
