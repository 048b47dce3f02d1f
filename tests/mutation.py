"""
Which changes of the engine no test notices: ``python -m tests.mutation [MODULE...]``.

Each mutant is one small change of one function. The tests are collected once; then a process is
forked for each mutant, the function gets the changed code, and the tests that call it are run
until one fails. docs/mutation.md says more.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import functools
import importlib
import inspect
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, Literal

import pytest

FOLDER = Path("providers", "registry")
PACKAGE = "purveyor.providers.registry"
ACCEPTED = Path(__file__).with_suffix(".toml")
_REGISTRY = [
    *("registry", "registry_model", "lookup", "lifecycle", "reload", "checking", "declaring"),
    *("discovery", "events", "failover", "guard_breaker", "seeing"),
]
TESTS = {
    "breaker": ["breaker", "breaker_model", "guard_breaker"],
    "registering": _REGISTRY,
    "registry": _REGISTRY,
}
"""The test files that belong to a module. Those of threads are left out: luck is no verdict."""
LEFT_OUT = ("month", "grow", "memory", "imports", "interlock", "thousand", "hundred")
"""Words in the names of tests that measure, or repeat what others prove: slow, and no use here."""
AT_ONCE = 2
TRIES = 3
"""How often a mutant that is known to survive is tried before it counts as noticed."""
SECONDS = 10.0
"""What a test may take, and all of them, beyond three times the usual; then it hangs."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Outcome = Literal["noticed", "hung", "survived", "died"]


# -- making mutants ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Mutant:
    """One change of one function: another ``node`` in a field of ``parent``."""

    module: str
    function: str
    line: int
    change: str
    tree: ast.Module
    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is called in mutation.toml, wherever its line may move to."""
        return self.module, self.function, self.change

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line} {self.function}: {self.change}"

    def put_in_force(self) -> None:
        """Give the function its code, wherever it is already known; there is no way back."""
        if self.index is None:
            setattr(self.parent, self.field, self.node)
        else:
            getattr(self.parent, self.field)[self.index] = self.node
        function = function_of(self.module, self.function)
        ast.fix_missing_locations(self.tree)
        code = compile(self.tree, function.__code__.co_filename, "exec")
        for part in self.function.split("."):
            (code,) = [
                one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == part
            ]
        function.__code__ = code


def function_of(module: str, name: str) -> FunctionType:
    """Return the function proper, whatever wraps it."""
    found: Any = importlib.import_module(f"{PACKAGE}.{module}")
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    if isinstance(found, property):
        found = found.fget
    found = inspect.unwrap(getattr(found, "__func__", found))
    assert isinstance(found, FunctionType)
    return found


def mutants(module: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))
    found: list[Mutant] = []
    for name, function in functions(tree):
        seen: Counter[str] = Counter()
        for parent, field, index in places(function):
            node = getattr(parent, field)
            node = node if index is None else node[index]
            for other in changes(node):
                change = f"{told(node)}  ->  {told(other)}"
                seen[change] += 1
                if seen[change] > 1:
                    change += f"  (no. {seen[change]})"
                found.append(
                    Mutant(module, name, node.lineno, change, tree, parent, field, index, other)
                )
    return sorted(found, key=lambda one: one.line)


def functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Yield the functions of a module and the methods of its classes, by qualified name."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, Function):
                    yield f"{node.name}.{method.name}", method


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Yield where the nodes of a function's body hang: parent, field, index."""
    for field, value in ast.iter_fields(node):
        if field in ("decorator_list", "args", "returns", "annotation") and isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.AnnAssign, ast.Lambda)
        ):
            continue
        for index, one in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(one, ast.AST):
                yield node, field, index
                yield from places(one)


_COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_COMMUTATIVE = {"min", "max", "getattr"}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a node could be instead."""
    match node:
        case ast.Compare(left, operators, comparators):
            for place, operator in enumerate(operators):
                for other in _COMPARISONS[type(operator)]:
                    ops = [*operators[:place], other(), *operators[place + 1 :]]
                    yield ast.Compare(left, ops, comparators)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            for place in range(len(values)):
                left = [*values[:place], *values[place + 1 :]]
                yield ast.BoolOp(operator, left) if len(left) > 1 else left[0]
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.BinOp(left, operator, right) if type(operator) in _ARITHMETIC:
            yield ast.BinOp(left, _ARITHMETIC[type(operator)](), right)
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Call(called, args, keywords):
            free = isinstance(called, ast.Name) and called.id in _COMMUTATIVE
            starred = any(isinstance(one, ast.Starred) for one in args)
            for place in range(0 if free or starred else len(args) - 1):
                first, second = args[place : place + 2]
                yield ast.Call(called, [*args[:place], second, first, *args[place + 2 :]], keywords)
        case ast.If(test) | ast.While(test) | ast.IfExp(test):
            if not isinstance(test, (ast.Compare, ast.UnaryOp)):
                other = copy.copy(node)
                other.test = ast.UnaryOp(ast.Not(), test)
                yield other
        case ast.Return(ast.Constant(None)):
            pass
        case ast.Return(ast.AST()):
            yield ast.Return(ast.Constant(None))
        case ast.stmt() if _is_removable(node):
            # Not taken out: a name that only this statement uses must stay one of the function's.
            yield ast.If(ast.Constant(False), [node], [])


def _is_removable(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value):
            return not isinstance(value, (ast.Constant, ast.Yield))
        case ast.Assign(targets):  # a local name that was never set would be noticed anyhow
            return not all(isinstance(one, ast.Name) for one in targets)
    return isinstance(
        node, (ast.AugAssign, ast.Delete, ast.Raise, ast.Return, ast.Continue, ast.Break)
    )


def told(node: ast.AST) -> str:
    """Return a node as one line of code; of a statement with a body its head."""
    match node:
        case ast.If(ast.Constant()):
            return "nothing"
        case ast.If(test):
            return f"if {ast.unparse(test)}"
        case ast.While(test):
            return f"while {ast.unparse(test)}"
    return " ".join(ast.unparse(node).split())


# -- running tests -----------------------------------------------------------------------

_FORK = multiprocessing.get_context("fork")


class Job:
    """Some work in a process of its own, for ``limit`` seconds at most."""

    def __init__(self, work: Callable[[], Any], limit: float) -> None:
        self.until = time.monotonic() + limit
        self.pipe, theirs = _FORK.Pipe(duplex=False)
        self._process = _FORK.Process(target=self._run, args=(work, theirs))
        self._process.start()
        theirs.close()

    @staticmethod
    def _run(work: Callable[[], Any], pipe: multiprocessing.connection.Connection) -> None:
        os.setsid()  # so that what it starts ends with it
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        pipe.send(work())

    def is_over(self) -> bool:
        """Tell whether it has answered, died, or had its time."""
        return self.pipe.poll() or self.until <= time.monotonic()

    def end(self) -> Any:
        """Return its answer, None where there is none; nothing of it is left."""
        try:
            answer = self.pipe.recv() if self.pipe.poll() else None
        except EOFError:
            answer = None
        self.pipe.close()
        assert self._process.pid is not None  # it was started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()
        return answer


def wait_for(jobs: Sequence[Job]) -> list[Job]:
    """Wait until a job is over; return all that are."""
    left = min(job.until for job in jobs) - time.monotonic()
    multiprocessing.connection.wait([job.pipe for job in jobs], max(0.0, left))
    return [job for job in jobs if job.is_over()]


class Runner:
    """A pytest plugin that runs the collected tests once for each mutant, in a process each."""

    def __init__(
        self,
        wanted: Sequence[Mutant],
        known: Collection[tuple[str, str, str]],
        tell: Callable[[Mutant, Outcome, str], None],
    ) -> None:
        self.wanted = wanted
        self.known = known
        self.tell = tell
        self.fault = ""
        self._first_failure = ""

    def pytest_collection(self) -> None:
        """Let hypothesis try the same each time, and tell at once."""
        from hypothesis import Phase, settings  # not before pytest, which rewrites it

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", settings.get_profile("ci"), phases=phases)
        settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the tests once."""
        items = session.items
        usual = Job(lambda: self._usual(items), 600)
        wait_for([usual])
        callers, seconds, self.fault = usual.end() or ({}, {}, "one of them, or all are too slow")
        if self.fault:
            return True
        for item in items:
            most = SECONDS + 3 * seconds[item.nodeid]
            item.add_marker(pytest.mark.timeout(most), append=False)
        waiting, running = list(reversed(self.wanted)), dict[Job, Mutant]()
        tries: Counter[Mutant] = Counter()
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                mutant = waiting.pop()
                chosen = [
                    item
                    for item in sorted(items, key=lambda one: seconds[one.nodeid])
                    if item.nodeid in callers[mutant.module, mutant.function]
                    and item.path.stem.removeprefix("test_") in TESTS[mutant.module]
                    and not any(word in item.name for word in LEFT_OUT)
                ]
                limit = SECONDS + 3 * sum(seconds[item.nodeid] for item in chosen)
                running[Job(functools.partial(self._try, mutant, chosen), limit)] = mutant
            for job in wait_for(list(running)):
                without = "hung" if job.until <= time.monotonic() else "died"
                outcome, test = job.end() or (without, "")
                mutant = running.pop(job)
                tries[mutant] += 1
                if outcome != "survived" and mutant.key in self.known and tries[mutant] < TRIES:
                    waiting.append(mutant)  # a busy machine may have been noticed, not the mutant
                else:
                    self.tell(mutant, outcome, test)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the first test that fails."""
        if report.failed and not self._first_failure:
            self._first_failure = report.nodeid

    # In a process of its own:

    def _usual(self, items: list[pytest.Item]) -> Any:
        """Run all tests; return who calls which function, how long each takes, and what failed."""
        names = {
            function_of(module, name).__code__: (module, name)
            for module, name in {(one.module, one.function) for one in self.wanted}
        }
        callers: dict[tuple[str, str], set[str]] = {name: set() for name in names.values()}
        seconds: dict[str, float] = {}

        def note(frame: FrameType, event: str, _: object) -> None:
            if event == "call" and frame.f_code in names:
                callers[names[frame.f_code]].add(current)

        threading.setprofile(note)
        for item, following in zip(items, [*items[1:], None], strict=False):
            current, begun = item.nodeid, time.perf_counter()
            sys.setprofile(note)
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            sys.setprofile(None)
            seconds[current] = time.perf_counter() - begun
        return callers, seconds, self._first_failure

    def _try(self, mutant: Mutant, items: list[pytest.Item]) -> tuple[Outcome, str]:
        """Return what becomes of a mutant, and by which test."""
        mutant.put_in_force()
        for item, following in zip(items, [*items[1:], None], strict=False):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._first_failure:
                return "noticed", self._first_failure
        return "survived", ""


# -- the command -------------------------------------------------------------------------


def accepted() -> dict[tuple[str, str, str], str]:
    """Return the survivors that are known, with the reason of each."""
    return {
        (module, row["function"], row["change"]): row["reason"]
        for module, rows in tomllib.loads(ACCEPTED.read_text(encoding="utf-8")).items()
        for row in rows
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what became of the mutants; return 1 if mutation.toml says otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTS))
    modules: list[str] = parser.parse_args(arguments).modules or list(TESTS)
    known = {key: reason for key, reason in accepted().items() if key[0] in modules}
    wanted = [one for module in modules for one in mutants(module)]
    outcomes: dict[str, Counter[Outcome]] = {module: Counter() for module in modules}
    gone = known.keys() - {one.key for one in wanted}
    faults = [f"{ACCEPTED.name} knows of a change that is none: {' '.join(key)}" for key in gone]

    def tell(mutant: Mutant, outcome: Outcome, test: str) -> None:
        outcomes[mutant.module][outcome] += 1
        if outcome != "noticed":
            print(f"{outcome}: {mutant}", flush=True)
        if outcome == "died":
            faults.append(f"its process ended without a verdict: {mutant}")
        if outcome == "survived" and mutant.key not in known:
            faults.append(f"no test notices, and {ACCEPTED.name} does not say why: {mutant}")
        if outcome != "survived" and mutant.key in known:
            faults.append(f"{test or 'a test'} notices, strike it in {ACCEPTED.name}: {mutant}")

    runner, begun = Runner(wanted, known.keys(), tell), time.monotonic()
    names = dict.fromkeys(name for module in modules for name in TESTS[module])
    files = [f"tests/{FOLDER}/test_{name}.py" for name in names]
    with tempfile.TemporaryDirectory() as room:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = room
        code = pytest.main(
            ["-qq", "-s", "-n0", "-p", "no:cacheprovider", *files],
            plugins=[runner],
        )
    if runner.fault:
        faults.append(f"without any change this test fails: {runner.fault}")
    for module, outcome in outcomes.items():
        print(f"{module}: {outcome.total()} mutants, {dict(outcome)}")
    print(f"{time.monotonic() - begun:.0f} s")
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    return int(code) or int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
