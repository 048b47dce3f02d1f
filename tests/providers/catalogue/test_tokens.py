"""Access tokens; where databases differ, in a catalogue of each kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.catalogue import (
    Catalogue,
    CatalogueUnavailableError,
    TokenRefusedError,
    Tokens,
)
from purveyor.providers.registry import (
    AlreadyExistsError,
    InvalidNameError,
    NotFoundError,
    Role,
)
from purveyor.testing.servers import PostgreSQL


class Clock:
    """A time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def catalogue(
    folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Catalogue]:
    """A catalogue in a file, which is not there yet."""
    monkeypatch.setenv("PURVEYOR_CATALOGUE__URL", f"sqlite:///{folder / 'shared.db'}")
    catalogue = ApplicationContainer().catalogue()
    yield catalogue
    await catalogue.close()


@pytest.fixture
def tokens(catalogue: Catalogue, clock: Clock) -> Tokens:
    """The tokens of a process."""
    return Tokens(catalogue, clock=clock)


@pytest.fixture
async def processes(url: str) -> AsyncGenerator[tuple[Tokens, Tokens]]:
    """The tokens of two processes that share a catalogue, of each kind."""
    catalogues = [ApplicationContainer().catalogue() for _ in range(2)]
    yield Tokens(catalogues[0]), Tokens(catalogues[1])
    for one in catalogues:
        await one.close()


async def test_a_token_opens_what_its_role_may(tokens: Tokens) -> None:
    made, text = await tokens.create("ci", Role.OPERATOR)
    assert await tokens.verify(text) == made
    assert (made.name, made.role, made.is_valid) == ("ci", Role.OPERATOR, True)
    assert text.startswith(f"pvy_{made.id}_")


async def test_only_a_digest_is_kept(tokens: Tokens, catalogue: Catalogue) -> None:
    made, text = await tokens.create("ci", Role.READER)
    async with catalogue.store().reading() as connection:
        rows = await connection.exec_driver_sql("SELECT * FROM purveyor_tokens")
        kept = repr(rows.all())
    assert made.id in kept
    assert text.rpartition("_")[2] not in kept
    assert text not in repr(await tokens.list())


async def test_two_tokens_never_are_alike(tokens: Tokens) -> None:
    made = [await tokens.create(f"t{number}", Role.READER) for number in range(20)]
    assert len({text for _, text in made}) == len({token.id for token, _ in made}) == 20


CHANGES: list[Callable[[str], str]] = [
    lambda text: "",
    lambda text: "x",
    lambda text: text + "x",
    lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
    lambda text: text.replace("pvy", "PVY"),
    lambda text: "_".join(text.split("_")[:2]) + "_",
    lambda text: text.split("_")[1],
    lambda text: "pvy_00000000_" + text.split("_", 2)[2],
    lambda text: "\ud800" + text,
    lambda text: "ü" * 100_000,
]


async def test_anything_else_opens_nothing(tokens: Tokens) -> None:
    _, text = await tokens.create("ci", Role.ADMIN)
    for change in CHANGES:
        with pytest.raises(TokenRefusedError, match="The token is unknown") as caught:
            await tokens.verify(change(text))
        assert caught.value.code == "UNAUTHENTICATED"
        assert text not in str(caught.value)
        assert tokens.peek(change(text)) is None


async def test_an_expired_token_opens_nothing(tokens: Tokens) -> None:
    made, text = await tokens.create("ci", Role.READER, lifetime=timedelta(seconds=0.2))
    assert made.expires_at is not None
    await tokens.verify(text)
    await asyncio.sleep((made.expires_at - datetime.now(UTC)).total_seconds())
    with pytest.raises(TokenRefusedError, match="'ci' has expired"):
        await tokens.verify(text)
    assert tokens.peek(text) is None
    assert not await tokens.are_valid()
    assert await tokens.were_made()


async def test_a_revoked_token_opens_nothing_from_then_on(tokens: Tokens) -> None:
    made, text = await tokens.create("ci", Role.READER)
    await tokens.verify(text)
    assert (await tokens.revoke("ci")).revoked_at is not None
    assert tokens.peek(text) is None
    with pytest.raises(TokenRefusedError, match="'ci' was revoked"):
        await tokens.verify(text)
    with pytest.raises(NotFoundError, match="There is none"):
        await tokens.revoke(made.id)


