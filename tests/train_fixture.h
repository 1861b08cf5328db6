/* train_fixture: the training goldens (tests/vectors/train) as a model folder, and their
 * tensors whatever their precision. */
#ifndef FT_TRAIN_FIXTURE_H
#define FT_TRAIN_FIXTURE_H
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_npy.h"

#include <math.h>

static const char *vector_path(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "tests/vectors/train/%s", name);
    return ft_test_source(path);
}

static json_t *golden_json(void)
{
    json_t *g = NULL;
    ft_status st = {0};
    assert_ok(ft_json_read_file(&g, vector_path("golden.json"), 1 << 20, &st), st);
    return g;
}

/* A folder with the goldens' config and starting weights; top_k 0: as they are. */
static const char *golden_model(const char *name, int top_k)
{
    static char folder[512];
    char path[600];
    json_t *g = golden_json(), *config = json_object_get(g, "config");
    json_object_set_new(config, "architectures", json_pack("[s]", "FlexOlmoForCausalLM"));
    if (top_k)
        json_object_set_new(config, "num_experts_per_tok", json_integer(top_k));
    snprintf(folder, sizeof(folder), "%s", ft_test_path(name));
    assert_int_equal(ft_folder_make(folder, NULL), FT_OK);
    char *text = json_dumps(config, 0);
    snprintf(path, sizeof(path), "%s/config.json", folder);
    assert_int_equal(ft_file_write(path, text, strlen(text), NULL), FT_OK);
    free(text);
    json_decref(g);
    size_t n;
    char *weights = ft_test_read(vector_path("init.safetensors"), &n);
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    assert_int_equal(ft_file_write(path, weights, n, NULL), FT_OK);
    free(weights);
    return folder;
}

typedef struct tensors {
    char *bytes;
    const char *data;
    json_t *header;
} tensors;

__attribute__((unused)) static tensors tensors_read(const char *path)
{
    tensors t = {0};
    size_t n;
    uint64_t size;
    ft_status st = {0};
    t.bytes = ft_test_read(path, &n);
    assert_non_null(t.bytes);
    memcpy(&size, t.bytes, 8);
    assert_ok(ft_json_parse(&t.header, t.bytes + 8, size, path, &st), st);
    json_object_del(t.header, "__metadata__");
    t.data = t.bytes + 8 + size;
    return t;
}

__attribute__((unused)) static void tensors_free(tensors *t)
{
    free(t->bytes);
    json_decref(t->header);
}

/* Element i, in float64; *count is the tensor's size. */
__attribute__((unused)) static double tensor_at(const tensors *t, const char *name, size_t i, size_t *count)
{
    const json_t *h = json_object_get(t->header, name), *range = json_object_get(h, "data_offsets");
    assert_non_null(h);
    const size_t at = (size_t)json_integer_value(json_array_get(range, 0));
    const size_t end = (size_t)json_integer_value(json_array_get(range, 1));
    const int wide = !strcmp(json_string_value(json_object_get(h, "dtype")), "F64");
    float narrow;
    double v;
    *count = (end - at) / (wide ? 8 : 4);
    if (wide) {
        memcpy(&v, t->data + at + 8 * i, 8);
        return v;
    }
    memcpy(&narrow, t->data + at + 4 * i, 4);
    return (double)narrow;
}

__attribute__((unused)) static double largest(const tensors *t, const char *name)
{
    size_t n = 1;
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(tensor_at(t, name, i, &n)));
    return most;
}
#endif
