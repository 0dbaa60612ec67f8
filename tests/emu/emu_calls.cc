/* emu_calls.cc - what a kernel calls besides the block barrier: warp calls, fences, shared memory,
 * copies.
 *
 * A warp call meets all 32 lanes once: each writes a slot, the last computes what is common (mma),
 * all read; slots alternate, so that a fast lane's next call cannot overwrite what a slow one still
 * reads. Like emu_block.cc compiled without sanitizers, and without touching a kernel's memory. */
#include "tests/emu/emu_block.h"

#include <stdlib.h>

/* --- Warp calls. */
static unsigned meet(enum emu_call call, struct emu_where w, const void *in, unsigned bytes,
                     void (*last)(unsigned char (*slot)[SLOT]))
{
    unsigned me = blk.now, lane = me % WARP, parity = thread[me].parity;
    struct warp *p = &warp[me / WARP];
    const unsigned char *from = static_cast<const unsigned char *>(in);

    if (p->live != ~0u)
        emu_abort(w, "%s by a warp of which not all 32 lanes are there (mask %08x)",
                  call_name[call], p->live);
    if (p->arrived && (p->call != call || p->where.line != w.line || strcmp(p->where.file, w.file)))
        emu_abort(w, "lanes of a warp are in different calls: %s here, %s at %s:%d",
                  call_name[call], call_name[p->call], p->where.file, p->where.line);
    for (unsigned i = 0; i < bytes; i += 4)
        __builtin_memcpy(&p->slot[parity][lane][i], from + i, 4);
    thread[me].parity ^= 1;
    p->call = call;
    p->where = thread[me].where = w;
    p->arrived |= 1u << lane;
    thread[me].state = AT_WARP;
    if (p->arrived == ~0u) {
        p->arrived = 0;
        emu_count.warp_calls++;
        if (last)
            last(p->slot[parity]);
        wake(me / WARP * WARP, me / WARP * WARP + WARP, AT_WARP);
    }
    wait_for(me);
    return parity;
}
void emu_warp_sync(struct emu_where w)
{
    char *object = &blk.order[1 + blk.now / WARP][thread[blk.now].parity];

    tsan_release(object);
    meet(EMU_WARP_SYNC, w, nullptr, 0, nullptr);
    tsan_acquire(object);
}
void emu_shfl(void *out, const void *in, int bytes, int lane, struct emu_where w)
{
    unsigned char *to = static_cast<unsigned char *>(out), *from;
    unsigned parity = meet(EMU_SHFL, w, in, (unsigned)bytes, nullptr);

    from = warp[blk.now / WARP].slot[parity][lane & (WARP - 1)];
    for (int i = 0; i < bytes; i += 4)
        __builtin_memcpy(to + i, from + i, 4);
}
uint32_t emu_ballot(bool p, struct emu_where w)
{
    uint32_t in = p, all = 0;
    unsigned parity = meet(EMU_VOTE, w, &in, 4, nullptr);

    for (unsigned i = 0; i < WARP; i++)
        all |= (uint32_t)warp[blk.now / WARP].slot[parity][i][0] << i;
    return all;
}
void emu_mma(float *d, const uint32_t *a, const uint32_t *b, bool bf16, struct emu_where w)
{
    uint32_t in[10], *slot;
    unsigned parity;

    for (int i = 0; i < 4; i++) {
        in[i] = a[i];
        __builtin_memcpy(&in[6 + i], &d[i], 4);
    }
    in[4] = b[0], in[5] = b[1];
    emu_count.mma += blk.now % WARP == 0;
    parity = meet(EMU_MMA, w, in, sizeof in, bf16 ? emu_mma_bf16 : emu_mma_f16);
    slot = reinterpret_cast<uint32_t *>(warp[blk.now / WARP].slot[parity][blk.now % WARP]);
    for (int i = 0; i < 4; i++)
        __builtin_memcpy(&d[i], &slot[6 + i], 4);
}
/* Rows beyond the first in the same 16-byte column of 128 bytes, unless it is the same row. */
static unsigned conflicts(const uintptr_t *at)
{
    unsigned n = 0;

    for (unsigned i = 0; i < 8; i++)
        for (unsigned j = 0; j < i; j++)
            if (at[i] / 16 % 8 == at[j] / 16 % 8 && at[i] != at[j]) {
                n++;
                break;
            }
    return n;
}
void emu_ldsm(uint32_t *r, int n, bool trans, const void *at, const uint32_t *row,
              struct emu_where w)
{
    unsigned me = blk.now, lane = me % WARP, g = lane / 4, t = lane % 4, parity;
    unsigned char (*slot)[SLOT];
    uintptr_t address = reinterpret_cast<uintptr_t>(at), all[WARP];
    uint32_t in[6] = {
        row[0], row[1], row[2], row[3], (uint32_t)address, (uint32_t)(address >> 32)
    };

