/* test_plugin.c - the cuda device as the program finds it: each thing that can be missing (the file, its
 * entry, the right seam version, a library, the driver) is one line that names it, and nothing else breaks.
 * Small plug-ins are made here with the C compiler; the real one is used where it was built. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/device.h"
#include "tests/test.h"

#ifndef SERVELAB_SOURCE
#define SERVELAB_SOURCE "."
#endif

static const struct device_ops *cuda_entry(void)
{
    struct err e = { 0 };
    const struct device_ops *ops = device_find("cuda", &e);

    CU_ASSERT_PTR_NOT_NULL_FATAL(ops);
    return ops;
}

static bool says(const char *text, const char *what)
{
    if (strstr(text, what))
        return true;
    test_note("expected '%s' in: %s", what, text);
    return false;
}

/* Names the plug-in; NULL: as without the variable. */
static void name_plugin(const char *path)
{
    if (path)
        setenv("SERVELAB_CUDA_PLUGIN", path, 1);
    else
        unsetenv("SERVELAB_CUDA_PLUGIN");
}

/* Opening and probing both fail, say the same, and leave a device that can be closed. */
static void refused(const char *what)
{
    const struct device_ops *ops = cuda_entry();
    struct device_conf conf = { .pace = PACE_SKIP };
    struct device d;
    struct err e = { 0 };
    char line[sizeof e.text] = "";

    CU_ASSERT_EQUAL(dev_open(&d, ops, &conf, &e), -1);
    CU_ASSERT_EQUAL(e.code, EXIT_RUN_FAILED);
    CU_ASSERT(says(e.text, what));
    CU_ASSERT_PTR_NULL(strchr(e.text, '\n'));
    dev_close(&d);
    CU_ASSERT_EQUAL(ops->probe(line, sizeof line), -1);
    CU_ASSERT(says(line, what));
}

/* Compiles text to test_dir()/NAME.so and names it; false: this machine cannot. */
static bool plugin_made(const char *name, const char *text)
{
    char path[4200], cmd[13000];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s.c", test_dir(), name);
    f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
    snprintf(cmd, sizeof cmd, "cc -std=c11 -shared -fPIC -I'%s' -o '%s/%s.so' '%s' 2>/dev/null", SERVELAB_SOURCE,
             test_dir(), name, path);
    if (system(cmd))
        return false;
    snprintf(path, sizeof path, "%s/%s.so", test_dir(), name);
    name_plugin(path);
    return true;
}

static void a_missing_file(void)
{
    char path[4200];

    snprintf(path, sizeof path, "%s/none.so", test_dir());
    name_plugin(path);
    refused("none.so");
    refused("SERVELAB_CUDA_PLUGIN");
    name_plugin(NULL);
}

static void a_file_that_is_no_library(void)
{
    char path[4200];
    FILE *f;

    snprintf(path, sizeof path, "%s/text.so", test_dir());
    f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs("not a library\n", f);
    fclose(f);
    name_plugin(path);
    refused("text.so");
    refused("does not load");
    name_plugin(NULL);
}

static void another_library(void)
{
    if (!plugin_made("other", "int other(void);\nint other(void) { return 1; }\n")) {
        test_skip("no C compiler named cc here");
        return;
    }
    refused("no servelab_device()");
    name_plugin(NULL);
}

static void another_seam_version(void)
{
    char text[600];

    snprintf(text, sizeof text, "#include \"kernels/device.h\"\nconst struct device_ops *servelab_device(void);\n"
             "static const struct device_ops ops = { .abi = %d, .name = \"cuda\" };\n"
             "const struct device_ops *servelab_device(void) { return &ops; }\n", DEVICE_ABI + 1);
    if (!plugin_made("newer", text)) {
        test_skip("no C compiler named cc here");
        return;
    }
    snprintf(text, sizeof text, "seam version %d, this program has %d", DEVICE_ABI + 1, DEVICE_ABI);
    refused(text);
    name_plugin(NULL);
}

static void a_missing_entry_is_not_called(void)
{
    if (!plugin_made("none", "#include <stddef.h>\nconst void *servelab_device(void);\n"
                     "const void *servelab_device(void) { return NULL; }\n")) {
        test_skip("no C compiler named cc here");
        return;
    }
    refused("seam version 0");
    name_plugin(NULL);
}

