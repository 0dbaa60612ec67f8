/* load_hf.c - libFuzzer target: any bytes as a snapshot, plain, AWQ or GPTQ; what is accepted gives all its rows and
 * vectors.
 *
 * A u16 is the length of config.json, which follows; the rest is model.safetensors. The folder holds links to two files
 * in memory. Run: .ci/fuzz 60 load_hf. Seeds: tests/fuzz/make_load_hf.py. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/map.h"
#include "models/load.h"
#include "tests/fuzz/read_all.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static char folder[] = "build/fuzz/folder-XXXXXX";
static const char *const names[2] = { "config.json", "model.safetensors" };
static int fds[2];

static void path_of(int i, char out[128]) { snprintf(out, 128, "%s/%s", folder, names[i]); }

static void remove_folder(void)
{
    char path[128];

    for (int i = 0; i < 2; i++) {
        path_of(i, path);
        unlink(path);
    }
    rmdir(folder);
}

static void make_folder(void)
{
    char path[128], to[64];

    if (!mkdtemp(folder) || atexit(remove_folder))
        abort();
    for (int i = 0; i < 2; i++) {
        fds[i] = memfd_create(names[i], 0);
        snprintf(to, sizeof to, "/proc/self/fd/%d", fds[i]);
        path_of(i, path);
        if (fds[i] < 0 || symlink(to, path))
            abort();
    }
}

static void put(int fd, const unsigned char *p, size_t n)
{
    if (ftruncate(fd, 0) || pwrite(fd, p, n, 0) != (ssize_t)n)
        abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct model_shape s;
    struct weight_source src;
    struct err e = { 0 };
    size_t n = size < 2 ? 0 : le16(data);

    if (size < 2)
        return 0;
    n = n < size - 2 ? n : size - 2;
    if (!fds[0])
        make_folder();
    put(fds[0], data + 2, n);
    put(fds[1], data + 2 + n, size - 2 - n);
    if (!load_hf(folder, &s, &src, &e)) {
        read_all(&s, &src);
        load_hf_close(src.self);
    } else if (!e.code || !*e.text)
        abort();
    return 0;
}
