#include "model/ft_safetensors.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER = 100 * 1000 * 1000, MAX_INDEX = 20 * 1000 * 1000, MAX_FILES = 1024 };

typedef struct file {
    char *path;
    ft_map map;
    json_t *header; /* owns names and dtypes */
    size_t data_at;
} file;

struct ft_weights {
    file *files;
    size_t file_count, file_capacity;
    ft_tensor *tensors;
    size_t count, capacity;
};

/* Bits of one element; 0 for a type that we do not know. */
static unsigned dtype_bits(const char *dtype)
{
    static const struct {
        const char *name;
        unsigned bits;
    } types[] = {{"F32", 32}, {"BF16", 16}, {"F16", 16},    {"F64", 64},    {"I64", 64}, {"I32", 32},
                 {"I16", 16}, {"I8", 8},    {"U64", 64},    {"U32", 32},    {"U16", 16}, {"U8", 8},
                 {"BOOL", 8}, {"C64", 64},  {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F4", 4}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (!strcmp(dtype, types[i].name))
            return types[i].bits;
    return 0;
}

/* --- One file ---------------------------------------------------------------- */

static ft_code parse_shape(ft_tensor *t, const json_t *entry, const char *path, ft_status *st)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > FT_TENSOR_MAX_DIMS)
        return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %.120s: 'shape' must be a list of up to %d sizes", path, t->name,
                       FT_TENSOR_MAX_DIMS);
    t->dims = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < t->dims; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %.120s: 'shape' must hold sizes of 0 and more", path,
                           t->name);
        t->shape[i] = (size_t)json_integer_value(d);
    }
    return FT_OK;
}

/* Bytes that dtype and shape ask for; FT_ERR_FORMAT where they overflow. */
static ft_code wanted_bytes(const ft_tensor *t, const char *path, size_t *out, ft_status *st)
{
    const unsigned bits = dtype_bits(t->dtype);
    if (!bits)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "%s: tensor %.120s: dtype %.20s is not known", path, t->name, t->dtype);
    size_t n = 1;
    int bad = 0;
    for (unsigned i = 0; i < t->dims && !bad; i++)
        bad = ft_size_mul(n, t->shape[i], &n, NULL) != FT_OK;
    bad = bad || ft_size_mul(n, bits, &n, NULL) != FT_OK || n % 8;
    *out = n / 8;
    return bad ? ft_fail(st, FT_ERR_FORMAT, "%s: tensor %.120s: its shape has no whole size in bytes", path, t->name)
               : FT_OK;
}

static ft_code parse_tensor(ft_tensor *t, const json_t *entry, const file *f, ft_status *st)
{
    const uint64_t data_bytes = f->map.bytes - f->data_at;
    t->dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!t->dtype)
        return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %.120s: 'dtype' is missing", f->path, t->name);
    ft_code rc = parse_shape(t, entry, f->path, st);
    size_t wanted = 0;
    if (!rc)
        rc = wanted_bytes(t, f->path, &wanted, st);
    if (rc)
        return rc;
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e) || json_integer_value(b) < 0 ||
        json_integer_value(e) < json_integer_value(b))
        return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %.120s: 'data_offsets' must be [begin, end]", f->path, t->name);
    const uint64_t begin = (uint64_t)json_integer_value(b), end = (uint64_t)json_integer_value(e);
    if (end > data_bytes)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s: tensor %.120s: ends at byte %" PRIu64 " of %" PRIu64
                       " bytes of data; the file is cut short",
                       f->path, t->name, end, data_bytes);
    if (end - begin != wanted)
        return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %.120s: holds %" PRIu64 " bytes, its dtype and shape ask for %zu",
                       f->path, t->name, end - begin, wanted);
    t->offset = f->data_at + begin;
    t->data = f->map.data + t->offset;
    t->bytes = wanted;
    return FT_OK;
}

static int by_place(const void *a, const void *b)
{
    const ft_tensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty tensors stand before what begins there */
}

/* The tensors of one file must tile its data: a byte that two tensors share, or
 * that none owns, is how a crafted file smuggles something. */
