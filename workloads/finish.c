/* finish.c - what can be said only when all rows are read: count, order, links, doubts, choices
 * made. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workloads/reader.h"

static int by_arrival(const void *a, const void *b)
{
    const struct trace_req *x = a, *y = b;

    if (x->arrive_us != y->arrive_us)
        return x->arrive_us < y->arrive_us ? -1 : 1;
    return x->reserved < y->reserved ? -1 : x->reserved > y->reserved;
}

/* Stable, by the row's old number in `reserved`. A row that moves keeps the id it had. */
static int sort_rows(struct reader *r, uint32_t *n_moved)
{
    struct trace *t = r->t;
    char number[24];

    for (uint32_t i = 0; i < t->n; i++)
        t->req[i].reserved = i;
    qsort(t->req, t->n, sizeof *t->req, by_arrival);
    names_free(&r->ids);
    *n_moved = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        struct trace_req *q = &t->req[i];
        bool moved = q->reserved != i;
        struct name *name;

        snprintf(number, sizeof number, "%" PRIu32, q->reserved);
        *n_moved += moved;
        q->reserved = 0;
        if (!moved && !q->id)
            continue;
        if (!(name = names_put(&r->ids, &r->pool, q->id ? q->id : number)))
            return reader_nomem(r);
        name->value = i;
        q->id = name->text;
    }
    return 0;
}

static int link_rows(struct reader *r)
{
    for (uint32_t i = 0; i < r->t->n; i++) {
        struct place at = { 0, i + 1u, 0 };

        if (rows_link(r, i, &at) && r->first.code == EXIT_RUN_FAILED)
            return -1;
    }
    return r->n_error ? -1 : 0;
}

/* Largest step that divides all gaps, in microseconds; 0 when nothing ever moves. */
static int64_t arrival_step(const struct trace *t)
{
    int64_t g = 0;

    for (uint32_t i = 1; i < t->n && g != 1; i++) {
        int64_t a = t->req[i].arrive_us - t->req[i - 1].arrive_us;

        while (a) {
            int64_t rest = g % a;

            g = a;
            a = rest;
        }
    }
    return g;
}

static void warn_time(struct reader *r)
{
    const struct trace *t = r->t;
    double span = (double)(t->req[t->n - 1].arrive_us - t->req[0].arrive_us) * 1e-6;
    uint64_t n_zero = 0;

    for (uint32_t i = 1; i < t->n; i++)
        n_zero += t->req[i].arrive_us == t->req[i - 1].arrive_us;
    if (t->n > 1 && n_zero * 10 > t->n - 1u)
        reader_warn(r,
                    "warning: %.0f %% of the gaps between arrivals are 0 (a batch every %.2g s); "
                    "they "
                    "are replayed as batches",
                    100.0 * (double)n_zero / (t->n - 1),
                    span / (double)(t->n - 1 - n_zero ? t->n - 1 - n_zero : 1));
    if (t->n >= 10 && span > 0 && (t->n - 1) / span > 1000)
        reader_warn(r, "warning: %.0f requests/s over %g s; is the time unit right?",
                    (t->n - 1) / span, span);
    if (span > 400.0 * 86400)
        reader_warn(r, "warning: %.3g requests/s over %.0f days; is this milliseconds?",
                    (t->n - 1) / span, span / 86400);
}

/* Appends {"key":n,...} to the list of choices; what was chosen before stays. */
static int note_choices(struct reader *r, uint32_t n_moved)
{
    const struct trace_options *o = r->o;
    json_t *list = *r->t->header_extra ? json_loads(r->t->header_extra, 0, NULL) : json_array();
    json_t *one = json_object();
    size_t n = 0;

    if (n_moved)
        json_object_set_new(one, "sorted", json_integer(n_moved));
    if (r->n_skipped)
        json_object_set_new(one, "skipped", json_integer((json_int_t)r->n_skipped));
    if (r->n_clipped)
        json_object_set_new(one, "clipped", json_integer((json_int_t)r->n_clipped));
    if ((r->n_skipped || r->n_clipped) && o->max_context)
        json_object_set_new(one, "max_context", json_integer(o->max_context));
    if (r->is_cut)
        json_object_set_new(one, "limit", json_integer(o->limit));
    if (r->n_empty)
        json_object_set_new(one, "empty_skipped", json_integer((json_int_t)r->n_empty));
    if (r->n_turn)
        json_object_set_new(one, "later_turns_left_out", json_integer((json_int_t)r->n_turn));
    if (json_object_size(one)) {
        json_array_append(list, one);
        n = json_dumpb(list, r->t->header_extra, sizeof r->t->header_extra - 1, JSON_COMPACT);
    }
    json_decref(one);
    json_decref(list);
    if (n >= sizeof r->t->header_extra)
        return reader_fail(r, NULL, "the header's list of choices is longer than %zu bytes",
                           sizeof r->t->header_extra - 1);
    r->t->header_extra[n ? n : strlen(r->t->header_extra)] = 0;
    if (n_moved)
        reader_warn(r, "note: sorted by arrival, %" PRIu32 " rows moved", n_moved);
    if (r->n_skipped)
        reader_warn(r, "note: %" PRIu64 " overlong requests skipped", r->n_skipped);
    if (r->n_clipped)
        reader_warn(r, "note: %" PRIu64 " overlong requests clipped", r->n_clipped);
    return 0;
}

