/*
 * What one admitted request does once its turn has come.
 *
 *   write:  prepare (io) -> kt_cluster_propose -> done (replica) -> mailbox -> finish (io)
 *   read:   [kt_cluster_read -> done (replica) -> mailbox] -> lane's leave -> query (io, or pool if it scans) -> finish
 * (io)
 */
#include "dispatch/dispatch_internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "cluster/log/entry.h"
#include "store/store.h"

static struct kt_call make_call(struct kt_request *request)
{
    struct kt_call call = {.state = NULL, .arena = &request->arena};

    if (request->dispatch->options.state)
        call.state = kt_state_engine(request->dispatch->options.state, request->engine);
    return call;
}

static void proposal_back(struct kt_task *task)
{
    struct kt_request *request = KT_CONTAINER(task, struct kt_request, proposal.task);

    kt_reply_move(&request->reply, &request->proposal.reply);
    kt_buf_release(&request->proposal.op);
    dispatch_finish(request);
}

/* Replica thread. */
static void proposal_done(struct kt_proposal *proposal)
{
    struct kt_request *request = KT_CONTAINER(proposal, struct kt_request, proposal);

    kt_mailbox_post(&request->dispatch->mailbox, &proposal->task, proposal_back);
}

static void begin_write(struct kt_request *request)
{
    struct kt_proposal *proposal = &request->proposal;
    struct kt_call call = make_call(request);
    enum kt_code code;

    kt_buf_init(&proposal->op, KT_ENTRY_BYTES_MAX);
    kt_reply_init(&proposal->reply);
    code = request->command->prepare(&call, request->params, &proposal->op, &request->reply);
    if (code == KT_OK && kt_buf_code(&proposal->op) != KT_OK)
        code = kt_reply_fail(&request->reply, kt_buf_code(&proposal->op), "operation is larger than %u bytes",
                             (unsigned)KT_ENTRY_BYTES_MAX);
    if (code != KT_OK) {
        request->reply.code = code;
        kt_buf_release(&proposal->op);
        dispatch_finish(request);
        return;
    }
    KT_CHECK(proposal->op.len >= KT_OP_HEADER_BYTES);
    proposal->deadline_ms = request->deadline_ms;
    proposal->done = proposal_done;
    kt_cluster_propose(request->dispatch->options.cluster, proposal);
}

/* Any thread: the query in its own read transaction; the outcome is in the reply. */
static void query(struct kt_request *request)
{
    struct kt_state *state = request->dispatch->options.state;
    struct kt_call call = make_call(request);
    struct kt_state_position position;
    enum kt_code code;

    code = kt_txn_begin_read(kt_state_store(state), &call.txn);
    if (code != KT_OK) {
        kt_reply_fail(&request->reply, code, "the state cannot be read");
        return;
    }
    code = kt_state_position_of(state, call.txn, &position);
    if (code != KT_OK) {
        kt_reply_fail(&request->reply, code, "the state's position cannot be read");
    } else {
        /* Expiry is judged by this node's wall clock or the newest stamped time, so that what a write saw as expired
         * stays so. */
        call.now_ms = KT_MAX(kt_clock_wall_ms(), position.time_ms);
        call.index = position.index;
        code = request->command->query(&call, request->params, &request->reply);
        if (code == KT_OK && kt_buf_code(&request->reply.body) != KT_OK)
            code = kt_reply_fail(&request->reply, kt_buf_code(&request->reply.body), "result is larger than %u bytes",
                                 (unsigned)KT_REPLY_BYTES_MAX);
        request->reply.code = code;
        request->reply.offset = position.index;
    }
    kt_txn_abort(call.txn);
}

/* Pool. */
static void scan(struct kt_pool_work *work)
{
    query(KT_CONTAINER(work, struct kt_request, work));
}

static void scanned(struct kt_pool_work *work)
{
    dispatch_finish(KT_CONTAINER(work, struct kt_request, work));
}

void road_look(struct kt_request *request)
{
    if (request->command->scans) {
        request->work.run = scan;
        request->work.done = scanned;
        kt_dispatch_work(request->dispatch, KT_POOL_SCAN, &request->work);
        return;
    }
    query(request);
    dispatch_finish(request);
}

static void read_back(struct kt_task *task)
{
    struct kt_request *request = KT_CONTAINER(task, struct kt_request, read.task);

    if (request->read.code != KT_OK) {
        kt_reply_fail(&request->reply, request->read.code, "%s", kt_code_text(request->read.code));
        dispatch_finish(request);
        return;
    }
    if (lane_may_look(request))
        road_look(request);
}

/* Replica thread. */
static void read_done(struct kt_read *read)
{
    struct kt_request *request = KT_CONTAINER(read, struct kt_request, read);

    kt_mailbox_post(&request->dispatch->mailbox, &read->task, read_back);
}

static void begin_read(struct kt_request *request)
{
    if (request->level == KT_STALE_READ) {
        road_look(request);
        return;
    }
    request->read.deadline_ms = request->deadline_ms;
    request->read.done = read_done;
    kt_cluster_read(request->dispatch->options.cluster, &request->read);
}

void road_begin(struct kt_request *request)
{
    /* One that waited in its lane until now: the cluster may be closed already. */
    if (request->dispatch->draining) {
        kt_reply_fail(&request->reply, KT_SHUTTING_DOWN, "this node is shutting down");
        dispatch_finish(request);
        return;
    }
    if (request->command->kind == KT_READ)
        begin_read(request);
    else
        begin_write(request);
}
