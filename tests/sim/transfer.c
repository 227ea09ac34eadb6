/*
 * State transfer in the simulation: what cluster/transport/transfer.c does over a connection of its own, between the
 * real copy of the source's store and the real adoption. It takes time by the size of the state and ends with anything
 * that a connection ends with.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/plant.h"
#include "cluster.h"
#include "store/store.h"

#define BYTES_PER_MS_LOW  2000u
#define BYTES_PER_MS_HIGH 100000u

static struct sim_world *world_of(const struct sim_node *node)
{
    return &node->cluster->world;
}

/* The two can hear each other, and could all the time. */
static bool holds(const struct sim_node *node)
{
    const struct sim_network *network = &node->cluster->network;
    unsigned a = node->number, b = node->transfer.from;
    return network->ends[a][b].connection == node->transfer.connection && node->transfer.connection != 0 &&
           network->ends[b][a].connection == node->transfer.connection && !network->ways[a][b].blocked &&
           !network->ways[b][a].blocked && node->cluster->nodes[b].life == node->transfer.from_life;
}

static void interrupted(struct sim_node *node)
{
    sim_note(world_of(node), node->id, "transfer interrupted", node->transfer.from + 1, 0, 0);
    node->transfer.under_way = false;
    node->cluster->counts.transfers_lost++;
}

/* As runtime_host.c does it; the process ends a little later, and goes on with its work until then. */
static void arrived(struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct kt_error error;
    if (!node->transfer.under_way || node->transfer.number != event->number)
        return;
    if (!holds(node)) {
        interrupted(node);
        return;
    }
    node->adopting = true; /* or not, if the power goes in the middle of it */
    enum kt_code code = kt_boot_adopt(&node->boot, &error);
    if (code != KT_OK) {
        sim_node_failed(node, error.text, code);
        return;
    }
    sim_note(world_of(node), node->id, "state is here", node->transfer.from + 1, 0, 0);
    node->cluster->counts.transfers++;
    sim_node_end_soon(node, sim_latency(world_of(node), SIM_NETWORK, 0, SIM_MS(300)), false);
    sim_faults_at_transfer(node);
}

/*
 * An altered state that is copied before it is found out makes two that agree, which is more than the comparison can
 * tell from the truth in a cluster of three. It does not come to that: somebody notices.
 */
static void give_up_source(struct sim_node *source)
{
    struct kt_error error;
    if (source->condemned)
        return;
    sim_note(world_of(source), source->id, "given up", 0, 0, 0);
    enum kt_code code = kt_boot_condemn(&source->boot, &error);
    if (code != KT_OK) {
        sim_node_failed(source, error.text, code);
        return;
    }
    source->condemned = true;
    sim_node_end_soon(source, 0, false);
}

/* Planted: what stands in for the transfer here leaves a keyspace out. */
static void forget_sessions(const char *path)
{
    struct kt_store_options options = {.path = path, .bytes_max = 64u << 20, .volatile_data = true};
    struct kt_slice keys[4096], value;
    struct kt_store *store;
    struct kt_error error;
    struct kt_cursor *cursor;
    struct kt_txn *txn;
    kt_space space;
    size_t count = 0;

    KT_CHECK(kt_store_open(&options, &store, &error) == KT_OK);
    KT_CHECK(kt_store_space(store, "session", &space, &error) == KT_OK);
    KT_CHECK(kt_txn_begin_write(store, &txn) == KT_OK && kt_cursor_open(txn, space, &cursor) == KT_OK);
    enum kt_code code = kt_cursor_seek(cursor, kt_slice(NULL, 0), &keys[0], &value);
    while (code == KT_OK && ++count < KT_COUNT(keys))
        code = kt_cursor_next(cursor, &keys[count], &value);
    kt_cursor_close(cursor);
    for (size_t i = 0; i < count; i++) {
        uint8_t key[KT_STORE_KEY_MAX];
        memcpy(key, keys[i].data, keys[i].len);
        KT_CHECK(kt_txn_delete(txn, space, kt_slice(key, keys[i].len)) == KT_OK);
    }
    KT_CHECK(kt_txn_commit(txn) == KT_OK);
    kt_store_close(store);
}

/* The source copies its state into the file that arrives: what is under way later is only time. */
static void asked(struct sim_event *event)
{
    struct sim_node *source = event->node, *node = event->data;
    struct stat info;
    if (!node->up || !node->transfer.under_way || node->transfer.number != event->number ||
        node->transfer.from != source->number)
        return;
    if (source->harm == SIM_ALTERED && source->replica)
        give_up_source(source);
    if (!holds(node) || !source->replica || source->harm == SIM_ALTERED) {
        interrupted(node);
        return;
    }
    int fd = open(sim_folder_receive(node->folder, "incoming.part"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    KT_CHECK(fd >= 0);
    KT_CHECK(kt_store_copy(kt_state_store(source->state), fd) == KT_OK);
    KT_CHECK(fstat(fd, &info) == 0 && close(fd) == 0);
    if (KT_PLANTED("sessions-lost-in-transfer"))
        forget_sessions(sim_folder_path(node->folder, "incoming.part"));
    sim_note(world_of(node), source->id, "state is sent", node->id, kt_state_visible(source->state), 0);
    uint64_t rate = sim_between(world_of(node), SIM_NETWORK, BYTES_PER_MS_LOW, BYTES_PER_MS_HIGH);
    sim_schedule(world_of(node), SIM_MS((uint64_t)info.st_size / rate + 1), node, arrived, NULL)->number =
        event->number;
    sim_faults_at_transfer(node);
}

/* Nothing came for long. */
static void given_up(struct sim_event *event)
{
    struct sim_node *node = event->node;
    if (node->transfer.under_way && node->transfer.number == event->number && !holds(node))
        interrupted(node);
    else if (node->transfer.under_way && node->transfer.number == event->number)
        sim_schedule(world_of(node), SIM_MS(1000), node, given_up, NULL)->number = event->number;
}

void sim_transfer_start(struct sim_node *node, unsigned from, kt_index index)
{
    struct sim_world *world = world_of(node);
    struct sim_network *network = &node->cluster->network;
    struct sim_transfer *transfer = &node->transfer;
    if (transfer->under_way || node->adopting)
        return;
    transfer->under_way = true;
    transfer->number++;
    transfer->from = from;
    transfer->from_life = node->cluster->nodes[from].life;
    transfer->connection = network->ends[node->number][from].connection;
    sim_note(world, node->id, "fetches the state", from + 1, index, 0);
    sim_us latency = sim_latency(world, SIM_NETWORK, network->latency_low, network->latency_high);
    sim_schedule(world, latency, &node->cluster->nodes[from], asked, node)->number = transfer->number;
    sim_schedule(world, SIM_MS(1000), node, given_up, NULL)->number = transfer->number;
}
