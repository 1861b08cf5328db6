/* The training curve: metrics.jsonl as an SVG that can be read in the light and in the dark. */
#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "model/train/train_run_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 760, HEIGHT = 360, LEFT = 56, RIGHT = 64, TOP = 40, BOTTOM = 44, MAX_POINTS = 320 };

/* Steps next to one another: their mean, least and largest loss, and the last rate. */
typedef struct point {
    double step, mean, least, most, rate;
    uint64_t count;
} point;

typedef struct curve {
    point points[MAX_POINTS];
    size_t count;
    double first, last, least, most, rate; /* steps; losses that are drawn; the highest rate */
} curve;

int ft_metric(const char *line, const char *field, double *out)
{
    const char *at = strstr(line, field);
    char *end;
    if (!at)
        return 0;
    *out = strtod(at + strlen(field), &end);
    return end != at + strlen(field) && isfinite(*out);
}

static size_t lines_of(const ft_buffer *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->size; i++)
        n += text->data[i] == '\n';
    return n;
}

static void add(point *p, double step, double loss, double rate)
{
    p->least = p->count ? fmin(p->least, loss) : loss;
    p->most = p->count ? fmax(p->most, loss) : loss;
    p->mean += (loss - p->mean) / (double)++p->count;
    p->step = step;
    p->rate = rate;
}

static void read_points(curve *c, ft_buffer *text)
{
    const size_t lines = lines_of(text), each = (lines + MAX_POINTS - 1) / MAX_POINTS;
    char *line = text->data;
    for (size_t n = 0; n < lines; n++) {
        char *end = strchr(line, '\n');
        double step, loss, rate;
        if (!end)
            return;
        *end = 0;
        if (ft_metric(line, "\"step\":", &step) && ft_metric(line, "\"loss\":", &loss) &&
            ft_metric(line, "\"rate\":", &rate)) {
            add(&c->points[n / each], step, loss, rate);
            c->count = n / each + 1;
            c->first = c->first > 0 ? c->first : step;
            c->last = step;
            c->rate = fmax(c->rate, rate);
        }
        line = end + 1;
    }
}

/* 1, 2 or 5 times a power of ten: about four of them in `span`. */
static double tick(double span)
{
    const double raw = span / 4, power = pow(10, floor(log10(raw))), m = raw / power;
    return power * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
}

static double x_of(const curve *c, double step)
{
    const double span = c->last > c->first ? c->last - c->first : 1;
    return LEFT + (step - c->first) / span * (WIDTH - LEFT - RIGHT);
}

static double y_of(const curve *c, double loss)
{
    return TOP + (c->most - fmin(fmax(loss, c->least), c->most)) / (c->most - c->least) * (HEIGHT - TOP - BOTTOM);
}

static double rate_y(const curve *c, double rate)
{
    return HEIGHT - BOTTOM - (c->rate > 0 ? rate / c->rate : 0) * (HEIGHT - TOP - BOTTOM);
}

static const char style[] =
    "<style>\n:root{color-scheme:light dark;--paper:#fff;--ink:#1d2430;--soft:#5b6675;--grid:#e3e7ec;--loss:#1f5fbf;"
    "--rate:#b8620a}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#14181e;--ink:#e6eaf0;--soft:#9aa6b5;--grid:#2a313b;--loss:#"
    "7fb2ff;"
    "--rate:#f0a75a}}\n"
    "text{font:12px system-ui,sans-serif;fill:var(--soft)}.title{font-size:14px;font-weight:600;fill:var(--ink)}\n"
    ".grid{stroke:var(--grid)}.loss{fill:none;stroke:var(--loss);stroke-width:1.8;stroke-linejoin:round}"
    ".band{fill:var(--loss);opacity:.16}.rate{fill:none;stroke:var(--rate);stroke-width:1.2;stroke-dasharray:4 3}\n"
    "</style>\n";

