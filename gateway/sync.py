"""``gateway sync``: brings the mirrors up to date, once."""

import asyncio
from collections import Counter
from typing import Annotated

import typer
from rich.console import Console

from gateway.console import TOML, Config, in_office, stop
from gateway.office import Office
from sources.layers.mirror import Mirror
from sources.ports.errors import SourceError

TURN_SECONDS = 2.0


def sync(
    config: Config = TOML,
    whole: Annotated[
        bool, typer.Option("--whole", help="Read everything again, not only what has changed.")
    ] = False,
) -> None:
    """Reads what has changed in the sources that are mirrored, and says how far each copy is. Goes on where a run that
    was broken off has come to; a running gateway does the same by itself."""

    async def run(office: Office) -> None:
        if not office.mirrors:
            print("no source is mirrored")
        failures = [failure for mirror in office.mirrors if (failure := await _follow(mirror, whole))]
        if failures:
            stop("\n".join(failures))

    in_office(config, run)


async def _follow(mirror: Mirror, whole: bool) -> str | None:
    """What went wrong, in one line."""
    read: Counter[str] = Counter()
    failure = None
    with Console(stderr=True).status(f"{mirror.source} ...") as status:

        def told(stream: str, rows: int) -> None:
            read[stream] += rows
            status.update(f"{mirror.source}: {read[stream]} {stream} read")

        try:
            while not await mirror.catch_up(patient=True, everything=True, whole=whole, told=told):
                status.update(f"{mirror.source}: another process is at it ...")
                await asyncio.sleep(TURN_SECONDS)
        except SourceError as error:
            failure = str(error)
    for lag in await mirror.lag():
        age = "not complete yet" if lag.age is None else f"as of {lag.age:.0f} s ago"
        dropped = f", {lag.dropped} dropped" if lag.dropped else ""
        print(f"{mirror.source} {lag.stream}: {read[lag.stream]} read, {lag.rows} kept{dropped}, {age}")
    return failure
