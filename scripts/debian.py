"""What the scripts beside this file need to take packages out of Debian's archives: a private apt for any suite and
architecture, folders that are complete or absent, and one process at a time.

The mirror is the one in the system's apt sources.  Nothing is installed and no root is needed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CACHE = (PROJECT / ".cache").resolve()


class Unavailable(Exception):
    """A thing that cannot be had here; the text says why."""


def say(text: str) -> None:
    """Progress goes to stderr: stdout has the lines that programs read."""
    print(text, file=sys.stderr, flush=True)


def run(command: list[str], **options: object) -> str:
    """Run a program and give its output; Unavailable with its last words where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    except OSError as error:
        raise Unavailable(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"{' '.join(command[:2])} ended with status {done.returncode}: {' '.join(last)}")
    return str(done.stdout)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Only one process makes `folder` at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".{folder.name}.lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def complete_or_nothing(folder: Path) -> Iterator[Path]:
    """A folder under a temporary name, renamed to `folder` when the block ends without an exception."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def debian_mirror() -> str:
    """The URI of the system's own source of Debian's main archive."""
    folder = Path("/etc/apt")
    files = [
        folder / "sources.list",
        *sorted(folder.glob("sources.list.d/*.sources")),
        *sorted(folder.glob("sources.list.d/*.list")),
    ]
    for file in files:
        if not file.exists():
            continue
        for line in file.read_text().splitlines():
            found = re.match(r"(?:URIs:|deb\s+(?:\[[^]]*\]\s*)?)\s*(\S+/debian)/?(?:\s|$)", line)
            if found:
                return found[1]
    raise Unavailable("the system's apt sources name no archive of Debian")


def apt_configuration(suite: str, architecture: str) -> Path:
    """A private apt for a suite and an architecture, its lists read: the path of its configuration.

    Lists are read again when they are two hours old: the archive keeps no superseded packages of moving suites.
    """
    folder = CACHE / "machines" / f"apt-{suite}-{architecture}"
    with alone(folder):
        configuration = folder / "apt.conf"
        sources = folder / "etc/sources.list"
        keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
        signed = f"[signed-by={keyring}] " if keyring.exists() else ""
        wanted = "".join(f"{kind} {signed}{debian_mirror()} {suite} main\n" for kind in ("deb", "deb-src"))
        is_recent = configuration.exists() and time.time() - configuration.stat().st_mtime < 7200
        if is_recent and sources.read_text() == wanted:
            return configuration
        with complete_or_nothing(folder) as partial:
            for inner in ("etc/preferences.d", "state/lists/partial", "cache/archives/partial"):
                (partial / inner).mkdir(parents=True)
            (partial / "status").touch()
            (partial / "etc" / sources.name).write_text(wanted)
            text = "\n".join(
                (
                    'Dir "{root}"; Dir::Etc "etc"; Dir::State "state"; Dir::Cache "cache";',
                    'Dir::State::status "{root}/status"; Dir::Etc::sourcelist "sources.list";',
                    'Dir::Etc::sourceparts "/dev/null"; Dir::Etc::parts "/dev/null";',
                    f'APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};',
                    'APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Retries "3";',
                    'Acquire::Check-Valid-Until "false"; Acquire::Check-Date "false";\n',
                )
            )
            say(f"  lists of {suite} for {architecture}")
            (partial / "apt.conf").write_text(text.replace("{root}", str(partial)))
            run(["apt-get", "update", "-qq"], env={**os.environ, "APT_CONFIG": str(partial / "apt.conf")})
            (partial / "apt.conf").write_text(text.replace("{root}", str(folder)))
        return configuration


def source_of(package: str, suite: str, folder: Path) -> None:
    """Lay the original source of a Debian package into a folder."""
    environment = {**os.environ, "APT_CONFIG": str(apt_configuration(suite, "amd64"))}
    say(f"  source of {package} in {suite}")
    run(["apt-get", "source", "-qq", "--download-only", package], env=environment, cwd=folder)
    (archive,) = (path for path in folder.glob("*.orig.tar.*") if path.suffix != ".asc")
    run(["tar", "-x", "--strip-components=1", "-f", str(archive)], cwd=folder)


def unpack_alone(packages: Sequence[str], suite: str, architecture: str, folder: Path) -> None:
    """Lay Debian packages into a folder, without what they depend on."""
    environment = {**os.environ, "APT_CONFIG": str(apt_configuration(suite, architecture))}
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    say(f"  {len(packages)} packages of {suite} for {architecture}")
    run(["apt-get", "download", "-qq", *packages], env=environment, cwd=downloads)
    for archive in sorted(downloads.iterdir()):
        run(["dpkg", "-x", str(archive), str(folder)])
    shutil.rmtree(downloads)
