"""Server-sent events: what is read of them does not depend on how they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.providers.web import sse
from purveyor.providers.web.errors import BadResponseError
from purveyor.providers.web.sse import Event, EventParser


def read(*pieces: bytes) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_three_ways(end: str):
    stream = f"event: a{end}data: 1{end}data: 2{end}{end}data: 3{end}{end}:{end}"
    assert read(stream.encode()) == [Event("a", "1\n2"), Event("message", "3")]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"\xef\xbb\xbfdata: 1\n\n", ["1"]),
        (b": a comment\ndata: 1\n\n", ["1"]),
        (b"data:1\n\n", ["1"]),
        (b"data:  1\n\n", [" 1"]),
        (b"data\n\n", [""]),
        (b"id: 7\nretry: 9\nunknown: x\ndata: 1\n\n", ["1"]),
        (b"event: empty\n\n", []),
        (b"data: cut off", []),
        (b"data: cut off\n", []),
        ("data: \u2028 is no end of a line\n\n".encode(), ["\u2028 is no end of a line"]),
        (b"data: \xff\n\n", ["\ufffd"]),
    ],
)
def test_what_is_no_event_is_passed_by(stream: bytes, events: list[str]):
    assert [event.data for event in read(stream)] == events


def test_a_name_holds_for_one_event():
    assert read(b"event: a\ndata: 1\n\ndata: 2\n\n") == [Event("a", "1"), Event("message", "2")]


LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=9)


@given(
    st.lists(st.tuples(LINES, st.lists(LINES, min_size=1, max_size=3)), max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.data(),
)
def test_events_are_the_same_however_they_are_cut(
    events: list[tuple[str, list[str]]], end: str, data: st.DataObject
):
    stream = "".join(
        f"event: {name}{end}{''.join(f'data: {line}{end}' for line in lines)}{end}"
        for name, lines in events
    ).encode()
    stream += b": the end\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=9)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    expected = [Event(name or "message", "\n".join(lines)) for name, lines in events]
    assert read(*pieces) == expected


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse, "MAX_EVENT", 1000)
    for piece in (b"data: ....", b"data: ....\n"):
        with pytest.raises(BadResponseError, match="more than 1000 bytes"):
            read(*[piece] * 200)
