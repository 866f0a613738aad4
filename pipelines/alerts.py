"""Who hears of a stage that failed, of a run that is late or of drift, and how."""

from __future__ import annotations

import json
import logging
import smtplib
import ssl
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from pipelines.errors import UsageError
from pipelines.records import Many, Record, RefusedError
from pipelines.secrets import Secret, secret

_log = logging.getLogger(__name__)
_SECONDS = 20.0


def _check_url(value: str) -> str:
    if urlsplit(value).scheme not in {"http", "https"}:
        raise RefusedError(
            "is no web address", "Write such as https://hooks.example.org/sextant, or ${HOOK}."
        )
    return value


class LogTarget(Record):
    """The log of the task."""

    to: Literal["log"] = Field(description="Which kind of target this is.")


class WebhookTarget(Record):
    """An address that takes JSON."""

    to: Literal["webhook"] = Field(description="Which kind of target this is.")
    url: Annotated[str, AfterValidator(_check_url)] | Secret = Field(
        description="Where to post; ${NAME} where the address is a secret."
    )
    format: Literal["json", "slack"] = Field(
        "json", description="All facts of the alert, or one text as Slack and its kin take it."
    )


class EmailTarget(Record):
    """A mail server."""

    to: Literal["email"] = Field(description="Which kind of target this is.")
    host: str = Field(min_length=1, description="Name of the mail server.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(25, description="Its port.")
    starttls: bool = Field(False, description="Whether to encrypt the connection first.")
    user: Secret | None = Field(None, description="User of the server: ${NAME}.")
    password: Secret | None = Field(None, description="Their password: ${NAME}.")
    sender: str = Field(min_length=1, description="Who it comes from.")
    recipients: Many[str] = Field(min_length=1, description="Who gets it.")


Target = Annotated[LogTarget | WebhookTarget | EmailTarget, Field(discriminator="to")]


@dataclass(frozen=True)
class Alert:
    """What a person should hear of.

    Args:
        kind: ``failed``, when no further attempt is made, ``late``, or ``drift``.
        pipeline: Name of the pipeline.
        stage: Name of the stage; empty for a whole run.
        interval_end: End of the interval, as ``--at`` takes it; empty where it is not known.
        message: What is wrong.
        next_command: The command that goes on from here.
    """

    kind: Literal["failed", "late", "drift"]
    pipeline: str
    stage: str
    interval_end: str
    message: str
    next_command: str

    @property
    def subject(self) -> str:
        """One line."""
        what = f"{self.pipeline}, {self.stage}" if self.stage else self.pipeline
        of = f", interval that ends at {self.interval_end}" if self.interval_end else ""
        said = {"failed": "has failed", "late": "is late", "drift": "has found drift"}
        return f"Sextant: {what} {said[self.kind]}{of}"

    @property
    def text(self) -> str:
        """All of it, for a person."""
        return f"{self.subject}\n\n{self.message}\n\nNext: {self.next_command}"


def tell(alert: Alert, targets: Sequence[Target]) -> list[str]:
    """Tell all targets; a target that cannot be reached keeps no other from hearing.

    Returns:
        What went wrong, one text a target; also logged.
    """
    faults = []
    for target in targets:
        try:
            match target:
                case LogTarget():
                    _log.error("%s", alert.text)
                case WebhookTarget():
                    _to_webhook(alert, target)
                case EmailTarget():
                    _to_email(alert, target)
        except Exception as error:
            faults.append(f"alert to {target.to}: {type(error).__name__}: {error}")
            _log.error("%s", faults[-1])
    return faults


def _to_webhook(alert: Alert, target: WebhookTarget) -> None:
    body = {"text": alert.text} if target.format == "slack" else asdict(alert)
    url = str(secret(target.url) if target.url.startswith("${") else target.url)
    if not url.startswith(("http://", "https://")):  # may be secret: it is not shown
        raise UsageError("its address begins with neither http:// nor https://")
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_SECONDS):
        pass  # any answer but an error will do


def _to_email(alert: Alert, target: EmailTarget) -> None:
    message = EmailMessage()
    message["Subject"] = alert.subject
    message["From"] = target.sender
    message["To"] = ", ".join(target.recipients)
    message.set_content(alert.text)
    with smtplib.SMTP(target.host, target.port, timeout=_SECONDS) as server:
        if target.starttls:
            server.starttls(context=ssl.create_default_context())
        if target.user is not None:
            server.login(secret(target.user) or "", secret(target.password) or "")
        server.send_message(message)
