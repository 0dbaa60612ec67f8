/* plain.h - names and texts from outside on their way to a terminal.
 *
 * Must stay true: what is printed here moves no cursor, sets no colour and no title, whatever a trace, a model or a
 * database calls itself. Control characters (C0, DEL, C1) and bytes that are no UTF-8 become '?'. */
#ifndef BASE_PLAIN_H
#define BASE_PLAIN_H

#include <stdio.h>

/* Bytes of the UTF-8 letter at p, or 0 when it is none (overlong, surrogate, cut off, beyond Unicode). */
int utf8_len(const unsigned char *p);
/* In place; line breaks and tabs stay. Returns text. */
char *plain(char *text);
/* fprintf with all of its output made plain; cut after 4000 bytes. */
void print_plain(FILE *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
