"""
Secrets stay secret: by the type of their field, and by their value in what is written of errors.

A field whose type says so is masked wherever its model is shown. What a library writes into its
errors and logs knows no types; there the values themselves are looked for, in the forms they take.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import weakref
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, cast, get_args, get_origin
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

__all__ = [
    "MASK",
    "UNCHANGED",
    "MaskedError",
    "Unchanged",
    "any_known",
    "knowing",
    "mask",
    "mask_within",
    "masks_in",
    "remember",
    "scrub",
    "secret_fields_of",
]

MASK: Final = "**********"
"""What stands in the place of a secret: of one width, whatever the secret's. Pydantic's too."""


class Unchanged:
    """The type of :data:`UNCHANGED`; no enum, which pydantic takes for the text of its value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNCHANGED"

    def __reduce__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged()
"""In the place of a secret in settings: keep the one that is stored."""


# -- by type -----------------------------------------------------------------------------


def secret_fields_of(model: type[BaseModel]) -> frozenset[str]:
    """
    Return the names of a model's secret fields, and their older names.

    A field is secret if its type is, or holds, ``SecretStr``, ``SecretBytes``, ``Secret`` or a
    model with secret fields. No instance is needed to know.
    """
    names = {
        name for name, field in model.model_fields.items() if _is_secret(field.annotation, (model,))
    }
    aliases: dict[str, str] = dict(getattr(model, "aliases", {}))
    return frozenset(names | {alias for alias, name in aliases.items() if name in names})


def _is_secret(annotation: Any, within: tuple[type, ...]) -> bool:
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type):
        if issubclass(kind, SecretStr | SecretBytes | Secret):
            return True
        if issubclass(kind, BaseModel) and kind not in within:
            fields = kind.model_fields.values()
            return any(_is_secret(field.annotation, (*within, kind)) for field in fields)
    return any(_is_secret(part, within) for part in get_args(annotation))


def masks_in(value: Any) -> list[tuple[str, ...]]:
    """
    Return where a mask is in the place of a secret: one that was shown, and came back.

    Args:
        value: A config model; or the raw value of a secret field, all of which counts.
    """
    leaves = _secrets(value, ()) if isinstance(value, BaseModel) else _leaves(value, ())
    return [path for path, leaf in leaves if MASK in _parts(_text(leaf))]


# -- which values are known --------------------------------------------------------------

SHORTEST = 6
"""Characters a value needs to be masked by its value; shorter ones are in many a word."""

_counts: Counter[str] = Counter()
"""Every form of every known value, and how often it is held; read without a lock."""
_index: dict[str, tuple[int, ...]] = {}
"""How long those are that begin with certain characters, the longest first; read so too."""
_lengths: Counter[tuple[str, int]] = Counter()
_models: dict[int, tuple[weakref.ref[BaseModel], frozenset[str]]] = {}
_gone: deque[frozenset[str]] = deque()
_lock = threading.Lock()


def remember(model: BaseModel) -> None:
    """
    Have the secrets of a config model masked by :func:`mask` for as long as the model lives.

    Values of fewer than 6 characters are not: only their type protects them. Of a connection
    string its password counts by itself too.
    """
    known = _forms_of(leaf for _, leaf in _secrets(model, ()))
    number = id(model)
    if not known and number not in _models:
        return

    def forget(_: object) -> None:  # perhaps in the midst of `remember`: it must not wait
        _gone.append(_models.pop(number)[1])
        _settle()

    with _lock:
        reference, before = _models.get(number) or (weakref.ref(model, forget), frozenset[str]())
        _add(known)
        _models[number] = reference, known
    _gone.append(before)
    _settle()


def any_known() -> bool:
    """Tell whether there is anything to mask at all."""
    return bool(_index)


@contextmanager
def knowing(values: Iterable[Any]) -> Generator[None]:
    """Have raw values masked for a while, of settings that are no model yet."""
    known = _forms_of(leaf for value in values for _, leaf in _leaves(value, ()))
    with _lock:
        _add(known)
    try:
        yield
    finally:
        _gone.append(known)
        _settle()


def _add(known: frozenset[str]) -> None:
    for form in known:
        _counts[form] += 1
        if _counts[form] == 1:
            start, length = form[:SHORTEST], len(form)
            _lengths[start, length] += 1
            if _lengths[start, length] == 1:
                _index[start] = tuple(sorted((*_index.get(start, ()), length), reverse=True))


