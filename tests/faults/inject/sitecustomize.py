"""Faults for a process that the tests start: Python imports this by its name, from PYTHONPATH.

FAULT_FOLDER   the folder whose files count
FAULT          "<what> <n> <pattern>": at the n-th event that matches, die (KILL), hear signals
               (TERM, INT; "TERM,TERM" is two of them, half a second between), or from then on
               be refused by the system (ENOSPC, EROFS, ...)
               A pattern that begins with "import " is of imports alone: "import jax$"
FAULT_EVENTS   a file that each event is written to, as "<event> <path in the folder>"
"""

import errno
import os
import re
import signal
import sys
import time

FOLDER = os.environ.get("FAULT_FOLDER")
WRITING = os.O_WRONLY | os.O_RDWR
NAMING = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")


class _Faults:
    def __init__(self, folder, fault, events):
        self.folder = os.path.abspath(folder) + os.sep
        self.what, count, pattern = fault.split(" ", 2)
        self.left, self.pattern = int(count), re.compile(pattern)
        self.of_imports = pattern.startswith("import ")
        self.events = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if events else None

    def tell(self, event, path):
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        path = os.path.abspath(path)
        if not path.startswith(self.folder):
            return
        line = f"{event} {path.removeprefix(self.folder)}"
        if self.events is not None:
            os.write(self.events, f"{line}\n".encode())
        if self.pattern.search(line):
            self.left -= 1
            self.happen(path)

    def happen(self, path):
        code = getattr(errno, self.what, None)
        if code is not None and self.left <= 0:
            raise OSError(code, os.strerror(code), path)
        if code is None and self.left == 0:
            for name in self.what.split(","):
                os.kill(os.getpid(), getattr(signal, f"SIG{name}"))
                time.sleep(0.5 * self.what.count(","))

    def hear(self, event, args):
        if event == "open" and isinstance(args[0], (str, bytes)):
            self.tell("write" if (args[2] or 0) & WRITING else "read", args[0])
        elif event == "import":  # no event for other patterns, nor for FAULT_EVENTS
            if self.of_imports and self.pattern.search(f"import {args[0]}"):
                self.left -= 1
                self.happen(args[0])
        elif event in NAMING and os.path.isabs(args[0]):  # else in a folder known otherwise
            self.tell(event.removeprefix("os."), args[0])


if FOLDER:
    faults = _Faults(FOLDER, os.environ["FAULT"], os.environ.get("FAULT_EVENTS"))
    sys.addaudithook(faults.hear)
    fsync = os.fsync

    def told(descriptor):
        fsync(descriptor)
        faults.tell("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))

    os.fsync = told
