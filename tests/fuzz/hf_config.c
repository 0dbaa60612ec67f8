/* hf_config.c - libFuzzer target: any bytes as a snapshot's config.json. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/hf_config.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int fd = memfd_create("config", 0);
    struct hf_config c;
    struct err e = { 0 };
    char path[64];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    if (hf_config_read(&c, path, &e)) {
        if (!e.code || !*e.text)
            abort();
    } else if (!c.shape.n_layer || c.shape.dim % 32 || c.shape.n_head % c.shape.n_kv_head)
        abort();
    close(fd);
    return 0;
}
