/* replay: drives a libFuzzer target without libFuzzer. Every file of the corpus folder is run as it is, then
 * with seeded mutations (flips, cuts, splices, numbers that lie), each copied so that it ends at an unreadable page.
 *
 *   test_fuzz_NAME [FOLDER|FILE…]     default: tests/fuzz/corpus/NAME; $FUZZ_ROUNDS mutations a file (300)
 *
 * With clang, `clang -fsanitize=fuzzer,address` on fuzz_NAME.c and the library makes the coverage-guided fuzzer. */
#include "base/ft_file.h"
#include "base/ft_random.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { LARGEST = 1 << 20 };

static uint8_t *arena; /* LARGEST bytes, then an unreadable page */
static unsigned long inputs;

static void run(const uint8_t *data, size_t n)
{
    uint8_t *at = arena + LARGEST - n;
    if (n)
        memcpy(at, data, n);
    LLVMFuzzerTestOneInput(at, n);
    inputs++;
}

static size_t splice(uint8_t *d, size_t n, size_t at, const char *lie)
{
    const size_t m = strlen(lie);
    if (n + m > LARGEST)
        return n;
    memmove(d + at + m, d + at, n - at);
    memcpy(d + at, lie, m);
    return n + m;
}

static size_t mutate(uint8_t *d, size_t n, ft_random *r)
{
    static const char *const lies[] = {"-1",   "4294967296", "18446744073709551615", "1e999", "null", "[", "{", "\"",
                                       "\xff", "\\u0000"};
    for (uint64_t changes = 1 + ft_random_below(r, 4); changes && n; changes--) {
        const size_t at = (size_t)ft_random_below(r, n);
        switch (ft_random_below(r, 5)) {
        case 0:
            d[at] ^= (uint8_t)(1u << ft_random_below(r, 8));
            break;
        case 1:
            d[at] = (uint8_t)ft_random_u64(r);
            break;
        case 2:
            n = at;
            break;
        case 3: { /* take a piece out */
            const size_t take = (size_t)ft_random_below(r, n - at) + 1;
            memmove(d + at, d + at + take, n - at - take);
            n -= take;
            break;
        }
        default:
            n = splice(d, n, at, lies[ft_random_below(r, sizeof(lies) / sizeof(lies[0]))]);
        }
    }
    return n;
}

static void run_file(const char *path, unsigned long rounds)
{
    ft_buffer b = {0};
    ft_status st = {0};
    if (ft_file_read(path, LARGEST, &b, &st) != FT_OK) {
        fprintf(stderr, "replay: %s\n", st.msg);
        exit(1);
    }
    run((const uint8_t *)b.data, b.size);
    uint8_t *copy = malloc(LARGEST);
    ft_random r;
    ft_random_init(&r, 20251 + b.size);
    for (unsigned long i = 0; copy && i < rounds; i++) {
        memcpy(copy, b.data, b.size);
        const size_t n = mutate(copy, b.size, &r);
        run(copy, n);
    }
    free(copy);
    ft_buffer_release(&b);
}

static void run_path(const char *path, unsigned long rounds)
{
    if (!ft_path_is_folder(path)) {
        run_file(path, rounds);
        return;
    }
    struct dirent **names;
    const int n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char *file = ft_path_join(path, names[i]->d_name);
        if (file && names[i]->d_name[0] != '.')
            run_file(file, rounds);
        free(file);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
}

int main(int argc, char **argv)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    arena = mmap(NULL, LARGEST + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arena == MAP_FAILED || mprotect(arena + LARGEST, page, PROT_NONE) != 0)
        return 1;
    const char *wish = getenv("FUZZ_ROUNDS");
    const unsigned long rounds = wish ? strtoul(wish, NULL, 10) : 300;
    if (argc < 2)
        run_path(FUZZ_CORPUS, rounds);
    for (int i = 1; i < argc; i++)
        run_path(argv[i], rounds);
    fprintf(stderr, "%lu inputs\n", inputs);
    printf("%d passed, %d failed, 0 skipped\n", inputs > 0, inputs == 0);
    return inputs == 0;
}
