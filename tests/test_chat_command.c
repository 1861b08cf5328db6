/* flextrace chat: through a pipe, and on a terminal (a pseudo one). */
#include "tests/ft_test.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "model/ft_generate.h"
#include "text/ft_chat_template.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define need_demo()                                                                                                    \
    do {                                                                                                               \
        if (!ft_path_exists(ft_test_source("demo/model/model.safetensors")))                                           \
            skip();                                                                                                    \
    } while (0)

/* What the library answers to a conversation: the caller frees. */
static char *answer_to(const ft_model *m, const ft_tokenizer *t, const ft_chat_message *messages, size_t n,
                       size_t tokens)
{
    ft_status st = {0};
    ft_chat_template *chat;
    ft_encoder *encoder;
    ft_encoding e = {0};
    ft_buffer text = {0};
    ft_generation *g;
    assert_ok(ft_chat_template_open(&chat, ft_test_source("demo/model"), "olmo2", &st), st);
    assert_ok(ft_chat_template_render(chat, messages, n, 1, &text, &st), st);
    assert_ok(ft_encoder_new(&encoder, t, &st), st);
    assert_ok(ft_encoder_encode(encoder, text.data, text.size, &e, &st), st);
    const ft_generate_request r = {
        .prompt = e.ids, .prompt_count = e.count, .max_new_tokens = tokens, .sampling = {.top_p = 1}};
    assert_ok(ft_generation_open(&g, m, t, NULL, &r, &st), st);
    while (ft_generation_get(g).finish == FT_FINISH_NONE)
        assert_ok(ft_generation_step(g, &st), st);
    const ft_generation_state now = ft_generation_get(g);
    char *out = strndup(now.text, now.text_bytes);
    ft_generation_close(g);
    ft_encoding_release(&e);
    ft_encoder_free(encoder);
    ft_buffer_release(&text);
    ft_chat_template_close(chat);
    return out;
}

static void a_piped_conversation_is_remembered_until_it_is_reset(void **state)
{
    (void)state;
    need_demo();
    char command[600], *out, *err, expected[4000];
    ft_status st = {0};
    ft_model *m;
    ft_tokenizer *t;
    assert_ok(ft_model_open(&m, ft_test_source("demo/model"), &st), st);
    assert_ok(ft_tokenizer_open(&t, ft_test_source("demo/model"), &st), st);
    snprintf(command, sizeof(command),
             "printf 'In the beginning\\n\\nand \\\\\\nthen\\n/reset\\nHello\\n/quit\\nunread\\n' | $FLEXTRACE chat %s "
             "--chat-template olmo2 --system Brief. -n 8 --threads 1",
             ft_test_source("demo/model"));
    assert_int_equal(ft_test_shell(command, &out, &err), 0);
    ft_chat_message talk[] = {
        {"system", "Brief.", 6}, {"user", "In the beginning", 16}, {"assistant", NULL, 0}, {"user", "and \nthen", 9}};
    char *first = answer_to(m, t, talk, 2, 8);
    talk[2].content = first;
    talk[2].content_bytes = strlen(first);
    char *second = answer_to(m, t, talk, 4, 8);
    const ft_chat_message again[] = {{"system", "Brief.", 6}, {"user", "Hello", 5}};
    char *third = answer_to(m, t, again, 2, 8);
    snprintf(expected, sizeof(expected), "%s\n%s\n%s\n", first, second, third);
    assert_string_equal(out, expected);
    assert_string_equal(err, "");
    free(first);
    free(second);
    free(third);
    free(out);
    free(err);
    ft_tokenizer_close(t);
    ft_model_close(m);
}

static void the_oldest_turns_give_way_when_the_context_is_full(void **state)
{
    (void)state;
    need_demo();
    char command[800], *out, *err;
    snprintf(command, sizeof(command),
             "{ seq -s ' ' 100 200; seq -s ' ' 200 300; seq -s ' ' 1000 3000; echo last; } | $FLEXTRACE chat %s "
             "--chat-template olmo2 -n 500 --threads 1",
             ft_test_source("demo/model"));
    assert_int_equal(ft_test_shell(command, &out, &err), 0);
    assert_non_null(strstr(err, "are forgotten"));
    assert_non_null(strstr(err, "the context of the model 1024"));
    free(out);
    free(err);
}

