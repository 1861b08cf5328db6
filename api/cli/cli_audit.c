/* flextrace audit: what is stored, whether it is whole, who asked. */
#include "api/cli/cli_audit_internal.h"
#include "api/cli/cli_receipt_internal.h"
#include "base/ft_file.h"
#include "tracer/ft_erasure.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

cli_command cli_audit;

/* --- Opening ----------------------------------------------------------------------------------------------- */

static char damage[800];

static void on_damage(int number)
{
    (void)number;
    (void)!write(STDERR_FILENO, damage, strlen(damage));
    _exit(CLI_BAD_INPUT);
}

/* LMDB follows what its pages say: where they were altered it may read beyond the file, or abort. Nothing was written
 * then, and one line says so. */
static void tell_of_damage(const char *folder)
{
    static const int numbers[] = {SIGBUS, SIGSEGV, SIGABRT};
    const struct sigaction action = {.sa_handler = on_damage, .sa_flags = (int)SA_RESETHAND};
    snprintf(damage, sizeof(damage),
             "flextrace: %.300s/data.mdb: its pages do not hold together; 'flextrace audit verify %.300s' says where: "
             "restore a copy\n",
             folder, folder);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        (void)sigaction(numbers[i], &action, NULL);
}

/* The store's folder: PATH itself, or what its federation names, which is opened. */
static ft_code find_store(cli_store *out, const char *path, const char **folder, ft_store_options *options,
                          ft_status *st)
{
    char *file = ft_path_join(path, "data.mdb");
    *out = (cli_store){0};
    *options = (ft_store_options){0};
    ft_code rc = file ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    *folder = path;
    if (!rc && !ft_path_exists(file)) {
        rc = ft_federation_open(&out->federation, path, st);
        *folder = rc ? NULL : ft_federation_store(out->federation);
        if (!rc && !*folder)
            rc = ft_fail(st, FT_ERR_ARG, "%s: this federation names no store", path);
        if (!rc)
            *options = ft_federation_store_options(out->federation);
    }
    free(file);
    return rc;
}

ft_code cli_store_open(cli_store *out, const char *path, ft_status *st)
{
    const char *folder;
    ft_store_options options;
    ft_code rc = find_store(out, path, &folder, &options, st);
    if (!rc) {
        tell_of_damage(folder);
        rc = ft_store_open_with(&out->store, folder, &options, st);
    }
    if (rc)
        cli_store_close(out);
    return rc;
}

void cli_store_close(cli_store *s)
{
    ft_store_close(s->store);
    ft_federation_close(s->federation);
    *s = (cli_store){0};
}

int cli_take_filter(const char *verb, ft_store_filter *f, const char *name, const char *value)
{
    long long number;
    ft_status st = {0};
    const struct {
        const char *name;
        const char **to;
    } texts[] = {{"owner", &f->owner},
                 {"document", &f->document},
                 {"verdict", &f->verdict},
                 {"key", &f->key},
                 {"without", &f->without},
                 {"model", &f->model},
                 {"text", &f->text}};
    if (!strcmp(name, "text") && ft_filter_text_check(value, &st)) {
        (void)cli_usage(verb, "--text %s", st.msg);
        return -1;
    }
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (!strcmp(name, texts[i].name)) {
            *texts[i].to = value;
            return 1;
        }
    if (!strcmp(name, "from") || !strcmp(name, "to")) {
        if (ft_audit_time_read(value, name[0] == 'f' ? &f->from_ms : &f->to_ms, &st) == FT_OK)
            return 1;
        (void)cli_usage(verb, "--%s: %s", name, st.msg);
        return -1;
    }
    if (!strcmp(name, "min-share"))
        return cli_number(verb, name, value, 0, 1, &f->min_share) ? 1 : -1;
    if (strcmp(name, "expert") != 0 && strcmp(name, "min-tokens") != 0)
        return 0;
    if (!cli_integer(verb, name, value, 0, name[0] == 'e' ? 63 : INT32_MAX, &number))
        return -1;
    if (name[0] == 'e')
        f->expert = (int)number;
    else
        f->min_tokens = (uint32_t)number;
    return 1;
}

int cli_check_filter(const char *verb, const ft_store_filter *f)
{
    if (f->min_share > 0 && f->expert < 0)
        return cli_usage(verb, "--min-share is the share of an expert: name it with --expert");
    return CLI_OK;
}

/* --- verify ------------------------------------------------------------------------------------------------ */

