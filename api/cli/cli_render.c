#include "api/cli/cli_render.h"

#include "api/cli/cli.h"
#include "base/ft_utf8.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

enum { MOST_COLUMNS = 100, BAR = 20, LABEL = 16 };

static const char reset[] = "\x1b[0m", dim[] = "\x1b[2m", bold[] = "\x1b[1m";

cli_view cli_view_make(const ft_trace_scope *scope)
{
    const int columns = cli_columns(), terminal = isatty(1);
    return (cli_view){.scope = scope,
                      .colour = cli_colour(1),
                      .wrap = terminal,
                      .columns = !terminal                ? 80
                                 : columns > MOST_COLUMNS ? MOST_COLUMNS
                                 : columns < 30           ? 30
                                                          : (size_t)columns};
}

/* Drawing goes on without what there was no memory for. */
static void add(ft_buffer *out, const char *text, size_t n)
{
    if (ft_buffer_append(out, text, n, NULL) != FT_OK)
        return;
}

static void add_text(ft_buffer *out, const char *text)
{
    add(out, text, strlen(text));
}

/* --- Characters ------------------------------------------------------------------ */

/* Marks that change the direction of what follows would let a document rearrange the screen. */
static int turns_direction(uint32_t c)
{
    return c == 0x061C || c == 0x200E || c == 0x200F || (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) ||
           c == 0xFEFF || c == 0x2028 || c == 0x2029;
}

void cli_harmless(ft_buffer *out, const char *text, size_t n, int keep_lines)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < n;) {
        const ft_utf8_step s = ft_utf8_next(text + i, n - i);
        const uint32_t c = s.valid ? s.code_point : 0xFFFD;
        i += s.length;
        if (c == '\n' || c == '\t')
            rc = ft_utf8_append(out, keep_lines ? c : ' ', NULL);
        else if (c == '\r')
            rc = keep_lines ? FT_OK : ft_utf8_append(out, ' ', NULL);
        else if (c < 0x20 || c == 0x7F) /* the control pictures block shows what it was */
            rc = ft_utf8_append(out, c == 0x7F ? 0x2421 : 0x2400 + c, NULL);
        else if (c >= 0x80 && c < 0xA0)
            rc = ft_utf8_append(out, 0xFFFD, NULL);
        else if (!turns_direction(c))
            rc = ft_utf8_append(out, c, NULL);
    }
}

static size_t character_width(uint32_t c)
{
    const int w = utf8proc_charwidth((utf8proc_int32_t)c);
    return w > 0 ? (size_t)w : 0;
}

/* Columns of harmless text, colours not among it. */
static size_t width_of(const char *text, size_t n)
{
    size_t width = 0;
    for (size_t i = 0; i < n;) {
        const ft_utf8_step s = ft_utf8_next(text + i, n - i);
        width += character_width(s.code_point);
        i += s.length;
    }
    return width;
}

/* --- Colours --------------------------------------------------------------------- */

/* Readable on light and dark ground, and apart from each other. */
static void colour_code(int expert, char out[16])
{
    static const int wide[] = {33, 166, 35, 162, 136, 37, 99, 160, 28, 131, 67, 172};
    static const int narrow[] = {34, 31, 32, 35, 33, 36};
    const char *term = getenv("TERM"), *more = getenv("COLORTERM");
    const int many = (term && strstr(term, "256color")) || (more && *more);
    if (expert == 0)
        snprintf(out, 16, many ? "\x1b[38;5;245m" : "\x1b[39m"); /* public: grey */
    else if (many)
        snprintf(out, 16, "\x1b[38;5;%dm", wide[(size_t)(expert - 1) % (sizeof(wide) / sizeof(wide[0]))]);
    else
        snprintf(out, 16, "\x1b[%dm", narrow[(size_t)(expert - 1) % (sizeof(narrow) / sizeof(narrow[0]))]);
}

static void paint(const cli_view *v, const char *code)
{
    if (v->colour)
        fputs(code, stdout);
}

static void paint_expert(const cli_view *v, int expert)
{
    char code[16];
    if (expert < 0 || !v->colour)
        return;
    colour_code(expert, code);
    fputs(code, stdout);
}

static int expert_of(const cli_view *v, const char *owner)
{
    for (size_t o = 0; o < v->scope->owner_count; o++)
        if (!strcmp(v->scope->owners[o].name, owner))
            return v->scope->owners[o].expert;
    return -1;
}

