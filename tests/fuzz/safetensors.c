/* safetensors.c - libFuzzer target: any bytes as a safetensors file; what is accepted must cover its data exactly. */
#include <stdlib.h>

#include "models/safetensors.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct safetensors s;
    struct err e = { 0 };
    uint64_t bytes = 0;
    unsigned sum = 0;

    if (safetensors_open_bytes(&s, data, size, "fuzz", &e)) {
        if (!e.code || !*e.text)
            abort();
        return 0;
    }
    for (uint32_t i = 0; i < s.n; i++) {
        const struct st_tensor *t = &s.tensor[i];

        if (safetensors_find(&s, t->name) != t)
            abort();
        for (uint64_t b = 0; b < t->bytes; b++)
            sum += t->data[b];
        bytes += t->bytes;
    }
    if (bytes + 8 + le64(data) != size || sum == 0xffffffffu)
        abort();
    safetensors_close(&s);
    return 0;
}
