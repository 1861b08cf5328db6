/* flextrace index query */
#include "api/cli/cli_index_internal.h"
#include "base/ft_buffer.h"

#include <stdlib.h>
#include <string.h>

static const char verb[] = "index query";

static const char help[] =
    "flextrace index query: answers to JSON lines about one or several indexes.\n\n"
    "Usage: flextrace index query INDEX… [-t TOK] [--infini-gram 4|5] [--eot ID]\n\n"
    "An INDEX is one of ours or an infini-gram folder; several are searched as one. A row\n"
    "is {\"op\":…} with \"ids\":[…] or \"text\":\"…\":\n"
    "  count         {\"count\",\"approx\"}; with \"cnf\" as below, of its matches\n"
    "  find          {\"cnt\",\"segment_by_shard\":[[lo,hi],…]}: ranks in each part; with \"limit\"\n"
    "                also \"occurrences\":[{\"doc_ix\",\"id\",\"token\",\"tokens\",\"s\",\"ptr\"},…]\n"
    "  prob          {\"prob\",\"prompt_cnt\",\"cont_cnt\"} of the last token after the others\n"
    "  ntd           {\"prompt_cnt\",\"result_by_token_id\",\"approx\"}: what follows\n"
    "  infgram_prob, infgram_ntd   with the longest suffix that occurs: \"suffix_len\"\n"
    "  cnf           \"cnf\":[[ids,…],…], an AND of ORs; \"max_diff_tokens\" (100):\n"
    "                {\"cnt\",\"count\",\"approx\",\"ptrs_by_shard\"}\n"
    "  docs          the documents of the occurrences: {\"cnt\",\"idxs\",\"documents\"}\n"
    "  doc           by \"rank\" or \"ptr\" with \"s\" (part, 0), or by \"ix\" (document number)\n"
    "Counts are exact.\n\n"
    "\"match\":\"text\" with count, find or docs looks for the text's bytes instead of its\n"
    "tokens: every byte position, inside and across tokens. \"ignore_case\":true folds case as\n"
    "Unicode does, character by character. find answers {\"cnt\",\"occurrences\":[{\"doc_ix\",\"id\",\n"
    "\"byte\",\"bytes\",\"token\",\"tokens\"},…]}; docs adds these four to each document.\n"
    "\"leading_space\":\"both\" with count: {\"count\",\"with_space\",\"without_space\"}.\n\n"
    "Pages: find and docs list \"maxnum\" or \"limit\" (docs 10, text find 100, at most 10000)\n"
    "occurrences from \"offset\" (0) on; \"next_offset\" asks for the next page, null after the\n"
    "last.\n\n"
    "What docs and doc show: \"max_ctx_len\" tokens on both sides of the match, a snippet; else\n"
    "\"max_disp_len\" (1000) tokens around it; of \"ix\" the first max_disp_len, the whole\n"
    "document where it is no longer. doc by rank or ptr: \"needle_len\" tokens are the match. A\n"
    "ptr is a byte position: the token's place in its part times \"token_bytes\" of 'index stat'.\n"
    "docs/index-queries.md shows a question and its answer of each kind.\n\n"
    "  -t, --tokenizer TOK    for \"text\" (default: the copy in the first index of ours)\n"
    "      --infini-gram V    version of infini-gram folders, which do not record it (default 4)\n"
    "      --eot ID           their end-of-text id (default: TOK's)\n\n"
    "Examples:\n"
    "  echo '{\"op\":\"count\",\"text\":\" the sea\"}' | flextrace index query farm.index\n"
    "  echo '{\"op\":\"find\",\"text\":\"the sea\",\"match\":\"text\"}' | flextrace index query farm.index\n"
    "  echo '{\"op\":\"ntd\",\"ids\":[374]}' | flextrace index query v4-u32 --eot 100257\n";

static const cli_option options[] = {
    {"tokenizer", 't', 1}, {"infini-gram", 0, 1}, {"eot", 0, 1}, {"help", 'h', 0}, {NULL, 0, 0}};

typedef struct request {
    const char **folders;
    size_t folder_count;
    const char *tokenizer;
    ft_infinigram_options infinigram;
} request;

