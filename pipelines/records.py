"""The base of every typed record of a spec or contract, and the scalar types that they share.

Records are strict: a text is no number, nothing unknown is accepted. A value is refused by raising
`RefusedError`, which carries the cure beside the complaint; ``validation.py`` adds the place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails

from pipelines.errors import closest
from pipelines.intervals import parse_every, text, to_utc

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"

_DURATION = re.compile(r"([1-9]\d{0,6})(s|m|h|d|w)")
_MAX_SECONDS = 36_500 * 86_400
_SECONDS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_SCHEMES = ("file", "s3a", "gs", "abfss", "hdfs", "dbfs")


class RefusedError(ValueError):
    """A refused value.

    Args:
        message: What is wrong, as the rest of a sentence that begins with the value's key.
        cure: What to write instead, as a sentence.
    """

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


class RefusedKeyError(RefusedError):
    """A key that a record does not have, or has to have.

    Args:
        known: Whether the record has such a key.
    """

    def __init__(self, message: str, cure: str, *, known: bool = True) -> None:
        super().__init__(message, cure)
        self.known = known


class Record(BaseModel):
    """A frozen record that accepts nothing it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_by_name=True
    )

    @model_validator(mode="wrap")
    @classmethod
    def _explain_keys(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Say which keys there are and what they mean: only the record itself knows."""
        try:
            return handler(value)
        except ValidationError as error:
            details = []
            for item in error.errors(include_url=False):
                kind, context = item["type"], item.get("ctx", {})
                fault = cls._key_fault(kind, item["loc"])
                if fault is not None:
                    kind, context = "value_error", {"error": fault}
                details.append(
                    InitErrorDetails(type=kind, loc=item["loc"], input=item["input"], ctx=context)
                )
            raise ValidationError.from_exception_data(cls.__name__, details) from None

    @classmethod
    def known_keys(cls) -> dict[str, str]:
        """Return the keys as a file writes them, with what they mean."""
        return {
            field.alias or name: field.description or "" for name, field in cls.model_fields.items()
        }

    @classmethod
    def _key_fault(cls, kind: str, loc: tuple[str | int, ...]) -> RefusedKeyError | None:
        if len(loc) != 1:  # of a record within this one, which has had its say
            return None
        key, keys = str(loc[0]), cls.known_keys()
        if kind == "extra_forbidden":
            cure = f"{closest(key, keys)} Keys here: {', '.join(keys)}."
            return RefusedKeyError(f"unknown key `{key}`", cure.strip(), known=False)
        if kind == "missing":
            return RefusedKeyError(f"`{key}` is missing", f"Add `{key}: ...`. {keys[key]}".strip())
        return None


T = TypeVar("T")

Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A YAML list, kept as a tuple."""


def one_of(known: tuple[str, ...], noun: str) -> Callable[[str], str]:
    """Return a validator of a name from a fixed set."""

    def check(value: str) -> str:
        if value not in known:
            hint = closest(value, known).strip()
            listed = f"Known: {', '.join(known)}."
            raise RefusedError(f"unknown {noun} `{value}`", f"{hint} {listed}".strip())
        return value

    return check


def _check_scalar(value: object) -> object:
    if value is not None and not isinstance(value, str | int | float):
        raise RefusedError(
            f"must be a text, a number or true or false, not {shown(value)}",
            'Put a date in quotes: "2026-02-02".' if isinstance(value, date) else "",
        )
    return value


def _check_option(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(_check_scalar(entry) for entry in value)
    return _check_scalar(value)


def _check_name(value: str) -> str:
    if re.fullmatch(NAME_PATTERN, value) is None:
        raise RefusedError(
            f"`{value}` is no name",
            "A name begins with a lower-case letter and goes on with lower-case letters, digits "
            "and `_`, at most 63 characters in all.",
        )
    return value


def _read_time(value: object) -> object:
    if isinstance(value, str | date):
        try:
            return to_utc(value)
        except ValueError as error:
            raise RefusedError(f"is no time: {error}") from None
    raise RefusedError("must be an ISO date or time", "Write one such as 2026-02-02T06:00Z.")


def _read_duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise RefusedError(
            f"must be a length of time, not {shown(value)}",
            "Write a whole number with a unit: 30s, 30m, 6h, 90d or 2w.",
        )
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > _MAX_SECONDS:
        raise RefusedError(
            f"must be at most a century, not {shown(value)}", "Write 36500d or less."
        )
    return timedelta(seconds=seconds)


def duration_text(value: timedelta) -> str:
    """Write a duration as a spec does: `90d`, `30m`."""
    seconds = round(value.total_seconds())
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"


def _check_every(value: str) -> str:
    try:
        parse_every(value)
    except ValueError as error:
        message, _, cure = str(error).partition("; ")
        raise RefusedError(message, f"{cure[:1].upper()}{cure[1:]}.") from None
    return value


def check_location(value: str) -> str:
    """Refuse a path or URI that leads out of its folder, or into a store nobody asked for.

    Raises:
        RefusedError: In those cases, and for an empty path.
    """
    scheme, separator, rest = value.partition("://")
    if not value.strip() or "\0" in value:
        raise RefusedError("must be a path, not an empty text")
    if separator and scheme not in _SCHEMES:
        raise RefusedError(
            f"scheme `{scheme}://` is not supported",
            f"Use a path, or one of {', '.join(f'{known}://' for known in _SCHEMES)}.",
        )
    if ".." in (rest if separator else value).replace("\\", "/").split("/"):
        raise RefusedError(
            f"`{value}` leads out of its folder with `..`",
            "Write a path below the project's folder, an absolute path, or name the folder by an "
            "environment variable: ${NAME}/file.csv.",
        )
    return value


def has_variable(value: str) -> bool:
    """Return whether an environment variable stands in a text, left there by a static check."""
    return "${" in value


def shown(value: object) -> str:
    """Write a value for a message, short and as YAML would."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"`{str(value).lower()}`"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case datetime():
            return f"the time {value.isoformat()}"
        case date():
            return f"the date {value.isoformat()}"
        case str():
            short = value if len(value) <= 60 else f"{value[:57]}..."
            return f"the text `{short}`"
        case _:
            short = str(value)
            return f"`{short if len(short) <= 60 else short[:57] + '...'}`"


# The checks come before the unions, whose branches would each complain.
Scalar = Annotated[str | int | float | bool | None, BeforeValidator(_check_scalar)]
"""A text, a number, true or false, or nothing."""

Option = Annotated[
    str | int | float | bool | tuple[str | int | float | bool | None, ...] | None,
    BeforeValidator(_check_option),
]
"""A scalar or a list of scalars."""

Name = Annotated[
    str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": NAME_PATTERN})
]
"""A name that is safe as a folder, a table and a task id."""

Time = Annotated[
    datetime,
    BeforeValidator(_read_time),
    PlainSerializer(text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An instant in UTC."""

Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    PlainSerializer(duration_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]
"""A length of time, written `30m` or `90d`."""

Every = Annotated[
    str,
    AfterValidator(_check_every),
    Field(json_schema_extra={"pattern": r"^[1-9][0-9]{0,3}(h|d|mo)$"}),
]
"""The length of an interval, written `6h` or `1mo`."""

Location = Annotated[str, AfterValidator(check_location)]
"""A path below the project's folder, an absolute path or a URI."""

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(gt=0, lt=1)]
"""A level of confidence."""
