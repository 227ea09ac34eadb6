#include "clients.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/check.h"
#include "cluster.h"
#include "workload.h"

#define OP_BYTES_MAX         (1u << 20)
#define GRACE_MS             1000u /* an answer may be that much later than its deadline */
#define SCENARIO_DEADLINE_MS 3000u /* patience enough to see a new leader */
#define COUNTER_STEPS        100u  /* then a fresh counter: below SIM_RING */
#define OWNED_WRITES         60u   /* then a fresh register: histories stay cheap to judge */

static struct sim_world *world_of(const struct sim_client *client)
{
    return &client->cluster->world;
}

/* ---- Items ---- */

static struct sim_history *history_create(struct sim_clients *clients, enum sim_item_kind kind)
{
    static const char *const prefixes[] = {"own", "shared", "counter"};
    struct sim_history *history = kt_zalloc(sizeof(*history));
    if (clients->history_count == clients->history_cap) {
        clients->history_cap = clients->history_cap ? clients->history_cap * 2 : 16;
        clients->histories = kt_realloc(clients->histories, clients->history_cap * sizeof(*clients->histories));
    }
    history->kind = kind;
    snprintf(history->name, sizeof(history->name), "%s-%zu", prefixes[kind], clients->history_count);
    clients->histories[clients->history_count++] = history;
    return history;
}

static struct sim_history *shared_item(struct sim_clients *clients, unsigned which)
{
    struct sim_history *history = clients->shared[which];
    if (!history || history->count >= SIM_SHARED_OPS)
        history = clients->shared[which] = history_create(clients, SIM_SHARED);
    return history;
}

static struct sim_history *owned_item(struct sim_client *client)
{
    if (!client->owned || client->owned->retired || client->owned->last >= OWNED_WRITES)
        client->owned = history_create(&client->cluster->clients, SIM_OWNED);
    return client->owned;
}

static struct sim_history *counter_item(struct sim_client *client)
{
    if (!client->counter || client->counter->retired || client->counter->last >= COUNTER_STEPS)
        client->counter = history_create(&client->cluster->clients, SIM_COUNTER);
    return client->counter;
}

/* ---- One request ---- */

static void client_turn_soon(struct sim_client *client, sim_us delay);

static struct sim_op *op_create(struct sim_client *client, enum sim_op_kind kind, struct sim_history *history)
{
    struct sim_op *op = kt_zalloc(sizeof(*op));
    op->cluster = client->cluster;
    op->client = client;
    op->kind = kind;
    op->history = history;
    op->node = client->node;
    op->floor = client->cluster->check.acked;
    op->calm = client->cluster->calm;
    op->invoked = world_of(client)->now;
    op->deadline_ms = sim_between(world_of(client), SIM_CLIENTS, 200, 5000);
    if (client->cluster->options.scenario != SIM_SCENARIO_NONE)
        op->deadline_ms = SCENARIO_DEADLINE_MS;
    kt_buf_init(&op->proposal.op, OP_BYTES_MAX);
    kt_reply_init(&op->proposal.reply);
    kt_list_append(&client->cluster->clients.ops, &op->link);
    client->under_way++;
    return op;
}

static void op_free(struct sim_op *op)
{
    kt_list_remove(&op->link);
    kt_buf_release(&op->proposal.op);
    kt_reply_release(&op->proposal.reply);
    kt_free(op);
}

static void op_start(struct sim_op *op);

/* What an outcome means for the client's next requests. */
static void op_learn(struct sim_op *op, enum sim_outcome outcome)
{
    struct sim_client *client = op->client;
    switch (op->kind) {
    case SIM_SET:
        /* A write that may still come would make a register go back without anybody's fault. */
        if (op->history && op->history->kind == SIM_OWNED && outcome == SIM_UNKNOWN)
            op->history->retired = true;
        break;
    case SIM_PUT_MACHINE:
        client->machine_put = outcome == SIM_DONE;
        client->machine_asked = outcome == SIM_DONE;
        break;
    case SIM_CREATE:
        op->history->created = outcome == SIM_DONE;
        if (outcome != SIM_DONE)
            op->history->retired = true;
        break;
    case SIM_STEP:
    case SIM_GET:
    case SIM_COUNT:
        break;
    }
    if (op->value == UINT64_MAX && outcome == SIM_DONE)
        client->finished = true;
}

