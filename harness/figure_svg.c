/* figure_svg.c - gnuplot's SVG made fit to stand in a page with others: its <title> would be every
 * figure's hover text, and its ids (gnuplot_canvas, gpPt0 ...) repeat. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/escape.h"
#include "harness/figures.h"

/* Curves have ids that gnuplot repeats from panel to panel; nothing refers to them: they are
 * counted. Returns what follows the id. */
static const char *put_curve(FILE *out, const char *in, const char *prefix, int *curves)
{
    size_t n = strlen(prefix);

    if (strncmp(in, prefix, n) != 0 || strncmp(in + n, "_plot_", 6) != 0)
        return in;
    fprintf(out, "curve-%d", ++*curves);
    return in + strcspn(in, "\"'");
}

/* Copies `in`, with `prefix` before every name that follows one of the three ways to write or use
 * an id. */
static void put_prefixed(FILE *out, const char *in, const char *prefix, int *curves)
{
    static const char *const before[] = {" id=\"", " id='", "href='#", "href=\"#", "url(#"};
    size_t hit;

    while (*in) {
        hit = 0;
        for (size_t i = 0; i < sizeof before / sizeof *before && !hit; i++)
            if (strncmp(in, before[i], strlen(before[i])) == 0)
                hit = strlen(before[i]);
        if (hit) {
            fwrite(in, 1, hit, out);
            fprintf(out, "%s-", prefix);
            in = put_curve(out, in + hit, prefix, curves);
        } else {
            fputc(*in++, out);
        }
    }
}

/* Cuts <tag>...</tag> out of text where it is there. */
static void cut_element(char *text, const char *open, const char *close)
{
    char *from = strstr(text, open), *to = from ? strstr(from, close) : NULL;

    if (to)
        memmove(from, to + strlen(close), strlen(to + strlen(close)) + 1);
}

int figure_tidy_svg(const char *path, const struct figure *f, struct err *e)
{
    char *text = file_text(path, e), *body;
    FILE *out;
    int bad, curves = 0;

    if (!text)
        return -1;
    cut_element(text, "<title>", "</title>");
    cut_element(text, "<desc>", "</desc>");
    body = strstr(text, "<svg");
    body = body ? strchr(body, '>') : NULL;
    if (!body || !(out = fopen(path, "w"))) {
        free(text);
        return err_set(e, EXIT_IO, "%s: cannot be rewritten", path);
    }
    *body = '\0';
    put_prefixed(out, text, f->name, &curves);
    fputs("><title>", out);
    escape_html(out, f->title);
    fputs("</title><desc>", out);
    escape_html(out, f->about);
    fputs("</desc>", out);
    put_prefixed(out, body + 1, f->name, &curves);
    bad = ferror(out) != 0;
    bad = fclose(out) != 0 || bad;
    free(text);
    return bad ? err_set(e, EXIT_IO, "%s: cannot be written; is the disk full?", path) : 0;
}
