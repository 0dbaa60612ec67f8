#include "harness/text_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TEXT_MAX = 1 << 28 };

static int read_text(const char *path, char **text, size_t *n, struct err *e)
{
    FILE *f = fopen(path, "rb");
    struct stat st;

    if (!f || fstat(fileno(f), &st) || !S_ISREG(st.st_mode)) {
        err_set(e, EXIT_USAGE, "--text %s: cannot be read: %s", path, f ? "not a file" : strerror(errno));
        if (f)
            fclose(f);
        return -1;
    }
    *n = (size_t)st.st_size;
    *text = st.st_size > TEXT_MAX ? NULL : malloc(*n + 1);
    if (!*text || fread(*text, 1, *n, f) != *n) {
        fclose(f);
        free(*text);
        return err_set(e, EXIT_USAGE, "--text %s: %lld bytes cannot be read; at most %d", path, (long long)st.st_size,
                       TEXT_MAX);
    }
    fclose(f);
    return 0;
}

int text_file_tokens(const char *path, struct tokenizer *t, struct token_ids *ids, char sha[SHA256_HEX], struct err *e)
{
    char *text;
    size_t n;
    int rc;

    if (read_text(path, &text, &n, e))
        return -1;
    sha256_hex(text, n, sha);
    rc = tokenizer_encode(t, text, n, 0, ids, e);
    free(text);
    return rc;
}

int text_model_find(struct model_files *f, const char *name, const char *verb, int64_t window, int64_t n,
                    struct err *e)
{
    if (model_find(f, name, 1, e))
        return -1;
    if (f->kind == MODEL_SHAPE)
        return err_set(e, EXIT_USAGE, "%s: %s is a shape with synthetic weights, whose text means nothing; 'make model "
                       "MODEL=smollm2-135m' fetches a real model", verb, name);
    if (n > (int64_t)f->shape.max_context)
        return err_set(e, EXIT_USAGE, "--window %lld: the model's context ends at %u", (long long)window,
                       f->shape.max_context);
    return 0;
}