int cli_top_expert(const ft_routing *r, size_t start, size_t end)
{
    double shares[FT_MAX_EXPERTS];
    int best = -1;
    if (!r || !r->experts || r->experts > FT_MAX_EXPERTS)
        return -1;
    ft_routing_shares(r, start, end, shares);
    for (size_t e = 0; e < r->experts; e++)
        if (shares[e] > 0 && (best < 0 || shares[e] > shares[best]))
            best = (int)e;
    return best;
}

/* --- Streaming -------------------------------------------------------------------- */

static void start_line(cli_view *v)
{
    putchar('\n');
    v->at = 0;
}

/* Prints the waiting word; on a new line where this one is full. */
static void flush_word(cli_view *v)
{
    const char *text = v->word.data;
    size_t n = v->word.size;
    if (!n)
        return;
    if (v->wrap && v->at && v->at + v->word_width > v->columns) {
        start_line(v);
        /* The new line stands for the word's space; colours may stand before that. */
        size_t codes = 0;
        while (codes < n && text[codes] == '\x1b')
            codes += strcspn(text + codes, "m") + 1;
        if (codes < n && text[codes] == ' ') {
            fwrite(text, 1, codes, stdout);
            n -= codes + 1;
            text += codes + 1;
            v->word_width--;
        }
    }
    fwrite(text, 1, n, stdout);
    v->at += v->word_width;
    v->word_width = 0;
    ft_buffer_reset(&v->word);
}

void cli_stream(cli_view *v, const char *text, size_t n, int expert)
{
    ft_buffer clean = {0};
    cli_harmless(&clean, text, n, 1);
    if (v->colour && clean.size && v->in_colour != expert + 1) {
        char code[16] = "";
        if (expert >= 0)
            colour_code(expert, code);
        if (v->in_colour)
            add_text(&v->word, reset);
        add_text(&v->word, expert == CLI_PROMPT ? bold : code);
        v->in_colour = expert + 1;
    }
    for (size_t i = 0; i < clean.size;) {
        const ft_utf8_step s = ft_utf8_next(clean.data + i, clean.size - i);
        const uint32_t c = s.code_point;
        if (c == ' ' || c == '\n' || c == '\t')
            flush_word(v);
        if (c == '\n') {
            start_line(v);
        } else if (ft_buffer_append(&v->word, c == '\t' ? "    " : clean.data + i, c == '\t' ? 4 : s.length, NULL) ==
                   FT_OK) {
            v->word_width += c == '\t' ? 4 : character_width(c);
        }
        i += s.length;
        if (v->wrap && v->word_width >= v->columns)
            flush_word(v);
    }
    if (!v->wrap)
        flush_word(v);
    ft_buffer_release(&clean);
    fflush(stdout);
}

void cli_stream_end(cli_view *v)
{
    flush_word(v);
    if (v->in_colour)
        paint(v, reset);
    v->in_colour = 0;
    if (v->at)
        start_line(v);
    ft_buffer_release(&v->word);
    fflush(stdout);
}

/* --- Lines ------------------------------------------------------------------------- */

/* Prints harmless text from column `indent` on, breaking at spaces. */
static void print_wrapped(cli_view *v, const char *text, size_t n, size_t indent)
{
    if (!text) /* nothing, for lack of memory */
        return;
    size_t i = 0;
    while (i < n) {
        size_t end = i;
        while (end < n && text[end] == ' ')
            end++;
        while (end < n && text[end] != ' ' && text[end] != '\x1b')
            end++;
        size_t width = width_of(text + i, end - i);
        if (v->at > indent && v->at + width > v->columns) {
            start_line(v);
            printf("%*s", (int)indent, "");
            v->at = indent;
            while (i < end && text[i] == ' ')
                i++, width--;
        }
        /* A word longer than a line is cut where the line ends. */
        for (; i < end;) {
            const ft_utf8_step s = ft_utf8_next(text + i, end - i);
            if (v->at + character_width(s.code_point) > v->columns) {
                start_line(v);
                printf("%*s", (int)indent, "");
                v->at = indent;
            }
            fwrite(text + i, 1, s.length, stdout);
            v->at += character_width(s.code_point);
            i += s.length;
        }
        if (i < n && text[i] == '\x1b') { /* only what this file put there */
            const char *m = memchr(text + i, 'm', n - i);
            const size_t length = m ? (size_t)(m - (text + i)) + 1 : n - i;
            fwrite(text + i, 1, length, stdout);
            i += length;
        }
    }
}

