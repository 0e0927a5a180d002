# SPDX-License-Identifier: GPL-2.0
"""Who imports whom among the modules of a Rust crate: by `use`, and by paths in the code."""

import pathlib

from rust_source import TOP, code, files


def use_tree(tokens, at, prefix):
    """The paths of the `use` tree at `at`, with the names that they get, and where it ends."""
    found, path = [], list(prefix)
    while True:
        token = tokens[at][0]
        if token == "{":
            at += 1
            while tokens[at][0] != "}":
                inner, at = use_tree(tokens, at, path)
                found += inner
                at += tokens[at][0] == ","
            return found, at + 1
        if token == "self" and len(path) > len(prefix[:1]):
            pass  # `a::{self}` is `a`
        elif token != "*":
            path.append(token)
        at += 1
        if tokens[at][0] != "::":
            break
        at += 1
    name = None if token == "*" else path[-1]
    if tokens[at][0] == "as":
        name, at = tokens[at + 1][0], at + 2
    return [(path, name)], at


class Module:
    """A module that has a file."""

    def __init__(self, file, path, tokens, here, name):
        self.file, self.path = file, path
        # The path that those of its own modules begin with, and the crate's name.
        self.here, self.name = here, name
        self.children = [tokens[i + 1][0] for i in range(len(tokens) - 2)
                         if tokens[i][0] == "mod" and tokens[i + 2][0] == ";"]
        self.names = {token for token, _ in tokens}
        # What `use` gives a name here, and all paths with their lines; from the crate's root on.
        self.used, self.paths = {}, []
        self._read(tokens)

    def _absolute(self, path, inline):
        """`path` from the crate's root on; None if it does not begin in this crate."""
        here = self.here + inline
        if path[0] in ("crate", self.name):
            return path[1:]
        if path[0] == "super":
            while path and path[0] == "super":
                here, path = here[:-1], path[1:]
            return here + path
        if path[0] == "self":
            return here + path[1:]
        return here + path if path[0] in self.children else None

    def _read(self, tokens):
        at, depth, inline = 0, 0, []
        while at < len(tokens):
            token, line = tokens[at]
            before = tokens[at - 1][0] if at else ""
            after = tokens[at + 1][0] if at + 1 < len(tokens) else ""
            if token in "{}":
                depth += 1 if token == "{" else -1
                while inline and inline[-1][1] > depth:
                    inline.pop()
            elif token == "mod" and tokens[at + 2][0] == "{":
                inline.append((after, depth + 1))
            elif token == "use" and after != "<":
                found, at = use_tree(tokens, at + 1, [])
                for path, name in found:
                    absolute = self._absolute(path, [name for name, _ in inline])
                    if absolute is not None:
                        self.paths.append((absolute, line))
                        self.used[name] = absolute
                continue
            elif after == "::" and before not in ("::", "in"):
                path = [token]
                while tokens[at + 1][0] == "::" and tokens[at + 2][0].isidentifier():
                    at += 2
                    path.append(tokens[at][0])
                absolute = self._absolute(path, [name for name, _ in inline])
                if absolute:
                    self.paths.append((absolute, line))
            at += 1


class Crate:
    """The crate that has its root in `root`, without the folders `without`. It may have a program
    beside it, `main.rs`, which calls the library by its name: both are one here."""

    def __init__(self, root, without=(), name=None):
        root = pathlib.Path(root)
        program = root.parent / "main.rs"
        self.modules = {}
        for file in files(".rs", below=root.parent):
            inner = file.relative_to(root.parent)
            if inner.parts[0] in without:
                continue
            path = () if file == root else inner.with_suffix("").parts
            path = path[:-1] if path[-1:] == ("mod",) else path
            here = [] if file == program else list(path)
            self.modules[path] = Module(file, path, code((TOP / file).read_text()), here, name)

    def defined_in(self, path):
        """The module in whose file is what `path` names, by whatever it was exported again."""
        for _ in range(8):
            length = max(n for n in range(len(path) + 1) if tuple(path[:n]) in self.modules)
            module = self.modules[tuple(path[:length])]
            again = module.used.get(path[length]) if length < len(path) else None
            if again is None or again == path:
                return module
            path = again + path[length + 1:]
        return module

    def imports(self):
        """(importer, imported, line) of each path that leads into another file."""
        for module in self.modules.values():
            for path, line in module.paths:
                target = self.defined_in(path)
                if target is not module:
                    yield module, target, line


def circles(edges):
    """Sets of those that reach each other, of pairs (from, to)."""
    after = {}
    for a, b in edges:
        after.setdefault(a, set()).add(b)

    def reached(start):
        seen, todo = set(), [start]
        while todo:
            for b in after.get(todo.pop(), ()):
                if b not in seen:
                    seen.add(b)
                    todo.append(b)
        return seen
    reach = {a: reached(a) for a in after}
    return sorted({frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in after if a in reach[a]}, key=sorted)
