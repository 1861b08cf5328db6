/* flextrace chat: a conversation in the terminal, or line by line through a pipe.
 *
 * Each turn renders the whole conversation by the chat template and generates the next
 * answer; what was interrupted stays in the conversation as far as it came. */
#include "api/cli/cli.h"
#include "api/cli/cli_model_args.h"
#include "api/cli/cli_render.h"

#include "base/ft_buffer.h"
#include "model/ft_generate.h"
#include "text/ft_chat_template.h"
#include "tracer/ft_federation.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cli_command cli_chat;

static const char help[] =
    "Usage: flextrace chat MODEL|FEDERATION [OPTIONS]\n\n"
    "A conversation with the model. Each line that you write is one message (a \\ at its end\n"
    "goes on in the next line); the answer comes as it is made, on a terminal each token in\n"
    "the colour of the owner whose expert had the greatest share in it. Ctrl-C stops an answer\n"
    "and keeps what was written; at the prompt it ends the conversation. Through a pipe each\n"
    "line of input is answered in turn.\n\n"
    "  /quit                ends (so does the end of the input)\n"
    "  /reset               begins a new conversation\n\n"
    "  --system TEXT        what the conversation begins with\n"
    "  --chat-template T    chatml, olmo2, tulu, olmo3 or olmo3-think (default: the federation's,\n"
    "                       else the one that the checkpoint's own template equals)\n"
    "  -n, --new-tokens N   at most N tokens an answer (default: what the context leaves)\n"
    "  --temperature T      0: always the most probable token (default); 1: as the model says\n"
    "  --top-k K            draw among the K most probable (default 0: all)\n"
    "  --top-p P            draw among the most probable that make up P (default 1: all)\n"
    "  --min-p P            draw among what is at least P times as probable as the best (default 0)\n"
    "  --seed S             of the draws (default: a fresh one)\n"
    "  --without LIST       as if these experts did not exist: numbers, or owners' names in a\n"
    "                       federation; separated by commas\n"
    "  --compute TYPE       float32: exact (default); bfloat16: bfloat16 weights times inputs\n"
    "                       rounded to it, faster\n"
    "  --kv-type TYPE       of the key-value cache: float32 (default), float16, bfloat16\n"
    "  --kv-memory SIZE     what it may grow to, such as 2G (default: an eighth of the machine)\n"
    "  --threads N          0: one for each processor (default)\n\n"
    "Examples:\n"
    "  flextrace chat demo/federation.yaml --chat-template chatml\n"
    "  flextrace chat models/FlexOlmo-7x7B-1T-RT --temperature 0.7 --top-p 0.95\n"
    "  printf 'Who are you?\\n' | flextrace chat demo/model --chat-template olmo2 -n 40\n";

typedef struct chat {
    const char *source, *without_list, *system, *template_name;
    cli_engine how;
    long long new_tokens, threads; /* new_tokens -1: the default */
    ft_sampling sampling;
    int seeded, terminal; /* terminal: a person at both ends */
    uint64_t without;
    /* What they name. The federation owns model and tokenizer where there is one. */
    ft_federation *federation;
    ft_snapshot *snapshot;
    ft_model *own_model;
    ft_tokenizer *own_tokenizer;
    ft_trace_scope scope;
    ft_chat_template *template;
    ft_encoder *encoder;
    ft_pool *pool;
    ft_engine *engine; /* its prefix cache has the conversation so far */
    cli_view view;
    uint32_t turn_end; /* FT_NO_TOKEN: the end-of-text token alone */
    /* The conversation: texts are owned. */
    ft_chat_message *messages;
    size_t count, capacity;
} chat;

/* --- Options ----------------------------------------------------------------------- */

static int take_option(chat *c, const char *name, const char *value)
{
    const char *me = "chat";
    if (!strcmp(name, "system")) {
        c->system = value;
    } else if (!strcmp(name, "chat-template")) {
        c->template_name = value;
    } else if (!strcmp(name, "new-tokens")) {
        return cli_integer(me, name, value, 1, INT32_MAX, &c->new_tokens);
    } else if (cli_is_sampling_option(name)) {
        return cli_take_sampling_option(me, name, value, &c->sampling, &c->seeded);
    } else if (!strcmp(name, "without")) {
        c->without_list = value;
    } else if (cli_is_engine_option(name)) {
        return cli_take_engine_option(me, name, value, &c->how);
    } else {
        return cli_integer(me, name, value, 0, 1024, &c->threads);
    }
    return 1;
}

/* --- Opening ------------------------------------------------------------------------ */

