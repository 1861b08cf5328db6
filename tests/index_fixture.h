/* index_fixture: a corpus of rows as an index of its own, with the demo's tokenizer. */
#ifndef FT_INDEX_FIXTURE_H
#define FT_INDEX_FIXTURE_H
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "index/ft_index_build.h"

/* In the test's folder, under `name`; one that is there already stays. */
static inline void build_corpus(const char *name, const char *rows)
{
    char file[80], folder[4096];
    ft_status st;
    if (ft_path_exists(ft_test_path(name)))
        return;
    snprintf(file, sizeof(file), "%s.jsonl", name);
    const char *corpus = ft_test_write(file, rows, strlen(rows));
    strcpy(folder, ft_test_path(name));
    const ft_index_build_options o = {.tokenizer = ft_test_source("demo/model"), .threads = 1};
    ft_index_build_report report;
    assert_ok(ft_index_build(folder, &corpus, 1, &o, &report, &st), st);
}
#endif
