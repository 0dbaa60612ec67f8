/* scaled_file.c - scales as a file: one JSON object, a list of numbers per layer. Read as input from outside: size first,
 * then every length and every number. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "models/scaled.h"

static const char schema[] = "awq-scales/1";
static const char *const field[SCALED_N] = { "qkv", "gate_up", "down" };
enum { BYTES_A_NUMBER = 32, BYTES_BESIDE = 8192 };     /* a file may have so many; ours take 13 */

/* ---- in ---- */

static int numbers(const char *path, const char *name, uint32_t layer, const json_t *list, uint32_t n, double least,
                   double most, float *out, struct err *e)
{
    if (!json_is_array(list) || json_array_size(list) != n)
        return err_set(e, EXIT_USAGE, "%s: %s[%u]: expected a list of %u numbers, as the model has; another model's scales "
                       "do not fit", path, name, layer, n);
    for (uint32_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        double x = json_is_number(v) ? json_number_value(v) : NAN;

        if (!(x >= least && x <= most))
            return err_set(e, EXIT_USAGE, "%s: %s[%u][%u]: expected a number from %g to %g", path, name, layer, i, least,
                           most);
        out[i] = (float)x;
    }
    return 0;
}

static int layers(const char *path, const char *name, const json_t *list, uint32_t n_layer, uint32_t n, double least,
                  double most, float *out, struct err *e)
{
    if (json_array_size(list) != n_layer)
        return err_set(e, EXIT_USAGE, "%s: %s: %zu layers, but the model has %u", path, name, json_array_size(list),
                       n_layer);
    for (uint32_t l = 0; l < n_layer; l++)
        if (numbers(path, name, l, json_array_get(list, l), n, least, most, out + (size_t)l * n, e))
            return -1;
    return 0;
}

static int is_sha256(const char *hex)
{
    return strlen(hex) == SHA256_HEX - 1 && strspn(hex, "0123456789abcdef") == SHA256_HEX - 1;
}

/* Before anything is parsed: a regular file, no larger than such scales can be. */
static int right_size(const struct scales *s, const char *path, struct err *e)
{
    uint64_t n = s->n_layer * (2 * (uint64_t)s->dim + s->ffn + SCALED_N), most = n * BYTES_A_NUMBER + BYTES_BESIDE;
    struct stat st;

    if (stat(path, &st))
        return err_set(e, EXIT_USAGE, "--scales %s: %s; 'servelab calibrate' writes such a file", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size > most)
        return err_set(e, EXIT_USAGE, "--scales %s: expected a file of at most %llu bytes, the scales of %u layers", path,
                       (unsigned long long)most, s->n_layer);
    return 0;
}

/* Names go to the terminal and into results: printable, or refused. */
static int is_plain(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 127)
            return 0;
    return 1;
}

static int fill(struct scales *s, const char *path, json_t *const list[SCALED_N], const json_t *alpha,
                const char *given, const char *sha256, struct err *e)
{
    if (strcmp(given, schema))
        return err_set(e, EXIT_USAGE, "%s: field 'schema': expected %s", path, schema);
    if (!is_sha256(s->model_sha256) || !is_sha256(s->text_sha256))
        return err_set(e, EXIT_USAGE, "%s: expected SHA-256 sums of 64 digits in model_sha256 and text_sha256", path);
    if (!is_plain(s->precision) || !is_plain(s->text))
        return err_set(e, EXIT_USAGE, "%s: control characters in 'precision' or 'text'", path);
    if (sha256 && strcmp(sha256, s->model_sha256))
        return err_set(e, EXIT_USAGE, "%s: scales of another model (its SHA-256 begins %.12s, this one's %.12s); "
                       "'servelab calibrate' makes them", path, s->model_sha256, sha256);
    for (int w = 0; w < SCALED_N; w++)
        if (layers(path, field[w], list[w], s->n_layer, scales_width(s, w), SCALE_MIN, SCALE_MAX, s->s[w], e))
            return -1;
    return layers(path, "alpha", alpha, s->n_layer, SCALED_N, 0, 1, s->alpha, e);
}

