/* arrive N SECONDS DIRECTORY…: waits until N files were moved or linked into the directories, for so many seconds without
 * a new one; prints "ready" when it watches, and at the end the time of the last file and how many files are there. */
#define _GNU_SOURCE
#include "sink.h"
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    long wanted = atol(argv[1]), seen = 0, listed = 0;
    int watch = inotify_init1(IN_NONBLOCK);
    for (int i = 3; i < argc; i++)
        if (inotify_add_watch(watch, argv[i], IN_MOVED_TO | IN_CREATE) < 0) perror(argv[i]);
    puts("ready");
    fflush(stdout);
    uint64_t last = now();
    static char events[1 << 20];
    while (seen < wanted && now() - last < atof(argv[2]) * 1e9) {
        struct pollfd wait = {watch, POLLIN, 0};
        poll(&wait, 1, 100);
        ssize_t length = read(watch, events, sizeof events);
        uint64_t time = now();
        for (char *at = events; length > 0 && at < events + length;) {
            struct inotify_event *event = (void *)at;
            if (event->len && event->name[0] != '.') {
                seen++;
                last = time;
            }
            at += sizeof *event + event->len;
        }
    }
    for (int i = 3; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        struct dirent *entry;
        while (directory && (entry = readdir(directory))) listed += entry->d_name[0] != '.';
        if (directory) closedir(directory);
    }
    printf("%llu %ld\n", (unsigned long long)last, listed);
    return 0;
}
