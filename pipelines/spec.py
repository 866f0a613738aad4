"""A pipeline's spec: a YAML file as one typed, checked, frozen record.

Read like this, lowest layer first: the defaults of the records, ``configs/pipelines/<name>.yaml``,
``configs/environments/<env>.yaml``, each ``--set``. Environment variables are put in after parsing,
in a few fields only. Every mistake is told at once, each at its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError

from pipelines.alerts import Target
from pipelines.checks import CHECKS
from pipelines.document import Node, Step, display_name, parse, read_document
from pipelines.environment import Environment, Resources
from pipelines.errors import Problem, SpecError, UsageError, closest
from pipelines.judging import Evaluation, Gate
from pipelines.merge import expand, merge, parse_setting
from pipelines.records import Many, Name, Record
from pipelines.references import column_findings, contract_findings, model_findings
from pipelines.sections import (
    DEFAULT_MODELS,
    Candidates,
    Contracts,
    Drift,
    Features,
    Maintenance,
    ModelChoice,
    Models,
    Retrain,
    Schedule,
)
from pipelines.sources import Sources
from pipelines.validation import in_file_order, problem_at, problems_of

PIPELINES = "configs/pipelines"
ENVIRONMENTS = "configs/environments"
DEFAULT_ENVIRONMENT = "local"

_SECRETS = ("user", "password", "pseudonym_key", "url")
"""Keys that may name an environment variable whose value stays out of the record."""

# What stands in for a section that is wrong, so that checks of the others can run.
_STAND_IN: dict[str, Any] = {"pipeline": "unnamed", "sources": {"demo": {}}}


class Pipeline(Record):
    """A pipeline."""

    pipeline: Name = Field(description="Its name: a folder of the lake, a DAG, a prefix of models.")
    description: str = Field("", description="What it is for, in a few words.")
    seed: int = Field(42, ge=0, lt=2**31, description="Seed of everything that is drawn.")
    schedule: Schedule = Field(Schedule(), description="When it runs.")
    sources: Sources = Field(description="Where the rows come from.")
    contracts: Contracts = Field(
        {}, description="Table to the names of its contracts.", validate_default=True
    )
    features: Features = Field(Features(), description="What is computed from the tables.")
    models: Models = Field(
        {name: ModelChoice() for name in DEFAULT_MODELS},
        description="Models to train: a list of names, or name to size and options.",
    )
    retrain: Retrain = Field(Retrain(), description="When a model is trained anew.")
    evaluation: Evaluation = Field(Evaluation(), description="How models are judged.")
    gate: Gate = Field(Gate(), description="What a model must show to become champion.")
    drift: Drift = Field(Drift(), description="When new data counts as different.")
    candidates: Candidates = Field(Candidates(), description="The lists that are published.")
    alerts: Many[Target] = Field((), description="Who hears of failures and late runs.")
    maintenance: Maintenance = Field(Maintenance(), description="What keeps the tables small.")
    resources: dict[str, Resources] = Field(
        {}, description="Task group or `train_<model>` to what it asks a cluster for."
    )
    environment: Environment = Field(Environment(), description="Where everything lives.")

    _tree: Node | None = PrivateAttr(None)

    def problem(self, path: Sequence[Step], message: str, cure: str = "") -> Problem:
        """Return a problem found later, such as a column that a file lacks, at its line."""
        assert self._tree is not None, "only a pipeline that was loaded knows its lines"
        return problem_at(self._tree, path, message, cure)


@dataclass(frozen=True)
class Draft:
    """A spec as far as it could be read.

    Args:
        tree: The merged layers; None when a layer could not be parsed.
        pipeline: The typed record; sections that are wrong hold stand-ins.
        wrong: Names of those sections.
        problems: Every mistake.
    """

    tree: Node | None
    pipeline: Pipeline | None
    wrong: frozenset[str]
    problems: tuple[Problem, ...]


def load_pipeline(
    name_or_path: str, *, root: Path, env: str = DEFAULT_ENVIRONMENT, sets: Sequence[str] = ()
) -> Pipeline:
    """Read and check a pipeline.

    Args:
        name_or_path: A name under ``configs/pipelines``, or the path of a file.
        root: The project's folder.
        env: A name under ``configs/environments``. `local` needs no file: it is the defaults.
        sets: ``KEY=VALUE`` overrides; the key is dotted, the value is YAML.

    Raises:
        UsageError: When there is no such pipeline or environment.
        SpecError: With every mistake of the spec.
    """
    draft = read_pipeline(name_or_path, root=root, env=env, sets=sets)
    if draft.problems:
        raise SpecError(draft.problems)
    assert draft.pipeline is not None
    return draft.pipeline


def read_pipeline(
    name_or_path: str,
    *,
    root: Path,
    env: str = DEFAULT_ENVIRONMENT,
    sets: Sequence[str] = (),
    variables: bool = True,
) -> Draft:
    """Read a pipeline and collect its mistakes instead of raising them; see `load_pipeline`.

    Args:
        name_or_path: As there.
        root: As there.
        env: As there.
        sets: As there.
        variables: Whether an unset environment variable is a mistake.
    """
    path = find_pipeline(name_or_path, root)
    problems: list[Problem] = []
    layers: list[Node] = []
    for layer in _layers(path, root, env):
        try:
            layers.append(read_document(layer, root=root))
        except SpecError as error:
            problems += error.problems
    for setting in sets:
        try:
            layers.append(parse_setting(setting))
        except SpecError as error:
            problems += error.problems
    if problems:
        return Draft(None, None, frozenset(Pipeline.model_fields), tuple(problems))

    tree, problems = expand(_merged(layers), _may_expand, required=variables, kept=_is_secret)
    return _check(tree, problems, root)


def _check(tree: Node, problems: list[Problem], root: Path) -> Draft:
    values = tree.plain()
    wrong: frozenset[str] = frozenset()
    try:
        pipeline = Pipeline.model_validate(values)
    except ValidationError as error:
        problems += problems_of(error, tree)
        wrong = frozenset(str(item["loc"][0]) for item in error.errors())
        sound = {key: value for key, value in values.items() if key not in wrong}
        pipeline = Pipeline.model_validate({**_STAND_IN, **sound})
    for sections, check in CHECKS:
        if not sections & wrong:
            problems += [problem_at(tree, *finding) for finding in check(pipeline)]
    for section, look in (
        ("models", model_findings),
        ("contracts", contract_findings),
        ("drift", column_findings),
    ):
        if section not in wrong:
            findings, others = look(getattr(pipeline, section), root)
            problems += [problem_at(tree, *finding) for finding in findings] + others
    pipeline._tree = tree
    return Draft(tree, pipeline, wrong, tuple(in_file_order(problems)))


def read_environment(env: str, *, root: Path) -> list[Problem]:
    """Return the mistakes of an environment's file by itself, over a pipeline of defaults."""
    path = root / ENVIRONMENTS / f"{env}.yaml"
    name = display_name(path, root)
    try:
        layer = read_document(path, root=root)
    except SpecError as error:
        return list(error.problems)
    stand_in = parse("pipeline: unnamed\nsources: {demo: {}}", "stand-in")
    tree, problems = expand(
        _merged([stand_in, layer]), _may_expand, required=False, kept=_is_secret
    )
    return [problem for problem in _check(tree, problems, root).problems if problem.file == name]


