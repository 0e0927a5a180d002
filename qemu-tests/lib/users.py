# SPDX-License-Identifier: GPL-2.0
"""Asks something as another user, in a process of his own."""

import errno
import os
import pickle
from typing import NamedTuple


class User(NamedTuple):
    """Whom a process acts for; root keeps its capabilities, all others have none."""

    name: str
    uid: int
    gid: int
    groups: tuple = ()

    def become(self):
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


def as_user(user, function, *arguments):
    """What `function` returns there, or the name of the errno that it fails with."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            user.become()
            try:
                answer = function(*arguments)
            except OSError as error:
                answer = errno.errorcode[error.errno]
            with os.fdopen(writer, "wb") as f:
                pickle.dump(answer, f)
            status = 0
        finally:  # whatever it is, the caller's code must not go on here too
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as f:
        answer = f.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise RuntimeError(f"{function.__name__} as {user.name} ended with {status}")
    return pickle.loads(answer)
