/*
 * The space of the data folder, where log and state grow: looked at on the pool, because a file system may be slow to
 * answer. Below the limit of the settings the node is low on room, so that it stops growing while there is still space
 * for what must be written (the log of what others lead, the state, a restart); it is not low any more when there is a
 * quarter more than the limit: without that it would change its mind with every file that comes and goes.
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/check.h"
#include "base/log.h"
#include "cluster/node/runtime_internal.h"

static void look(uv_work_t *work)
{
    struct kt_cluster *cluster = cluster_of_loop(work->loop);
    struct statvfs space;

    cluster->space_error = statvfs(cluster->boot->folder, &space) == 0 ? 0 : errno;
    if (cluster->space_error == 0)
        cluster->space_bytes = (uint64_t)space.f_bavail * space.f_frsize;
}

static void judge(struct kt_cluster *cluster)
{
    uint64_t limit = cluster->options.min_free_bytes;
    uint64_t free_mb = cluster->space_bytes >> 20;

    if (!cluster->low && cluster->space_bytes < limit) {
        cluster->low = true;
        kt_fail("disk",
                "%llu MiB are free, less than storage.min_free_mb: this node takes nothing that needs more space",
                (unsigned long long)free_mb);
    } else if (cluster->low && cluster->space_bytes >= limit + limit / 4) {
        cluster->low = false;
        kt_info("disk", "%llu MiB are free: this node takes everything again", (unsigned long long)free_mb);
    }
}

static void looked(uv_work_t *work, int status)
{
    struct kt_cluster *cluster = cluster_of_loop(work->loop);

    (void)status;
    cluster->fetches--;
    cluster->looking = false;
    if (cluster->space_error == 0)
        judge(cluster);
    else
        kt_warn("disk", "cannot tell the free space of %s: %s", cluster->boot->folder, strerror(cluster->space_error));
}

void runtime_space_step(struct kt_cluster *cluster, kt_time_ms now)
{
    kt_replica_disk_full(cluster->replica, atomic_load(&cluster->log_full) || atomic_load(&cluster->state_full));
    kt_replica_disk_low(cluster->replica, cluster->low);
    if (cluster->options.min_free_bytes == 0 || cluster->looking || now < cluster->looked_ms + SPACE_MS)
        return;
    cluster->looked_ms = now;
    cluster->looking = true;
    cluster->fetches++;
    KT_CHECK(uv_queue_work(&cluster->loop, &cluster->space_work, look, looked) == 0);
}
