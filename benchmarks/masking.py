"""Masking known secrets in a line of a log: ``uv run python benchmarks/masking.py``."""

from __future__ import annotations

from measure import per_call, ratio, rounds, table, verdict
from pydantic import BaseModel, SecretStr

from purveyor.providers.registry import mask, remember

ROUNDS = 7
CALLS = 500
LINE = "connected to postgresql://db.example.org:5432/warehouse as reader, 12 tables in 0.031 s"


class Login(BaseModel):
    """What holds a secret."""

    dsn: SecretStr


def logins(count: int) -> list[Login]:
    """Return configurations whose secrets are known for as long as they live."""
    made: list[Login] = []
    for number in range(count):
        dsn = f"postgresql://reader:password-{number:06}@db.example.org:5432/warehouse"
        made.append(Login(dsn=SecretStr(dsn)))
        remember(made[-1])
    return made


def main() -> None:
    """Print nanoseconds of CPU time a line, by how many secrets are known."""

    def with_known(count: int) -> float:
        held = logins(count)
        figure = per_call(lambda: mask(LINE), CALLS)
        assert len(held) == count
        return figure

    counts = (0, 1, 50, 20_000)
    figures = rounds(
        {f"{count} known": lambda count=count: with_known(count) for count in counts}, ROUNDS
    )
    table(figures, "ns a line", "1 known")
    verdict("a line with 20,000 known secrets over 1", ratio(figures, "20000 known", "1 known"), 2)


if __name__ == "__main__":
    main()