static ft_code axes(ft_buffer *b, const curve *c, ft_status *st)
{
    const double dy = tick(c->most - c->least), dx = fmax(1, tick(fmax(c->last - c->first, 1)));
    ft_code rc = FT_OK;
    for (double v = ceil(c->least / dy) * dy; v <= c->most && !rc; v += dy)
        rc = ft_buffer_printf(b, st,
                              "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                              "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
                              LEFT, WIDTH - RIGHT, y_of(c, v), y_of(c, v), LEFT - 8, y_of(c, v) + 4, v);
    for (double v = ceil(c->first / dx) * dx; v <= c->last && !rc; v += dx)
        rc = ft_buffer_printf(b, st, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.10g</text>\n", x_of(c, v),
                              HEIGHT - BOTTOM + 18, v);
    if (!rc)
        rc = ft_buffer_printf(b, st,
                              "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n"
                              "<text x=\"%d\" y=\"%d\" style=\"fill:var(--rate)\">%.3g</text>"
                              "<text x=\"%d\" y=\"%d\" style=\"fill:var(--rate)\">0</text>\n",
                              LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 8, WIDTH - RIGHT + 8, TOP + 4, c->rate,
                              WIDTH - RIGHT + 8, HEIGHT - BOTTOM + 4);
    return rc;
}

static ft_code lines(ft_buffer *b, const curve *c, ft_status *st)
{
    ft_code rc = ft_buffer_append_str(b, "<path class=\"band\" d=\"", st);
    for (size_t i = 0; i < c->count && !rc; i++)
        rc = ft_buffer_printf(b, st, "%c%.1f %.1f", i ? 'L' : 'M', x_of(c, c->points[i].step),
                              y_of(c, c->points[i].most));
    for (size_t i = c->count; i-- > 0 && !rc;)
        rc = ft_buffer_printf(b, st, "L%.1f %.1f", x_of(c, c->points[i].step), y_of(c, c->points[i].least));
    for (int rate = 1; rate >= 0 && !rc; rate--) {
        rc = ft_buffer_printf(b, st, "%s\"/>\n<path class=\"%s\" d=\"", rate ? "Z" : "", rate ? "rate" : "loss");
        for (size_t i = 0; i < c->count && !rc; i++)
            rc = ft_buffer_printf(b, st, "%c%.1f %.1f", i ? 'L' : 'M', x_of(c, c->points[i].step),
                                  rate ? rate_y(c, c->points[i].rate) : y_of(c, c->points[i].mean));
    }
    return rc ? rc : ft_buffer_append_str(b, "\"/>\n", st);
}

static ft_code draw(ft_buffer *b, const curve *c, ft_status *st)
{
    const point *last = &c->points[c->count - 1];
    ft_code rc = ft_buffer_printf(
        b, st,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Training loss "
        "over %.0f steps, last %.4g\">\n%s<rect width=\"%d\" height=\"%d\" style=\"fill:var(--paper)\"/>\n"
        "<text class=\"title\" x=\"%d\" y=\"22\">Loss, nats a token: %.4g at step %.0f</text>\n"
        "<text x=\"%d\" y=\"22\" text-anchor=\"end\" style=\"fill:var(--rate)\">- - learning rate</text>\n",
        WIDTH, HEIGHT, c->last, last->mean, style, WIDTH, HEIGHT, LEFT, last->mean, c->last, WIDTH - 8);
    if (!rc)
        rc = axes(b, c, st);
    if (!rc)
        rc = lines(b, c, st);
    return rc ? rc : ft_buffer_append_str(b, "</svg>\n", st);
}

ft_code ft_train_curve(const char *metrics, const char *svg, ft_status *st)
{
    ft_buffer text = {0}, out = {0};
    curve *c = calloc(1, sizeof(*c));
    ft_code rc = c ? ft_file_read(metrics, 0, &text, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", svg);
    if (!rc && text.size)
        read_points(c, &text);
    if (!rc && c->count) {
        c->least = INFINITY;
        c->most = -INFINITY;
        for (size_t i = 0; i < c->count; i++) {
            c->least = fmin(c->least, c->points[i].least);
            c->most = fmax(c->most, c->points[i].most);
        }
        const double room = c->most > c->least ? 0.03 * (c->most - c->least) : 0.5;
        c->least -= room;
        c->most += room;
        rc = draw(&out, c, st);
        if (!rc)
            rc = ft_file_write(svg, out.data, out.size, st);
    }
    free(c);
    ft_buffer_release(&text);
    ft_buffer_release(&out);
    return rc;
}
