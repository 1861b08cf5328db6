/* flextrace index remove */
#include "api/cli/cli_index_internal.h"
#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "index/ft_document_set.h"
#include "index/ft_index_update.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char verb[] = "index remove";

static const char help[] =
    "flextrace index remove: documents out of an index.\n\n"
    "Usage: flextrace index remove INDEX SELECTION… [OPTIONS]\n\n"
    "What any SELECTION names is removed:\n"
    "      --id ID            the documents with this id\n"
    "      --ids-file F       … with the ids in F, one a line\n"
    "      --where FIELD=VALUE  … whose metadata has the field, of its top level, with this\n"
    "                         value: a string, or the JSON text of another value\n"
    "      --query TEXT       … in which TEXT stands, byte by byte, whatever tokens it was cut\n"
    "                         into; with --match tokens, those in which the tokens stand that\n"
    "                         the tokenizer makes of TEXT by itself\n"
    "      --ignore-case      of every --query\n\n"
    "      --dry-run          say what would be removed, and change nothing\n"
    "      --threads N        default: all processors\n"
    "      --json             one JSON object\n\n"
    "From then on no answer knows the documents, also those of a running 'flextrace serve':\n"
    "counts and ranks are as if they had never been there. Their text stays in the files\n"
    "until 'flextrace index compact'. Killed at any instant, the index is the old or the new\n"
    "one; run the same command again.\n\n"
    "Exit: 0 removed; 1 nothing of that kind is in the index (what is found beside ids that\n"
    "are not there is removed, and these are named); 2 usage, or another program is changing\n"
    "the index; 3 bad input; 4 system.\n\n"
    "Examples:\n"
    "  flextrace index remove farm.index --id letters/17 --id letters/18\n"
    "  flextrace index remove farm.index --where author='A. Nonymous' --dry-run\n"
    "  flextrace index remove farm.index --query '12 Orchard Lane' && flextrace index compact farm.index\n";

static const cli_option options[] = {
    {"id", 0, 1},      {"ids-file", 0, 1}, {"where", 0, 1}, {"query", 0, 1},  {"match", 0, 1}, {"ignore-case", 0, 0},
    {"dry-run", 0, 0}, {"threads", 0, 1},  {"json", 0, 0},  {"help", 'h', 0}, {NULL, 0, 0},
};

enum { NAMED_MISSING = 5 /* ids that are named one by one */ };

typedef struct selection {
    const char *kind, *value;
} selection;

typedef struct request {
    const char *folder;
    selection *selections;
    size_t count;
    int dry_run, json, by_tokens, ignore_case;
    unsigned threads;
    json_t *missing; /* ids that no document has */
} request;

/* --- Selecting ------------------------------------------------------------------------------ */

static ft_code select_id(request *r, ft_document_set *set, const char *id, ft_status *st)
{
    uint64_t found;
    ft_code rc = ft_document_set_add_id(set, id, &found, st);
    if (!rc && !found && json_array_append_new(r->missing, ft_json_text(id, strlen(id))) != 0)
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    return rc;
}

static ft_code select_ids_file(request *r, ft_document_set *set, const char *path, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = ft_file_read(path, 0, &text, st);
    if (!rc && text.data && strlen(text.data) != text.size)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: byte %zu is NUL; this is no list of ids", path, strlen(text.data));
    for (char *line = text.data, *next; !rc && line && *line; line = next) {
        size_t n = strcspn(line, "\n");
        next = line + n + (line[n] != '\0');
        n -= n && line[n - 1] == '\r';
        line[n] = '\0';
        if (n)
            rc = select_id(r, set, line, st);
    }
    ft_buffer_release(&text);
    return rc;
}

static ft_code select_where(ft_document_set *set, const char *condition, const ft_progress *progress, ft_status *st)
{
    const char *value = strchr(condition, '='); /* take_option saw it */
    char *field = strndup(condition, (size_t)(value - condition));
    ft_code rc = field ? ft_document_set_add_where(set, field, value + 1, progress, st)
                       : ft_fail(st, FT_ERR_MEM, "out of memory");
    free(field);
    return rc;
}

static ft_code select_tokens(ft_document_set *set, const ft_tokenizer *tokenizer, const char *text, ft_status *st)
{
    ft_encoder *encoder = NULL;
    ft_encoding encoding = {0};
    ft_code rc = ft_encoder_new(&encoder, tokenizer, st);
    if (!rc)
        rc = ft_encoder_encode(encoder, text, strlen(text), &encoding, st);
    if (!rc)
        rc = ft_document_set_add_tokens(set, encoding.ids, encoding.count, st);
    ft_encoding_release(&encoding);
    ft_encoder_free(encoder);
    return rc;
}

static ft_code select_query(const request *r, ft_document_set *set, const char *text, ft_status *st)
{
    const ft_index_info info = ft_index_get_info(set->index);
    ft_tokenizer *tokenizer = NULL;
    ft_code rc = info.tokenizer ? ft_tokenizer_open(&tokenizer, info.tokenizer, st)
                                : ft_fail(st, FT_ERR_ARG, "%s: was built without a tokenizer: --query cannot be read",
                                          info.folder);
    if (!rc)
        rc = r->by_tokens ? select_tokens(set, tokenizer, text, st)
                          : ft_document_set_add_text(set, tokenizer, text, strlen(text), r->ignore_case, st);
    ft_tokenizer_close(tokenizer);
    return rc;
}

