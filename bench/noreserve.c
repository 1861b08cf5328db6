/* Preloaded into infini-gram's builder, which asks for 32 GiB of zeroed memory of
 * which it touches a little: huge blocks are mapped without being promised, so that
 * it runs on a machine that has less. It changes nothing else.
 *
 *   cc -O2 -shared -fPIC -o noreserve.so noreserve.c */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

enum { SLOTS = 64 };
#define HUGE_BLOCK ((size_t)8 << 30)

static struct {
    void *at;
    size_t size;
} blocks[SLOTS];

extern void *__libc_calloc(size_t, size_t);
extern void *__libc_malloc(size_t);
extern void __libc_free(void *);

static void *map_block(size_t size)
{
    for (size_t i = 0; i < SLOTS; i++) {
        void *expected = NULL;
        if (!__atomic_compare_exchange_n(&blocks[i].at, &expected, (void *)1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        blocks[i].size = size;
        __atomic_store_n(&blocks[i].at, p == MAP_FAILED ? NULL : p, __ATOMIC_SEQ_CST);
        return p == MAP_FAILED ? NULL : p;
    }
    return NULL;
}

void *calloc(size_t n, size_t size)
{
    return size && n >= HUGE_BLOCK / size ? map_block(n * size) : __libc_calloc(n, size);
}

void *malloc(size_t size)
{
    return size >= HUGE_BLOCK ? map_block(size) : __libc_malloc(size);
}

void free(void *p)
{
    for (size_t i = 0; p && i < SLOTS; i++)
        if (blocks[i].at == p) {
            munmap(p, blocks[i].size);
            __atomic_store_n(&blocks[i].at, NULL, __ATOMIC_SEQ_CST);
            return;
        }
    __libc_free(p);
}
