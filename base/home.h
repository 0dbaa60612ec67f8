/* home.h - the folder that holds workloads/, models/shapes/, kernels/sim/profiles/, plots/. */
#ifndef BASE_HOME_H
#define BASE_HOME_H

#include <stddef.h>

#include "base/err.h"

/* $SERVELAB_HOME, else the source tree that the binary was built from if it still stands, else ".". */
const char *home_dir(void);
/* NAME as a path when it has a '/' or exists; else home/folder/NAME + suffix (suffix may be ""). An
 * unknown name is refused with the nearest file of the folder; `what` names the kind in the message. */
int home_find(const char *what, const char *folder, const char *name, const char *suffix, char *path,
              size_t n, struct err *e);
/* Fills names[0..max) with the files of home/folder that end in suffix, without it, sorted; the
 * strings are malloc'ed. Returns their number. */
size_t home_list(const char *folder, const char *suffix, char **names, size_t max);

#endif