/* Harmless copy of a JSON string, runs of spaces as one, cut to `most` columns. */
static char *short_text(const char *text, size_t n, size_t most)
{
    ft_buffer clean = {0}, out = {0};
    size_t width = 0;
    cli_harmless(&clean, text, n, 0);
    for (size_t i = 0; i < clean.size;) {
        const ft_utf8_step s = ft_utf8_next(clean.data + i, clean.size - i);
        const int again = s.code_point == ' ' && (!out.size || out.data[out.size - 1] == ' ');
        if (!again && width + character_width(s.code_point) + 1 > most) {
            add_text(&out, "\xE2\x80\xA6");
            break;
        }
        if (!again && ft_buffer_append(&out, clean.data + i, s.length, NULL) == FT_OK)
            width += character_width(s.code_point);
        i += s.length;
    }
    while (out.size && out.data[out.size - 1] == ' ')
        out.data[--out.size] = '\0';
    ft_buffer_release(&clean);
    return out.data ? out.data : calloc(1, 1);
}

static char *short_field(const json_t *object, const char *field, size_t most)
{
    const json_t *s = json_object_get(object, field);
    return short_text(json_is_string(s) ? json_string_value(s) : "", json_string_length(s), most);
}

/* "scripture" in its colour. */
static void print_owner(cli_view *v, const char *owner, int expert, size_t most)
{
    char *name = short_text(owner, strlen(owner), most);
    if (!name)
        return;
    paint_expert(v, expert);
    fputs(name, stdout);
    v->at += width_of(name, strlen(name));
    if (v->colour && expert >= 0)
        fputs(reset, stdout);
    free(name);
}

static void heading(cli_view *v, const char *text)
{
    putchar('\n');
    paint(v, bold);
    fputs(text, stdout);
    paint(v, reset);
    start_line(v);
}

/* A bar of BAR cells in eighths. */
static void print_bar(cli_view *v, double share, int expert)
{
    static const char *const parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const int eighths = (int)(share * BAR * 8 + 0.5), cells = eighths / 8;
    paint_expert(v, expert);
    for (int i = 0; i < cells; i++)
        fputs(v->colour ? "█" : "#", stdout);
    int used = cells;
    if (v->colour && eighths % 8) {
        fputs(parts[eighths % 8], stdout);
        used++;
    }
    if (v->colour && expert >= 0)
        fputs(reset, stdout);
    printf("%*s", BAR - used > 0 ? BAR - used : 0, "");
}

/* --- Owners -------------------------------------------------------------------------- */

/* Every expert with its colour and its share of the whole response. */
static void render_experts(cli_view *v, const json_t *trace)
{
    const json_t *experts = json_object_get(trace, "experts");
    const size_t n = json_array_size(experts);
    if (!n)
        return;
    heading(v, "Whose expert wrote it");
    for (size_t i = 0; i < n; i++) {
        const json_t *e = json_array_get(experts, i), *share = json_object_get(e, "share");
        const char *owner = json_string_value(json_object_get(e, "owner"));
        const char *state = json_string_value(json_object_get(e, "state"));
        const int id = (int)json_integer_value(json_object_get(e, "id"));
        fputs("  ", stdout);
        v->at = 2;
        print_owner(v, owner ? owner : "", id, LABEL);
        printf("%*s ", (int)(v->at < LABEL + 2 ? LABEL + 2 - v->at : 0), "");
        if (state && !strcmp(state, "opted_out")) {
            fputs("took no part", stdout);
        } else if (json_is_number(share)) {
            print_bar(v, json_number_value(share), id);
            printf(" %5.1f %%", 100 * json_number_value(share));
        }
        start_line(v);
    }
}

void cli_render_legend(cli_view *v, size_t experts, uint64_t without)
{
    char fallback[FT_EXPERT_NAME];
    v->at = 0;
    for (size_t e = 0; e < experts && e < FT_MAX_EXPERTS; e++) {
        const char *name = ft_trace_expert_name(v->scope, e, fallback);
        if (without >> e & 1)
            continue;
        if (v->at && v->at + strlen(name) + 2 > v->columns)
            start_line(v);
        else if (v->at)
            v->at += (size_t)printf("  ");
        print_owner(v, name, (int)e, 24);
    }
    start_line(v);
}

