"""What a spec refers to elsewhere: options of its models, contracts and columns of its tables."""

from __future__ import annotations

from pathlib import Path

from pipelines.contract import load_contract
from pipelines.document import display_name
from pipelines.errors import Problem, SpecError, closest
from pipelines.model_options import load_model_file, model_path
from pipelines.sections import MODELS, Drift, ModelChoice
from pipelines.validation import Finding

CONTRACTS = "data_contracts"


def model_findings(
    models: dict[str, ModelChoice], root: Path
) -> tuple[list[Finding], list[Problem]]:
    """Return what is wrong with the choices of models, and with the files that explain them."""
    findings: list[Finding] = []
    problems: list[Problem] = []
    for name, choice in models.items():
        if name not in MODELS:  # told already
            continue
        path = model_path(name, root)
        if not path.is_file():
            findings.append(
                Finding(
                    ("models", name),
                    f"{display_name(path, root)} does not exist",
                    "It names and explains the model's options; restore it.",
                )
            )
            continue
        try:
            found = load_model_file(name, root)
        except SpecError as error:
            problems += error.problems
            continue
        findings += [
            Finding(("models", name, key), message, cure)
            for key, message, cure in found.faults(choice.size, choice.options)
        ]
    return findings, problems


def contract_findings(
    contracts: dict[str, tuple[str, ...]], root: Path
) -> tuple[list[Finding], list[Problem]]:
    """Return contracts that are missing or for another table, and mistakes of their files."""
    findings: list[Finding] = []
    problems: list[Problem] = []
    folder = root / CONTRACTS
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    for table, names in contracts.items():
        for number, name in enumerate(names):
            at = ("contracts", table, number)
            path = folder / f"{name}.yaml"
            if name not in known:
                listed = f"Contracts: {', '.join(known) if known else 'none'}."
                findings.append(
                    Finding(
                        at,
                        f"there is no contract `{name}`: {display_name(path, root)} does not exist",
                        f"{closest(name, known)} {listed}".strip(),
                    )
                )
                continue
            try:
                contract = load_contract(path, root=root)
            except SpecError as error:
                problems += error.problems
                continue
            if contract.table != table:
                findings.append(
                    Finding(
                        at,
                        f"contract `{name}` is for table `{contract.table}`",
                        f"List it under contracts.{contract.table}.",
                    )
                )
    return findings, problems


def column_findings(drift: Drift, _: Path) -> tuple[list[Finding], list[Problem]]:
    """Return columns to watch that examples do not have."""
    from transforms.schemas import columns

    known = columns("examples")
    return [
        Finding(
            ("drift", field, number),
            f"the table `examples` has no column `{name}`",
            f"{closest(name, known)} They are listed in docs/features.md.".strip(),
        )
        for field in ("columns", "ignore")
        for number, name in enumerate(getattr(drift, field))
        if name not in known
    ], []
