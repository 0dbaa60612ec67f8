/* model_bytes.h - files of small models as bytes, to read, to change and to be refused. */
#ifndef TESTS_MODEL_BYTES_H
#define TESTS_MODEL_BYTES_H

#include "base/err.h"
#include "tests/assemble.h"

const char *parity_path(const char *name);         /* of a file of tests/fixtures/parity; one at a time */
struct bytes bytes_of(const char *path);           /* the whole file; a failure ends the test */
/* rc is -1 and e one line that holds `words`; e is cleared. what: the case, for the note. */
void expect_refused(const char *what, const char *words, int rc, struct err *e);

#endif