def _settle() -> None:
    """Forget what is gone, unless somebody holds the lock, who then does it after."""
    while _gone and _lock.acquire(blocking=False):
        try:
            while _gone:
                for form in _gone.popleft():
                    _remove(form)
        finally:
            _lock.release()


def _remove(form: str) -> None:
    _counts[form] -= 1
    if _counts[form]:
        return
    del _counts[form]
    start, length = form[:SHORTEST], len(form)
    _lengths[start, length] -= 1
    if _lengths[start, length]:
        return
    del _lengths[start, length]
    if left := tuple(one for one in _index[start] if one != length):
        _index[start] = left
    else:
        del _index[start]


def _secrets(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give what is secret by its type, with its place."""
    if isinstance(value, SecretStr | SecretBytes | Secret):
        yield from _leaves(cast("Secret[Any]", value), path)
    else:
        for key, inner in _items(value):
            yield from _secrets(inner, (*path, key))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give every text, bytes and number below a value, with its place."""
    if isinstance(value, SecretStr | SecretBytes | Secret):
        yield from _leaves(cast("Secret[Any]", value).get_secret_value(), path)
    elif isinstance(value, BaseModel | Mapping | list | tuple | set | frozenset):
        for key, inner in _items(cast(Any, value)):
            yield from _leaves(inner, (*path, key))
    elif value is not None and not isinstance(value, bool | Unchanged):
        yield path, value


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        return (vars(value) | (value.model_extra or {})).items()
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        return [(str(key), inner) for key, inner in mapping.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(str(number), inner) for number, inner in enumerate(cast("list[Any]", value))]
    return ()


# -- the forms of a value ----------------------------------------------------------------

_IN_URL = r"[A-Za-z][A-Za-z0-9+.-]*://[^:@/?#]*:(?=[^@]*@)"  # compiled when first used
_IN_PAIRS = (
    r"(?i)\b(?:password|pwd|pass|accountkey|sharedaccesskey|sharedaccesssignature|sig)\s*=\s*"
    r"(?:'((?:[^'\\]|\\.)*)'|([^;\s]+))"
)


def _forms_of(leaves: Iterable[Any]) -> frozenset[str]:
    forms: set[str] = set()
    for leaf in leaves:
        if isinstance(leaf, bytes | bytearray):
            forms |= _forms(bytes(leaf), None)
        for part in _parts(_text(leaf)):
            forms |= _forms(part.encode(errors="surrogatepass"), part)
    return frozenset(forms)


def _text(leaf: Any) -> str:
    if isinstance(leaf, bytes | bytearray):
        return leaf.decode(errors="ignore")
    return str(leaf)


def _parts(text: str) -> set[str]:
    """Return a secret text and, if it is a connection string, the secrets in it by themselves."""
    parts = {text}
    if begin := re.match(_IN_URL, text.strip()):
        rest = text.strip()[begin.end() :]
        # An odd password holds what should be quoted: it ends at the last @ there is, or at the
        # last one before the host's path begins.
        parts |= {rest.rpartition("@")[0], re.split("[/?#]", rest)[0].rpartition("@")[0]}
    for quoted, plain in re.findall(_IN_PAIRS, text):
        parts |= {re.sub(r"\\(.)", r"\1", quoted), plain, plain.partition("&")[0]}
    decoded = {decode(part) for part in parts for decode in (unquote, unquote_plus)}
    return {whole for part in parts | decoded for whole in (part, part.strip()) if whole}


def _forms(raw: bytes, text: str | None) -> set[str]:
    """Return the ways in which a value is written."""
    if len(raw if text is None else text) < SHORTEST:
        return set()
    forms = {quote(raw), quote(raw, safe=""), quote(raw, safe=" +"), quote_plus(raw)}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        padded = encode(raw).decode()
        forms |= {padded, padded.rstrip("=")}
        for skipped in (0, 1, 2):  # within a longer text, as in the header of basic access
            inner = encode(bytes(skipped) + raw).decode().rstrip("=")
            inner = inner[skipped and skipped + 1 : -1 if (skipped + len(raw)) % 3 else None]
            if len(inner) > SHORTEST:
                forms.add(inner)
    if text is None:
        return forms | {repr(raw)[2:-1]}
    as_json = (json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    as_repr = (repr(text)[1:-1], repr(f'"{text}')[2:-1])  # which quotes it escapes depends
    return forms | {text, *as_json, *as_repr}


# -- masking -----------------------------------------------------------------------------


def mask(text: str) -> str:
    """Return a text with :data:`MASK` in the place of every known secret value."""
    if not _index:
        return text
    masked: list[str] = []
    end = 0
    starts = range(len(text) - SHORTEST + 1)
    for at in [at for at in starts if text[at : at + SHORTEST] in _index]:
        for length in _index.get(text[at : at + SHORTEST], ()):
            if text[at : at + length] in _counts and at + length <= len(text):
                if at >= end:  # else it overlaps the one before: one mask for both
                    masked += (text[end:at], MASK)
                end = max(end, at + length)
                break
    return "".join((*masked, text[end:])) if masked else text


def mask_within(value: Any) -> Any:
    """Return a value with every text in it masked, also within lists, tuples and dicts."""
    if not _index:
        return value
    kind = cast("type[object]", type(value))
    if kind is str:
        return mask(value)
    if kind is bytes:
        return mask(value.decode("latin-1")).encode("latin-1")
    if kind is list:
        return [mask_within(inner) for inner in value]
    if kind is tuple:
        return tuple(mask_within(inner) for inner in value)
    if kind is dict:
        return {mask_within(key): mask_within(inner) for key, inner in value.items()}
    return value


# -- exceptions --------------------------------------------------------------------------

_TEXTS = ("strerror", "filename", "filename2", "msg", "text", "path", "reason")
"""Where built-in exceptions keep text that is not in their ``__dict__``."""


class MaskedError(Exception):
    """Stands for an exception whose own text cannot be rid of a secret: its type, and its text."""


def scrub(error: BaseException) -> BaseException:
    """
    Mask the known secrets in an exception and in all it was caused by, in place.

    One that still shows a secret, its text being made of something else, is replaced by a
    :class:`MaskedError` with its traceback.

    Returns:
        The exception; a :class:`MaskedError` if it is itself one of those.
    """
    if not _index:
        return error
    chain: dict[int, BaseException] = {}
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and id(one) not in chain:
            chain[id(one)] = one
            todo += (one.__cause__, one.__context__, *_grouped(one))
    clean: dict[int, BaseException] = {}
    for number, one in reversed(chain.items()):  # those of a group before the group
        clean[number] = _scrubbed(one, clean)
    for number, one in chain.items():
        scrubbed, suppressed = clean[number], one.__suppress_context__
        if one.__cause__ is not None:
            scrubbed.__cause__ = clean[id(one.__cause__)]
        if one.__context__ is not None:
            scrubbed.__context__ = clean[id(one.__context__)]
        scrubbed.__suppress_context__ = suppressed
    return clean[id(error)]


def _grouped(error: BaseException) -> tuple[BaseException, ...]:
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).exceptions
    return ()


def _scrubbed(error: BaseException, clean: Mapping[int, BaseException]) -> BaseException:
    for name, value in (*vars(error).items(), ("args", error.args)):
        if name not in ("code", "provider_name"):  # a RegistryError's, which are names
            _replace(error, name, value)
    for name in _TEXTS:
        _replace(error, name, getattr(error, name, None))
    scrubbed = error
    grouped = [clean.get(id(one), one) for one in _grouped(error)]
    if any(new is not old for new, old in zip(grouped, _grouped(error), strict=True)):
        group = cast("BaseExceptionGroup[BaseException]", error)
        scrubbed = group.derive(grouped).with_traceback(error.__traceback__)
    try:
        shown = [str(scrubbed), repr(scrubbed)]
    except Exception:  # a defect of the exception, not ours to raise
        shown = []
    if shown and mask_within(shown) == shown:
        return scrubbed
    kind: type[BaseException] = type(error)
    text = mask("".join(shown[:1]))
    stand_in = MaskedError(f"{kind.__module__}.{kind.__qualname__}: {text}")
    return stand_in.with_traceback(error.__traceback__)


def _replace(error: BaseException, name: str, value: Any) -> None:
    masked = mask_within(value)
    if masked is not value and masked != value:
        with suppress(AttributeError, TypeError):  # read-only: found out by what it shows
            setattr(error, name, masked)
