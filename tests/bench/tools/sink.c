/* sink PORT FILE: an SMTP server that takes everything and stores nothing, in one process. FILE gets the number of
 * messages, of sessions and of recipients, and the time of each arrival (sink.h). */
#define _GNU_SOURCE
#include "sink.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile uint64_t *shared;

/* In data, `matched` counts the octets of CRLF.CRLF that have been seen. */
struct session {
    int socket, is_data, matched;
    size_t held, pending;
    char line[2048], replies[65536];
};

static int flush(struct session *s) {
    for (size_t done = 0; done < s->pending;) {
        ssize_t sent = send(s->socket, s->replies + done, s->pending - done, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) return -1;
        if (sent > 0) done += sent;
    }
    s->pending = 0;
    return 0;
}

static void reply(struct session *s, const char *text) {
    size_t length = strlen(text);
    if (s->pending + length > sizeof s->replies) flush(s);
    memcpy(s->replies + s->pending, text, length);
    s->pending += length;
}

/* Answers a command; -1 ends the session. */
static int command(struct session *s) {
    const char *line = s->line;
    if (!strncasecmp(line, "EHLO", 4)) reply(s, "250-sink.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250 8BITMIME\r\n");
    else if (!strncasecmp(line, "DATA", 4)) {
        reply(s, "354 go on\r\n");
        s->is_data = 1;
        s->matched = 2;
    } else if (!strncasecmp(line, "QUIT", 4)) {
        reply(s, "221 2.0.0 bye\r\n");
        return -1;
    } else {
        if (!strncasecmp(line, "RCPT", 4)) shared[RECIPIENTS]++;
        reply(s, "250 2.0.0 ok\r\n");
    }
    return 0;
}

static void arrived(struct session *s) {
    uint64_t time = now();
    shared[ARRIVALS + shared[MESSAGES] % KEPT] = time;
    if (!shared[MESSAGES]) shared[FIRST] = time;
    shared[LAST] = time;
    __sync_synchronize();
    shared[MESSAGES]++;
    s->is_data = 0;
    reply(s, "250 2.0.0 taken\r\n");
}

static int take(struct session *s, const char *octets, size_t count) {
    static const char END[] = "\r\n.\r\n";
    for (size_t i = 0; i < count; i++) {
        char octet = octets[i];
        if (s->is_data) {
            if (!s->matched) {
                const char *next = memchr(octets + i, '\r', count - i);
                if (!next) return 0;
                i = next - octets;
                octet = '\r';
            }
            s->matched = octet == END[s->matched] ? s->matched + 1 : octet == '\r';
            if (s->matched == 5) arrived(s);
        } else if (octet == '\n') {
            s->line[s->held] = 0;
            s->held = 0;
            if (command(s)) return -1;
        } else if (s->held < sizeof s->line - 1) s->line[s->held++] = octet;
    }
    return 0;
}

static void receive(struct session *s) {
    static char octets[262144];
    ssize_t count = recv(s->socket, octets, sizeof octets, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    int is_over = count <= 0 || take(s, octets, count);
    if (flush(s) || is_over) {
        close(s->socket);
        free(s);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int file = open(argv[2], O_RDWR | O_CREAT, 0666), yes = 1;
    if (ftruncate(file, SHARED_OCTETS)) return 1;
    shared = mmap(0, SHARED_OCTETS, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (shared == MAP_FAILED || bind(listener, (void *)&address, sizeof address) || listen(listener, 1024)) {
        perror("sink");
        return 1;
    }
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) {
                receive(events[i].data.ptr);
                continue;
            }
            int client;
            while ((client = accept4(listener, 0, 0, SOCK_CLOEXEC)) >= 0) {
                struct session *s = calloc(1, sizeof *s);
                s->socket = client;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                shared[SESSIONS]++;
                reply(s, "220 sink.test ESMTP\r\n");
                flush(s);
                event.data.ptr = s;
                epoll_ctl(poll, EPOLL_CTL_ADD, client, &event);
            }
        }
    }
}
