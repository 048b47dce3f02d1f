"""A secret is known by its type; what is written of errors and in logs is searched for it."""

from __future__ import annotations

import base64
import copy
import gc
import json
import logging
import pickle
from collections.abc import Callable, Iterator, Mapping
from traceback import format_exception
from typing import Annotated, Any, ClassVar
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr, ValidationError

from purveyor.providers.registry import (
    MASK,
    UNCHANGED,
    InvalidConfigError,
    MaskedError,
    Provider,
    ProviderConfig,
    RegistryError,
    SecretFilter,
    default_types,
    mask,
    masked_logs,
    register_provider,
    remember,
    scrub,
)
from purveyor.providers.registry.redaction import (
    _counts,
    _index,
    _lengths,
    _models,
    mask_within,
    secret_fields_of,
)
from tests.providers.registry.samples import Backend, BackendError, SampleConfig, in_threads


class Config(ProviderConfig):
    aliases: ClassVar[Mapping[str, str]] = {"pass": "password", "user": "username"}

    username: str = ""
    password: SecretStr | None = None
    key: SecretBytes = SecretBytes(b"")
    tokens: tuple[SecretStr, ...] = ()
    keys: dict[str, SecretStr] = Field(default_factory=dict)
    extra: Annotated[Secret[dict[str, Any]] | None, Field(description="any")] = None
    not_secret: tuple[str, ...] = ()


@pytest.mark.requirement("S0.26")
def test_a_field_is_secret_because_of_its_type() -> None:
    assert secret_fields_of(Config) == {"password", "pass", "key", "tokens", "keys", "extra"}


@pytest.mark.requirement("S0.26")
def test_a_type_in_the_catalogue_knows_its_secret_settings() -> None:
    s3 = default_types.get("storage", "s3")
    assert s3.secret_fields == {"access_key", "secret_key", "session_token"}
    assert default_types.get("storage", "filesystem").secret_fields == frozenset()


class Inner(ProviderConfig):
    token: SecretStr


class Outer(ProviderConfig):
    inner: Inner | None = None
    several: tuple[Inner, ...] = ()
    again: Outer | None = None
    plain: str = ""


@pytest.mark.requirement("S0.26")
def test_a_field_with_a_secret_below_it_is_secret() -> None:
    assert secret_fields_of(Outer) == {"inner", "several"}


# -- by value ----------------------------------------------------------------------------

SECRET = 'p@ss:w/rd%25 "+=\n~ä'


def known(*values: Any) -> Secrets:
    """Return a model whose secrets are known for as long as it is held."""
    model = Secrets(secrets=tuple(Secret(value) for value in values))
    remember(model)
    return model


def sizes() -> tuple[int, ...]:
    """Return how much is kept of what is known."""
    return len(_index), len(_lengths), len(_counts), len(_models)


class Secrets(ProviderConfig):
    secrets: tuple[Secret[Any], ...]


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "quoted": quote,
    "quoted whole": lambda text: quote(text, safe=""),
    "quoted with plus": quote_plus,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 unpadded": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON beyond ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "repr": lambda text: repr(text)[1:-1],
    "repr within a text": lambda text: repr(f"'\"{text}")[4:-1],
    "stripped": str.strip,
}


