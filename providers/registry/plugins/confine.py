"""What a plugin's process takes from itself before any of the plugin's code runs."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["confine"]

PROCESSES = 64
"""Processes and threads the child may have, where they are counted for it alone."""

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_M_ARENA_MAX = -8
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_SCOPES = 3  # abstract Unix sockets, signals


def confine(limits: Mapping[str, Any]) -> dict[str, Any]:
    """
    Lower every limit of this process; nothing can raise one again.

    Returns:
        ``no_network``, ``no_signals`` (to processes it has not started) and
        ``own_user_namespace``: whether they took; and ``why`` there is no namespace.
    """
    told: dict[str, Any] = dict.fromkeys(("no_network", "no_signals", "own_user_namespace"), False)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, limits["open_files"])
    _limit(resource.RLIMIT_CPU, limits["cpu_seconds"], limits["cpu_seconds"] + 1)
    if sys.platform == "linux":
        told |= _confine_linux(limits)
    _limit(resource.RLIMIT_AS, limits["memory"])
    if os.getppid() != limits["parent"]:  # it died before the kernel knew to tell us
        os._exit(0)
    return told


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    most = resource.getrlimit(kind)[1]
    wanted = (soft, soft if hard is None else hard)
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted[0], most), min(wanted[1], most)
    with suppress(ValueError, OSError):  # a system that has no such limit
        resource.setrlimit(kind, wanted)


def _confine_linux(limits: Mapping[str, Any]) -> dict[str, Any]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mallopt(_M_ARENA_MAX, 2)  # else each thread reserves address space by the dozen MiB
    uid, gid = os.geteuid(), os.getegid()
    told: dict[str, Any] = {}
    network = 0 if limits["network"] else _CLONE_NEWNET
    if libc.unshare(_CLONE_NEWUSER | network) == 0:
        told["own_user_namespace"] = True
        _keep_ids(uid, gid)
        _limit(resource.RLIMIT_NPROC, PROCESSES)
    else:
        told["why"] = os.strerror(ctypes.get_errno())
        if network and libc.unshare(network) != 0:  # root may do so where users may not
            network = 0
    told["no_network"] = bool(network)
    if told.get("own_user_namespace"):
        _drop_capabilities(libc)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    told["no_signals"] = _scope_signals(libc)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # last: a change of rights clears it
    return told


def _keep_ids(uid: int, gid: int) -> None:
    """Go on under the same user and group in the new user namespace."""
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _scope_signals(libc: Any) -> bool:
    """Send signals to own processes only, where the kernel has Landlock for that (6.12)."""
    ruleset = (ctypes.c_uint64 * 3)(0, 0, _LANDLOCK_SCOPES)
    handle = libc.syscall(
        _LANDLOCK_CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0
    )
    if handle < 0:
        return False
    try:
        return libc.syscall(_LANDLOCK_RESTRICT_SELF, handle, 0) == 0
    finally:
        os.close(handle)


def _drop_capabilities(libc: Any) -> None:
    """Give up the powers over its own namespaces that their creator has."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    libc.capset(ctypes.byref(header), ctypes.byref(nothing))
