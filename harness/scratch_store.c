#include "harness/scratch_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int scratch_store_open(struct scratch_store *s, bool keep_in_memory, struct err *e)
{
    struct run_row row = { .backend = "sim", .device = "sim", .clock = "virtual", .pace = "virtual",
                           .loop = "open", .rate_scale = 1, .pair_key = "", .slo_json = "{}",
                           .params_json = "{}" };
    struct environment_row env = { .hostname = "bench" };
    struct model_row model = { .name = "bench" };
    struct trace_row trace = { .name = "bench", .sha256 = "bench" };
    struct strategy_row st = { .name = "bench" };
    struct experiment_row x = { .name = "bench", .spec_json = "{}", .command_line = "" };
    int fd;

    memset(s, 0, sizeof *s);
    strcpy(s->path, "/tmp/servelab-bench-XXXXXX");
    fd = mkstemp(s->path);
    if (fd < 0)
        return err_set(e, EXIT_IO, "%s: cannot make a temporary file", s->path);
    close(fd);
    unlink(s->path);
    s->rec = recorder_open(s->path, e);
    if (!s->rec || (row.environment_id = recorder_environment(s->rec, &env, e)) < 0 ||
        (row.model_id = recorder_model(s->rec, &model, e)) < 0 ||
        (row.trace_id = recorder_trace(s->rec, &trace, e)) < 0 ||
        (row.strategy_id = recorder_strategy(s->rec, &st, e)) < 0 ||
        (row.experiment_id = recorder_experiment(s->rec, &x, e)) < 0 ||
        recorder_run_begin(s->rec, &row, keep_in_memory, e) < 0)
        return -1;
    return 0;
}

void scratch_store_close(struct scratch_store *s)
{
    if (s->rec)
        recorder_close(s->rec);
    unlink(s->path);
    s->rec = NULL;
}
