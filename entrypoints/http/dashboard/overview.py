"""What the pages tell of providers: one look at all registries, and how each provider is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ....containers import ApplicationContainer
from ....providers.registry import (
    BreakerState,
    HealthReport,
    HealthResult,
    HealthStatus,
    ProviderInfo,
    ProviderRegistry,
    RegistryError,
    Status,
)
from ..parts import registry_of
from .sparkline import Sparkline
from .text import count, segment

__all__ = [
    "PAGE",
    "FamilyView",
    "Filter",
    "ProviderView",
    "Verdict",
    "families",
    "look",
    "look_at",
    "sentence",
]

PAGE = 50
"""Providers on one page."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    How a provider is, in a word or two.

    Args:
        kind: ``bad``, ``warn``, ``good`` or ``none``: its mark and its colour.
        word: What is said beside the mark.
    """

    kind: str
    word: str

    @property
    def is_problem(self) -> bool:
        """Whether somebody should look."""
        return self.kind in ("bad", "warn")


_FAULTY = Verdict("bad", "faulty settings")
_UNHEALTHY = Verdict("bad", "unhealthy")
_REFUSING = Verdict("bad", "refusing calls")
_UNREACHED = Verdict("bad", "cannot connect")
_PROBED = Verdict("warn", "waits for a probe")
_DEGRADED = Verdict("warn", "degraded")
_HEALTHY = Verdict("good", "healthy")
_STOPPED = Verdict("none", "stopped")
_UNCHECKED = Verdict("none", "not checked")


def _verdict(report: HealthReport) -> Verdict:
    if report.state is Status.DISPOSED:
        return _STOPPED
    if report.status is HealthStatus.UNHEALTHY:
        return _UNHEALTHY
    if report.retry_after != 0:
        return _REFUSING
    if report.state is Status.ERROR:
        return _UNREACHED
    if report.breaker is not None and report.breaker is not BreakerState.CLOSED:
        return _PROBED
    if report.status is HealthStatus.DEGRADED:
        return _DEGRADED
    return _HEALTHY if report.status is HealthStatus.HEALTHY else _UNCHECKED


_RANK = {"bad": 0, "warn": 1, "good": 2, "none": 2}


@dataclass(frozen=True, slots=True)
class ProviderView:
    """
    One provider as the pages show it.

    Args:
        report: How it is.
        info: What it is; None where its settings have faults.
        fault: These faults.
        verdict: What the worst of all that is known comes to.
    """

    report: HealthReport
    info: ProviderInfo | None
    fault: str
    verdict: Verdict

    @classmethod
    def of(
        cls, registry: ProviderRegistry[Any], report: HealthReport, info: ProviderInfo | None = None
    ) -> ProviderView:
        """Return the view of a registry's provider, whose info may be known already."""
        fault = ""
        if info is None:
            try:
                info = registry.info(report.name)
            except RegistryError as error:
                fault = error.message
        return cls(report, info, fault, _FAULTY if fault else _verdict(report))

    @property
    def family(self) -> str:
        """The family it is of."""
        return self.report.family

    @property
    def name(self) -> str:
        """Its name."""
        return self.report.name

    @property
    def path(self) -> str:
        """Family and name, as they stand in URLs."""
        return f"{segment(self.family)}/{segment(self.name)}"

    @property
    def last(self) -> HealthResult | None:
        """The last check."""
        return self.report.history[-1] if self.report.history else None

    @property
    def error(self) -> str:
        """What went wrong the last time, if that still matters."""
        last = self.last
        if self.fault:  # its first line says whose settings these are
            return self.fault.partition("\n")[2].strip() or self.fault
        if last is not None and last.status in (HealthStatus.UNHEALTHY, HealthStatus.DEGRADED):
            return last.message
        return (self.info.last_error if self.info else None) or ""

    @property
    def sparkline(self) -> Sparkline:
        """The last checks as a drawing."""
        return Sparkline.of(self.report.history)

    def probe_at(self, now: datetime) -> float | None:
        """Return when its breaker lets a probe pass, in seconds since 1970; None: not waiting."""
        wait = self.report.retry_after
        return round(now.timestamp() + wait, 1) if wait else None


@dataclass(frozen=True, slots=True)
class FamilyView:
    """A family's providers, counted."""

    name: str
    total: int
    bad: int
    warn: int
    healthy: int

    @property
    def problems(self) -> int:
        """How many somebody should look at."""
        return self.bad + self.warn

    @property
    def kind(self) -> str:
        """The mark it gets: that of the worst, or that of those that are known."""
        if self.problems:
            return "bad" if self.bad else "warn"
        return "good" if self.healthy else "none"


@dataclass(frozen=True, slots=True)
class Filter:
    """
    Which providers a page shows.

    Args:
        text: What name, type or last error hold, in upper or lower case.
        family: Of this family only.
        problems: Only those somebody should look at.
        page: Which page of them, from 1.
    """

    text: str = ""
    family: str = ""
    problems: bool = False
    page: int = 1

    def applies(self) -> bool:
        """Tell whether it leaves any out."""
        return bool(self.text or self.family or self.problems)

    def of(self, providers: Iterable[ProviderView]) -> list[ProviderView]:
        """Return those that are meant, the ones with problems first."""
        needle = self.text.casefold()
        chosen = [
            one
            for one in providers
            if (not self.family or one.family == self.family)
            and (not self.problems or one.verdict.is_problem)
            and (not needle or needle in _said(one))
        ]
        return sorted(chosen, key=lambda one: _RANK[one.verdict.kind])


def _said(one: ProviderView) -> str:
    kind = (one.info.type if one.info else None) or ""
    return f"{one.family}/{one.name} {kind} {one.verdict.word} {one.error}".casefold()


def look(container: ApplicationContainer) -> list[ProviderView]:
    """Return every provider there is, by family and name; asks no backend."""
    found: list[ProviderView] = []
    for registry in container.registries().values():
        infos = {info.name: info for info in registry.list()}
        reports = registry.health_report().providers
        found += [ProviderView.of(registry, one, infos.get(one.name)) for one in reports]
    return found


def look_at(container: ApplicationContainer, family: str, name: str) -> ProviderView:
    """
    Return one provider.

    Raises:
        NotFoundError: There is no such family, or no such provider in it.
    """
    registry = registry_of(container, family)
    return ProviderView.of(registry, registry.health(name))


def families(providers: Iterable[ProviderView], names: Iterable[str]) -> list[FamilyView]:
    """Count the providers of each family; those without any count too."""
    kinds: dict[str, Counter[str]] = {name: Counter() for name in names}
    for one in providers:
        kinds[one.family][one.verdict.kind] += 1
    return [
        FamilyView(name, found.total(), found["bad"], found["warn"], found["good"])
        for name, found in kinds.items()
    ]


def sentence(providers: Sequence[ProviderView]) -> str:
    """Say how all are; where some are not well, the pages name them after it."""
    total = len(providers)
    verdicts = [one.verdict for one in providers]
    ill = sum(one.is_problem for one in verdicts)
    well = sum(one.kind == "good" for one in verdicts)
    if not total:
        return "There is no provider yet."
    if ill:
        are = "is" if ill == 1 else "are"
        return f"{ill:,} of {count(total, 'provider')} {are} not well"
    if well == total:
        return "The provider is well." if total == 1 else f"All {total:,} providers are well."
    if not well:
        return "The provider is not checked yet." if total == 1 else "No provider is checked yet."
    are, others = "is" if well == 1 else "are", "other is" if total - well == 1 else "others are"
    return f"{well:,} of {count(total, 'provider')} {are} well; the {others} not checked yet."