/* While nothing is wrong with a node, requests to it succeed, however long they have to wait for a leader. */
static void judge_calm(struct sim_op *op, enum sim_outcome outcome)
{
    struct sim_cluster *cluster = op->cluster;
    if (!op->calm || op->node == cluster->victim)
        return;
    if (outcome != SIM_DONE)
        sim_fail(&cluster->world, "a request of client %u to node %u failed (%s), and nothing was wrong there",
                 op->client->number, op->node + 1, outcome == SIM_UNKNOWN ? "unknown" : "not done");
    bool write = op->kind != SIM_GET && op->kind != SIM_COUNT;
    if (write && cluster->fault_at && op->invoked >= cluster->fault_at && !cluster->write_at)
        cluster->write_at = cluster->world.now;
}

/* The client hears of the end of a request, which is gone afterwards. value: read, or the count that a step made. */
static void op_end(struct sim_op *op, enum sim_outcome outcome, uint64_t value)
{
    struct sim_client *client = op->client;
    struct sim_world *world = world_of(client);
    unsigned other = (op->node + 1) % client->cluster->options.nodes;
    if (op->again && outcome == SIM_UNKNOWN && client->cluster->nodes[other].up) {
        /* Planted: sent once more as a new request, and the client none the wiser. */
        op->again = false;
        op->node = other;
        kt_reply_release(&op->proposal.reply);
        kt_reply_init(&op->proposal.reply);
        op_start(op);
        return;
    }
    sim_note(world, 0, "answer", client->number, (uint64_t)op->kind << 8 | (uint64_t)outcome, value);
    if (op->history && op->kind != SIM_CREATE)
        sim_history_end(op->history, op->record, outcome, value, world->now);
    op_learn(op, outcome);
    client->under_way--;
    judge_calm(op, outcome);
    struct sim_counts *counts = &client->cluster->counts;
    if (outcome == SIM_UNKNOWN)
        counts->unknown++;
    else if (outcome == SIM_NOT_DONE)
        counts->refused++;
    else if (op->kind == SIM_GET || op->kind == SIM_COUNT)
        counts->reads++;
    else
        counts->writes++;
    client_turn_soon(client, sim_below(world, SIM_CLIENTS, client->pause * 2));
    op_free(op);
}

/* ---- Writes ---- */

/* The result of a write that took effect must be what the history allows. */
static uint64_t result_of(struct sim_op *op, enum sim_outcome *outcome)
{
    struct kt_reply *reply = &op->proposal.reply;
    struct sim_world *world = &op->cluster->world;
    uint64_t count = 0;
    *outcome = SIM_DONE;
    if (op->kind == SIM_STEP && reply->code == KT_OK) {
        if (!sim_step_count(reply, &count))
            sim_fail(world, "a step of counter %s was answered with %.*s", op->history->name, (int)reply->body.len,
                     (const char *)reply->body.data);
        return count;
    }
    /* A counter whose creation is not known to have worked, or is behind in the queue, may be missing. */
    if (op->kind == SIM_STEP && reply->code == KT_INSTANCE_NOT_FOUND && !op->history->created) {
        *outcome = SIM_NOT_DONE;
        return 0;
    }
    if (op->kind == SIM_CREATE && reply->code == KT_MACHINE_NOT_FOUND && !op->client->machine_put) {
        *outcome = SIM_NOT_DONE;
        return 0;
    }
    if (reply->code != KT_OK)
        sim_fail(world, "a write to %s was answered with %s: %s", op->history ? op->history->name : "the machine",
                 kt_code_name(reply->code), reply->text);
    return op->value;
}

static void proposal_done(struct kt_proposal *proposal)
{
    struct sim_op *op = KT_CONTAINER(proposal, struct sim_op, proposal);
    struct sim_cluster *cluster = op->cluster;
    struct kt_reply *reply = &proposal->reply;
    enum sim_outcome outcome = SIM_UNKNOWN;
    uint64_t value = op->value;
    KT_CHECK(op->submitted);
    op->submitted = false;
    sim_note(&cluster->world, op->node + 1, "proposal done", (uint64_t)reply->code, reply->offset, proposal->sequence);
    if (cluster->nodes[op->node].dying) {
        /* The connection broke with the process: whatever the answer was, it was not heard. */
    } else if (reply->code == KT_OK || (kt_code_class(reply->code) == KT_CLIENT && reply->offset != 0)) {
        sim_check_answered(cluster, kt_buf_slice(&proposal->op), reply);
        value = result_of(op, &outcome);
    } else if (kt_code_class(reply->code) == KT_RETRY) {
        outcome = kt_code_outcome(reply->code) == KT_NOT_DONE ? SIM_NOT_DONE : SIM_UNKNOWN;
    } else {
        sim_fail(&cluster->world, "a write ended with %s: %s", kt_code_name(reply->code), reply->text);
    }
    op_end(op, outcome, value);
}

