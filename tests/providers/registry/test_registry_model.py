"""The whole registry against dicts: what its documentation says, in the plainest words."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from purveyor.providers.registry import (
    AlreadyExistsError,
    Declaration,
    Family,
    InUseError,
    InvalidConfigError,
    InvalidStateError,
    Lease,
    NotFoundError,
    Outcome,
    ProviderRegistry,
    ProviderTypes,
    RegistryError,
    ShuttingDownError,
    Status,
    register_provider,
)
from purveyor.settings import LifecycleSettings, ProviderSettings, RegistrySettings
from tests.providers.registry.samples import Sample

ResultT = TypeVar("ResultT")
Mode = Literal["refuse", "drain", "force"]

FALLBACK = "b"
NAMES = st.sampled_from(["a", "b", "c"])
LABELS = st.sampled_from(["red", "blue"])
IDS = st.sampled_from([None, "one", "two"])
MODES = st.sampled_from(["refuse", "drain", "force"])


@dataclass
class Entry:
    """What is registered under a name."""

    label: str | None
    """None of a plain object, which has no settings."""
    stopped: bool = False
    leases: list[Lease] = field(default_factory=list[Lease])
    instances: list[tuple[str | None, Any]] = field(default_factory=list[tuple[str | None, Any]])


@dataclass(frozen=True)
class Said:
    """What settings say of a name."""

    label: str
    enabled: bool


class Model:
    """Three dicts and a name."""

    def __init__(self) -> None:
        self.registered: dict[str, Entry] = {}
        self.said: dict[str, Said] = {}
        self.default: str | None = None
        self.closed = False

    def is_declared(self, name: str) -> bool:
        return name in self.said and self.said[name].enabled

    def has(self, name: str) -> bool:
        return name in self.registered or self.is_declared(name)

    @property
    def names(self) -> list[str]:
        return sorted(name for name in {*self.registered, *self.said} if self.has(name))

    def default_name(self) -> str | None:
        if self.default is not None:
            return self.default
        if len(self.names) == 1:
            return self.names[0]
        return FALLBACK if FALLBACK in self.names else None

    def find(self, name: str) -> Entry | type[RegistryError]:
        """Return what a lookup finds: a declared one is registered by it."""
        if name not in self.registered and self.is_declared(name):
            if self.closed:
                return ShuttingDownError
            self.registered[name] = Entry(self.said[name].label)
        return self.registered.get(name, NotFoundError)

    def forget(self, name: str) -> None:
        self.registered.pop(name, None)
        self.said.pop(name, None)
        if self.default == name:
            self.default = None

    def by_hand(self, name: str) -> bool:
        return name in self.registered and not self.is_declared(name)


class Comparison(RuleBasedStateMachine):
    """Every rule does the same to the registry and to the model."""

    def __init__(self) -> None:
        super().__init__()
        types = ProviderTypes(scan_entry_points=False)
        types.add_family(Family("storage", fallback=FALLBACK))
        register_provider("sample", types=types)(Sample)
        limits = LifecycleSettings(graceful_shutdown_timeout=0.001)
        self.registry = ProviderRegistry[Any](
            "storage", types=types, settings=RegistrySettings(lifecycle=limits)
        )
        self.loop = asyncio.new_event_loop()
        self.model = Model()

    def teardown(self) -> None:
        for entry in self.model.registered.values():
            for lease in entry.leases:
                lease.release()
        self.loop.run_until_complete(self.registry.graceful_shutdown(1))
        self.loop.close()

    def do(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        return self.loop.run_until_complete(coroutine)

    def refused(self, coroutine: Coroutine[Any, Any, Any], error: type[RegistryError]) -> None:
        with pytest.raises(error):
            self.do(coroutine)

    # -- coming --------------------------------------------------------------------------

    @rule(name=NAMES, label=LABELS, way=st.sampled_from(["register", "ready", "nowait", "object"]))
    def register(self, name: str, label: str, way: str) -> None:
        async def nowait() -> Any:
            return self.registry.register_nowait(name, config)

        config = {"type": "sample", "label": label}
        ways: dict[str, Any] = {
            "register": lambda: self.registry.register(name, config),
            "ready": lambda: self.registry.register(name, config, start="ready"),
            "nowait": nowait,
            "object": lambda: self.registry.register_instance(name, object()),
        }
        if self.model.closed or self.model.has(name):
            error = ShuttingDownError if self.model.closed else AlreadyExistsError
            self.refused(ways[way](), error)
        else:
            given = self.do(ways[way]())
            assert self.registry.require(name) is given
            self.model.registered[name] = Entry(None if way == "object" else label)

    @rule(name=NAMES, label=LABELS, enabled=st.booleans())
    def declare(self, name: str, label: str, enabled: bool) -> None:
        model, said = self.model, Said(label, enabled)
        entry, before = model.registered.get(name), model.said.get(name)
        declaration = Declaration(
            ProviderSettings.model_validate({"type": "sample", "label": label, "enabled": enabled}),
            "config",
            "a file",
        )
        declaring = self.registry.declare(name, declaration)
        if model.by_hand(name):
            self.refused(declaring, AlreadyExistsError)
        elif not enabled and entry is not None:
            if entry.leases:
                self.refused(declaring, InUseError)
            else:
                assert self.do(declaring) is Outcome.REMOVED
                model.forget(name)
                model.said[name] = said
        elif not enabled:
            assert self.do(declaring) is Outcome.SKIPPED
            model.said[name] = said
        elif entry is not None and said == before:
            assert self.do(declaring) is Outcome.UNCHANGED
        elif entry is not None and model.closed:
            self.refused(declaring, ShuttingDownError)
        elif entry is not None:
            assert self.do(declaring) is Outcome.RELOADED
            entry.label = label
            model.said[name] = said
        elif model.closed:
            model.said[name] = said
            self.refused(declaring, ShuttingDownError)
        else:
            assert self.do(declaring) is Outcome.REGISTERED
            model.said[name] = said
            model.find(name)

    @rule(name=NAMES, label=st.none() | LABELS)
    def reload(self, name: str, label: str | None) -> None:
        reloading = self.registry.reload(name, None if label is None else {"label": label})
        if self.model.closed:
            self.refused(reloading, ShuttingDownError)
            return
        entry = self.model.find(name)
        if not isinstance(entry, Entry):
            self.refused(reloading, entry)
        elif entry.label is None:
            self.refused(reloading, InvalidConfigError)
        else:
            handle = self.registry.require(name)
            self.do(reloading)
            assert self.registry.require(name) is handle
            entry.label = label or entry.label

    # -- going ---------------------------------------------------------------------------

    @rule(name=NAMES, mode=MODES)
    def unregister(self, name: str, mode: Mode) -> None:
        removing = self.registry.unregister(name, mode=mode, timeout=0.0)
        entry = self.model.registered.get(name)
        if not self.model.has(name):
            self.refused(removing, NotFoundError)
        elif entry and mode != "force" and (entry.leases or (mode == "refuse" and entry.instances)):
            self.refused(removing, InUseError)
        else:
            self.do(removing)
            self.model.forget(name)

    @rule(name=NAMES)
    def withdraw(self, name: str) -> None:
        model, withdrawing = self.model, self.registry.withdraw(name)
        entry = model.registered.get(name)
        if model.by_hand(name) or not model.has(name):  # a disabled one at most was said
            assert self.do(withdrawing) is (model.said.pop(name, None) is not None)
        elif entry is not None and entry.leases:
            self.refused(withdrawing, InUseError)
        else:
            assert self.do(withdrawing) is True
            model.forget(name)

    # -- asking --------------------------------------------------------------------------

    @rule(name=NAMES)
    def look_up(self, name: str) -> None:
        entry = self.model.find(name)
        if isinstance(entry, Entry):
            handle = self.registry.require(name)
            assert self.registry.get(name) is handle
            if entry.label is None:
                assert self.registry.config(name) is None
            else:
                assert handle.config.label == entry.label
        else:
            with pytest.raises(entry):
                self.registry.require(name)
            if entry is NotFoundError:
                assert self.registry.get(name) is None

    @rule()
    def list_all(self) -> None:
        for name in self.model.names:
            self.model.find(name)
        there = self.model.registered
        assert sorted(self.registry.providers()) == sorted(there)
        infos = self.registry.list()
        assert [one.name for one in infos] == sorted(there)
        default = self.model.default_name()
        for info in infos:
            entry = there[info.name]
            plain = entry.label is None
            assert info == self.registry.info(info.name)
            assert info.is_default is (info.name == default)
            assert info.lease_count == (0 if plain else len(entry.leases))
            assert info.instance_count == len(entry.instances)
            assert (info.status is Status.DISPOSED) is entry.stopped

    @rule(name=NAMES)
    def use(self, name: str) -> None:
        entry = self.model.find(name)
        if isinstance(entry, Entry) and entry.label is not None:
            call = self.registry.require(name).echo(name)
            if entry.stopped:
                self.refused(call, InvalidStateError)
            else:
                assert self.do(call) == name

    # -- the default ---------------------------------------------------------------------

    @rule(name=st.none() | NAMES)
    def set_default(self, name: str | None) -> None:
        if name is None or self.model.has(name):
            self.registry.set_default(name)
            self.model.default = name
        else:
            with pytest.raises(NotFoundError):
                self.registry.set_default(name)

    @rule()
    def require_default(self) -> None:
        name = self.model.default_name()
        found = NotFoundError if name is None else self.model.find(name)
        if isinstance(found, Entry):
            assert self.registry.require() is self.registry.require(name)
        else:
            with pytest.raises(found):
                self.registry.require()

    # -- leases, and instances of the caller's own ---------------------------------------

    @rule(name=st.none() | NAMES)
    def lease(self, name: str | None) -> None:
        name = name or self.model.default_name()
        found = NotFoundError if name is None else self.model.find(name)
        if isinstance(found, Entry) and not found.stopped:
            lease = self.registry.lease(name)
            assert lease.instance is self.registry.require(name)
            if found.label is not None:  # of a plain object nobody keeps count
                found.leases.append(lease)
        else:
            with pytest.raises(InvalidStateError if isinstance(found, Entry) else found):
                self.registry.lease(name)

    @rule(name=NAMES, twice=st.booleans())
    def release(self, name: str, twice: bool) -> None:
        entry = self.model.registered.get(name)
        if entry is not None and entry.leases:
            lease = entry.leases.pop()
            for _ in range(1 + twice):
                lease.release()

    @rule(name=NAMES, instance_id=IDS)
    def create(self, name: str, instance_id: str | None) -> None:
        found: Entry | type[RegistryError]
        found = ShuttingDownError if self.model.closed else self.model.find(name)
        error: type[RegistryError] | None = None
        if not isinstance(found, Entry):
            error = found
        elif found.label is None:
            error = InvalidConfigError
        elif instance_id is not None and any(one == instance_id for one, _ in found.instances):
            error = AlreadyExistsError
        if error is None and isinstance(found, Entry):
            instance = self.registry.create(name, instance_id=instance_id)
            assert instance.config.label == found.label
            found.instances.append((instance_id, instance))
        elif error is not None:
            with pytest.raises(error):
                self.registry.create(name, instance_id=instance_id)

    @rule(name=NAMES, way=st.sampled_from(["drop", "dispose"]))
    def end_instance(self, name: str, way: str) -> None:
        entry = self.model.registered.get(name)
        if entry is not None and entry.instances:
            _, instance = entry.instances.pop(0)
            if way == "dispose":
                self.do(instance.dispose())
            del instance
            gc.collect(0)

    # -- starting and stopping -----------------------------------------------------------

    @rule(name=NAMES)
    def stop(self, name: str) -> None:
        entry = self.model.find(name)
        stopping = self.registry.stop(name)
        if not isinstance(entry, Entry):
            self.refused(stopping, entry)
        elif entry.leases:
            self.refused(stopping, InUseError)
        else:
            assert self.do(stopping) == [f"storage:{name}"]
            entry.stopped = entry.label is not None

    @rule(name=NAMES)
    def dispose(self, name: str) -> None:
        entry = self.model.find(name)
        disposing = self.registry.dispose(name)
        if isinstance(entry, Entry):
            self.do(disposing)
            entry.stopped = entry.label is not None
        else:
            self.refused(disposing, entry)

    @rule(name=NAMES)
    def initialize(self, name: str) -> None:
        initializing = self.registry.initialize(name)
        found = ShuttingDownError if self.model.closed else self.model.find(name)
        if isinstance(found, Entry):
            self.do(initializing)
            found.stopped = False
            assert self.registry.info(name).status is Status.READY
        else:
            self.refused(initializing, found)

    @precondition(lambda self: not self.model.closed)
    @rule()
    def close(self) -> None:
        self.registry.close()
        self.model.closed = True

    @precondition(lambda self: self.model.closed)
    @rule()
    def reopen(self) -> None:
        self.registry.reopen()
        self.model.closed = False
        for entry in self.model.registered.values():
            entry.stopped = False

    # -- always --------------------------------------------------------------------------

    @invariant()
    def both_say_the_same(self) -> None:
        registry, model = self.registry, self.model
        assert list(registry.names()) == model.names
        assert sorted(registry.declared()) == sorted(model.said)
        for name in ("a", "b", "c"):
            assert registry.has(name) is (name in registry) is model.has(name)
            assert registry.is_registered(name) is (name in model.registered)
        assert set(registry.handles) == set(model.registered)
        default = model.default_name()
        if default is None:
            with pytest.raises(NotFoundError):
                registry.default_name()
        else:
            assert registry.default_name() == default


TestComparison = pytest.mark.requirement("S1.32", "S1.41", "S4.2", "S4.44")(Comparison.TestCase)
TestComparison.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
