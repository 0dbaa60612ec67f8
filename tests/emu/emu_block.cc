/* emu_block.cc - a grid, block by block: threads as fibers, schedules, the block barrier, shared
 * memory, reports.
 *
 * A fiber runs until it must wait, then switches straight to the next that can run; the schedule
 * says which. Block barriers count the threads that have not returned. Nothing here touches a
 * kernel's memory, and it is compiled without sanitizers: TSan sees only what the kernels do and
 * the orderings told to it. */
#include "tests/emu/emu_block.h"

#include <stdarg.h>
#include <stdlib.h>

struct thread thread[MAX_THREADS];
struct warp warp[MAX_THREADS / WARP];
struct block blk;
const char *const call_name[EMU_CALL_N] = { "warp_sync", "a shuffle", "a vote", "ldsm", "mma" };
struct emu_thread *emu_self;
struct emu_counts emu_count;
static enum emu_order order = EMU_ASCENDING;
static uint64_t random_state = 1;

void emu_order_set(enum emu_order o, uint64_t seed)
{
    order = o;
    random_state = seed * 0x9e3779b97f4a7c15u + 0x1234567u;
}
static unsigned random_below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)((random_state >> 33) % n);
}

/* --- Reports. */
static const char *state_name(unsigned i)
{
    switch (thread[i].state) {
    case READY: return "can run";
    case RETURNED: return "returned";
    case AT_BARRIER: return "at block_sync";
    default: return call_name[warp[i / WARP].call];
    }
}
static bool same(const struct thread *a, const struct thread *b)
{
    return a->state == b->state && a->where.line == b->where.line && a->where.file == b->where.file;
}
void emu_abort(struct emu_where w, const char *fmt, ...)
{
    va_list ap;

    tsan_pause();
    va_start(ap, fmt);
    fprintf(stderr, "emu: kernel %s", blk.name ? blk.name : "(none)");
    if (emu_self)
        fprintf(stderr, ", block (%u, %u, %u), thread %u", emu_self->block.x, emu_self->block.y,
                emu_self->block.z, blk.now);
    if (w.file)
        fprintf(stderr, ", %s:%d", w.file, w.line);
    fprintf(stderr, ": ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    for (unsigned i = 0, j; emu_self && i < blk.n; i = j) {
        for (j = i + 1; j < blk.n && same(&thread[i], &thread[j]); j++)
            ;
        fprintf(stderr, j - i == 1 ? "emu:   thread %u" : "emu:   threads %u-%u", i, j - 1);
        fprintf(stderr, " %s", state_name(i));
        if (thread[i].state == AT_BARRIER || thread[i].state == AT_WARP)
            fprintf(stderr, " (%s:%d)", thread[i].where.file, thread[i].where.line);
        fprintf(stderr, "\n");
    }
    fflush(stderr);
    abort();
}

/* --- Who runs next. */
static void make_ready(unsigned i)
{
    thread[i].state = READY;
    blk.ready[(blk.head + blk.n_ready++) % MAX_THREADS] = i;
}
void wake(unsigned from, unsigned to, enum state s)
{
    for (unsigned i = from; i < to; i++)
        if (thread[i].state == s)
            make_ready(i);
}
/* Ascending: first come, first served, so warps advance together. Descending: the last of those
 * that came last, so that a warp runs as far as it can before the others. */
static unsigned take_ready(void)
{
    unsigned back = (blk.head + blk.n_ready - 1) % MAX_THREADS, pick = blk.ready[back];

    if (order == EMU_RANDOM) {
        unsigned k = (blk.head + random_below(blk.n_ready)) % MAX_THREADS;

        pick = blk.ready[k];
        blk.ready[k] = blk.ready[back];
    } else if (order == EMU_ASCENDING) {
        pick = blk.ready[blk.head];
        blk.head = (blk.head + 1) % MAX_THREADS;
    }
    blk.n_ready--;
    return pick;
}
static struct fiber *next_fiber(void)
{
    if (!blk.n_ready) {
        if (!blk.live)
            return fiber_main;
        emu_abort({ nullptr, 0 }, "deadlock: no thread can run");
    }
    blk.now = take_ready();
    emu_self = &thread[blk.now].self;
    return thread[blk.now].fiber;
}
void wait_for(unsigned me)
{
    fiber_switch(thread[me].fiber, next_fiber());
}

/* --- The barrier. */
static void barrier_open(void)
{
    blk.result = blk.any;
    blk.any = false;
    blk.at_barrier = 0;
    blk.parity ^= 1;
    wake(0, blk.n, AT_BARRIER);
}
bool emu_block_sync(bool p, struct emu_where w)
{
    unsigned me = blk.now;
    char *object = &blk.order[0][blk.parity];
    bool result;

    if (blk.at_barrier && (blk.barrier.line != w.line || strcmp(blk.barrier.file, w.file)))
        emu_abort(w, "divergent barrier: others wait at %s:%d", blk.barrier.file, blk.barrier.line);
    emu_count.barriers += !blk.at_barrier;
    blk.barrier = thread[me].where = w;
    thread[me].state = AT_BARRIER;
    blk.any |= p;
    tsan_release(object);
    if (++blk.at_barrier == blk.live)
        barrier_open();
    wait_for(me);
    result = blk.result;
    tsan_acquire(object);
    return result;
}