static ft_code open_tokenizer(index_asker *a, const char *path, ft_status *st)
{
    ft_code rc = ft_tokenizer_open(&a->tokenizer, path, st);
    return rc ? rc : ft_encoder_new(&a->encoder, a->tokenizer, st);
}

/* All of ours were built with the tokenizer in use. */
static ft_code check_tokenizers(const index_asker *a, ft_status *st)
{
    for (size_t i = 0; i < a->set.count && a->tokenizer; i++) {
        const ft_index_info info = ft_index_get_info(a->indexes[i]);
        const ft_digest used = ft_tokenizer_digest(a->tokenizer);
        if (info.tokenizer && memcmp(&info.tokenizer_digest, &used, sizeof(used)) != 0)
            return ft_fail(st, FT_ERR_FORMAT, "%s: built with another tokenizer than %s; ids mean other text there",
                           info.folder, ft_tokenizer_path(a->tokenizer));
    }
    return FT_OK;
}

static ft_code open_all(index_asker *a, request *r, ft_status *st)
{
    ft_code rc = r->tokenizer ? open_tokenizer(a, r->tokenizer, st) : FT_OK;
    if (!rc && a->tokenizer && r->infinigram.end_of_text == FT_NO_TOKEN)
        r->infinigram.end_of_text = ft_tokenizer_end_of_text(a->tokenizer);
    a->indexes = ft_alloc_array(r->folder_count, sizeof(*a->indexes));
    if (!rc && !a->indexes)
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < r->folder_count && !rc; i++) {
        rc = ft_index_open_any(&a->indexes[i], r->folders[i], &r->infinigram, st);
        a->set.count += !rc;
    }
    a->set.indexes = (const ft_index *const *)a->indexes;
    for (size_t i = 0; i < a->set.count && !rc && !a->tokenizer; i++)
        if (ft_index_get_info(a->indexes[i]).tokenizer)
            rc = open_tokenizer(a, ft_index_get_info(a->indexes[i]).tokenizer, st);
    return rc ? rc : check_tokenizers(a, st);
}

static void close_all(index_asker *a)
{
    for (size_t i = 0; i < a->set.count; i++)
        ft_index_close(a->indexes[i]);
    free(a->indexes);
    ft_text_matcher_free(a->matcher);
    ft_encoding_release(&a->encoding);
    ft_encoder_free(a->encoder);
    ft_tokenizer_close(a->tokenizer);
}

static json_t *answer_row(void *context, const json_t *row, ft_status *st)
{
    return index_answer(context, row, st);
}

static int run(request *r)
{
    index_asker a = {0};
    ft_status st = {0};
    const ft_code rc = open_all(&a, r, &st);
    const int code = rc ? cli_fail(&st) : cli_batch(answer_row, &a);
    close_all(&a);
    return code;
}

/* CLI_OK, or a usage error that has been printed. */
static int take_option(void *context, const char *name, const char *value)
{
    request *r = context;
    long long number;
    if (!name)
        r->folders[r->folder_count++] = value;
    else if (!strcmp(name, "tokenizer"))
        r->tokenizer = value;
    else if (!strcmp(name, "infini-gram")) {
        if (!cli_integer(verb, name, value, 4, 5, &number))
            return CLI_USAGE;
        r->infinigram.version = (int)number;
    } else {
        if (!cli_integer(verb, name, value, 0, UINT32_MAX - 1, &number))
            return CLI_USAGE;
        r->infinigram.end_of_text = (uint32_t)number;
    }
    return CLI_OK;
}

int cli_index_query(int argc, char **argv)
{
    cli_args args = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    request r = {.folders = ft_alloc_array((size_t)argc, sizeof(*r.folders)),
                 .infinigram = {.version = 4, .end_of_text = FT_NO_TOKEN}};
    int code = r.folders ? CLI_OK : CLI_SYSTEM, helped = 0;
    if (code == CLI_OK)
        code = cli_take_all(&args, help, take_option, &r, &helped);
    if (code == CLI_OK && !helped)
        code = r.folder_count ? run(&r) : cli_usage(verb, "which INDEX?");
    free(r.folders);
    return code;
}
