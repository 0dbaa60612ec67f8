#include "kernels/sim/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/home.h"
#include "base/json.h"
#include "base/map.h"

enum { TABLES_MAX = 4096, POINTS_MAX = 65536, FILE_MAX = 64 << 20 };

const char *const sim_by_name[3] = { "rows", "bytes", "flops" };

static int word_index(const json_t *v, const char *const *words, int n)
{
    const char *s = json_string_value(v);

    for (int i = 0; s && i < n; i++)
        if (!strcmp(s, words[i]))
            return i;
    return -1;
}

static int fmt_index(const json_t *v)
{
    const char *s = json_string_value(v);

    for (int i = 0; s && i < FMT_N; i++)
        if (!strcmp(s, fmt_name((enum fmt)i)))
            return i;
    return -1;
}

static int bad_table(const char *path, size_t i, const char *what, struct err *e)
{
    return err_set(e, EXIT_USAGE, "%s: field 'ops[%zu]': %s", path, i, what);
}

static int read_points(struct sim_table *t, const json_t *x, const json_t *ns, const char *path, size_t at,
                       struct err *e)
{
    size_t n = json_array_size(x);

    if (!n || n > POINTS_MAX || n != json_array_size(ns))
        return bad_table(path, at, "expected 'x' and 'ns', two equally long lists of numbers", e);
    t->x = calloc(n, sizeof *t->x);
    t->ns = calloc(n, sizeof *t->ns);
    if (!t->x || !t->ns)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    for (size_t i = 0; i < n; i++) {
        t->x[i] = json_number_value(json_array_get(x, i));
        t->ns[i] = json_number_value(json_array_get(ns, i));
        if (!(t->x[i] > (i ? t->x[i - 1] : 0) && t->x[i] < 1e18) || !(t->ns[i] >= 0 && t->ns[i] < 1e15))
            return bad_table(path, at, "'x' must be positive and ascending, 'ns' times of at least 0", e);
    }
    t->n_point = (uint32_t)n;
    return 0;
}

static int read_table(struct sim_table *t, const json_t *o, const char *path, size_t at, struct err *e)
{
    int op = word_index(json_object_get(o, "op"), op_name, OP_N), fmt = fmt_index(json_object_get(o, "fmt"));
    int by = word_index(json_object_get(o, "by"), sim_by_name, 3);
    json_int_t n = json_integer_value(json_object_get(o, "n")), k = json_integer_value(json_object_get(o, "k"));

    if (op < 0 || fmt < 0 || by < 0)
        return bad_table(path, at, "expected 'op' (an operation), 'fmt' (a format) and 'by' (rows, bytes or "
                         "flops)", e);
    if (n < 0 || k < 0 || n > UINT32_MAX || k > UINT32_MAX || json_object_size(o) != 7)
        return bad_table(path, at, "expected the fields op, fmt, n, k, by, x and ns", e);
    t->op = (enum op)op;
    t->fmt = (enum fmt)fmt;
    t->by = (enum sim_by)by;
    t->n = (uint32_t)n;
    t->k = (uint32_t)k;
    return read_points(t, json_object_get(o, "x"), json_object_get(o, "ns"), path, at, e);
}

static int read_tables(struct sim_profile *p, const json_t *ops, const char *path, struct err *e)
{
    size_t n = json_array_size(ops);

    if (n > TABLES_MAX)
        return err_set(e, EXIT_USAGE, "%s: field 'ops': %zu tables; at most %d", path, n, TABLES_MAX);
    p->table = n ? calloc(n, sizeof *p->table) : NULL;
    if (n && !p->table)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    for (; p->n_table < n; p->n_table++)
        if (read_table(p->table + p->n_table, json_array_get(ops, p->n_table), path, p->n_table, e)) {
            p->n_table++;                       /* so that profile_free sees what it had */
            return -1;
        }
    return 0;
}

void profile_free(struct sim_profile *p)
{
    for (uint32_t i = 0; i < p->n_table; i++) {
        free(p->table[i].x);
        free(p->table[i].ns);
    }
    free(p->table);
    free(p->text);
    p->table = NULL;
    p->text = NULL;
    p->n_table = 0;
}