/* --- Grids. */
void fiber_run(unsigned)
{
    tsan_acquire(&blk.start);
    (*blk.body)();
    tsan_release(&blk.end);
}
struct fiber *fiber_done(unsigned number)
{
    unsigned i = number % MAX_THREADS;
    struct warp *p = &warp[i / WARP];

    thread[i].state = RETURNED;
    blk.live--;
    p->live &= ~(1u << i % WARP);
    if (p->arrived)
        emu_abort(p->where, "thread %u returned while lanes of its warp wait in %s", i,
                  call_name[p->call]);
    if (blk.live && blk.at_barrier == blk.live)
        barrier_open();
    return next_fiber();
}

/* What a fiber did in its last block is ordered before what it does in this one, and its barriers
 * would pass that on; so under TSan neighbouring blocks run on different fibers, or a missing fence
 * would go unseen. */
static void block_begin(dim3 at, dim3 grid, dim3 block, bool odd)
{
    unsigned first = odd && tsan_here() ? MAX_THREADS : 0;

    blk.live = blk.n;
    blk.at_barrier = blk.head = blk.n_ready = 0;
    blk.atomic = blk.any = false;
    for (unsigned i = 0; i < blk.n; i++) {
        struct thread *t = &thread[i];

        t->self.thread = { i % block.x, i / block.x % block.y, i / block.x / block.y };
        t->self.block = { at.x, at.y, at.z };
        t->self.block_dim = block;
        t->self.grid_dim = grid;
        t->fiber = fiber_get(first + i);
        t->group = t->n_copy = t->first_copy = 0;
        t->parity = 0;
        t->state = RETURNED;
    }
    for (unsigned i = 0; i < blk.n_warp; i++) {
        warp[i].live = blk.n - i * WARP >= WARP ? ~0u : (1u << (blk.n - i * WARP)) - 1;
        warp[i].arrived = 0;
    }
    wake(0, blk.n, RETURNED);
}

/* New objects for each block under TSan: one block's last accesses are not the next one's races,
 * and its barriers do not order what the next one does. */
static void shared_begin(bool first)
{
    tsan_pause();
    if (first || tsan_here()) {
        void *p = nullptr;

        if (posix_memalign(&p, 128, blk.shared_bytes ? blk.shared_bytes : 1))
            emu_abort({ nullptr, 0 }, "no memory for %zu bytes of shared memory", blk.shared_bytes);
        blk.shared = static_cast<unsigned char *>(p);
        blk.under_way = static_cast<unsigned char *>(malloc(blk.shared_bytes / 4 + 1));
        blk.order = static_cast<char (*)[2]>(calloc(1 + MAX_THREADS / WARP, sizeof *blk.order));
    }
    memset(blk.shared, 0xff, blk.shared_bytes);
    memset(blk.under_way, 0, blk.shared_bytes / 4 + 1);
    tsan_resume();
}
static void shared_end(bool last)
{
    tsan_pause();
    if (last || tsan_here())
        free(blk.shared), free(blk.under_way), free(blk.order);
    tsan_resume();
}

/* Block number i of n in the order of the schedule; random: an affine walk through all. */
static uint64_t block_number(uint64_t i, uint64_t n, uint64_t stride, uint64_t offset)
{
    return order == EMU_ASCENDING    ? i
           : order == EMU_DESCENDING ? n - 1 - i
                                     : (i * stride + offset) % n;
}
static uint64_t gcd(uint64_t a, uint64_t b) { return b ? gcd(b, a % b) : a; }

void emu_grid(const char *name, dim3 grid, dim3 block, size_t smem,
              const std::function<void()> &body)
{
    uint64_t n = (uint64_t)grid.x * grid.y * grid.z, stride = 1, offset = 0;

    if (blk.body)
        emu_abort({ nullptr, 0 }, "a launch inside of kernel %s", blk.name);
    blk.name = name;
    blk.body = &body;
    blk.n = block.x * block.y * block.z;
    blk.n_warp = (blk.n + WARP - 1) / WARP;
    blk.shared_bytes = smem;
    if (order == EMU_RANDOM && n > 1) {
        for (stride = 1 + random_below((unsigned)n - 1); gcd(stride, n) != 1;)
            stride++;
        offset = random_below((unsigned)n);
    }
    tsan_release(&blk.start);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t k = block_number(i, n, stride, offset);

        block_begin(dim3((unsigned)(k % grid.x), (unsigned)(k / grid.x % grid.y),
                         (unsigned)(k / grid.x / grid.y)),
                    grid, block, i % 2);
        shared_begin(i == 0);
        fiber_switch(fiber_main, next_fiber());
        emu_self = nullptr;
        shared_end(i + 1 == n);
    }
    tsan_acquire(&blk.end);
    emu_count.launches++;
    emu_count.blocks += n;
    emu_count.threads += n * blk.n;
    blk.body = nullptr;
    blk.name = nullptr;
}