class TestMask:
    @pytest.mark.requirement("S3.28", "S3.30", "S4.51")
    @pytest.mark.parametrize("form", FORMS)
    def test_covers_every_form_of_a_value(self, form: str) -> None:
        model = known(SECRET)
        assert mask(f"<{FORMS[form](SECRET)}>") == f"<{MASK}>"
        del model

    @pytest.mark.requirement("S4.51")
    @given(text=st.text(min_size=6), before=st.text(), after=st.text())
    def test_leaves_nothing_of_any_value(self, text: str, before: str, after: str) -> None:
        assume(text not in MASK + before + after)
        model = known(text)
        for form in FORMS.values():
            assert form(text) not in mask(form(text)) or len(form(text)) < 6
        assert MASK in mask(f"{before}{text}{after}")
        del model

    def test_covers_the_header_of_basic_access(self) -> None:
        model = known("hunter2hunter2")
        for user in ("a", "ab", "abc"):
            header = base64.b64encode(f"{user}:hunter2hunter2".encode()).decode()
            assert MASK in mask(header)
            assert len(mask(header)) < len(header)
        del model

    @pytest.mark.parametrize(
        ("text", "alone"),
        [
            ("postgresql://user:p%40ssw%3Ard@host/db", "p@ssw:rd"),
            ("postgresql://user:p@ss:w/rd%25@host:5432/db?a=b", "p@ss:w/rd%25"),
            ("postgresql://user:p@ss:w/rd%25@host:5432/db?a=b", "p@ss:w/rd%"),
            ("redis://:only-password@host", "only-password"),
            ("host=h user=u password='two words' dbname=d", "two words"),
            ("host=h password=oneword dbname=d", "oneword"),
            ("AccountName=a;AccountKey=a2V5IGtleSBrZXk=;EndpointSuffix=e", "a2V5IGtleSBrZXk="),
            ("sv=2024&se=2030&sig=c2lnbmF0dXJl%3D", "c2lnbmF0dXJl="),
        ],
    )
    @pytest.mark.requirement("S3.30")
    def test_covers_the_password_of_a_connection_string(self, text: str, alone: str) -> None:
        model = known(text)
        assert mask(f"refused: {text}") == f"refused: {MASK}"
        assert mask(f"refused: {alone}!") == f"refused: {MASK}!"
        assert "host" in mask("no such host")
        del model

    def test_covers_what_is_in_any_depth_of_a_secret(self) -> None:
        model = known({"a": ["first-secret", {"b": b"second-secret"}], "n": 1234567, "yes": True})
        assert mask("first-secret second-secret 1234567 True") == f"{MASK} {MASK} {MASK} True"
        del model

    def test_covers_bytes_that_are_no_text(self) -> None:
        value = b"\xff\xfe\x00\x01\x02\x03"
        model = known(value)
        assert mask(f"{value!r} {base64.b64encode(value).decode()}") == f"b'{MASK}' {MASK}"
        del model

    def test_of_values_that_overlap_is_one(self) -> None:
        model = known("abcdefgh", "efghijkl", "cdefgh", "abcdefghij")
        assert mask("-abcdefghijkl-") == f"-{MASK}-"
        assert mask("-abcdefgh-efghijkl-") == f"-{MASK}-{MASK}-"
        del model

    def test_is_as_wide_whatever_the_value(self) -> None:
        model = known("short1", "a very much longer secret")
        assert mask("short1") == mask("a very much longer secret") == MASK
        del model

    def test_does_not_cover_values_too_short_to_tell(self) -> None:
        model = known("user1", "")
        assert mask("user1") == "user1"
        del model

    def test_takes_only_what_is_secret(self) -> None:
        model = Config(username="not-a-secret", password=SecretStr("very-secret"))
        remember(model)
        assert mask("not-a-secret very-secret") == f"not-a-secret {MASK}"
        del model

    def test_goes_into_lists_and_tables(self) -> None:
        model = known("very-secret")
        value = {"a": ["very-secret", ("very-secret", 1)], "b": b"very-secret", "c": None}
        masked = {"a": [MASK, (MASK, 1)], "b": MASK.encode(), "c": None}
        assert mask_within(value) == masked
        del model

    def test_ends_with_the_last_model_that_holds_the_value(self) -> None:
        first, second = known("very-secret", "other-secret"), known("very-secret")
        remember(first)
        del first
        gc.collect()
        assert mask("very-secret other-secret") == f"{MASK} other-secret"
        del second
        gc.collect()
        assert mask("very-secret") == "very-secret"

    def test_follows_a_model_that_was_changed(self) -> None:
        class Mutable(BaseModel):
            secret: SecretStr

        model = Mutable(secret=SecretStr("first-secret"))
        remember(model)
        model.secret = SecretStr("second-secret")
        remember(model)
        assert mask("first-secret second-secret") == f"first-secret {MASK}"
        del model

    def test_leaves_nothing_behind(self) -> None:
        before = sizes()
        for number in range(10_000):
            known(f"secret number {number}")
        gc.collect()
        assert sizes() == before

    def test_is_right_while_other_threads_remember_and_forget(self) -> None:
        stays = known("stays-secret", "stays-second")
        before = len(_counts)

        def work(number: int) -> None:
            for turn in range(200):
                model = known(f"stays-{number}-{turn}", "stays-shared")
                assert mask(f"stays-secret stays-{number}-{turn}") == f"{MASK} {MASK}"
                del model

        assert in_threads(8, work) == [None] * 8
        gc.collect()
        assert len(_counts) == before
        assert mask("stays-second") == MASK
        del stays


