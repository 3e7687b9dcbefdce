"""Passes on between processes what of the sources is to be read again, by PostgreSQL's notifications; nothing is stored."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import func, select

from sources.ledger.database import Database
from sources.ports.changes import Forget, Forgetting

CHANNEL = "gateway_cache"
MOST_RECORDS = 50
"""In one notification, which holds less than 8,000 bytes (PostgreSQL's manual, NOTIFY)."""

_decode = msgspec.json.Decoder(Forgetting).decode


class Forgettings:
    """Fills ForgettingFeed. Heard on the connection by which the ledger's memory listens."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Forget] = []
        database.memory.hear_also(CHANNEL, self._heard)

    async def tell(self, forgettings: Sequence[Forgetting]) -> None:
        parts = [part for one in forgettings for part in _parted(one)]
        async with self._database.reading() as connection:
            for part in parts:
                await connection.execute(select(func.pg_notify(CHANNEL, msgspec.json.encode(part).decode())))

    def listen(self, forget: Forget) -> None:
        self._listeners.append(forget)

    def _heard(self, text: str | None) -> None:
        try:
            forgetting = Forgetting() if text is None else _decode(text)
        except msgspec.DecodeError:
            forgetting = Forgetting()  # of a newer version: better too much than too little
        for forget in self._listeners:
            forget(forgetting)


def _parted(forgetting: Forgetting) -> Sequence[Forgetting]:
    refs = forgetting.refs
    if len(refs) <= MOST_RECORDS:
        return [forgetting]
    return [
        Forgetting(forgetting.source, refs[start : start + MOST_RECORDS])
        for start in range(0, len(refs), MOST_RECORDS)
    ]
