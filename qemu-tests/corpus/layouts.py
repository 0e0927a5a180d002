# SPDX-License-Identifier: GPL-2.0
"""What is done to manifests, to the blobs that they name, and to packs and their indexes."""

import json

from . import store
from .model import Base, RAW_1, directory, everything, extent, file, noise, plain, rootfs, text, zstd
from .message import Message
from .schema import CHUNK, JSON_DEPTH, MANIFEST
from .store import PACK, ROOTFS, Pack, descriptor, document, manifest, sha256


def nested(depth, opening="["):
    closing = "]" if opening == "[" else "}"
    if opening == "[":
        return "[" * depth + closing * depth
    return '{"a":' * (depth - 1) + "{}" + closing * (depth - 1)


def texts(corpus, rootfs_digest, layers):
    """Manifests as text: (name, bytes)."""
    good = document(corpus, rootfs_digest, layers)
    text = json.dumps(good)
    layer = json.dumps(good["layers"][0])

    def but(**more):
        made = dict(good, **more)
        return json.dumps({key: value for key, value in made.items() if value is not ...})

    def of_layer(**more):
        made = dict(good["layers"][0], **more)
        made = {key: value for key, value in made.items() if value is not ...}
        return but(layers=[made, *good["layers"][1:]])

    yield "sound", text
    yield "indented", json.dumps(good, indent=1)
    for version in 0, 1, 3, -2, 2.0, "2", None, [2], 1 << 64, ...:
        yield f"schemaVersion={version}", but(schemaVersion=version)
    for kind in "application/json", "", 2, None, store.MANIFEST + " ", store.MANIFEST.upper(), ...:
        yield f"mediaType={kind!r}", but(mediaType=kind)
    for config in {}, [], None, 5, ...:
        yield f"config={config!r}", but(config=config)
    for config in descriptor("x", sha256(b"gone"), 5), descriptor("x", sha256(b"{}"), -1), {"mediaType": "x", "size": 2}:
        yield f"config={config['size']},{'digest' in config}", but(config=config)
    for some in [], {}, None, [5], [None], [[]], [good["layers"]], "layers", ...:
        yield f"layers={some!r}"[:40], but(layers=some)
    yield "two-rootfs", but(layers=good["layers"] + good["layers"][:1])
    yield "rootfs-last", but(layers=good["layers"][1:] + good["layers"][:1])
    yield "no-rootfs", but(layers=good["layers"][1:])
    yield "chunk-twice", but(layers=good["layers"] + good["layers"][1:])
    for size in 0, 1, -1, 1.5, 1e3, "5", None, (1 << 64) - 1, 1 << 64, ...:
        yield f"size={size}", of_layer(size=size)
    yield "size=1e2", text.replace('"size": ', '"size": 1e2, "was": ', 1)
    for kind in ROOTFS + "\0", ROOTFS.upper(), "", 5, None, ...:
        yield f"rootfs.mediaType={kind!r}", of_layer(mediaType=kind)
    hex_ = rootfs_digest.hex()
    for digest in ("", hex_, "sha256:", f"sha256:{hex_.upper()}", f"sha256:{hex_[:-1]}", f"sha256:{hex_}0", f"sha512:{hex_}",
                   f"sha256:{hex_[:-1]}g", f" sha256:{hex_}", f"SHA256:{hex_}", "sha256:../../../etc/passwd", 5, None, ...):
        yield f"rootfs.digest={digest}".replace("/", "|"), of_layer(digest=digest)
    yield "escaped", text.replace("sha256:", "\\u0073ha256\\u003a").replace("schemaVersion", "schema\\u0056ersion")
    for key in '"schemaVersion":2', '"layers":[]', '"mediaType":"x"', f'"config":{layer}':
        yield f"again:{key[:12]}", "{" + key + "," + text[1:]
        yield f"again-escaped:{key[:12]}", '{"\\u00' + f"{ord(key[1]):02x}" + key[2:] + "," + text[1:]
    for key in '"mediaType":"x"', '"size":5', f'"digest":"sha256:{hex_}"':
        yield f"layer-again:{key[:12]}", text.replace('"layers": [{', '"layers": [{' + key + ",")
    yield "annotation-again", but(annotations=...)[:-1] + ',"annotations":{"a":"1","a":"2"},"annotations":{}}'
    verity = "io.puzzlefsoci.puzzlefs.fs_verity"
    for value in hex_, hex_.upper(), hex_[:-1], f"sha256:{hex_}", "", 5, None, {}:
        yield f"fs_verity={value!r}", of_layer(annotations={"a": "1", verity: value})
    for label, value in ("list", [verity]), ("text", verity), ("null", None), ("inner", {"a": {verity: 5}}):
        yield f"annotations={label}", of_layer(annotations=value)
    sound = '"annotations":{"' + verity + '":"' + hex_ + '"}'
    yield "layer-again:annotations", text.replace('"layers": [{', '"layers": [{' + sound + "," + sound + ",")
    again = sound.replace("}", "," + sound.partition("{")[2])
    yield "annotation-twice", text.replace('"layers": [{', '"layers": [{' + again + ",")
    for depth in JSON_DEPTH - 1, JSON_DEPTH, JSON_DEPTH + 1, JSON_DEPTH + 2, 1000, 100_000:
        for opening in "[", "{":
            yield f"nested={depth}{opening}", '{"x":' + nested(depth, opening) + "," + text[1:]
            if depth < 1000:
                yield f"layer-nested={depth}{opening}", text.replace('"layers": [{', '"layers": [{"x":' + nested(depth, opening) + ",")
    for junk in ("nul", "tru", "01", "-", "1.", "1e", "+1", ".5", "'x'", '"\t"', '"\\x"', '"\\ud800"', '"\\ud800\\u0041"', '"', "[1,]",
                 "{,}", '{"a"}', '{"a":1,}', "NaN", "//", "\x00"):
        yield f"value={junk!r}".replace("/", "|"), '{"x":' + junk + "," + text[1:]
    yield "value-not-utf8", b'{"x":"\xff\xfe\xed\xa0\x80",' + text[1:].encode()
    yield "value-of-all-kinds", '{"x":[-0,0.5,1e9,-1.25E-3,true,false,null,"\\ud83d\\ude00\\n\\u0000",{},[[]]],' + text[1:]
    for behind in " ", "\n", "x", "{}", "\0":
        yield f"behind={behind!r}", text + behind
    for before in " ", "\t\r\n", "\ufeff", "[", "\v":
        yield f"before={before!r}", before + text
    for at in 0, 1, 2, 3, 20, len(text) // 2, len(text) - 1:
        yield f"cut={at}", text[:at]
    for size in MANIFEST - 1, MANIFEST, MANIFEST + 1:
        yield f"spaces-up-to={size}", text + " " * (size - len(text))
        filled = '{"x":"' + "a" * (size - len(text) - 7) + '",' + text[1:]
        yield f"filled-up-to={size}", filled
    yield "many-layers", but(layers=good["layers"] + [descriptor("x", sha256(b"gone"), n) for n in range(20000)])


