#include "harness/step.h"

#include "harness/live.h"
#include "harness/moves.h"

/* Tokens whose K and V are resident; slots that are held, empty, and will be used before their owner
 * ends. The rest of what is held is never used. */
static void kv_use(const struct kv *manager, const struct plan *p, uint64_t shared, int64_t *stored,
                   int64_t *future)
{
    uint64_t kv = 0, ahead = 0;

    for (const struct request *r = manager->holder; r; r = r->hold_next) {
        uint64_t room = req_room(r);
        uint64_t end = (uint64_t)r->n_prompt + ((const struct live *)r->replay)->in->n_out - 1;

        kv += r->n_kv;
        ahead += (room < end ? room : end) - r->n_kv;
    }
    *stored = (int64_t)(kv - shared) + p->n_tok;           /* this step's tokens count as stored */
    *future = (int64_t)ahead - p->n_tok;
}

void step_describe(struct step_row *row, const struct sched *s, const struct kv *kv,
                   const struct plan *p, struct kv_count *counted)
{
    struct kv_count k = kv->ops->count(kv);

    *row = (struct step_row){
        .running = s->n_running, .waiting = s->n_waiting,
        .kv_blocks_used = k.blocks_used, .kv_blocks_total = k.blocks_total,
        .kv_slots_total = kv->env.n_slot, .kv_slots_held = (int64_t)k.slots_held,
        .preemptions = p->n_preempt,
        .kv_tokens_shared = (int64_t)k.shared_tokens,
        .cache_hit_tokens = (int64_t)(k.hit_tokens - counted->hit_tokens),
        .evicted_blocks = (int64_t)(k.evicted_blocks - counted->evicted_blocks),
        .copied_tokens = (int64_t)moved_tokens(&kv->copy),
        .swapped_out_tokens = (int64_t)moved_tokens(&kv->out),
        .swapped_in_tokens = (int64_t)moved_tokens(&kv->in),
    };
    *counted = k;
    for (uint32_t i = 0; i < p->n; i++) {
        bool decode = p->slice[i].n == 1 && p->slice[i].r->n_out > 0;

        *(decode ? &row->decode_tokens : &row->prefill_tokens) += p->slice[i].n;
        ++*(decode ? &row->decode_seqs : &row->prefill_seqs);
    }
    for (int i = 0; i < WHY_N; i++)
        row->wait[i] = p->why[i];
    kv_use(kv, p, k.shared_tokens, &row->kv_tokens_stored, &row->kv_slots_future);
}
