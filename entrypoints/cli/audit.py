"""``purveyor audit``: the records of changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ...providers.catalogue import AuditLog, AuditRecord, Catalogue
from .output import print_json, print_table
from .tokens import with_catalogue

__all__ = ["audit"]


def audit(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many records at most.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """
    Show who changed what through the HTTP API, and the tokens; the latest first.

    Example: purveyor audit --limit 20
    """

    async def work(_: Catalogue, log: AuditLog) -> Sequence[AuditRecord]:
        return await log.entries(limit=limit)

    found = with_catalogue(context, work)
    if as_json:
        print_json([record.to_dict() for record in found])
        return
    print_table(
        ("time", "caller", "action", "target", "outcome", "detail"),
        [
            (f"{one.at:%Y-%m-%d %H:%M:%S} UTC", one.caller, one.action, one.target, one.outcome,
             one.detail)
            for one in found
        ],
    )  # fmt: skip
