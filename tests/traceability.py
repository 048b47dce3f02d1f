"""Which test proves which statement of docs/requirements.md: ``python -m tests.traceability``."""

from __future__ import annotations

import re
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STATEMENTS = ROOT / "docs" / "requirements.md"
EXCEPTIONS = Path(__file__).with_suffix(".toml")
PROVABLE = {"M", "C", "T", "I"}


class _Collected:
    """A pytest plugin that notes which test carries which number."""

    def __init__(self) -> None:
        self.tests: dict[str, list[str]] = defaultdict(list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("requirement"):
                for number in mark.args:
                    self.tests[number].append(item.nodeid)


def statements(text: str) -> dict[str, str]:
    """Return number and tag of every statement: lines that begin ``S4.39 M ...``."""
    return dict(re.findall(r"^(S\d\.\d+) ([MCTDPI]) ", text, flags=re.MULTILINE))


def faults(
    tags: dict[str, str], tests: dict[str, list[str]], exceptions: dict[str, dict[str, str]]
) -> list[str]:
    """Return what is wrong: unproven statements, unknown numbers, exceptions that are none."""
    found: list[str] = []
    excepted = {number for section in exceptions.values() for number in section}
    for number, tag in tags.items():
        proven = bool(tests.get(number))
        if tag in PROVABLE and not proven and number not in excepted:
            found.append(f"{number} ({tag}) has no test and no reason in {EXCEPTIONS.name}")
        if proven and number in exceptions.get("planned", {}):
            found.append(f"{number} is proven: remove it from [planned] in {EXCEPTIONS.name}")
        if not proven and number in exceptions.get("partial", {}):
            found.append(f"{number} stands in [partial] and has no test at all: it is [planned]")
    found += [
        f"{number} is no statement (in {', '.join(tests[number])})"
        for number in tests
        if number not in tags
    ]
    found += [
        f"{number} in {EXCEPTIONS.name} is no statement"
        for number in excepted
        if number not in tags
    ]
    return found


def main() -> int:
    """Print the table; return 1 if a statement is neither proven nor excepted."""
    collected = _Collected()
    code = pytest.main(
        ["--collect-only", "-qq", "-n0", "-p", "no:cacheprovider", str(ROOT / "tests")],
        plugins=[collected],
    )
    if code != pytest.ExitCode.OK:
        return int(code)
    tags = statements(STATEMENTS.read_text(encoding="utf-8"))
    exceptions = tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8"))
    for number, tag in tags.items():
        if tag not in PROVABLE:
            continue
        proofs = collected.tests.get(number, [])
        reasons = [
            f"({name}: {section[number]})"
            for name, section in exceptions.items()
            if number in section
        ]
        first = [*proofs, *reasons] or ["-"]
        print(f"{number:6} {tag}  {first[0]}")
        for more in first[1:]:
            print(f"{'':9} {more}")
    wrong = faults(tags, collected.tests, exceptions)
    proven = sum(
        1 for number, tag in tags.items() if tag in PROVABLE and collected.tests.get(number)
    )
    print(f"\n{proven} statements proven, {len(wrong)} faults")
    for fault in wrong:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
