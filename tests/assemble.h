/* assemble.h - bytes of a hostile file from a line of words (tests/malicious/README.md). */
#ifndef TESTS_ASSEMBLE_H
#define TESTS_ASSEMBLE_H

#include <stdbool.h>
#include <stddef.h>

struct bytes { unsigned char *p; size_t n, room; };
void bytes_add(struct bytes *b, const void *p, size_t n);
void bytes_free(struct bytes *b);

enum { MACROS = 32 };
struct macros { char *name[MACROS], *text[MACROS]; int n; };
/* Appends what the words stand for; false at a word that is none. */
bool assemble(struct bytes *b, const struct macros *m, const char *words);

/* Reads tests/malicious/NAME: calls `each` with every line's name, expected words and program. Returns how many,
 * or -1 when the table is not there. Lines that begin with '@' define macros, with '#' are comments. */
int malicious_each(const char *table,
                   void (*each)(const char *name, const char *words, const char *program,
                                const struct macros *m));

#endif