static const char verify_help[] =
    "Usage: flextrace audit verify STORE|FEDERATION [--head FILE] [--checkpoint FILE --key PEM] [--json]\n\n"
    "Checks the pages of data.mdb (where no other process has it open), every line of the log and\n"
    "of the ledger, every trace against the ledger, every key, and the log of receipts, whose root is\n"
    "computed anew. Exit 1: something was altered or removed.\n"
    "      --head FILE         what `audit head` printed earlier: no line before may have changed\n"
    "      --checkpoint FILE   what GET /v1/receipts/log gave earlier: the log of receipts must begin with it\n"
    "      --key PEM           who signed that: a public key, or what GET /v1/keys gave\n"
    "      --json              the report as JSON\n";

static int read_head(const char *path, ft_store_heads *out, ft_status *st)
{
    json_t *v = NULL;
    ft_code rc = ft_json_read_file(&v, path, 65536, st);
    const char *log = json_string_value(json_object_get(v, "log")),
               *ledger = json_string_value(json_object_get(v, "ledger"));
    if (!rc && (!log || !ledger))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: not what `flextrace audit head` prints", path);
    if (!rc)
        rc = ft_digest_parse(&out->log, log, st);
    if (!rc)
        rc = ft_digest_parse(&out->ledger, ledger, st);
    const char *root = json_string_value(json_object_get(v, "receipt_root")); /* earlier versions had none */
    if (!rc && root)
        rc = ft_digest_parse(&out->receipts.root, root, st);
    out->receipts.size = root ? (uint64_t)json_integer_value(json_object_get(v, "receipt_leaves")) : 0;
    out->log_count = (uint64_t)json_integer_value(json_object_get(v, "log_lines"));
    out->ledger_count = (uint64_t)json_integer_value(json_object_get(v, "ledger_lines"));
    json_decref(v);
    return rc == FT_OK;
}

/* It counts where its key signed it. */
static int read_checkpoint(const char *path, const char *key, ft_store_heads *out, ft_status *st)
{
    ft_keyring ring = {0};
    ft_log_head head;
    char problem[320] = "";
    ft_code rc = ft_keyring_read(&ring, key, st);
    if (!rc)
        rc = receipt_read_head(&ring, path, &head, problem, st);
    if (!rc && problem[0])
        rc = ft_fail(st, FT_ERR_FORMAT, "%s", problem);
    if (!rc)
        out->receipts = head.tree;
    ft_keyring_close(&ring);
    return rc == FT_OK;
}

static int print_report(json_t *report, int json)
{
    const int good = json_is_true(json_object_get(report, "good"));
    const json_t *problems = json_object_get(report, "problems"), *p;
    size_t i;
    if (json) {
        const int code = cli_print_json(report);
        return code ? code : good ? CLI_OK : CLI_CHECK_FAILED;
    }
    json_array_foreach(problems, i, p)
    {
        printf("%s\n", json_string_value(p));
    }
    printf("%s: %lld traces, %lld lines in the log, %lld receipts: %s\n",
           json_string_value(json_object_get(report, "store")),
           (long long)json_integer_value(json_object_get(report, "traces")),
           (long long)json_integer_value(json_object_get(json_object_get(report, "log"), "lines")),
           (long long)json_integer_value(json_object_get(json_object_get(report, "receipts"), "leaves")),
           good ? "whole" : "altered");
    json_decref(report);
    return good ? CLI_OK : CLI_CHECK_FAILED;
}

/* The pages are examined before LMDB sees them, where no other process has the store open. */
static ft_code examine(const char *folder, ft_status *st)
{
    char *file = ft_path_join(folder, "data.mdb");
    ft_code rc = file ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc && ft_path_exists(file))
        rc = ft_store_examine(folder, st);
    free(file);
    return rc == FT_ERR_LIMIT ? FT_OK : rc; /* in use */
}

