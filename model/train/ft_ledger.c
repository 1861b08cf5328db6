#include "model/train/ft_ledger.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

typedef struct entry {
    char run[FT_LEDGER_RUN];
    ft_privacy_mechanism m;
} entry;

struct ft_ledger {
    char *path, *example;
    int file; /* descriptor + 1; 0: none */
    uint64_t bytes;
    entry *entries; /* one a run */
    size_t count, capacity;
    ft_privacy_mechanism *others;
};

static ft_code keep(ft_ledger *l, const char *run, const ft_privacy_mechanism *m, ft_status *st)
{
    for (size_t i = 0; i < l->count; i++)
        if (!strcmp(l->entries[i].run, run)) {
            l->entries[i].m.steps = m->steps > l->entries[i].m.steps ? m->steps : l->entries[i].m.steps;
            return FT_OK;
        }
    const ft_code rc = ft_array_grow((void **)&l->entries, &l->capacity, l->count + 1, sizeof(*l->entries), st);
    if (rc)
        return rc;
    entry *e = &l->entries[l->count++];
    snprintf(e->run, sizeof(e->run), "%s", run);
    e->m = *m;
    return FT_OK;
}

static ft_code read_line(ft_ledger *l, const char *line, size_t n, size_t number, ft_status *st)
{
    json_t *o = NULL;
    const char *format = NULL, *run = NULL, *example = NULL;
    ft_privacy_mechanism m = {.sampling_rate = -1, .noise_multiplier = -1};
    int64_t steps = -1;
    ft_code rc = ft_json_parse(&o, line, n, l->path, st);
    if (!rc)
        rc = ft_json_get_string(o, "format", &format, st);
    if (!rc)
        rc = ft_json_get_string(o, "run", &run, st);
    if (!rc)
        rc = ft_json_get_string(o, "example", &example, st);
    if (!rc)
        rc = ft_json_get_number(o, "sampling_rate", 0, 1, &m.sampling_rate, st);
    if (!rc)
        rc = ft_json_get_number(o, "noise_multiplier", 0, 1e300, &m.noise_multiplier, st);
    if (!rc)
        rc = ft_json_get_int(o, "steps", 0, INT64_MAX, &steps, st);
    const int right = !rc && format && !strcmp(format, "flextrace-ledger-1") && run && strlen(run) < FT_LEDGER_RUN &&
                      example && m.sampling_rate >= 0 && m.noise_multiplier >= 0 && steps >= 0;
    if (!right && rc != FT_ERR_MEM)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: line %zu is none of a privacy ledger: what was spent cannot be known",
                     l->path, number);
    else if (right && strcmp(example, l->example) != 0)
        rc = ft_fail(st, FT_ERR_FORMAT,
                     "%s: earlier runs' example is \"%s\", this one's \"%s\": their budgets do not add; use the same "
                     "--example and --length",
                     l->path, example, l->example);
    m.steps = (uint64_t)steps;
    if (!rc)
        rc = keep(l, run, &m, st);
    json_decref(o);
    return rc;
}

static ft_code read_all(ft_ledger *l, ft_status *st)
{
    ft_buffer text = {0};
    size_t begin = 0, number = 0;
    ft_code rc = ft_file_read(l->path, 1 << 28, &text, st);
    for (size_t i = 0; i < text.size && !rc; i++)
        if (text.data[i] == '\n') {
            rc = read_line(l, text.data + begin, i - begin, ++number, st);
            begin = i + 1;
        }
    l->bytes = begin; /* what a crash left of a line that was never acted upon */
    if (!rc && begin < text.size && ftruncate(l->file - 1, (off_t)begin))
        rc = ft_fail(st, FT_ERR_IO, "%s: %s", l->path, strerror(errno));
    ft_buffer_release(&text);
    return rc;
}

ft_code ft_ledger_open(ft_ledger **out, const char *path, const char *example, ft_status *st)
{
    *out = NULL;
    ft_ledger *l = calloc(1, sizeof(*l));
    if (!l)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    l->path = strdup(path);
    l->example = strdup(example);
    ft_code rc = l->path && l->example ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    const int f = rc ? -1 : open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    l->file = f + 1;
    if (!rc && f < 0)
        rc = ft_fail(st, FT_ERR_IO, "%s: %s; name a ledger that can be written with --ledger", path, strerror(errno));
    if (!rc && flock(f, LOCK_EX | LOCK_NB))
        rc = ft_fail(st, FT_ERR_LIMIT, "%s: another run is spending from this ledger", path);
    if (!rc)
        rc = read_all(l, st);
    if (rc)
        ft_ledger_close(l);
    else
        *out = l;
    return rc;
}

void ft_ledger_close(ft_ledger *l)
{
    if (!l)
        return;
    if (l->file)
        close(l->file - 1);
    free(l->path);
    free(l->example);
    free(l->entries);
    free(l->others);
    free(l);
}

const ft_privacy_mechanism *ft_ledger_others(ft_ledger *l, const char *run, size_t *count)
{
    free(l->others);
    l->others = ft_alloc_array(l->count, sizeof(*l->others));
    *count = 0;
    for (size_t i = 0; i < l->count && l->others; i++)
        if (strcmp(l->entries[i].run, run) != 0)
            l->others[(*count)++] = l->entries[i].m;
    return l->others;
}

uint64_t ft_ledger_steps(const ft_ledger *l, const char *run)
{
    for (size_t i = 0; i < l->count; i++)
        if (!strcmp(l->entries[i].run, run))
            return l->entries[i].m.steps;
    return 0;
}

static ft_code append(ft_ledger *l, const char *line, size_t n, ft_status *st)
{
    size_t done = 0;
    int bad = 0;
    while (done < n && !bad) {
        const ssize_t k = write(l->file - 1, line + done, n - done);
        if (k < 0 && errno == EINTR)
            continue;
        bad = k <= 0;
        done += bad ? 0 : (size_t)k;
    }
    bad = bad || fsync(l->file - 1);
    if (!bad) {
        l->bytes += n;
        return FT_OK;
    }
    const int why = errno;
    if (ftruncate(l->file - 1, (off_t)l->bytes)) /* a line cut off is taken away at the next opening as well */
        return ft_fail(st, FT_ERR_IO, "%s: %s", l->path, strerror(why));
    return ft_fail(st, FT_ERR_IO, "%s: %s: nothing was spent", l->path, strerror(why));
}

ft_code ft_ledger_set_aside(ft_ledger *l, const char *run, const char *data, const ft_privacy_mechanism *m,
                            ft_status *st)
{
    ft_buffer line = {0};
    if (ft_ledger_steps(l, run) >= m->steps)
        return FT_OK;
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:I}", "format", "flextrace-ledger-1", "run", run, "data",
                          data, "example", l->example, "sampling_rate", m->sampling_rate, "noise_multiplier",
                          m->noise_multiplier, "steps", (json_int_t)m->steps);
    ft_code rc = o ? ft_json_write(o, &line, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", l->path);
    if (!rc)
        rc = ft_buffer_append(&line, "\n", 1, st);
    if (!rc)
        rc = append(l, line.data, line.size, st);
    if (!rc)
        rc = keep(l, run, m, st);
    json_decref(o);
    ft_buffer_release(&line);
    return rc;
}