static double interpolate(const struct sim_table *t, double x)
{
    uint32_t lo = 0, hi = t->n_point - 1;

    if (x <= t->x[0])
        return t->ns[0];
    if (x >= t->x[hi])
        return t->ns[hi] * (x / t->x[hi]);
    while (hi - lo > 1) {
        uint32_t mid = (lo + hi) / 2;

        *(t->x[mid] <= x ? &lo : &hi) = mid;
    }
    return t->ns[lo] + (t->ns[hi] - t->ns[lo]) * ((x - t->x[lo]) / (t->x[hi] - t->x[lo]));
}

double profile_lookup(const struct sim_profile *p, enum op op, const struct op_cost *c)
{
    for (uint32_t i = 0; i < p->n_table; i++) {
        const struct sim_table *t = p->table + i;

        if (t->op == op && t->fmt == c->fmt && t->n == c->n && t->k == c->k)
            return interpolate(t, t->by == BY_ROWS ? c->m : t->by == BY_BYTES ? c->bytes : c->flops);
    }
    return -1;
}

/* Read once: what is parsed, summed and recorded are the same bytes. */
static int read_text(struct sim_profile *p, const char *path, uint64_t *n, struct err *e)
{
    char folder[4096];
    size_t len = (size_t)snprintf(folder, sizeof folder, "%s/kernels/sim/profiles/", home_dir());
    struct map m;

    if (map_open(&m, path, FILE_MAX, e))
        return -1;
    p->text = calloc(m.size + 1, 1);
    if (p->text && m.size)
        memcpy(p->text, m.data, m.size);
    *n = m.size;
    map_close(&m);
    if (!p->text)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    sha256_hex(p->text, *n, p->sha256);
    p->is_own = strncmp(path, folder, len) != 0;
    return 0;
}

int profile_load(struct sim_profile *p, const char *name, struct err *e)
{
    uint64_t n_text = 0;
    char path[4096], schema[32] = "";
    json_t *ops = NULL;
    int rc;
    const struct json_field fields[] = {
        { "schema", JSON_K_TEXT, schema, 0, 0, sizeof schema, false },
        { "name", JSON_K_TEXT, p->name, 0, 0, sizeof p->name, false },
        { "about", JSON_K_TEXT, p->about, 0, 0, sizeof p->about, false },
        { "flops", JSON_K_REAL, &p->flops, 1e6, 1e19, 0, false },
        { "bandwidth", JSON_K_REAL, &p->bandwidth, 1e6, 1e16, 0, false },
        { "flop_efficiency", JSON_K_REAL, &p->flop_efficiency, 1e-3, 1, 0, false },
        { "byte_efficiency", JSON_K_REAL, &p->byte_efficiency, 1e-3, 1, 0, false },
        { "int_ops", JSON_K_REAL, &p->int_ops, 1e6, 1e19, 0, true },
        { "int_efficiency", JSON_K_REAL, &p->int_efficiency, 1e-3, 1, 0, true },
        { "link_bandwidth", JSON_K_REAL, &p->link_bandwidth, 1e6, 1e15, 0, false },
        { "launch_ns", JSON_K_REAL, &p->launch_ns, 0, 1e9, 0, false },
        { "host_step_ns", JSON_K_INT, &p->host_step_ns, 0, 1e9, 0, false },
        { "host_seq_ns", JSON_K_INT, &p->host_seq_ns, 0, 1e9, 0, false },
        { "graph_launch_ns", JSON_K_REAL, &p->graph_launch_ns, 0, 1e9, 0, true },
        { "ops", JSON_K_ARRAY, &ops, 0, 0, 0, true },
        { "mem_bytes", JSON_K_INT, &p->mem_bytes, 1e6, 1e15, 0, false },
        { 0 },
    };

    memset(p, 0, sizeof *p);
    if (home_find("sim profile", "kernels/sim/profiles", name, ".json", path, sizeof path, e))
        return -1;
    rc = read_text(p, path, &n_text, e);
    if (!rc)
        rc = json_text_fields(path, p->text, n_text, fields, e);
    if (!rc && strcmp(schema, "sim-profile/1"))
        rc = err_set(e, EXIT_USAGE, "%s: field 'schema': '%s'; expected 'sim-profile/1'", path, schema);
    if (!rc && (p->int_ops > 0) != (p->int_efficiency > 0))
        rc = err_set(e, EXIT_USAGE, "%s: fields 'int_ops' and 'int_efficiency' go together", path);
    if (!rc && ops)
        rc = read_tables(p, ops, path, e);
    json_decref(ops);
    if (rc)
        profile_free(p);
    return rc;
}