static ft_code open_source(chat *c, ft_status *st)
{
    ft_code rc;
    if (cli_is_federation(c->source)) {
        rc = ft_federation_open(&c->federation, c->source, st);
        if (!rc) {
            c->snapshot = ft_federation_snapshot(c->federation);
            c->scope = *ft_snapshot_scope(c->snapshot);
        }
        if (!rc && c->without_list)
            rc = ft_federation_experts(c->federation, c->without_list, &c->without, st);
        if (!rc)
            c->without |= ft_federation_opted_out(c->federation);
        if (!rc && !c->template_name)
            c->template_name = ft_federation_chat_template(c->federation);
    } else {
        rc = ft_model_open(&c->own_model, c->source, st);
        if (!rc)
            rc = ft_tokenizer_open(&c->own_tokenizer, c->source, st);
        c->scope.model = c->own_model;
        c->scope.tokenizer = c->own_tokenizer;
    }
    if (!rc && (!c->scope.model || !c->scope.tokenizer))
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: a conversation needs a model and its tokenizer", c->source);
    return rc;
}

/* The refusal names the way out, which here is an option. */
static ft_code open_template(chat *c, ft_status *st)
{
    const ft_code rc = ft_chat_template_open(&c->template, ft_model_folder(c->scope.model), c->template_name, st);
    if (rc == FT_ERR_NOT_FOUND)
        return ft_fail(st, rc, "%s: the model has no chat template; choose one with --chat-template: %s",
                       ft_model_folder(c->scope.model), ft_chat_template_names());
    if (rc == FT_ERR_UNSUPPORTED)
        ft_status_prefix(st, "choose one with --chat-template, for");
    return rc;
}

static ft_code open_all(chat *c, ft_status *st)
{
    ft_code rc = open_source(c, st);
    if (!rc)
        rc = open_template(c, st);
    if (!rc)
        rc = ft_encoder_new(&c->encoder, c->scope.tokenizer, st);
    if (!rc)
        rc = ft_pool_new(&c->pool, (unsigned)c->threads, st);
    if (!rc) {
        const ft_engine_options from = c->federation ? ft_federation_engine(c->federation) : (ft_engine_options){0};
        const ft_engine_options how = cli_engine_options(&c->how, &from);
        rc = ft_engine_new(&c->engine, c->scope.model, c->pool, &how, st);
    }
    if (rc)
        return rc;
    const char *end = ft_chat_template_turn_end(c->template);
    c->turn_end = *end ? ft_tokenizer_token_id(c->scope.tokenizer, end) : FT_NO_TOKEN;
    c->view = cli_view_make(&c->scope);
    c->terminal = isatty(0) && isatty(1);
    if (!c->seeded)
        c->sampling.seed = ft_random_seed() >> 11;
    return FT_OK;
}

static void drop_messages(chat *c, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++)
        free((void *)(uintptr_t)c->messages[i].content);
    memmove(c->messages + from, c->messages + from + n, (c->count - from - n) * sizeof(*c->messages));
    c->count -= n;
}

static void close_all(chat *c)
{
    if (c->count)
        drop_messages(c, 0, c->count);
    free(c->messages);
    ft_chat_template_close(c->template);
    ft_encoder_free(c->encoder);
    ft_engine_free(c->engine);
    ft_pool_free(c->pool);
    ft_snapshot_release(c->snapshot);
    ft_federation_close(c->federation);
    ft_tokenizer_close(c->own_tokenizer);
    ft_model_close(c->own_model);
}

/* --- One turn --------------------------------------------------------------------------- */

static ft_code add_message(chat *c, const char *role, const char *text, size_t n, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&c->messages, &c->capacity, c->count + 1, sizeof(*c->messages), st);
    char *own = rc ? NULL : malloc(n + 1);
    if (!own)
        return rc ? rc : ft_fail(st, FT_ERR_MEM, "out of memory");
    memcpy(own, text, n);
    own[n] = '\0';
    c->messages[c->count++] = (ft_chat_message){role, own, n};
    return FT_OK;
}

/* The conversation's ids; the oldest turns give way where the context is too small, which
 * is said. */
