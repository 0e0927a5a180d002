# SPDX-License-Identifier: GPL-2.0
"""Runs cases: those of qemu-tests/host/ here, those of qemu-tests/cases/ in virtual
machines (unless they need the host: they boot their own). A case says in its head what
it needs:

    # needs: images NAME...; memory SIZE; cpus N; scratch SIZE; append PARAMETER...; kernel NAME; also NAME; host

PUZZLEFS_KERNEL names the kernel of scripts/kernel.d that the machines boot, `stock` if it is
not set. A case that needs another one is skipped, which is not passed. With another kernel
than the stock one, what needs no machine of ours is left to a run with that. A run with the
stock kernel has also the cases that say `also NAME`, in that kernel.

Booting costs more than most cases, so cases that need the same machine share one boot,
the module loaded anew for each (qemu-tests/lib/guest). What a case leaves broken is its
own failure; when the machine dies, the cases that had not begun get another one.

Two things run at once where there are two processors (PUZZLEFS_LANES=1: one): one lane has the cases that run
here, and then machines, as the other lane has them from the beginning. So no two cases that run here meet."""

import concurrent.futures
import fcntl
import hashlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

TOP = pathlib.Path(os.environ["PUZZLEFS_TOP"])
CACHE = pathlib.Path(os.environ["PUZZLEFS_CACHE"])
# The results and images of one checkout replace each other; two do not disturb each other.
CHECKOUT = hashlib.sha256(bytes(TOP)).hexdigest()[:12]
RESULTS = CACHE / f"log/qemu-tests-{CHECKOUT}"
IMAGES = CACHE / f"images-{CHECKOUT}"
HOST_ENV = os.environ | {"PUZZLEFS_IMAGES": str(IMAGES), "PYTHONDONTWRITEBYTECODE": "1",
                         "PYTHONPATH": str(TOP / "qemu-tests/lib")}
KERNEL = os.environ.get("PUZZLEFS_KERNEL") or "stock"
# `all`: cases of the corpus take all images, and those of deaths all of these; not a sample.
CORPUS = os.environ.get("PUZZLEFS_CORPUS", "")
# Seconds for a case, and for all that share a machine: of the stock kernel, and of others.
TIMEOUTS = {True: (1500, 3600), False: (3600, 14400)}
MACHINE = ("memory", "cpus", "scratch", "append")
LANES = int(os.environ.get("PUZZLEFS_LANES") or min(2, len(os.sched_getaffinity(0))))
# More cases than these are shared out to the machines of several lanes.
SHARED_BOOT = 6
# What one case has to say is printed without another's words in between.
PRINTING = threading.Lock()


class Case:
    def __init__(self, path, kernel=KERNEL):
        self.path, self.name, self.kernel = path, path.stem, kernel
        self.results = RESULTS if kernel == KERNEL else RESULTS / kernel
        self.log = self.results / f"{self.name}.log"
        self.status = self.results / f"{self.name}.status"
        line = re.search(r"^# needs: (.*)$", path.read_text(), re.M)
        words = [need.split() for need in line.group(1).split(";")] if line else []
        self.needs = {key: values for key, *values in words}
        for old in self.log, self.status:
            old.unlink(missing_ok=True)

    def runs(self):
        """Whether this run can have it; says why not."""
        if "host" in self.needs:
            return KERNEL == "stock"
        kernel = self.needs.get("kernel", [KERNEL])[0]
        if kernel != KERNEL and kernel not in self.others():
            print(f"SKIP  {self.name}  needs the kernel '{kernel}': make {kernel}", flush=True)
        return kernel == KERNEL

    def others(self):
        """The kernels that a run with the stock one has it in, too."""
        return self.needs.get("also", []) if KERNEL == "stock" else []

    def machine(self):
        return [w for key in MACHINE if key in self.needs for w in (f"--{key}", " ".join(self.needs[key]))]

    def report(self):
        """Prints the outcome, and the log of a failure; true when it passed."""
        status, seconds = (self.status.read_text().split() if self.status.exists() else ("not run", "0"))
        passed = status == "0"
        where = "" if self.kernel == KERNEL else f" ({self.kernel})"
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        # Of a case that passed, its last word: how much it compared, say.
        lines = lines[-1:] if passed else lines[-40:] + [f"status {status}; log: {self.log}"]
        with PRINTING:
            print(f"{'PASS' if passed else 'FAIL'}  {self.name}{where}  {seconds} s")
            print("".join(f"        {line}\n" for line in lines), end="", flush=True)
        return passed


