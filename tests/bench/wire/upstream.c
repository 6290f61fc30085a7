/* A provider that sends the same reply to every request, as fast as it can or at a steady pace.
 *
 * It prints its port. Each line on standard input names the reply to the requests that follow:
 *     HEAD CHUNK TAIL COUNT INTERVAL_US STAGGER STAMP_AT CRC_FROM CRC_TO
 * HEAD, CHUNK and TAIL are files. A reply is the head, COUNT times the chunk with an interval before each, and the tail.
 * The first STAGGER streams are shorter, so that streams that begin together do not end together. Each chunk has the
 * time at which it is sent, in microseconds of the monotonic clock, at STAMP_AT; -1 stands for no time. If CRC_TO is not
 * 0, the chunk's bytes from CRC_FROM to CRC_TO are followed by their CRC-32. A line "ready" is printed for each line.
 */
#include "http.h"
#include <sys/timerfd.h>

struct client {
    int fd;
    int left; /* chunks that are left to send; 0 without a stream */
    int64_t due;
    struct client *next; /* in the queue of streams */
    struct message request;
};

static struct { char *head, *chunk, *tail; size_t head_size, chunk_size, tail_size; } reply;
static int chunk_count, stagger, stamp_at, crc_from, crc_to, streams;
static int64_t interval_ns;
static struct client *first, *last; /* streams by the time of their next chunk; the interval is the same for all */
static uint32_t crc_table[256];

static void fill_crc_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ 0xedb88320 : value >> 1;
        crc_table[byte] = value;
    }
}

static void stamp_chunk(void) {
    char digits[32];
    if (stamp_at < 0) return;
    snprintf(digits, sizeof digits, "%0*lld", STAMP_DIGITS, (long long)(now_ns() / 1000));
    memcpy(reply.chunk + stamp_at, digits, STAMP_DIGITS);
    if (!crc_to) return;
    uint32_t crc = 0xffffffff;
    for (int at = crc_from; at < crc_to; at++) crc = crc_table[(crc ^ reply.chunk[at]) & 255] ^ crc >> 8;
    crc = htonl(~crc);
    memcpy(reply.chunk + crc_to, &crc, sizeof crc);
}

/* Send bytes, which are few enough for the socket's buffer. Return 0 if the client has left. */
static int send_bytes(struct client *client, const char *bytes, size_t size) {
    return send(client->fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static void enqueue(struct client *client) {
    client->next = NULL;
    if (first) last->next = client;
    else first = client;
    last = client;
}

static void leave(struct client *client) {
    struct client **at = &first, *before = NULL;
    for (; client->left && *at; before = *at, at = &(*at)->next) {
        if (*at != client) continue;
        *at = client->next;
        if (last == client) last = before;
        break;
    }
    close(client->fd);
    free(client);
}

static int answer(struct client *client) {
    restart(&client->request);
    if (!send_bytes(client, reply.head, reply.head_size)) return 0;
    if (!chunk_count) return 1;
    client->left = streams < stagger ? 1 + (int)((long long)streams * chunk_count / stagger) : chunk_count;
    streams++;
    client->due = now_ns() + interval_ns;
    enqueue(client);
    return 1;
}

static void send_due_chunks(void) {
    int64_t now = now_ns();
    while (first && first->due <= now) {
        struct client *client = first;
        first = client->next;
        stamp_chunk();
        int is_there = send_bytes(client, reply.chunk, reply.chunk_size);
        if (--client->left && is_there) {
            client->due += interval_ns;
            enqueue(client);
        } else if (is_there) {
            is_there = send_bytes(client, reply.tail, reply.tail_size);
        }
        if (!is_there) {
            client->left = 0; /* it is no longer in the queue */
            shutdown(client->fd, SHUT_RDWR);
        }
    }
}

static void read_requests(struct client *client) {
    static char data[1 << 18];
    ssize_t size = recv(client->fd, data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
        leave(client);
        return;
    }
    for (ssize_t at = 0; at < size;) {
        at += take(&client->request, data + at, size - at);
        if (client->request.state == COMPLETE && !answer(client)) {
            leave(client);
            return;
        }
    }
}

static void read_command(void) {
    static char line[4096];
    char head[1024], chunk[1024], tail[1024];
    long long interval_us;
    ssize_t size = read(0, line, sizeof line - 1);
    if (size <= 0) exit(0);
    line[size] = 0;
    if (sscanf(line, "%1023s %1023s %1023s %d %lld %d %d %d %d", head, chunk, tail, &chunk_count, &interval_us, &stagger, &stamp_at, &crc_from, &crc_to) != 9)
        die("a command is wrong");
    free(reply.head);
    free(reply.chunk);
    free(reply.tail);
    reply.head = file_bytes(head, &reply.head_size);
    reply.chunk = file_bytes(chunk, &reply.chunk_size);
    reply.tail = file_bytes(tail, &reply.tail_size);
    interval_ns = interval_us * 1000;
    streams = 0;
    puts("ready");
    fflush(stdout);
}

static void accept_client(int epoll, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    struct client *client = calloc(1, sizeof *client);
    client->fd = fd;
    without_delay(fd);
    watch(epoll, fd, EPOLLIN, client, EPOLL_CTL_ADD);
}

static void set_timer(int timer) {
    struct itimerspec when = {{0, 0}, {0, 0}};
    if (first) {
        int64_t due = first->due > 0 ? first->due : 1;
        when.it_value.tv_sec = due / 1000000000;
        when.it_value.tv_nsec = due % 1000000000;
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    static int standard_input, listening, timing; /* their addresses stand for them in epoll's events */
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    fill_crc_table();
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1024)) die("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    watch(epoll, 0, EPOLLIN, &standard_input, EPOLL_CTL_ADD);
    watch(epoll, listener, EPOLLIN, &listening, EPOLL_CTL_ADD);
    watch(epoll, timer, EPOLLIN, &timing, EPOLL_CTL_ADD);
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(epoll, events, 256, -1);
        for (int at = 0; at < count; at++) {
            void *of = events[at].data.ptr;
            uint64_t expired;
            if (of == &standard_input) read_command();
            else if (of == &listening) accept_client(epoll, listener);
            else if (of == &timing) (void)!read(timer, &expired, sizeof expired);
            else read_requests(of);
        }
        send_due_chunks();
        set_timer(timer);
    }
}
