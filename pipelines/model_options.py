"""The options of the models: ``configs/models/<name>.yaml`` explains them, with sizes to choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from pipelines.document import read_document
from pipelines.errors import Problem, SpecError, closest
from pipelines.records import Name, Option, Record, RefusedError, one_of, shown
from pipelines.sections import MODELS
from pipelines.validation import in_file_order, problems_of

FOLDER = "configs/models"


class ModelFile(Record):
    """The options of a model."""

    model: Annotated[str, AfterValidator(one_of(MODELS, "model"))] = Field(description="The model.")
    summary: str = Field(description="What it is, in a sentence.")
    options: dict[Name, str] = Field(description="Option to what it means.")
    sizes: dict[Name, dict[str, Option]] = Field(
        min_length=1, description="Size to the value of every option."
    )

    @model_validator(mode="after")
    def _sizes_are_complete(self) -> Self:
        for size, values in self.sizes.items():
            for option in values:
                if option not in self.options:
                    raise RefusedError(
                        f"size `{size}` gives `{option}`, which is not among the options",
                        f"{closest(option, self.options)} Explain it under `options`.".strip(),
                    )
            missing = [option for option in self.options if option not in values]
            if missing:
                raise RefusedError(
                    f"size `{size}` lacks {', '.join(f'`{option}`' for option in missing)}",
                    "Each size gives a value for every option.",
                )
        for option in self.options:
            kinds = self.kinds(option) - {"nothing"}
            if len(kinds) > 1:
                raise RefusedError(
                    f"`{option}` is {' and '.join(sorted(kinds))} in different sizes",
                    "Write values of one type.",
                )
        return self

    def kinds(self, option: str) -> set[str]:
        """Return the types that an option has over the sizes; a whole number passes as a number."""
        found = {_kind(values[option]) for values in self.sizes.values()}
        return found - {"a whole number"} if "a number" in found else found

    def faults(self, size: str, overrides: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        """Yield what is wrong with a choice: its key, the message, the cure."""
        if size not in self.sizes:
            listed = f"Sizes: {', '.join(self.sizes)}."
            cure = f"{closest(size, self.sizes)} {listed}".strip()
            yield "size", f"`{self.model}` has no size `{size}`", cure
        for option, value in overrides.items():
            if option not in self.options:
                hint = closest(option, [*self.options, "size"])
                listed = f"Options: size, {', '.join(self.options)}."
                cure = f"{hint} {listed}".strip()
                yield option, f"`{self.model}` has no option `{option}`", cure
                continue
            kinds = self.kinds(option)
            kind = _kind(value)
            fits = kind in kinds or kinds == {"nothing"}
            if not fits and not (kind == "a whole number" and "a number" in kinds):
                wanted = " or ".join(sorted(kinds, reverse=True))
                yield option, f"must be {wanted}, not {shown(value)}", self.options[option]

    def resolved(self, size: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option's value, in the order of `options`."""
        values = {**self.sizes[size], **overrides}
        return {
            option: float(values[option])
            if _kind(values[option]) == "a whole number" and "a number" in self.kinds(option)
            else values[option]
            for option in self.options
        }


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case str():
            return "text"
        case _:
            return "a list"


def model_path(name: str, root: Path) -> Path:
    """Return where a model's options are written."""
    return root / FOLDER / f"{name}.yaml"


def load_model_file(name: str, root: Path) -> ModelFile:
    """Read and check the options of a model.

    Raises:
        SpecError: With every mistake of the file.
    """
    path = model_path(name, root)
    tree = read_document(path, root=root)
    try:
        found = ModelFile.model_validate(tree.plain())
    except ValidationError as error:
        raise SpecError(in_file_order(problems_of(error, tree))) from None
    if found.model != name:
        raise SpecError(
            [
                tree.nearest(["model"]).at.problem(
                    f"`model`: is `{found.model}` in the file of `{name}`", f"Write model: {name}."
                )
            ]
        )
    return found


def resolve_model(name: str, size: str, overrides: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return every option of a model: those of a size, and what differs from it.

    Raises:
        SpecError: When the file is wrong, there is no such size or option, or a value has another
            type than the option.
    """
    found = load_model_file(name, root)
    problems = [
        Problem(f"models.{name}.{key}", 0, 0, "", message, cure)
        for key, message, cure in found.faults(size, overrides)
    ]
    if problems:
        raise SpecError(problems)
    return found.resolved(size, overrides)
