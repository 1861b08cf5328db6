/* What a converted folder holds beside its weights. */
#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "model/convert_internal.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LARGEST = 64 << 20, LARGEST_CONFIG = 1 << 20 };

static ft_code write_json(const char *folder, const char *name, json_t *value, ft_status *st)
{
    char *path = ft_path_join(folder, name);
    char *text = value ? json_dumps(value, JSON_INDENT(2)) : NULL;
    ft_code rc = path && text ? ft_file_write(path, text, strlen(text), st)
                              : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    free(text);
    free(path);
    json_decref(value);
    return rc;
}

/* Says in a config what its weights are now. */
static int update_config(json_t *c, const ft_convert_plan *p, const ft_convert_options *o)
{
    int bad = 0;
    if (p->has_head)
        bad |= json_object_set_new(c, "tie_word_embeddings", json_false());
    if (o->to == FT_CONVERT_INT8 || o->to == FT_CONVERT_INT4)
        return bad | json_object_set_new(c, "flextrace_quantization",
                                         json_pack("{s:i, s:s, s:i}", "version", 1, "format", ft_convert_name(o->to),
                                                   "group", FT_GROUP));
    (void)json_object_del(c, "flextrace_quantization");
    static const char *const keys[] = {"torch_dtype", "dtype"};
    for (int i = 0; i < 2; i++)
        if (json_object_get(c, keys[i]))
            bad |= json_object_set_new(c, keys[i], json_string(ft_convert_name(o->to)));
    return bad;
}

static ft_code write_config(const char *source, const char *folder, const ft_convert_plan *p,
                            const ft_convert_options *o, ft_status *st)
{
    char *path = ft_path_join(source, "config.json");
    json_t *c = NULL;
    ft_code rc =
        path ? ft_json_read_file(&c, path, LARGEST_CONFIG, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", source);
    free(path);
    if (!rc && update_config(c, p, o))
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", source);
    if (!rc)
        return write_json(folder, "config.json", c, st);
    json_decref(c);
    return rc;
}

static ft_code write_index(const char *folder, const ft_convert_plan *p, const ft_convert_result *r, ft_status *st)
{
    char source[FT_DIGEST_HEX], result[FT_DIGEST_HEX];
    ft_digest_hex(&r->source, source);
    ft_digest_hex(&r->result, result);
    json_t *map = json_object(), *index = json_object();
    int bad = !map || !index;
    for (size_t i = 0; i < p->shard_count; i++)
        for (size_t k = 0; k < p->shards[i].specs; k++)
            bad |= json_object_set_new(map, p->specs[p->shards[i].first_spec + k].name, json_string(p->shards[i].name));
    bad |= json_object_set_new(index, "metadata",
                               json_pack("{s:I, s:s, s:s}", "total_size", (json_int_t)r->bytes, "flextrace_digest",
                                         result, "flextrace_source_digest", source));
    bad |= json_object_set_new(index, "weight_map", map);
    if (!bad)
        return write_json(folder, "model.safetensors.index.json", index, st);
    json_decref(index);
    return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
}

/* What belongs to a checkpoint and says nothing of its weights. */
static int is_carried(const char *name)
{
    static const char *const beginnings[] = {
        "tokenizer",         "special_tokens_map", "added_tokens", "vocab.",  "merges.",
        "generation_config", "chat_template",      "owners.json",  "LICENSE", "NOTICE"};
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
        if (!strncmp(name, beginnings[i], strlen(beginnings[i])))
            return 1;
    return 0;
}

static ft_code carry(const char *source, const char *folder, const char *name, ft_status *st)
{
    char *from = ft_path_join(source, name), *to = ft_path_join(folder, name);
    ft_buffer b = {0};
    struct stat info;
    ft_code rc = FT_OK;
    if (!from || !to)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", source);
    else if (stat(from, &info) == 0 && S_ISREG(info.st_mode) && !(rc = ft_file_read(from, LARGEST, &b, st)))
        rc = ft_file_write(to, b.data, b.size, st);
    ft_buffer_release(&b);
    free(from);
    free(to);
    return rc;
}

ft_code ft_convert_write_rest(const char *source, const char *folder, const ft_convert_plan *p,
                              const ft_convert_options *o, const ft_convert_result *r, ft_status *st)
{
    ft_code rc = write_index(folder, p, r, st);
    if (!rc)
        rc = write_config(source, folder, p, o, st);
    struct dirent **names = NULL;
    const int n = rc ? 0 : scandir(source, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (!rc && is_carried(names[i]->d_name))
            rc = carry(source, folder, names[i]->d_name, st);
        free(names[i]);
    }
    free((void *)names);
    return n < 0 ? ft_fail(st, FT_ERR_IO, "%s: cannot list the folder", source) : rc;
}