/* "scripture 78 %, essays 12 %": the greatest first, what is below 5 % together. */
static void print_shares(cli_view *v, const json_t *shares, size_t indent)
{
    int used[FT_MAX_EXPERTS] = {0};
    double rest = 0;
    const size_t n = json_array_size(shares) < FT_MAX_EXPERTS ? json_array_size(shares) : FT_MAX_EXPERTS;
    for (size_t printed = 0;; printed++) {
        size_t best = n;
        for (size_t e = 0; e < n; e++)
            if (!used[e] && (best == n || json_number_value(json_array_get(shares, e)) >
                                              json_number_value(json_array_get(shares, best))))
                best = e;
        const double share = best < n ? json_number_value(json_array_get(shares, best)) : 0;
        if (best == n || (printed && share < 0.05))
            break;
        char fallback[FT_EXPERT_NAME], percent[24];
        const char *name = ft_trace_expert_name(v->scope, best, fallback);
        used[best] = 1;
        snprintf(percent, sizeof(percent), " %.0f %%", 100 * share);
        if (printed && v->at + strlen(name) + strlen(percent) + 2 > v->columns) {
            start_line(v);
            v->at = (size_t)printf("%*s", (int)indent, "");
        } else if (printed) {
            v->at += (size_t)printf("  ");
        }
        print_owner(v, name, (int)best, 24);
        v->at += (size_t)printf("%s", percent);
    }
    for (size_t e = 0; e < n; e++)
        rest += used[e] ? 0 : json_number_value(json_array_get(shares, e));
    if (rest >= 0.005 && v->at + 14 <= v->columns)
        printf("  others %.0f %%", 100 * rest);
    start_line(v);
}

/* --- Text ------------------------------------------------------------------------------ */

static int token_expert(const json_t *token)
{
    const json_t *shares = json_object_get(token, "shares");
    int best = -1;
    for (size_t e = 0; e < json_array_size(shares); e++) {
        const double share = json_number_value(json_array_get(shares, e));
        if (share > 0 && (best < 0 || share > json_number_value(json_array_get(shares, (size_t)best))))
            best = (int)e;
    }
    return best;
}

void cli_render_text(cli_view *v, const json_t *trace)
{
    const json_t *tokens = json_object_get(trace, "tokens");
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *token = json_array_get(tokens, i), *text = json_object_get(token, "text");
        cli_stream(v, json_string_value(text) ? json_string_value(text) : "", json_string_length(text),
                   token_expert(token));
    }
    cli_stream_end(v);
}

/* "[scripture]". */
static void add_mark(const cli_view *v, ft_buffer *out, int expert)
{
    char fallback[FT_EXPERT_NAME];
    const char *name = ft_trace_expert_name(v->scope, (size_t)expert, fallback);
    add_text(out, out->size ? " [" : "[");
    cli_harmless(out, name, strlen(name), 0);
    add_text(out, "]");
}

/* Without colour: the text again, with the owner's name where it changes. A word is
 * that expert's who had most tokens of it. */
static void render_marked(cli_view *v, const json_t *trace)
{
    const json_t *tokens = json_object_get(trace, "tokens");
    const size_t n = json_array_size(tokens);
    int now = -1;
    ft_buffer out = {0};
    for (size_t i = 0, end; i < n; i = end) {
        int votes[FT_MAX_EXPERTS] = {0}, best = -1;
        ft_buffer word = {0};
        for (end = i; end < n; end++) {
            const json_t *token = json_array_get(tokens, end), *text = json_object_get(token, "text");
            const char *s = json_string_value(text);
            if (end > i && s && (s[0] == ' ' || s[0] == '\n'))
                break;
            const int e = token_expert(token);
            if (e >= 0 && e < FT_MAX_EXPERTS && (best < 0 || ++votes[e] > votes[best]))
                best = e;
            cli_harmless(&word, s ? s : "", json_string_length(text), 0);
        }
        if (best >= 0 && best != now && word.size)
            add_mark(v, &out, best);
        if (best >= 0 && best != now && word.size && word.data[0] != ' ')
            add_text(&out, " ");
        now = best >= 0 ? best : now;
        add(&out, word.data, word.size);
        ft_buffer_release(&word);
    }
    if (now >= 0) {
        heading(v, "The same, with the owner of each part");
        fputs("  ", stdout);
        v->at = 2;
        print_wrapped(v, out.data, out.size, 2);
        start_line(v);
    }
    ft_buffer_release(&out);
}

