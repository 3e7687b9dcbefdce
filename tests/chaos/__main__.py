"""``python -m tests.chaos``: the whole matrix, printed, and written into docs/chaos.md where asked."""

import argparse
import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from sources.ledger.embedded import EmbeddedPostgres
from tests.chaos.cell import Found, open_scene
from tests.chaos.faults import FAULTS
from tests.chaos.portal import FIELDS
from tests.chaos.table import lines, write


async def run(sources: list[str], seconds: float) -> list[Found]:
    """One portal for each source."""
    found = []
    with TemporaryDirectory(prefix="chaos-postgres-") as folder, EmbeddedPostgres() as server:
        postgres = server.start(Path(folder) / "ledger")
        for source in sources:
            helpdesk = source if source == "freshdesk" else "zendesk"
            async with open_scene(postgres, helpdesk) as scene:
                for fault in FAULTS:
                    found.append(await scene.suffer(source, fault, max(seconds, fault.seconds)))
                    print(lines(found)[-1], flush=True)
    return found


def main() -> None:
    """Fails where something does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "sources", nargs="*", metavar="source", help=f"of {', '.join(FIELDS)}; all unless named"
    )
    parser.add_argument("--seconds", type=float, default=2.5, help="how long each fault lasts (2.5)")
    parser.add_argument("--write", action="store_true", help="into docs/chaos.md")
    options = parser.parse_args()
    if unknown := set(options.sources) - set(FIELDS):
        parser.error(f"no such source: {', '.join(sorted(unknown))}")
    if options.write and options.sources:
        parser.error("--write is for all sources")
    # Thousands of requests are about to fail.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    found = asyncio.run(run(options.sources or list(FIELDS), options.seconds))
    if options.write:
        write(found)
    if any(one.complaints for one in found):
        raise SystemExit("not all holds")


if __name__ == "__main__":
    main()
