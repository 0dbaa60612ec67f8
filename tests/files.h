/* files.h - small files that tests read and write, and what a verb says on stdout. A failure ends the test. */
#ifndef TESTS_FILES_H
#define TESTS_FILES_H

#include <stddef.h>

#include "base/err.h"

char *file_read(const char *path, size_t *n);                  /* up to a MiB, a NUL behind it; the caller frees */
void  file_write(const char *path, const void *data, size_t n);
void  file_put(const char *name, const char *text, char path[4096]);   /* into the test's folder: path says where */
/* Runs a verb or benchmark with the words of line, separated by sep; the first is its name. What it writes to stdout
 * goes to out. Returns what it returned. */
int   verb_said(int (*run)(int argc, char **argv, struct err *e), const char *line, const char *sep, char *out,
                size_t n, struct err *e);

#endif
