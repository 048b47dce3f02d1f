"""Views of a registry that let a caller do so much and no more."""

from __future__ import annotations

from typing import Any

import pytest

from purveyor.providers.registry import (
    PermissionDeniedError,
    ProviderRegistry,
    RegistryView,
    Role,
)

Registry = ProviderRegistry[Any]


@pytest.fixture
async def filled(registry: Registry) -> Registry:
    await registry.register("nightly-only", {"type": "sample", "pipelines": ["nightly"]})
    await registry.register("everybodys", {"type": "sample"})
    return registry


class TestRoles:
    @pytest.mark.requirement("S4.53")
    async def test_each_may_do_what_those_before_it_may(self, filled: Registry) -> None:
        reader = RegistryView(filled, Role.READER)
        operator = RegistryView(filled, Role.OPERATOR)
        admin = RegistryView(filled, Role.ADMIN)
        for view in (reader, operator, admin):
            assert view.names() == ["everybodys", "nightly-only"]
        for view in (operator, admin):
            assert view.require("everybodys") is filled.require("everybodys")
        await admin.unregister("everybodys")
        assert reader.names() == ["nightly-only"]

    @pytest.mark.requirement("S4.53")
    @pytest.mark.parametrize(
        ("role", "call"),
        [(Role.READER, "require"), (Role.READER, "unregister"), (Role.OPERATOR, "unregister"),
         (Role.OPERATOR, "config"), (Role.OPERATOR, "set_default")],
    )  # fmt: skip
    def test_more_is_refused_with_the_role_it_needs(
        self, registry: Registry, role: Role, call: str
    ) -> None:
        with pytest.raises(PermissionDeniedError, match=f"^{call} needs the role") as caught:
            getattr(RegistryView(registry, role), call)
        assert isinstance(caught.value, PermissionError)
        assert caught.value.context == {"call": call, "role": role.name.lower()}

    def test_every_call_of_a_registry_has_a_role_or_is_left_out_on_purpose(self) -> None:
        from purveyor.providers.registry.access import _ROLE_OF

        public = {name for name in dir(ProviderRegistry) if not name.startswith("_")}
        assert public - set(_ROLE_OF) == {"apply", "close", "reopen", "guards"}
        assert set(_ROLE_OF) - public == {"family", "types"}

    def test_what_a_registry_cannot_a_view_cannot(self, registry: Registry) -> None:
        view = RegistryView(registry, Role.ADMIN)
        with pytest.raises(AttributeError, match="has no call 'guards'"):
            _ = view.guards
        assert repr(view) == "<admin view of the storage registry>"


class TestPipelines:
    @pytest.mark.requirement("S4.53", "S2.34")
    def test_see_their_own_providers_only(self, filled: Registry) -> None:
        nightly = RegistryView(filled, Role.ADMIN, pipeline="nightly")
        weekly = RegistryView(filled, Role.ADMIN, pipeline="weekly")
        assert nightly.names() == ["everybodys", "nightly-only"]
        assert weekly.names() == ["everybodys"]
        assert [one.name for one in weekly.list()] == ["everybodys"]
        assert weekly.find_by_capability("search") == ["everybodys"]
        assert list(weekly.providers()) == ["everybodys"]
        assert nightly.require("nightly-only") is filled.require("nightly-only")
        for call in ("require", "info", "lease", "create"):
            with pytest.raises(
                PermissionDeniedError, match="not assigned to the pipeline 'weekly'"
            ):
                getattr(weekly, call)("nightly-only")
        assert weekly.get("nobody") is None
        assert weekly.get("nightly-only") is None
        assert not weekly.has("nightly-only")
        assert weekly.default_name
        assert repr(weekly) == "<admin view of the storage registry for pipeline 'weekly'>"

    def test_the_default_must_be_theirs_too(self, filled: Registry) -> None:
        weekly = RegistryView(filled, Role.ADMIN, pipeline="weekly")
        filled.set_default("nightly-only")
        with pytest.raises(PermissionDeniedError):
            weekly.require()
        filled.set_default("everybodys")
        assert weekly.require() is filled.require("everybodys")
        weekly.set_default(None)
        assert filled._default is None
