"""Running a kit over types that break its rules, as an author outside would."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]

Report = Mapping[str, Mapping[str, str]]
"""What failed, by class without its ``Test`` and rule without its ``test_``, with what was told."""


def report_of(folder: Path, source: str, *, select: str = "") -> Report:
    """Return what fails of the tests in ``source``, run in a process of its own without plugins."""
    (folder / "test_outside.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    result = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            # Native: pytest's own reading of tracebacks can end CPython 3.11's parser.
            *("-k", select, "--tb=native", "--junit-xml=report.xml", "test_outside.py"),
        ],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 1, result.stdout[-3000:] + result.stderr
    failures: dict[str, dict[str, str]] = defaultdict(dict)
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        found = failures[case.attrib["classname"].rpartition(".Test")[2]]
        for fault in (*case.iterfind("failure"), *case.iterfind("error")):
            test = case.attrib["name"].partition("[")[0].removeprefix("test_")
            found[test] = f"{fault.attrib['message']}\n{fault.text}"
    return failures


def expect(report: Report, failures: Mapping[str, set[str]]) -> None:
    """See that each type fails exactly the rules it breaks."""
    for name, rules in failures.items():
        found = report.get(name, {})
        told = "\n".join(found.values())[-3000:]
        assert set(found) == rules, f"{name} fails {sorted(found)}, not {sorted(rules)}\n{told}"
