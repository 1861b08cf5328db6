/* Any bytes under any name give documents that keep the reader's promises, or are reported; never a crash. The
 * first byte says under which name the rest is read. */
#include "base/ft_json.h"
#include "base/ft_utf8.h"
#include "text/ft_corpus.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const suffixes[] = {".jsonl", ".html", ".txt", ".jsonl.gz", ".txt.zst", ".tar", ".tgz", ".tar.zst"};
enum { SUFFIXES = sizeof(suffixes) / sizeof(suffixes[0]), LARGEST = 1 << 16 };

static void promise(int kept)
{
    if (!kept)
        abort();
}

static void check(const ft_document *d)
{
    ft_buffer repaired = {0};
    size_t bad;
    promise(d->id && *d->id && d->source && d->text);
    promise(ft_utf8_repair(d->text, d->text_bytes, &repaired, &bad, NULL) == FT_OK && bad == d->text_bytes);
    promise(ft_utf8_repair(d->id, strlen(d->id), &repaired, &bad, NULL) == FT_OK && bad == strlen(d->id));
    json_t *metadata;
    promise(ft_json_parse(&metadata, d->metadata, d->metadata_bytes, "metadata", NULL) == FT_OK);
    promise(json_is_object(metadata) && !json_object_get(metadata, "text") && !json_object_get(metadata, "id"));
    json_decref(metadata);
    ft_buffer_release(&repaired);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    const char *suffix = suffixes[data[0] % SUFFIXES];
    char path[64];
    snprintf(path, sizeof(path), "/tmp/flextrace-fuzz-XXXXXX%s", suffix);
    const int fd = mkstemps(path, (int)strlen(suffix));
    promise(fd >= 0 && write(fd, data + 1, n - 1) == (ssize_t)(n - 1) && close(fd) == 0);
    const char *operand = path;
    ft_corpus *c;
    promise(ft_corpus_open(&c, &operand, 1, &(ft_corpus_options){.skip_bad = 1, .max_document_bytes = LARGEST}, NULL) ==
            FT_OK);
    ft_document d;
    int more = 1;
    uint64_t documents = 0;
    while (ft_corpus_next(c, &d, &more, NULL) == FT_OK && more) {
        check(&d);
        documents++;
    }
    promise(!more && ft_corpus_progress(c).documents == documents && ft_corpus_progress(c).input_bytes <= n - 1);
    ft_corpus_close(c);
    remove(path);
    return 0;
}
