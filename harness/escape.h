/* escape.h - text from traces, models and people, made harmless for HTML (element text and quoted
 * attributes): the five characters, control characters, and bytes that are no UTF-8. */
#ifndef HARNESS_ESCAPE_H
#define HARNESS_ESCAPE_H

#include <stdio.h>

void escape_html(FILE *out, const char *text);

#endif
