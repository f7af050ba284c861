/* durable DIRECTORY OCTETS THREADS SECONDS: the least work that stores a message for good (create, write, fsync, rename),
 * as often as it can be done; prints how often a second. Each thread has a directory of its own. */
#define _GNU_SOURCE
#include "sink.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *top;
static size_t octets;
static char *content;
static uint64_t end;
static long done[64];

static void *store(void *argument) {
    long thread = (long)argument;
    char from[600], to[600];
    snprintf(to, sizeof to, "%s/%ld", top, thread);
    mkdir(to, 0700);
    while (now() < end) {
        snprintf(from, sizeof from, "%s/%ld/tmp", top, thread);
        snprintf(to, sizeof to, "%s/%ld/%ld", top, thread, done[thread]);
        int file = open(from, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (file < 0 || write(file, content, octets) != (ssize_t)octets || fsync(file) || close(file) || rename(from, to)) {
            perror(to);
            exit(1);
        }
        done[thread]++;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    top = argv[1];
    octets = atol(argv[2]);
    content = calloc(1, octets);
    long threads = atol(argv[3]), sum = 0;
    uint64_t start = now();
    end = start + atof(argv[4]) * 1e9;
    pthread_t handles[64];
    for (long i = 0; i < threads; i++) pthread_create(&handles[i], 0, store, (void *)i);
    for (long i = 0; i < threads; i++) {
        pthread_join(handles[i], 0);
        sum += done[i];
    }
    printf("%.1f\n", sum / ((now() - start) / 1e9));
    return 0;
}
