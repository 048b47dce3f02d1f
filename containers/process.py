"""The container of a process whose code cannot be handed one."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from concurrent.futures import Future
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..providers.registry import InvalidConfigError
from .application import ApplicationContainer
from .blocking import awaited

if TYPE_CHECKING:
    from .application import PurveyorContainer

__all__ = ["find_container", "process_container"]

_lock = threading.Lock()
_started: Future[ApplicationContainer] | None = None


def process_container() -> ApplicationContainer:
    """
    Return this process's own container, made from its environment when first needed.

    It belongs to the event loop of its ``blocking`` and is shut down when the process ends. A
    process that was forked makes another one: connections cannot be shared between two.

    Raises:
        RegistryError: The settings, or what they name, have faults that concern all providers.
    """
    global _started  # noqa: PLW0603 - one for the process
    with _lock:
        started = _started
        if started is None:
            container: Any = ApplicationContainer(monitoring=False)
            started = asyncio.run_coroutine_threadsafe(_start(container), container.blocking.loop)
            _started = started
            weakref.finalize(container, int)  # so that the warnings of all finalizers come ...
            atexit.register(_shut_down, os.getpid())  # ... after this, which closes it
    try:
        return started.result()
    except Exception:
        with _lock:
            if _started is started:
                _started = None  # the next call tries anew
        raise


async def _start(container: ApplicationContainer) -> ApplicationContainer:
    await awaited(container.init_resources())
    return container


def find_container(path: str) -> PurveyorContainer:
    """
    Return the container that a dotted path names: ``shop.services.container``.

    Raises:
        InvalidConfigError: There is no container of that name.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidConfigError(
            f"There is no container {path!r}: {error}. Name a container instance by its module "
            "and its variable, such as 'shop.services.container'."
        ) from error
    if not hasattr(found, "blocking"):
        raise InvalidConfigError(
            f"{path!r} names {type(found).__name__!r}, which is no container instance. Name a "
            "variable that holds ApplicationContainer()."
        )
    return found


def _shut_down(process: int) -> None:
    if _started is not None and process == os.getpid():
        _started.result().blocking.close()
        _forget()


def _forget() -> None:
    """Begin anew in a forked process: the parent's thread and connections are not in it."""
    global _started, _lock
    _started, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
