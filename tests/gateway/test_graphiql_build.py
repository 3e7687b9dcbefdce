"""The committed build of the developer's page is whole and was made from the committed sources. Needs no Node."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

from gateway.graphiql import DIST

HOME = DIST.parent
HASHED_NAME = re.compile(rb"[A-Za-z][\w.-]*-[\w-]{8}\.(?:js|css|ttf)\b")
FOREIGN_HOSTS = (b"npmjs", b"unpkg", b"jsdelivr", b"esm.sh", b"googleapis")


def test_the_build_was_made_from_these_sources() -> None:
    built_from: dict[str, str] = {}
    for line in (DIST / "SOURCES.sha256").read_text().splitlines():
        digest, path = line.split("  ", 1)
        built_from[path] = digest
    now = {source.relative_to(HOME).as_posix(): _sha256(source) for source in _sources()}
    changed = sorted(path for path in built_from.keys() | now.keys() if built_from.get(path) != now.get(path))
    assert not changed, (
        f"gateway/graphiql/dist is stale: run `make graphiql`; changed since: {', '.join(changed)}"
    )


def test_the_page_refers_only_to_relative_addresses_that_exist() -> None:
    page = _References()
    page.feed((DIST / "index.html").read_text())
    assert len(page.addresses) >= 3
    assert [
        address
        for address in page.addresses
        if urlsplit(address).netloc or address.startswith("/") or not (DIST / address).is_file()
    ] == []


def test_every_built_file_names_only_built_files() -> None:
    there = {path.name for path in (DIST / "assets").iterdir()}
    named = {
        name.decode()
        for path in (DIST / "assets").iterdir()
        if path.suffix in {".js", ".css"}
        for name in HASHED_NAME.findall(path.read_bytes())
    }
    assert len(named) > 5
    assert named - there == set()


def test_no_built_file_names_a_registry_or_a_content_network() -> None:
    built = {path.name: path.read_bytes() for path in DIST.rglob("*") if path.is_file()}
    assert [
        (name, host) for name, content in built.items() for host in FOREIGN_HOSTS if host in content
    ] == []


def _sources() -> list[Path]:
    """The same files that sources-hash.mjs reads."""
    files = [
        "index.html",
        "package-lock.json",
        "package.json",
        "sources-hash.mjs",
        "tsconfig.json",
        "vite.config.ts",
    ]
    folders = ["public", "src"]
    return [HOME / name for name in files] + [
        path for folder in folders for path in (HOME / folder).rglob("*") if path.is_file()
    ]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _References(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in {"src", "href"} and value]
