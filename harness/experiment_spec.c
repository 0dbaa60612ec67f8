#include "harness/experiment_spec.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"
#include "base/params.h"

static int read_part(struct experiment_part *p, json_t *o, const struct experiment_spec *s,
                     const char *path, struct err *e)
{
    json_error_t je;

    *p = (struct experiment_part){ .max_new = "", .log = "request", .profile = s->profile, .model = s->model,
                        .small = s->small };
    if (json_unpack_ex(o, &je, JSON_STRICT, "{s:s, s?o, s?s, s?o, s:o, s:s, s:i, s?s, s?s, s?s, s?s, "
                       "s?i, s?F, s?F, s?F, s?o}", "name", &p->name, "trace", &p->trace, "shared", &p->shared,
                       "rates", &p->rates, "strategies", &p->strategies, "kv", &p->kv, "max_len",
                       &p->max_len, "max_new", &p->max_new, "log", &p->log, "profile", &p->profile,
                       "model", &p->model, "limit", &p->limit, "small", &p->small, "slo_ttft_ms",
                       &p->slo_ttft, "slo_tpot_ms", &p->slo_tpot, "small_rates", &p->small_rates))
        return err_set(e, EXIT_USAGE, "%s: part: %s", path, je.text);
    if (!p->trace == !p->shared)
        return err_set(e, EXIT_USAGE, "%s: part %s: expected one of 'trace' and 'shared'", path, p->name);
    if (!json_is_object(p->strategies) || !json_object_size(p->strategies))
        return err_set(e, EXIT_USAGE, "%s: part %s: field 'strategies': expected labels with one strategy "
                       "text each", path, p->name);
    if (!(p->small >= 0) || p->small > 1)
        return err_set(e, EXIT_USAGE, "%s: part %s: field 'small': expected a share from 0 (left out) "
                       "to 1", path, p->name);
    return 0;
}

int experiment_spec_read(struct experiment_spec *s, const char *path, struct err *e)
{
    const char *schema = "";
    json_t *parts = NULL, *o;
    json_error_t je;
    size_t i;

    s->root = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
    if (!s->root)
        return err_set(e, EXIT_USAGE, "%s: line %d: %s", path, je.line, je.text);
    if (json_unpack_ex(s->root, &je, JSON_STRICT, "{s:s, s:s, s:s, s:s, s:s, s:s, s:F, s:o}", "schema",
                       &schema, "name", &s->name, "question", &s->question, "source", &s->source,
                       "model", &s->model, "profile", &s->profile, "small", &s->small, "parts", &parts))
        return err_set(e, EXIT_USAGE, "%s: %s", path, je.text);
    if (strcmp(schema, "experiment/1"))
        return err_set(e, EXIT_USAGE, "%s: field 'schema': '%s'; expected 'experiment/1'", path, schema);
    if (!json_is_array(parts) || !json_array_size(parts) || json_array_size(parts) > EXPERIMENT_PARTS)
        return err_set(e, EXIT_USAGE, "%s: field 'parts': expected a list of 1 to %d", path,
                       EXPERIMENT_PARTS);
    json_array_foreach(parts, i, o)
        if (read_part(&s->part[s->n++], o, s, path, e))
            return -1;
    return 0;
}

int experiment_find(const char *name, char *from, size_t n, struct err *e)
{
    enum { MAX = 64 };
    char *all[MAX], path[4200];
    const char *list[MAX], *near;
    size_t count, k = 0;

    snprintf(from, n, strchr(name, '/') ? "%s" : "%s/results/%s", strchr(name, '/') ? name : home_dir(),
             name);
    snprintf(path, sizeof path, "%s/sweep.json", from);
    if (access(path, R_OK) == 0)
        return 0;
    count = home_list("results", "", all, MAX);
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/results/%s/sweep.json", home_dir(), all[i]);
        if (access(path, R_OK) == 0)
            list[k++] = all[i];
    }
    near = nearest_name(name, list, k);
    for (size_t i = 0; !near && i < k; i++)        /* "01" and "memory" are near enough */
        if (strstr(list[i], name))
            near = list[i];
    err_set(e, EXIT_USAGE, "unknown experiment '%s': no results/%s/sweep.json; %s%s%s", name, name,
            near ? "did you mean '" : "'servelab experiment --help' shows where they are",
            near ? near : "", near ? "'?" : "");
    while (count)
        free(all[--count]);
    return -1;
}
