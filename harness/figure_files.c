/* figure_files.c - where figures come from and go to: templates in plots/, folders beside the
 * database. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/figures.h"
#include "harness/verb.h"

char *file_text(const char *path, struct err *e)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    size_t n = 0, cap = 0, got = 1;

    while (f && got) {
        if (cap - n < 65537) {
            char *more = realloc(text, cap = 2 * cap + 131072);

            if (!more)
                break;
            text = more;
        }
        n += got = fread(text + n, 1, 65536, f);
    }
    if (!f || got || ferror(f)) {
        err_set(e, EXIT_USAGE, "%s: cannot be read: %s", path,
                f ? "out of memory" : strerror(errno));
        free(text);
        text = NULL;
    }
    if (f)
        fclose(f);
    if (text)
        text[n] = '\0';
    return text;
}

int figure_folder_make(const char *path, struct err *e)
{
    if (mkdir(path, 0777) && errno != EEXIST)
        return err_set(e, EXIT_IO, "%s: folder cannot be made: %s", path, strerror(errno));
    return 0;
}

/* Whose folder is it? .experiment in it has the uid of the experiment that came first. 1: this one's, 0: that of
 * another store beside this one, or of one that was deleted; -1 with e. */
static int claim(const char *folder, const char *uid, struct err *e)
{
    char path[700], first[40] = "";
    FILE *f;
    bool bad;

    snprintf(path, sizeof path, "%s/.experiment", folder);
    if ((f = fopen(path, "wx"))) {
        bad = fprintf(f, "%s\n", uid) < 0;
        bad = fclose(f) != 0 || bad;
        if (bad)
            remove(path);
        return bad ? err_set(e, EXIT_IO, "%s: cannot be written; is the disk full?", path) : 1;
    }
    if (errno != EEXIST || !(f = fopen(path, "r")))
        return err_set(e, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    if (fgets(first, sizeof first, f))
        first[strcspn(first, "\n")] = '\0';
    fclose(f);
    return strcmp(first, uid) == 0;
}

/* No page is written over another experiment's: where the folder is another's, part of the uid stands behind. */
int figures_folder(const struct selection *s, const char *below, char *out, size_t size,
                   struct err *e)
{
    const char *slash = strrchr(s->path, '/'), *root = slash ? s->path : ".";
    int base = slash ? (int)(slash - s->path) : 1, mine = 0;

    snprintf(out, size, "%.*s/experiments", base, root);
    if (figure_folder_make(out, e))
        return -1;
    for (size_t tail = 0; !mine && tail <= strlen(s->uid); tail += 6) {
        snprintf(out, size, "%.*s/experiments/%s%s%s", base, root, s->folder, tail ? "-" : "",
                 s->uid + (tail ? strlen(s->uid) - tail : strlen(s->uid)));
        if (figure_folder_make(out, e) || (mine = claim(out, s->uid, e)) < 0)
            return -1;
    }
    if (!below)
        return 0;
    snprintf(out + strlen(out), size - strlen(out), "/%s", below);
    return figure_folder_make(out, e);
}

/* The rest of the line that starts with `mark`, or "". */
static void header_line(const char *text, const char *mark, char *out, size_t size)
{
    const char *p = strstr(text, mark);

    p = p ? p + strlen(mark) : "";
    snprintf(out, size, "%.*s", (int)strcspn(p, "\n"), p);
}

int figure_about(const char *name, char *title, size_t title_size, char *about, size_t about_size,
                 struct err *e)
{
    char path[700], *sql;

    snprintf(path, sizeof path, "%.600s/plots/%.63s.sql", servelab_home(), name);
    if (!(sql = file_text(path, e)))
        return -1;
    header_line(sql, "-- title: ", title, title_size);
    header_line(sql, "-- about: ", about, about_size);
    free(sql);
    return 0;
}

/* Where it comes in a report; figures that do not say are last. */
static int rank_of(const char *name)
{
    char path[700], rank[16] = "", *sql;

    snprintf(path, sizeof path, "%.600s/plots/%.63s.sql", servelab_home(), name);
    if ((sql = file_text(path, NULL)))
        header_line(sql, "-- rank: ", rank, sizeof rank);
    free(sql);
    return *rank ? atoi(rank) : 1000;
}

static void sort_by_rank(char names[][64], int n)
{
    char name[64];

    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && rank_of(names[k - 1]) > rank_of(names[k]); k--) {
            memcpy(name, names[k], sizeof name);
            memcpy(names[k], names[k - 1], sizeof name);
            memcpy(names[k - 1], name, sizeof name);
        }
}

int figure_names(char names[][64], int max, struct err *e)
{
    char path[600];
    struct dirent **found;
    int n, kept = 0;

    snprintf(path, sizeof path, "%s/plots", servelab_home());
    if ((n = scandir(path, &found, NULL, alphasort)) < 0)
        return err_set(e, EXIT_USAGE, "%s: figures not found: %s; set SERVELAB_HOME", path,
                       strerror(errno));
    for (int i = 0; i < n; i++) {
        size_t len = strlen(found[i]->d_name);

        if (len > 4 && len < 64 && kept < max && strcmp(found[i]->d_name + len - 4, ".sql") == 0)
            snprintf(names[kept++], 64, "%.*s", (int)len - 4, found[i]->d_name);
        free(found[i]);
    }
    free(found);
    sort_by_rank(names, kept);
    return kept;
}
