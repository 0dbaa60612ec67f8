/* unicode_data.h - the tables that text/make_unicode.py writes; only unicode.c and nfc.c read them.
 */
#ifndef TEXT_UNICODE_DATA_H
#define TEXT_UNICODE_DATA_H

#include <stdint.h>

struct unicode_size { unsigned n_letter, n_number, n_class, n_split, n_join; };
extern const struct unicode_size unicode_size;
extern const uint32_t unicode_letter[];        /* [2 * n_letter] first, last */
extern const uint32_t unicode_number[];        /* [2 * n_number] */
extern const uint32_t unicode_class[];         /* [3 * n_class] first, last, class */
extern const uint32_t unicode_split[];         /* [3 * n_split] code point, first, second */
extern const uint16_t unicode_join[];          /* [n_join] rows of unicode_split */

#endif
