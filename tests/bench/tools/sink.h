/* What sink and call share with the driver: 64-bit numbers in a mapped file. */
#include <stdint.h>
#include <time.h>

enum { MESSAGES, SESSIONS, FIRST, LAST, RECIPIENTS, ARRIVALS = 8, KEPT = 65536 };
#define SHARED_OCTETS ((ARRIVALS + KEPT) * 8)

/* Nanoseconds of the monotonic clock. */
static inline uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}