static ft_code select_all(request *r, ft_document_set *set, ft_status *st)
{
    const ft_progress progress = cli_progress();
    ft_code rc = FT_OK;
    for (size_t i = 0; i < r->count && !rc; i++) {
        const selection *s = &r->selections[i];
        if (!strcmp(s->kind, "id"))
            rc = select_id(r, set, s->value, st);
        else if (!strcmp(s->kind, "ids-file"))
            rc = select_ids_file(r, set, s->value, st);
        else if (!strcmp(s->kind, "where"))
            rc = select_where(set, s->value, &progress, st);
        else
            rc = select_query(r, set, s->value, st);
    }
    cli_progress_end();
    return rc;
}

/* --- Removing ------------------------------------------------------------------------------- */

static ft_code remove_selected(ft_index_removal *removal, const ft_document_set *set, ft_status *st)
{
    ft_doc_ref doc;
    ft_code rc;
    for (uint64_t from = 0; !(rc = ft_document_set_next(set, from, &doc, st)); from = doc.number + 1)
        if ((rc = ft_index_removal_add(removal, &doc, st)))
            return rc;
    return rc == FT_ERR_NOT_FOUND ? ft_index_removal_commit(removal, NULL, st) : rc;
}

static int report(request *r, uint64_t documents, uint64_t tokens)
{
    const size_t missing = json_array_size(r->missing);
    int code = CLI_OK;
    for (size_t i = 0; i < missing && i < NAMED_MISSING; i++)
        fprintf(stderr, "flextrace: %s: no document has the id '%.200s'\n", r->folder,
                json_string_value(json_array_get(r->missing, i)));
    if (missing > NAMED_MISSING)
        fprintf(stderr, "flextrace: %s: nor have any %zu further ids\n", r->folder, missing - NAMED_MISSING);
    if (r->json)
        code =
            cli_print_json(json_pack("{s:s,s:I,s:I,s:b,s:O}", "index", r->folder, "documents", (json_int_t)documents,
                                     "tokens", (json_int_t)tokens, "dry_run", r->dry_run, "missing_ids", r->missing));
    else if (documents)
        printf("%s: %" PRIu64 " documents, %" PRIu64 " tokens %s\n", r->folder, documents, tokens,
               r->dry_run ? "would be removed" : "removed");
    else if (!missing || r->count > 1)
        fprintf(stderr, "flextrace: %s: no document is of that kind; nothing was removed\n", r->folder);
    return code == CLI_OK && !documents ? CLI_CHECK_FAILED : code;
}

/* A dry run only reads: also beside a program that changes the index. */
static int run(request *r)
{
    ft_status st = {0};
    ft_index *own = NULL;
    ft_index_removal *removal = NULL;
    ft_document_set set = {0};
    ft_code rc =
        r->dry_run ? ft_index_open(&own, r->folder, &st) : ft_index_removal_begin(&removal, r->folder, r->threads, &st);
    if (!rc)
        rc = ft_document_set_init(&set, own ? own : ft_index_removal_index(removal), &st);
    if (!rc)
        rc = select_all(r, &set, &st);
    if (!rc && removal)
        rc = remove_selected(removal, &set, &st);
    const uint64_t documents = set.documents, tokens = set.tokens;
    ft_document_set_release(&set);
    ft_index_removal_end(removal);
    ft_index_close(own);
    return rc ? cli_fail(&st) : report(r, documents, tokens);
}

/* --- The command line ------------------------------------------------------------------------- */

/* CLI_OK, or a usage error that has been printed. */
static int take_option(void *context, const char *name, const char *value)
{
    request *r = context;
    long long number;
    if (!name && r->folder)
        return cli_usage(verb, "one INDEX at a time; '%.60s' is too many", value);
    if (!name) {
        r->folder = value;
    } else if (!strcmp(name, "dry-run")) {
        r->dry_run = 1;
    } else if (!strcmp(name, "json")) {
        r->json = 1;
    } else if (!strcmp(name, "ignore-case")) {
        r->ignore_case = 1;
    } else if (!strcmp(name, "match")) {
        if (strcmp(value, "text") != 0 && strcmp(value, "tokens") != 0)
            return cli_usage(verb, "--match must be text or tokens, not '%.40s'", value);
        r->by_tokens = !strcmp(value, "tokens");
    } else if (!strcmp(name, "threads")) {
        if (!cli_integer(verb, name, value, 1, 1024, &number))
            return CLI_USAGE;
        r->threads = (unsigned)number;
    } else {
        if (!strcmp(name, "where") && (!strchr(value, '=') || value[0] == '='))
            return cli_usage(verb, "--where must be FIELD=VALUE, not '%.60s'", value);
        if (!strcmp(name, "query") && !value[0])
            return cli_usage(verb, "--query must hold some text");
        r->selections[r->count++] = (selection){name, value};
    }
    return CLI_OK;
}

int cli_index_remove(int argc, char **argv)
{
    cli_args args = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    request r = {.selections = ft_alloc_array((size_t)argc, sizeof(*r.selections)), .missing = json_array()};
    int helped = 0, code = r.selections && r.missing ? CLI_OK : CLI_SYSTEM;
    if (code == CLI_OK)
        code = cli_take_all(&args, help, take_option, &r, &helped);
    if (code == CLI_OK && !helped)
        code = !r.folder  ? cli_usage(verb, "which INDEX?")
               : !r.count ? cli_usage(verb, "which documents? Name them by --id, --ids-file, --where or --query")
               : r.by_tokens && r.ignore_case
                   ? cli_usage(verb, "--ignore-case and --match tokens contradict each other")
                   : run(&r);
    free(r.selections);
    json_decref(r.missing);
    return code;
}
