/*
 * What goes wrong, and when: a schedule of faults from the seed. Some come at any time; more come in the first
 * milliseconds after a node changes its role, where the mistakes of consensus programs live, together with a burst of
 * requests.
 */
#ifndef KT_SIM_FAULTS_H
#define KT_SIM_FAULTS_H

#include "cluster/node/replica.h"
#include "network.h"
#include "world.h"

struct sim_cluster;

struct sim_faults {
    struct sim_cluster *cluster;
    bool on;
    sim_us pause;  /* between faults, on average */
    unsigned bias; /* percent of role changes that are followed by a fault at once */
    enum kt_role role[SIM_NODES_MAX];
    bool serving[SIM_NODES_MAX];
    unsigned weights[12]; /* this run's taste */
};

void sim_faults_init(struct sim_faults *faults, struct sim_cluster *cluster);
void sim_faults_start(struct sim_faults *faults);
/* The node dies now and is started again after a while. */
void sim_faults_crash(struct sim_node *node, bool power);
/* A node's status may have changed. */
void sim_faults_noticed(struct sim_node *node);
/* The one fault of a scenario, on the leader there is; false if there is none. */
bool sim_faults_scenario(struct sim_faults *faults);
/* No more faults; what is broken is repaired. */
void sim_faults_end(struct sim_faults *faults);

#endif
