/* emu_stream.cc - streams, events and graphs of the emulated CUDA runtime.
 *
 * All streams share one queue in the order of the calls, which is an order that CUDA allows too.
 * Lazy (the default): what is queued runs when the host waits for anything, so that a host that
 * reads results, or reuses a pinned buffer, too early gets the wrong bytes here as it would there.
 * A captured graph is the list of its closures. Capture follows the rules of cudaStreamBeginCapture
 * in global mode, whatever mode is asked for: no allocation, no waiting, no use of the default
 * stream; breaking them invalidates the capture. */
#include <deque>
#include <memory>
#include <stdlib.h>
#include <string>
#include <time.h>
#include <vector>

#include "tests/emu/emu_run.h"

typedef std::vector<std::function<void()>> work_list;

struct CUgraph_st { work_list work; };
struct CUgraphExec_st { std::shared_ptr<work_list> work; };
struct CUstream_st {
    CUgraph_st *capture;
    bool origin, broken;
};
struct CUevent_st {
    bool recorded, done;
    double ms;
    CUgraph_st *capture;
};
static std::deque<std::function<void()>> queue;
static std::vector<CUstream_st *> streams;
static bool lazy = true, draining;

void emu_streams_lazy(bool on)
{
    emu_drain();
    lazy = on;
}
/* The environment decides once, before main. */
__attribute__((constructor)) static void from_environment(void)
{
    const char *s = getenv("EMU_SCHEDULE"), *m = getenv("EMU_STREAMS"),
               *colon = s ? strchr(s, ':') : nullptr;

    if (m)
        lazy = strcmp(m, "eager") != 0;
    if (s && !strncmp(s, "random", 6))
        emu_schedule(EMU_RANDOM, colon ? strtoull(colon + 1, nullptr, 10) : 1);
    else if (s && !strcmp(s, "descending"))
        emu_schedule(EMU_DESCENDING, 0);
}
void emu_schedule(enum emu_order order, uint64_t seed)
{
    emu_drain();
    emu_order_set(order, seed);
}

void emu_drain(void)
{
    if (draining)
        return;
    draining = true;
    while (!queue.empty()) {
        std::function<void()> work = std::move(queue.front());

        queue.pop_front();
        work();
    }
    draining = false;
}
static bool is_default(cudaStream_t s)
{
    return !s || s == cudaStreamLegacy || s == cudaStreamPerThread;
}
bool emu_capturing(cudaStream_t s) { return !is_default(s) && s->capture; }
bool emu_capture_broken(void)
{
    bool any = false;

    for (CUstream_st *s : streams)
        if (s->capture)
            s->broken = any = true;
    return any;
}

cudaError_t emu_push(cudaStream_t s, std::function<void()> work)
{
    if (emu_capturing(s)) {
        if (s->broken)
            return emu_error(cudaErrorStreamCaptureInvalidated);
        s->capture->work.push_back(std::move(work));
        return cudaSuccess;
    }
    if (is_default(s) && emu_capture_broken())
        return emu_error(cudaErrorStreamCaptureImplicit);
    queue.push_back(std::move(work));
    if (!lazy)
        emu_drain();
    return cudaSuccess;
}

