"""What is to be copied: two listings side by side, and all settled that can be at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from ...providers.registry import RegistryError
from ...providers.storage import InvalidKeyError, ObjectInfo, check_key
from .account import Account
from .ends import Source, Target
from .errors import StopError
from .events import ListingFinished, ObjectFinished, ObjectFound, ObjectIgnored
from .manifest import Ledger, joined, read_manifest
from .merge import Entry, Known, merged, microseconds
from .options import SyncOptions

__all__ = ["Comparison", "Job"]


@dataclass(slots=True)
class Job:
    """An object that is to be copied, or compared and then perhaps copied."""

    here: Entry
    info: ObjectInfo
    key: str
    there: Entry | None
    tries: int = 0

    @property
    def modified(self) -> datetime:
        """When the object was last changed, as far as is known."""
        return self.here.known.time if self.here.known else self.info.modified


class Comparison:
    """
    Finds what is to be copied, and notes what is beyond the source.

    Args:
        source: Where from.
        target: Where to.
        options: How.
        ledger: What is at the target.
        account: Counts and tells.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        options: SyncOptions,
        ledger: Ledger,
        account: Account,
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._ledger = ledger
        self._account = account
        self.found = 0
        """How many objects the source has."""
        # A single object is compared with one answer; there a manifest would cost more.
        many = source.name is None
        self._reads_times = many and not source.end.keeps_times
        self.keeps_manifest = many and (
            not target.end.keeps_times or (options.compare == "checksum" and not target.end.is_here)
        )
        """Whether a manifest at the target says what the target cannot."""

    async def jobs(self) -> AsyncGenerator[Job]:
        """Iterate over what is to be copied; settle at once what is not."""
        pairs = cast(
            "AsyncGenerator[tuple[Entry | None, Entry | None]]",
            merged(self._here(), self._there()),
        )
        try:
            async with aclosing(pairs):
                async for here, there in pairs:
                    if here is None:
                        if there is not None:
                            self._beyond(there)
                    elif (job := self._job(here, there)) is not None:
                        yield job
        except RegistryError as error:  # a listing broke off: what comes after it is unknown
            raise StopError(error) from error
        self._account.tell(ListingFinished())

    async def _here(self) -> AsyncGenerator[Entry]:
        async with aclosing(self._entries(self._source, self._reads_times)) as entries:
            async for entry in entries:
                name = self._target.name  # a single object may get another one
                if name is not None:
                    yield replace(entry, path=name)
                elif self._options.filters.admit(entry.path):
                    yield entry

    def _there(self) -> AsyncGenerator[Entry]:
        return self._entries(self._target, self.keeps_manifest)

    def _entries(self, side: Source | Target, with_manifest: bool) -> AsyncGenerator[Entry]:
        end, entries = side.end, side.entries()
        if not with_manifest:
            return entries
        return joined(entries, read_manifest(end.storage, end.prefix), self._account.warn)

    def _beyond(self, there: Entry) -> None:
        """Note what is only at the target: what was left out at the source stays."""
        if there.known is not None:
            self._ledger.note(there.known, new=False)
        if self._options.delete and self._options.filters.admit(there.path):
            self._ledger.note_extra(there.path)

    def _job(self, here: Entry, there: Entry | None) -> Job | None:
        """Return what is to be copied or looked at closely; settle at once what is not."""
        info = here.info
        if here.ignored is not None:
            self._account.result.ignored += 1
            self._account.tell(ObjectIgnored(self._source.end.prefix + here.path, here.ignored))
            return None
        key = self._target.end.prefix + here.path
        fault = here.fault
        if fault is None:
            try:
                check_key(key)  # with the target's prefix it may be too long
            except InvalidKeyError as error:
                fault = error
        if fault is not None or info is None:
            self._account.fail(self._source.end.prefix + here.path, fault)
            return None
        self.found += 1
        self._account.tell(ObjectFound(info.key, info.size))
        job = Job(here, info, key, there)
        if there is not None and there.info is not None and there.info.size == info.size:
            match self._options.compare:
                case "checksum":
                    return job  # which takes a while
                case "size":
                    same = True
                case "time":
                    same = self._is_current(job, there, there.info)
            if same:
                self.skip(job, there.info)
                return None
        if self._options.dry_run:
            self.would_copy(job)
            return None
        return job

    def skip(self, job: Job, there: ObjectInfo) -> None:
        """Settle an object that is the same at the target."""
        self._account.result.skipped += 1
        if self.keeps_manifest:
            before = job.there.known if job.there else None
            md5 = before.md5 if before else None
            known = Known.of(job.here.path, there, job.modified, md5)
            self._ledger.note(known, new=known != before)
        self._account.tell(ObjectFinished(job.info.key, job.key, job.info.size, "skipped"))

    def would_copy(self, job: Job) -> None:
        """Settle an object that a dry run does not copy."""
        result, info = self._account.result, job.info
        result.files += 1
        result.bytes += info.size
        self._account.tell(ObjectFinished(info.key, job.key, info.size, "would-copy"))

    def _is_current(self, job: Job, there: Entry, info: ObjectInfo) -> bool:
        if there.known is not None:  # it is what was copied then: has the source changed since?
            return there.known.modified == microseconds(job.modified)
        modified = job.modified
        if self._target.end.keeps_times and info.modified.microsecond == 0:
            modified = modified.replace(microsecond=0)  # it keeps whole seconds
        return info.modified >= modified