/* ---- Reads ---- */

static void op_query(struct sim_event *event)
{
    struct sim_op *op = event->data;
    struct sim_node *node = event->node;
    kt_time_ms wall = sim_node_wall(node);
    uint64_t value = 0;
    bool found = true;
    enum kt_code code = op->kind == SIM_COUNT ? sim_look_counter(node->state, op->history->name, wall, &value, &found)
                                              : sim_look_register(node->state, op->history->name, wall, &value);
    sim_check_read(node, op->floor);
    if (code != KT_OK)
        sim_fail(&op->cluster->world, "node %u cannot look at %s: %s", op->node + 1, op->history->name,
                 kt_code_name(code));
    op_end(op, SIM_DONE, value);
}

static void op_lost(struct sim_event *event)
{
    struct sim_op *op = event->data;
    bool write = op->kind != SIM_GET && op->kind != SIM_COUNT;
    op_end(op, write ? SIM_UNKNOWN : SIM_NOT_DONE, op->value);
}

static void query_soon(struct sim_op *op)
{
    struct sim_world *world = &op->cluster->world;
    sim_us delay = sim_latency(world, SIM_CLIENTS, 0, 500);
    sim_schedule(world, delay, &op->cluster->nodes[op->node], op_query, op)->drop = op_lost;
}

static void read_done(struct kt_read *read)
{
    struct sim_op *op = KT_CONTAINER(read, struct sim_op, read);
    KT_CHECK(op->submitted);
    op->submitted = false;
    sim_note(&op->cluster->world, op->node + 1, "read done", (uint64_t)read->code, read->index, op->floor);
    if (op->cluster->nodes[op->node].dying || (read->code != KT_OK && kt_code_class(read->code) == KT_RETRY)) {
        op_end(op, SIM_NOT_DONE, 0);
    } else if (read->code != KT_OK) {
        sim_fail(&op->cluster->world, "a read ended with %s", kt_code_name(read->code));
        op_end(op, SIM_NOT_DONE, 0);
    } else {
        query_soon(op);
    }
}

/* ---- Sending ---- */

static void op_watch(struct sim_event *event)
{
    struct kt_list *link;
    struct sim_cluster *cluster = event->data;
    struct sim_op *op = NULL;
    kt_list_each (link, &cluster->clients.ops) {
        op = KT_CONTAINER(link, struct sim_op, link);
        struct sim_node *node = &cluster->nodes[op->node];
        if (!op->submitted || node->life != op->life || node->paused_until > cluster->world.now)
            continue;
        kt_time_ms deadline =
            op->kind == SIM_GET || op->kind == SIM_COUNT ? op->read.deadline_ms : op->proposal.deadline_ms;
        if (sim_node_clock(node) > deadline + GRACE_MS) {
            sim_fail(&cluster->world, "a request to node %u (%s) was not answered by its deadline", op->node + 1,
                     op->history ? op->history->name : "machine");
            return;
        }
    }
    sim_schedule(&cluster->world, SIM_MS(250), NULL, op_watch, cluster);
}

static void op_submit(struct sim_event *event)
{
    struct sim_op *op = event->data;
    struct sim_node *node = event->node;
    sim_note(&op->cluster->world, node->id, "request", op->client->number, op->kind, op->value);
    sim_node_enter(node);
    op->submitted = true;
    op->life = node->life;
    if (op->kind == SIM_GET || op->kind == SIM_COUNT) {
        op->read.deadline_ms = sim_node_clock(node) + op->deadline_ms;
        op->read.done = read_done;
        if (op->cluster->options.plant == SIM_PLANT_STALE_READ) {
            op->submitted = false;
            query_soon(op);
            return;
        }
        kt_replica_read(node->replica, &op->read);
    } else {
        op->proposal.deadline_ms = sim_node_clock(node) + op->deadline_ms;
        op->proposal.done = proposal_done;
        kt_replica_propose(node->replica, &op->proposal);
    }
    sim_node_turn(node);
}

static void op_start(struct sim_op *op)
{
    struct sim_client *client = op->client;
    struct sim_world *world = world_of(client);
    sim_us at = world->now + sim_latency(world, SIM_CLIENTS, 1, 300);
    client->last_submit = at = KT_MAX(at, client->last_submit);
    sim_schedule(world, at - world->now, &client->cluster->nodes[op->node], op_submit, op)->drop = op_lost;
}