int scales_read(struct scales *s, const char *path, const struct model_shape *shape, const char *sha256, struct err *e)
{
    json_t *list[SCALED_N] = { 0 }, *alpha = NULL;
    uint64_t tokens = 0;
    char given[32] = "";
    int rc;

    if (scales_init(s, shape, e))
        return -1;
    struct json_field fields[] = {
        { .key = "schema", .kind = JSON_K_TEXT, .out = given, .size = sizeof given },
        { .key = "precision", .kind = JSON_K_TEXT, .out = s->precision, .size = sizeof s->precision },
        { .key = "model_sha256", .kind = JSON_K_TEXT, .out = s->model_sha256, .size = SHA256_HEX },
        { .key = "text", .kind = JSON_K_TEXT, .out = s->text, .size = sizeof s->text },
        { .key = "text_sha256", .kind = JSON_K_TEXT, .out = s->text_sha256, .size = SHA256_HEX },
        { .key = "tokens", .kind = JSON_K_INT, .out = &tokens, .min = 1, .max = UINT32_MAX },
        { .key = "alpha", .kind = JSON_K_ARRAY, .out = &alpha },
        { .key = field[0], .kind = JSON_K_ARRAY, .out = &list[0] },
        { .key = field[1], .kind = JSON_K_ARRAY, .out = &list[1] },
        { .key = field[2], .kind = JSON_K_ARRAY, .out = &list[2] },
        { 0 }
    };
    rc = right_size(s, path, e) || json_read_fields(path, fields, e) || fill(s, path, list, alpha, given, sha256, e) ? -1 : 0;
    s->n_tok = (uint32_t)tokens;
    for (int w = 0; w < SCALED_N; w++)
        json_decref(list[w]);
    json_decref(alpha);
    if (rc)
        scales_free(s);
    return rc;
}

/* ---- out ---- */

static void list_out(FILE *f, const char *name, const float *x, uint32_t n_layer, uint32_t n, int digits)
{
    fprintf(f, ",\n \"%s\": [", name);
    for (uint32_t l = 0; l < n_layer; l++)
        for (uint32_t i = 0; i < n; i++)
            fprintf(f, "%s%.*g%s", i ? "," : l ? ",\n  [" : "\n  [", digits, (double)x[(size_t)l * n + i], i + 1 < n ? "" : "]");
    fputs("]", f);
}

static void write_all(const struct scales *s, FILE *f)
{
    json_t *text = json_string(s->text);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;        /* the name may hold quotes */

    fprintf(f, "{\"schema\": \"%s\", \"precision\": \"%s\", \"model_sha256\": \"%s\",\n \"text\": %s, \"text_sha256\": "
            "\"%s\", \"tokens\": %u", schema, s->precision, s->model_sha256, quoted ? quoted : "\"?\"", s->text_sha256,
            s->n_tok);
    list_out(f, "alpha", s->alpha, s->n_layer, SCALED_N, 3);
    for (int w = 0; w < SCALED_N; w++)
        list_out(f, field[w], s->s[w], s->n_layer, scales_width(s, w), 9);
    fputs("\n}\n", f);
    free(quoted);
    json_decref(text);
}

int scales_write(const struct scales *s, const char *path, struct err *e)
{
    struct stat st;
    FILE *f;
    int bad;

    if (!stat(path, &st) && !S_ISREG(st.st_mode))
        return err_set(e, EXIT_USAGE, "--out %s: is there and is no file", path);
    f = fopen(path, "w");
    if (!f)
        return err_set(e, EXIT_IO, "--out %s: %s", path, strerror(errno));
    write_all(s, f);
    bad = ferror(f);
    if (!(fclose(f) || bad))
        return 0;
    unlink(path);
    return err_set(e, EXIT_IO, "--out %s: could not be written whole: %s", path, strerror(errno));
}
