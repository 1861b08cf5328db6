/* flextrace tokenizer train: a byte-level BPE tokenizer out of a corpus. */
#include "api/cli/cli.h"
#include "base/ft_file.h"
#include "text/ft_bpe_train.h"
#include "text/ft_corpus.h"

#include <stdlib.h>
#include <string.h>

cli_command cli_tokenizer, cli_tokenizer_train;

static const char help[] =
    "Usage: flextrace tokenizer train CORPUS… --size N -o FOLDER [OPTIONS]\n\n"
    "Trains a byte-level BPE tokenizer on documents (JSONL, text, HTML, folders, archives; as 'flextrace\n"
    "corpus' reads them) and writes FOLDER/tokenizer.json and tokenizer_config.json, which flextrace and\n"
    "Hugging Face's libraries read. Id 0 is <|endoftext|>, 1 <|pad|>, then the 256 bytes, then merges. The\n"
    "same documents in any order give the same file.\n\n"
    "  --size N         entries of the vocabulary, 258 or more (required); fewer where no pair is left\n"
    "                   that is frequent enough\n"
    "  -o FOLDER        where it goes (required)\n"
    "  --split S        how text is cut into words: cl100k (default; GPT-4, Llama 3, OLMo), qwen2, gpt2\n"
    "  --least-count N  pairs that are rarer are not merged (2)\n"
    "  --memory B       for counting words and pairs (1G)\n"
    "  --skip-bad       report bad documents and go on, instead of stopping at the first\n"
    "  --replace        put it in place of a tokenizer that is in FOLDER already\n\n"
    "Example:\n"
    "  flextrace tokenizer train public.jsonl.gz --size 4096 -o start\n";

typedef struct request {
    const char **paths, *out;
    size_t count;
    ft_bpe_train_options options;
    int skip_bad, replace;
} request;

static void warn(void *context, const char *message)
{
    (void)context;
    cli_progress_message(message);
}

static ft_code read_corpus(ft_bpe_train *t, const request *r, const ft_progress *show, ft_status *st)
{
    const ft_corpus_options options = {.skip_bad = r->skip_bad, .warn = warn};
    ft_corpus *corpus;
    ft_document d;
    int more;
    ft_code rc = ft_corpus_open(&corpus, r->paths, r->count, &options, st);
    while (!rc) {
        rc = ft_corpus_next(corpus, &d, &more, st);
        if (rc || !more)
            break;
        rc = ft_bpe_train_add(t, d.text, d.text_bytes, st);
        const ft_corpus_counts c = ft_corpus_progress(corpus);
        if (!rc && ft_progress_report(show, "words", c.input_bytes, c.input_total, "bytes"))
            rc = ft_fail(st, FT_ERR_CANCELLED, "stopped");
    }
    ft_corpus_close(corpus);
    return rc;
}

static ft_code check_folder(const request *r, ft_status *st)
{
    char *path = ft_path_join(r->out, "tokenizer.json");
    ft_code rc = path ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc && !r->replace && ft_path_exists(path))
        rc = ft_fail(st, FT_ERR_ARG, "%s: there is a tokenizer already; choose another -o, or give --replace", path);
    free(path);
    return rc;
}

static int run(const request *r)
{
    const ft_progress show = cli_progress();
    ft_status st = {0};
    ft_bpe_train *t = NULL;
    ft_code rc = check_folder(r, &st);
    if (!rc)
        rc = ft_bpe_train_new(&t, &r->options, &st);
    if (!rc)
        rc = read_corpus(t, r, &show, &st);
    if (!rc)
        rc = ft_bpe_train_run(t, &show, &st);
    cli_progress_end();
    if (!rc)
        rc = ft_bpe_train_write(t, r->out, &st);
    if (!rc && ft_bpe_train_size(t) < r->options.size)
        fprintf(stderr, "flextrace: tokenizer: %zu entries, not %zu: no other pair is frequent enough\n",
                ft_bpe_train_size(t), r->options.size);
    if (!rc)
        printf("%s: %zu entries from %llu distinct words\n", r->out, ft_bpe_train_size(t),
               (unsigned long long)ft_bpe_train_words(t));
    ft_bpe_train_free(t);
    return rc ? cli_fail(&st) : CLI_OK;
}

static int take(void *context, const char *name, const char *value)
{
    request *r = context;
    long long number;
    unsigned long long bytes;
    if (!name) {
        r->paths[r->count++] = value;
    } else if (!strcmp(name, "output")) {
        r->out = value;
    } else if (!strcmp(name, "split")) {
        r->options.split = value;
    } else if (!strcmp(name, "skip-bad")) {
        r->skip_bad = 1;
    } else if (!strcmp(name, "replace")) {
        r->replace = 1;
    } else if (!strcmp(name, "memory")) {
        if (!cli_bytes("tokenizer train", name, value, &bytes))
            return CLI_USAGE;
        r->options.memory_bytes = bytes ? bytes : 1;
    } else {
        const int size = !strcmp(name, "size");
        if (!cli_integer("tokenizer train", name, value, size ? FT_BPE_LEAST_SIZE : 1, size ? 1 << 23 : 1LL << 40,
                         &number))
            return CLI_USAGE;
        if (size)
            r->options.size = (size_t)number;
        else
            r->options.least_count = (uint64_t)number;
    }
    return CLI_OK;
}

int cli_tokenizer_train(int argc, char **argv)
{
    static const cli_option options[] = {{"size", 0, 1},    {"output", 'o', 1},    {"split", 0, 1},
                                         {"memory", 0, 1},  {"least-count", 0, 1}, {"skip-bad", 0, 0},
                                         {"replace", 0, 0}, {"help", 'h', 0},      {NULL, 0, 0}};
    cli_args a = {.subcommand = "tokenizer train", .options = options, .argc = argc, .argv = argv};
    request r = {.paths = calloc((size_t)argc + 1, sizeof(*r.paths))};
    int helped = 0, code = r.paths ? cli_take_all(&a, help, take, &r, &helped) : CLI_SYSTEM;
    if (code == CLI_OK && !helped) {
        if (!r.count)
            code = cli_usage("tokenizer train", "needs a file or a folder of text");
        else if (!r.options.size)
            code = cli_usage("tokenizer train", "how many entries? --size N is missing");
        else if (!r.out)
            code = cli_usage("tokenizer train", "where to? -o FOLDER is missing");
        else
            code = run(&r);
    }
    free((void *)r.paths);
    return code;
}

int cli_tokenizer(int argc, char **argv)
{
    static const cli_verb verbs[] = {{"train", cli_tokenizer_train, "byte-level BPE out of a corpus"}};
    return cli_run_verb("tokenizer", "byte-level BPE tokenizers.", verbs, sizeof(verbs) / sizeof(verbs[0]),
                        "  flextrace tokenizer train public.jsonl.gz --size 4096 -o start\n", argc, argv);
}
