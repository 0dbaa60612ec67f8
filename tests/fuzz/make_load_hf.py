#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/load_hf.c: the smallest snapshots of each kind. Run from the repository's root:
python3 tests/fuzz/make_load_hf.py"""
import json
import os
import struct

OUT = "tests/fuzz/corpus/load_hf"
BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4}


def snapshot(name, config, tensors):
    base = dict(num_hidden_layers=1, hidden_size=32, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32,
                vocab_size=2, max_position_embeddings=64, rms_norm_eps=1e-5)
    text = json.dumps({**base, **config}, separators=(",", ":")).encode()
    header, at = {}, 0
    for key, (dtype, *shape) in tensors.items():
        n = BYTES[dtype]
        for d in shape:
            n *= d
        header[key] = dict(dtype=dtype, shape=shape, data_offsets=[at, at + n])
        at += n
    head = json.dumps(header, separators=(",", ":")).encode()
    data = bytes((i * 37 % 60 if i % 2 else i * 11) & 255 for i in range(at))      # finite as F16 and BF16
    with open(f"{OUT}/{name}", "wb") as f:
        f.write(struct.pack("<H", len(text)) + text + struct.pack("<Q", len(head)) + head + data)


def model(dtype, packed=None, bias=False, norm=False, tied=True):
    t = {"model.embed_tokens.weight": (dtype, 2, 32), "model.norm.weight": (dtype, 32)}
    if not tied:
        t["lm_head.weight"] = (dtype, 2, 32)
    at = "model.layers.0."
    for gain in "input_layernorm", "post_attention_layernorm":
        t[f"{at}{gain}.weight"] = (dtype, 32)
    for p, n in dict(q=32, k=16, v=16, o=32, gate=32, up=32, down=32).items():
        where = f"{at}self_attn.{p}_proj" if p in "qkvo" else f"{at}mlp.{p}_proj"
        if packed:
            t[f"{where}.qweight"] = ("I32", 32, n // 8) if packed == "awq" else ("I32", 4, n)
            t[f"{where}.qzeros"] = ("I32", 2, n // 8)
            t[f"{where}.scales"] = ("F16", 2, n)
        else:
            t[f"{where}.weight"] = (dtype, n, 32)
        if bias and p in "qkv":
            t[f"{where}.bias"] = (dtype, n)
        if norm and p in "qk":
            t[f"{at}self_attn.{p}_norm.weight"] = (dtype, 16)
    return t


os.makedirs(OUT, exist_ok=True)
group = dict(bits=4, group_size=16)
snapshot("llama", dict(model_type="llama", tie_word_embeddings=True), model("F16"))
snapshot("mistral", dict(model_type="mistral", sliding_window=None), model("F32", tied=False))
snapshot("qwen2", dict(model_type="qwen2", tie_word_embeddings=True), model("BF16", bias=True))
snapshot("qwen3", dict(model_type="qwen3", head_dim=16, tie_word_embeddings=True), model("BF16", norm=True))
snapshot("awq", dict(model_type="llama", tie_word_embeddings=True, quantization_config=dict(
    quant_method="awq", version="gemm", zero_point=True, **group)), model("F16", "awq"))
snapshot("gptq", dict(model_type="llama", tie_word_embeddings=True, quantization_config=dict(
    quant_method="gptq", desc_act=False, **group)), model("F16", "gptq"))
