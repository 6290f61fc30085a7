/* A load client: it sends the same request over many connections, one at a time on each, and measures.
 *
 *     load PORT PREFACE REQUEST CONNECTIONS WARM_MS WINDOW_MS DRAINED PID...
 *
 * PREFACE is a file that is sent once on each connection, and REQUEST a file with one request. The CPU time of the
 * processes is that of the window alone. With DRAINED, no request is in flight when the window begins and ends;
 * otherwise, requests are sent without a pause, and only what arrives in the window counts. The results are printed as a
 * line of JSON. Ages and latencies are in microseconds; an age is the time since the upstream sent a chunk. Each line on
 * standard input begins a window. All windows use the same connections.
 */
#include "http.h"

#define SAMPLES 1000000
#define SECONDS 120 /* for the replies, beyond those that a window lasts */
#define AT_ONCE 16 /* connections that wait for their first bytes at a time: a new one costs the system more than a call */

struct client {
    int fd;
    int is_idle;
    int is_answered; /* whether bytes came since the connection was made first */
    int64_t begun;
    size_t sent;
    struct message reply;
};

struct samples {
    int count;
    float *values;
};

static char received[1 << 18];
static ssize_t received_size;
static char *preface, *request;
static size_t preface_size, request_size;
static int port, epoll, in_window, is_paused, busy, waiting, reconnects;
static long long requests, failures, chunks;
static int first_failure;
static struct samples latencies, ages;

static void add_sample(struct samples *samples, double value) {
    if (samples->count < SAMPLES) samples->values[samples->count++] = (float)value;
}

static int by_value(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

static double quantile(struct samples *samples, double part) {
    return samples->count ? samples->values[(int)(part * (samples->count - 1))] : 0;
}

static int64_t cpu_ns(int count, char **pids) {
    int64_t sum = 0;
    for (int at = 0; at < count; at++) {
        struct timespec used;
        clockid_t clock;
        /* a process that has ended counts as 0 */
        if (!clock_getcpuclockid(atoi(pids[at]), &clock) && !clock_gettime(clock, &used))
            sum += used.tv_sec * 1000000000LL + used.tv_nsec;
    }
    return sum;
}

static void send_rest(struct client *client) {
    while (client->sent < request_size) {
        ssize_t size = send(client->fd, request + client->sent, request_size - client->sent, MSG_NOSIGNAL);
        if (size < 0) {
            if (errno == EAGAIN) watch(epoll, client->fd, EPOLLIN | EPOLLOUT, client, EPOLL_CTL_MOD);
            return; /* the read of a broken connection tells of it */
        }
        client->sent += size;
    }
    watch(epoll, client->fd, EPOLLIN, client, EPOLL_CTL_MOD);
}

static void begin(struct client *client) {
    client->is_idle = is_paused;
    if (is_paused) return;
    restart(&client->reply);
    client->begun = now_ns();
    client->sent = 0;
    busy++;
    send_rest(client);
}

static void connect_client(struct client *client) {
    struct sockaddr_in peer = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client->fd, (struct sockaddr *)&peer, sizeof peer)) die("connect");
    if (send(client->fd, preface, preface_size, MSG_NOSIGNAL) != (ssize_t)preface_size) die("send");
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    without_delay(client->fd);
    watch(epoll, client->fd, EPOLLIN, client, EPOLL_CTL_ADD);
}

static void end(struct client *client, int is_complete) {
    busy--;
    if (client->reply.status != 200 || !is_complete) {
        failures++;
        if (!first_failure) {
            first_failure = client->reply.status ? client->reply.status : -1;
            fprintf(stderr, "the first call that failed: %.*s\n", (int)(received_size < 600 ? received_size : 600), received);
        }
    } else if (in_window) {
        requests++;
        add_sample(&latencies, (now_ns() - client->begun) / 1e3);
    }
}

/* Count the chunks by the times in them: "@" and digits. */
static void count_chunks(const char *data, size_t size) {
    const char *at = data, *until = data + size;
    double now = now_ns() / 1e3;
    while ((at = memchr(at, '@', until - at))) {
        if (until - ++at < STAMP_DIGITS) break;
        char digits[STAMP_DIGITS + 1] = {0};
        memcpy(digits, at, STAMP_DIGITS);
        if (strspn(digits, "0123456789") != STAMP_DIGITS || !in_window) continue;
        chunks++;
        add_sample(&ages, now - atoll(digits));
    }
}

static void reconnect(struct client *client) {
    close(client->fd);
    reconnects++;
    connect_client(client);
    begin(client);
}