def find_pipeline(name_or_path: str, root: Path) -> Path:
    """Return the file of a pipeline.

    Raises:
        UsageError: When there is none; lists those that exist.
    """
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        for path in (Path(name_or_path), root / name_or_path):
            if path.is_file():
                return path
        raise UsageError(f"There is no file {name_or_path}.")
    return _find(name_or_path, root, PIPELINES, "pipeline")


def names_in(folder: Path) -> list[str]:
    """Return the names of the YAML files of a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _find(name: str, root: Path, folder: str, noun: str) -> Path:
    path = root / folder / f"{name}.yaml"
    known = names_in(root / folder)
    if name in known:
        return path
    listed = ", ".join(known) if known else "none"
    raise UsageError(
        f"There is no {noun} `{name}`: {display_name(path, root)} does not exist."
        f"{closest(name, known)}\n  {noun.capitalize()}s: {listed}"
    )


def _layers(path: Path, root: Path, env: str) -> list[Path]:
    if env == DEFAULT_ENVIRONMENT and not (root / ENVIRONMENTS / f"{env}.yaml").exists():
        return [path]
    return [path, _find(env, root, ENVIRONMENTS, "environment")]


def _merged(layers: Sequence[Node]) -> Node:
    """Merge layers; ``models`` may be a list, which replaces, or a mapping, which refines.

    The lowest layer's own models replace the defaults either way.
    """
    tree, *others = layers
    if not tree.has(["models"]) and any(layer.has(["models"]) for layer in others):
        defaults = Node([Node(name, tree.at) for name in DEFAULT_MODELS], tree.at, tree.at)
        tree = _with_models(tree, defaults)
    tree = _models_as_mapping(tree)
    for layer in others:
        models = layer.child("models")
        if models is not None and isinstance(models.value, list):
            tree = _with_models(tree, Node({}, models.at, models.key_at))
        tree = merge([tree, _models_as_mapping(layer)])
    return tree


def _models_as_mapping(tree: Node) -> Node:
    models = tree.child("models")
    if models is None or not isinstance(models.value, list):
        return tree
    entries: dict[str, Node] = {}
    for entry in models.value:
        if isinstance(entry.value, str):
            entries[entry.value] = Node({}, entry.at, entry.at)
        elif isinstance(entry.value, dict):
            entries |= entry.value
        else:
            return tree
    return _with_models(tree, Node(entries, models.at, models.key_at))


def _with_models(tree: Node, models: Node) -> Node:
    return replace(tree, value={**tree.value, "models": models})


def _may_expand(path: tuple[Step, ...]) -> bool:
    return path[0] == "environment" or (path[0] == "sources" and path[-1] == "path")


def _is_secret(path: tuple[Step, ...]) -> bool:
    return path[0] in {"sources", "alerts"} and path[-1] in _SECRETS