def manifests(corpus):
    inodes, chunks, more = everything()
    base = Base("manifest", rootfs([inodes], **more), chunks)
    layers = base.layers(corpus)
    digest = corpus.add(base.message.bytes)
    for name, text in texts(corpus, digest, layers):
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        corpus.image(f"manifest:{name}", corpus.add(data))
    corpus.image("blob:rootfs-by-itself", digest)
    corpus.image("blob:manifest-lies", corpus.lie(manifest(corpus, digest, layers)))
    corpus.image("blob:manifest-gone", sha256(b"a manifest that is not there"))
    for name, blob in (("lies", corpus.lie(base.message.bytes)), ("gone", sha256(b"gone")), ("empty", corpus.add(b"")),
                       ("is-a-manifest", corpus.add(manifest(corpus, digest))), ("is-a-chunk", corpus.add(RAW_1)),
                       ("is-zeros", corpus.add(bytes(64))), ("is-124-segments", corpus.add(b"{\0\0\0" + bytes(4096)))):
        corpus.image(f"blob:rootfs-{name}", corpus.add(manifest(corpus, blob, layers)))
    for name, data in ("empty", b""), ("zeros", bytes(4096)), ("{", b"{"), ("chunk", RAW_1), ("newline", b"\n"), ("ff", b"\xff" * 64):
        corpus.image(f"blob:manifest-is-{name}", corpus.add(data))
    corpus.image("blob:rootfs-lies-by-itself", corpus.lie(base.message.bytes, b"2"))


def files():
    """Three files in chunks that no other image has, so that they are in no loose blob; the message that
    names these."""
    chunks = [plain(noise(41, 5000)), zstd(text(42, 20000)), plain(noise(43, 3000))]
    inodes = [directory(1, [(b"a", 2), (b"b", 3), (b"both", 5), (b"c", 4)]),
              *(file(2 + n, [extent(chunk)]) for n, chunk in enumerate(chunks)),
              file(5, [extent(chunks[2], 100, 50), extent(chunks[0], 4000, 1000)])]
    return Message(rootfs([inodes])).bytes, chunks