static int check_count(struct reader *r)
{
    if (r->count >= 0 && !r->is_cut && (uint64_t)r->count != r->n_read)
        return reader_fail(r, NULL,
                           "the header counts %" PRId64 " requests but %" PRIu64 " stand in the "
                           "file; it is cut, or correct the count",
                           r->count, r->n_read);
    if (r->t->n)
        return 0;
    if (r->n_empty)
        return reader_fail(r, NULL, "no requests are left: %" PRIu64 " have no prompt or no answer",
                           r->n_empty);
    if (r->n_skipped)
        return reader_fail(r, NULL, "no requests are left: all %" PRIu64 " are overlong",
                           r->n_skipped);
    return reader_fail(r, NULL, "no requests");
}

static int put_in_order(struct reader *r, uint32_t *n_moved)
{
    *n_moved = 0;
    if (!r->o->sort)
        return 0;
    if (r->n_fall && r->n_joined == r->n_fall)
        return reader_fail(r, NULL,
                           "arrivals fall back to the beginning %" PRIu64 " times: looks like "
                           "recordings joined end to end, which sorting would mix; split the file",
                           r->n_fall);
    if (r->n_fall && sort_rows(r, n_moved))
        return -1;
    return link_rows(r);
}

/* Days since 1970-01-01 to a date; Howard Hinnant's civil_from_days. */
static void civil(int64_t days, int64_t *y, int64_t *m, int64_t *d)
{
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

    *d = doy - (153 * mp + 2) / 5 + 1;
    *m = mp < 10 ? mp + 3 : mp - 9;
    *y = yoe + era * 400 + (*m <= 2);
}

void time_text(int64_t us, char out[48])
{
    int64_t day = us / 86400000000, in_day = us % 86400000000, y, m, d;

    if (in_day < 0) {
        in_day += 86400000000;
        day--;
    }
    civil(day, &y, &m, &d);
    snprintf(out, 48, "%04d-%02d-%02dT%02d:%02d:%02d.%06d", (int)y, (int)m, (int)d,
             (int)(in_day / 3600000000), (int)(in_day / 60000000 % 60),
             (int)(in_day / 1000000 % 60), (int)(in_day % 1000000));
}

/* Clock times count from the earliest row; the clock itself is kept as text. */
static int set_zero(struct reader *r)
{
    struct trace *t = r->t;
    int64_t shift = t->req[0].arrive_us;
    char text[48];

    if (!r->has_epoch)
        return 0;
    if (t->req[t->n - 1].arrive_us - shift > ARRIVAL_MAX_S * INT64_C(1000000))
        return reader_fail(r, NULL, "the times span more than %d s; is a date mistyped?", ARRIVAL_MAX_S);
    for (uint32_t i = 0; i < t->n && shift; i++)
        t->req[i].arrive_us -= shift;
    if (r->has_no_clock)
        return 0;
    time_text(r->epoch_us + shift, text);
    snprintf(t->time_zero, sizeof t->time_zero, "%.26s%s%s", text, *r->zone ? " " : "", r->zone);
    return 0;
}

int rows_finish(struct reader *r)
{
    struct trace *t = r->t;
    uint32_t n_moved;

    if (r->n_error || check_count(r) || texts_finish(r) || put_in_order(r, &n_moved) || set_zero(r))
        return -1;
    warn_time(r);
    if (!strcmp(t->format, "mooncake-jsonl"))
        t->time_step_s = (double)arrival_step(t) * 1e-6;
    return note_choices(r, n_moved);
}
