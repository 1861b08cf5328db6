/* A checkpoint folder of any bytes is opened or refused, and what opens can be read and
 * described, never a crash. The input is config.json, a NUL byte, model.safetensors. */
#include "model/ft_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void put(const char *folder, const char *name, const uint8_t *bytes, size_t n)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || (n && fwrite(bytes, 1, n, f) != n) || fclose(f) != 0)
        abort();
}

static void drop(const char *folder, const char *name)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    (void)remove(path);
}

/* Two tokens, where the shape is one that a fuzzer can afford. */
static void read_two(const ft_model *m)
{
    const ft_model_config *c = ft_model_get_config(m);
    const uint32_t ids[] = {0, (uint32_t)(c->vocab - 1)};
    if (c->vocab > 100000 || c->hidden > 4096 || c->layers > 8 || c->max_position < 2)
        return;
    ft_session *s;
    float *logits = calloc(c->vocab, sizeof(*logits));
    if (logits &&
        ft_session_open(&s, m, NULL, &(ft_session_options){.max_tokens = 2, .capture_routing = 1}, NULL) == FT_OK) {
        if (ft_session_read(s, ids, 2, &(ft_outputs){.last_logits = logits}, NULL, NULL) != FT_OK)
            (void)ft_session_length(s);
        const ft_routing r = ft_session_routing(s);
        for (size_t i = 0; r.expert_ids && i < r.tokens * r.layers * r.top_k; i++)
            if (r.expert_ids[i] >= c->experts)
                abort();
        ft_session_close(s);
    }
    free(logits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char folder[] = "/tmp/flextrace-fuzz-XXXXXX";
    const uint8_t *end = n ? memchr(data, 0, n) : NULL;
    const size_t config = end ? (size_t)(end - data) : n;
    if (!mkdtemp(folder))
        abort();
    put(folder, "config.json", data, config);
    put(folder, "model.safetensors", data + config + (end != NULL), n - config - (end != NULL));
    ft_model *m;
    ft_status st = {0};
    if (ft_model_open(&m, folder, &st) == FT_OK) {
        (void)ft_model_get_sizes(m);
        read_two(m);
        ft_model_close(m);
    } else if (m || !st.msg[0]) {
        abort(); /* a refusal has words, and leaves nothing */
    }
    drop(folder, "config.json");
    drop(folder, "model.safetensors");
    rmdir(folder);
    return 0;
}
