/* The flextrace command: one table, one line a subcommand. */
#include "api/cli/cli.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <string.h>

cli_command cli_attack;
cli_command cli_audit;
cli_command cli_chat;
cli_command cli_corpus;
cli_command cli_eval;
cli_command cli_forward;
cli_command cli_generate;
cli_command cli_index;
cli_command cli_key;
cli_command cli_merge;
cli_command cli_model;
cli_command cli_privacy;
cli_command cli_receipt;
cli_command cli_serve;
cli_command cli_tokenize;
cli_command cli_tokenizer;
cli_command cli_trace;
cli_command cli_train;
cli_command cli_version;

static const struct {
    const char *name;
    cli_command *run;
    const char *summary;
} commands[] = {
    {"attack", cli_attack, "what a model gives away of its training data"},
    {"audit", cli_audit, "stored traces: export, compliance, whether anything was altered"},
    {"chat", cli_chat, "a conversation in the terminal"},
    {"corpus", cli_corpus, "the documents of files and folders, as JSON lines"},
    {"eval", cli_eval, "systems of a recipe trained and measured: bits per byte, choices, shares"},
    {"forward", cli_forward, "one pass over token ids: logits and routing as .npy"},
    {"generate", cli_generate, "continue a prompt"},
    {"index", cli_index, "build, query, describe and verify the index over a corpus"},
    {"key", cli_key, "the keys that sign receipts"},
    {"merge", cli_merge, "owners' experts beside the public one, without training"},
    {"model", cli_model, "what a checkpoint is; its conversion and verification; owners' experts in it"},
    {"privacy", cli_privacy, "what differentially private training costs"},
    {"receipt", cli_receipt, "signed statements of what was generated: verify, replay, make"},
    {"serve", cli_serve, "the HTTP service and the page"},
    {"tokenize", cli_tokenize, "text to token ids with offsets, and back"},
    {"tokenizer", cli_tokenizer, "a byte-level BPE tokenizer trained on a corpus"},
    {"trace", cli_trace, "spans, documents and owners of given texts or tokens"},
    {"train", cli_train, "train a public model, an owner's expert; one step for checks"},
    {"version", cli_version, "the version, and what this machine's processor offers"},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *to)
{
    fputs("flextrace: runs a FlexOlmo model and says whose data each span of its text came from.\n\n"
          "Usage: flextrace COMMAND [OPTIONS]; 'flextrace COMMAND --help' explains one.\n\n",
          to);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\nBatch commands read JSON lines on standard input and answer one JSON line each.\n"
          "Exit: 0 done, 1 a check says no, 2 usage, 3 bad input, 4 system; 130 stopped by Ctrl-C,\n"
          "143 by SIGTERM.\n",
          to);
}

/* Output that did not arrive is not done, whatever the command says. */
static int flush_output(int code)
{
    if ((fflush(stdout) == 0 && !ferror(stdout)) || code > CLI_CHECK_FAILED)
        return code;
    fprintf(stderr, "flextrace: standard output: %s\n", strerror(errno));
    return CLI_SYSTEM;
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    signal(SIGXFSZ, SIG_IGN); /* a file beyond the limit is an error of the write, with its name, like a full disk */
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_help(stdout);
        return flush_output(CLI_OK);
    }
    const char *name = !strcmp(argv[1], "--version") ? "version" : argv[1];
    for (size_t i = 0; i < COMMANDS; i++)
        if (!strcmp(name, commands[i].name))
            return flush_output(commands[i].run(argc - 1, argv + 1));
    fprintf(stderr, "flextrace: '%.60s' is not a command; 'flextrace --help' lists them\n", argv[1]);
    return CLI_USAGE;
}