static ft_code make_prompt(chat *c, ft_encoding *e, ft_status *st)
{
    const size_t context = ft_model_get_config(c->scope.model)->max_position;
    const size_t kept = c->system ? 1 : 0;
    const size_t room = c->new_tokens < 0 ? 1 : (size_t)c->new_tokens < context ? (size_t)c->new_tokens : context - 1;
    size_t dropped = 0;
    for (;;) {
        ft_buffer text = {0};
        ft_code rc = ft_chat_template_render(c->template, c->messages, c->count, 1, &text, st);
        if (!rc)
            rc = ft_encoder_encode_ids(c->encoder, text.data ? text.data : "", text.size, e, st);
        ft_buffer_release(&text);
        if (rc)
            return rc;
        if (e->count + room <= context)
            break;
        if (c->count <= kept + 1)
            return ft_fail(st, FT_ERR_LIMIT, "this message is %zu tokens, and the context of the model %zu", e->count,
                           context);
        const size_t n = c->count > kept + 2 ? 2 : 1; /* a question and its answer */
        drop_messages(c, kept, n);
        dropped += n;
    }
    if (dropped)
        fprintf(stderr, "flextrace: the context is full: the oldest %zu messages are forgotten\n", dropped);
    return FT_OK;
}

typedef struct shown {
    size_t bytes, ids;
} shown;

/* What is new of the answer; a pipe gets the text as it is. */
static void show_new(chat *c, const ft_generation *g, size_t prompt, shown *s)
{
    const ft_generation_state now = ft_generation_get(g);
    if (!isatty(1)) {
        fwrite(now.text + s->bytes, 1, now.text_bytes - s->bytes, stdout);
        s->bytes = now.text_bytes;
    }
    const ft_routing routing = ft_generation_routing(g);
    while (s->bytes < now.text_bytes) {
        const int own = s->ids < now.count;
        const size_t end = own ? now.text_ends[s->ids] : now.text_bytes;
        const size_t token = prompt + (own ? s->ids : now.count - 1);
        if (end > s->bytes)
            cli_stream(&c->view, now.text + s->bytes, end - s->bytes, cli_top_expert(&routing, token, token + 1));
        s->bytes = end > s->bytes ? end : s->bytes;
        s->ids += (size_t)own;
    }
    fflush(stdout);
}

static ft_code answer(chat *c, ft_status *st)
{
    ft_encoding e = {0};
    ft_generation *g = NULL;
    shown s = {0};
    ft_code rc = make_prompt(c, &e, st);
    const ft_model_config *config = ft_model_get_config(c->scope.model);
    const size_t room = config->max_position - (rc ? 0 : e.count);
    const ft_generate_request r = {.prompt = e.ids,
                                   .prompt_count = e.count,
                                   .max_new_tokens =
                                       c->new_tokens < 0 || (size_t)c->new_tokens > room ? room : (size_t)c->new_tokens,
                                   .sampling = c->sampling,
                                   .without = c->without,
                                   .stop_ids = &c->turn_end,
                                   .stop_id_count = c->turn_end != FT_NO_TOKEN,
                                   .capture_routing = c->view.colour && config->experts > 0};
    if (!rc)
        rc = ft_generation_open_on(&g, c->engine, c->scope.tokenizer, &r, st);
    while (!rc && ft_generation_get(g).finish == FT_FINISH_NONE) {
        rc = ft_generation_step(g, st);
        if (!rc && cli_interrupted())
            ft_generation_abort(g);
        if (!rc)
            show_new(c, g, e.count, &s);
    }
    if (!rc) {
        const ft_generation_state now = ft_generation_get(g);
        if (isatty(1))
            cli_stream_end(&c->view);
        else
            putchar('\n');
        rc = add_message(c, "assistant", now.text, now.text_bytes, st);
    }
    c->sampling.seed++; /* the next answer has its own stream */
    ft_generation_close(g);
    ft_encoding_release(&e);
    return rc;
}

/* --- The conversation --------------------------------------------------------------------- */

/* Until a line can be read, or an interrupt comes: a read that has begun to wait would not
 * see one that came just before it. 0: interrupted. */
static int wait_for_line(const chat *c)
{
    enum { LOOK_MS = 100 };
    struct pollfd in = {.fd = 0, .events = POLLIN};
    while (c->terminal && !cli_interrupted() && poll(&in, 1, LOOK_MS) == 0)
        ;
    return !cli_interrupted();
}

/* One message: lines as long as they end in "\". 0: the input has ended. */
static int read_message(const chat *c, ft_buffer *out)
{
    char *line = NULL;
    size_t room = 0;
    int got = 0, more = 1;
    ft_buffer_reset(out);
    while (more) {
        if (c->terminal) {
            fputs(got ? ". " : "> ", stdout);
            fflush(stdout);
        }
        ssize_t n = wait_for_line(c) ? getline(&line, &room, stdin) : -1;
        if (n < 0)
            break;
        got = 1;
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        more = n && line[n - 1] == '\\';
        if (ft_buffer_append(out, line, (size_t)(n - more), NULL) != FT_OK ||
            (more && ft_buffer_append(out, "\n", 1, NULL) != FT_OK))
            break;
    }
    free(line);
    return got;
}

