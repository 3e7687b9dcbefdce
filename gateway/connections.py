"""How many connections stay open, by whose they are."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.signin.refused import SignInRefused


class Connections:
    """Of this process. ``most`` for one caller."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    @contextmanager
    def one_more(self, identity: str) -> Iterator[None]:
        """Raises SignInRefused 429 when it would be one too many."""
        if self._open[identity] >= self._most:
            raise SignInRefused(
                f"at most {self._most} connections may stay open at a time; close one",
                status=429,
                code="LIMIT_EXCEEDED",
            )
        self._open[identity] += 1
        try:
            yield
        finally:
            self._open[identity] -= 1
            if not self._open[identity]:
                del self._open[identity]
