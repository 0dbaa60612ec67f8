/* shadow.h - what the shadow device computes, as three functions, so that what a request must
 * produce can also be written down without any device, table or batch (shadow_solo). */
#ifndef KERNELS_SHADOW_H
#define KERNELS_SHADOW_H

#include "base/hash.h"
#include "kernels/device.h"

/* Content of the slot of token `tok` at position `pos`; `before`: content of the slot one position
 * earlier as read through the table (position 0: 0). Never 0, which is what an unwritten slot
 * holds. */
static inline uint64_t shadow_slot(uint64_t before, uint32_t tok, uint32_t pos)
{
    return hash64(before, (uint64_t)pos << 32 | tok) | 1;
}

/* What attention over positions 0..p sees: each slot in turn. */
static inline uint64_t shadow_fold(uint64_t seen, uint64_t slot)
{
    return (seen ^ slot) * 0x9e3779b97f4a7c15u ^ (seen >> 29);
}

/* Faults that a test plants. Bad rows depend on content alone: a request has them in every
 * schedule. */
struct shadow_faults {
    uint64_t fail_at_step;         /* this step, counted from 1, ends with an error; 0: none */
    uint32_t bad_one_in;           /* a row in so many is PICK_BAD_ROW; 0: none */
};
void shadow_plant(struct device *d, const struct shadow_faults *f);    /* also restarts the count */

static inline uint32_t shadow_pick(uint64_t seen, uint32_t vocab, uint32_t bad_one_in)
{
    uint64_t h = mix64(seen);

    if (bad_one_in && (h >> 40) % bad_one_in == 0)
        return PICK_BAD_ROW;
    return (uint32_t)(h % vocab);
}

/* The first n_out tokens after a prompt; returns how many there are before a bad row. */
uint32_t shadow_solo(const uint32_t *prompt, uint32_t n_prompt, uint32_t n_out, uint32_t vocab,
                     uint32_t bad_one_in, uint32_t *out);

#endif
