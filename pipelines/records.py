"""The base of every typed record of a spec or contract, and the scalar types that they share.

Records are strict: a text is no number, nothing unknown is accepted. A value is refused by raising
`Fault`, which carries the cure beside the complaint; ``validation.py`` gives it its place in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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
_SECONDS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_SCHEMES = ("file", "s3a", "gs", "abfss", "hdfs", "dbfs")


class Fault(ValueError):
    """A refused value.

    Args:
        message: What is wrong, as the rest of a sentence that begins with the value's key.
        cure: What to write instead, as a sentence.
    """

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


class UnknownKeyFault(Fault):
    """A key that a record does not have."""


class Record(BaseModel):
    """A frozen record that accepts nothing it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_by_name=True
    )

    @model_validator(mode="wrap")
    @classmethod
    def _name_known_keys(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Give each unknown key the likeliest known one; only the record itself knows its keys."""
        try:
            return handler(value)
        except ValidationError as error:
            details = [
                InitErrorDetails(
                    type="value_error" if _is_unknown_key(item) else item["type"],
                    loc=item["loc"],
                    input=item["input"],
                    ctx={"error": cls._unknown_key(str(item["loc"][0]))}
                    if _is_unknown_key(item)
                    else item.get("ctx", {}),
                )
                for item in error.errors(include_url=False)
            ]
            raise ValidationError.from_exception_data(cls.__name__, details) from None

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys as a file writes them."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @classmethod
    def _unknown_key(cls, key: str) -> Fault:
        keys = cls.keys()
        hint = closest(key, keys).strip()
        listed = f"Keys here: {', '.join(keys)}."
        return UnknownKeyFault(f"unknown key `{key}`", f"{hint} {listed}".strip())


def _is_unknown_key(item: Mapping[str, Any]) -> bool:
    return item["type"] == "extra_forbidden" and len(item["loc"]) == 1


T = TypeVar("T")

Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A YAML list, kept as a tuple."""


def one_of(known: tuple[str, ...], noun: str) -> Callable[[str], str]:
    """Return a validator of a name from a fixed set."""

    def check(value: str) -> str:
        if value not in known:
            hint = closest(value, known).strip()
            listed = f"Known: {', '.join(known)}."
            raise Fault(f"unknown {noun} `{value}`", f"{hint} {listed}".strip())
        return value

    return check


def _check_name(value: str) -> str:
    if re.fullmatch(NAME_PATTERN, value) is None:
        raise Fault(
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
            raise Fault(f"is no time: {error}") from None
    raise Fault("must be an ISO date or time", "Write one such as 2026-02-02T06:00Z.")


def _read_duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Fault(
            f"must be a length of time, not {shown(value)}",
            "Write a whole number with a unit: 30s, 30m, 6h, 90d or 2w.",
        )
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


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
        raise Fault(message, f"{cure[:1].upper()}{cure[1:]}.") from None
    return value


def check_location(value: str) -> str:
    """Refuse a path or URI that leads out of its folder, or into a store nobody asked for.

    Raises:
        Fault: In those cases, and for an empty path.
    """
    scheme, separator, rest = value.partition("://")
    if not value.strip() or "\0" in value:
        raise Fault("must be a path, not an empty text")
    if separator and scheme not in _SCHEMES:
        raise Fault(
            f"scheme `{scheme}://` is not supported",
            f"Use a path, or one of {', '.join(f'{known}://' for known in _SCHEMES)}.",
        )
    if ".." in (rest if separator else value).replace("\\", "/").split("/"):
        raise Fault(
            f"`{value}` leads out of its folder with `..`",
            "Write a path below the project's folder, an absolute path, or name the folder by an "
            "environment variable: ${NAME}/file.csv.",
        )
    return value


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
            return f"the time {text(to_utc(value))}"
        case date():
            return f"the date {value.isoformat()}"
        case str():
            short = value if len(value) <= 60 else f"{value[:57]}..."
            return f"the text `{short}`"
        case _:
            short = str(value)
            return f"`{short if len(short) <= 60 else short[:57] + '...'}`"


Name = Annotated[str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
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
