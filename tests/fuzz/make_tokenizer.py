#!/usr/bin/env python3
"""Writes the seeds of tokenizer.c, corpus/tokenizer: one byte that chooses the case, then its input."""
import json
import os
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'corpus', 'tokenizer')
VOCAB = {'a': 0, 'b': 1, 'ab': 2, '\u0120': 3, '\u0120a': 4}
LINES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def spec(pre, post=None, normalizer=None, merges=('a b', '\u0120 a')):
    return json.dumps({'added_tokens': [{'id': 5, 'content': '<|im_end|>', 'special': True}, {'id': 6, 'content': '<x>'}],
                       'normalizer': normalizer, 'pre_tokenizer': pre, 'post_processor': post,
                       'model': {'type': 'BPE', 'vocab': VOCAB, 'merges': list(merges)}}).encode()


def gguf():
    def text(s):
        return struct.pack('<Q', len(s.encode())) + s.encode()

    def texts(key, items):
        return text(key) + struct.pack('<IIQ', 9, 8, len(items)) + b''.join(map(text, items))
    kv = [text('tokenizer.ggml.model') + struct.pack('<I', 8) + text('gpt2'),
          text('tokenizer.ggml.pre') + struct.pack('<I', 8) + text('llama-bpe'),
          texts('tokenizer.ggml.tokens', list(VOCAB) + ['<x>']),
          text('tokenizer.ggml.token_type') + struct.pack('<IIQ6i', 9, 5, 6, 1, 1, 1, 1, 1, 3),
          texts('tokenizer.ggml.merges', ['a b', '\u0120 a']),
          text('tokenizer.ggml.bos_token_id') + struct.pack('<II', 4, 5),
          text('tokenizer.ggml.add_bos_token') + struct.pack('<IB', 7, 1),
          text('tokenizer.chat_template') + struct.pack('<I', 8) + text(CHATML)]
    return b'GGUF' + struct.pack('<IQQ', 3, 0, len(kv)) + b''.join(kv)


BYTES = {'type': 'ByteLevel', 'add_prefix_space': False}
SPLIT = {'type': 'Sequence', 'pretokenizers': [{'type': 'Split', 'pattern': {'Regex': LINES}, 'behavior': 'Isolated'},
                                               {'type': 'ByteLevel', 'use_regex': False}]}
DIGITS = {'type': 'Sequence', 'pretokenizers': [{'type': 'Digits', 'individual_digits': True}, BYTES]}
TEMPLATE = {'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': 'x'}}, {'Sequence': {'id': 'A'}}],
            'special_tokens': {'x': {'ids': [5]}}}
SEEDS = {
    'text-words': b"\0It's the 1st\n  thing, <|end|> aaaa <x>", 'text-marks': '\0\u1e0b\u0323 a\u0301\u0327 \uac01 \u1100\u1161'.encode(),
    'text-bad': b'\0\xe2\x82 \xf0\x9f\x98\x80\xff\xc0\xaf\xed\xa0\x80', 'json-gpt2': b'\1' + spec(BYTES),
    'json-split': b'\1' + spec(SPLIT, TEMPLATE, {'type': 'NFC'}), 'json-digits': b'\1' + spec(DIGITS, None, None, [['a', 'b']]),
    'gguf': b'\2' + gguf(), 'chat': b'\3' + CHATML.encode(),
}
for kind in ('qwen2.5', 'qwen3', 'llama3.1'):
    with open(os.path.join(HERE, '..', '..', '..', 'fixtures', 'chat', kind + '.jinja'), 'rb') as f:
        SEEDS['chat-' + kind] = b'\3' + f.read()
for name, data in SEEDS.items():
    with open(os.path.join(HERE, name), 'wb') as f:
        f.write(data)
