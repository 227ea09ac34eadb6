#include "cluster.h"

#include "base/log.h"

#define UP_MS       10000u
#define WHOLE_MS    30000u /* what is damaged is found and rebuilt */
#define SETTLE_MS   2500u  /* faults leave things to be found out: a slow log to catch up, a request to be sent again */
#define BEHIND      100u   /* entries under way */
#define CALM_MS     500u   /* then requests go on for so long, and none may fail */
#define REST_MS     20000u /* virtual time that everything may take to come to rest once the faults have ended */
#define CONVERGE_MS 5000u  /* and the nodes to agree once nobody asks for anything */

/* The program's own log lines are part of the trace, without their date. */
static void log_line(void *data, const char *line)
{
    struct sim_cluster *cluster = data;
    const char *text = strchr(line, ' ');
    sim_note_text(&cluster->world, 0, text ? text + 1 : line);
}

static void run_for(struct sim_cluster *cluster, unsigned ms)
{
    sim_us end = cluster->world.now + SIM_MS(ms);
    while (sim_step(&cluster->world, end))
        continue;
}

/* Goes on until the condition holds; a failure if it does not in time. */
static void run_until(struct sim_cluster *cluster, bool (*condition)(struct sim_cluster *cluster), unsigned ms,
                      const char *what)
{
    sim_us end = cluster->world.now + SIM_MS(ms);
    while (!condition(cluster) && cluster->world.now < end && !cluster->world.failed)
        run_for(cluster, 10);
    if (!condition(cluster) && !cluster->world.failed)
        sim_fail(&cluster->world, "no progress: %s within %u ms without faults", what, ms);
}

static bool clients_finished(struct sim_cluster *cluster)
{
    return sim_clients_finished(&cluster->clients);
}

static bool nothing_under_way(struct sim_cluster *cluster)
{
    return sim_clients_under_way(&cluster->clients) == 0;
}

static bool all_up(struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->options.nodes; i++)
        if (!sim_node_runs(&cluster->nodes[i]) || cluster->nodes[i].paused_until > cluster->world.now)
            return false;
    return true;
}

static bool whole(struct sim_cluster *cluster)
{
    return all_up(cluster) && sim_check_whole(cluster);
}

/* And nobody so far behind that it may still need the state of another. */
static bool steady(struct sim_cluster *cluster)
{
    if (!whole(cluster))
        return false;
    for (unsigned i = 0; i < cluster->options.nodes; i++)
        if (cluster->nodes[i].status.applied + BEHIND < cluster->check.commit_max)
            return false;
    return true;
}

static bool converged(struct sim_cluster *cluster)
{
    if (!whole(cluster))
        return false;
    kt_index last = cluster->nodes[0].status.last;
    for (unsigned i = 0; i < cluster->options.nodes; i++) {
        const struct kt_replica_status *status = &cluster->nodes[i].status;
        if (status->last != last || status->applied != last || status->visible != last || status->leader == 0)
            return false;
    }
    return true;
}

static void run_phases(struct sim_cluster *cluster)
{
    sim_network_start(&cluster->network);
    for (unsigned i = 0; i < cluster->options.nodes; i++)
        sim_node_boot(&cluster->nodes[i]);
    sim_clients_start(&cluster->clients);
    sim_faults_start(&cluster->faults);
    run_for(cluster, cluster->options.fault_ms);
    if (cluster->world.failed)
        return;
    sim_faults_end(&cluster->faults);
    run_until(cluster, all_up, UP_MS, "nodes are not up");
    run_until(cluster, whole, WHOLE_MS, "not all nodes are voters with a whole state");
    run_for(cluster, SETTLE_MS);
    run_until(cluster, steady, WHOLE_MS, "nodes lag behind");
    cluster->calm = true;
    run_for(cluster, CALM_MS);
    sim_clients_stop(&cluster->clients);
    run_until(cluster, clients_finished, REST_MS, "clients are not done");
    if (cluster->world.failed)
        return;
    sim_clients_read_all(&cluster->clients);
    run_until(cluster, nothing_under_way, REST_MS, "the last reads are not answered");
    run_until(cluster, converged, CONVERGE_MS, "the nodes do not agree");
    if (!cluster->world.failed)
        sim_check_converged(cluster);
    sim_clients_check(&cluster->clients);
}

bool sim_cluster_run(struct sim_cluster *cluster, const struct sim_options *options)
{
    memset(cluster, 0, sizeof(*cluster));
    cluster->options = *options;
    sim_world_init(&cluster->world, options->seed, options->trace);
    kt_log_sink(log_line, cluster);
    sim_check_init(&cluster->check, options->outside_only);
    sim_network_init(&cluster->network, &cluster->world, cluster->nodes, options->nodes);
    sim_faults_init(&cluster->faults, cluster);
    static const unsigned keep_kib[] = {0, 0, 64, 200, 1024};
    cluster->log_keep = 1024u * keep_kib[sim_below(&cluster->world, SIM_DISK, KT_COUNT(keep_kib))];
    for (unsigned i = 0; i < options->nodes; i++)
        sim_node_init(&cluster->nodes[i], cluster, i);
    sim_clients_init(&cluster->clients, cluster);

    run_phases(cluster);
    cluster->counts.steps = cluster->world.steps;

    for (unsigned i = 0; i < options->nodes; i++)
        sim_node_release(&cluster->nodes[i]);
    sim_world_release(&cluster->world);
    sim_clients_release(&cluster->clients);
    sim_network_release(&cluster->network);
    sim_check_release(&cluster->check);
    kt_log_sink(NULL, NULL);
    return !cluster->world.failed;
}
