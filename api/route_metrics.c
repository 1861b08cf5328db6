/* GET /metrics: what was counted, and what is now: load, indexes, store, process. */
#include "api/metrics_internal.h"
#include "api/routes_internal.h"

#include "base/ft_cpu.h"
#include "base/ft_file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct writer {
    ft_buffer out;
    ft_code rc;
} writer;

static void put(writer *w, const char *name, const char *type, const char *help, double value)
{
    if (!w->rc)
        w->rc = ft_metric_head(&w->out, name, type, help, NULL);
    if (!w->rc)
        w->rc = ft_metric_sample(&w->out, name, NULL, value, NULL);
}

static void put_build(writer *w, const ft_server *s)
{
    char fingerprint[16];
    ft_server_fingerprint(s, fingerprint);
    const char *labels[] = {"version",     FT_VERSION,     "kernels", ft_cpu_family_name(ft_cpu_isa()),
                            "fingerprint", fingerprint, NULL};
    w->rc = ft_metric_head(&w->out, "flextrace_build_info", "gauge", "What runs; always 1.", NULL);
    if (!w->rc)
        w->rc = ft_metric_sample(&w->out, "flextrace_build_info", labels, 1, NULL);
}

static void put_load(writer *w, const ft_server *s)
{
    if (!s->scheduler)
        return;
    const ft_scheduler_load load = ft_scheduler_get_load(s->scheduler);
    put(w, "flextrace_requests_running", "gauge", "Generations that take their turns.", (double)load.running);
    put(w, "flextrace_requests_waiting", "gauge", "Generations in the queue.", (double)load.waiting);
    put(w, "flextrace_requests_paused_total", "counter", "Times that a generation gave its memory to an older one.",
        (double)load.pauses);
    const ft_engine_load *e = &load.engine;
    put(w, "flextrace_kv_cache_usage_ratio", "gauge", "Of the key-value memory, by generations and the prefix cache.",
        e->kv_bytes ? (double)e->kv_bytes_used / (double)e->kv_bytes : 0);
    put(w, "flextrace_kv_cache_bytes", "gauge", "The key-value memory.", (double)e->kv_bytes);
    put(w, "flextrace_prefix_cache_queries_total", "counter", "Prompt tokens that were looked for in the prefix cache.",
        (double)e->prefix_asked_tokens);
    put(w, "flextrace_prefix_cache_hits_total", "counter", "Of them, those that it had.",
        (double)e->prefix_found_tokens);
}

/* --- Owners ------------------------------------------------------------------------- */

static const char *owner_of(void *context, size_t expert, char spare[24])
{
    const ft_owner *o = ft_owner_of_expert(context, (int)expert);
    snprintf(spare, 24, "expert %zu", expert);
    return o ? o->name : spare;
}

typedef enum figure { DOCUMENTS, BYTES, TOMBSTONES, FIGURES } figure;

static double figure_of(const ft_owner *o, figure which)
{
    double sum = which == TOMBSTONES ? (double)ft_removed_documents(o) : 0;
    for (size_t i = 0; i < o->index_count && which != TOMBSTONES; i++) {
        const ft_index_info info = ft_index_get_info(o->indexes[i]);
        sum += (double)(which == DOCUMENTS ? info.documents : info.disk_bytes);
    }
    return sum;
}

static void put_owners(writer *w, const ft_trace_scope *scope)
{
    static const struct {
        const char *name, *help;
    } figures[FIGURES] = {{"flextrace_index_documents", "Documents in the owner's indexes."},
                          {"flextrace_index_bytes", "Their files' bytes."},
                          {"flextrace_index_tombstones", "Documents removed and not compacted away yet."}};
    for (int f = 0; f < FIGURES && scope->owner_count; f++) {
        if (!w->rc)
            w->rc = ft_metric_head(&w->out, figures[f].name, "gauge", figures[f].help, NULL);
        for (size_t i = 0; !w->rc && i < scope->owner_count; i++) {
            const char *labels[] = {"owner", scope->owners[i].name, NULL};
            w->rc = ft_metric_sample(&w->out, figures[f].name, labels, figure_of(&scope->owners[i], (figure)f), NULL);
        }
    }
}

