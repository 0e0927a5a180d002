# SPDX-License-Identifier: GPL-2.0
"""rust-project.py TOP OBJECTS ROOT: adds our crates to OBJECTS/rust-project.json.

The kernel's generator looks for a crate's object in the Kbuild file beside the crate;
ours has one Kbuild for three crates, so it finds the kernel's crates only. Paths in the
build root, where the standard library lies, are turned into paths of this machine."""

import json
import pathlib
import sys

top, objects, root = map(pathlib.Path, sys.argv[1:])
# Crate, its root, what it uses: as Kbuild has it.
CRATES = (
    ("puzzlefs_format", "schema/puzzlefs_format.rs", ["core"]),
    ("vfs", "kmod/vfs/vfs.rs", ["core", "kernel", "pin_init"]),
    ("puzzlefs", "kmod/puzzlefs.rs", ["core", "kernel", "pin_init", "puzzlefs_format", "vfs"]),
)

project = json.loads((objects / "rust-project.json").read_text())
crates = project["crates"]
index = {crate["display_name"]: i for i, crate in enumerate(crates)}
kernel = crates[index["kernel"]]
for name, path, uses in CRATES:
    if not (top / path).exists():
        sys.exit(f"{path} is missing: CRATES in {sys.argv[0]} is not what Kbuild has")
    index[name] = len(crates)
    crates.append({
        "display_name": name,
        "root_module": str(top / path),
        "is_workspace_member": True,
        "is_proc_macro": False,
        "edition": "2021",
        "deps": [{"crate": index[used], "name": used} for used in uses],
        "cfg": kernel["cfg"] + ["MODULE"],
        "env": {**kernel["env"], "RUST_MODFILE": "for rust-analyzer only",
                "VFS_BINDINGS": str(objects / "kmod/vfs/bindings_generated.rs")},
    })

project["sysroot"] = f"{root}{project['sysroot']}"
text = json.dumps(project, indent=1)
print(text.replace('"/usr/', f'"{root}/usr/'))