def run_here(case):
    start = time.monotonic()
    with case.log.open("wb") as log:
        status = subprocess.run([case.path], stdin=subprocess.DEVNULL, stdout=log,
                                stderr=subprocess.STDOUT, cwd=TOP, env=HOST_ENV).returncode
    case.status.write_text(f"{status} {time.monotonic() - start:.0f}\n")
    return case.report()


def make_images(names):
    """An image that cannot be made fails the cases that need it, not the run."""
    for name in sorted(names):
        subprocess.run([TOP / "qemu-tests/image", name, IMAGES])


def run_in_machines(cases, kernel, machine):
    """Runs cases that need the same machine; gives for each whether it passed."""
    outcomes = []
    case_timeout, vm_timeout = TIMEOUTS[kernel == "stock" and not CORPUS]
    while cases:
        results = cases[0].results
        console = results / f"{cases[0].name}.console"
        vm = subprocess.Popen(
            [TOP / "scripts/vm", "--kernel", kernel, *machine, "--", "env", f"PUZZLEFS_IMAGES={IMAGES}",
             f"PUZZLEFS_CASE_TIMEOUT={case_timeout}", f"PUZZLEFS_CORPUS={CORPUS}",
             TOP / "qemu-tests/lib/guest", results, *(case.path for case in cases)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PUZZLEFS_VM_TIMEOUT": str(vm_timeout)} | os.environ | {"PUZZLEFS_CONSOLE": str(console)})
        waiting, passed = list(cases), []
        for line in vm.stdout:  # one for each case that ended
            if waiting and line.split()[:2] == [b"ended", waiting[0].name.encode()]:
                passed.append(waiting.pop(0).report())
            else:
                with PRINTING:
                    print("        " + line.decode(errors="replace"), end="", flush=True)
        status = vm.wait()
        if waiting:  # the first of them took the machine down
            with waiting[0].log.open("a") as log:
                log.write(f"the machine ended with status {status}; console: {console}\n")
            passed.append(waiting.pop(0).report())
        elif status and all(passed):
            print(f"FAIL  machine: status {status} after its last case; console: {console}", flush=True)
            passed.append(False)
        outcomes += passed
        cases = waiting
    return outcomes


def machine_jobs(machines):
    """The cases of each machine, those of which there are many in a part for each lane; the longest come first."""
    jobs = []
    for (kernel, machine), cases in machines.items():
        parts = LANES if len(cases) > SHARED_BOOT else 1
        jobs += [(cases[part::parts], kernel, machine) for part in range(parts)]
    return jobs if LANES == 1 else sorted(jobs, key=lambda job: -len(job[0]))


def run(here, jobs):
    """Runs all cases in lanes; gives for each whether it passed. A lane that breaks off breaks off the run."""
    here, passed, taking = list(here), [], threading.Lock()

    def lane(takes_here):
        while True:
            with taking:
                if takes_here and here:
                    step, arguments = lambda case: [run_here(case)], (here.pop(0),)
                elif jobs:
                    step, arguments = run_in_machines, jobs.pop(0)
                else:
                    return
            passed.extend(step(*arguments))

    with concurrent.futures.ThreadPoolExecutor(LANES) as lanes:
        for ended in [lanes.submit(lane, number == 0) for number in range(LANES)]:
            ended.result()
    return passed


def main(arguments):
    # A shell without job control has those that it starts in the background ignore it, and whom they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    host_only = "--host" in arguments
    prefixes = tuple(a for a in arguments if a != "--host") or ("",)
    RESULTS.mkdir(parents=True, exist_ok=True)
    lock = (RESULTS / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # one run of a checkout at a time

    def chosen(folder):
        found = [Case(p) for p in sorted((TOP / "qemu-tests" / folder).iterdir())
                 if p.name.startswith(prefixes)]
        others = [Case(case.path, kernel) for case in found for kernel in case.others()]
        return [case for case in found if case.runs()] + others

    here, machines = chosen("host") if KERNEL == "stock" else [], {}
    for case in [] if host_only else chosen("cases"):
        if "host" in case.needs:
            here.append(case)
        else:
            machines.setdefault((case.kernel, tuple(case.machine())), []).append(case)
    for kernel in sorted({kernel for kernel, _ in machines} - {KERNEL}):
        # A module that cannot be built fails the cases that need it.
        (RESULTS / kernel).mkdir(exist_ok=True)
        subprocess.run([TOP / "scripts/build-kmod", "--kernel", kernel])
    everything = here + [case for cases in machines.values() for case in cases]
    make_images({name for case in everything for name in case.needs.get("images", [])})

    passed = run(here, machine_jobs(machines))
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    sys.exit(not passed or not all(passed))


main(sys.argv[1:])
