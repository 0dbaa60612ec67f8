/* unicode.h - UTF-8 a character at a time, the classes that pre-tokenizers ask for, NFC.
 *
 * Bytes that are no UTF-8 are judged as Unicode recommends (3.9, "U+FFFD substitution of maximal
 * subparts"), which is also what Python's and Rust's lossy decoders do: one bad part is the longest
 * beginning of a character that could have been valid, or else one byte. */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/tokenizer.h"

#define UTF8_BAD UINT32_C(0xfffffffe)          /* these bytes are no character */
#define UTF8_CUT UINT32_C(0xffffffff)          /* they begin one, and the text ends there */
/* The character at p[0..n), n >= 1, and how many bytes it (or the bad part) takes. */
uint32_t utf8_next(const char *p, size_t n, unsigned *used);
unsigned utf8_put(uint32_t cp, char out[4]);
/* Bytes of valid UTF-8 that p[0..n) begins with. */
size_t utf8_valid(const char *p, size_t n);
/* Appends p[0..n) with every bad part as U+FFFD. -1: out of memory. */
int utf8_repair(const char *p, size_t n, struct text_out *out);

enum char_class { CHAR_END, CHAR_OTHER, CHAR_SPACE, CHAR_LETTER, CHAR_NUMBER };
/* White_Space, general categories L and N; CHAR_END is never given. */
enum char_class char_class(uint32_t cp);

/* Whether valid UTF-8 is surely in NFC: nothing from U+0300 on. */
bool nfc_plain(const char *p, size_t n);
/* Appends the NFC of valid UTF-8. -1: out of memory. */
int nfc_append(const char *p, size_t n, struct text_out *out);

int out_add(struct text_out *out, const char *p, size_t n);   /* -1: out of memory */

#endif
