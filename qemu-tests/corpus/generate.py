# SPDX-License-Identifier: GPL-2.0
"""Makes the corpus: all blobs, all images, what is right for each."""

import collections
import concurrent.futures
import hashlib
import json
import os
import random
import shutil
import subprocess

from . import chunks, damage, edges, exceptions, heavy, layouts, model, reader
from .store import MANIFEST, Corpus, descriptor

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
# Of so many images, one after the other, `make test` takes one.
SHARE = 8


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


def verified(corpus, layout, puzzlefs):
    """What `puzzlefs verify` says of each image: whether it passes, and what is wrong with it."""
    def one(number):
        image = corpus.images[number]
        own = os.path.join(layout, f"tags/{number}")
        os.makedirs(own)
        os.symlink("../../blobs", f"{own}/blobs")
        with open(f"{own}/oci-layout", "w") as f:
            f.write('{"imageLayoutVersion":"1.0.0"}')
        entry = descriptor(MANIFEST, image.digest, len(corpus.blobs.get(image.digest, b"")),
                           annotations={"org.opencontainers.image.ref.name": "it"})
        with open(f"{own}/index.json", "w") as f:
            json.dump({"schemaVersion": 2, "manifests": [entry]}, f)
        said = subprocess.run([puzzlefs, "verify", "--format", "json", f"{own}:it"], capture_output=True, timeout=600)
        errors = json.loads(said.stdout)["errors"] if said.stdout else [said.stderr.decode().strip().removeprefix("puzzlefs: error: ")]
        return said.returncode == 0, [error.replace(f"{own}/", "")[:300] for error in errors[:3]]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(len(corpus.images))))


def plain(value):
    """For JSON: bytes as text, one character a byte; of many their digest."""
    if isinstance(value, bytes):
        if len(value) > 300:
            return "sha256:" + hashlib.sha256(value).hexdigest()
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def is_sound(right):
    """Whether all of an image must read right."""
    def good(entry):
        answers = [entry[key][0] for key in ("stat", "list", "xattrs", "link", "content") if key in entry]
        answers += [verdict for verdict, _ in (entry.get("xattrs", ("is", None))[1] or {}).values()]
        return entry.get("lookup", "is") in ("is", "gone") and set(answers) <= {"is", "gone"}
    return right["mount"] == "is" and all(good(entry) for entry in right["tree"])


def weigh(out):
    """The heavy images, apart: their blobs, and for each its name, its digest, and which file is heavy."""
    corpus = Corpus()
    heavy.add(corpus)
    with open(f"{out}/heavy.bin", "wb") as f:
        for digest, data in corpus.blobs.items():
            f.write(digest + len(data).to_bytes(8, "little") + data)
    with open(f"{out}/heavy.json", "w") as f:
        json.dump([{"name": image.name, "digest": image.digest.hex(), "kind": "d" if ":dir" in image.name else "f",
                    "sample": image.name.removeprefix("heavy:") in heavy.SAMPLE} for image in corpus.images], f)


def main(arguments):
    corpus = make("--all" in arguments)
    out, *puzzlefs = [argument for argument in arguments if argument != "--all"]
    os.makedirs(f"{out}/blobs/sha256")
    with open(f"{out}/blobs.bin", "wb") as f:
        for digest, data in corpus.blobs.items():
            f.write(digest + len(data).to_bytes(8, "little") + data)
            with open(f"{out}/blobs/sha256/{digest.hex()}", "wb") as blob:
                blob.write(data)
    weigh(out)
    said = verified(corpus, out, puzzlefs[0]) if puzzlefs else [(None, [])] * len(corpus.images)
    # Entries of trees are mostly those of other images, too.
    entries, places, images, reasons = [], {}, [], collections.Counter()
    for number, (image, (passed, words)) in enumerate(zip(corpus.images, said)):
        right = reader.read(corpus.blobs, image.digest)
        # Some of each that verify alone may refuse.
        may_be_whole = passed is False and right["mount"] != reader.NOT and (is_sound(right) or not right["why"])
        reason = (exceptions.explained(words), is_sound(right)) if may_be_whole else (None,)
        reasons[reason] += 1
        sample = number % SHARE == 0 or reason[0] is not None and reasons[reason] <= 2
        tree = []
        for entry in right["tree"]:
            text = json.dumps(plain(entry) | {"path": entry["path"].decode("latin-1")}, sort_keys=True)
            if text not in places:
                places[text] = len(entries)
                entries.append(text)
            tree.append(places[text])
        images.append({"name": image.name, "digest": image.digest.hex(), "mount": right["mount"], "why": right["why"],
                       "tree": tree, "verify": passed, "words": words, "sample": sample})
    with open(f"{out}/right.json", "w") as f:
        f.write('{"entries":[' + ",".join(entries) + '],"images":' + json.dumps(images) + "}")
    shutil.rmtree(f"{out}/tags", ignore_errors=True)
    shutil.rmtree(f"{out}/blobs")
    print(f"{len(corpus.images)} images, {len(corpus.blobs)} blobs, {sum(map(len, corpus.blobs.values()))} bytes in {out}")
