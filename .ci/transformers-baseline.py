"""What transformers' continuous batching does with the same shape on this GPU: a yardstick beside our own figures.

Not part of servelab: run by .ci/on-gpu where PyTorch and transformers are installed. Weights are random (the shape of
Llama-3.1-8B), prompts are random tokens with the lengths of the trace, greedy decoding to the recorded output lengths
(rounded up to the batch's longest where the library cannot stop a request by itself). All requests are offered at once, so
this is throughput only; compare it with `servelab run` at a rate that saturates.
"""
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

N, PROMPT, NEW = 64, 1024, 128
config = LlamaConfig(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
                     num_key_value_heads=8, vocab_size=128256, max_position_embeddings=8192, rope_theta=500000.0,
                     tie_word_embeddings=False)
out = {"what": "transformers continuous batching", "requests": N, "prompt_tokens": PROMPT, "new_tokens": NEW}
try:
    import transformers
    out["transformers"], out["torch"] = transformers.__version__, torch.__version__
    torch.set_default_dtype(torch.float16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config).eval()
    torch.set_default_dtype(torch.float32)
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(10, 128000, (PROMPT,), generator=generator).tolist() for _ in range(N)]
    g = GenerationConfig(max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0, use_cuda_graph=True)
    model.generate_batch(inputs=prompts[:4], generation_config=g)
    torch.cuda.synchronize()
    start = time.perf_counter()
    answers = model.generate_batch(inputs=prompts, generation_config=g)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    made = sum(len(a.generated_tokens) for a in answers.values())
    out.update(seconds=round(seconds, 3), tokens=made, tokens_per_second=round(made / seconds, 1))
except Exception as trouble:  # a yardstick that is missing must not end the whole run; its absence is in the file
    out["failed"] = f"{type(trouble).__name__}: {trouble}"
json.dump(out, sys.stdout, indent=1)
print()