/* --- Spans ------------------------------------------------------------------------------ */

/* Harmless, on one line, runs of spaces as one. */
static void add_squeezed(ft_buffer *out, const char *text, size_t n)
{
    ft_buffer clean = {0};
    cli_harmless(&clean, text, n, 0);
    for (size_t i = 0; i < clean.size; i++)
        if (clean.data[i] != ' ' || !out->size || out->data[out->size - 1] != ' ')
            add(out, clean.data + i, 1);
    ft_buffer_release(&clean);
}

static int is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* The snippet around its match, the match marked, cut to a few lines. */
static void print_snippet(cli_view *v, const json_t *doc, size_t match_tokens, int expert)
{
    enum { INDENT = 6, CONTEXT = 150 }; /* bytes on each side */
    const json_t *snippet = json_object_get(doc, "snippet");
    const size_t n = json_string_length(snippet), half = ft_trace_options_default(v->scope).snippet_tokens / 2;
    const size_t position = (size_t)json_integer_value(json_object_get(doc, "position"));
    const size_t length = (size_t)json_integer_value(json_object_get(doc, "length"));
    size_t start = (size_t)json_integer_value(json_object_get(doc, "match_start_byte"));
    size_t end = (size_t)json_integer_value(json_object_get(doc, "match_end_byte"));
    if (!json_is_string(snippet) || start > end || end > n)
        return;
    const char *text = json_string_value(snippet);
    while (start < end && is_space(text[start]))
        start++;
    while (end > start && is_space(text[end - 1]))
        end--;
    /* Context begins and ends at a space, or with the document. */
    size_t from = start > CONTEXT ? start - CONTEXT : 0, to = n - end > CONTEXT ? end + CONTEXT : n;
    const int cut_start = from > 0 || position > half, cut_end = to < n || position + match_tokens + half < length;
    while (cut_start && from < start && !is_space(text[from]))
        from++;
    while (cut_end && to > end && !is_space(text[to - 1]))
        to--;
    ft_buffer out = {0};
    char colour[16] = "";
    if (expert >= 0)
        colour_code(expert, colour);
    add_text(&out, cut_start ? "\xE2\x80\xA6" : "");
    add_squeezed(&out, text + from, start - from);
    add_text(&out, v->colour ? bold : "\xC2\xBB"); /* bold, or »guillemets« */
    add_text(&out, v->colour ? colour : "");
    add_squeezed(&out, text + start, end - start);
    add_text(&out, v->colour ? reset : "\xC2\xAB");
    add_squeezed(&out, text + end, to - end);
    add_text(&out, cut_end ? "\xE2\x80\xA6" : "");
    v->at = (size_t)printf("%*s", INDENT, "");
    const size_t skip = out.data && out.data[0] == ' ';
    print_wrapped(v, out.data + skip, out.size - skip, INDENT);
    start_line(v);
    ft_buffer_release(&out);
}

static void print_document(cli_view *v, const json_t *doc, size_t match_tokens)
{
    const char *owner = json_string_value(json_object_get(doc, "owner"));
    const char *relevance = json_string_value(json_object_get(doc, "relevance"));
    const size_t room = v->columns > 40 ? v->columns - 34 : 12;
    char *id = short_field(doc, "id", room), *source = short_field(doc, "source", 24);
    const int expert = expert_of(v, owner ? owner : "");
    fputs("    ", stdout);
    v->at = 4;
    print_owner(v, owner ? owner : "", expert, LABEL);
    paint(v, bold);
    v->at += (size_t)printf("  %s", id ? id : "");
    paint(v, reset);
    paint(v, dim);
    if (source && id && strcmp(source, id) != 0 && v->at + width_of(source, strlen(source)) + 3 < v->columns)
        v->at += (size_t)printf("  %s", source);
    if (relevance && strcmp(relevance, "low") != 0 && v->at + strlen(relevance) + 13 < v->columns)
        printf("  %s relevance", relevance);
    paint(v, reset);
    start_line(v);
    free(id);
    free(source);
    print_snippet(v, doc, match_tokens, expert);
}

