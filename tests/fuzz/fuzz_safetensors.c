/* Weights of any bytes are opened or refused; of what is opened every tensor lies inside
 * its file. The first byte says what the rest is:
 *   0  a .safetensors file
 *   1  a header; its length and 8192 bytes of data are put to it
 *   2  model.safetensors.index.json beside two shards, a.safetensors and b.safetensors
 *   3  a header of a model of one layer, whose config asks for quantized matrices too */
#include "base/ft_file.h"
#include "model/ft_convert.h"
#include "model/ft_model.h"
#include "model/ft_safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { DATA = 8192 };
static char folder[64];

static void remove_folder(void)
{
    if (ft_folder_remove(folder, NULL) != FT_OK)
        abort();
}

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const void *first, size_t n, const void *header, size_t header_bytes, size_t zeros)
{
    static const char nothing[DATA];
    FILE *f = fopen(in_folder(name), "wb");
    if (!f || (n && fwrite(first, 1, n, f) != n) ||
        (header_bytes && fwrite(header, 1, header_bytes, f) != header_bytes) ||
        (zeros && fwrite(nothing, 1, zeros, f) != zeros) || fclose(f) != 0)
        abort();
}

static void put_header(const char *name, const void *header, size_t n)
{
    const uint64_t said = n;
    put(name, &said, 8, header, n, DATA);
}

static void prepare(void)
{
    static const char a[] = "{\"x\":{\"dtype\":\"U8\",\"shape\":[8192],\"data_offsets\":[0,8192]}}";
    static const char b[] = "{\"y\":{\"dtype\":\"F32\",\"shape\":[2048],\"data_offsets\":[0,8192]}}";
    static const char config[] =
        "{\"model_type\":\"olmo2\",\"num_hidden_layers\":1,\"hidden_size\":32,\"intermediate_size\":32,"
        "\"num_attention_heads\":2,\"head_dim\":16,\"vocab_size\":4,\"tie_word_embeddings\":true}";
    if (folder[0])
        return;
    snprintf(folder, sizeof(folder), "/tmp/flextrace-fuzz-XXXXXX");
    if (!mkdtemp(folder))
        abort();
    atexit(remove_folder);
    put_header("a.safetensors", a, sizeof(a) - 1);
    put_header("b.safetensors", b, sizeof(b) - 1);
    put("config.json", config, sizeof(config) - 1, NULL, 0, 0);
}

/* Reads the ends of each tensor: what lies outside the file faults. */
static void use(ft_weights *w)
{
    size_t count, sum = 0;
    const ft_tensor *t = ft_weights_tensors(w, &count);
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes;
        ft_weights_file(w, t[i].file, &bytes);
        if (t[i].offset > bytes || t[i].bytes > bytes - t[i].offset || (i && strcmp(t[i].name, t[i - 1].name) <= 0))
            abort();
        if (t[i].bytes)
            sum += ((const unsigned char *)t[i].data)[0] + ((const unsigned char *)t[i].data)[t[i].bytes - 1];
        if (ft_weights_find(w, t[i].name) != &t[i])
            abort();
        (void)ft_weights_metadata(w, t[i].file, "format");
    }
    ft_digest digest;
    if (ft_weights_digest(w, &digest, NULL) != FT_OK || sum > count * 510)
        abort();
    ft_weights_close(w);
}

static void open_and_use(void)
{
    ft_weights *w;
    ft_model *m;
    ft_verify_result r;
    if (ft_weights_open(&w, folder, NULL) == FT_OK)
        use(w);
    if (ft_model_open(&m, folder, NULL) == FT_OK) {
        const void *at;
        (void)ft_model_expert_pages(m, 0, 0, 0, &at);
        ft_model_close(m);
    }
    (void)ft_status_code(ft_verify(folder, NULL, &r, NULL), 0);
    ft_convert_result c;
    const ft_convert_options o = {.to = FT_CONVERT_INT4, .threads = 1};
    char out[128];
    snprintf(out, sizeof(out), "%s/out", folder);
    (void)ft_status_code(ft_convert(folder, out, &o, &c, NULL), 0);
    (void)ft_status_code(ft_folder_remove(out, NULL), 0);
    snprintf(out, sizeof(out), "%s/out.partial", folder);
    (void)ft_status_code(ft_folder_remove(out, NULL), 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    prepare();
    if (n == 0)
        return 0;
    const int kind = data[0] & 3;
    remove(in_folder("model.safetensors"));
    remove(in_folder("model.safetensors.index.json"));
    if (kind == 0)
        put("model.safetensors", data + 1, n - 1, NULL, 0, 0);
    else if (kind == 2)
        put("model.safetensors.index.json", data + 1, n - 1, NULL, 0, 0);
    else
        put_header("model.safetensors", data + 1, n - 1);
    open_and_use();
    return 0;
}
