/* gguf.c - libFuzzer target: any bytes as a GGUF file; what is accepted is then walked and every row decoded. */
#include <stdlib.h>

#include "models/gguf.h"
#include "models/gguf_config.h"
#include "models/quants.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void walk_lists(const struct gguf *g)
{
    for (uint64_t i = 0; i < g->n_kv; i++) {
        struct gguf_list l = { .g = g, .item = g->kv[i].item, .n = g->kv[i].n, .at = g->kv[i].at };
        struct gguf_str s;
        uint64_t sum = 0;
        int64_t v;
        double d;

        if (g->kv[i].type != GGUF_ARRAY)
            continue;
        while (gguf_next_str(&l, &s))
            for (uint64_t c = 0; c < s.n; c++)
                sum += (unsigned char)s.p[c];
        while (gguf_next_int(&l, &v) || gguf_next_real(&l, &d))
            ;
        if (l.i != l.n || l.at != g->kv[i].end)         /* a list must end where the walk said */
            abort();
    }
}

static void decode_rows(const struct gguf *g)
{
    for (uint64_t i = 0; i < g->n_tensor; i++) {
        const struct gguf_tensor *t = &g->tensor[i];
        uint64_t rows = t->dim[1] * t->dim[2] * t->dim[3];
        float *x = malloc((size_t)t->dim[0] * sizeof *x);

        for (uint64_t r = 0; x && r < rows; r++)
            quant_row((enum quant)t->type, t->data + t->bytes / rows * r, t->dim[0], x);
        free(x);
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct model_shape s;
    struct err e = { 0 };
    struct gguf g;
    bool paired;

    if (gguf_open_bytes(&g, data, size, "fuzz", &e)) {
        if (!e.code || !*e.text)                        /* refused without a reason */
            abort();
        return 0;
    }
    walk_lists(&g);
    decode_rows(&g);
    gguf_config(&g, &s, &paired, &e);
    gguf_close(&g);
    return 0;
}
