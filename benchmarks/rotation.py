"""Rotating 10,000 credentials to a new key: ``uv run python benchmarks/rotation.py``."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from cryptography.fernet import Fernet, MultiFernet
from measure import ratio, rounds, table, verdict

from purveyor.containers import ApplicationContainer
from purveyor.providers.catalogue import rotate as rotate_all
from purveyor.providers.catalogue.rows import Row, now, put
from purveyor.providers.registry import CredentialManager, Owner
from purveyor.settings import Settings

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


def application(home: str, *keys: str) -> ApplicationContainer:
    """Return an application with a catalogue in a file, and these keys."""
    settings = Settings(home=Path(home), credentials={"keys": list(keys)})
    return ApplicationContainer(settings=settings)


async def fill(home: str) -> None:
    """Put 5,000 entries with two secrets each into a catalogue."""
    app, manager = application(home, OLD), CredentialManager([OLD])
    fields = ("access_key", "secret_key")
    async with app.catalogue()._opened().writing() as (connection, number):
        for name in (f"s{count}" for count in range(MANY // 2)):
            config = {"options": {"bucket": "nightly"}}
            secrets = {
                field: manager.encrypt(VALUE, Owner("storage", name, field)) for field in fields
            }
            await put(connection, Row("storage", name, "s3", config, secrets, number, now()))
    await app.catalogue().close()


async def through_the_catalogue(home: str, *keys: str) -> float:
    """Return the seconds that rotating all takes, database included."""
    app = application(home, *keys)
    started = time.perf_counter()
    done = await rotate_all(app.catalogue())
    taken = time.perf_counter() - started
    await app.catalogue().close()
    assert (done.rotated, done.failed) == (MANY, 0)
    return taken


def end_to_end(bare: float) -> None:
    """Print the rate of a whole rotation, there and back, over the bare library's."""
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)  # no .env of whoever runs it
        asyncio.run(fill(home))
        orders = [(NEW, OLD), (OLD, NEW)] * 2
        taken = [asyncio.run(through_the_catalogue(home, *keys)) for keys in orders]
    rate = bare / statistics.median(taken)
    print(f"{MANY} values in {MANY // 2} entries of a file: {statistics.median(taken):.2f} s")
    verdict("rate with the database over that of MultiFernet.rotate", rate, 0.5, at_least=True)


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
    end_to_end(statistics.median(figures["MultiFernet.rotate"]))


if __name__ == "__main__":
    main()
