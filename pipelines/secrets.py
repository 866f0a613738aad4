"""Secrets: named in a spec, looked up where they are used."""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import AfterValidator

from pipelines.errors import StageError
from pipelines.records import RefusedError

_SECRET = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


def _check_secret(value: str) -> str:
    if _SECRET.fullmatch(value) is None:
        raise RefusedError(
            "must be an environment variable, so that it stands in no file",
            "Write ${NAME}, and set NAME where the pipeline runs.",
        )
    return value


Secret = Annotated[str, AfterValidator(_check_secret)]
"""The name of an environment variable, as `${NAME}`; what it holds never enters a record."""


def secret(variable: str | None) -> str | None:
    """The value of ``${NAME}``: looked up where it is used, so that no record ever holds it."""
    if variable is None:
        return None
    name = variable.strip("${}")
    if name not in os.environ:
        raise StageError(
            f"The environment variable `{name}` is not set.\n"
            f"  It holds a secret of the spec: run `export {name}=...` where the pipeline runs."
        )
    return os.environ[name]
