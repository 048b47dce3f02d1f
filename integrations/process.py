"""The container that a library is to use which cannot be handed one."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from importlib import import_module
from typing import TYPE_CHECKING

from ..containers import ApplicationContainer
from ..providers.registry import InvalidConfigError

if TYPE_CHECKING:
    from ..containers.application import PurveyorContainer

__all__ = ["find_container", "process_container"]

_lock = threading.Lock()
_container: ApplicationContainer | None = None


def process_container() -> ApplicationContainer:
    """
    Return this process's own container, made from the environment's settings when first needed.

    It is meant for ``container.blocking``, and is shut down when the process ends. A process
    that was forked makes another one: connections cannot be shared between two.
    """
    global _container  # noqa: PLW0603 - one for the process
    with _lock:
        if _container is None:
            _container = ApplicationContainer()
            weakref.finalize(_container, int)  # so that the warnings of all finalizers come ...
            atexit.register(_shut_down, os.getpid())  # ... after this, which closes everything
        return _container


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


def _shut_down(pid: int) -> None:
    container = _container
    if container is not None and pid == os.getpid():
        container.blocking.close()


def _forget() -> None:
    """Begin anew in a forked process: the parent's thread and connections are not in it."""
    global _container, _lock
    _container, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
