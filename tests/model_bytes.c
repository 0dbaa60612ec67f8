#include "tests/model_bytes.h"

#include <stdio.h>
#include <string.h>

#include "base/home.h"
#include "base/map.h"
#include "tests/test.h"

const char *parity_path(const char *name)
{
    static char path[4096];

    snprintf(path, sizeof path, "%s/tests/fixtures/parity/%s", home_dir(), name);
    return path;
}

struct bytes bytes_of(const char *path)
{
    struct bytes b = { 0 };
    struct err e = { 0 };
    struct map m;

    if (map_open(&m, path, 1 << 30, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("no such fixture");
    }
    bytes_add(&b, m.data, (size_t)m.size);
    map_close(&m);
    return b;
}

void expect_refused(const char *what, const char *words, int rc, struct err *e)
{
    CU_ASSERT_EQUAL(rc, -1);
    CU_ASSERT_PTR_NULL(strchr(e->text, '\n'));
    if (!strstr(e->text, words)) {
        test_note("%s: expected \"%s\" in: %s", what, words, e->text);
        CU_FAIL("wrong words");
    }
    *e = (struct err){ 0 };
}
