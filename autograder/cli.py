"""The command line: release · grade · strength · mutants · stability · doctor · redteam · demo.

The one place that prints and that decides an exit status: 0 done (whatever the score), 1 something stayed ungraded or a
check failed, 2 bad arguments or an unreadable course.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from autograder.errors import AutograderError

LEVELS = ("none", "partial", "full")
FORMATS = ("text", "json", "junit", "gradescope", "markdown")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status."""
    # One thread each: many graders share a machine, and a fork after two threads of torch can hang.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    options = _parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except AutograderError as error:
        from autograder.render.clean import clean, inert  # its text may name what a student handed in

        print(inert(clean(f"autograder: {error}")), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("autograder: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="autograder", description="Grades notebooks of the course.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    grade = commands.add_parser("grade", help="grade notebooks, folders student/assignment/*.ipynb, or zips of either")
    grade.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    grade.add_argument("--assignment", help="may be left out where the notebook's name tells")
    grade.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    grade.add_argument("--jobs", type=_positive, default=1, metavar="N", help="so many submissions at a time")
    grade.add_argument("--cluster", metavar="ADDRESS", help="grade on a Dask cluster")
    grade.add_argument("--format", choices=FORMATS, default="text")
    grade.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the terminal")
    grade.add_argument("--isolation", choices=LEVELS, default="partial", help="the least isolation accepted")
    grade.add_argument("--seed", type=int, default=0, metavar="N")
    grade.add_argument("--call-seconds", type=float, default=10.0, metavar="S", help="for one call of a student's code")
    grade.set_defaults(run=_grade)

    release = commands.add_parser("release", help="make assignments/ from solutions/")
    release.add_argument("names", nargs="*", metavar="ASSIGNMENT")
    release.add_argument("--check", action="store_true", help="change nothing; fail where assignments/ is out of date")
    release.set_defaults(run=_release)

    strength = commands.add_parser("strength", help="test the tests: wrong answers lose, right ones do not")
    _proof(strength, "only these tasks, misconceptions or variants")
    strength.set_defaults(run=_strength)

    mutants = commands.add_parser("mutants", help="test the tests with every small change to the references")
    _proof(mutants, "only these tasks")
    mutants.set_defaults(run=_mutants)

    stability = commands.add_parser("stability", help="right answers keep their points, whatever the seed")
    _proof(stability)
    stability.add_argument("--seeds", type=_positive, default=200, metavar="N")
    stability.set_defaults(run=_stability)

    doctor = commands.add_parser("doctor", help="what this machine offers for confining student code")
    doctor.set_defaults(run=_doctor)

    redteam = commands.add_parser("redteam", help="attack the confinement with a class of hostile submissions")
    redteam.add_argument("assignment", nargs="?", help="attack the grading of this one; left out: a tiny one, quickly")
    redteam.add_argument("--isolation", choices=LEVELS, default="partial", help="the least isolation accepted")
    redteam.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these attacks")
    redteam.set_defaults(run=_redteam)

    demo = commands.add_parser("demo", help="grade a made-up class through nbgrader, in build/demo/")
    demo.set_defaults(run=_demo)
    return parser


def _proof(parser: argparse.ArgumentParser, only: str = "") -> None:
    """What the commands that test the tests have in common."""
    parser.add_argument("assignment", nargs="?", help="or all")
    if only:
        parser.add_argument("only", nargs="*", metavar="NAME", help=only)
    parser.add_argument("--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first, where there are several")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/strength.json and README.md")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"must be 1 or more (got {number})"
        raise argparse.ArgumentTypeError(message)
    return number


def _grade(options: argparse.Namespace) -> int:
    from autograder import batch

    return batch.grade(options)


def _release(options: argparse.Namespace) -> int:
    from autograder import release
    from autograder.assignment import assignments, find_solutions

    solutions = find_solutions(Path.cwd())
    names = options.names or assignments(solutions)
    if options.check:
        drift = release.check(solutions.parent, names)
        for line in drift:
            print(line, file=sys.stderr)
        print("assignments/ is up to date." if not drift else "Run `autograder release` and commit the result.")
        return int(bool(drift))
    for name in names:
        print(f"{name}: {release.release(solutions.parent, name)}")
    return 0


def _strength(options: argparse.Namespace) -> int:
    from autograder import proving

    return proving.run_strength(options)


def _mutants(options: argparse.Namespace) -> int:
    from autograder import proving

    return proving.run_mutants(options)


def _stability(options: argparse.Namespace) -> int:
    from autograder import proving

    return proving.run_stability(options)


def _doctor(options: argparse.Namespace) -> int:
    del options
    from autograder import doctor

    return doctor.main()


def _redteam(options: argparse.Namespace) -> int:
    from autograder import redteam
    from autograder.assignment import find_solutions

    solutions = find_solutions(Path.cwd())
    result = redteam.run(
        solutions, options.assignment, isolation=options.isolation, only=options.only, progress=sys.stderr.isatty()
    )
    print(redteam.rendered(result))
    return int(bool(result.faults))


def _demo(options: argparse.Namespace) -> int:
    del options
    from autograder import demo

    return demo.run(Path.cwd())
