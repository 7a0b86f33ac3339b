/* Distance between networks, in user space: what the kernel routes into a TUN device waits here, may be lost,
 * and goes back into the device, from where the kernel routes it on.
 *
 *   wan DEVICE SOCKET
 *
 * makes DEVICE and answers on SOCKET (a Unix socket, SOCK_SEQPACKET; one message, one answer):
 *
 *   show    what holds, and counters
 *   TABLE   what holds from now on, a line per direction:
 *           SOURCE/BITS TARGET/BITS DELAY_us JITTER_us LOSS_ppm RATE_bit_per_s
 *
 * An answer has a line per direction: the same, then packets, lost, overflowed, late. The first line that
 * fits a packet holds for it; what no line fits goes back at once. It ends when DEVICE is deleted, or by a
 * signal.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LINES_MOST     512
#define WAITING_MOST   65536
#define PACKET_BYTES   1600
#define MESSAGE_BYTES  16384
#define AT_ONCE        64
#define FLOWS          1024
#define QUEUE_NS       200000000LL /* What a slow line keeps waiting; what comes on top is lost. */
#define LATE_NS        1000000LL   /* The accuracy that is promised. */
#define SECOND_NS      1000000000LL
#define MILLION        1000000u
#define MINIMUM_HEADER 20

struct line {
    uint32_t source, source_mask, target, target_mask;
    int64_t delay_us, jitter_us, loss_ppm, rate_bps;
    int64_t free_at;
    /* A path does not reorder what belongs together: nothing overtakes an earlier packet of its flow. */
    int64_t last_of_flow[FLOWS];
    uint64_t packets, lost, overflowed, late;
};

struct waiting {
    int64_t due;
    uint64_t number;
    struct line *line;
    int bytes;
    uint8_t *packet;
};

static struct line lines[LINES_MOST];
static int line_count;
static struct waiting heap[WAITING_MOST];
static int heap_size;
static uint64_t next_number, random_state;

