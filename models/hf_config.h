/* hf_config.h - config.json of a Hugging Face snapshot: the shape, how weights are packed, or why it is refused.
 *
 * A field that changes the arithmetic and is not handled is a reason to refuse; unknown fields that do not are
 * common and pass. */
#ifndef MODELS_HF_CONFIG_H
#define MODELS_HF_CONFIG_H

#include "models/model.h"
#include "models/quants.h"

enum hf_packing { HF_PLAIN, HF_AWQ, HF_GPTQ };

struct hf_config {
    struct model_shape shape;      /* all but the name */
    char type[16];                 /* "llama" */
    enum hf_packing packing;
    uint32_t group;                /* inputs per scale; 0: all of a row */
    enum zero_form zeros;          /* of GPTQ's formats and packers; as they are in AWQ */
};
int hf_config_read(struct hf_config *c, const char *path, struct err *e);

#endif
