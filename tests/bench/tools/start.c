/* start PORT COMMAND…: runs a server, prints the microseconds from exec until its 220, and waits for its end. A connection is
 * tried every 200 microseconds, for two minutes. */
#define _GNU_SOURCE
#include "sink.h"
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whether a server greets at the port. */
static int greets(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char greeting[512] = "";
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int is_there = !connect(client, (void *)&address, sizeof address) &&
                   recv(client, greeting, sizeof greeting, 0) > 3 && !memcmp(greeting, "220", 3);
    if (is_there && send(client, "QUIT\r\n", 6, MSG_NOSIGNAL) > 0) (void)!recv(client, greeting, sizeof greeting, 0);
    close(client);
    return is_there;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    uint64_t start = now();
    pid_t process = fork();
    if (!process) {
        setsid();
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    int is_up = 0;
    while (!(is_up = greets(atoi(argv[1]))) && now() - start < 120000000000ull) usleep(200);
    printf("%ld\n", is_up ? (long)(now() - start) / 1000 : -1L);
    fflush(stdout);
    waitpid(process, 0, 0);
    return 0;
}