static ft_code check_tiling(ft_tensor *t, size_t count, const file *f, ft_status *st)
{
    if (count)
        qsort(t, count, sizeof(*t), by_place);
    const unsigned char *at = f->map.data + f->data_at;
    for (size_t i = 0; i < count; i++) {
        if (t[i].data != at)
            return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %.120s: %s the tensor before it", f->path, t[i].name,
                           (const unsigned char *)t[i].data < at ? "overlaps" : "leaves a gap after");
        at += t[i].bytes;
    }
    if (at != f->map.data + f->map.bytes)
        return ft_fail(st, FT_ERR_FORMAT, "%s: %zu bytes at the end belong to no tensor", f->path,
                       (size_t)(f->map.data + f->map.bytes - at));
    return FT_OK;
}

/* The header is read, not looked at through the mapping: that would have the system
 * map pages of the weights beside it. */
static ft_code read_header_text(const file *f, char **text, size_t *n, ft_status *st)
{
    unsigned char prefix[8];
    uint64_t said = 0;
    *text = NULL;
    FILE *stream = fopen(f->path, "rbe");
    if (!stream)
        return ft_fail(st, FT_ERR_IO, "%s: cannot open: %s", f->path, strerror(errno));
    ft_code rc = FT_OK;
    const int whole = fread(prefix, 1, sizeof(prefix), stream) == sizeof(prefix);
    for (int i = 7; i >= 0 && whole; i--)
        said = said << 8 | prefix[i];
    if (!whole || f->map.bytes < 8 || said > MAX_HEADER || said > f->map.bytes - 8)
        rc = ft_fail(st, FT_ERR_FORMAT,
                     "%s: the header says it has %" PRIu64 " bytes, the file has %" PRIu64 "; it is cut short or "
                     "not a safetensors file",
                     f->path, said, f->map.bytes);
    if (!rc && !(*text = malloc((size_t)said + 1)))
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", f->path);
    if (!rc && fread(*text, 1, (size_t)said, stream) != said)
        rc = ft_fail(st, FT_ERR_IO, "%s: cannot read the header: %s", f->path,
                     ferror(stream) ? strerror(errno) : "it is cut short");
    fclose(stream);
    *n = (size_t)said;
    return rc;
}

static ft_code read_header(file *f, ft_status *st)
{
    ft_code rc = ft_map_open(&f->map, f->path, st);
    if (rc)
        return rc;
    char *text, where[300];
    size_t n = 0;
    rc = read_header_text(f, &text, &n, st);
    snprintf(where, sizeof(where), "%.250s: header", f->path);
    if (!rc)
        rc = ft_json_parse(&f->header, text, n, where, st);
    if (!rc && !json_is_object(f->header))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: the header must be a JSON object", f->path);
    f->data_at = 8 + n;
    free(text);
    return rc;
}

/* Opens f->path and appends its tensors to w. */
static ft_code add_file(ft_weights *w, size_t number, ft_status *st)
{
    file *f = &w->files[number];
    ft_code rc = read_header(f, st);
    if (rc)
        return rc;
    size_t total;
    rc = ft_size_add(w->count, json_object_size(f->header), &total, st);
    if (!rc)
        rc = ft_array_grow((void **)&w->tensors, &w->capacity, total, sizeof(*w->tensors), st);
    if (rc)
        return rc;
    ft_tensor *first = w->tensors + w->count;
    size_t count = 0;
    const char *name;
    json_t *entry;
    json_object_foreach(f->header, name, entry)
    {
        if (!strcmp(name, "__metadata__"))
            continue;
        first[count] = (ft_tensor){.name = name, .file = number};
        rc = parse_tensor(&first[count++], entry, f, st);
        if (rc)
            return rc;
    }
    rc = check_tiling(first, count, f, st);
    w->count += count;
    return rc;
}

/* --- Files and shards --------------------------------------------------------- */

