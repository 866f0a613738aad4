"""One pipeline as a command meets it: its spec, its models' options, its contracts, its folders."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.contract import Contract, load_contract
from pipelines.digests import digest
from pipelines.errors import SpecError, UsageError
from pipelines.graph import Step, build_steps
from pipelines.intervals import Interval
from pipelines.model_options import resolve_model
from pipelines.secrets import secret
from pipelines.spec import Pipeline, load_pipeline

_REPOSITORY = Path(__file__).resolve().parent.parent


def find_root() -> Path:
    """The project's folder: the nearest one upwards that holds ``configs/pipelines``, else ours."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "configs" / "pipelines").is_dir():
            return folder
    return _REPOSITORY


def first_project(root: Path, env: str) -> Project:
    """A pipeline that can be read, for what all pipelines of an environment share.

    Raises:
        UsageError: When there is none.
    """
    for file in sorted((root / "configs" / "pipelines").glob("*.yaml")):
        with suppress(SpecError):
            return Project.load(file.stem, root=root, env=env)
    raise UsageError(
        f"No pipeline of {root / 'configs' / 'pipelines'} can be read with the environment "
        f"`{env}`; `sextant lint` says why."
    )


@dataclass(frozen=True)
class Project:
    """A pipeline with everything it refers to.

    Args:
        root: The project's folder; relative paths of the spec start here.
        reference: The pipeline's name or path, as the user gave it.
        environment: Name of the environment.
        sets: The ``--set`` options, as given.
        pipeline: The checked spec.
    """

    root: Path
    reference: str
    environment: str
    sets: tuple[str, ...]
    pipeline: Pipeline

    @classmethod
    def load(
        cls,
        reference: str,
        *,
        root: Path | None = None,
        env: str = "local",
        sets: Sequence[str] = (),
    ) -> Project:
        """Read and check a pipeline.

        Raises:
            SpecError: With every mistake of its files at once.
        """
        root = root or find_root()
        pipeline = load_pipeline(reference, root=root, env=env, sets=sets)
        return cls(root, reference, env, tuple(sets), pipeline)

    @cached_property
    def models(self) -> dict[str, dict[str, Any]]:
        """Resolved options of each model of the spec, in its order."""
        return {
            name: resolve_model(name, choice.size, choice.options, root=self.root)
            for name, choice in self.pipeline.models.items()
        }

    @cached_property
    def contracts(self) -> dict[str, list[Contract]]:
        """The contracts of each table."""
        folder = self.root / "data_contracts"
        return {
            table: [load_contract(folder / f"{name}.yaml") for name in names]
            for table, names in self.pipeline.contracts.items()
        }

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The pipeline's steps."""
        rules = {
            table: [contract.model_dump(mode="json") for contract in contracts]
            for table, contracts in self.contracts.items()
        }
        return build_steps(self.pipeline, self.models, rules)

    @cached_property
    def spec_hash(self) -> str:
        """Hash of the merged spec and the options of its models."""
        return digest([self.pipeline.model_dump(mode="json"), self.models])

    def location(self, path: str) -> str:
        """A path of the spec as an absolute path; a URI stays as it is."""
        prefix = "jdbc:sqlite:"
        if path.startswith(prefix):
            return f"{prefix}{(self.root / path.removeprefix(prefix)).resolve()}"
        return path if "://" in path else str((self.root / path).resolve())

    @property
    def reports(self) -> Path:
        """Folder of this pipeline's reports."""
        return Path(self.location(self.pipeline.environment.reports)) / self.pipeline.pipeline

    @property
    def workspace(self) -> Path:
        """Evidently's workspace: the drift of all pipelines, an interval a snapshot."""
        # No pipeline's name has a hyphen, so its reports lie elsewhere.
        return self.reports.parent / "evidently-workspace"

    @property
    def tracking_uri(self) -> str:
        """MLflow's address; the file of an SQLite store is absolute."""
        uri = self.pipeline.environment.mlflow.tracking_uri
        prefix = "sqlite:///"
        return (
            f"{prefix}{self.location(uri.removeprefix(prefix))}" if uri.startswith(prefix) else uri
        )

    @property
    def artifacts(self) -> str:
        """Where MLflow keeps model files."""
        return self.location(self.pipeline.environment.mlflow.artifacts)

    @property
    def pseudonym_key(self) -> bytes | None:
        """The key with which the ids of users are hashed; None where they are stored as given."""
        key = secret(self.pipeline.sources.pseudonym_key)
        return None if key is None else key.encode()

    def registered_name(self, model: str) -> str:
        """A model's name in the registry."""
        return f"{self.pipeline.pipeline}.{model}"

    def source_digest(self) -> str:
        """Hash of the names, sizes and times of the source files.

        A server's database looks different every time: whether it changed, only a query can tell.
        """
        facts: list[object] = []
        for source in self.pipeline.sources.files():
            location = self.location(source).removeprefix("jdbc:sqlite:")
            if location.startswith("jdbc:"):
                facts.append([location, time.time_ns()])
                continue
            if "://" in location:
                facts.append(location)
                continue
            for name in sorted(_expand(location)):
                status = Path(name).stat()
                facts.append([os.path.relpath(name, self.root), status.st_size, status.st_mtime_ns])
        return digest(facts)

    def command(self, verb: str, interval: Interval | None, *arguments: str) -> str:
        """The command line that does something with this pipeline, ready to paste."""
        words = [_program(), verb, self.reference, *arguments]
        if interval is not None:
            words += ["--at", interval.end_text]
        if self.environment != "local":
            words += ["--env", self.environment]
        for setting in self.sets:
            words += ["--set", setting]
        return " ".join(shlex.quote(word) for word in words)


def _program() -> str:
    """How to call this program from here: by name, or by path where the PATH lacks it."""
    if shutil.which("sextant"):
        return "sextant"
    return os.path.relpath(Path(sys.executable).with_name("sextant"))


def _expand(location: str) -> list[str]:
    """The files of a path, and perhaps some more: alternatives and named parts match anything."""
    path = Path(location)
    matches = [path]
    if not path.exists():
        anchor = Path(path.anchor)
        pattern = re.sub(r"\{[^}/]*\}", "*", str(path.relative_to(anchor)))
        matches = list(anchor.glob(pattern))
    below = [file for match in matches if match.is_dir() for file in match.rglob("*")]
    return [str(file) for file in [*matches, *below] if file.is_file()]


def commit() -> str:
    """The code's Git commit, with ``-dirty`` when files differ from it; ``unknown`` without Git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(_REPOSITORY), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        return f"{head}-dirty" if git("status", "--porcelain") else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
