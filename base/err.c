#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/plain.h"

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;

    if (!e || e->code)
        return -1;
    e->code = code;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    plain(e->text);                            /* it may quote a file, and goes to a terminal */
    return -1;
}
