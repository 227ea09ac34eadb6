#include "cluster.h"

#include "base/log.h"

#define SETTLE_MS   2500u  /* faults leave things to be found out: a slow log to catch up, a request to be sent again */
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
        if (!cluster->nodes[i].up || cluster->nodes[i].paused_until > cluster->world.now)
            return false;
    return true;
}

static bool converged(struct sim_cluster *cluster)
{
    if (!all_up(cluster))
        return false;
    kt_index last = cluster->nodes[0].status.last;
    for (unsigned i = 0; i < cluster->options.nodes; i++) {
        const struct kt_replica_status *status = &cluster->nodes[i].status;
        if (status->last != last || status->applied != last || status->visible != last || status->leader == 0)
            return false;
    }
    return true;
}

static void run_faults(struct sim_cluster *cluster)
{
    sim_clients_start(&cluster->clients);
    sim_faults_start(&cluster->faults);
    run_for(cluster, cluster->options.fault_ms);
}

/* One fault in a cluster at work, and time enough for its clients to feel it. */
static void run_scenario(struct sim_cluster *cluster)
{
    run_for(cluster, 1500);
    sim_clients_start(&cluster->clients);
    cluster->calm = true;
    run_for(cluster, 1000 + (unsigned)sim_below(&cluster->world, SIM_FAULTS, 500));
    if (!cluster->world.failed && !sim_faults_scenario(&cluster->faults))
        sim_fail(&cluster->world, "nobody leads a cluster at rest");
    run_for(cluster, 3000);
    if (!cluster->world.failed && !cluster->write_at)
        sim_fail(&cluster->world, "no write was acknowledged within 3 s");
}

static void run_phases(struct sim_cluster *cluster)
{
    sim_network_start(&cluster->network);
    for (unsigned i = 0; i < cluster->options.nodes; i++)
        sim_node_boot(&cluster->nodes[i]);
    if (cluster->options.scenario == SIM_SCENARIO_NONE)
        run_faults(cluster);
    else
        run_scenario(cluster);
    if (cluster->world.failed)
        return;
    cluster->calm = false;
    sim_faults_end(&cluster->faults);
    run_until(cluster, all_up, 5000, "nodes are not up");
    if (cluster->options.scenario == SIM_SCENARIO_NONE) {
        run_for(cluster, SETTLE_MS);
        cluster->calm = true;
        run_for(cluster, CALM_MS);
    }
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
    cluster->victim = SIM_NODES_MAX;
    sim_world_init(&cluster->world, options->seed, options->trace);
    kt_log_sink(log_line, cluster);
    sim_check_init(&cluster->check, options->plant != SIM_PLANT_NONE);
    sim_network_init(&cluster->network, &cluster->world, cluster->nodes, options->nodes);
    sim_faults_init(&cluster->faults, cluster);
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
