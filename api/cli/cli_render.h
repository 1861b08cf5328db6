/* cli_render: a text and its trace, drawn for a person in a terminal.
 *
 * With colour every owner has one, and a token stands in the colour of the expert
 * that had the greatest share in the pass that wrote it. Without (a pipe, NO_COLOR)
 * the same is told in words and marks. Text from models and documents is made
 * harmless first: no control character reaches the terminal. Lines keep to the
 * terminal's width, 100 columns at most. */
#ifndef FT_CLI_RENDER_H
#define FT_CLI_RENDER_H
#include "base/ft_buffer.h"
#include "tracer/ft_trace.h"

#include <stdio.h>

typedef struct cli_view {
    const ft_trace_scope *scope;
    int colour;     /* 0: plain marks */
    int wrap;       /* break lines at `columns`; 0 for a pipe: text stays as it is */
    size_t columns; /* of a line */
    size_t at;      /* column that the next character goes to */
    ft_buffer word; /* of the streamed text, not yet printed; colours inside */
    size_t word_width;
    int in_colour; /* what colours the streamed text now: an expert + 1, 0 for none, -1 for the prompt */
} cli_view;

/* For standard output as it is. `scope` must outlive it. */
cli_view cli_view_make(const ft_trace_scope *scope);

/* Streamed text: a piece in an expert's colour, or as one of these. Words are printed when
 * they are whole; `end` prints what is left and ends the line. */
enum { CLI_PLAIN = -1, CLI_PROMPT = -2 };
void cli_stream(cli_view *v, const char *text, size_t n, int expert);
void cli_stream_end(cli_view *v);

/* The expert with the greatest share in [start, end) of a timeline; -1: no routing. */
int cli_top_expert(const ft_routing *r, size_t start, size_t end);

/* The trace's response, coloured by its tokens' shares. */
void cli_render_text(cli_view *v, const json_t *trace);
/* One line or two: every expert's name in its colour. */
void cli_render_legend(cli_view *v, size_t experts, uint64_t without);
/* Below a text: the owners' colours and shares, then every span with its owners,
 * shares and at most `documents` documents. */
void cli_render_trace(cli_view *v, const json_t *trace, size_t documents);

/* Appends text that cannot harm a terminal: control characters become pictures or
 * spaces, marks that turn the writing's direction are left out, `keep_lines` keeps
 * newlines and tabs. */
void cli_harmless(ft_buffer *out, const char *text, size_t n, int keep_lines);

#endif
