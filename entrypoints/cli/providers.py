"""``purveyor providers``: which there are, what they can do, and whether they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ...containers import ApplicationContainer
from ...providers.catalogue import Entry
from ...providers.registry import (
    HealthResult,
    HealthStatus,
    NotFoundError,
    ProviderInfo,
    ProviderRegistry,
    default_types,
)
from ...providers.registry.errors import nearest_first
from .output import print_fields, print_json, print_table, tell
from .secrets import AskFor, FromFile, FromVariable, settings_from
from .session import FAILED, Session, fail

__all__ = ["app"]

app = typer.Typer(
    help="Which providers there are, what they can do, and whether they answer.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
AnyFamily = Annotated[
    str | None, typer.Option("--family", metavar="FAMILY", help="Only this family.")
]
OneFamily = Annotated[str, typer.Option("--family", metavar="FAMILY", help="The family.")]


@app.command("list")
def list_providers(context: typer.Context, family: AnyFamily = None, as_json: Json = False) -> None:
    """
    List the providers that are configured, and the built-in ones.

    Those whose settings have faults are left out; `purveyor check` tells about them.

    Example: purveyor providers list --family storage
    """

    async def work(container: ApplicationContainer) -> list[ProviderInfo]:
        return [info for registry in _registries(container, family) for info in registry.list()]

    session: Session = context.obj
    found = session.run(work)
    if as_json:
        print_json([info.to_dict() for info in found])
        return
    print_table(
        ("family", "name", "type", "default", "capabilities", "settings from"),
        [
            (
                info.family,
                info.name,
                info.type or "",
                "default" if info.is_default else "",
                ", ".join(sorted(info.capabilities)),
                info.origin,
            )
            for info in found
        ],
    )


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The provider.")],
    family: AnyFamily = None,
    as_json: Json = False,
) -> None:
    """
    Show one provider with its settings; secrets are masked.

    The name is looked up in all families, unless one is given.

    Example: purveyor providers show backups
    """

    async def work(container: ApplicationContainer) -> dict[str, Any]:
        having = list(_chosen(container, [name], family))
        if len(having) > 1:
            names = ", ".join(registry.family.name for registry, _ in having)
            fail(f"{name!r} is a provider of several families: {names}; name one with --family")
        ((registry, _),) = having
        config = registry.config(name)
        settings = {} if config is None else config.model_dump(mode="json")
        return {**registry.info(name).to_dict(), "settings": settings}

    session: Session = context.obj
    found = session.run(work)
    if as_json:
        print_json(found)
        return
    settings = found.pop("settings")
    lists = {key: ", ".join(found[key]) for key in ("capabilities", "pipelines")}
    fields = {key: value for key, value in {**found, **lists}.items() if value not in (None, {})}
    print_fields({**fields, **{f"settings.{key}": value for key, value in settings.items()}})


@app.command()
def types(family: AnyFamily = None, as_json: Json = False) -> None:
    """
    List the provider types that can be configured.

    Example: purveyor providers types
    """
    found = default_types.all(None if family is None else default_types.family(family).name)
    if as_json:
        print_json([row.to_dict() for row in found])
        return
    print_table(
        ("family", "type", "extra", "capabilities", "description"),
        [
            (
                row.family,
                row.name,
                row.extra or "",
                ", ".join(sorted(row.capabilities)),
                row.description,
            )
            for row in found
        ],
    )


@app.command("test")
def check_providers(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; all when none is given.")
    ] = None,
    family: AnyFamily = None,
    as_json: Json = False,
) -> None:
    """
    Connect to providers and ask whether they are well; exits with 1 if one is not.

    Names are looked up in all families, unless one is given; without names it is all there are.
    What is asked costs nothing.

    Example: purveyor providers test backups archive
    """

    async def work(container: ApplicationContainer) -> list[tuple[str, HealthResult]]:
        chosen = list(_chosen(container, names, family))
        results = await asyncio.gather(
            *(registry.get_provider_health(name) for registry, name in chosen)
        )
        return [
            (registry.family.name, result)
            for (registry, _), result in zip(chosen, results, strict=True)
        ]

    session: Session = context.obj
    found = session.run(work)
    if as_json:
        print_json([{**result.to_dict(), "family": of} for of, result in found])
    else:
        print_table(
            ("name", "status", "ms", "message", "family"),
            [
                (one.name, one.status.value, f"{one.latency * 1000:.1f}", one.message, of)
                for of, one in found
            ],
        )
    if any(one.status is HealthStatus.UNHEALTHY for _, one in found):
        raise typer.Exit(FAILED)


def _chosen(
    container: ApplicationContainer, names: list[str] | None, family: str | None
) -> Iterator[tuple[ProviderRegistry[Any], str]]:
    """Yield the providers that are meant, each with its family's registry."""
    registries = _registries(container, family)
    if not names:
        yield from ((registry, info.name) for registry in registries for info in registry.list())
        return
    for name in names:
        having = [registry for registry in registries if registry.has(name)]
        for registry in having or registries[:1] * (family is not None):
            registry.require(name)
            yield registry, name
        if not having:
            known = sorted({one for registry in registries for one in registry.names()})
            raise NotFoundError(
                f"Provider not found: {name}. There are these in all families: "
                f"{', '.join(nearest_first(name, known))}.",
                name,
            )


