"""Selecting a provider by name: ``uv run --group bench python benchmarks/selection.py``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import wireup
from dependency_injector import containers
from dependency_injector import providers as di
from measure import per_call, ratio, rounds, table, verdict

from purveyor.containers import ApplicationContainer
from purveyor.settings import Settings

CALLS = 200_000
ROUNDS = 9


class Thing:
    """What the peers hand out."""


@wireup.injectable(qualifier="x")
class WiredThing:
    """The same, for wireup."""


def main() -> None:
    """Compare with the peers, in one run."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=home, storage={"providers": {"x": {"type": "filesystem"}}})
        container = ApplicationContainer(settings=settings)
        select = container.storage
        assert select("x") is container.storage("x")

        peer = containers.DynamicContainer()
        peer.things = di.Aggregate(x=di.Singleton(Thing))
        things = {"x": Thing()}
        wired = wireup.create_sync_container(injectables=[WiredThing])

        def measured(function: Callable[[], object]) -> Callable[[], float]:
            return lambda: per_call(function, CALLS)

        candidates = {
            "empty call": lambda: None,
            "dict": lambda: things["x"],
            "di.Aggregate, by container": lambda: peer.things("x"),
            "purveyor, by container": lambda: container.storage("x"),
            "wireup, keyed": lambda: wired.get(WiredThing, "x"),
            "purveyor, held selector": lambda: select("x"),
            "purveyor, default": lambda: select(),
        }
        figures = rounds({name: measured(one) for name, one in candidates.items()}, ROUNDS)
    table(figures, "ns of thread CPU a call", "di.Aggregate, by container")
    print()
    verdict(
        'container.storage("x") over di.Aggregate("x")',
        ratio(figures, "purveyor, by container", "di.Aggregate, by container"),
        0.8,
    )
    verdict(
        "held selector over wireup's keyed look-up",
        ratio(figures, "purveyor, held selector", "wireup, keyed"),
        1.2,
    )


if __name__ == "__main__":
    main()
