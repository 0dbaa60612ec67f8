/* trace.h - a recorded or generated workload, serving-trace/1 in memory.
 *
 * Readers recognise a file by content: serving-trace/1 as JSON or JSONL, Azure 2023 CSV, Mooncake
 * JSONL, and sets of texts without times (MT-bench, arena-hard, GSM8K, HumanEval, ShareGPT), each possibly
 * gzipped. Everything is checked before use; every refusal is one line in struct
 * err (row errors: the first 20 in options.report). Nothing is dropped, sorted or clipped unless asked. */
#ifndef WORKLOADS_TRACE_H
#define WORKLOADS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/hash.h"

enum {
    TRACE_MAX_PROMPT = 16777216, TRACE_MAX_OUTPUT = 1048576,
    TRACE_MAX_ERRORS = 20
};

struct slo { double ttft_ms, tpot_ms, e2e_ms; };       /* 0: no such limit */

/* What few rows have; NULL in the row when it has none of it. */
struct trace_more {
    const char *session, *after, *model, *tenant, *prefix_group, *prompt;
    const uint32_t *prompt_ids;        /* [n_prompt] when given */
    const char *ext;                   /* JSON text, verbatim from the source; also "observed" */
    const char *observed;
    double think_s;                    /* < 0: not given */
    uint32_t turn;                     /* 0: not given */
    uint32_t prefix_tokens;
    int32_t priority;
    struct slo slo;
};

struct trace_req {                     /* 48 bytes */
    int64_t arrive_us;                 /* from the trace's zero, never falling */
    uint32_t n_prompt, n_out;          /* tokens, both >= 1 */
    uint32_t n_block, reserved;
    const uint64_t *block;             /* [n_block] prefix block ids, or NULL */
    const char *id;                    /* NULL: the row's number in digits (trace_id) */
    const struct trace_more *more;
};

struct trace {
    char name[128], format[32];        /* format: "serving-trace/1", "azure-csv", "mooncake-jsonl" */
    char source[256], licence[64], recipe[512], tokenizer[64];
    char sha256[SHA256_HEX];           /* of the file as stored */
    bool is_synthetic;
    uint32_t block_tokens;             /* 0: rows have no blocks */
    bool block_tail_partial;           /* count = ceil (Mooncake) or floor (WEKA) */
    bool block_scope_session;
    char time_zero[40];
    double time_step_s;                /* 0: not known */
    struct slo slo;
    struct trace_req *req;             /* [n] */
    uint32_t n, cap;                   /* cap > 0: req is from malloc, and trace_free frees it */
    char header_extra[1024];           /* "" or a JSON list: choices made on reading, counted */
    struct arena arena;
};

enum overlong { OVERLONG_REFUSE, OVERLONG_SKIP, OVERLONG_CLIP };
/* When requests arrive that come from texts without times. */
enum arrival_law { LAW_NONE, LAW_POISSON, LAW_GAMMA, LAW_EVEN, LAW_BATCH, LAW_N };
extern const char *const arrival_names[LAW_N];    /* "none", "poisson" ... */

/* Names of a CSV's columns when they are not Azure's, and what a bare number of its clock counts; NULL, CLOCK_GUESS:
 * Azure's names; by size (see import/azure.c), which a note says. */
enum csv_column { CSV_ARRIVED, CSV_INPUT, CSV_OUTPUT, CSV_COLUMNS };
enum csv_clock { CLOCK_GUESS, CLOCK_S, CLOCK_MS, CLOCK_US, CLOCK_NS };
struct csv_options { const char *column[CSV_COLUMNS]; enum csv_clock clock; };

/* What texts lack: lengths in tokens need a tokenizer, times a law. Nothing is guessed. */
struct text_options {
    /* Tokens of a prompt (with what the model wants around it) or of an answer, or -1 when they cannot
     * be counted; NULL: texts are refused. */
    int64_t (*count)(void *self, const char *text, size_t n, bool is_prompt);
    void *self;
    const char *tokenizer;             /* stands in the header */
    enum arrival_law arrivals;
    double rate, cv;                   /* requests/s; CV of the gaps, for gamma */
    uint64_t seed;
    uint32_t n_out;                    /* output tokens of every request; 0: those of the recorded answer */
    bool skip_empty;                   /* rows without a prompt or an answer are left out, counted */
};
struct trace_options {
    uint32_t limit;                    /* keep the first rows only; 0 = all */
    uint32_t max_context;              /* prompt + output above it is overlong; 0 = no such limit */
    enum overlong overlong;
    bool sort;
    FILE *report;                      /* warnings and further errors go here; NULL: nowhere */
    struct text_options texts;
    struct csv_options csv;
};

int  trace_read(struct trace *t, const char *path, const struct trace_options *o, struct err *e);
void trace_free(struct trace *t);
/* JSON form, or JSONL when jsonl. Written to a temporary name and renamed. */
int  trace_write(const struct trace *t, const char *path, bool jsonl, struct err *e);
/* TRACE argument: a path, or a name under workloads/ ("chat.json"). */
int  trace_find(const char *name, char *path, size_t n, struct err *e);
const char *trace_id(const struct trace *t, uint32_t row, char buf[24]);

struct trace_info {
    uint64_t prompt_tokens, output_tokens;
    double span_s, rate, gap_cv;       /* rate, cv: NaN when undefined */
    double dispersion[3];              /* variance/mean of counts per 1, 10, 60 s; NaN when undefined */
    double prompt_q[5], output_q[5];   /* p50 p90 p99 max mean, nearest rank */
    double prefix_share;               /* prompt tokens that an unlimited prefix cache would hit / all */
    double zero_gap_share;
    uint32_t longest;                  /* largest prompt + output */
};
int trace_stat(const struct trace *t, struct trace_info *out, struct err *e);

/* Token ids of a prompt, positions [from, from + n): derived from block identity, so that equal
 * prefixes are equal ids (docs/METRICS.md). Deterministic in (trace, row, seed). Rows with prompt_ids
 * give those. */
void trace_tokens(const struct trace *t, uint32_t row, uint64_t seed, uint32_t vocab, uint32_t from,
                  uint32_t n, uint32_t *out);

/* 64-bit identities of the same tokens: equal identities are equal tokens. What prefix caches compare. */
void trace_identities(const struct trace *t, uint32_t row, uint64_t seed, uint32_t from, uint32_t n,
                      uint64_t *out);

/* Generator recipes: "chat" (classroom: published lengths / 8), "chat-full", "code-full". */
struct recipe_options { uint32_t n; double rate; double cv; uint64_t seed; };   /* 0: recipe's own */
int trace_generate(struct trace *t, const char *recipe, const struct recipe_options *o,
                   struct err *e);
const char *const *recipe_names(void);  /* NULL-ended */

#endif