@app.command()
def find(
    context: typer.Context,
    capabilities: Annotated[
        list[str], typer.Argument(metavar="CAPABILITY...", help="What it can do.")
    ],
    family: OneFamily = "storage",
    as_json: Json = False,
) -> None:
    """
    Find the providers that have all the capabilities, the preferred one first.

    Exits with 1 if there is none.

    Example: purveyor providers find search transactions
    """

    async def work(container: ApplicationContainer) -> list[str]:
        return list(_registry(container, family).find_by_capability(*capabilities))

    session: Session = context.obj
    found = session.run(work)
    if as_json:
        print_json(found)
    for name in found if not as_json else ():
        typer.echo(name)
    if not found:
        known = sorted({one for row in default_types.all(family) for one in row.capabilities})
        tell(f"Capabilities of the {family} types: {', '.join(known) or 'none'}")
        fail(f"no {family} provider has {' and '.join(capabilities)}")


@app.command()
def add(
    context: typer.Context,
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="The family.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The provider's name.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Its settings; KEY:=JSON for other than text."
        ),
    ] = None,
    type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Its type; else its name is one.")
    ] = None,
    secret: AskFor = None,
    secret_file: FromFile = None,
    secret_env: FromVariable = None,
    connect: Annotated[
        bool, typer.Option("--test", help="Connect first; one that does not answer is not added.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Add a provider to the catalogue, for every process that uses it.

    Example: purveyor providers add storage backups --type s3 bucket=nightly --secret secret_key
    """

    given = given_settings(
        context.obj, family, name, settings, type, secret, secret_file, secret_env
    )
    add_provider(context.obj, family, name, given, connect=connect, as_json=as_json)


def given_settings(
    session: Session,
    family: str,
    name: str,
    settings: list[str] | None,
    type: str | None,
    secret: list[str] | None,
    secret_file: list[str] | None,
    secret_env: list[str] | None,
) -> dict[str, Any]:
    """Return what the arguments of ``add`` say of a provider."""
    types = ApplicationContainer(settings=session.settings()).types()
    row = types.find(types.family(family).name, type or name)
    given = settings_from(
        settings or (),
        row.settings_class if row else None,
        ask=secret,
        files=secret_file,
        variables=secret_env,
    )
    return {**given, "type": type} if type else given


def add_provider(
    session: Session,
    family: str,
    name: str,
    given: dict[str, Any],
    *,
    connect: bool,
    as_json: bool,
) -> None:
    """Add a provider to the catalogue; one that is to be tested first, only if it answers."""

    async def work(container: ApplicationContainer) -> Entry:
        registry = _registry(container, family)
        if connect:
            await registry.register(name, given, start="test")
            await registry.unregister(name, mode="force")
        return await container.catalogue().add(registry.family.name, name, given)

    entry = session.run(work)
    if as_json:
        print_json(entry.to_dict())
    else:
        tell(f"added the {entry.family} provider {entry.name} (version {entry.version})")


@app.command()
def remove(
    context: typer.Context,
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="The family.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The provider.")],
) -> None:
    """
    Remove a provider from the catalogue.

    Example: purveyor providers remove storage backups
    """

    async def work(container: ApplicationContainer) -> None:
        await container.catalogue().remove(family, name)

    session: Session = context.obj
    session.run(work)
    tell(f"removed the {family} provider {name}")


def _registries(container: ApplicationContainer, family: str | None) -> list[ProviderRegistry[Any]]:
    if family is not None:
        return [_registry(container, family)]
    return list(container.registries().values())


def _registry(container: ApplicationContainer, family: str) -> ProviderRegistry[Any]:
    return container.registries()[container.types().family(family).name]
