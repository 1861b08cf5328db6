/* flextrace index stat, flextrace index verify */
#include "api/cli/cli_index_internal.h"

#include <inttypes.h>
#include <string.h>

static const char stat_help[] = "flextrace index stat: what an index holds.\n\n"
                                "Usage: flextrace index stat INDEX [--json] [--infini-gram 4|5]\n\n"
                                "Documents, tokens, bytes of text and on disk, bytes a token, segments, owner, the\n"
                                "digest of the tokenizer, and the Merkle root that names this state of the corpus.\n\n"
                                "      --infini-gram V    version of an infini-gram folder (default 4)\n"
                                "      --json             one JSON object\n\n"
                                "Example:\n  flextrace index stat farm.index --json\n";

static const char verify_help[] =
    "flextrace index verify: every checksum, the order of the suffix array, the Merkle root.\n\n"
    "Usage: flextrace index verify INDEX [--infini-gram 4|5]\n\n"
    "Exit 0 when all of it holds; otherwise 1 and the first fault, with file and place.\n"
    "Needs 4 bytes of memory for each token. An infini-gram folder has no checksums:\n"
    "there the order and the places of documents are checked.\n\n"
    "Example:\n  flextrace index verify farm.index && echo whole\n";

static const cli_option options[] = {{"json", 0, 0}, {"infini-gram", 0, 1}, {"help", 'h', 0}, {NULL, 0, 0}};

typedef struct request {
    const char *folder;
    ft_infinigram_options infinigram;
    int json, helped;
} request;

/* CLI_OK when there is something to do. */
static int read_request(request *r, const char *verb, const char *help, int argc, char **argv)
{
    cli_args args = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    const char *name, *value;
    int got;
    *r = (request){.infinigram = {.version = 4, .end_of_text = FT_NO_TOKEN}};
    while ((got = cli_next(&args, &name, &value)) == 1) {
        long long version;
        if (!name && r->folder)
            return cli_usage(verb, "one INDEX at a time; '%.60s' is too many", value);
        if (!name) {
            r->folder = value;
        } else if (!strcmp(name, "help")) {
            fputs(help, stdout);
            r->helped = 1;
            return CLI_OK;
        } else if (!strcmp(name, "json")) {
            r->json = 1;
        } else {
            if (!cli_integer(verb, name, value, 4, 5, &version))
                return CLI_USAGE;
            r->infinigram.version = (int)version;
        }
    }
    if (got < 0)
        return CLI_USAGE;
    return r->folder ? CLI_OK : cli_usage(verb, "which INDEX?");
}

static json_t *digest_json(const ft_digest *d, int known)
{
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(d, hex);
    return known ? json_string(hex) : json_null();
}

static double bytes_per_token(const ft_index_info *info)
{
    const uint64_t positions = info->tokens + info->documents;
    return positions ? (double)info->disk_bytes / (double)positions : 0;
}

static int print_stat_json(const ft_index_info *i)
{
    const int ours = !i->is_infinigram;
    return cli_print_json(json_pack(
        "{s:s,s:s,s:I,s:I,s:o,s:I,s:f,s:i,s:i,s:o,s:o,s:s,s:o,s:o}", "index", i->folder, "format",
        ours                         ? "flextrace"
        : i->infinigram_version == 5 ? "infini-gram 5"
                                     : "infini-gram 4",
        "documents", (json_int_t)i->documents, "tokens", (json_int_t)i->tokens, "text_bytes",
        ours ? json_integer((json_int_t)i->text_bytes) : json_null(), "disk_bytes", (json_int_t)i->disk_bytes,
        "bytes_per_token", bytes_per_token(i), "segments", (int)i->parts, "token_bytes", (int)i->token_bytes,
        "vocab_size", i->vocab_size ? json_integer(i->vocab_size) : json_null(), "end_of_text",
        i->end_of_text != FT_NO_TOKEN ? json_integer(i->end_of_text) : json_null(), "owner", i->owner, "tokenizer",
        digest_json(&i->tokenizer_digest, i->tokenizer != NULL), "root", digest_json(&i->root, ours)));
}

static int print_stat(const ft_index_info *i)
{
    char hex[FT_DIGEST_HEX];
    printf("documents        %" PRIu64 "\n", i->documents);
    printf("tokens           %" PRIu64 "\n", i->tokens);
    if (!i->is_infinigram)
        printf("text             %.1f MB\n", (double)i->text_bytes / 1e6);
    printf("on disk          %.1f MB, %.2f bytes a token\n", (double)i->disk_bytes / 1e6, bytes_per_token(i));
    printf("%-16s %u\n", i->is_infinigram ? "shards" : "segments", i->parts);
    printf("token width      %u bytes\n", i->token_bytes);
    if (i->owner[0])
        printf("owner            %s\n", i->owner);
    if (i->tokenizer) {
        ft_digest_hex(&i->tokenizer_digest, hex);
        printf("tokenizer        %s\n", hex);
    }
    if (!i->is_infinigram) {
        ft_digest_hex(&i->root, hex);
        printf("root             %s\n", hex);
    }
    return CLI_OK;
}

int cli_index_stat(int argc, char **argv)
{
    request r;
    ft_index *ix;
    ft_status st = {0};
    const int code = read_request(&r, "index stat", stat_help, argc, argv);
    if (code != CLI_OK || r.helped)
        return code;
    if (ft_index_open_any(&ix, r.folder, &r.infinigram, &st) != FT_OK)
        return cli_fail(&st);
    const ft_index_info info = ft_index_get_info(ix);
    const int done = r.json ? print_stat_json(&info) : print_stat(&info);
    ft_index_close(ix);
    return done;
}

int cli_index_verify(int argc, char **argv)
{
    request r;
    ft_index *ix = NULL;
    ft_status st = {0};
    const int code = read_request(&r, "index verify", verify_help, argc, argv);
    if (code != CLI_OK || r.helped)
        return code;
    ft_code rc = ft_index_open_any(&ix, r.folder, &r.infinigram, &st);
    if (!rc)
        rc = ft_index_verify(ix, &st);
    ft_index_close(ix);
    if (r.json)
        return cli_print_json(json_pack("{s:b,s:s?}", "valid", !rc, "fault", rc ? st.msg : NULL)) ? CLI_SYSTEM
               : rc == FT_OK                                                                      ? CLI_OK
                                                                                                  : CLI_CHECK_FAILED;
    if (rc == FT_OK)
        printf("%s: whole\n", r.folder);
    if (rc == FT_OK)
        return CLI_OK;
    const int failed = cli_fail(&st);
    return rc == FT_ERR_FORMAT ? CLI_CHECK_FAILED : failed;
}
