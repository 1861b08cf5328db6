/* A config.json of any bytes is read or refused; what is read has sizes that everything
 * else may multiply, and is what a checkpoint is asked for. The first byte says which of
 * config.json (even) and generation_config.json (odd) the rest is. */
#include "base/ft_file.h"
#include "model/ft_model.h"
#include "model/ft_model_needs.h"
#include "model/ft_rope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char folder[64];

static void remove_folder(void)
{
    if (ft_folder_remove(folder, NULL) != FT_OK)
        abort();
}

static void put(const char *name, const void *bytes, size_t n)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || (n && fwrite(bytes, 1, n, f) != n) || fclose(f) != 0)
        abort();
}

static void check(const ft_model_config *c)
{
    if (!c->hidden || !c->layers || !c->heads || !c->vocab || c->heads % c->kv_heads || c->head_dim % 2 ||
        c->experts > FT_MAX_EXPERTS || c->top_k > c->experts || c->end_of_text_count > 8)
        abort();
    const ft_model_needs needs = ft_model_needs_of(c);
    for (int p = 0; p < FT_PRECISIONS; p++)
        if (needs.active_bytes[p] == 0 || needs.weight_bytes[p] < needs.parameters / 2)
            abort();
    static float frequencies[1 << 13];
    float scaling;
    ft_rope_frequencies(&c->rope, c->head_dim, c->max_position, frequencies, &scaling);
    ft_model *m;
    ft_status st = {0};
    if (ft_model_inspect(&m, folder, &st) == FT_OK) /* there are no weights */
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char plain[] = "{\"model_type\":\"flex_olmo\",\"num_hidden_layers\":2}";
    if (!folder[0]) {
        snprintf(folder, sizeof(folder), "/tmp/flextrace-fuzz-XXXXXX");
        if (!mkdtemp(folder))
            abort();
        atexit(remove_folder);
    }
    if (n == 0)
        return 0;
    const int generation = data[0] & 1;
    put("config.json", generation ? plain : (const char *)data + 1, generation ? sizeof(plain) - 1 : n - 1);
    put("generation_config.json", generation ? (const char *)data + 1 : "{}", generation ? n - 1 : 2);
    ft_model_config c;
    ft_status st = {0};
    const ft_code rc = ft_model_config_read(&c, folder, &st);
    if (rc == FT_OK)
        check(&c);
    else if (!strstr(st.msg, "config.json"))
        abort();
    return 0;
}
