#!/usr/bin/env python3
"""Writes text/unicode_data.c from the Unicode Character Database as Python's unicodedata2 carries it.

    pip install unicodedata2==16.0.0 && python3 text/make_unicode.py > text/unicode_data.c

Version 16.0 is what the regular expressions of Hugging Face's tokenizers 0.23 know. Another version changes
which code points are letters, and with that token ids: change it only together with the fixtures."""
import textwrap

import unicodedata2 as u

ALL = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def ranges(value):
    """[first, last, value] of neighbours with equal, true value."""
    out = []
    for c in ALL:
        v = value(chr(c))
        if v and out and out[-1][1] == c - 1 and out[-1][2] == v:
            out[-1][1] = c
        elif v:
            out.append([c, c, v])
    return out


def steps(c):
    """One step of canonical decomposition, as code points; [] when there is none."""
    d = u.decomposition(chr(c))
    return [int(x, 16) for x in d.split()] if d and d[0] != '<' else []


def emit(kind, name, values, about):
    body = textwrap.fill(','.join(str(v) for v in values).replace(',', ', '), 100,
                         initial_indent='    ', subsequent_indent='    ')
    print(f'/* {about} */\nconst {kind} {name}[{len(values)}] = {{\n{body}\n}};\n')


letters = ranges(lambda s: u.category(s)[0] == 'L')
numbers = ranges(lambda s: u.category(s)[0] == 'N')
classes = ranges(u.combining)
split = [(c, *(steps(c) + [0])[:2]) for c in ALL if steps(c)]
join = [i for i, (c, a, b) in enumerate(split) if b and u.normalize('NFC', chr(a) + chr(b)) == chr(c)]
join.sort(key=lambda i: split[i][1:])

print(f'''/* unicode_data.c - letters, numbers, combining classes and canonical decompositions of Unicode
 * {u.unidata_version}. Written by text/make_unicode.py; do not edit. Data: Unicode Character Database,
 * Copyright 1991-2024 Unicode, Inc., Unicode License V3 (unicode.org/license.txt). */
#include "text/unicode_data.h"
''')
emit('uint32_t', 'unicode_letter', [x for r in letters for x in r[:2]],
     'General category L: first and last of each range, ascending.')
emit('uint32_t', 'unicode_number', [x for r in numbers for x in r[:2]], 'General category N, likewise.')
emit('uint32_t', 'unicode_class', [x for r in classes for x in r],
     'Canonical combining class other than 0: first, last, class.')
emit('uint32_t', 'unicode_split', [x for r in split for x in r],
     'Canonical decomposition, one step: code point, first, second (0: none). Hangul needs no table.')
emit('uint16_t', 'unicode_join', join,
     'Primary composites: indices of rows above, by (first, second).')
print(f'''const struct unicode_size unicode_size = {{
    .n_letter = {len(letters)}, .n_number = {len(numbers)}, .n_class = {len(classes)},
    .n_split = {len(split)}, .n_join = {len(join)},
}};''')
