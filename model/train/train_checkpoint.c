#include "model/train/train_checkpoint.h"

#include "base/ft_file.h"
#include "base/ft_json.h"

#include <dirent.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

void ft_train_checkpoint_tidy(const char *folder)
{
    static const char *const left[] = {"checkpoint.tmp.", "metrics.jsonl.tmp.", "curve.svg.tmp."};
    DIR *d = opendir(folder);
    const struct dirent *entry;
    while (d && (entry = readdir(d)))
        for (size_t i = 0; i < sizeof(left) / sizeof(*left); i++)
            if (!strncmp(entry->d_name, left[i], strlen(left[i])))
                (void)unlinkat(dirfd(d), entry->d_name, 0);
    if (d)
        closedir(d);
}

static const char magic[8] = {'F', 'T', 'T', 'R', 'A', 'I', 'N', '1'};
enum { MAX_HEADER = 1 << 20 };

typedef struct sink {
    ft_file_writer w;
    crypto_hash_sha256_state hash;
} sink;

static ft_code put(sink *s, const void *bytes, size_t n, ft_status *st)
{
    crypto_hash_sha256_update(&s->hash, bytes, n);
    return ft_file_writer_put(&s->w, bytes, n, st);
}

static ft_code put_tensors(sink *s, ft_trainer *t, ft_status *st)
{
    const ft_parameters *p = ft_trainer_parameters(t);
    ft_code rc = FT_OK;
    for (size_t i = 0; i < p->count && !rc; i++) {
        const size_t bytes = p->all[i].count * sizeof(float);
        if (!p->all[i].grad)
            continue;
        rc = put(s, p->all[i].value, bytes, st);
        for (int second = 0; second < 2 && !rc; second++)
            rc = put(s, ft_trainer_moment(t, i, second), bytes, st);
    }
    return rc;
}

ft_code ft_train_checkpoint_write(const char *path, ft_trainer *t, const ft_train_state *state, ft_status *st)
{
    sink s = {0};
    ft_buffer text = {0};
    unsigned char digest[crypto_hash_sha256_BYTES];
    json_t *head = json_pack("{s:I, s:I, s:s}", "step", (json_int_t)state->step, "tokens", (json_int_t)state->tokens,
                             "run", state->run);
    ft_code rc = head ? ft_json_write(head, &text, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    json_decref(head);
    const uint64_t size = text.size;
    crypto_hash_sha256_init(&s.hash);
    if (!rc)
        rc = ft_trainer_make_moments(t, st);
    if (!rc)
        rc = ft_file_writer_open(&s.w, path, st);
    if (!rc)
        rc = put(&s, magic, sizeof(magic), st);
    if (!rc)
        rc = put(&s, &size, sizeof(size), st);
    if (!rc)
        rc = put(&s, text.data, text.size, st);
    if (!rc)
        rc = put(&s, state->key, sizeof(state->key), st);
    if (!rc)
        rc = put_tensors(&s, t, st);
    crypto_hash_sha256_final(&s.hash, digest);
    if (!rc)
        rc = ft_file_writer_put(&s.w, digest, sizeof(digest), st);
    if (!rc)
        rc = ft_file_writer_commit(&s.w, st);
    ft_file_writer_abandon(&s.w);
    ft_buffer_release(&text);
    return rc;
}

/* The header's fields; the run must be the same. */
static ft_code read_header(const char *text, size_t n, const char *path, ft_train_state *s, ft_status *st)
{
    json_t *head = NULL;
    int64_t step = -1, tokens = -1;
    const char *run = NULL;
    ft_code rc = ft_json_parse(&head, text, n, path, st);
    if (!rc)
        rc = ft_json_get_int(head, "step", 0, INT64_MAX, &step, st);
    if (!rc)
        rc = ft_json_get_int(head, "tokens", 0, INT64_MAX, &tokens, st);
    if (!rc)
        rc = ft_json_get_string(head, "run", &run, st);
    if (!rc && (step < 0 || tokens < 0 || !run))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: no checkpoint of training", path);
    if (!rc && strcmp(run, s->run) != 0) {
        size_t at = 0;
        while (run[at] == s->run[at])
            at++;
        while (at && run[at - 1] != ',' && run[at - 1] != '{')
            at--;
        rc = ft_fail(st, FT_ERR_FORMAT,
                     "%s: of another run: it has %.60s where this one has %.60s; use the same options "
                     "and data, or another folder",
                     path, run + at, s->run + at);
    }
    if (!rc) {
        s->step = (uint64_t)step;
        s->tokens = (uint64_t)tokens;
    }
    json_decref(head);
    return rc;
}

static size_t tensor_bytes(ft_trainer *t)
{
    const ft_parameters *p = ft_trainer_parameters(t);
    size_t n = 0;
    for (size_t i = 0; i < p->count; i++)
        n += p->all[i].grad ? 3 * p->all[i].count * sizeof(float) : 0;
    return n;
}

ft_code ft_train_checkpoint_read(const char *path, ft_trainer *t, ft_train_state *s, ft_status *st)
{
    ft_map m = {0};
    const size_t fixed = sizeof(magic) + sizeof(uint64_t);
    uint64_t size = 0;
    if (!ft_path_exists(path))
        return FT_ERR_NOT_FOUND;
    ft_code rc = ft_map_open(&m, path, st);
    if (!rc)
        rc = ft_trainer_make_moments(t, st);
    if (rc)
        goto done;
    if (m.bytes >= fixed)
        memcpy(&size, m.data + sizeof(magic), sizeof(size));
    if (m.bytes < fixed + FT_NOISE_KEY_BYTES + FT_DIGEST_BYTES || memcmp(m.data, magic, sizeof(magic)) != 0 ||
        size > MAX_HEADER || size > m.bytes - fixed - FT_NOISE_KEY_BYTES - FT_DIGEST_BYTES) {
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: no checkpoint of training", path);
        goto done;
    }
    const ft_digest d = ft_digest_of(m.data, m.bytes - FT_DIGEST_BYTES);
    if (memcmp(d.bytes, m.data + m.bytes - FT_DIGEST_BYTES, FT_DIGEST_BYTES) != 0) {
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: damaged: its bytes do not have the SHA-256 at its end", path);
        goto done;
    }
    rc = read_header((const char *)m.data + fixed, size, path, s, st);
    if (!rc && m.bytes != fixed + size + FT_NOISE_KEY_BYTES + tensor_bytes(t) + FT_DIGEST_BYTES)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: of a model with other tensors", path);
    if (rc)
        goto done;
    const unsigned char *at = m.data + fixed + size;
    memcpy(s->key, at, FT_NOISE_KEY_BYTES);
    at += FT_NOISE_KEY_BYTES;
    const ft_parameters *p = ft_trainer_parameters(t);
    for (size_t i = 0; i < p->count; i++) {
        const size_t bytes = p->all[i].count * sizeof(float);
        if (!p->all[i].grad)
            continue;
        memcpy(p->all[i].value, at, bytes);
        memcpy(ft_trainer_moment(t, i, 0), at + bytes, bytes);
        memcpy(ft_trainer_moment(t, i, 1), at + 2 * bytes, bytes);
        at += 3 * bytes;
    }
done:
    ft_map_close(&m);
    return rc;
}