static void fail(const char *what) {
    fprintf(stderr, "wan: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static uint64_t draw(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static bool before(const struct waiting *one, const struct waiting *other) {
    return one->due != other->due ? one->due < other->due : one->number < other->number;
}

static void push(struct waiting entry) {
    int at = heap_size++;
    while (at && before(&entry, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = entry;
}

static struct waiting pop(void) {
    struct waiting first = heap[0], last = heap[--heap_size];
    int at = 0;
    for (;;) {
        int child = 2 * at + 1;
        if (child >= heap_size)
            break;
        if (child + 1 < heap_size && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

static uint32_t word_at(const uint8_t *packet, int at) {
    uint32_t word;
    memcpy(&word, packet + at, sizeof(word));
    return word;
}

static struct line *line_of(const uint8_t *packet) {
    uint32_t source = word_at(packet, 12), target = word_at(packet, 16);
    for (int at = 0; at < line_count; at++) {
        struct line *line = &lines[at];
        if ((source & line->source_mask) == line->source && (target & line->target_mask) == line->target)
            return line;
    }
    return NULL;
}

/* Fragments have no ports but in the first: they are told apart by their addresses alone. */
static uint32_t flow_of(const uint8_t *packet, int bytes) {
    int header = (packet[0] & 15) * 4;
    bool whole = !(packet[6] & 0x3f) && !packet[7];
    bool ports = whole && (packet[9] == IPPROTO_TCP || packet[9] == IPPROTO_UDP) && bytes >= header + 4;
    uint64_t mixed = word_at(packet, 12) * 0x9e3779b97f4a7c15ULL ^ word_at(packet, 16);
    mixed = (mixed ^ packet[9]) * 0x9e3779b97f4a7c15ULL ^ (ports ? word_at(packet, header) : 0);
    return (mixed * 0x9e3779b97f4a7c15ULL >> 32) % FLOWS;
}

/* When a packet is to leave; -1: never. */
static int64_t departure(struct line *line, const uint8_t *packet, int bytes, int64_t now) {
    line->packets++;
    if (line->loss_ppm && (int64_t)(draw() % MILLION) < line->loss_ppm) {
        line->lost++;
        return -1;
    }
    int64_t due = now;
    if (line->rate_bps) {
        due = line->free_at > now ? line->free_at : now;
        if (due - now > QUEUE_NS) {
            line->overflowed++;
            return -1;
        }
        due += bytes * 8 * SECOND_NS / line->rate_bps;
        line->free_at = due;
    }
    if (heap_size == WAITING_MOST) {
        line->overflowed++;
        return -1;
    }
    due += line->delay_us * 1000;
    if (line->jitter_us)
        due += (int64_t)(draw() % (2 * line->jitter_us * 1000 + 1)) - line->jitter_us * 1000;
    int64_t *last = &line->last_of_flow[flow_of(packet, bytes)];
    if (due < *last)
        due = *last;
    *last = due;
    return due;
}

static void take(int device) {
    uint8_t packet[PACKET_BYTES];
    for (int turn = 0; turn < AT_ONCE; turn++) {
        int bytes = read(device, packet, sizeof(packet));
        if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (bytes < 0)
            exit(0); /* The device was deleted, and with it all there was to do. */
        if (bytes < MINIMUM_HEADER || packet[0] >> 4 != 4)
            continue;
        int64_t now = now_ns();
        struct line *line = line_of(packet);
        int64_t due = line ? departure(line, packet, bytes, now) : now;
        if (due < 0)
            continue;
        if (due <= now) {
            (void)!write(device, packet, bytes);
            continue;
        }
        struct waiting entry = {due, next_number++, line, bytes, malloc(bytes)};
        if (!entry.packet)
            fail("no memory");
        memcpy(entry.packet, packet, bytes);
        push(entry);
    }
}

static void give(int device) {
    while (heap_size && heap[0].due <= now_ns()) {
        struct waiting entry = pop();
        /* One that the kernel has no room for is lost, as on any line. */
        (void)!write(device, entry.packet, entry.bytes);
        if (entry.line && now_ns() - entry.due > LATE_NS)
            entry.line->late++;
        free(entry.packet);
    }
}

static bool range(const char *text, uint32_t *address, uint32_t *mask) {
    char copy[32];
    int bits = 0;
    if (sscanf(text, "%31[0-9.]/%d", copy, &bits) != 2 || bits < 0 || bits > 32)
        return false;
    *mask = bits ? htonl(~0u << (32 - bits)) : 0;
    if (inet_pton(AF_INET, copy, address) != 1)
        return false;
    *address &= *mask;
    return true;
}

/* Packets under way keep the time they were given; a direction that stays keeps its counters. */
static bool set(char *text) {
    static struct line next[LINES_MOST];
    int count = 0;
    for (char *rest, *row = strtok_r(text, "\n", &rest); row; row = strtok_r(NULL, "\n", &rest)) {
        char source[32], target[32];
        struct line made = {0};
        if (count == LINES_MOST)
            return false;
        if (sscanf(row, "%31s %31s %ld %ld %ld %ld", source, target, &made.delay_us, &made.jitter_us,
                   &made.loss_ppm, &made.rate_bps) != 6)
            return false;
        if (!range(source, &made.source, &made.source_mask) ||
            !range(target, &made.target, &made.target_mask))
            return false;
        for (int at = 0; at < line_count; at++) {
            struct line *old = &lines[at];
            if (old->source != made.source || old->source_mask != made.source_mask ||
                old->target != made.target || old->target_mask != made.target_mask)
                continue;
            made.packets = old->packets, made.lost = old->lost;
            made.overflowed = old->overflowed, made.late = old->late;
            memcpy(made.last_of_flow, old->last_of_flow, sizeof(made.last_of_flow));
        }
        next[count++] = made;
    }
    /* Lateness of what is under way is nobody's any more: its line may be gone. */
    for (int at = 0; at < heap_size; at++)
        heap[at].line = NULL;
    memcpy(lines, next, sizeof(next));
    line_count = count;
    return true;
}

static int show(char *text, size_t room) {
    int length = 0;
    for (int at = 0; at < line_count && length < (int)room; at++) {
        const struct line *one = &lines[at];
        char source[INET_ADDRSTRLEN], target[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &one->source, source, sizeof(source));
        inet_ntop(AF_INET, &one->target, target, sizeof(target));
        length += snprintf(text + length, room - length, "%s/%d %s/%d %ld %ld %ld %ld %lu %lu %lu %lu\n",
                           source, __builtin_popcount(one->source_mask), target,
                           __builtin_popcount(one->target_mask), one->delay_us, one->jitter_us, one->loss_ppm,
                           one->rate_bps, one->packets, one->lost, one->overflowed, one->late);
    }
    return length < (int)room ? length : (int)room - 1;
}

static void answer(int listener) {
    static char message[MESSAGE_BYTES];
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return;
    /* Whoever connects and says nothing must not hold up a packet for long. */
    struct timeval patience = {0, 100000};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    int bytes = recv(client, message, sizeof(message) - 1, 0);
    if (bytes > 0) {
        message[bytes] = 0;
        bool good = !strcmp(message, "show") || set(message);
        int length = good ? show(message, sizeof(message)) : snprintf(message, sizeof(message), "error\n");
        (void)!send(client, message, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    close(client);
}

static int opened(const char *name) {
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (device < 0)
        fail("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(device, TUNSETIFF, &request))
        fail(name);
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    request.ifr_flags = IFF_UP;
    if (control < 0 || ioctl(control, SIOCSIFFLAGS, &request))
        fail(name);
    close(control);
    return device;
}

static int listening(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
    unlink(path);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 8))
        fail(path);
    return listener;
}

/* Where these are not to be had, the machine's load shows in the delays. */
static void be_punctual(void) {
    struct sched_param first = {.sched_priority = 1};
    (void)!sched_setscheduler(0, SCHED_FIFO, &first);
    prctl(PR_SET_TIMERSLACK, 1000);
    (void)!mlockall(MCL_CURRENT | MCL_FUTURE);
}

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "usage: wan DEVICE SOCKET\n");
        return 2;
    }
    if (getrandom(&random_state, sizeof(random_state), 0) != sizeof(random_state))
        fail("getrandom");
    random_state |= 1;
    int device = opened(words[1]), listener = listening(words[2]);
    be_punctual();
    for (;;) {
        struct pollfd ready[] = {{device, POLLIN, 0}, {listener, POLLIN, 0}};
        int64_t left = heap_size ? heap[0].due - now_ns() : 0;
        left = left < 0 ? 0 : left;
        struct timespec pause = {left / SECOND_NS, left % SECOND_NS};
        ppoll(ready, 2, heap_size ? &pause : NULL, NULL);
        give(device);
        if (ready[0].revents)
            take(device);
        if (ready[1].revents)
            answer(listener);
    }
}
