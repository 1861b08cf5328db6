/* smaps_fixture: which pages of a checkpoint are mapped and in memory, by what the system
 * says in /proc/self/smaps. */
#ifndef FT_SMAPS_FIXTURE_H
#define FT_SMAPS_FIXTURE_H
#include "tests/ft_test.h"

#include "model/ft_model.h"

#include <inttypes.h>
#include <sys/mman.h>

typedef struct told {
    uint64_t mapped, resident; /* bytes of the mappings that overlap; of them in memory */
    int random;                /* all of them are read without readahead */
} told;

/* Sums over the mappings that overlap [page, page + bytes), or whose file's path holds `path`. */
static told ask(const void *page, size_t bytes, const char *path)
{
    told t = {.random = 1};
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[5000];
    int inside = 0;
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        uintptr_t begin, end;
        char key[64];
        unsigned long kilobytes;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2) {
            inside = path ? strstr(line, path) != NULL : begin < (uintptr_t)page + bytes && end > (uintptr_t)page;
            t.mapped += inside ? end - begin : 0;
        } else if (inside && sscanf(line, "%63[A-Za-z]: %lu kB", key, &kilobytes) == 2) {
            t.resident += strcmp(key, "Rss") ? 0 : kilobytes * 1024;
        } else if (inside && !strncmp(line, "VmFlags:", 8)) {
            t.random = t.random && strstr(line, " rr") != NULL;
        }
    }
    fclose(f);
    return t;
}

static told ask_expert(const ft_model *m, size_t layer, size_t expert)
{
    told sum = {.random = 1};
    const void *page;
    size_t bytes;
    for (size_t i = 0; (bytes = ft_model_expert_pages(m, layer, expert, i, &page)) > 0; i++) {
        const told t = ask(page, bytes, NULL);
        sum.mapped += bytes;
        sum.resident += t.resident;
        sum.random = sum.random && t.random;
    }
    return sum;
}

/* Gives the expert's whole pages this protection; how many bytes they are. */
static size_t protect(const ft_model *m, size_t expert, int protection)
{
    const void *page;
    size_t bytes, pages = 0;
    for (size_t l = 0; l < ft_model_get_config(m)->layers; l++)
        for (size_t i = 0; (bytes = ft_model_expert_pages(m, l, expert, i, &page)) > 0; i++, pages += bytes)
            assert_int_equal(mprotect((void *)(uintptr_t)page, bytes, protection), 0);
    return pages;
}

#endif
