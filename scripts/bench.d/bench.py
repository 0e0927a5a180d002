# SPDX-License-Identifier: GPL-2.0
"""The driver of `make bench`, in the build root: makes the images, has guest.py measure
them in one virtual machine a run, prints the table and saves what docs/ shows."""

import argparse

import floor
import fuse
import images
import native
import profiles
import report
import save
import systems
from measure import COUNTED, NATIVE, bare_values, machine, plan, values
from rows import ROWS, WALKS


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(
        "Measures PuzzleFS beside its peers, in instructions (virtual time). Without --only and "
        "--rows: everything, and what docs/ shows is written anew."))
    parser.add_argument("--only", metavar="NAME,...", help=f"these systems: {', '.join(systems.SYSTEMS)}")
    parser.add_argument("--rows", metavar="ROW,...", help=f"these rows: {', '.join(ROWS)}")
    parser.add_argument("--runs", metavar="N", type=int, default=1,
                        help="runs, each in a new machine; says by how much they differ")
    parser.add_argument("--perf", metavar="ROW", choices=[row.name for row in WALKS],
                        help="where the time of a row goes, by function (perf in the machine)")
    parser.add_argument("--native", action="store_true",
                        help="in real time, in user-mode Linux; without --only and --rows: the ratios of the "
                             "read rows beside those that docs/bench.json has")
    parser.add_argument("--profiles", action="store_true",
                        help="what the profiles were chosen from; writes what docs/profiles.md shows")
    parser.add_argument("--fuse", action="store_true",
                        help="the module beside FUSE, ours and upstream's; writes docs/bench-fuse.json")
    options = parser.parse_args()
    if options.fuse and (options.only or options.rows or options.perf or options.native or options.profiles):
        parser.error("--fuse says itself what is measured")
    if options.profiles and (options.only or options.rows or options.perf or options.native):
        parser.error("--profiles says itself what is measured")
    if options.native and options.perf:
        parser.error("there is no perf in user-mode Linux")

    def chosen(text, known, by_default, what):
        names = text.split(",") if text else list(by_default)
        for name in names:
            if name not in known:
                parser.error(f"there is no {what} '{name}'; there are: {', '.join(known)}")
        return [known[name] for name in names]

    if options.profiles:
        options.systems, options.chosen = profiles.SHOWN, profiles.MEASURED
        return options
    if options.fuse:
        options.systems, options.chosen = fuse.SHOWN, fuse.MEASURED
        return options
    options.systems = chosen(options.only, systems.SYSTEMS, systems.BY_DEFAULT, "system")
    options.chosen = chosen(options.perf or options.rows, ROWS, ROWS, "row")
    return options


def everything(options, built):
    """All systems and rows: prints the tables, saves what docs/ shows."""
    walks = [machine(plan(options.systems, options.chosen, built, bare="stock"), COUNTED)
             for _ in range(options.runs)]
    tar = floor.tar()
    floors = {
        **bare_values(walks[0]),
        "bytes_read": max(w["read-cold"]["bytes"] for w in walks[0].values() if "read-cold" in w),
        "tar_cpu": tar["cpu"], "tar_peak": tar["peak"],
        "hashed": {s.name: built[s.name]["hashed"] for s in systems.OURS},
    }
    runs = [values(results, built) for results in walks]
    report.measured(options.systems, options.chosen, runs[0])
    stands = {s.name: report.targets(s, options.systems, runs[0], floors) for s in systems.OURS}
    for system in systems.OURS:
        report.print_targets(system, runs[0], stands[system.name])
    save.save(options.systems, runs, floors, stands)
    return runs


def main():
    options = arguments()
    part = options.only or options.rows or options.perf or options.profiles or options.fuse
    if options.native and not part:
        native.everything(options.runs)
        return
    built = {s.name: images.build(s) for s in options.systems}
    if part:
        work = plan(options.systems, options.chosen, built, perf=options.perf)
        runs = [values(machine(work, NATIVE if options.native else COUNTED), built) for _ in range(options.runs)]
        report.measured(options.systems, options.chosen, runs[0])
        if options.profiles:
            profiles.write(runs[0])
        if options.fuse:
            fuse.write(runs[0])
    else:
        runs = everything(options, built)
    if options.runs > 1:
        print(f"\n{options.runs} runs differ most in:")
        for part, where in report.differences(runs)[:5]:
            print(f"{part:.1%}  {where}")


if __name__ == "__main__":
    main()
