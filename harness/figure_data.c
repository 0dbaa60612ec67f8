/* figure_data.c - tables for gnuplot: the statements of plots/NAME.sql, one after the other.
 *
 * The first column of every table is `series`: a new value begins a new data block (two blank
 * lines), so that `index FIRSTk + i - 1` is block i of table k. The arrays say which series a block
 * is: Nk, FIRSTk, Sk[Nk]     of table k = 1, 2 ... ROWSk                  its rows whose last
 * column is there; 0: it cannot be plotted LABEL[], COLOR[]       of table 1, by series: the key
 * Only numbers and label_safe text go into either file; NULL is NaN. */
#include <stdlib.h>
#include <string.h>

#include "harness/figures.h"
#include "results/db.h"

enum { SERIES_MAX = 512 };

static void bind_args(sqlite3_stmt *q, const struct figure_args *a)
{
    const struct { const char *name; int64_t v; } ints[] = {
        {":family", a->family}, {":group", a->group}, {":a", a->a}, {":b", a->b}, {":c", a->c},
        {":d", a->d}, {":r", a->r}
    };
    int at;

    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if ((at = sqlite3_bind_parameter_index(q, ints[i].name)) > 0 && ints[i].v > 0)
            sqlite3_bind_int64(q, at, ints[i].v);
    if ((at = sqlite3_bind_parameter_index(q, ":tail")) > 0)
        sqlite3_bind_text(q, at, a->tail, -1, SQLITE_STATIC);
}

static void put_cell(FILE *tsv, sqlite3_stmt *q, int i)
{
    char safe[80];

    switch (sqlite3_column_type(q, i)) {
    case SQLITE_INTEGER:
        fprintf(tsv, "%lld", (long long)sqlite3_column_int64(q, i));
        break;
    case SQLITE_FLOAT:
        fprintf(tsv, "%.9g", sqlite3_column_double(q, i));
        break;
    case SQLITE_TEXT:
        label_safe(column_str(q, i), safe, sizeof safe);
        fprintf(tsv, "\"%s\"", safe);
        break;
    default:
        fputs("NaN", tsv);
    }
}

static void put_names(FILE *tsv, sqlite3_stmt *q, int table)
{
    fprintf(tsv, "# table %d:", table);
    for (int i = 0; i < sqlite3_column_count(q); i++)
        fprintf(tsv, " %s", sqlite3_column_name(q, i));
    fputc('\n', tsv);
}

/* An empty table still is a block, or the next ones would slide into its place. */
static void put_empty(FILE *tsv, int columns)
{
    for (int i = 0; i < columns; i++)
        fputs(i ? "\tNaN" : "1", tsv);
    fputc('\n', tsv);
}

static void put_array(FILE *gp, int table, const int *series, int n, int first)
{
    fprintf(gp, "N%d = %d; FIRST%d = %d; array S%d[%d] = [", table, n, table, first, table, n);
    for (int i = 0; i < n; i++)
        fprintf(gp, "%s%d", i ? ", " : "", series[i]);
    fputs("]\n", gp);
}

/* The key's arrays go out as the rows come: LABEL at once, COLOR is kept. */
static void put_key(FILE *gp, sqlite3_stmt *q, int n, char *colors, size_t size)
{
    char label[80];

    label_safe(column_str(q, 1), label, sizeof label);
    fprintf(gp, "%s'%s'", n ? ", " : "LABELS = [", label);
    snprintf(colors + strlen(colors), size - strlen(colors), "%s%d", n ? ", " : "",
             sqlite3_column_int(q, 2));
}

static int one_table(sqlite3_stmt *q, int table, int *block, FILE *tsv, FILE *gp, FILE *key)
{
    int series[SERIES_MAX], n = 0, rows = 0, full = 0, columns = sqlite3_column_count(q), rc;
    char colors[8 * SERIES_MAX] = "";

    put_names(tsv, q, table);
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        int now = sqlite3_column_int(q, 0);

        if (n == 0 || series[n - 1] != now) {
            if (n == SERIES_MAX)
                break;
            if (n)
                fputs("\n\n", tsv);
            if (table == 1)
                put_key(key, q, n, colors, sizeof colors);
            series[n++] = now;
        }
        for (int i = 0; i < columns; i++) {
            if (i)
                fputc('\t', tsv);
            put_cell(tsv, q, i);
        }
        fputc('\n', tsv);
        rows++;
        full += sqlite3_column_type(q, columns - 1) != SQLITE_NULL;
    }
    if (!rows) {
        put_empty(tsv, columns);
        series[n++] = 1;
    }
    put_array(gp, table, series, n, *block);
    fprintf(gp, "ROWS%d = %d\n", table, full);
    *block += n;
    if (table == 1 && rows)
        fprintf(gp, "array COLOR[%d] = [%s]\n", n, colors);
    fputs("\n\n", tsv);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? rows : -1;
}

static void put_labels(FILE *gp, char *labels, int n)
{
    char *p = strchr(labels, '[');

    if (p)
        fprintf(gp, "array LABEL[%d] = %s]\n", n, p);
}

int figure_data(struct selection *s, const char *sql, const struct figure_args *a, FILE *tsv,
                FILE *gp, struct err *e)
{
    int table = 0, block = 0, rows, first = -1;
    char *labels = NULL;
    size_t size = 0;
    FILE *key = open_memstream(&labels, &size);
    bool bad = !key;

    while (!bad && *sql) {
        sqlite3_stmt *q = NULL;

        bad = sqlite3_prepare_v2(s->db, sql, -1, &q, &sql) != SQLITE_OK;
        if (bad || !q)                                   /* q NULL: only comments were left */
            break;
        bind_args(q, a);
        rows = one_table(q, ++table, &block, tsv, gp, key);
        bad = rows < 0;
        if (table == 1) {
            first = rows;
            fflush(key);
            put_labels(gp, labels, block);
        }
        if (table == 2 && rows == 0)
            first = 0;                                   /* a key and nothing to show */
        sqlite3_finalize(q);
        if (first == 0)
            break;
    }
    if (bad)
        db_fail(s->db, s->path, "filling a figure's table", e);
    if (key)
        fclose(key);
    free(labels);
    return bad ? -1 : first;
}