async def test_a_name_is_free_again_when_its_token_ended(tokens: Tokens) -> None:
    first, _ = await tokens.create("ci", Role.READER)
    with pytest.raises(AlreadyExistsError, match="purveyor tokens revoke ci"):
        await tokens.create("ci", Role.ADMIN)
    await tokens.revoke(first.id)
    second, text = await tokens.create("ci", Role.ADMIN)
    assert (await tokens.verify(text)).id == second.id
    assert [token.id for token in await tokens.list()] == [first.id, second.id]


async def test_revoking_an_unknown_one_names_those_there_are(tokens: Tokens) -> None:
    await tokens.create("backups", Role.READER)
    with pytest.raises(NotFoundError, match="There are these: backups"):
        await tokens.revoke("backup")


async def test_of_many_who_make_one_of_the_same_name_one_gets_it(
    processes: tuple[Tokens, Tokens],
) -> None:
    attempts = [one.create("ci", Role.READER) for one in processes * 5]
    made = await asyncio.gather(*attempts, return_exceptions=True)
    failed = [one for one in made if isinstance(one, BaseException)]
    assert [one for one in failed if not isinstance(one, AlreadyExistsError)] == []
    assert len(failed) == 9
    assert [token.is_valid for token in await processes[0].list()] == [True]


async def test_of_many_who_revoke_one_token_one_does(processes: tuple[Tokens, Tokens]) -> None:
    await processes[0].create("ci", Role.READER)
    attempts = [one.revoke("ci") for one in processes * 5]
    done = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(one, NotFoundError) for one in done) == 9


async def test_another_process_sees_a_token_made_or_revoked_within_5_seconds(
    tokens: Tokens, catalogue: Catalogue, clock: Clock
) -> None:
    elsewhere = Tokens(catalogue)
    assert not await tokens.were_made()
    _, text = await elsewhere.create("ci", Role.READER)
    with pytest.raises(TokenRefusedError):
        await tokens.verify(text)
    clock.now += 5
    await tokens.verify(text)
    await elsewhere.revoke("ci")
    await tokens.verify(text)
    clock.now += 5
    with pytest.raises(TokenRefusedError, match="revoked"):
        await tokens.verify(text)


async def test_nobody_gets_in_by_what_was_known_before_a_long_pause(
    tokens: Tokens, catalogue: Catalogue, clock: Clock
) -> None:
    _, text = await tokens.create("ci", Role.READER)
    await tokens.verify(text)
    await Tokens(catalogue).revoke("ci")
    clock.now += 3600
    attempts = [tokens.verify(text) for _ in range(3)]
    found = await asyncio.gather(*attempts, return_exceptions=True)
    assert [type(one) for one in found] == [TokenRefusedError] * 3


async def test_who_leaves_while_tokens_are_read_leaves_that_to_the_next(
    tokens: Tokens, catalogue: Catalogue, clock: Clock
) -> None:
    _, text = await tokens.create("ci", Role.READER)
    await tokens.verify(text)
    await Tokens(catalogue).revoke("ci")
    clock.now += 5
    impatient = asyncio.create_task(tokens.verify(text))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    assert impatient.cancelled()
    with pytest.raises(TokenRefusedError, match="revoked"):
        await tokens.verify(text)


@pytest.mark.parametrize(
    "name", ["", " ", " ci", "ci ", "a\nb", "\x1b[31m", "x" * 101, "anonymous", "cli:root"]
)
async def test_names_that_would_mislead_are_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(InvalidNameError):
        await tokens.create(name, Role.READER)
    assert await tokens.list() == []


@pytest.mark.parametrize("name", ["ci", "Bäckerei 7", "a/b", "<script>", "-x", "x" * 100, "'; --"])
async def test_other_names_are_as_they_are(tokens: Tokens, name: str) -> None:
    made, text = await tokens.create(name, Role.READER)
    assert (await tokens.verify(text)).name == name
    await tokens.revoke(name)
    assert (await tokens.list())[0].id == made.id


@pytest.mark.parametrize("days", [0, -1, 36_501, 999_999_999])
async def test_lifetimes_that_are_none_are_refused(tokens: Tokens, days: int) -> None:
    with pytest.raises(ValueError, match="100 years"):
        await tokens.create("ci", Role.READER, lifetime=timedelta(days=days))


