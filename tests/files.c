#include "tests/files.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/test.h"

enum { FILE_MOST = 1 << 20, WORDS = 24 };

char *file_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *text = malloc(FILE_MOST);

    CU_ASSERT_FATAL(f && text);
    *n = fread(text, 1, FILE_MOST, f);
    fclose(f);
    CU_ASSERT_FATAL(*n < FILE_MOST);
    text[*n] = 0;
    return text;
}

void file_write(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    CU_ASSERT_FATAL(f && fwrite(data, 1, n, f) == n && !fclose(f));
}

void file_put(const char *name, const char *text, char path[4096])
{
    snprintf(path, 4096, "%s/%s", test_dir(), name);
    file_write(path, text, strlen(text));
}

int verb_said(int (*run)(int argc, char **argv, struct err *e), const char *line, const char *sep, char *out, size_t n,
              struct err *e)
{
    char text[4400], *argv[WORDS], *save = NULL, path[4096];
    int argc = 0, rc, was = dup(STDOUT_FILENO);
    FILE *f = NULL;

    snprintf(text, sizeof text, "%s", line);
    for (char *w = strtok_r(text, sep, &save); w && argc < WORDS - 1; w = strtok_r(NULL, sep, &save))
        argv[argc++] = w;
    argv[argc] = NULL;
    *e = (struct err){ 0 };
    snprintf(path, sizeof path, "%s/out", test_dir());
    fflush(stdout);
    CU_ASSERT_FATAL(was >= 0 && (f = fopen(path, "w+b")) && dup2(fileno(f), STDOUT_FILENO) == STDOUT_FILENO);
    optind = 1;
    rc = run(argc, argv, e);
    fflush(stdout);
    dup2(was, STDOUT_FILENO);
    close(was);
    rewind(f);
    n = fread(out, 1, n - 1, f);
    out[n] = 0;
    fclose(f);
    return rc;
}
