/* The usual shares of a federation: measured once, kept beside the store. */
#include "base/ft_file.h"
#include "tracer/federation_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEPT_BYTES = 64 << 10 };

const ft_usual *ft_federation_usual(const ft_federation *f)
{
    return f->usual.tokens ? &f->usual : NULL;
}

const char *ft_federation_validation(const ft_federation *f)
{
    return f->validation;
}

/* "STORE.usual.json": the store's folder is the database's own. */
static char *kept_path(const ft_federation *f)
{
    const size_t n = strlen(f->store) + sizeof(".usual.json");
    char *path = malloc(n);
    if (path)
        snprintf(path, n, "%s.usual.json", f->store);
    return path;
}

/* What cannot be read, or is of something else, is measured again. */
static int read_kept(const ft_federation *f, const char *path, const char *fingerprint, ft_usual *out)
{
    json_t *value = NULL;
    const int known = ft_json_read_file(&value, path, MAX_KEPT_BYTES, NULL) == FT_OK &&
                      ft_usual_parse(value, out, NULL) == FT_OK && !strcmp(out->fingerprint, fingerprint) &&
                      out->experts == ft_model_get_config(f->model)->experts;
    json_decref(value);
    return known;
}

static ft_code write_kept(const char *path, const ft_usual *u, ft_status *st)
{
    ft_buffer text = {0};
    json_t *value = ft_usual_json(u);
    ft_code rc = value ? ft_json_write(value, &text, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    if (!rc)
        rc = ft_buffer_append_str(&text, "\n", st);
    if (!rc)
        rc = ft_file_write(path, text.data, text.size, st);
    json_decref(value);
    ft_buffer_release(&text);
    return rc;
}

static ft_code measure(ft_federation *f, ft_engine *e, ft_usual *out, ft_status *st)
{
    ft_usual_run *run = NULL;
    int done = 0;
    ft_code rc = ft_usual_run_new(&run, e, f->tokenizer, f->validation, f->validation_tokens, f->opted_out, st);
    while (!rc && !done)
        rc = ft_usual_run_step(run, &done, st);
    if (!rc)
        rc = ft_usual_run_end(run, out, st);
    ft_usual_run_free(run);
    if (rc)
        ft_status_prefix(st, "%s: validation", f->path);
    return rc;
}

ft_code ft_federation_measure(ft_federation *f, ft_engine *e, int *measured, ft_status *st)
{
    ft_usual usual = {0};
    char fingerprint[FT_DIGEST_HEX];
    *measured = 0;
    if (!f->validation || f->usual.tokens || !ft_model_get_config(f->model)->experts)
        return FT_OK;
    ft_code rc = ft_usual_fingerprint(f->model, f->tokenizer, f->validation, f->validation_tokens, f->opted_out,
                                      fingerprint, st);
    char *path = !rc && f->store ? kept_path(f) : NULL;
    if (!rc && f->store && !path)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", f->path);
    if (!rc && !(path && read_kept(f, path, fingerprint, &usual))) {
        rc = measure(f, e, &usual, st);
        snprintf(usual.fingerprint, sizeof(usual.fingerprint), "%s", fingerprint);
        *measured = !rc;
        if (!rc && path)
            rc = write_kept(path, &usual, st);
    }
    if (!rc)
        f->usual = usual;
    free(path);
    return rc;
}
