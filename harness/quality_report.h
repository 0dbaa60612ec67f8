/* quality_report.h - what `servelab quality` measured: as a table or as JSON lines, as rows of the database, as the
 * figure of loss against speed and bytes. */
#ifndef HARNESS_QUALITY_REPORT_H
#define HARNESS_QUALITY_REPORT_H

#include "harness/quality.h"
#include "models/load.h"

struct quality_report {
    const struct model_files *files;
    const struct loaded_set *models;
    const struct device *dev;
    const struct strategy *st;             /* [n], the first is the reference */
    const struct quality *q;               /* [n] */
    uint32_t n;
    const struct quality_conf *conf;
    const char *text, *text_sha, *model_sha, *command, *db, *name;
    bool json;
};
void quality_print(const struct quality_report *r);
int  quality_record(const struct quality_report *r, struct err *e);
/* After quality_record: the figure of the newest quality rows of the database, beside it. */
int  quality_figure(const struct quality_report *r, struct err *e);

#endif