static ft_code begin(chat *c, ft_status *st)
{
    if (c->count)
        drop_messages(c, 0, c->count);
    return c->system ? add_message(c, "system", c->system, strlen(c->system), st) : FT_OK;
}

static int is_blank(const ft_buffer *b)
{
    return b->size == strspn(b->size ? b->data : "", " \t\n");
}

/* One message and its answer. -1: go on; else an exit code. */
static int turn(chat *c, const ft_buffer *line)
{
    ft_status st = {0};
    if (is_blank(line))
        return -1;
    if (!strcmp(line->data, "/quit") || !strcmp(line->data, "/exit"))
        return CLI_OK;
    if (!strcmp(line->data, "/reset"))
        return begin(c, &st) ? cli_fail(&st) : -1;
    if (line->data[0] == '/' && !strchr(line->data, ' ')) {
        fprintf(stderr, "flextrace: '%.40s' is neither /quit nor /reset\n", line->data);
        return -1;
    }
    ft_code rc = add_message(c, "user", line->data, line->size, &st);
    if (!rc)
        rc = answer(c, &st);
    if (rc == FT_ERR_LIMIT) { /* too long: the conversation goes on without it */
        fprintf(stderr, "flextrace: %s\n", st.msg);
        drop_messages(c, c->count - 1, 1);
        return -1;
    }
    if (rc)
        return cli_fail(&st);
    if (cli_interrupted() == SIGTERM || (cli_interrupted() && !c->terminal)) {
        (void)ft_fail(&st, FT_ERR_CANCELLED, "interrupted");
        return cli_fail(&st);
    }
    cli_interrupt_forget(); /* it stopped this answer alone */
    return -1;
}

static int run(chat *c)
{
    ft_status st = {0};
    ft_buffer line = {0};
    ft_code rc = open_all(c, &st);
    if (!rc)
        rc = begin(c, &st);
    if (rc)
        return cli_fail(&st);
    if (c->terminal && c->view.colour)
        cli_render_legend(&c->view, ft_model_get_config(c->scope.model)->experts, c->without);
    cli_catch_interrupts();
    if (c->terminal)
        setvbuf(stdin, NULL, _IONBF, 0); /* what was typed ahead must show to poll */
    int code = -1;
    while (code < 0 && !cli_interrupted() && read_message(c, &line))
        code = turn(c, &line);
    if (code < 0 && c->terminal)
        putchar('\n');
    ft_buffer_release(&line);
    if (code < 0 && cli_interrupted() == SIGTERM) {
        (void)ft_fail(&st, FT_ERR_CANCELLED, "interrupted");
        code = cli_fail(&st);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        (void)ft_fail(&st, FT_ERR_IO, "standard output: %s", strerror(errno));
        return cli_fail(&st);
    }
    return code < 0 ? CLI_OK : code;
}

int cli_chat(int argc, char **argv)
{
    static const cli_option options[] = {{"system", 0, 1},      {"chat-template", 0, 1}, {"new-tokens", 'n', 1},
                                         {"temperature", 0, 1}, {"top-k", 0, 1},         {"top-p", 0, 1},
                                         {"min-p", 0, 1},       {"seed", 0, 1},          {"without", 0, 1},
                                         {"threads", 0, 1},     {"help", 'h', 0},        CLI_ENGINE_OPTIONS,
                                         {NULL, 0, 0}};
    cli_args a = {.subcommand = "chat", .options = options, .argc = argc, .argv = argv};
    chat c = {.new_tokens = -1, .sampling = {.top_p = 1}};
    const char *name, *value;
    int more;
    while ((more = cli_next(&a, &name, &value)) > 0) {
        if (name && !strcmp(name, "help")) {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (!name && c.source)
            return cli_usage("chat", "one MODEL or FEDERATION, not also '%.60s'", value);
        if (!name)
            c.source = value;
        else if (!take_option(&c, name, value))
            return CLI_USAGE;
    }
    if (more < 0)
        return CLI_USAGE;
    if (!c.source)
        return cli_usage("chat", "needs a MODEL or FEDERATION");
    if (c.without_list && !cli_is_federation(c.source) && !cli_experts("chat", c.without_list, &c.without))
        return CLI_USAGE;
    const int code = run(&c);
    close_all(&c);
    return code;
}