static int verify(int argc, char **argv)
{
    static const cli_option options[] = {{"head", 0, 1}, {"checkpoint", 0, 1}, {"key", 0, 1},
                                         {"json", 0, 0}, {"help", 'h', 0},     {0}};
    cli_args a = {.subcommand = "audit verify", .options = options, .argc = argc, .argv = argv};
    const char *name, *value, *path = NULL, *head = NULL, *checkpoint = NULL, *key = NULL;
    int json = 0, more;
    while ((more = cli_next(&a, &name, &value)) > 0) {
        if (!name && path)
            return cli_usage("audit verify", "takes one STORE, not '%.60s' too", value);
        if (!name)
            path = value;
        else if (!strcmp(name, "head"))
            head = value;
        else if (!strcmp(name, "checkpoint"))
            checkpoint = value;
        else if (!strcmp(name, "key"))
            key = value;
        else if (!strcmp(name, "json"))
            json = 1;
        else {
            fputs(verify_help, stdout);
            return CLI_OK;
        }
    }
    if (more < 0)
        return CLI_USAGE;
    if (!path)
        return cli_usage("audit verify", "needs a STORE");
    if (!checkpoint != !key)
        return cli_usage("audit verify", "--checkpoint and --key go together");
    ft_status st = {0};
    ft_store_heads known = {0};
    cli_store s = {0};
    json_t *report = NULL;
    if ((head && !read_head(head, &known, &st)) || (checkpoint && !read_checkpoint(checkpoint, key, &known, &st)))
        return cli_fail(&st);
    const char *folder;
    ft_store_options how;
    ft_code rc = find_store(&s, path, &folder, &how, &st);
    const ft_code pages = rc ? FT_OK : examine(folder, &st);
    if (!rc)
        rc = pages;
    if (!rc)
        rc = ft_store_open_with(&s.store, folder, &how, &st);
    if (!rc)
        rc = ft_store_verify(s.store, head || checkpoint ? &known : NULL, &report, &st);
    cli_store_close(&s);
    if (!rc)
        return print_report(report, json);
    const int code = cli_fail(&st);
    return pages == FT_ERR_FORMAT ? CLI_CHECK_FAILED : code;
}

/* --- log, head ------------------------------------------------------------------------------------------------ */

static ft_code print_line(void *context, uint64_t number, const char *line, size_t n, ft_status *st)
{
    (void)context;
    (void)number;
    (void)st;
    fwrite(line, 1, n, stdout);
    putchar('\n');
    return FT_OK;
}

/* The one operand of a verb without options; NULL after printing. */
static const char *only_path(const char *verb, const char *help, int argc, char **argv, int *code)
{
    if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        fputs(help, stdout);
        *code = CLI_OK;
        return NULL;
    }
    if (argc == 2 && argv[1][0] != '-')
        return argv[1];
    *code = cli_usage(verb, "needs one STORE or FEDERATION");
    return NULL;
}

static int print_log(int argc, char **argv)
{
    int code;
    const char *path = only_path("audit log",
                                 "Usage: flextrace audit log STORE|FEDERATION\n\nPrints the log of who asked what, one "
                                 "JSON line each. \"prev\" is the SHA-256 of the line before, without its newline.\n",
                                 argc, argv, &code);
    cli_store s;
    ft_status st = {0};
    if (!path)
        return code;
    ft_code rc = cli_store_open(&s, path, &st);
    if (!rc)
        rc = ft_store_walk_log(s.store, 1, print_line, NULL, &st);
    cli_store_close(&s);
    return rc ? cli_fail(&st) : CLI_OK;
}

static int print_head(int argc, char **argv)
{
    int code;
    const char *path = only_path(
        "audit head",
        "Usage: flextrace audit head STORE|FEDERATION\n\nPrints the number of lines and the last hash of log and "
        "ledger, and size and root of the log of receipts: kept\nelsewhere, they let `audit verify --head` find a "
        "store "
        "that was put together anew.\n",
        argc, argv, &code);
    cli_store s;
    ft_status st = {0};
    ft_store_heads h = {0};
    char log[FT_DIGEST_HEX], ledger[FT_DIGEST_HEX], root[FT_DIGEST_HEX];
    if (!path)
        return code;
    ft_code rc = cli_store_open(&s, path, &st);
    if (!rc)
        rc = ft_store_get_heads(s.store, &h, &st);
    cli_store_close(&s);
    if (rc)
        return cli_fail(&st);
    ft_digest_hex(&h.log, log);
    ft_digest_hex(&h.ledger, ledger);
    ft_digest_hex(&h.receipts.root, root);
    return cli_print_json(json_pack("{s:I,s:s,s:I,s:s,s:I,s:s}", "log_lines", (json_int_t)h.log_count, "log", log,
                                    "ledger_lines", (json_int_t)h.ledger_count, "ledger", ledger, "receipt_leaves",
                                    (json_int_t)h.receipts.size, "receipt_root", root));
}

/* --- compact, erase ----------------------------------------------------------------------------------------------- */

static int compact(int argc, char **argv)
{
    int code;
    const char *path =
        only_path("audit compact",
                  "Usage: flextrace audit compact STORE|FEDERATION\n\nWrites the store anew: what was deleted or "
                  "redacted is in no file of it afterwards. No other process may have it open.\n",
                  argc, argv, &code);
    cli_store s;
    ft_status st = {0};
    ft_store_sizes sizes = {0};
    if (!path)
        return code;
    ft_code rc = cli_store_open(&s, path, &st);
    if (!rc)
        rc = ft_store_compact(s.store, &st);
    if (!rc)
        rc = ft_store_log(s.store, "local", "compact", NULL, &st);
    if (!rc)
        rc = ft_store_get_sizes(s.store, &sizes, &st);
    if (!rc)
        printf("%s: %llu traces, %llu bytes\n", ft_store_folder(s.store), (unsigned long long)sizes.traces,
               (unsigned long long)sizes.file_bytes);
    cli_store_close(&s);
    return rc ? cli_fail(&st) : CLI_OK;
}

