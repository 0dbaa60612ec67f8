/* sweep.h - one trace x strategies x rates x repeats, interleaved, each run recorded and judged. */
#ifndef HARNESS_SWEEP_H
#define HARNESS_SWEEP_H

#include "harness/preset.h"
#include "harness/progress.h"
#include "harness/replay.h"

enum { RATES_MAX = 64 };

struct sweep_conf {
    const char *trace_path;
    struct trace_options trace_options;
    struct strategy strategy[STRATEGIES_MAX];
    size_t n_strategy;
    double rate[RATES_MAX];
    size_t n_rate;
    uint32_t repeats;
    uint64_t seed;
    const struct device_ops *device;
    struct device_conf device_conf;
    const char *device_note;           /* "" or why auto chose this device */
    const char *model;                 /* as model_find takes it */
    const char *scales;                /* AWQ scales for precisions with awq=on, or NULL */
    bool chat;                         /* texts of the trace become turns in the model's chat form */
    bool show_text;                    /* print what each request was answered */
    const char *kv_text;               /* "512MiB", "8192tok", or NULL: KV_DEFAULT_SEQS longest sequences */
    const char *host_kv_text;          /* host memory to swap to, likewise; NULL: none */
    uint32_t max_new;                  /* output limit that clients declare; 0: the trace's longest */
    bool max_new_is_exact;
    uint32_t max_len;                  /* 0: from the trace */
    bool has_slo;
    struct slo slo;                    /* used when has_slo; else the trace's */
    const char *name, *note, *db, *command_line;
    enum log_level log;
    enum progress_mode progress;
    double max_duration_s;             /* of one run, on the device's clock; 0: none */
    bool dry_run, quiet;
};

struct sweep_result {
    int64_t experiment_id;
    uint32_t n_run, n_done, n_failed, n_invalid;
    bool interrupted;
};

int sweep_run(const struct sweep_conf *c, struct sweep_result *res, struct err *e);

#endif
