"""The registry against a dict: whatever happens in whatever order, both say the same."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from purveyor.providers.registry import (
    AlreadyExistsError,
    Family,
    InUseError,
    Lease,
    NotFoundError,
    ProviderRegistry,
    ProviderTypes,
    register_provider,
)
from tests.providers.registry.samples import Sample

NAMES = st.sampled_from(["a", "b", "c"])


class Comparison(RuleBasedStateMachine):
    """Every rule does the same to the registry and to plain dicts."""

    def __init__(self) -> None:
        super().__init__()
        types = ProviderTypes(scan_entry_points=False)
        types.add_family(Family("storage", fallback="b"))
        register_provider("sample", types=types)(Sample)
        self.loop = asyncio.new_event_loop()
        self.registry = ProviderRegistry[Any]("storage", types=types)
        self.providers: dict[str, Any] = {}
        self.default: str | None = None
        self.leases: dict[str, list[Lease]] = {}
        self.instances: dict[str, list[Any]] = {}

    def teardown(self) -> None:
        for leases in self.leases.values():
            for lease in leases:
                lease.release()
        self.loop.run_until_complete(self.registry.dispose_all())
        self.loop.close()

    @rule(name=NAMES)
    def register(self, name: str) -> None:
        registering = self.registry.register(name, {"type": "sample"})
        if name in self.providers:
            with pytest.raises(AlreadyExistsError):
                self.loop.run_until_complete(registering)
        else:
            self.providers[name] = self.loop.run_until_complete(registering)

    @rule(name=NAMES, mode=st.sampled_from(["refuse", "drain", "force"]))
    def unregister(self, name: str, mode: Any) -> None:
        removing = self.registry.unregister(name, mode=mode, timeout=0.0)
        leased, owned = self.leases.get(name), self.instances.get(name)
        used = {"refuse": leased or owned, "drain": leased, "force": False}[mode]
        if name not in self.providers or used:
            with pytest.raises(InUseError if name in self.providers else NotFoundError):
                self.loop.run_until_complete(removing)
            return
        self.loop.run_until_complete(removing)
        del self.providers[name]
        self.leases.pop(name, None)
        self.instances.pop(name, None)
        if self.default == name:
            self.default = None

    @rule(name=NAMES)
    def set_default(self, name: str) -> None:
        if name in self.providers:
            self.registry.set_default(name)
            self.default = name
        else:
            with pytest.raises(NotFoundError):
                self.registry.set_default(name)

    @rule(name=NAMES)
    def use(self, name: str) -> None:
        if name in self.providers:
            answer = self.loop.run_until_complete(self.registry.require(name).echo(name))
            assert answer == name

    @rule(name=NAMES)
    def create(self, name: str) -> None:
        if name in self.providers:
            self.instances.setdefault(name, []).append(self.registry.create(name))

    @rule(name=NAMES)
    def drop(self, name: str) -> None:
        if self.instances.get(name):
            self.instances[name].pop()
            gc.collect(0)

    @rule(name=NAMES)
    def lease(self, name: str) -> None:
        if name in self.providers:
            self.leases.setdefault(name, []).append(self.registry.lease(name))

    @rule(name=NAMES)
    def release(self, name: str) -> None:
        if self.leases.get(name):
            self.leases[name].pop().release()

    @invariant()
    def both_say_the_same(self) -> None:
        registry = self.registry
        assert list(registry.names()) == sorted(self.providers)
        assert registry.providers() == self.providers
        for name in ("a", "b", "c"):
            assert registry.get(name) is self.providers.get(name)
        for name in self.providers:
            info = registry.info(name)
            assert info.lease_count == len(self.leases.get(name, ()))
            assert info.instance_count == len(self.instances.get(name, ()))
        expected = self.default
        if expected is None and len(self.providers) == 1:
            (expected,) = self.providers
        elif expected is None and "b" in self.providers:
            expected = "b"
        if expected is None:
            with pytest.raises(NotFoundError):
                registry.default_name()
        else:
            assert registry.default_name() == expected


TestComparison = pytest.mark.requirement("S1.32", "S1.41")(Comparison.TestCase)
TestComparison.settings = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
