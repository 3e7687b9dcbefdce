"""Do the locks say what pyproject.toml asks for? Compares files only; `make lock` mends what is wrong."""

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).resolve().parents[1]
PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;\\]+)")
ENTRY = re.compile(r"\n(?! )")

Lock = dict[str, set[str]]
"""Versions by name; more than one where they depend on the platform."""


def main() -> int:
    """Prints one line per fault; the number of faults is not the exit code, 0 or 1 is."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    asked = project["project"]["dependencies"]
    extras = project["project"]["optional-dependencies"]
    backend = project["build-system"]["requires"]
    faults: list[str] = []
    dev = _lock("dev", [*asked, *extras["build"], *extras["demo"], *extras["dev"]], faults)
    for name, requirements in {
        "demo": [*asked, *extras["build"], *extras["demo"]],
        "runtime": asked,
        "build": backend,
    }.items():
        for package, versions in _lock(name, requirements, faults).items():
            if not versions <= dev.get(package, set()):
                faults.append(
                    f"locks/{name}.txt: {package} {', '.join(versions)} is not what locks/dev.txt has"
                )
    for fault in faults:
        print(fault)
    if faults:
        print("run `make lock`")
    return 1 if faults else 0


def _lock(name: str, requirements: list[str], faults: list[str]) -> Lock:
    lock: Lock = {}
    text = (TOP / "locks" / f"{name}.txt").read_text()
    for entry in filter(None, map(str.strip, ENTRY.split(text))):
        pin = PIN.match(entry)
        if pin is None:
            faults.append(
                f"locks/{name}.txt: neither a pinned package nor its hashes: {entry.splitlines()[0]}"
            )
        elif "--hash=sha256:" not in entry:
            faults.append(f"locks/{name}.txt: {pin[1]} has no hash")
        else:
            lock.setdefault(canonicalize_name(pin[1]), set()).add(pin[2])
    for requirement in map(Requirement, requirements):
        versions = lock.get(canonicalize_name(requirement.name), set())
        if not versions or not all(requirement.specifier.contains(v, prereleases=True) for v in versions):
            faults.append(f"locks/{name}.txt: pyproject.toml asks for {requirement}")
    return lock


if __name__ == "__main__":
    sys.exit(main())
