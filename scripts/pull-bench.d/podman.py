# SPDX-License-Identifier: GPL-2.0
"""Ordinary images as zstd:chunked, by podman: files that a node has in other layers are not fetched."""

import os
import subprocess


class Podman:
    """With a storage of its own in the directory `place`, where pulls are partial."""

    def __init__(self, place):
        self.storage = f"{place}/storage"
        os.makedirs(place, exist_ok=True)
        config = f"{place}/storage.conf"
        with open(config, "w") as f:
            f.write(f'[storage]\ndriver = "overlay"\ngraphroot = "{self.storage}"\nrunroot = "{place}/run"\n'
                    '[storage.options]\npull_options = {enable_partial_images = "true", use_hard_links = "true"}\n')
        self.env = {**os.environ, "CONTAINERS_STORAGE_CONF": config, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}

    def __call__(self, *command):
        done = subprocess.run(["podman", *map(str, command)], check=True, stdout=subprocess.PIPE, text=True, env=self.env)
        return done.stdout.strip()

    def push(self, layout, tag, to):
        """Compresses an image of a layout anew, and pushes it."""
        image = self("pull", "-q", f"oci:{layout}:{tag}")
        self("push", "-q", "--tls-verify=false", "--compression-format", "zstd:chunked", "--force-compression", image, to)

    def pull(self, reference):
        """Gives the image, of which a mount is at hand."""
        return self("pull", "-q", "--tls-verify=false", reference)

    def end(self):
        """podman mounts its storage onto itself."""
        for directory in f"{self.storage}/overlay", self.storage:
            subprocess.run(["umount", "--lazy", directory], stderr=subprocess.DEVNULL)
