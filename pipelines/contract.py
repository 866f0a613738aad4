"""Data contracts: what the rows of a table must keep, one YAML file of ``data_contracts/`` each."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import Field, ValidationError

from pipelines.document import read_document
from pipelines.errors import SpecError
from pipelines.records import Many, Record
from pipelines.rules import AnyRule, Table
from pipelines.validation import in_file_order, problems_of


class Contract(Record):
    """What the rows of one table must keep."""

    table: Table = Field(description="The table.")
    allow_empty: bool = Field(False, description="Whether a table without rows keeps the contract.")
    rules: Many[AnyRule] = Field((), description="The rules.")


def load_contract(path: Path, *, root: Path | None = None) -> Contract:
    """Read and check a contract.

    Args:
        path: The file.
        root: The project's folder, for messages; without one, the folder above the file's.

    Raises:
        SpecError: With every mistake of the file.
    """
    root = path.absolute().parent.parent if root is None else root
    # Airflow reads many specs in one process, and all of them have the same contracts.
    mark = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None
    return _load(path, root, mark)


@lru_cache(maxsize=256)
def _load(path: Path, root: Path, _mark: tuple[int, int] | None) -> Contract:
    tree = read_document(path, root=root)
    try:
        return Contract.model_validate(tree.plain())
    except ValidationError as error:
        raise SpecError(in_file_order(problems_of(error, tree))) from None
