"""Static checks of everything that people write: specs, contracts, model options, environments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.contract import load_contract
from pipelines.errors import Problem, SpecError
from pipelines.model_options import FOLDER as MODEL_OPTIONS
from pipelines.model_options import load_model_file
from pipelines.references import CONTRACTS
from pipelines.spec import ENVIRONMENTS, PIPELINES, names_in, read_environment, read_pipeline


def lint(names: Sequence[str], root: Path) -> list[Problem]:
    """Return every mistake of the named pipelines and of what they refer to.

    Nothing outside the files is looked at: neither the sources, nor environment variables.

    Args:
        names: Names or paths of pipelines. Without any: all pipelines, and every contract, model
            and environment, referred to or not.
        root: The project's folder.

    Raises:
        UsageError: When a named pipeline does not exist.
    """
    problems: list[Problem] = []
    for name in names or names_in(root / PIPELINES):
        problems += read_pipeline(name, root=root, variables=False).problems
    if not names:
        problems += _everything_else(root)
    return list(dict.fromkeys(problems))


def _everything_else(root: Path) -> list[Problem]:
    problems: list[Problem] = []
    for name in names_in(root / ENVIRONMENTS):
        problems += read_environment(name, root=root)
    for path in sorted((root / MODEL_OPTIONS).glob("*.yaml")):
        try:
            load_model_file(path.stem, root)
        except SpecError as error:
            problems += error.problems
    for path in sorted((root / CONTRACTS).glob("*.yaml")):
        try:
            load_contract(path, root=root)
        except SpecError as error:
            problems += error.problems
    return problems