static const char erase_help[] =
    "Usage: flextrace audit erase FEDERATION --owner NAME --document ID… [OPTIONS]\n\n"
    "Takes documents out of the owner's indexes and what past outputs repeat of them out of the store; prints the\n"
    "certificate as JSON. A server that has the store open does this over HTTP instead (POST /v1/takedowns).\n"
    "      --policy P          redact (default), delete the outputs, or list them only\n"
    "      --min-tokens N      shorter spans stay (default 1)\n"
    "      --no-compact        the bytes stay in the files until the next compaction\n"
    "      --reason TEXT\n";

static int erase(int argc, char **argv)
{
    static const cli_option options[] = {
        {"owner", 0, 1},      {"document", 0, 1}, {"policy", 0, 1}, {"min-tokens", 0, 1},
        {"no-compact", 0, 0}, {"reason", 0, 1},   {"help", 'h', 0}, {0}};
    static const char verb[] = "audit erase";
    cli_args a = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    const char *name, *value, *path = NULL, **ids = calloc((size_t)argc, sizeof(*ids));
    ft_erasure e = {.compact = 1, .who = "local"};
    ft_status st = {0};
    long long number;
    int more = 0, code = ids ? CLI_OK : CLI_SYSTEM;
    while (code == CLI_OK && (more = cli_next(&a, &name, &value)) > 0) {
        if (!name && path)
            code = cli_usage(verb, "takes one FEDERATION, not '%.60s' too", value);
        else if (!name)
            path = value;
        else if (!strcmp(name, "owner"))
            e.owner = value;
        else if (!strcmp(name, "document"))
            ids[e.document_count++] = value;
        else if (!strcmp(name, "reason"))
            e.reason = value;
        else if (!strcmp(name, "no-compact"))
            e.compact = 0;
        else if (!strcmp(name, "policy"))
            code = ft_erasure_policy_read(value, &e.policy, &st) ? cli_usage(verb, "%s", st.msg) : CLI_OK;
        else if (!strcmp(name, "min-tokens")) {
            code = cli_integer(verb, name, value, 1, INT32_MAX, &number) ? CLI_OK : CLI_USAGE;
            e.min_tokens = code ? 0 : (uint32_t)number;
        } else {
            fputs(erase_help, stdout);
            free(ids);
            return CLI_OK;
        }
    }
    if (code == CLI_OK && more < 0)
        code = CLI_USAGE;
    else if (code == CLI_OK && (!path || !e.owner || !e.document_count))
        code = cli_usage(verb, "needs a FEDERATION, --owner and --document");
    if (code == CLI_OK) {
        cli_store s;
        json_t *certificate = NULL;
        e.documents = ids;
        ft_code rc = cli_store_open(&s, path, &st);
        if (!rc && !s.federation)
            rc = ft_fail(&st, FT_ERR_ARG, "%s: a store alone has no indexes; name the federation", path);
        if (!rc)
            rc = ft_erase(s.federation, s.store, &e, &certificate, &st);
        cli_store_close(&s);
        code = rc ? cli_fail(&st) : cli_print_json(certificate);
    }
    free(ids);
    return code;
}

static const cli_verb verbs[] = {
    {"export", cli_audit_export, "traces as JSON lines, CSV or .npy"},
    {"import", cli_audit_import, "JSON lines of an export, into another store"},
    {"routing", cli_audit_routing, "routing of one trace as an array, of many in numbers"},
    {"verify", verify, "whether anything was altered or removed"},
    {"log", print_log, "who asked what"},
    {"head", print_head, "the last hashes, to keep elsewhere"},
    {"erase", erase, "documents out of indexes and past outputs, with a certificate"},
    {"left", cli_audit_left, "whether anything of what was erased is left, and who had exports before"},
    {"summary", cli_audit_summary, "what the model was trained on, as the AI Act's Article 53(1)(d) asks"},
    {"compact", compact, "the store's file anew, without what was deleted"},
};

int cli_audit(int argc, char **argv)
{
    return cli_run_verb("audit", "what a store of traces holds, and whether it is whole.", verbs,
                        sizeof(verbs) / sizeof(verbs[0]),
                        "  flextrace audit verify demo\n"
                        "  flextrace audit export demo --from 2026-01-01 --format csv\n",
                        argc, argv);
}
