/* runner_result.c - from the records of a suite's process to results, and from results to TAP and XML. */
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/runner.h"

enum { SHOWN = 20 };                   /* failed assertions shown of one test */

static void add_line(struct result *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_line(struct result *r, const char *fmt, ...)
{
    char line[1700], *text;
    va_list ap;
    size_t old = r->text ? strlen(r->text) : 0;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    text = realloc(r->text, old + strlen(line) + 2);
    if (!text)
        return;
    sprintf(text + old, "%s%s", old ? "\n" : "", line);
    r->text = text;
}

static void keep_note(struct result *r, const char *text)
{
    if (r->n_note == NOTES) {
        free(r->note[0]);
        memmove(r->note, r->note + 1, (NOTES - 1) * sizeof *r->note);
        r->n_note--;
    }
    r->note[r->n_note] = strdup(text);
    r->n_note += r->note[r->n_note] != NULL;
}

/* Notes before a failure belong to it; those of a test that held are dropped. */
static void put_notes(struct result *r, bool show)
{
    for (unsigned i = 0; i < r->n_note; i++) {
        if (show)
            add_line(r, "note: %s", r->note[i]);
        free(r->note[i]);
    }
    r->n_note = 0;
}

void result_take(struct result *r, unsigned n, unsigned *now, char *line)
{
    char *tab = strchr(line, '\t');

    if (line[0] == 'S') {
        for (unsigned i = 0; i < n; i++)
            if (!strcmp(r[i].name, line + 1)) {
                r[i].state = RUNNING;
                *now = i;
            }
    } else if (*now >= n) {
        return;
    } else if (line[0] == 'F') {
        if (tab)
            *tab = ' ';
        r[*now].state = FAILED;
        put_notes(&r[*now], ++r[*now].n_failure <= SHOWN);
        if (r[*now].n_failure <= SHOWN)
            add_line(&r[*now], "%s", line + 1);
        else if (r[*now].n_failure == SHOWN + 1)
            add_line(&r[*now], "more than %d assertions failed; the others are not shown", SHOWN);
    } else if (line[0] == 'N') {
        keep_note(&r[*now], line + 1);
    } else if (line[0] == 'K') {
        add_line(&r[*now], "%s", line + 1);
        if (r[*now].state == RUNNING)
            r[*now].state = SKIPPED;
    } else if (line[0] == 'E') {
        r[*now].seconds = strtod(line + 1, NULL);
        if (r[*now].state == RUNNING)
            r[*now].state = PASSED;
    }
}

/* What must be said of a child that did not end well. Tests it did not reach count as failed. */
static void blame(struct result *r, unsigned *n, unsigned now, int status, unsigned limit_s)
{
    char why[160];
    bool all = true, failed = false;

    if (status == -1)
        snprintf(why, sizeof why, "timed out: the suite took more than %u s", limit_s);
    else if (WIFSIGNALED(status))
        snprintf(why, sizeof why, "crashed: signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(why, sizeof why, "the suite's process ended with status %d", WEXITSTATUS(status));
    for (unsigned i = 0; i < *n; i++) {
        failed |= r[i].state == FAILED;
        if (r[i].state == NOT_RUN || r[i].state == RUNNING || (i == now && r[i].seconds <= 0)) {
            if (i == now)
                add_line(&r[i], "%s", why);
            else
                add_line(&r[i], "not run: %s", why);
            r[i].state = FAILED;
            all = false;
        }
    }
    /* Every test is over: a leak, most likely. After a fatal assertion leaks are no news. */
    if (all && !failed) {
        struct result *extra = &r[(*n)++];

        *extra = (struct result){ .name = "end of suite", .state = FAILED };
        add_line(extra, "%s after its last test", why);
    }
}

bool result_close(struct result *r, unsigned *n, unsigned now, int status, unsigned limit_s)
{
    bool unfinished = false, failed = false;

    for (unsigned i = 0; i < *n; i++)
        unfinished |= r[i].state == NOT_RUN || r[i].state == RUNNING;
    if (status || unfinished)          /* also a test that calls exit(0) */
        blame(r, n, now, status, limit_s);
    for (unsigned i = 0; i < *n; i++) {
        put_notes(&r[i], r[i].state == FAILED);
        failed |= r[i].state == FAILED;
    }
    return failed;
}

void result_print(unsigned number, const char *suite, const struct result *r)
{
    printf("%s %u - %s/%s", r->state == FAILED ? "not ok" : "ok", number, suite, r->name);
    if (r->state == SKIPPED)
        printf(" # SKIP %s\n", r->text ? r->text : "");
    else if (r->seconds >= 1)
        printf(" (%.1f s)\n", r->seconds);
    else
        printf("\n");
    if (r->state != FAILED || !r->text)
        return;
    for (const char *p = r->text; *p;) {
        size_t len = strcspn(p, "\n");

        printf("#   %.*s\n", (int)len, p);
        p += len + (p[len] == '\n');
    }
}

static void xml_text(FILE *f, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '&' || c == '<' || c == '>' || c == '"')
            fprintf(f, "&#%d;", c);
        else if (c == '\n')
            fputs("&#10;", f);
        else
            fputc(c < 0x20 || c > 0x7e ? '?' : c, f);
    }
}

void result_xml(FILE *f, const char *suite, const struct result *r, unsigned n, double seconds)
{
    unsigned fails = 0, skips = 0;

    for (unsigned i = 0; i < n; i++) {
        fails += r[i].state == FAILED;
        skips += r[i].state == SKIPPED;
    }
    fprintf(f, "  <testsuite name=\"");
    xml_text(f, suite);
    fprintf(f, "\" tests=\"%u\" failures=\"%u\" errors=\"0\" skipped=\"%u\" time=\"%.3f\">\n", n, fails,
            skips, seconds);
    for (unsigned i = 0; i < n; i++) {
        fputs("    <testcase classname=\"", f);
        xml_text(f, suite);
        fputs("\" name=\"", f);
        xml_text(f, r[i].name);
        fprintf(f, "\" time=\"%.3f\"", r[i].seconds);
        if (r[i].state == PASSED) {
            fputs("/>\n", f);
            continue;
        }
        fprintf(f, "><%s message=\"", r[i].state == FAILED ? "failure" : "skipped");
        xml_text(f, r[i].text ? r[i].text : "");
        fputs("\"/></testcase>\n", f);
    }
    fputs("  </testsuite>\n", f);
}
