/* A checkpoint's chat template of any bytes is recognized or refused, and what is recognized
 * renders, never a crash. */
#include "text/ft_chat_template.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const ft_chat_message talk[] = {
        {"system", "S", 1}, {"user", "", 0}, {"assistant", "\xff{{", 3}, {"user", "U", 1}};
    ft_chat_template *t;
    ft_status st = {0};
    ft_buffer out = {0};
    if (ft_chat_template_recognize(&t, (const char *)data, n, "<s>", "</s>", &st) == FT_OK) {
        if (ft_chat_template_render(t, talk, 4, 1, &out, &st) != FT_OK)
            abort();
    } else if (t || !st.msg[0]) {
        abort(); /* a refusal has words, and leaves nothing */
    }
    ft_buffer_release(&out);
    ft_chat_template_close(t);
    return 0;
}
