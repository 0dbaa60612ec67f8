#include "harness/trace_show.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "base/plain.h"

/* A figure, or "undefined"; never inf or nan. */
static const char *figure(double v, char buf[32])
{
    snprintf(buf, 32, isfinite(v) ? "%.4g" : "undefined", v);
    return buf;
}

static const char *json_figure(double v, char buf[32])
{
    snprintf(buf, 32, isfinite(v) ? "%.10g" : "null", v);
    return buf;
}

static void show_text(const char *label, const char *text)
{
    if (text && *text)
        print_plain(stdout, "%-15s %s\n", label, text);
}

static void show_lengths(const char *label, const double q[5], uint64_t sum)
{
    printf("%-15s %9.0f %9.0f %9.0f %9.0f %11.1f %14" PRIu64 "\n", label, q[0], q[1], q[2], q[3],
           q[4], sum);
}

void trace_show_table(const struct trace *t, const struct trace_info *i)
{
    char a[32], b[32], c[32];

    print_plain(stdout, "%-15s %s%s\n", "trace", t->name, t->is_synthetic ? " (synthetic)" : "");
    show_text("format", t->format);
    show_text("source", t->source);
    show_text("licence", t->licence);
    show_text("recipe", t->recipe);
    show_text("choices", t->header_extra);
    show_text("sha256", t->sha256);
    show_text("time zero", t->time_zero);
    printf("%-15s %" PRIu32 "\n", "requests", t->n);
    printf("%-15s %.3f s\n", "span", i->span_s);
    printf("%-15s %s requests/s\n", "rate", figure(i->rate, a));
    printf("%-15s %s (1 is Poisson); %.1f %% of gaps are 0\n", "gap CV", figure(i->gap_cv, a),
           100 * i->zero_gap_share);
    printf("%-15s %s, %s, %s per 1, 10, 60 s (1 is Poisson)\n", "dispersion",
           figure(i->dispersion[0], a), figure(i->dispersion[1], b), figure(i->dispersion[2], c));
    printf("%-15s %9s %9s %9s %9s %11s %14s\n", "tokens", "p50", "p90", "p99", "max", "mean",
           "sum");
    show_lengths("  prompt", i->prompt_q, i->prompt_tokens);
    show_lengths("  output", i->output_q, i->output_tokens);
    printf("%-15s %" PRIu32 " tokens (prompt + output)\n", "longest", i->longest);
    if (t->block_tokens)
        printf("%-15s %" PRIu32 " tokens a block, %s tail, scope %s\n", "blocks", t->block_tokens,
               t->block_tail_partial ? "partial" : "full",
               t->block_scope_session ? "session" : "trace");
    printf("%-15s %.1f %% of prompt tokens repeat an earlier beginning\n", "prefix share",
           100 * i->prefix_share);
}

static void show_json_lengths(const char *label, const double q[5], uint64_t sum)
{
    printf(",\"%s\":{\"p50\":%.0f,\"p90\":%.0f,\"p99\":%.0f,\"max\":%.0f,\"mean\":%.10g,\"sum\":"
           "%" PRIu64 "}",
           label, q[0], q[1], q[2], q[3], q[4], sum);
}

void trace_show_json(const struct trace *t, const struct trace_info *i)
{
    char a[32], b[32], c[32];

    json_t *name = json_string(t->name);       /* the only outside text here */

    fputs("{\"name\":", stdout);
    json_dumpf(name, stdout, JSON_ENCODE_ANY);
    json_decref(name);
    printf(",\"format\":\"%s\",\"sha256\":\"%s\",\"is_synthetic\":%s,\"requests\":%" PRIu32,
           t->format, t->sha256, t->is_synthetic ? "true" : "false", t->n);
    printf(",\"span_s\":%.6f,\"rate\":%s,\"gap_cv\":%s,\"zero_gap_share\":%.10g", i->span_s,
           json_figure(i->rate, a), json_figure(i->gap_cv, b), i->zero_gap_share);
    printf(",\"dispersion\":[%s,%s,%s]", json_figure(i->dispersion[0], a),
           json_figure(i->dispersion[1], b), json_figure(i->dispersion[2], c));
    show_json_lengths("prompt_tokens", i->prompt_q, i->prompt_tokens);
    show_json_lengths("output_tokens", i->output_q, i->output_tokens);
    printf(",\"longest\":%" PRIu32 ",\"block_tokens\":%" PRIu32 ",\"prefix_share\":%.10g}\n",
           i->longest, t->block_tokens, i->prefix_share);
}
