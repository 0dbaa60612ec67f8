/* device_cuda.c - the cuda device as the main program sees it: a name, and a plug-in opened at run time.
 *
 * plugin.cu and its neighbours are built by nvcc into device_cuda.so (.ci/plugin.mk). It exports one function,
 * servelab_device, which gives a table of this same seam; opening the device puts that table in the place of this
 * one. So the program links nothing of CUDA and starts on any machine, and what is missing (the file, a library,
 * the driver, the GPU, a rebuild) is said in one line, here and in `servelab doctor`.
 *
 * The plug-in is $SERVELAB_CUDA_PLUGIN if set; else device_cuda.so beside the program, or one folder above (where
 * variants of the build find it). It stays open until the program ends: CUDA does not like to be unloaded. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/device.h"

extern const struct device_ops device_cuda;

typedef const struct device_ops *plugin_entry(void);

/* The program's folder with its '/', or "" when it is not known. */
static void program_folder(char *out, size_t n)
{
    ssize_t got = readlink("/proc/self/exe", out, n - 1);
    char *slash;

    out[got > 0 ? got : 0] = 0;
    slash = strrchr(out, '/');
    out[slash ? slash - out + 1 : 0] = 0;
}

static int find_plugin(char *path, size_t n, struct err *e)
{
    static const char *const below[] = { "", "../" };
    const char *named = getenv("SERVELAB_CUDA_PLUGIN");
    char folder[4096];

    if (named && *named) {
        snprintf(path, n, "%s", named);
        return !access(path, R_OK) ? 0 :
               err_set(e, EXIT_RUN_FAILED, "cuda: $SERVELAB_CUDA_PLUGIN names '%s', which cannot be read",
                       named);
    }
    program_folder(folder, sizeof folder);
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        snprintf(path, n, "%s%sdevice_cuda.so", folder, below[i]);
        if (!access(path, R_OK))
            return 0;
    }
    return err_set(e, EXIT_RUN_FAILED, "cuda: no device_cuda.so in %s: run 'make' where nvcc is found (CUDA "
                   "toolkit), or name the file in $SERVELAB_CUDA_PLUGIN", *folder ? folder : "the program's folder");
}

/* The table of an opened plug-in, or NULL with the reason. */
static const struct device_ops *plugin_table(void *plugin, const char *path, struct err *e)
{
    void *symbol = dlsym(plugin, "servelab_device");
    const struct device_ops *ops;
    plugin_entry *entry;

    if (!symbol) {
        err_set(e, EXIT_RUN_FAILED, "cuda: '%s' is no servelab device: it has no servelab_device()", path);
        return NULL;
    }
    memcpy(&entry, &symbol, sizeof entry);     /* ISO C knows no cast from object to function */
    ops = entry();
    if (ops && ops->abi == DEVICE_ABI)
        return ops;
    err_set(e, EXIT_RUN_FAILED, "cuda: '%s' was built for seam version %u, this program has %d: run 'make' again",
            path, ops ? ops->abi : 0, DEVICE_ABI);
    return NULL;
}

static const struct device_ops *plugin_open(struct err *e)
{
    const struct device_ops *ops = NULL;
    char path[4200];
    void *plugin;

    if (find_plugin(path, sizeof path, e))
        return NULL;
    plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin)
        err_set(e, EXIT_RUN_FAILED, "cuda: the plug-in does not load: %s", dlerror());
    else if (!(ops = plugin_table(plugin, path, e)))
        dlclose(plugin);
    return ops;
}

static int cuda_open(struct device *d, const struct device_conf *c, struct err *e)
{
    const struct device_ops *ops = plugin_open(e);

    if (!ops)
        return -1;
    d->ops = ops;
    return ops->open(d, c, e);
}

static void cuda_close(struct device *d) { (void)d; }  /* never opened: an open device has the plug-in's table */

static int cuda_probe(char *line, size_t n)
{
    struct err e = { 0 };
    const struct device_ops *ops = plugin_open(&e);

    if (ops)
        return ops->probe(line, n);
    snprintf(line, n, "%s", e.text);
    return -1;
}

/* What a device says of itself before it is opened; the rest comes with the plug-in's table, which says the same. */
const struct device_ops device_cuda = {
    .abi = DEVICE_ABI, .name = "cuda", .about = "an NVIDIA GPU, compute capability 8.0 or later (plug-in)",
    .computes = true, .act_bytes = 2,
    .weight_fmts = FMT_BIT(FMT_F16) | FMT_BIT(FMT_BF16) | FMT_BIT(FMT_FP8) | FMT_BIT(FMT_INT8) |
                   FMT_BIT(FMT_INT4) | FMT_BIT(FMT_INT4Z),
    .kv_fmts = FMT_BIT(FMT_F16) | FMT_BIT(FMT_INT8) | FMT_BIT(FMT_FP8),
    .open = cuda_open, .close = cuda_close, .probe = cuda_probe,
};