# -- without the database ----------------------------------------------------------------


class Outage:
    """A database that can be taken away and given back."""

    def __init__(self, server: PostgreSQL, url: str) -> None:
        self._server = server
        self._database = url.rpartition("/")[2].partition("?")[0]

    def begin(self) -> None:
        self._server.execute(f'ALTER DATABASE "{self._database}" ALLOW_CONNECTIONS false')
        self._server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{self._database}'"
        )

    def end(self) -> None:
        self._server.execute(f'ALTER DATABASE "{self._database}" ALLOW_CONNECTIONS true')


@pytest.mark.server("postgresql")
async def test_while_the_database_is_away_known_tokens_open_for_5_minutes(
    server_url: str, postgresql: PostgreSQL, clock: Clock
) -> None:
    catalogue: Catalogue = ApplicationContainer().catalogue()
    try:
        tokens, outage = Tokens(catalogue, clock=clock), Outage(postgresql, server_url)
        _, text = await tokens.create("ci", Role.READER)
        _, later = await tokens.create("later", Role.READER)
        await Tokens(catalogue).revoke("later")
        with pytest.raises(TokenRefusedError, match="revoked"):
            await tokens.verify(later)
        outage.begin()
        clock.now += 6
        await tokens.verify(text)
        assert tokens.peek(text) is not None
        with pytest.raises(TokenRefusedError, match="revoked"):
            await tokens.verify(later)
        with pytest.raises(CatalogueUnavailableError, match="Nobody can tell at the moment"):
            await tokens.verify("pvy_00000000_perhaps-made-meanwhile")
        clock.now += 290
        await tokens.verify(text)
        clock.now += 10
        for _ in range(2):
            with pytest.raises(CatalogueUnavailableError):
                await tokens.verify(text)
        assert tokens.peek(text) is None
        outage.end()
        await tokens.verify(text)
        with pytest.raises(TokenRefusedError, match="unknown"):
            await tokens.verify("pvy_00000000_none")
    finally:
        await catalogue.close()


@pytest.mark.server("postgresql")
async def test_a_process_that_never_saw_a_token_cannot_tell_without_the_database(
    server_url: str, postgresql: PostgreSQL
) -> None:
    catalogue: Catalogue = ApplicationContainer().catalogue()
    outage = Outage(postgresql, server_url)
    try:
        outage.begin()
        with pytest.raises(CatalogueUnavailableError):
            await Tokens(catalogue).verify("pvy_x_y")
        with pytest.raises(CatalogueUnavailableError):
            await Tokens(catalogue).were_made()
        outage.end()
        assert not await Tokens(catalogue).were_made()
    finally:
        await catalogue.close()


async def test_where_a_token_was_seen_the_loss_of_the_file_gives_access_to_nobody(
    tokens: Tokens, catalogue: Catalogue, folder: Path, clock: Clock
) -> None:
    _, text = await tokens.create("ci", Role.READER)
    assert await tokens.were_made()
    await catalogue.close()
    (folder / "shared.db").unlink()
    clock.now += 6
    with pytest.raises(TokenRefusedError):
        await tokens.verify(text)
    assert await tokens.were_made()


async def test_without_a_file_there_are_no_tokens_and_none_is_made(
    tokens: Tokens, folder: Path
) -> None:
    assert await tokens.list() == []
    assert not await tokens.were_made()
    with pytest.raises(TokenRefusedError):
        await tokens.verify("pvy_x_y")
    with pytest.raises(NotFoundError):
        await tokens.revoke("ci")
    assert not (folder / "shared.db").exists()


async def test_who_reads_while_a_token_is_revoked_does_not_bring_it_back(tokens: Tokens) -> None:
    _, text = await tokens.create("ci", Role.READER)
    for _ in range(5):
        verify = asyncio.create_task(tokens.verify(text))
        await asyncio.sleep(0)
        await tokens.revoke("ci")
        await asyncio.gather(verify, return_exceptions=True)
        with pytest.raises(TokenRefusedError, match="revoked"):
            await tokens.verify(text)
        _, text = await tokens.create("ci", Role.READER)
