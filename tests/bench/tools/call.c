/* call N UID MESSAGE SINK COMMAND…: runs a command N times as cron would, as user UID (0: the caller) with the file MESSAGE
 * on standard input, and prints for each call: microseconds until it ended, of processor time, until the message was in
 * the sink whose file is SINK ("-": no wait), and the exit code. */
#define _GNU_SOURCE
#include "sink.h"
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void child(char **argv, int uid, int input) {
    char home[32];
    dup2(input, 0);
    if (uid) {
        snprintf(home, sizeof home, "/home/user%d", uid - 2000);
        setenv("HOME", home, 1);
        setenv("LOGNAME", home + 6, 1);
        setenv("PATH", "/usr/bin:/bin", 1);
        if (setgroups(0, 0) || setgid(uid) || setuid(uid)) _exit(126);
    }
    execv(argv[0], argv);
    _exit(127);
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    volatile uint64_t *shared = 0;
    if (strcmp(argv[4], "-")) shared = mmap(0, SHARED_OCTETS, PROT_READ, MAP_SHARED, open(argv[4], O_RDONLY), 0);
    for (int call = 0; call < atoi(argv[1]); call++) {
        uint64_t before = shared ? shared[MESSAGES] : 0;
        int input = open(argv[3], O_RDONLY | O_CLOEXEC), status;
        uint64_t start = now();
        pid_t process = fork();
        if (!process) child(argv + 5, atoi(argv[2]), input);
        close(input);
        struct rusage used;
        wait4(process, &status, 0, &used);
        uint64_t end = now();
        while (shared && shared[MESSAGES] == before && now() - start < 10000000000ull) usleep(200);
        long arrival = shared && shared[MESSAGES] > before ? (long)(shared[ARRIVALS + before % KEPT] - start) / 1000 : -1;
        printf("%ld %ld %ld %d\n", (long)(end - start) / 1000,
               (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000L + used.ru_utime.tv_usec + used.ru_stime.tv_usec,
               arrival, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    }
    return 0;
}