class TestComingBack:
    """A mask that was shown must not be stored as the secret."""

    @pytest.mark.parametrize(
        "given",
        [
            {"password": MASK},
            {"password": SecretStr("**********")},
            {"key": MASK.encode()},
            {"tokens": ("a-token", MASK)},
            {"keys": {"one": MASK}},
            {"extra": {"deep": {"down": [MASK]}}},
            {"pass": MASK},
            {"password": f"postgresql://user:{MASK}@host/db"},
        ],
    )
    @pytest.mark.requirement("S3.24")
    async def test_is_refused(self, given: dict[str, Any], registry: Any) -> None:
        register_provider("secretive", types=registry._builder.types)(Secretive)
        with pytest.raises(InvalidConfigError, match="is the mask, not the value") as caught:
            await registry.register("one", {"type": "secretive", "options": given})
        assert "leave it out to keep it" in caught.value.message
        assert "one" not in registry.names()

    async def test_is_refused_in_a_model_too(self, registry: Any) -> None:
        register_provider("secretive", types=registry._builder.types)(Secretive)
        with pytest.raises(InvalidConfigError, match="password: is the mask, not the value"):
            await registry.register("one", Config(password=SecretStr(MASK)), type="secretive")

    async def test_is_told_beside_other_faults(self, registry: Any) -> None:
        register_provider("secretive", types=registry._builder.types)(Secretive)
        given = {"type": "secretive", "password": MASK, "unknown": 1}
        with pytest.raises(InvalidConfigError) as caught:
            await registry.register("one", given)
        wheres = {problem["where"] for problem in caught.value.context["problems"]}  # type: ignore[attr-defined]
        assert wheres == {"password", "unknown"}

    async def test_is_no_matter_where_nothing_is_secret(self, registry: Any) -> None:
        register_provider("secretive", types=registry._builder.types)(Secretive)
        await registry.register("one", {"type": "secretive", "username": MASK})

    def test_unchanged_is_one_thing_and_no_text(self) -> None:
        assert repr(UNCHANGED) == "UNCHANGED"
        assert copy.deepcopy(UNCHANGED) is pickle.loads(pickle.dumps(UNCHANGED)) is UNCHANGED
        with pytest.raises(ValidationError):
            Config.model_validate({"password": UNCHANGED})


class Secretive(Provider[Config]):
    family = "storage"

    async def check_health(self) -> None: ...


# -- exceptions --------------------------------------------------------------------------


