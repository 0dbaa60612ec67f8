#include "tests/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/test.h"

enum { MAX_ARGS = 40 };

static struct said last;

const struct said *said(void)
{
    return &last;
}

const char *program_file(const char *file)
{
    static char path[4][PATH_ROOM];
    static unsigned next;
    char *p = path[next++ % 4];

    snprintf(p, PATH_ROOM, "%s/%s", test_dir(), file);
    return p;
}

const char *program_db(void)
{
    static char path[PATH_ROOM];

    snprintf(path, sizeof path, "%s/t.db", test_dir());
    return path;
}

/* Splits at spaces; "@x" becomes the path of file x in the test's folder. */
static void split(char *text, char **argv)
{
    static char at[MAX_ARGS][PATH_ROOM];
    int n = 0;

    argv[n++] = "servelab";
    for (char *save = NULL, *p = strtok_r(text, " ", &save); p && n < MAX_ARGS - 1;
         p = strtok_r(NULL, " ", &save)) {
        if (*p == '@') {
            snprintf(at[n], sizeof at[n], "%s/%s", test_dir(), p + 1);
            p = at[n];
        }
        argv[n++] = p;
    }
    argv[n] = NULL;
}

static int confine(struct limits l)
{
    struct rlimit r = { .rlim_cur = l.file_bytes, .rlim_max = l.file_bytes };

    signal(SIGXFSZ, SIG_IGN);              /* a full file is an error of write, as on a full disk */
    if (l.file_bytes && setrlimit(RLIMIT_FSIZE, &r))
        return -1;
    return l.uid ? setuid(l.uid) : 0;
}

/* Starts `servelab TEXT` in the test's folder, its output going to the files .out and .err there. */
pid_t program_start(const char *text, struct limits l)
{
    char copy[4096], *argv[MAX_ARGS];
    int out, err;
    pid_t pid;

    snprintf(copy, sizeof copy, "%s", text);
    split(copy, argv);
    out = open(program_file(".out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    err = open(program_file(".err"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    pid = fork();
    if (pid == 0) {
        if (chdir(test_dir()) || dup2(out, 1) < 0 || dup2(err, 2) < 0 || confine(l))
            _exit(126);
        execv(SERVELAB_BIN, argv);
        _exit(126);
    }
    close(out);
    close(err);
    return pid;
}

void program_read(const char *file, char text[OUT])
{
    FILE *f = fopen(program_file(file), "r");
    size_t n = f ? fread(text, 1, OUT - 1, f) : 0;

    text[n] = 0;
    if (f)
        fclose(f);
}

int program_finish(pid_t pid)
{
    int status;

    last.rc = -1;
    if (pid > 0 && waitpid(pid, &status, 0) == pid)
        last.rc = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    program_read(".out", last.out);
    program_read(".err", last.err);
    return last.rc;
}

int program_run(const char *fmt, ...)
{
    char text[4096];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return program_finish(program_start(text, (struct limits){ 0 }));
}

void program_note(const char *text)
{
    test_note("servelab %s: status %d, stdout '%.300s', stderr '%.500s'", text, last.rc, last.out,
              last.err);
}

int64_t db_number(const char *db, const char *sql)
{
    sqlite3 *c = NULL;
    sqlite3_stmt *q = NULL;
    int64_t v = -1;

    if (sqlite3_open_v2(db, &c, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK) {
        sqlite3_busy_timeout(c, 2000);
        if (sqlite3_prepare_v2(c, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
            v = sqlite3_column_int64(q, 0);
        sqlite3_finalize(q);
    }
    sqlite3_close(c);
    return v;
}

int64_t db_runs(const char *db, const char *status)
{
    char sql[200];

    snprintf(sql, sizeof sql, "SELECT count(*) FROM runs WHERE status = '%s'", status);
    return db_number(db, sql);
}

bool db_wait(pid_t pid, const char *db, const char *status)
{
    for (int i = 0; i < 1500; i++) {
        siginfo_t ended = { 0 };

        if (db_runs(db, status) > 0)
            return true;
        if (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) || ended.si_pid)
            return false;
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    }
    return false;
}
