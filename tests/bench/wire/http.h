/* HTTP/1.1 framing and small helpers that the upstream and the load client share. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HEAD_BYTES 16384
#define STAMP_DIGITS 16

enum { IN_HEAD, IN_BODY, IN_SIZE, IN_CHUNK, AFTER_CHUNK, IN_TRAILER, UNTIL_CLOSE, COMPLETE };

/* A message that is being received. */
struct message {
    int state;
    int status;     /* of a response; 0 for a request */
    int line_bytes; /* bytes of the current line of the chunked framing */
    int head_bytes;
    long long left; /* bytes that are left of the body or of a chunk */
    char head[HEAD_BYTES + 1];
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void restart(struct message *message) {
    message->state = IN_HEAD;
    message->status = message->head_bytes = 0;
}

/* Choose the framing of the body from a complete head. */
static void end_head(struct message *message) {
    char *head = message->head, *field;
    head[message->head_bytes] = 0;
    int is_reply = !strncmp(head, "HTTP/1.1 ", 9);
    message->status = is_reply ? atoi(head + 9) : 0;
    if (strcasestr(head, "\r\ntransfer-encoding: chunked")) {
        message->state = IN_SIZE;
        message->left = message->line_bytes = 0;
    } else if ((field = strcasestr(head, "\r\ncontent-length:"))) {
        message->left = atoll(field + 17);
        message->state = message->left ? IN_BODY : COMPLETE;
    } else {
        message->state = is_reply ? UNTIL_CLOSE : COMPLETE;
    }
}

static size_t take_head(struct message *message, const char *data, size_t size) {
    for (size_t at = 0; at < size; at++) {
        if (message->head_bytes == HEAD_BYTES) die("a head is too long");
        message->head[message->head_bytes++] = data[at];
        if (data[at] == '\n' && message->head_bytes > 3 && !memcmp(message->head + message->head_bytes - 4, "\r\n\r\n", 4)) {
            end_head(message);
            return at + 1;
        }
    }
    return size;
}

static size_t take_sized(struct message *message, size_t size, int next) {
    size_t taken = (long long)size < message->left ? size : (size_t)message->left;
    message->left -= taken;
    if (!message->left) message->state = next;
    return taken;
}

/* Read one byte of the lines of the chunked framing. */
static void take_line_byte(struct message *message, char byte) {
    if (byte == '\r') return;
    if (byte != '\n') {
        if (message->state == IN_SIZE && message->line_bytes >= 0) {
            int digit = byte >= '0' && byte <= '9' ? byte - '0' : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
            if (digit < 0) die("a chunk's size is wrong");
            message->left = message->left * 16 + digit;
        }
        message->line_bytes++;
        return;
    }
    if (message->state == IN_SIZE) {
        message->state = message->left ? IN_CHUNK : IN_TRAILER;
    } else if (message->state == AFTER_CHUNK) {
        message->state = IN_SIZE;
    } else if (!message->line_bytes) {
        message->state = COMPLETE;
    }
    message->line_bytes = 0;
}

/* Read bytes, at most to the end of the message, and return how many were read. */
static size_t take(struct message *message, const char *data, size_t size) {
    size_t at = 0;
    while (at < size && message->state != COMPLETE) {
        switch (message->state) {
        case IN_HEAD: at += take_head(message, data + at, size - at); break;
        case IN_BODY: at += take_sized(message, size - at, COMPLETE); break;
        case IN_CHUNK: at += take_sized(message, size - at, AFTER_CHUNK); break;
        case UNTIL_CLOSE: at = size; break;
        default: take_line_byte(message, data[at++]);
        }
    }
    return at;
}

/* Return the bytes of a file, which stay in memory. */
static char *file_bytes(const char *path, size_t *size) {
    struct stat status;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status)) die(path);
    char *bytes = malloc(status.st_size + 1);
    for (*size = 0; *size < (size_t)status.st_size;) {
        ssize_t got = read(fd, bytes + *size, status.st_size - *size);
        if (got <= 0) die(path);
        *size += got;
    }
    close(fd);
    return bytes;
}

static void watch(int epoll, int fd, uint32_t events, void *of, int action) {
    struct epoll_event event = {.events = events, .data.ptr = of};
    if (epoll_ctl(epoll, action, fd, &event)) die("epoll_ctl");
}

static void without_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}
