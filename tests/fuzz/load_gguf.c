/* load_gguf.c - libFuzzer target: any bytes as a GGUF model; what is accepted gives all its rows and vectors. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/load.h"
#include "tests/fuzz/read_all.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

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
