/* init LOG READY: process 1 of a peer's namespace. It reaps orphans, writes what arrives at /dev/log to LOG without a
 * sync, and makes the file READY once both work. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int log = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0644);
    int socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    if (log < 0 || bind(socket_, (void *)&address, sizeof address) || chmod("/dev/log", 0666)) {
        perror("/dev/log");
        return 1;
    }
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, 0);
    int signals = signalfd(-1, &ended, SFD_CLOEXEC | SFD_NONBLOCK);
    close(open(argv[2], O_WRONLY | O_CREAT, 0644));
    static char line[65536];
    for (;;) {
        struct pollfd waits[2] = {{socket_, POLLIN, 0}, {signals, POLLIN, 0}};
        poll(waits, 2, -1);
        if (waits[0].revents) {
            ssize_t length = recv(socket_, line, sizeof line - 1, MSG_DONTWAIT);
            if (length > 0) {
                if (line[length - 1] != '\n') line[length++] = '\n';
                if (write(log, line, length) < 0) perror("log");
            }
        }
        struct signalfd_siginfo signal;
        while (read(signals, &signal, sizeof signal) > 0) {}
        while (waitpid(-1, 0, WNOHANG) > 0) {}
    }
}