static void what_is_missing_is_one_line_with_the_way_out(void **state)
{
    (void)state;
    need_demo();
    char command[500], *err;
    snprintf(command, sizeof(command), "$FLEXTRACE chat %s </dev/null", ft_test_source("demo/model"));
    assert_int_equal(ft_test_shell(command, NULL, &err), 3);
    assert_non_null(strstr(err, "--chat-template"));
    free(err);
    snprintf(command, sizeof(command), "$FLEXTRACE chat %s --chat-template nothing </dev/null",
             ft_test_source("demo/model"));
    assert_int_equal(ft_test_shell(command, NULL, &err), 2);
    assert_non_null(strstr(err, "chatml"));
    free(err);
    assert_int_equal(ft_test_shell("$FLEXTRACE chat </dev/null", NULL, &err), 2);
    free(err);
}

/* --- On a terminal ------------------------------------------------------------------- */

/* The command with a terminal at both ends; *side is ours. */
static pid_t start_on_terminal(int *side)
{
    *side = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(*side >= 0 && grantpt(*side) == 0 && unlockpt(*side) == 0);
    char name[100];
    snprintf(name, sizeof(name), "%s", ptsname(*side));
    const pid_t pid = fork();
    if (pid == 0) {
        setsid();
        const int fd = open(name, O_RDWR); /* becomes its terminal */
        dup2(fd, 0);
        dup2(fd, 1);
        dup2(fd, 2);
        setenv("TERM", "xterm", 1);
        unsetenv("NO_COLOR");
        execl(FT_BINARY, "flextrace", "chat", ft_test_source("demo/model"), "--chat-template", "olmo2", "--threads",
              "1", (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* Reads until `mark` stands in what came after `from`; fails after half a minute. */
static void wait_for(int side, ft_buffer *seen, size_t from, const char *mark)
{
    while (!seen->data || seen->size < from || !strstr(seen->data + from, mark)) {
        struct pollfd p = {.fd = side, .events = POLLIN};
        char piece[4096];
        if (poll(&p, 1, 30000) <= 0)
            fail_msg("'%s' did not come; what came: %s", mark, seen->data ? seen->data : "");
        const ssize_t n = read(side, piece, sizeof(piece));
        if (n <= 0)
            fail_msg("the command ended before '%s'; what came: %s", mark, seen->data ? seen->data : "");
        assert_int_equal(ft_buffer_append(seen, piece, (size_t)n, NULL), FT_OK);
    }
}

static void type(int side, const char *text)
{
    assert_int_equal(write(side, text, strlen(text)), (ssize_t)strlen(text));
}

static void an_interrupt_stops_the_answer_and_the_conversation_goes_on(void **state)
{
    (void)state;
    need_demo();
    int side, status;
    ft_buffer seen = {0};
    const pid_t pid = start_on_terminal(&side);
    wait_for(side, &seen, 0, "> ");
    size_t at = seen.size;
    type(side, "In the beginning\n");
    wait_for(side, &seen, at, "\x1b["); /* the first coloured word */
    type(side, "\x03");
    at = seen.size;
    wait_for(side, &seen, at, "> ");
    at = seen.size;
    type(side, "and then\n");
    wait_for(side, &seen, at, "\x1b[");
    type(side, "\x03");
    wait_for(side, &seen, at, "\n> ");
    type(side, "/quit\n");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(side);
    ft_buffer_release(&seen);
}

static void an_interrupt_at_the_prompt_ends_the_conversation(void **state)
{
    (void)state;
    need_demo();
    int side, status;
    ft_buffer seen = {0};
    const pid_t pid = start_on_terminal(&side);
    wait_for(side, &seen, 0, "> ");
    type(side, "\x03");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(side);
    ft_buffer_release(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_piped_conversation_is_remembered_until_it_is_reset),
        cmocka_unit_test(the_oldest_turns_give_way_when_the_context_is_full),
        cmocka_unit_test(what_is_missing_is_one_line_with_the_way_out),
        cmocka_unit_test(an_interrupt_stops_the_answer_and_the_conversation_goes_on),
        cmocka_unit_test(an_interrupt_at_the_prompt_ends_the_conversation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
