"""Bech32, the writing of age's keys (BIP 173, without its limit of 90 letters)."""

from __future__ import annotations

__all__ = ["bech32_decode", "bech32_encode"]

_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def bech32_encode(prefix: str, data: bytes) -> str:
    """Return ``data`` as text that begins with ``prefix`` and ``1``, in lower case."""
    values = _regrouped(data, 8, 5, pad=True)
    check = _checksum([*_expanded(prefix), *values, *bytes(6)]) ^ 1
    values += [check >> 5 * (5 - place) & 31 for place in range(6)]
    return f"{prefix}1{''.join(_LETTERS[value] for value in values)}"


def bech32_decode(text: str) -> tuple[str, bytes]:
    """
    Return the prefix, in lower case, and the bytes that ``text`` stands for.

    Raises:
        ValueError: It is not well-formed, or a letter of it is wrong. The text is not quoted.
    """
    lower = text.lower()
    prefix, one, rest = lower.rpartition("1")
    if text not in (lower, text.upper()) or not (one and prefix) or len(rest) < 6:
        raise ValueError("is not written in Bech32")
    try:
        values = [_LETTERS.index(letter) for letter in rest]
    except ValueError:
        raise ValueError("holds a letter that Bech32 does not have") from None
    if _checksum([*_expanded(prefix), *values]) != 1:
        raise ValueError("has a wrong checksum: a letter of it is missing or wrong")
    return prefix, bytes(_regrouped(values[:-6], 5, 8, pad=False))


def _expanded(prefix: str) -> list[int]:
    codes = prefix.encode()
    return [*(code >> 5 for code in codes), 0, *(code & 31 for code in codes)]


def _checksum(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for place, factor in enumerate(_GENERATOR):
            if top >> place & 1:
                check ^= factor
    return check


def _regrouped(values: bytes | list[int], width: int, into: int, *, pad: bool) -> list[int]:
    """Return groups of ``width`` bits as groups of ``into`` bits."""
    found: list[int] = []
    held = bits = 0
    for value in values:
        held, bits = held << width | value, bits + width
        while bits >= into:
            bits -= into
            found.append(held >> bits & (1 << into) - 1)
            held &= (1 << bits) - 1
    if pad and bits:
        found.append(held << into - bits & (1 << into) - 1)
    elif not pad and (bits >= width or held):
        raise ValueError("does not end at a whole byte")
    return found
