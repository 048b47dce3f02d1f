"""
A sync beside rclone's, on one server: ``uv run --group bench python benchmarks/sync.py``.

5,000 files of 4 KiB and one of 512 MiB go to a SeaweedFS or an sshd on loopback: once into an
empty bucket or folder, then again without a change. Whole commands, in turn, each round with
places of its own: wall time, CPU of the command and what it starts, and the most memory it had.

    --target s3|sftp   --rounds N   --files N   --large MIB
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from measure import verdict

from purveyor.testing import servers

KIB, MIB = 1024, 1024 * 1024
Figures = dict[tuple[str, str], list[tuple[float, float, float]]]
"""By candidate and run: seconds, seconds of CPU, MiB."""


def tree(folder: Path, files: int, large: int) -> None:
    """Make what is synced: ``files`` small ones in folders of a hundred, and a large one."""
    for number in range(files):
        path = folder / f"{number // 100:03}" / f"{number:05}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(4 * KIB))
    with (folder / "large.bin").open("wb") as file:
        for _ in range(large):
            file.write(os.urandom(MIB))


def run(command: list[str], environment: Mapping[str, str]) -> tuple[float, float, float]:
    """Run a command; return its seconds, seconds of CPU and MiB at most."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{command[0]} failed:\n{said.decode()}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / KIB


@contextmanager
def s3() -> Iterator[Callable[[str], dict[str, tuple[list[str], dict[str, str]]]]]:
    """Yield what gives each candidate's command for a new bucket."""
    with servers.SeaweedFS() as server:

        def commands(source: str) -> dict[str, tuple[list[str], dict[str, str]]]:
            ours, peers = server.create_bucket(), server.create_bucket()
            access, secret = server.access_key, server.secret_key
            prefix = "PURVEYOR_STORAGE__PROVIDERS__S3__"
            remote = (
                f":s3,provider=Other,access_key_id={access},secret_access_key={secret},"
                f"endpoint='{server.endpoint_url}',region=us-east-1:{peers}"
            )
            return {
                "purveyor": (
                    [script("purveyor"), "sync", source, "s3:"],
                    {
                        f"{prefix}BUCKET": ours,
                        f"{prefix}ENDPOINT_URL": server.endpoint_url,
                        f"{prefix}ACCESS_KEY": access,
                        f"{prefix}SECRET_KEY": secret,
                    },
                ),
                "rclone": (
                    [*rclone(64), "--fast-list", "sync", source, remote],
                    {},
                ),
            }

        yield commands


@contextmanager
def sftp() -> Iterator[Callable[[str], dict[str, tuple[list[str], dict[str, str]]]]]:
    """Yield what gives each candidate's command for a new folder."""
    with servers.OpenSSH() as server:

        def commands(source: str) -> dict[str, tuple[list[str], dict[str, str]]]:
            ours, peers = server.create_root(), server.create_root()
            login = server.login
            prefix = "PURVEYOR_STORAGE__PROVIDERS__SFTP__"
            remote = (
                f":sftp,host={login['host']},port={login['port']},user={login['username']},"
                f"key_file='{server.client_key}',shell_type=none:{peers}"
            )
            return {
                "purveyor": (
                    [script("purveyor"), "sync", source, "sftp:"],
                    {f"{prefix}ROOT": ours}
                    | {f"{prefix}{name.upper()}": str(value) for name, value in login.items()},
                ),
                "rclone": ([*rclone(32), "sync", source, remote], {}),
            }

        yield commands


def script(name: str) -> str:
    """Return the path of a program of this environment."""
    return str(Path(sysconfig.get_path("scripts"), name))


def rclone(transfers: int) -> list[str]:
    """Return rclone with as many transfers, and no configuration of the user's."""
    return [script("rclone"), "--config", "", f"--transfers={transfers}", f"--checkers={transfers}"]


TARGETS = {"s3": s3, "sftp": sftp}
BOUNDS = {
    "s3": {"first": 0.65, "first, CPU": 0.5, "rerun": 0.25, "memory": 1.5},
    "sftp": {"first": 0.8, "rerun": 0.15},
}


def measure(target: str, rounds: int, files: int, large: int) -> Figures:
    """Run each candidate twice a round, in turn."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder, TARGETS[target]() as commands:
        source = Path(folder, "source")
        source.mkdir()
        tree(source, files, large)
        home = {"PURVEYOR_HOME": str(Path(folder, "home"))}
        for number in range(rounds):
            made = commands(str(source))
            for name in sorted(made, reverse=bool(number % 2)):
                command, environment = made[name]
                for which in ("first", "rerun"):
                    figure = run(command, {**environment, **home})
                    figures.setdefault((name, which), []).append(figure)
    return figures


def report(figures: Figures, bounds: Mapping[str, float]) -> None:
    """Print medians, and the ratios beside their bounds."""
    print(f"{'':18} {'seconds':>9} {'CPU':>9} {'MiB':>9}")
    for (name, which), rows in sorted(figures.items()):
        seconds, cpu, mib = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name + ' ' + which:18} {seconds:9.2f} {cpu:9.2f} {mib:9.0f}")

    def ratio(which: str, column: int) -> float:
        pairs = zip(figures["purveyor", which], figures["rclone", which], strict=True)
        return statistics.median(one[column] / other[column] for one, other in pairs)

    measured = {
        "first": ratio("first", 0),
        "first, CPU": ratio("first", 1),
        "rerun": ratio("rerun", 0),
        "memory": ratio("first", 2),
    }
    for what, bound in bounds.items():
        verdict(f"{what} over rclone's", measured[what], bound)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="A sync beside rclone's.")
    parser.add_argument("--target", choices=sorted(TARGETS), default="s3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--large", type=int, default=512, metavar="MIB")
    options = parser.parse_args()
    figures = measure(options.target, options.rounds, options.files, options.large)
    report(figures, BOUNDS[options.target])


if __name__ == "__main__":
    main()
