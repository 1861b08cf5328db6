/* flextrace serve: the HTTP service and the page, until SIGTERM or Ctrl-C. */
#include "api/cli/cli.h"
#include "api/ft_server.h"
#include "base/ft_file.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

cli_command cli_serve;

static const char help[] =
    "Usage: flextrace serve FEDERATION [OPTIONS]\n"
    "\n"
    "Serves the model, the owners' indexes and the page over HTTP. FEDERATION is a\n"
    "federation.yaml or the folder that holds one; an example.txt beside it is the text\n"
    "that the page opens with. The address is printed once it listens. An index that is\n"
    "replaced meanwhile (index add, remove, compact, build --force) is in service for the\n"
    "next request.\n"
    "\n"
    "      --listen ADDR:PORT  where to listen; port 0 takes a free one\n"
    "                          (default: the federation's, else 127.0.0.1:8080)\n"
    "      --chat-template T   chatml, olmo2, tulu, olmo3 or olmo3-think (default: the\n"
    "                          federation's, else the one that the checkpoint's own equals)\n"
    "      --threads N         threads of the model (default: one a processor)\n"
    "      --grace SECONDS     how long running requests may end after SIGTERM (default 10)\n"
    "      --web-folder DIR    the page's files from DIR, read at every request, instead of\n"
    "                          those compiled in: for work on the page\n"
    "      --quiet             no line on standard error for each request\n"
    "\n"
    "Without keys, everybody who reaches the address may use it: it is bound to this\n"
    "machine alone unless --listen says otherwise. docs/http.md describes the routes.\n"
    "\n"
    "Examples:\n"
    "  flextrace serve demo\n"
    "  flextrace serve demo/federation.yaml --listen 0.0.0.0:9000\n"
    "  curl -s http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \\\n"
    "       -d '{\"prompt\":\"And it came to pass\",\"max_tokens\":20,\"flextrace\":{\"trace\":true}}'\n";

typedef struct serve_options {
    ft_server_options server;
    const char *federation;
    unsigned grace;
    int quiet;
} serve_options;

static void log_line(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "%s\n", line);
}

/* A CLI_ code, or -1 to go on. */
static int read_options(int argc, char **argv, serve_options *o)
{
    static const cli_option options[] = {
        {"listen", 'l', 1},   {"threads", 0, 1}, {"chat-template", 0, 1}, {"grace", 0, 1},
        {"web-folder", 0, 1}, {"quiet", 'q', 0}, {"help", 'h', 0},        {0}};
    cli_args a = {.subcommand = "serve", .options = options, .argc = argc, .argv = argv};
    const char *name, *value;
    long long number;
    int more;
    while ((more = cli_next(&a, &name, &value)) > 0) {
        if (!name && o->federation)
            return cli_usage("serve", "one FEDERATION, not also '%.60s'", value);
        if (!name) {
            o->federation = value;
        } else if (!strcmp(name, "help")) {
            fputs(help, stdout);
            return CLI_OK;
        } else if (!strcmp(name, "listen")) {
            o->server.listen = value;
        } else if (!strcmp(name, "web-folder")) {
            o->server.web_folder = value;
        } else if (!strcmp(name, "chat-template")) {
            o->server.chat_template = value;
        } else if (!strcmp(name, "quiet")) {
            o->quiet = 1;
        } else if (!strcmp(name, "threads")) {
            if (!cli_integer("serve", name, value, 1, 1024, &number))
                return CLI_USAGE;
            o->server.threads = (unsigned)number;
        } else {
            if (!cli_integer("serve", name, value, 0, 3600, &number))
                return CLI_USAGE;
            o->grace = (unsigned)number;
        }
    }
    if (more < 0)
        return CLI_USAGE;
    return o->federation ? -1 : cli_usage("serve", "needs a FEDERATION");
}

/* example.txt beside federation.yaml; the caller frees; NULL: none. */
static char *example_beside(const char *federation)
{
    char *path = NULL;
    if (ft_path_is_folder(federation)) {
        path = ft_path_join(federation, "example.txt");
    } else {
        const char *slash = strrchr(federation, '/');
        char *folder = slash ? strndup(federation, (size_t)(slash - federation) + 1) : strdup(".");
        path = folder ? ft_path_join(folder, "example.txt") : NULL;
        free(folder);
    }
    if (path && !ft_path_exists(path)) {
        free(path);
        path = NULL;
    }
    return path;
}

/* Waits for SIGTERM or SIGINT, which all threads have blocked; a second one ends the
 * process at once. */
static void wait_for_signal(const sigset_t *signals)
{
    int number;
    while (sigwait(signals, &number) != 0)
        ;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
}

int cli_serve(int argc, char **argv)
{
    serve_options o = {.grace = 10};
    const int early = read_options(argc, argv, &o);
    if (early >= 0 || !o.federation)
        return early;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread is started */
    ft_status st = {0};
    ft_federation *federation = NULL;
    ft_server *server = NULL;
    char *example = example_beside(o.federation);
    o.server.example = example;
    o.server.log = o.quiet ? NULL : log_line;
    ft_code rc = ft_federation_open(&federation, o.federation, &st);
    if (!rc)
        rc = ft_server_start(&server, federation, &o.server, &st);
    if (!rc) {
        printf("flextrace: serving %s\n", ft_server_address(server));
        fflush(stdout);
        wait_for_signal(&signals);
        ft_server_stop(server, o.grace);
    }
    ft_federation_close(federation);
    free(example);
    return rc ? cli_fail(&st) : CLI_OK;
}
