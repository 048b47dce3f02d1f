"""``purveyor plugins``: which there are, whether they may run, and trusting them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ...providers.registry.metadata import capability_set
from ...providers.registry.plugins import PluginLoader, PluginReport
from .output import complain, print_json, print_table, tell
from .session import FAILED, USAGE, Session, fail

__all__ = ["app"]

app = typer.Typer(
    help="Which plugins there are, whether they may run, and trusting them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]


@app.command("list")
def list_plugins(context: typer.Context, as_json: Json = False) -> None:
    """
    List all plugins and their state; none of their code runs.

    Example: purveyor plugins list
    """
    reports = _loader(context).discover()
    if as_json:
        print_json([report.to_dict() for report in reports])
        return
    print_table(
        ("name", "version", "state", "types", "description"),
        [
            (
                report.name,
                report.manifest.version if report.manifest else "",
                report.state.value,
                ", ".join(_types(report)),
                report.manifest.description if report.manifest else "",
            )
            for report in reports
        ],
    )


@app.command()
def verify(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; all when none is given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Say whether plugins may run, with every reason why not; exits with 1 if one may not.

    Example: purveyor plugins verify
    """
    loader = _loader(context)
    reports = [loader.report(name) for name in names] if names else loader.discover()
    if as_json:
        print_json([report.to_dict() for report in reports])
    else:
        print_table(("name", "state"), [(report.name, report.state.value) for report in reports])
        for report in reports:
            if report.error is not None:
                complain(report.error.message)
    if any(report.error is not None for report in reports):
        raise typer.Exit(FAILED)


@app.command()
def pin(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Which to trust.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """
    Trust plugins exactly as they are now: any later change of a file is refused.

    Example: purveyor plugins pin memory
    """
    loader = _loader(context)
    reports = [loader.pinnable(name) for name in dict.fromkeys(names)]
    for report in reports:
        _show(report)
    if not yes:
        if not sys.stdin.isatty():
            fail("nobody can be asked here: look at what is shown, and give --yes", USAGE)
        typer.confirm("Trust this code as shown?", abort=True, err=True)
    loader.pin(reports)
    tell(f"pinned in {loader.pins_path}: {', '.join(report.name for report in reports)}")
    for report in reports:
        if not loader.allows(report.name):
            tell(
                f"{report.name} is not allowed to run yet: add it to registry.plugins.allowed "
                "(PURVEYOR_REGISTRY__PLUGINS__ALLOWED)"
            )


def _loader(context: typer.Context) -> PluginLoader:
    session: Session = context.obj
    registry = session.settings().registry
    path = registry.discovery.plugin_path
    if path is None:
        fail(
            "there is no folder of plugins: set registry.discovery.plugin_path "
            "(PURVEYOR_REGISTRY__DISCOVERY__PLUGIN_PATH)",
            USAGE,
        )
    return PluginLoader(path, registry.plugins)


def _types(report: PluginReport) -> list[str]:
    return [
        f"{one.family}/{one.type}" for one in (report.manifest.types if report.manifest else ())
    ]


def _show(report: PluginReport) -> None:
    """Show all that will be trusted."""
    manifest, trusted = report.manifest, report.pin
    if manifest is None or trusted is None:
        return
    typer.echo(f"{manifest.name} {manifest.version}  {manifest.description}".rstrip())
    for one in manifest.types:
        capabilities = ", ".join(sorted(capability_set(one.capabilities))) or "no capabilities"
        typer.echo(f"  gives the {one.family} type {one.type} ({one.path}): {capabilities}")
    for one in manifest.providers:
        typer.echo(f"  registers the {one.family} provider {one.name} (type {one.type})")
    for file, digest in sorted(trusted.files.items()):
        typer.echo(f"  sha256 {digest}  {file}")
