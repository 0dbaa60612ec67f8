#include "base/home.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/params.h"

#ifndef SERVELAB_SOURCE
#define SERVELAB_SOURCE "."
#endif

const char *home_dir(void)
{
    const char *env = getenv("SERVELAB_HOME");

    if (env && *env)
        return env;
    return access(SERVELAB_SOURCE "/models/shapes", R_OK) == 0 ? SERVELAB_SOURCE : ".";
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

size_t home_list(const char *folder, const char *suffix, char **names, size_t max)
{
    char path[4096];
    size_t n = 0, cut = strlen(suffix);
    struct dirent *f;
    DIR *d;

    snprintf(path, sizeof path, "%s/%s", home_dir(), folder);
    d = opendir(path);
    while (d && n < max && (f = readdir(d))) {
        size_t len = strlen(f->d_name);

        if (f->d_name[0] == '.' || len <= cut || strcmp(f->d_name + len - cut, suffix))
            continue;
        names[n] = strndup(f->d_name, len - cut);
        n += names[n] != NULL;
    }
    if (d)
        closedir(d);
    qsort(names, n, sizeof *names, by_name);
    return n;
}

int home_find(const char *what, const char *folder, const char *name, const char *suffix, char *path,
              size_t n, struct err *e)
{
    enum { MAX = 256 };
    char *names[MAX];
    const char *near;
    size_t count;

    if ((size_t)snprintf(path, n, "%s", name) >= n)
        return err_set(e, EXIT_USAGE, "%s name is too long: '%.80s...'", what, name);
    if (strchr(name, '/') || access(path, R_OK) == 0)
        return 0;
    if ((size_t)snprintf(path, n, "%s/%s/%s%s", home_dir(), folder, name, suffix) >= n)
        return err_set(e, EXIT_USAGE, "%s name is too long: '%.80s...'", what, name);
    if (access(path, R_OK) == 0)
        return 0;
    count = home_list(folder, suffix, names, MAX);
    near = nearest_name(name, (const char *const *)names, count);
    err_set(e, EXIT_USAGE, "unknown %s '%s': no such file, and no %s/%s%s; %s%s%s", what, name, folder, name, suffix,
            near ? "did you mean '" : "give a path, or a name that 'servelab list' shows", near ? near : "",
            near ? "'?" : "");
    while (count)
        free(names[--count]);
    return -1;
}