class StubbornError(Exception):
    """Says what it was told by closing over it, where nothing can mask it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tell = lambda: text

    def __str__(self) -> str:
        return self.tell()


def raised(error: BaseException, cause: BaseException | None = None) -> Any:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


@pytest.fixture
def secret() -> Iterator[str]:
    model = known("very-secret")
    yield "very-secret"
    del model


class TestScrub:
    @pytest.mark.requirement("S3.30", "S4.51")
    @pytest.mark.parametrize(
        "make",
        [
            lambda text: ValueError(f"refused {text}"),
            lambda text: KeyError(text, ("nested", [text])),
            lambda text: FileNotFoundError(2, f"no {text}", f"/{text}", None, f"/to/{text}"),
            lambda text: ImportError(f"no {text}", name=text, path=text),
            lambda text: SyntaxError(text, (text, 1, 1, text)),
            lambda text: json.JSONDecodeError("bad", text, 0),
            lambda text: RegistryError("CODE", text, None, {"a": [text]}),
            lambda text: ExceptionGroup("several", [ValueError(text)]),
        ],
    )
    def test_masks_in_place(self, make: Callable[[str], Exception], secret: str) -> None:
        error = raised(make(secret), raised(make(secret), make(secret)))
        error.add_note(f"about {secret}")
        traceback = error.__traceback__
        assert scrub(error) is error
        assert error.__traceback__ is traceback
        for shown in ("".join(format_exception(error)), repr(error), repr(vars(error))):
            assert secret not in shown
        assert MASK in "".join(format_exception(error))

    def test_puts_a_stand_in_where_it_cannot(self, secret: str) -> None:
        cause = raised(StubbornError(f"refused {secret}"), ValueError(secret))
        error = raised(ValueError("failed"), cause)
        assert scrub(error) is error
        stand_in = error.__cause__
        assert isinstance(stand_in, MaskedError)
        assert str(stand_in).endswith(f"StubbornError: refused {MASK}")
        assert stand_in.__traceback__ is cause.__traceback__
        assert str(stand_in.__cause__) == MASK

    def test_puts_one_into_a_group(self, secret: str) -> None:
        error = raised(ExceptionGroup("several", [StubbornError(secret), ValueError("other")]))
        group = scrub(error)
        assert isinstance(group, ExceptionGroup)
        assert [type(one) for one in group.exceptions] == [MaskedError, ValueError]
        assert secret not in "".join(format_exception(group))

    def test_tells_only_the_type_of_what_cannot_be_shown(self, secret: str) -> None:
        class BrokenError(Exception):
            def __str__(self) -> str:
                raise RuntimeError(secret)

        assert str(scrub(BrokenError())).endswith("BrokenError: ")

    def test_comes_to_an_end_in_a_circle(self, secret: str) -> None:
        first, second = ValueError(secret), StubbornError(secret)
        first.__cause__, second.__context__ = second, first
        clean = scrub(first)
        assert isinstance(clean.__cause__, MaskedError)
        assert clean.__cause__.__context__ is first

    def test_leaves_what_is_clean_as_it_is(self, secret: str) -> None:
        context = ValueError("inner")
        error = RegistryError("VERY-SECRET", "outer", "name-of-very-secret", {"n": 1})
        error.__context__, error.__suppress_context__ = context, True
        scrub(error)
        assert (error.code, error.provider_name) == ("VERY-SECRET", "name-of-very-secret")
        assert (error.__context__, error.__suppress_context__) == (context, True)

    def test_does_nothing_where_nothing_is_known(self) -> None:
        error = StubbornError("anything")
        assert scrub(error) is error


@pytest.mark.requirement("S3.30", "S4.51")
def test_an_error_of_the_registry_masks_itself(secret: str) -> None:
    error = RegistryError("CODE", f"refused {secret}", "name", {"told": [f"by {secret}"]})
    assert (str(error), error.args) == (f"refused {MASK}", (f"refused {MASK}",))
    assert error.to_dict()["context"] == {"told": [f"by {MASK}"]}
    assert secret not in repr(pickle.loads(pickle.dumps(error)).to_dict())


class TestGuarded:
    """What a library raises with a secret in it reaches no caller."""

    @pytest.mark.requirement("S3.30", "S4.51")
    @pytest.mark.parametrize("kind", [BackendError, ValueError, OSError, StubbornError])
    @pytest.mark.parametrize("where", ["connect", "close", "health", "operation"])
    async def test_errors_are_scrubbed(
        self, where: str, kind: type[Exception], registry: Any, backend: Backend
    ) -> None:
        secret = "very-secret"

        async def fail(*_: object) -> None:
            try:
                raise kind(f"first {secret}")
            except kind as first:
                raise kind(f"second {secret}") from first

        sample = await registry.register(
            "sample", SampleConfig(backend=backend, password=SecretStr(secret))
        )
        calls: dict[str, Callable[[], Any]] = {
            "connect": sample.initialize,
            "close": sample.dispose,
            "health": sample.check_health,
            "operation": lambda: sample.do(fail),
        }
        if where != "connect":
            await sample.initialize()
        if where != "operation":
            setattr(backend, where, fail)
        with pytest.raises(Exception, match=r"\*{10}") as caught:
            await calls[where]()
        errors: list[BaseException | None] = [caught.value]
        for error in errors:
            if error is not None and error not in errors[: errors.index(error)]:
                assert secret not in f"{error} {error!r} {vars(error)!r}"
                errors += [error.__cause__, error.__context__]
        assert len(errors) > 2
        assert secret not in repr(registry.info("sample").to_dict())
        assert secret not in str(sample._guard.last_error)
        result = await registry.get_provider_health("sample")
        assert secret not in repr(result.to_dict())


# -- logs --------------------------------------------------------------------------------


class Kept(logging.Handler):
    """Formats every record, and keeps the text."""

    def __init__(self, format: str = "%(message)s") -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(format))
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.texts.append(self.format(record))
        except TypeError:
            self.handleError(record)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("a.library.of.others")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture
def kept(logger: logging.Logger) -> Kept:
    kept = Kept()
    logger.addHandler(kept)
    return kept


class TestLogs:
    @pytest.mark.requirement("S3.30", "S4.51")
    def test_are_masked_for_handlers_that_come_later_too(
        self, secret: str, logger: logging.Logger
    ) -> None:
        with masked_logs():
            kept = Kept()
            logger.addHandler(kept)
            logger.debug("connecting to %s as %s", f"redis://:{secret}@host", "user")
            logger.debug("%(dsn)s", {"dsn": secret})
            logger.error(ValueError(secret))
            logger.info(f"literal {secret} 100%")
        assert kept.texts == [
            f"connecting to redis://:{MASK}@host as user",
            MASK,
            MASK,
            f"literal {MASK} 100%",
        ]

    @pytest.mark.requirement("S3.30", "S4.51")
    def test_are_masked_in_traceback_and_stack(
        self, secret: str, logger: logging.Logger, kept: Kept
    ) -> None:
        with masked_logs():
            logger.error("failed", exc_info=raised(ValueError(secret), StubbornError(secret)))
            logger.error("failed", exc_info=raised(ValueError("harmless")))
            logger.error("at", stack_info=bool("very-secret"))
        assert secret not in "".join(kept.texts)
        assert f"ValueError: {MASK}" in kept.texts[0]
        assert kept.texts[1].count("Traceback") == 1
        assert "harmless" in kept.texts[1]

    def test_keep_arguments_that_formatters_ask_for(
        self, secret: str, logger: logging.Logger
    ) -> None:
        found: list[Any] = []
        with masked_logs():
            logger.addFilter(lambda record: found.append(record.args) or True)
            logger.info("%s %d", "client", 200)
        assert found == [("client", 200)]

    def test_are_masked_where_the_arguments_do_not_fit(
        self,
        secret: str,
        logger: logging.Logger,
        kept: Kept,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with masked_logs():
            record = logger.makeRecord("n", logging.INFO, "f", 1, "%s %s", (secret,), None)
        kept.handle(record)  # not by way of pytest's own handler, which raises
        assert MASK in str(record.args)
        assert secret not in "".join((*kept.texts, *capsys.readouterr()))

    def test_by_a_filter_on_a_handler_are_masked_with_what_is_extra(
        self, secret: str, logger: logging.Logger
    ) -> None:
        kept = Kept("%(message)s %(dsn)s")
        kept.addFilter(SecretFilter())
        logger.addHandler(kept)
        logger.info("connecting", extra={"dsn": secret})
        assert kept.texts == [f"connecting {MASK}"]

    def test_are_masked_until_the_last_lifetime_ends(
        self, secret: str, logger: logging.Logger, kept: Kept
    ) -> None:
        before = logging.getLogRecordFactory()
        with masked_logs():
            first = logging.getLogRecordFactory()
            with masked_logs():
                assert logging.getLogRecordFactory() is first
            logger.info(secret)
        logger.info(secret)
        assert kept.texts == [MASK, secret]
        assert logging.getLogRecordFactory() is before

    def test_stay_right_with_a_factory_put_around(
        self, secret: str, logger: logging.Logger, kept: Kept
    ) -> None:
        before = logging.getLogRecordFactory()
        try:
            for _ in range(3):
                with masked_logs():
                    inner = logging.getLogRecordFactory()
                    logging.setLogRecordFactory(lambda *a, inner=inner, **k: inner(*a, **k))
                    logger.info(secret)
                logger.info(secret)
        finally:
            logging.setLogRecordFactory(before)
        assert kept.texts == [MASK, secret] * 3
