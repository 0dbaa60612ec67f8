/* write.c - a trace as serving-trace/1: the header on one line, then one request a line.
 *
 * JSON and JSONL differ only in what stands around the lines. Stays true: reading what was written
 * gives the same trace; times are exact decimals of microseconds; nothing stands under the name
 * until all of it is written. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "workloads/reader.h"

/* Quoted, with the escapes that JSON needs; the text is UTF-8 already. */
static void put_string(FILE *f, const char *s)
{
    putc('"', f);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < 32)
            fprintf(f, "\\u%04x", c);
        else
            putc(c, f);
    }
    putc('"', f);
}

static void put_text(FILE *f, const char *key, const char *s)
{
    if (!s || !*s)
        return;
    fprintf(f, ",\"%s\":", key);
    put_string(f, s);
}

/* The shortest of the decimal spellings that read back as v. */
static void put_real(FILE *f, const char *lead, const char *key, double v)
{
    char text[32];

    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (!(strtod(text, NULL) < v) && !(strtod(text, NULL) > v))
            break;
    }
    fprintf(f, "%s\"%s\":%s", lead, key, text);
}

static void put_slo(FILE *f, const struct slo *s)
{
    const char *lead = "{";

    if (s->ttft_ms <= 0 && s->tpot_ms <= 0 && s->e2e_ms <= 0)
        return;
    fputs(",\"slo\":", f);
    if (s->ttft_ms > 0)
        put_real(f, lead, "ttft_ms", s->ttft_ms), lead = ",";
    if (s->tpot_ms > 0)
        put_real(f, lead, "tpot_ms", s->tpot_ms), lead = ",";
    if (s->e2e_ms > 0)
        put_real(f, lead, "e2e_ms", s->e2e_ms);
    putc('}', f);
}

static void put_time_zero(FILE *f, const struct trace *t)
{
    const char *blank = strchr(t->time_zero, ' ');
    char zero[sizeof t->time_zero];

    snprintf(zero, sizeof zero, "%.*s", (int)strcspn(t->time_zero, " "), t->time_zero);
    put_text(f, "time_zero", zero);
    if (blank)
        put_text(f, "time_zone", blank + 1);
}

static void put_header(FILE *f, const struct trace *t)
{
    fputs("{\"schema\":\"serving-trace/1\"", f);
    put_text(f, "name", t->name);
    fprintf(f, ",\"count\":%" PRIu32, t->n);
    if (*t->source == '{')
        fprintf(f, ",\"source\":%s", t->source);
    else
        put_text(f, "source", t->source);
    put_text(f, "licence", t->licence);
    if (t->is_synthetic)
        fputs(",\"is_synthetic\":true", f);
    put_text(f, "recipe", t->recipe);
    if (*t->header_extra)
        fprintf(f, ",\"choices\":%s", t->header_extra);
    put_time_zero(f, t);
    if (t->time_step_s > 0)
        put_real(f, ",", "time_step_s", t->time_step_s);
    put_text(f, "tokenizer", t->tokenizer);
    if (t->block_tokens)
        fprintf(f, ",\"block_tokens\":%" PRIu32 ",\"block_tail\":\"%s\",\"block_scope\":\"%s\"",
                t->block_tokens, t->block_tail_partial ? "partial" : "full",
                t->block_scope_session ? "session" : "trace");
    put_slo(f, &t->slo);
}

static void put_micros(FILE *f, int64_t us)
{
    char text[32];
    size_t n = (size_t)snprintf(text, sizeof text, "%" PRId64 ".%06d", us / 1000000,
                                (int)(us % 1000000));

    while (text[n - 1] == '0')
        n--;
    n -= text[n - 1] == '.';
    fwrite(text, 1, n, f);
}

static void put_more(FILE *f, const struct trace_req *q)
{
    const struct trace_more *m = q->more;

    put_text(f, "session", m->session);
    if (m->turn)
        fprintf(f, ",\"turn\":%" PRIu32, m->turn);
    put_text(f, "after", m->after);
    if (m->think_s >= 0)
        put_real(f, ",", "think_s", m->think_s);
    if (m->priority)
        fprintf(f, ",\"priority\":%" PRId32, m->priority);
    put_slo(f, &m->slo);
    put_text(f, "model", m->model);
    put_text(f, "tenant", m->tenant);
    put_text(f, "prefix_group", m->prefix_group);
    if (m->prefix_group)
        fprintf(f, ",\"prefix_tokens\":%" PRIu32, m->prefix_tokens);
    if (m->prompt) {
        fputs(",\"prompt\":", f);
        put_string(f, m->prompt);
    }
    for (uint32_t i = 0; m->prompt_ids && i < q->n_prompt; i++)
        fprintf(f, "%s%" PRIu32, i ? "," : ",\"prompt_ids\":[", m->prompt_ids[i]);
    if (m->prompt_ids)
        putc(']', f);
    if (m->observed)
        fprintf(f, ",\"observed\":%s", m->observed);
    if (m->ext)
        fprintf(f, ",\"ext\":%s", m->ext);
}

static void put_row(FILE *f, const struct trace *t, uint32_t row)
{
    const struct trace_req *q = &t->req[row];
    char id[24];

    fputs("{\"id\":", f);
    put_string(f, trace_id(t, row, id));
    fputs(",\"arrival_s\":", f);
    put_micros(f, q->arrive_us);
    fprintf(f, ",\"prompt_tokens\":%" PRIu32 ",\"output_tokens\":%" PRIu32, q->n_prompt, q->n_out);
    if (q->more)
        put_more(f, q);
    if (t->block_tokens && (q->n_block || q->block)) {
        fputs(",\"blocks\":[", f);
        for (uint32_t i = 0; i < q->n_block; i++)
            fprintf(f, "%s%" PRIu64, i ? "," : "", q->block[i]);
        putc(']', f);
    }
    putc('}', f);
}

static void put_trace(FILE *f, const struct trace *t, bool jsonl)
{
    put_header(f, t);
    fputs(jsonl ? "}\n" : ",\"requests\":[\n", f);
    for (uint32_t i = 0; i < t->n && !ferror(f); i++) {
        put_row(f, t, i);
        fputs(jsonl || i + 1 == t->n ? "\n" : ",\n", f);
    }
    if (!jsonl)
        fputs("]}\n", f);
}

int trace_write(const struct trace *t, const char *path, bool jsonl, struct err *e)
{
    char temp[4096];
    FILE *f;
    int bad;

    if ((size_t)snprintf(temp, sizeof temp, "%s.%ld.tmp", path, (long)getpid()) >= sizeof temp)
        return err_set(e, EXIT_USAGE, "%.300s: the path is too long", path);
    if (!(f = fopen(temp, "wbx")))
        return err_set(e, EXIT_IO, "%.300s: cannot create: %s", path, strerror(errno));
    put_trace(f, t, jsonl);
    bad = ferror(f);
    if (fclose(f) || bad || rename(temp, path)) {
        err_set(e, EXIT_IO, "%.300s: cannot write: %s", path, strerror(errno));
        unlink(temp);
        return -1;
    }
    return 0;
}
