/* Preloaded into pillarbox by tests: adds to the wall clock and to the boot clock the seconds that the file $TEST_CLOCK holds.
 * CLOCK_MONOTONIC stays as it is, since the kernel measures waits by it; libfaketime can't move the boot clock alone. With
 * $TEST_NAPS no wait of a thread lasts longer than a twentieth of a second, so that a clock that was moved is soon looked at. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

static const int64_t none[2];
static volatile const int64_t *offsets = none;
static int naps;
static int (*real)(clockid_t, struct timespec *);
static long (*call)(long, ...);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);

    real = dlsym(RTLD_NEXT, "clock_gettime");
    call = dlsym(RTLD_NEXT, "syscall");
    naps = getenv("TEST_NAPS") != NULL;
    if (map != MAP_FAILED)
        offsets = map;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = real(clock, time);

    if (clock == CLOCK_REALTIME)
        time->tv_sec += offsets[0];
    if (clock == CLOCK_BOOTTIME)
        time->tv_sec += offsets[1];
    return result;
}

time_t time(time_t *place)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (place)
        *place = now.tv_sec;
    return now.tv_sec;
}

/* The standard library waits by this function. */
long syscall(long number, long a, long b, long c, long d, long e, long f)
{
    struct timespec soon;
    const struct timespec *until = (const struct timespec *)d;

    if (naps && number == SYS_futex && (b & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && until) {
        real(CLOCK_MONOTONIC, &soon);
        soon.tv_nsec += 50 * 1000 * 1000;
        soon.tv_sec += soon.tv_nsec / 1000000000;
        soon.tv_nsec %= 1000000000;
        if (soon.tv_sec < until->tv_sec || (soon.tv_sec == until->tv_sec && soon.tv_nsec < until->tv_nsec))
            d = (long)&soon;
    }
    return call(number, a, b, c, d, e, f);
}