static void start_set(struct sim_client *client, struct sim_history *history, uint64_t value)
{
    struct sim_op *op = op_create(client, SIM_SET, history);
    op->value = value;
    op->record = sim_history_begin(history, true, value, world_of(client)->now);
    size_t padding = sim_below(world_of(client), SIM_CLIENTS, 32);
    if (sim_chance(world_of(client), SIM_CLIENTS, client->cluster->clients.bulky))
        padding = sim_below(world_of(client), SIM_CLIENTS, SIM_PADDING_MAX);
    sim_make_set(client->cluster->nodes[client->node].state, history->name, value, padding, &op->proposal.op);
    op_start(op);
}

static void start_read(struct sim_client *client, enum sim_op_kind kind, struct sim_history *history)
{
    struct sim_op *op = op_create(client, kind, history);
    op->record = sim_history_begin(history, false, 0, world_of(client)->now);
    op_start(op);
}

static void start_step(struct sim_client *client)
{
    struct kt_state *state = client->cluster->nodes[client->node].state;
    struct sim_op *op;
    if (!client->machine_asked) {
        client->machine_asked = true;
        op = op_create(client, SIM_PUT_MACHINE, NULL);
        sim_make_machine(state, &op->proposal.op);
        op_start(op);
        return;
    }
    struct sim_history *history = counter_item(client);
    if (!history->ready) {
        history->ready = true;
        op = op_create(client, SIM_CREATE, history);
        sim_make_counter(state, history->name, &op->proposal.op);
        op_start(op);
        return;
    }
    op = op_create(client, SIM_STEP, history);
    op->value = ++history->last;
    op->record = sim_history_begin(history, true, op->value, world_of(client)->now);
    op->again = client->cluster->options.plant == SIM_PLANT_DOUBLE;
    sim_make_step(state, history->name, op->value, &op->proposal.op);
    op_start(op);
}

/* An item of anybody's, mostly one that is in use. */
static void start_some_read(struct sim_client *client)
{
    struct sim_clients *clients = &client->cluster->clients;
    if (clients->history_count == 0)
        return;
    uint64_t recent = KT_MIN(clients->history_count, clients->count * 2u + 2u);
    struct sim_history *history =
        clients->histories[clients->history_count - 1 - sim_below(world_of(client), SIM_CLIENTS, recent)];
    if (history->kind == SIM_SHARED && history->count >= SIM_SHARED_OPS)
        return;
    start_read(client, history->kind == SIM_COUNTER ? SIM_COUNT : SIM_GET, history);
}

/* Its last: acknowledged, or tried again. */
static void start_last(struct sim_client *client)
{
    struct sim_op *op = op_create(client, SIM_SET, NULL);
    op->value = UINT64_MAX;
    sim_make_set(client->cluster->nodes[client->node].state, "last", client->number, 0, &op->proposal.op);
    op_start(op);
}

static void start_something(struct sim_client *client)
{
    struct sim_clients *clients = &client->cluster->clients;
    uint64_t choice = sim_below(world_of(client), SIM_CLIENTS, 100);
    if (client->stopping) {
        start_last(client);
    } else if (choice < 35) {
        struct sim_history *history = owned_item(client);
        start_set(client, history, ++history->last);
    } else if (choice < 55) {
        start_step(client);
    } else if (choice < 70) {
        unsigned which = (unsigned)sim_below(world_of(client), SIM_CLIENTS, KT_COUNT(clients->shared));
        start_set(client, shared_item(clients, which), ++clients->next_value);
    } else if (choice < 80) {
        unsigned which = (unsigned)sim_below(world_of(client), SIM_CLIENTS, KT_COUNT(clients->shared));
        start_read(client, SIM_GET, shared_item(clients, which));
    } else {
        start_some_read(client);
    }
}

/* True if the client is connected to a node that lives. */
static bool connected(struct sim_client *client)
{
    struct sim_cluster *cluster = client->cluster;
    struct sim_node *node = &cluster->nodes[client->node];
    if (node->up && node->life == client->life && !sim_chance(&cluster->world, SIM_CLIENTS, 1))
        return true;
    if (client->under_way > 0)
        return false;
    client->node = (unsigned)sim_below(&cluster->world, SIM_CLIENTS, cluster->options.nodes);
    client->life = cluster->nodes[client->node].life;
    return cluster->nodes[client->node].up;
}

