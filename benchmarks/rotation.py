"""Rotating 10,000 credentials to a new key: ``uv run python benchmarks/rotation.py``."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice

from cryptography.fernet import Fernet, MultiFernet
from measure import ratio, rounds, table, verdict

from purveyor.providers.registry import CredentialManager, Owner

MANY, FEW = 10_000, 1_000
ROUNDS = 7

OLD, NEW = CredentialManager.generate_key(), CredentialManager.generate_key()
OWNER = Owner("data_sources", "warehouse", "dsn")
VALUE = "postgresql://reader:a-password-of-some-length@db.example.org:5432/warehouse"


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of this thread that ``work`` takes."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def main() -> None:
    """Print seconds, rate over that of the bare library, growth with the number, and memory."""
    sealed = [CredentialManager([OLD]).encrypt(VALUE, OWNER) for _ in range(MANY)]
    tokens = [one.rpartition(":")[2] for one in sealed]
    manager, bare = CredentialManager([NEW, OLD]), MultiFernet([Fernet(NEW), Fernet(OLD)])

    def rotate(count: int) -> None:
        for one in rotated(count):
            assert one

    def rotated(count: int) -> Iterator[str]:
        return (manager.rotate(one, OWNER) for one in islice(sealed, count))

    def rotate_bare() -> None:
        for one in tokens:
            bare.rotate(one)

    figures = rounds(
        {
            "MultiFernet.rotate": lambda: seconds(rotate_bare),
            "CredentialManager.rotate": lambda: seconds(lambda: rotate(MANY)),
            "a tenth of them": lambda: seconds(lambda: rotate(FEW)),
        },
        ROUNDS,
    )
    tracemalloc.start()
    peaks: dict[int, float] = {}
    for count in (FEW, MANY):
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        rotate(count)
        peaks[count] = (tracemalloc.get_traced_memory()[1] - before) / 1024
    tracemalloc.stop()
    table(figures, "s", "MultiFernet.rotate")
    speed = MANY / statistics.median(figures["CredentialManager.rotate"])
    print(f"{speed:.0f} values a second; peaks {peaks[FEW]:.0f} and {peaks[MANY]:.0f} KiB")
    assert all(manager.decrypt(one, OWNER) == VALUE for one in rotated(FEW))
    slower = ratio(figures, "CredentialManager.rotate", "MultiFernet.rotate")
    verdict("rate over that of MultiFernet.rotate", 1 / slower, 0.5, at_least=True)
    growth = ratio(figures, "CredentialManager.rotate", "a tenth of them")
    verdict("time of 10,000 over that of 1,000", growth, 12)
    verdict("peak memory of 10,000, KiB", peaks[MANY], 256)
    verdict("peak memory of 10,000 over 1,000", peaks[MANY] / peaks[FEW], 1.5)


if __name__ == "__main__":
    main()
