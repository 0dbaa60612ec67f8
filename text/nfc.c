/* nfc.c - Unicode Normalization Form C (UAX #15): decompose, order the marks, compose.
 *
 * Qwen2's tokenizer.json asks for it. Hugging Face's tokenizers 0.23 know the combining classes of
 * an older Unicode: 120 marks assigned since are put in order here and left as they stand there.
 * Text below U+0300 is in NFC as it stands, so most text is not copied. Stays true: linear in the
 * text but for the sort of each run of marks, which is n log n, so a megabyte of accents in the
 * wrong order costs no more than one of letters. */
#include <stdlib.h>
#include <string.h>

#include "text/unicode.h"
#include "text/unicode_data.h"

enum { S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7,
       L_COUNT = 19, V_COUNT = 21, T_COUNT = 28, S_COUNT = L_COUNT * V_COUNT * T_COUNT };

/* One character and its combining class; a run of classes above 0 is put in order. */
struct mark { uint32_t cp; uint8_t cls; };
struct chars { struct mark *c; size_t n, cap; };

bool nfc_plain(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] >= 0xcc)       /* the first byte of U+0300 and of all above */
            return false;
    return true;
}

static uint8_t class_of(uint32_t cp)
{
    unsigned low = 0, high = unicode_size.n_class;

    while (low < high) {
        unsigned mid = (low + high) / 2;
        const uint32_t *r = unicode_class + 3 * (size_t)mid;

        if (cp < r[0])
            high = mid;
        else if (cp > r[1])
            low = mid + 1;
        else
            return (uint8_t)r[2];
    }
    return 0;
}

static int add(struct chars *a, uint32_t cp)
{
    if (a->n == a->cap) {
        size_t cap = a->cap * 2 + 256;
        struct mark *c = realloc(a->c, cap * sizeof *c);

        if (!c)
            return -1;
        a->c = c;
        a->cap = cap;
    }
    a->c[a->n++] = (struct mark){ cp, class_of(cp) };
    return 0;
}

/* The row of cp in unicode_split, or NULL. */
static const uint32_t *split_of(uint32_t cp)
{
    unsigned low = 0, high = unicode_size.n_split;

    while (low < high) {
        unsigned mid = (low + high) / 2;
        const uint32_t *r = unicode_split + 3 * (size_t)mid;

        if (cp == r[0])
            return r;
        if (cp < r[0])
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

/* Fully decomposed; the table's depth is at most 4. */
static int decompose(struct chars *a, uint32_t cp)
{
    const uint32_t *r;

    if (cp >= S_BASE && cp < S_BASE + S_COUNT) {
        uint32_t s = cp - S_BASE, t = s % T_COUNT;

        return add(a, L_BASE + s / (V_COUNT * T_COUNT)) ||
               add(a, V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT) || (t && add(a, T_BASE + t))
                   ? -1 : 0;
    }
    if (cp < 0xc0 || !(r = split_of(cp)))
        return add(a, cp);
    return decompose(a, r[1]) || (r[2] && decompose(a, r[2])) ? -1 : 0;
}

/* Marks by class, equal ones in their order: a merge sort of each run. */
static int sort_marks(struct chars *a)
{
    struct mark *spare = NULL;
    size_t end;

    for (size_t from = 0; from < a->n; from = end + 1) {
        for (end = from; end < a->n && a->c[end].cls; end++)
            ;
        if (end - from < 2)
            continue;
        if (!spare && !(spare = malloc(a->n * sizeof *spare)))
            return -1;
        for (size_t w = 1, n = end - from; w < n; w *= 2) {
            struct mark *c = a->c + from;

            for (size_t low = 0; low < n; low += 2 * w) {
                size_t mid = low + w < n ? low + w : n, high = low + 2 * w < n ? low + 2 * w : n;
                size_t i = low, j = mid;

                for (size_t k = low; k < high; k++)
                    spare[k] = i < mid && (j == high || c[i].cls <= c[j].cls) ? c[i++] : c[j++];
            }
            memcpy(c, spare, n * sizeof *c);
        }
    }
    free(spare);
    return 0;
}

/* The primary composite of two characters, or 0. */
static uint32_t join(uint32_t a, uint32_t b)
{
    unsigned low = 0, high = unicode_size.n_join;

    if (a >= L_BASE && a < L_BASE + L_COUNT && b >= V_BASE && b < V_BASE + V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a >= S_BASE && a < S_BASE + S_COUNT && (a - S_BASE) % T_COUNT == 0 && b > T_BASE &&
        b < T_BASE + T_COUNT)
        return a + (b - T_BASE);
    while (low < high) {
        unsigned mid = (low + high) / 2;
        const uint32_t *r = unicode_split + 3 * (size_t)unicode_join[mid];

        if (a == r[1] && b == r[2])
            return r[0];
        if (a < r[1] || (a == r[1] && b < r[2]))
            high = mid;
        else
            low = mid + 1;
    }
    return 0;
}

/* In place: each mark joins the last starter unless one of its class or above stands between. */
static void compose(struct chars *a)
{
    size_t starter = SIZE_MAX, n = 0;

    for (size_t i = 0; i < a->n; i++) {
        struct mark m = a->c[i];
        bool near = starter != SIZE_MAX && (n == starter + 1 || (m.cls && a->c[n - 1].cls < m.cls));
        uint32_t cp = near ? join(a->c[starter].cp, m.cp) : 0;

        if (cp) {
            a->c[starter].cp = cp;
            continue;
        }
        if (!m.cls)
            starter = n;
        a->c[n++] = m;
    }
    a->n = n;
}

int nfc_append(const char *p, size_t n, struct text_out *out)
{
    struct chars a = { 0 };
    unsigned used;
    char utf8[4];
    int rc = 0;

    for (size_t i = 0; i < n && !rc; i += used) {
        uint32_t cp = utf8_next(p + i, n - i, &used);

        rc = decompose(&a, cp < UTF8_BAD ? cp : 0xfffd);
    }
    if (!rc && !(rc = sort_marks(&a)))
        compose(&a);
    for (size_t i = 0; i < a.n && !rc; i++)
        rc = out_add(out, utf8, utf8_put(a.c[i].cp, utf8));
    free(a.c);
    return rc;
}