/* Adds a file of that path, which the list owns from here on (or NULL: memory is out). */
static ft_code new_file(ft_weights *w, char *path, ft_status *st)
{
    ft_code rc = FT_OK;
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    if (w->file_count == MAX_FILES)
        rc = ft_fail(st, FT_ERR_LIMIT, "%s: more than %d shards", path, MAX_FILES);
    else
        rc = ft_array_grow((void **)&w->files, &w->file_capacity, w->file_count + 1, sizeof(*w->files), st);
    if (rc)
        free(path);
    else
        w->files[w->file_count++] = (file){.path = path};
    return rc;
}

/* Number of the file of that name in the folder, added where it is new. */
static ft_code file_number(ft_weights *w, const char *folder, const char *name, size_t *out, ft_status *st)
{
    char *path = ft_path_join(folder, name);
    for (size_t i = w->file_count; path && i > 0; i--) /* the index lists neighbours together */
        if (!strcmp(w->files[i - 1].path, path)) {
            free(path);
            *out = i - 1;
            return FT_OK;
        }
    *out = w->file_count;
    return new_file(w, path, st);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ft_tensor *)a)->name, ((const ft_tensor *)b)->name);
}

static int by_name_and_file(const void *a, const void *b)
{
    const int order = by_name(a, b);
    const size_t x = ((const ft_tensor *)a)->file, y = ((const ft_tensor *)b)->file;
    return order ? order : x < y ? -1 : x > y;
}

/* A shard's name comes from a file that anyone may have written: it must not lead
 * out of the folder. */
static int is_plain_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Opens every shard that the map names. */
static ft_code add_shards(ft_weights *w, const char *folder, const char *index, const json_t *map, ft_status *st)
{
    const char *tensor;
    json_t *shard;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, shard)
    {
        const char *name = json_string_value(shard);
        if (!name || !is_plain_name(name))
            return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %.120s: its shard must be a file name in the folder", index,
                           tensor);
        size_t before = w->file_count, number;
        ft_code rc = file_number(w, folder, name, &number, st);
        if (!rc && number == before)
            rc = add_file(w, number, st);
        if (rc)
            return rc;
    }
    return FT_OK;
}

/* Keeps of the sorted tensors those where the map says they are (or that it does
 * not name), and finds what the map names in vain. */
static ft_code match_index(ft_weights *w, const char *folder, const char *index, const json_t *map, ft_status *st)
{
    if (w->count)
        qsort(w->tensors, w->count, sizeof(*w->tensors), by_name_and_file);
    const char *tensor;
    json_t *shard;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, shard)
    {
        size_t number;
        ft_code rc = file_number(w, folder, json_string_value(shard), &number, st);
        if (rc)
            return rc;
        const ft_tensor key = {.name = tensor, .file = number};
        ft_tensor *t = w->count ? bsearch(&key, w->tensors, w->count, sizeof(key), by_name_and_file) : NULL;
        if (!t)
            return ft_fail(st, FT_ERR_NOT_FOUND, "%s: tensor %.120s is not in %s", index, tensor,
                           w->files[number].path);
        t->used = 1;
    }
    size_t kept = 0;
    for (size_t i = 0; i < w->count; i++) {
        const int twin = (i > 0 && !strcmp(w->tensors[i].name, w->tensors[i - 1].name)) ||
                         (i + 1 < w->count && !strcmp(w->tensors[i].name, w->tensors[i + 1].name));
        w->tensors[kept] = w->tensors[i];
        kept += w->tensors[i].used || !twin;
    }
    w->count = kept;
    for (size_t i = 0; i < kept; i++)
        w->tensors[i].used = 0;
    for (size_t i = 1; i < kept; i++)
        if (!strcmp(w->tensors[i].name, w->tensors[i - 1].name))
            return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %.120s is in two shards and not in the index", index,
                           w->tensors[i].name);
    return FT_OK;
}

static ft_code open_sharded(ft_weights *w, const char *folder, const char *path, ft_status *st)
{
    json_t *index = NULL;
    ft_code rc = ft_json_read_file(&index, path, MAX_INDEX, st);
    const json_t *map = json_object_get(index, "weight_map");
    if (!rc && !json_is_object(map))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: 'weight_map' is missing", path);
    if (!rc)
        rc = add_shards(w, folder, path, map, st);
    if (!rc)
        rc = match_index(w, folder, path, map, st);
    json_decref(index);
    return rc;
}