/* The table of a good plug-in takes the place of the program's: its operations are the ones that run. */
static const char good[] =
    "#include <string.h>\n#include \"kernels/device.h\"\n"
    "const struct device_ops *servelab_device(void);\n"
    "static int fake_open(struct device *d, const struct device_conf *c, struct err *e)\n"
    "{ (void)c; (void)e; strcpy(d->label, \"cuda fake\"); return 0; }\n"
    "static void fake_close(struct device *d) { (void)d; }\n"
    "static uint64_t fake_now(struct device *d) { (void)d; return 77; }\n"
    "static int fake_probe(char *line, size_t n) { strncpy(line, \"a fake\", n); return 0; }\n"
    "static const struct device_ops ops = { .abi = DEVICE_ABI, .name = \"cuda\", .open = fake_open,\n"
    "    .close = fake_close, .now = fake_now, .probe = fake_probe };\n"
    "const struct device_ops *servelab_device(void) { return &ops; }\n";

static void a_good_plugin(void)
{
    const struct device_ops *ops = cuda_entry();
    struct device_conf conf = { .pace = PACE_SKIP };
    struct device d;
    struct err e = { 0 };
    char line[64] = "";

    if (!plugin_made("good", good)) {
        test_skip("no C compiler named cc here");
        return;
    }
    CU_ASSERT_EQUAL(ops->probe(line, sizeof line), 0);
    CU_ASSERT_STRING_EQUAL(line, "a fake");
    CU_ASSERT_EQUAL_FATAL(dev_open(&d, ops, &conf, &e), 0);
    CU_ASSERT_STRING_EQUAL(d.label, "cuda fake");
    CU_ASSERT_EQUAL(dev_now(&d), 77);
    dev_close(&d);
    name_plugin(NULL);
}

/* Beside the program or one folder above it, as the build leaves it. */
static bool plugin_built(char *path, size_t n)
{
    static const char *const below[] = { "", "../" };
    char self[4096];
    ssize_t got = readlink("/proc/self/exe", self, sizeof self - 1);

    if (got <= 0)
        return false;
    self[got] = 0;
    *(strrchr(self, '/') + 1) = 0;
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, n, "%s%sdevice_cuda.so", self, below[i]);
        if (!access(path, R_OK))
            return true;
    }
    return false;
}

/* Without the file: how to get it. With it and without a GPU: which of the driver and the GPU is missing. With
 * both: the device opens and is what the program said it is before. */
static void the_real_one(void)
{
    const struct device_ops *ops = cuda_entry();
    struct device_conf conf = { .pace = PACE_SKIP };
    struct device d;
    struct err e = { 0 };
    char path[4200], line[sizeof e.text] = "";

    name_plugin(NULL);
    if (!plugin_built(path, sizeof path)) {
        refused("run 'make' where nvcc is found");
    } else if (ops->probe(line, sizeof line)) {
        CU_ASSERT(says(line, "driver") || says(line, "GPU") || says(line, "load"));
        refused(line);
    } else {
        CU_ASSERT_EQUAL_FATAL(dev_open(&d, ops, &conf, &e), 0);
        CU_ASSERT(d.ops != ops && d.ops->computes == ops->computes);
        CU_ASSERT_EQUAL(d.ops->act_bytes, ops->act_bytes);
        CU_ASSERT_EQUAL(d.ops->weight_fmts, ops->weight_fmts);
        CU_ASSERT_EQUAL(d.ops->kv_fmts, ops->kv_fmts);
        dev_close(&d);
    }
}

static const struct test tests[] = {
    { "a plug-in that is not there", a_missing_file },
    { "a file that is no library", a_file_that_is_no_library },
    { "a library that is no device", another_library },
    { "a plug-in of another seam version", another_seam_version },
    { "a plug-in without a table", a_missing_entry_is_not_called },
    { "a good plug-in takes the program's place", a_good_plugin },
    { "the plug-in of this build, or what it misses", the_real_one },
    { 0 },
};
const struct suite suite_plugin = { "plugin", tests, 60 };