def lying(stored):
    """Packs of these bytes: (name, its bytes). The first are sound."""
    def pack(**more):
        made = Pack(stored)
        for key, value in more.items():
            setattr(made, key, value)
        return made.bytes()
    good = Pack(stored)
    entries, length = good.entries, len(good.body)
    zero, ones = [bytes(32), 0, 5], [b"\xff" * 32, 0, 5]
    yield "sound", good.bytes()
    yield "gap", pack(body=good.body + b"gap" * 100)
    for name, some in (("reversed", entries[::-1]), ("rotated", entries[1:] + entries[:1]), ("first-only", entries[:1] * 3),
                       ("repeated", sorted(entries * 2)), ("zero-first", [zero, *entries]), ("ones-last", [*entries, ones]),
                       ("zero-last", [*entries, zero]), ("none", []), ("one", entries[1:2])):
        yield f"index={name}", pack(entries=some, count=len(some))
    for number in range(len(entries)):
        digest, at, size = entries[number]
        for what, entry in (("at+1", (digest, at + 1, size)), ("at=end", (digest, length, size)), ("at=last", (digest, length - 1, size)),
                            ("at=2^32-1", (digest, 0xFFFFFFFF, size)), ("size=0", (digest, at, 0)), ("size-1", (digest, at, size - 1)),
                            ("size+1", (digest, at, size + 1)), ("size=2^32-1", (digest, at, 0xFFFFFFFF)),
                            ("size=limit", (digest, at, CHUNK)), ("size=limit+1", (digest, at, CHUNK + 1)),
                            ("in-index", (digest, length - 1, 40)), ("all", (digest, 0, length)), ("digest", (digest[:-1] + b"?", at, size)),
                            ("other", (digest, *entries[number - 1][1:]))):
            made = entries[:number] + [list(entry)] + entries[number + 1:]
            yield f"entry[{number}].{what}", pack(entries=sorted(made))
    for count in 0, 1, 2, 4, 1000, (1 << 18), (1 << 18) + 1, 1 << 31, (1 << 32) - 1:
        yield f"count={count}", pack(count=count)
    for magic in b"PzPl", b"\0\0\0\0", b"kPzP":
        yield f"magic={magic!r}", pack(magic=magic)
    yield "behind", pack(behind=b"\0")
    for size in 0, 1, 7, 8, 40, len(good.bytes()) // 2, len(good.bytes()) - 1:
        yield f"cut={size}", good.bytes()[:size]
    damaged = bytearray(good.body)
    for _, at, size in entries:
        damaged[at + size // 2] ^= 1
    yield "damaged", pack(body=bytes(damaged))
    yield "zeros", bytes(len(good.bytes()))
    yield "huge-index", Pack(stored).body + b"\0" * 40 * (1 << 12) + store.TRAILER.pack(1 << 12, b"PzPk")


def packs(corpus):
    message, chunks = files()
    stored = [chunk.stored for chunk in chunks]
    rootfs_digest = corpus.add(message)

    def image(name, *made, loose=(), sizes=None):
        digests = [corpus.add(pack) if isinstance(pack, bytes) else pack for pack in made]
        for data in loose:
            corpus.add(data)
        text = document(corpus, rootfs_digest, [(digest, PACK) for digest in digests])
        for layer, size in zip(text["layers"][1:], sizes or ()):
            layer["size"] = size
        corpus.image(f"pack:{name}", corpus.add(json.dumps(text).encode()))

    good = Pack(stored).bytes()
    for name, made in lying(stored):
        image(name, made)
        # Of two packs that list a chunk the one is right, be it the first or the second.
        image(f"{name},then-sound", made, good)
        image(f"sound,then-{name}", good, made)
    image("lies", corpus.lie(good))
    image("gone", sha256(b"a pack that is not there"))
    image("empty-and-sound", Pack([]).bytes(), good)
    image("twice", good, good)
    image("one-each", *(Pack([data]).bytes() for data in stored))
    for size in 0, 1, len(good) - 1, len(good) + 1, (1 << 32) - 1, (1 << 63) - 1:
        image(f"size={size}", good, sizes=[size])
    image("is-a-chunk", corpus.add(stored[0]), good)
    many = [Pack([noise(100 + n, 16)]).bytes() for n in range(300)]
    image("300-and-sound", *many, good)
    # A chunk that is in a pack where it is damaged, and loose where it is not. Loose blobs are everybody's, so
    # these have chunks of their own.
    own = [noise(30 + n, 2000 + n) for n in range(2)]
    inodes = [directory(1, [(b"a", 2), (b"b", 3)]), *(file(2 + n, [extent(plain(data))]) for n, data in enumerate(own))]
    rootfs_digest = corpus.add(Message(rootfs([inodes])).bytes)
    made = Pack(own)
    made.body = made.body[:1] + bytes([made.body[1] ^ 1]) + made.body[2:]
    image("damaged-but-loose", made.bytes(), loose=own)
    made = Pack(own)
    made.entries[0][1] = 1 << 31
    image("out-of-pack-but-loose", made.bytes(), loose=own)


def add(corpus):
    manifests(corpus)
    packs(corpus)
