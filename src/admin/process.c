/* The standard metrics of a process, from /proc (proc(5)): what Prometheus client libraries show under these names. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admin/admin_internal.h"

static void number(struct kt_buf *out, const char *name, const char *type, const char *help, double value)
{
    kt_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, value);
}

/* The whole of a small file as text; false if it cannot be read. */
static bool read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, size - 1);
    close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0;
}

/* Seconds since the epoch at which the system was started; 0: not known. */
static double boot_time(void)
{
    char text[8192];
    const char *line;

    if (!read_file("/proc/stat", text, sizeof(text)))
        return 0;
    line = strstr(text, "\nbtime ");
    return line ? strtod(line + 7, NULL) : 0;
}

static void put_stat(struct kt_buf *out)
{
    char text[2048];
    double fields[25] = {0}, ticks = (double)sysconf(_SC_CLK_TCK), page = (double)sysconf(_SC_PAGESIZE);

    if (!read_file("/proc/self/stat", text, sizeof(text)))
        return;
    /* The program's name may hold anything: fields are counted from behind its last bracket, which ends field 2. */
    char *at = strrchr(text, ')');
    if (!at || strlen(at) < 4)
        return;
    at += 4;
    for (size_t field = 4; field < KT_COUNT(fields); field++)
        fields[field] = strtod(at, &at);
    number(out, "process_cpu_seconds_total", "counter", "User and system time.", (fields[14] + fields[15]) / ticks);
    number(out, "process_threads", "gauge", "Threads.", fields[20]);
    number(out, "process_virtual_memory_bytes", "gauge", "Address space; the map of the state is part of it.",
           fields[23]);
    number(out, "process_resident_memory_bytes", "gauge", "Resident memory.", fields[24] * page);
    double boot = boot_time();
    if (boot > 0)
        number(out, "process_start_time_seconds", "gauge", "Start, in seconds since the Unix epoch.",
               boot + fields[22] / ticks);
}

void metrics_render_process(struct kt_buf *out)
{
    struct rlimit limit;
    DIR *folder = opendir("/proc/self/fd");

    put_stat(out);
    if (folder) {
        unsigned count = 0;
        for (const struct dirent *entry; (entry = readdir(folder));)
            count += entry->d_name[0] != '.';
        closedir(folder);
        /* Less the one that looked. */
        number(out, "process_open_fds", "gauge", "Open file descriptors.", count - 1);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        number(out, "process_max_fds", "gauge", "Limit of open file descriptors.", (double)limit.rlim_cur);
}
