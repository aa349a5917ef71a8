"""The project's tasks, each in a virtual environment of its own with the versions of constraints.txt."""

from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]

CONSTRAINTS = ("-c", "constraints.txt")


@nox.session
def fit(session: nox.Session) -> None:
    """Train recipes/quickstart.yaml; ends by naming the folder it left and the figures in it."""
    session.install(*CONSTRAINTS, ".")
    session.run("hamr-fit", "--recipe", "recipes/quickstart.yaml", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole test suite."""
    session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("pytest", *(session.posargs or ["-n", "2"]))


@nox.session
def triton(session: nox.Session) -> None:
    """Check the Triton kernels without a GPU: by Triton's interpreter, and by compiling them for an H100."""
    session.install(*CONSTRAINTS, "-e", ".[test]", "triton>=3.6")
    tests = session.posargs or sorted(str(path) for path in Path("tests").rglob("test_*_triton.py"))
    session.run("pytest", "-n", "2", *tests, env={"TRITON_INTERPRET": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install(*CONSTRAINTS, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check type annotations."""
    session.install(*CONSTRAINTS, "-e", ".[test]", "mypy", "types-PyYAML")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Time every part beside its peers and print one table; see benchmarks/README.md."""
    session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("python", "-m", "benchmarks", *session.posargs)