/* What was taken down by owner, and what of it still waits to leave the disk. */
static void put_takedowns(writer *w, ft_server *s, const ft_trace_scope *scope)
{
    double open = 0;
    for (size_t i = 0; i < scope->owner_count; i++)
        open += (double)ft_removed_documents(&scope->owners[i]);
    ft_server_count_removed(s);
    if (!w->rc && scope->owner_count)
        w->rc = ft_metrics_write_owners(&s->metrics, scope, &w->out, NULL);
    put(w, "flextrace_takedowns_open", "gauge",
        "Documents taken down that no query shows and that compaction has not erased yet.", open);
}

/* Whether the owner's expert takes part in anything. */
static void put_opt_outs(writer *w, const ft_server *s, const ft_trace_scope *scope)
{
    static const char name[] = "flextrace_expert_opted_out";
    const uint64_t out = ft_server_opted_out(s);
    if (!w->rc)
        w->rc = ft_metric_head(&w->out, name, "gauge", "1: federation.yaml leaves the owner's expert out.", NULL);
    for (size_t i = 0; !w->rc && i < scope->owner_count; i++) {
        const int expert = scope->owners[i].expert;
        const char *labels[] = {"owner", scope->owners[i].name, NULL};
        if (expert >= 0)
            w->rc = ft_metric_sample(&w->out, name, labels, (double)(out >> expert & 1), NULL);
    }
}

/* --- The process ------------------------------------------------------------------------ */

static double count_entries(const char *folder)
{
    DIR *d = opendir(folder);
    double n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n > 3 ? n - 3 : 0; /* ".", "..", and this one */
}

static void put_process(writer *w)
{
    struct rusage used = {0};
    struct rlimit files = {0};
    FILE *f = fopen("/proc/self/stat", "r");
    char line[1024] = "";
    unsigned long long ticks = 0;
    long pages = 0;
    unsigned long size = 0;
    if (f) {
        const size_t n = fread(line, 1, sizeof(line) - 1, f);
        line[n] = '\0';
        fclose(f);
    }
    const char *rest = strrchr(line, ')'); /* the name may hold anything */
    const int known =
        rest && sscanf(rest + 1,
                       " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu "
                       "%lu %ld",
                       &ticks, &size, &pages) == 3;
    struct timespec now, up;
    if (getrusage(RUSAGE_SELF, &used) == 0)
        put(w, "process_cpu_seconds_total", "counter", "Processor time, user and system.",
            (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6);
    if (known) {
        put(w, "process_resident_memory_bytes", "gauge", "Memory in use, mapped files included.",
            (double)pages * (double)sysconf(_SC_PAGESIZE));
        put(w, "process_virtual_memory_bytes", "gauge", "Addresses in use.", (double)size);
    }
    if (known && clock_gettime(CLOCK_REALTIME, &now) == 0 && clock_gettime(CLOCK_BOOTTIME, &up) == 0)
        put(w, "process_start_time_seconds", "gauge", "When it began, since 1970.",
            (double)(now.tv_sec - up.tv_sec) + (double)ticks / (double)sysconf(_SC_CLK_TCK));
    put(w, "process_open_fds", "gauge", "Open files.", count_entries("/proc/self/fd"));
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY)
        put(w, "process_max_fds", "gauge", "Files that may be open.", (double)files.rlim_cur);
}

static double store_bytes(const ft_server *s)
{
    struct stat file = {0};
    char *path =
        ft_federation_store(s->federation) ? ft_path_join(ft_federation_store(s->federation), "data.mdb") : NULL;
    const int there = path && stat(path, &file) == 0;
    free(path);
    return there ? (double)file.st_blocks * 512 : 0;
}

void ft_route_metrics(ft_request *q)
{
    ft_server *s = q->server;
    writer w = {0};
    ft_buffer_init(&w.out, 16 << 20);
    put_build(&w, s);
    put_load(&w, s);
    const ft_trace_scope *scope = ft_request_scope(q);
    const size_t experts = s->model ? ft_model_get_config(s->model)->experts : 0;
    if (!w.rc)
        w.rc = ft_metrics_write(&s->metrics, experts, owner_of, (void *)(uintptr_t)scope, &w.out, NULL);
    if (experts)
        put_opt_outs(&w, s, scope);
    put_owners(&w, scope);
    put_takedowns(&w, s, scope);
    if (s->store)
        put(&w, "flextrace_store_bytes", "gauge", "On disk, of the store of traces.", store_bytes(s));
    put_process(&w);
    if (w.rc)
        ft_refuse(q, 503, "overloaded", NULL, "out of memory");
    else
        ft_answer_bytes(q, 200, "text/plain; version=0.0.4; charset=utf-8", w.out.data, w.out.size);
    ft_buffer_release(&w.out);
}