static void receive(struct client *client) {
    ssize_t size = recv(client->fd, received, sizeof received, 0);
    received_size = size < 0 ? 0 : size;
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
        if (!client->is_idle && client->is_answered && !client->reply.head_bytes)
            busy--; /* a kept connection was closed while the request was on its way: the request is sent again */
        else if (!client->is_idle)
            end(client, client->reply.state == UNTIL_CLOSE);
        reconnect(client);
        return;
    }
    if (!client->is_answered) {
        client->is_answered = 1;
        waiting--;
    }
    if (client->reply.state != COMPLETE) {
        take(&client->reply, received, size);
        count_chunks(received, size);
    }
    if (client->reply.state == COMPLETE && !client->is_idle) {
        end(client, 1);
        if (strcasestr(client->reply.head, "\r\nconnection: close")) reconnect(client);
        else begin(client);
    }
}

/* Handle events until a time, or until no request is in flight. */
static void run(int64_t until, int until_idle) {
    struct epoll_event events[512];
    while (until_idle ? busy > 0 : now_ns() < until) {
        int64_t left = until_idle ? 1000 : (until - now_ns() + 999999) / 1000000;
        int count = epoll_wait(epoll, events, 512, left < 0 ? 0 : (int)left);
        for (int at = 0; at < count; at++) {
            struct client *client = events[at].data.ptr;
            if (events[at].events & EPOLLOUT) send_rest(client);
            if (events[at].events & ~EPOLLOUT) receive(client);
        }
    }
}

static void drain(void) {
    is_paused = 1;
    run(0, 1);
}

static void resume(struct client *clients, int count) {
    is_paused = 0;
    for (int at = 0; at < count; at++)
        if (clients[at].is_idle) begin(&clients[at]);
}

/* Measure a window, and print the results. Afterwards, no request is in flight if the window is drained. */
static void measure(struct client *clients, int connections, int64_t window, int is_drained, int count, char **pids) {
    alarm(SECONDS + window / 1000000000);
    if (is_drained) drain();
    requests = chunks = reconnects = latencies.count = ages.count = 0;
    in_window = 1;
    int64_t start = now_ns(), used = cpu_ns(count, pids);
    if (is_drained) resume(clients, connections);
    run(start + window, 0);
    if (is_drained) drain();
    used = cpu_ns(count, pids) - used;
    in_window = 0;
    double seconds = (now_ns() - start) / 1e9;
    qsort(latencies.values, latencies.count, sizeof(float), by_value);
    qsort(ages.values, ages.count, sizeof(float), by_value);
    printf("{\"requests\": %lld, \"failures\": %lld, \"first_failure\": %d, \"reconnects\": %d, \"chunks\": %lld, "
           "\"cpu_us\": %.1f, \"seconds\": %.3f, \"latency_us\": %.1f, \"latency_p99_us\": %.1f, \"age_us\": %.1f, "
           "\"age_p99_us\": %.1f}\n",
           requests, failures, first_failure, reconnects, chunks, used / 1e3, seconds, quantile(&latencies, 0.5),
           quantile(&latencies, 0.99), quantile(&ages, 0.5), quantile(&ages, 0.99));
    fflush(stdout);
}

int main(int count, char **words) {
    if (count < 8) {
        fputs("usage: load PORT PREFACE REQUEST CONNECTIONS WARM_MS WINDOW_MS DRAINED PID...\n", stderr);
        return 2;
    }
    int connections = atoi(words[4]), is_drained = atoi(words[7]);
    int64_t warm = atoll(words[5]) * 1000000, window = atoll(words[6]) * 1000000;
    struct client *clients = calloc(connections, sizeof *clients);
    latencies.values = malloc(SAMPLES * sizeof(float));
    ages.values = malloc(SAMPLES * sizeof(float));
    port = atoi(words[1]);
    alarm(SECONDS + (warm + window) / 1000000000); /* ends the process if replies never come */
    preface = file_bytes(words[2], &preface_size);
    request = file_bytes(words[3], &request_size);
    epoll = epoll_create1(0);
    for (int at = 0; at < connections; at++) {
        connect_client(&clients[at]);
        waiting++;
        is_paused = 0;
        begin(&clients[at]);
        is_paused = 1; /* one call on each connection, until all are there */
        while (waiting >= AT_ONCE) run(now_ns() + 1000000, 0);
    }
    resume(clients, connections);
    run(now_ns() + warm, 0);
    char line[8];
    while (fgets(line, sizeof line, stdin)) measure(clients, connections, window, is_drained, count - 8, words + 8);
    return 0;
}
