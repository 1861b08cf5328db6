#define _GNU_SOURCE
#include "index/ft_fetch.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    CALM = 3,       /* batches that find all in memory, before they stop looking */
    RUN_PAGES = 64, /* neighbouring pages that one system call asks for */
    ALARM = 4,      /* pages that had to be waited for, before batches look again */
    STEPS = 2,      /* pages that all steps together may ask for, as often as those of one */
    STEP_BITS = 8
};

static uintptr_t page_bytes(void)
{
    return (uintptr_t)sysconf(_SC_PAGESIZE);
}

static long major_faults(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_majflt : 0;
}

/* The count is no part of what an index says: it may change in one that is constant. */
static atomic_uint *calm_of(const ft_residence *residence)
{
    return &((ft_residence *)(uintptr_t)residence)->calm;
}

void *ft_fetch_scratch(size_t bytes)
{
    void *p = bytes ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    return p != MAP_FAILED ? p : NULL;
}

void ft_fetch_scratch_free(void *scratch, size_t bytes)
{
    if (scratch)
        munmap(scratch, bytes);
}

int ft_fetch_begin(ft_fetch *f, const ft_residence *residence, size_t pages)
{
    *f = (ft_fetch){.residence = (ft_residence *)(uintptr_t)residence, .faults = major_faults()};
    if (atomic_load_explicit(calm_of(residence), memory_order_relaxed) < CALM && pages < SIZE_MAX / sizeof(*f->pages)) {
        f->pages = ft_fetch_scratch(pages * sizeof(*f->pages)); /* without memory: prefetches */
        f->capacity = f->pages ? pages : 0;
    }
    if (f->pages) {
        size_t slots = 64;
        while (slots < f->capacity * STEPS * 2)
            slots *= 2;
        f->asked = ft_fetch_scratch(slots * sizeof(*f->asked));
        f->asked_mask = slots - 1;
        if (!f->asked) {
            ft_fetch_scratch_free(f->pages, f->capacity * sizeof(*f->pages));
            f->pages = NULL;
            f->capacity = 0;
        }
    }
    return f->pages != NULL;
}

void ft_fetch_end(ft_fetch *f)
{
    atomic_uint *calm = calm_of(f->residence);
    const int waited = major_faults() - f->faults > ALARM || f->missing > 0;
    if (waited)
        atomic_store_explicit(calm, 0, memory_order_relaxed);
    else if (f->pages)
        atomic_fetch_add_explicit(calm, 1, memory_order_relaxed);
    ft_fetch_scratch_free(f->pages, f->capacity * sizeof(*f->pages));
    ft_fetch_scratch_free(f->asked, (f->asked_mask + 1) * sizeof(*f->asked));
    *f = (ft_fetch){0};
}

/* Asks for a page unless it was asked for; 1: in this step, now or before. */
static int ask_for_page(ft_fetch *f, uintptr_t page)
{
    size_t at = (size_t)(page * UINT64_C(0x9E3779B97F4A7C15) >> 32) & f->asked_mask;
    for (; f->asked[at]; at = (at + 1) & f->asked_mask)
        if (f->asked[at] >> STEP_BITS == page)
            return (f->asked[at] & ((1 << STEP_BITS) - 1)) == f->step;
    if (f->count == f->capacity || f->asked_count == f->asked_mask / 2 || f->step + 1 == 1 << STEP_BITS)
        return 0;
    f->asked[at] = (uint64_t)page << STEP_BITS | f->step;
    f->asked_count++;
    f->pages[f->count++] = page;
    return 1;
}

static int ask_for_pages(ft_fetch *f, const unsigned char *bytes, size_t n)
{
    const uintptr_t page = page_bytes(), from = (uintptr_t)bytes / page, to = ((uintptr_t)bytes + n - 1) / page;
    int lacks = 0;
    for (uintptr_t i = from; i <= to; i++)
        lacks |= ask_for_page(f, i);
    return lacks;
}

void ft_fetch_ask(ft_fetch *f, const unsigned char *bytes, size_t n)
{
    (void)ask_for_pages(f, bytes, n);
}

int ft_fetch_lacks(ft_fetch *f, const unsigned char *bytes, size_t n)
{
    const int lacks = ask_for_pages(f, bytes, n);
    f->lacking |= lacks;
    return lacks;
}

static int by_number(const void *a, const void *b)
{
    const uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

/* Pages [from, from + n), if one of them is missing. What fails is read when it is needed. */
static void ask_for_run(ft_fetch *f, uintptr_t from, size_t n)
{
    unsigned char in[RUN_PAGES];
    const uintptr_t page = page_bytes();
    size_t missing = 0;
    if (mincore((void *)(from * page), n * page, in) != 0)
        return;
    for (size_t i = 0; i < n; i++)
        missing += !(in[i] & 1);
    if (missing)
        (void)madvise((void *)(from * page), n * page, MADV_WILLNEED);
    f->missing += missing;
}

void ft_fetch_send(ft_fetch *f)
{
    qsort(f->pages, f->count, sizeof(*f->pages), by_number);
    for (size_t i = 0; i < f->count;) {
        const uintptr_t from = f->pages[i];
        uintptr_t last = from;
        for (i++; i < f->count && f->pages[i] <= last + 1 && f->pages[i] - from < RUN_PAGES; i++)
            last = f->pages[i];
        ask_for_run(f, from, (size_t)(last - from + 1));
    }
    f->count = 0;
    f->step += f->step + 1 < 1 << STEP_BITS;
}