static ft_code open_single(ft_weights *w, const char *path, ft_status *st)
{
    ft_code rc = new_file(w, strdup(path), st);
    if (!rc)
        rc = add_file(w, 0, st);
    if (!rc && w->count)
        qsort(w->tensors, w->count, sizeof(*w->tensors), by_name);
    return rc;
}

ft_code ft_weights_open(ft_weights **out, const char *folder, ft_status *st)
{
    *out = NULL;
    ft_weights *w = calloc(1, sizeof(*w));
    char *single = ft_path_join(folder, "model.safetensors");
    char *index = ft_path_join(folder, "model.safetensors.index.json");
    ft_code rc;
    if (!w || !single || !index)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    else if (ft_path_exists(single))
        rc = open_single(w, single, st);
    else if (ft_path_exists(index))
        rc = open_sharded(w, folder, index, st);
    else
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: neither model.safetensors nor model.safetensors.index.json is there",
                     folder);
    if (!rc) {
        *out = w;
        w = NULL;
    }
    free(index);
    free(single);
    ft_weights_close(w);
    return rc;
}

ft_code ft_weights_open_file(ft_weights **out, const char *path, ft_status *st)
{
    *out = NULL;
    ft_weights *w = calloc(1, sizeof(*w));
    ft_code rc = w ? open_single(w, path, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    if (!rc) {
        *out = w;
        w = NULL;
    }
    ft_weights_close(w);
    return rc;
}

void ft_weights_close(ft_weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->file_count; i++) {
        json_decref(w->files[i].header);
        ft_map_close(&w->files[i].map);
        free(w->files[i].path);
    }
    free(w->files);
    free(w->tensors);
    free(w);
}

const ft_tensor *ft_weights_tensors(const ft_weights *w, size_t *count)
{
    *count = w->count;
    return w->tensors;
}

const ft_tensor *ft_weights_find(ft_weights *w, const char *name)
{
    const ft_tensor key = {.name = name};
    ft_tensor *t = w->count ? bsearch(&key, w->tensors, w->count, sizeof(key), by_name) : NULL;
    if (t)
        t->used = 1;
    return t;
}

size_t ft_weights_files(const ft_weights *w)
{
    return w->file_count;
}

const char *ft_weights_file(const ft_weights *w, size_t i, uint64_t *bytes)
{
    if (bytes)
        *bytes = w->files[i].map.bytes;
    return w->files[i].path;
}

const char *ft_weights_metadata(const ft_weights *w, size_t i, const char *key)
{
    return json_string_value(json_object_get(json_object_get(w->files[i].header, "__metadata__"), key));
}

ft_code ft_tensor_record(ft_buffer *out, const char *name, const char *dtype, const size_t *shape, unsigned dims,
                         const ft_digest *data, ft_status *st)
{
    ft_code rc = ft_buffer_append(out, name, strlen(name) + 1, st);
    if (!rc)
        rc = ft_buffer_append(out, dtype, strlen(dtype) + 1, st);
    for (unsigned d = 0; d < dims && !rc; d++)
        rc = ft_buffer_printf(out, st, "%s%zu", d ? "," : "", shape[d]);
    if (!rc)
        rc = ft_buffer_append(out, "", 1, st);
    return rc ? rc : ft_buffer_append(out, data->bytes, sizeof(data->bytes), st);
}

ft_code ft_weights_digest(const ft_weights *w, ft_digest *out, ft_status *st)
{
    ft_buffer records = {0};
    ft_code rc = FT_OK;
    for (size_t i = 0; i < w->count && !rc; i++) {
        const ft_tensor *t = &w->tensors[i];
        const ft_digest data = ft_digest_of(t->data, t->bytes);
        rc = ft_tensor_record(&records, t->name, t->dtype, t->shape, t->dims, &data, st);
    }
    if (!rc)
        *out = ft_digest_of(records.data, records.size);
    ft_buffer_release(&records);
    return rc;
}