static void client_turn(struct sim_event *event)
{
    struct sim_client *client = event->data;
    client->turn_due = false;
    if (client->finished)
        return;
    if (!connected(client)) {
        client_turn_soon(client, SIM_MS(sim_between(world_of(client), SIM_CLIENTS, 1, 50)));
        return;
    }
    unsigned depth = client->stopping ? 1 : client->depth;
    if (client->under_way < depth)
        start_something(client);
    if (client->under_way < depth)
        client_turn_soon(client, sim_below(world_of(client), SIM_CLIENTS, client->pause * 2));
}

static void client_turn_soon(struct sim_client *client, sim_us delay)
{
    if (client->turn_due)
        return;
    client->turn_due = true;
    sim_schedule(world_of(client), delay, NULL, client_turn, client);
}

/* ---- All of them ---- */

void sim_clients_init(struct sim_clients *clients, struct sim_cluster *cluster)
{
    struct sim_world *world = &cluster->world;
    memset(clients, 0, sizeof(*clients));
    kt_list_init(&clients->ops);
    clients->count = (unsigned)sim_between(world, SIM_CLIENTS, 3, 6);
    /* Some runs write much, so that segments of the log end and disks fill; a few are in a hurry, so that windows do.
     */
    clients->bulky = sim_chance(world, SIM_CLIENTS, 30) ? (unsigned)sim_between(world, SIM_CLIENTS, 3, 25) : 1;
    bool hurried = sim_chance(world, SIM_CLIENTS, 3);
    for (unsigned i = 0; i < clients->count; i++) {
        struct sim_client *client = &clients->clients[i];
        client->cluster = cluster;
        client->number = i;
        client->node = i % cluster->options.nodes;
        client->depth = (unsigned)sim_between(world, SIM_CLIENTS, 1, 6);
        client->pause = SIM_MS(sim_between(world, SIM_CLIENTS, 5, 60));
        if (hurried) {
            client->depth = 100;
            client->pause = SIM_MS(4);
        }
    }
}

void sim_clients_release(struct sim_clients *clients)
{
    while (!kt_list_empty(&clients->ops))
        op_free(kt_list_first(&clients->ops, struct sim_op, link));
    for (size_t i = 0; i < clients->history_count; i++) {
        kt_free(clients->histories[i]->records);
        kt_free(clients->histories[i]);
    }
    kt_free(clients->histories);
}

void sim_clients_start(struct sim_clients *clients)
{
    struct sim_cluster *cluster = clients->clients[0].cluster;
    for (unsigned i = 0; i < clients->count; i++)
        client_turn_soon(&clients->clients[i], SIM_MS(sim_below(&cluster->world, SIM_CLIENTS, 50)));
    sim_schedule(&cluster->world, SIM_MS(250), NULL, op_watch, cluster);
}

void sim_clients_poke(struct sim_clients *clients)
{
    for (unsigned i = 0; i < clients->count; i++) {
        struct sim_client *client = &clients->clients[i];
        if (!client->stopping && connected(client) && client->under_way < client->depth + 6)
            start_something(client);
    }
}

void sim_clients_stop(struct sim_clients *clients)
{
    for (unsigned i = 0; i < clients->count; i++) {
        clients->clients[i].stopping = true;
        client_turn_soon(&clients->clients[i], 0);
    }
}

bool sim_clients_finished(const struct sim_clients *clients)
{
    for (unsigned i = 0; i < clients->count; i++)
        if (!clients->clients[i].finished)
            return false;
    return sim_clients_under_way(clients) == 0;
}

void sim_clients_read_all(struct sim_clients *clients)
{
    for (size_t i = 0; i < clients->history_count; i++) {
        struct sim_client *client = &clients->clients[i % clients->count];
        struct sim_history *history = clients->histories[i];
        client->node = (unsigned)(i % client->cluster->options.nodes);
        client->life = client->cluster->nodes[client->node].life;
        start_read(client, history->kind == SIM_COUNTER ? SIM_COUNT : SIM_GET, history);
    }
}

unsigned sim_clients_under_way(const struct sim_clients *clients)
{
    unsigned under_way = 0;
    for (unsigned i = 0; i < clients->count; i++)
        under_way += clients->clients[i].under_way;
    return under_way;
}

void sim_clients_check(struct sim_clients *clients)
{
    char why[512];
    for (size_t i = 0; i < clients->history_count; i++)
        if (!sim_history_check(clients->histories[i], why, sizeof(why)))
            sim_fail(&clients->clients[0].cluster->world, "%s", why);
}
