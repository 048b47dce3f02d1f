"""
Would a test notice? ``python -m tests.mutation`` changes one thing at a time and looks.

Every comparison, boolean operator, ``not``, arithmetic operator, number and truth value of a module
is changed in turn, and every statement that does something is left out. The module's tests run
against each such mutant, in a forked process of its own; one that no test notices survives.
``mutation.toml`` lists the survivors that may, with reasons; any other is a fault.
"""

from __future__ import annotations

import ast
import copy
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
EXCEPTIONS = Path(__file__).with_suffix(".toml")
SECONDS = 60
JOBS = 2

SUBJECTS = {
    "providers/registry/breaker.py": ("tests/providers/registry/test_breaker.py",),
}

_OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: where, what it was and what it is now, and the changed source."""

    path: str
    line: int
    was: str
    now: str
    source: str

    @property
    def name(self) -> str:
        """What it is called in ``mutation.toml``: no line number, which would not last."""
        return f"{Path(self.path).name}: {self.was} -> {self.now}"


def mutants(path: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for number, node in enumerate(ast.walk(tree)):
        for change in range(_changes(node)):
            changed = copy.deepcopy(tree)
            place = list(ast.walk(changed))[number]
            was = ast.unparse(place)
            now = _change(changed, place, change)
            yield Mutant(path, getattr(node, "lineno", 0), was, now, ast.unparse(changed))


def _changes(node: ast.AST) -> int:
    match node:
        case ast.Compare(ops=ops):
            return len(ops) if all(type(one) in _OTHER for one in ops) else 0
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not()) | ast.If():
            return 1
        case ast.BinOp(op=op):
            return int(type(op) in _OTHER)
        case ast.Constant(value=bool() | int() | float()):
            return 1
        case ast.Expr(value=ast.Call()) | ast.Assign() | ast.AugAssign():
            return int(getattr(node, "col_offset", 0) >= 8)  # inside a method
        case _:
            return 0


def _change(tree: ast.AST, node: ast.AST, number: int) -> str:
    match node:
        case ast.Compare():
            node.ops[number] = _OTHER[type(node.ops[number])]()  # type: ignore[assignment]
        case ast.BoolOp() | ast.BinOp():
            node.op = _OTHER[type(node.op)]()  # type: ignore[assignment]
        case ast.UnaryOp(operand=operand):
            return _replace(tree, node, operand)
        case ast.If():
            node.test = ast.UnaryOp(ast.Not(), node.test)
            return f"if {ast.unparse(node.test)}"
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=value):
            node.value = value + 1  # type: ignore[operator]
        case _:
            return _replace(tree, node, ast.Pass())
    return ast.unparse(node)


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> str:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list) and old in value:
                value[value.index(old)] = new
    return ast.unparse(new)


class _Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another source."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, self.name, "exec"), module.__dict__)


def _try(mutant: Mutant, tests: Sequence[str]) -> int:
    """Start a process that runs the tests against a mutant; return its id."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    name = "purveyor." + mutant.path.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, _Loader(name, mutant.source))
    import pytest

    code = 2
    try:
        code = int(pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(code)


def survivors(path: str, tests: Sequence[str]) -> tuple[list[Mutant], int]:
    """Return the mutants of a module that no test notices, and how many there are in all."""
    waiting = list(mutants(path))
    total = len(waiting)
    source = (ROOT / path).read_text(encoding="utf-8")
    _, status = os.waitpid(_try(Mutant(path, 0, "", "", source), tests), 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{path}: its tests fail as it is; mend them first")
    running: dict[int, tuple[Mutant, float]] = {}
    survived: list[Mutant] = []
    while waiting or running:
        while waiting and len(running) < JOBS:
            mutant = waiting.pop()
            running[_try(mutant, tests)] = (mutant, time.monotonic())
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            mutant, _ = running.pop(pid)
            if os.waitstatus_to_exitcode(status) == 0:
                survived.append(mutant)
            continue
        for pid, (_, started) in running.items():
            if time.monotonic() - started > SECONDS:  # it hangs, which would be noticed
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.01)
    return survived, total


def main(paths: Sequence[str]) -> int:
    """Print the score of each module; return 1 if a survivor is not excepted."""
    import pydantic_settings  # noqa: F401  # what all mutants need, imported once
    import pytest  # noqa: F401

    exceptions = tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8"))
    faults = 0
    for path in paths or SUBJECTS:
        survived, total = survivors(path, SUBJECTS[path])
        print(f"{path}: {total - len(survived)} of {total} mutants noticed")
        for mutant in sorted(survived, key=lambda one: one.line):
            reason = exceptions.get(mutant.name)
            faults += reason is None
            print(f"  {path}:{mutant.line}: {mutant.was} -> {mutant.now}: {reason or 'FAULT'}")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