    parity = meet(EMU_LDSM, w, in, sizeof in, nullptr);
    slot = warp[me / WARP].slot[parity];
    for (unsigned i = 0; i < (unsigned)n; i++) {
        uint16_t e[2];

        for (unsigned k = 0; k < 2; k++)
            __builtin_memcpy(
                &e[k], trans ? &slot[8 * i + 2 * t + k][2 * g] : &slot[8 * i + g][4 * t + 2 * k],
                2);
        r[i] = e[0] | (uint32_t)e[1] << 16;
    }
    if (lane)
        return;
    for (unsigned i = 0; i < 8 * (unsigned)n; i++)
        __builtin_memcpy(&all[i], &slot[i][16], 8);
    for (unsigned i = 0; i < (unsigned)n; i++) {
        emu_count.ldsm++;
        emu_count.ldsm_conflicts += conflicts(all + 8 * i);
    }
}

/* --- Between blocks: memory is passed on by a fence, an atomic and, after it, another fence. */
void emu_fence(void)
{
    tsan_release(&blk.fence);
    if (blk.atomic)
        tsan_acquire(&blk.fence);
}
void emu_atomic_before(void *p, struct emu_where w)
{
    emu_check_aligned(p, 4, "an atomic", w);
}
void emu_atomic_after(void *p)
{
    (void)p;
    blk.atomic = true;
}

/* --- Shared memory and asynchronous copies. */
void emu_count_load(size_t bytes) { emu_count.load_bytes += bytes; }
void emu_count_store(size_t bytes) { emu_count.store_bytes += bytes; }
void *emu_shared(void) { return blk.shared; }
void emu_check_aligned(const void *p, size_t align, const char *call, struct emu_where w)
{
    if (reinterpret_cast<uintptr_t>(p) % align)
        emu_abort(w, "%s: address %p is not a multiple of %zu", call, p, align);
}
void emu_check_shared(const void *p, size_t bytes, size_t align, const char *call,
                      struct emu_where w)
{
    const unsigned char *at = static_cast<const unsigned char *>(p);

    emu_check_aligned(p, align, call, w);
    if (at < blk.shared || at + bytes > blk.shared + blk.shared_bytes)
        emu_abort(w, "%s: byte %td of %zu bytes of shared memory", call, at - blk.shared,
                  blk.shared_bytes);
}
/* Two copies under way to one place: nothing orders them (PTX ISA, cp.async). */
static void mark_copy(const void *dst, int bytes, bool on, struct emu_where w)
{
    size_t at = (size_t)(static_cast<const unsigned char *>(dst) - blk.shared) / 4;

    for (size_t i = at; i < at + (size_t)bytes / 4; i++) {
        if (on && blk.under_way[i])
            emu_abort(w, "cp_async: byte %zu of shared memory is still being copied to", i * 4);
        blk.under_way[i] = on;
    }
}
void emu_copy_push(void *dst, const void *src, int bytes, bool pred, struct emu_where w)
{
    struct thread *t = &thread[blk.now];

    mark_copy(dst, bytes, true, w);
    if (t->first_copy == t->n_copy)
        t->first_copy = t->n_copy = 0;
    if (t->n_copy == t->cap_copy) {
        t->cap_copy = t->cap_copy ? 2 * t->cap_copy : 64;
        tsan_pause();
        t->copy = static_cast<struct emu_copy *>(realloc(t->copy, t->cap_copy * sizeof *t->copy));
        tsan_resume();
        if (!t->copy)
            abort();
    }
    t->copy[t->n_copy++] = { dst, src, bytes, pred, t->group };
    emu_count.load_bytes += pred ? (unsigned)bytes : 0;
    emu_count.async_bytes += pred ? (unsigned)bytes : 0;
}
void emu_copy_commit(void) { thread[blk.now].group++; }
bool emu_copy_pop(uint64_t keep, struct emu_copy *c)
{
    struct thread *t = &thread[blk.now];

    if (t->first_copy == t->n_copy || t->copy[t->first_copy].group + keep >= t->group)
        return false;
    *c = t->copy[t->first_copy++];
    mark_copy(c->dst, c->bytes, false, {});
    return true;
}
