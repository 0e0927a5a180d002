# SPDX-License-Identifier: GPL-2.0
"""Makes the corpus: all blobs, all images, what is right for each."""

import random

from . import chunks, damage, edges, layouts, model
from .store import Corpus

SEED = 11
# How many damages of one field are taken, of each kind of field, unless all are; and how many images have
# several damages.
TAKEN = {
    "all": {"int": 4, "pointer": 7, "tag": 9, "bytes": 4, "header": 9},
    "packs": {"int": 0, "pointer": 0, "tag": 0, "bytes": 1, "header": 0},
    "segments": {"int": 0, "pointer": 3, "tag": 2, "bytes": 0, "header": 9},
    "double": {"int": 0, "pointer": 3, "tag": 1, "bytes": 0, "header": 9},
    "layers": {"int": 2, "pointer": 3, "tag": 3, "bytes": 1, "header": 2},
    "sparse": {"int": 4, "pointer": 4, "tag": 4, "bytes": 3, "header": 2},
    "blocks": {"int": 3, "pointer": 4, "tag": 4, "bytes": 3, "header": 9},
}
SEVERAL, PARTS = 40, 4


def sample(items, count, rng):
    items = list(items)
    return items if count is None or len(items) <= count else rng.sample(items, count)


def make(everything=False):
    """The corpus; `everything`: all damages of all fields, six times as many."""
    corpus, rng = Corpus(), random.Random(SEED)
    for base in model.bases():
        base.image(corpus, "sound")
        message, fields = base.message.bytes, base.message.fields
        for field in fields:
            count = None if everything else TAKEN[base.name][field.kind]
            for label, data in sample(damage.of_field(field, message, fields), count, rng):
                made = damage.put(message, field.at, data)
                if made != message:
                    base.image(corpus, f"{damage.short(field.path)}={label}", made)
        for label, made in (*damage.several(base, SEVERAL, base.name), *damage.cuts(base)):
            base.image(corpus, label, made)
    edges.add(corpus)
    layouts.add(corpus)
    chunks.add(corpus, lambda items: sample(items, None if everything else 60, rng))
    return corpus


def main(arguments):
    corpus = make("--all" in arguments)
    print(f"{len(corpus.images)} images, {len(corpus.blobs)} blobs, {sum(map(len, corpus.blobs.values()))} bytes")
