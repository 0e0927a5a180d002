# SPDX-License-Identifier: GPL-2.0
"""Images that try to hurt: a writer that knows each field of the format by its name and place, what is
done to those fields, and an independent reader that says what is right for each image.

    PYTHONPATH=qemu-tests python3 -m corpus DIRECTORY [PUZZLEFS]

writes them, and prints how many they are. The same code gives the same images."""
