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
    uint64_t members[SIM_NODES_MAX]; /* hash of each node's view */
    unsigned weights[16];            /* this run's taste */
};

void sim_faults_init(struct sim_faults *faults, struct sim_cluster *cluster);
void sim_faults_start(struct sim_faults *faults);
/* The node dies now and is started again after a while. */
void sim_faults_crash(struct sim_node *node, bool power);
/* The node knows what it is, and is about to write it down. */
void sim_faults_at_founding(struct sim_node *node);
/* A state is on its way to the node, or here. */
void sim_faults_at_transfer(struct sim_node *node);
/* A node's status may have changed. */
void sim_faults_noticed(struct sim_node *node);
/* No more faults; what is broken is repaired. */
void sim_faults_end(struct sim_faults *faults);

#endif