/* --- Streams. */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned int)
{
    if (cudaError_t rc = emu_injected("cudaStreamCreateWithFlags"))
        return rc;
    *s = new CUstream_st();
    streams.push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) { return cudaStreamCreateWithFlags(s, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned int flags, int)
{
    return cudaStreamCreateWithFlags(s, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    if (is_default(s))
        return emu_error(cudaErrorInvalidResourceHandle);
    emu_drain();
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s)
            streams.erase(streams.begin() + (ptrdiff_t)i--);
    if (s->origin)
        delete s->capture;
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (cudaError_t rc = emu_injected("cudaStreamSynchronize"))
        return rc;
    if (emu_capturing(s)) {
        s->broken = true;
        return emu_error(cudaErrorStreamCaptureUnsupported);
    }
    if (is_default(s) && emu_capture_broken())
        return emu_error(cudaErrorStreamCaptureImplicit);
    emu_drain();
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) { return cudaStreamSynchronize(s); }
cudaError_t cudaDeviceSynchronize(void)
{
    if (emu_capture_broken())
        return emu_error(cudaErrorStreamCaptureUnsupported);
    emu_drain();
    return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void *data)
{
    return emu_push(s, [fn, data] { fn(data); });
}

/* --- Events. */
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned int)
{
    *e = new CUevent_st();
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    emu_drain();
    delete e;
    return cudaSuccess;
}
static void event_happens(cudaEvent_t e)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    e->ms = (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
    e->done = true;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    if (cudaError_t rc = emu_injected("cudaEventRecord"))
        return rc;
    if (emu_capturing(s)) {
        e->capture = s->capture;
        return cudaSuccess;
    }
    e->capture = nullptr;
    e->recorded = true;
    e->done = false;
    return emu_push(s, [e] { event_happens(e); });
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned int flags)
{
    if (!emu_capturing(s) || flags != cudaEventRecordExternal)
        return cudaEventRecord(e, s);
    e->recorded = true;
    return emu_push(s, [e] { event_happens(e); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (cudaError_t rc = emu_injected("cudaEventSynchronize"))
        return rc;
    if (e->capture)
        return emu_error(cudaErrorCapturedEvent);
    if (emu_capture_broken())
        return emu_error(cudaErrorStreamCaptureUnsupported);
    emu_drain();
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) { return cudaEventSynchronize(e); }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    if (!from->recorded || !to->recorded)
        return emu_error(cudaErrorInvalidResourceHandle);
    if (!from->done || !to->done)
        return emu_error(cudaErrorNotReady);
    *ms = (float)(to->ms - from->ms);
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned int)
{
    if (is_default(s) || !e->capture || s->capture == e->capture)
        return cudaSuccess;            /* one queue: already in order */
    if (s->capture)
        return emu_error(cudaErrorStreamCaptureMerge);
    s->capture = e->capture;
    s->broken = s->origin = false;
    return cudaSuccess;
}

/* --- Graphs. */
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    if (cudaError_t rc = emu_injected("cudaStreamBeginCapture"))
        return rc;
    if (is_default(s))
        return emu_error(cudaErrorStreamCaptureUnsupported);
    if (s->capture)
        return emu_error(cudaErrorIllegalState);
    s->capture = new CUgraph_st();
    s->origin = true;
    s->broken = false;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out)
{
    if (cudaError_t rc = emu_injected("cudaStreamEndCapture"))
        return rc;
    CUgraph_st *g = is_default(s) ? nullptr : s->capture;
    bool broken = false;

    *out = nullptr;
    if (!g)
        return emu_error(cudaErrorIllegalState);
    if (!s->origin)
        return emu_error(cudaErrorStreamCaptureUnmatched);
    for (CUstream_st *t : streams)
        if (t->capture == g) {
            broken |= t->broken;
            t->capture = nullptr;
            t->origin = false;
        }
    if (broken) {
        delete g;
        return emu_error(cudaErrorStreamCaptureInvalidated);
    }
    *out = g;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status)
{
    *status = !emu_capturing(s) ? cudaStreamCaptureStatusNone :
              s->broken ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long)
{
    if (cudaError_t rc = emu_injected("cudaGraphInstantiate"))
        return rc;
    if (!g)
        return emu_error(cudaErrorInvalidValue);
    emu_count.graphs_made++;
    *exec = new CUgraphExec_st{ std::make_shared<work_list>(g->work) };
    return cudaSuccess;
}
/* CUDA refuses when the graph's shape differs; its size is all of the shape that is known here. */
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t g,
                                cudaGraphExecUpdateResultInfo *info)
{
    bool same = exec->work->size() == g->work.size();

    if (info) {
        memset(info, 0, sizeof *info);
        info->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    }
    if (!same)
        return emu_error(cudaErrorGraphExecUpdateFailure);
    exec->work = std::make_shared<work_list>(g->work);
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    if (cudaError_t rc = emu_injected("cudaGraphLaunch"))
        return rc;
    std::shared_ptr<work_list> list = exec->work;

    return emu_push(s, [list] {
        emu_count.graph_launches++;
        for (const std::function<void()> &work : *list)
            work();
    });
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *nodes, size_t *n)
{
    if (nodes)
        return emu_error(cudaErrorNotSupported);
    *n = g->work.size();
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    delete e;
    return cudaSuccess;
}
