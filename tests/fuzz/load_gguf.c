/* load_gguf.c - libFuzzer target: any bytes as a GGUF model; what is accepted gives all its rows and vectors. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/load.h"
#include "models/parts.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* Exact allocations, so that a row that is too long is seen. Errors (weights that are not finite) are legal. */
static void read_all(const struct model_shape *s, const struct weight_source *src)
{
    uint32_t q = s->n_head * s->head_dim, rows = q + 2 * s->n_kv_head * s->head_dim;
    const struct { enum role role; uint32_t n, k; } part[] = {
        { ROLE_QKV, rows, s->dim }, { ROLE_O, s->dim, q }, { ROLE_GATE_UP, 2 * s->ffn, s->dim },
        { ROLE_DOWN, s->dim, s->ffn }, { ROLE_HEAD, s->vocab, s->dim }, { ROLE_EMBED, s->vocab, s->dim },
    };

    for (uint32_t l = 0; l < s->n_layer; l++) {
        for (int p = 0; p < 6; p++) {
            float *x = malloc(part[p].k * sizeof *x);

            for (uint32_t r = 0; r < part[p].n; r++)
                src->row(src->self, part[p].role, l, r, x, NULL);
            free(x);
        }
        for (int g = 0; g < GAIN_N; g++) {
            uint32_t n = gain_length(s, (enum gain)g);
            float *x = malloc(n * sizeof *x);

            if ((g != GAIN_QKV_BIAS || s->qkv_bias) && ((g != GAIN_Q && g != GAIN_K) || s->qk_norm))
                src->gain(src->self, l, (enum gain)g, x, NULL);
            free(x);
        }
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int fd = memfd_create("model", 0);
    struct model_shape s;
    struct weight_source src;
    struct err e = { 0 };
    char path[64];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    if (!load_gguf(path, &s, &src, &e)) {
        read_all(&s, &src);
        load_gguf_close(src.self);
    } else if (!e.code || !*e.text)
        abort();
    close(fd);
    return 0;
}
