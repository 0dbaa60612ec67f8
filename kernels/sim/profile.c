#include "kernels/sim/profile.h"

#include <string.h>

#include "base/home.h"
#include "base/json.h"

int profile_load(struct sim_profile *p, const char *name, struct err *e)
{
    char path[4096], schema[32] = "";
    const struct json_field fields[] = {
        { "schema", JSON_K_TEXT, schema, 0, 0, sizeof schema, false },
        { "name", JSON_K_TEXT, p->name, 0, 0, sizeof p->name, false },
        { "about", JSON_K_TEXT, p->about, 0, 0, sizeof p->about, false },
        { "flops", JSON_K_REAL, &p->flops, 1e6, 1e19, 0, false },
        { "bandwidth", JSON_K_REAL, &p->bandwidth, 1e6, 1e16, 0, false },
        { "flop_efficiency", JSON_K_REAL, &p->flop_efficiency, 1e-3, 1, 0, false },
        { "byte_efficiency", JSON_K_REAL, &p->byte_efficiency, 1e-3, 1, 0, false },
        { "int_ops", JSON_K_REAL, &p->int_ops, 1e6, 1e19, 0, true },
        { "int_efficiency", JSON_K_REAL, &p->int_efficiency, 1e-3, 1, 0, true },
        { "link_bandwidth", JSON_K_REAL, &p->link_bandwidth, 1e6, 1e15, 0, false },
        { "launch_ns", JSON_K_REAL, &p->launch_ns, 0, 1e9, 0, false },
        { "host_step_ns", JSON_K_INT, &p->host_step_ns, 0, 1e9, 0, false },
        { "host_seq_ns", JSON_K_INT, &p->host_seq_ns, 0, 1e9, 0, false },
        { "mem_bytes", JSON_K_INT, &p->mem_bytes, 1e6, 1e15, 0, false },
        { 0 },
    };

    memset(p, 0, sizeof *p);
    if (home_find("sim profile", "kernels/sim/profiles", name, ".json", path, sizeof path, e))
        return -1;
    if (json_read_fields(path, fields, e))
        return -1;
    if (strcmp(schema, "sim-profile/1"))
        return err_set(e, EXIT_USAGE, "%s: field 'schema': '%s'; expected 'sim-profile/1'", path,
                       schema);
    if ((p->int_ops > 0) != (p->int_efficiency > 0))
        return err_set(e, EXIT_USAGE, "%s: fields 'int_ops' and 'int_efficiency' go together", path);
    return 0;
}
