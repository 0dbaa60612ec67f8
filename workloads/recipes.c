/* recipes.c - the figures that generated traces follow.
 *
 * Derived by us (quantiles, fits) from 13,927 rows of AzureLLMInferenceTrace_conv.csv and 7,000
 * rows of AzureLLMInferenceTrace_code.csv, Azure/AzurePublicDataset at b469a113, CC-BY-4.0 (Patel
 * et al., "Splitwise", ISCA 2024). Quantile tables and not laws, because the lengths have spikes
 * (system prompts, caps) that two parameters cannot hold. Input and output are independent: log r
 * is 0.03 and -0.003. */
#include "workloads/recipes.h"

static const struct quantile conv_prompt[N_QUANTILE] = {
    { 0, 2 }, { 1, 31 }, { 2.5, 128 }, { 5, 181 }, { 10, 228 }, { 15, 377 }, { 20, 388 },
    { 25, 396 }, { 30, 402 }, { 35, 410 }, { 40, 437.4 }, { 45, 972 }, { 50, 1015 }, { 55, 1042 },
    { 60, 1068 }, { 65, 1097 }, { 70, 1135 }, { 75, 1208.5 }, { 80, 1339 }, { 85, 2180.3 },
    { 90, 4074 }, { 95, 4085 }, { 97.5, 4093 }, { 99, 4122 }, { 99.5, 4149 }, { 99.9, 5310.6 },
    { 100, 14050 },
};

static const struct quantile conv_output[N_QUANTILE] = {
    { 0, 7 }, { 1, 16 }, { 2.5, 28 }, { 5, 39 }, { 10, 50 }, { 15, 61 }, { 20, 71 }, { 25, 80 },
    { 30, 87 }, { 35, 92 }, { 40, 97 }, { 45, 104 }, { 50, 115 }, { 55, 134 }, { 60, 160 },
    { 65, 194 }, { 70, 375 }, { 75, 393 }, { 80, 397 }, { 85, 410 }, { 90, 421 }, { 95, 447 },
    { 97.5, 520 }, { 99, 598 }, { 99.5, 643 }, { 99.9, 939 }, { 100, 1000 },
};

static const struct quantile code_prompt[N_QUANTILE] = {
    { 0, 3 }, { 1, 17 }, { 2.5, 45 }, { 5, 77 }, { 10, 151 }, { 15, 238 }, { 20, 379.8 },
    { 25, 573 }, { 30, 763.7 }, { 35, 928.7 }, { 40, 1068.2 }, { 45, 1238.7 }, { 50, 1462.5 },
    { 55, 1682.4 }, { 60, 1884.4 }, { 65, 2136 }, { 70, 2411 }, { 75, 2704 }, { 80, 3122.8 },
    { 85, 3910 }, { 90, 5051.8 }, { 95, 7154.2 }, { 97.5, 7435 }, { 99, 7436 }, { 99.5, 7436 },
    { 99.9, 7437 }, { 100, 7437 },
};

static const struct quantile code_output[N_QUANTILE] = {
    { 0, 6 }, { 1, 6 }, { 2.5, 6 }, { 5, 6 }, { 10, 7 }, { 15, 7 }, { 20, 8 }, { 25, 9 }, { 30, 9 },
    { 35, 10 }, { 40, 11 }, { 45, 12 }, { 50, 13 }, { 55, 14 }, { 60, 16 }, { 65, 17 }, { 70, 20 },
    { 75, 23 }, { 80, 29 }, { 85, 39 }, { 90, 55 }, { 95, 87 }, { 97.5, 138 }, { 99, 249 },
    { 99.5, 361.1 }, { 99.9, 841 }, { 100, 1899 },
};

/* A gap over 5 s ends a burst; without the pauses no renewal law fits this traffic. Its CV is
 * about 12.7. */
const struct on_off code_on_off = {
    .burst_mu = 4.7239, .burst_sigma = 0.90001, .gap_shape = 0.35803, .gap_scale = 0.30449,
    .pause_mu = 3.0992, .pause_sigma = 0.935, .pause_min = 5,
};

static const char conv[] = "figures of "
                           "Azure/AzurePublicDataset:data/AzureLLMInferenceTrace_conv.csv @ "
                           "b469a113 (CC-BY-4.0)";
static const char code[] = "figures of "
                           "Azure/AzurePublicDataset:data/AzureLLMInferenceTrace_code.csv @ "
                           "b469a113 (CC-BY-4.0)";

const struct recipe recipes[] = {
    { .name = "chat",
      .about = "chat for the classroom: published lengths divided by 8, 3 requests/s",
      .source = conv,
      .prompt = conv_prompt,
      .output = conv_output,
      .shrink = 8,
      .max_context = 1024,
      .n = 64,
      .rate = 3,
      .cv = 1.08,
      .p_continue = 0.6,
      .think_s = 3,
      .max_turn = 6,
      .system = { 48, 32, 96, 16 },
      .slo = { .ttft_ms = 2000, .tpot_ms = 200 } },
    { .name = "chat-full",
      .about = "chat as published: lengths, rate and burstiness within a minute",
      .source = conv,
      .prompt = conv_prompt,
      .output = conv_output,
      .shrink = 1,
      .n = 1000,
      .rate = 5.9178,
      .cv = 1.08,
      .p_continue = 0.6,
      .think_s = 10,
      .max_turn = 8,
      .system = { 384, 256, 768, 128 },
      .slo = { .ttft_ms = 2000, .tpot_ms = 100 } },
    { .name = "code-full",
      .about = "code completion as published: long prompts, short outputs, bursts",
      .source = code,
      .prompt = code_prompt,
      .output = code_output,
      .shrink = 1,
      .n = 1000,
      .rate = 3.0753,
      .p_continue = 0.6,
      .think_s = 5,
      .max_turn = 20,
      .system = { 128, 64, 256, 32 },
      .slo = { .ttft_ms = 1000, .tpot_ms = 100 } },
    { .name = 0 },
};
