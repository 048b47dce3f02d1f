"""The second net under the secrets: no log record holds a value that is known to be one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from traceback import format_exception
from typing import Any

from .redaction import any_known, mask, mask_within

__all__ = ["SecretFilter", "masked_logs"]

_STANDARD = vars(logging.makeLogRecord({})).keys() | {"asctime", "message", "taskName"}


class SecretFilter(logging.Filter):
    """
    Masks known secret values in a record: its message, traceback, stack and extra attributes.

    While an application's lifetime lasts every record is masked as it is made, but for what
    ``extra=`` adds to it thereafter. A handler that writes those is given this filter too.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record in place; let every one pass."""
        if not any_known():
            return True
        record.args = mask_within(record.args)
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit, which logging tells of with the arguments
            message = f"{record.msg} {record.args}"
        masked = mask(message)
        if masked != message:
            record.msg, record.args = masked, None
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            text = record.exc_text or "".join(format_exception(record.exc_info[1])).rstrip("\n")
            if mask(text) != text:
                record.exc_text, record.exc_info = text, None
        if record.exc_text:
            record.exc_text = mask(record.exc_text)
        record.stack_info = mask_within(record.stack_info)
        for name in vars(record).keys() - _STANDARD:
            setattr(record, name, mask_within(getattr(record, name)))
        return True


class _Factory:
    """Makes log records and masks them; it stays where another one was put around it."""

    def __init__(self) -> None:
        self.make: Callable[..., logging.LogRecord] = logging.getLogRecordFactory()
        self.filter: SecretFilter | None = SecretFilter()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.make(*args, **kwargs)
        if self.filter is not None:
            self.filter.filter(record)
        return record


class _Masking:
    """The factory in place, and for how many."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._factory: _Factory | None = None

    def count(self, change: int) -> None:
        """Put the factory in place for the first, and take it away after the last."""
        with self._lock:
            self._users += change
            if self._users and self._factory is None:
                self._factory = _Factory()
                logging.setLogRecordFactory(self._factory)
            elif not self._users and self._factory is not None:
                if logging.getLogRecordFactory() is self._factory:
                    logging.setLogRecordFactory(self._factory.make)
                self._factory.filter = None
                self._factory = None


_masking = _Masking()


@contextmanager
def masked_logs() -> Generator[None]:
    """Have the records of all loggers masked as they are made, for as long as anybody wants it."""
    _masking.count(1)
    try:
        yield
    finally:
        _masking.count(-1)