/* "5 tokens, 396 times:" and how often in whose corpus. */
static void print_span_owners(cli_view *v, const json_t *span)
{
    const json_t *owners = json_object_get(span, "owners"), *counts = json_object_get(span, "owner_counts");
    v->at = (size_t)printf("    in    ");
    for (size_t i = 0; i < json_array_size(owners); i++) {
        const char *name = json_string_value(json_array_get(owners, i));
        char count[40];
        snprintf(count, sizeof(count), " %lld\xC3\x97", (long long)json_integer_value(json_object_get(counts, name)));
        if (i && v->at + strlen(name) + strlen(count) + 2 > v->columns) {
            start_line(v);
            v->at = (size_t)printf("          ");
        } else if (i) {
            v->at += (size_t)printf("  ");
        }
        print_owner(v, name, expert_of(v, name), 24);
        v->at += (size_t)printf("%s", count) - 1;
    }
    start_line(v);
}

static int same_text(const json_t *x, const json_t *y)
{
    const json_t *a = json_object_get(x, "text"), *b = json_object_get(y, "text");
    return json_is_string(a) && json_equal(a, b);
}

/* "  7 tokens from 4, 13": where the span stands, and the later ones of the same text. */
static void print_places(cli_view *v, const json_t *spans, size_t which)
{
    const json_t *span = json_array_get(spans, which);
    const long long start = json_integer_value(json_object_get(span, "start"));
    const long long tokens = json_integer_value(json_object_get(span, "end")) - start;
    char text[80];
    snprintf(text, sizeof(text), "  %lld %s from %lld", tokens, tokens == 1 ? "token" : "tokens", start);
    print_wrapped(v, text, strlen(text), 4);
    for (size_t i = which + 1; i < json_array_size(spans); i++)
        if (same_text(json_array_get(spans, i), span)) {
            const json_t *at = json_object_get(json_array_get(spans, i), "start");
            snprintf(text, sizeof(text), ", %lld", (long long)json_integer_value(at));
            print_wrapped(v, text, strlen(text), 4);
        }
}

static void render_span(cli_view *v, const json_t *spans, size_t which, size_t number, size_t documents)
{
    const json_t *span = json_array_get(spans, which);
    const json_t *docs = json_object_get(span, "docs"), *shares = json_object_get(span, "shares");
    const size_t most = 4 * v->columns, total = json_array_size(docs);
    const long long start = json_integer_value(json_object_get(span, "start"));
    const long long tokens = json_integer_value(json_object_get(span, "end")) - start;
    char *text = short_field(span, "text", most);
    putchar('\n');
    v->at = (size_t)printf("%3zu ", number);
    paint(v, bold);
    ft_buffer line = {0};
    add_text(&line, "\xE2\x80\x9C");
    add_text(&line, text ? text : "");
    add_text(&line, "\xE2\x80\x9D");
    print_wrapped(v, line.data, line.size, 4);
    paint(v, reset);
    paint(v, dim);
    print_places(v, spans, which);
    paint(v, reset);
    start_line(v);
    ft_buffer_release(&line);
    free(text);
    print_span_owners(v, span);
    if (json_is_array(shares)) {
        v->at = (size_t)printf("    by    ");
        print_shares(v, shares, 10);
    }
    for (size_t i = 0; i < total && i < documents; i++)
        print_document(v, json_array_get(docs, i), (size_t)tokens);
    if (total > documents) {
        paint(v, dim);
        printf("    and %zu more %s\n", total - documents, total - documents == 1 ? "document" : "documents");
        paint(v, reset);
    }
}

/* The first span with the text of span i. */
static size_t first_of_text(const json_t *spans, size_t i)
{
    size_t first = 0;
    while (first < i && !same_text(json_array_get(spans, first), json_array_get(spans, i)))
        first++;
    return first;
}

void cli_render_trace(cli_view *v, const json_t *trace, size_t documents)
{
    const json_t *spans = json_object_get(trace, "spans");
    const size_t n = json_array_size(spans);
    size_t different = 0, number = 0;
    char line[100] = "No part of it stands word for word in an owner's corpus.";
    for (size_t i = 0; i < n; i++)
        different += first_of_text(spans, i) == i;
    if (!v->colour)
        render_marked(v, trace);
    render_experts(v, trace);
    if (different)
        snprintf(line, sizeof(line), "%zu %s word for word in the owners' corpora", different,
                 different == 1 ? "span that stands" : "spans that stand");
    heading(v, line);
    for (size_t i = 0; i < n; i++)
        if (first_of_text(spans, i) == i)
            render_span(v, spans, i, ++number, documents);
    fflush(stdout);
}
