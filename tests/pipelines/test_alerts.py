"""News of failures reaches real receivers: a web server and a mail server on loopback."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default

import pytest
from receivers import posted, receiver

from pipelines.alerts import Alert, EmailTarget, LogTarget, WebhookTarget, tell

ALERT = Alert(
    kind="failed",
    pipeline="shop",
    stage="train_gnn",
    interval_end="2026-03-13T00:00Z",
    message="The loss is not finite.",
    next_command="sextant stage shop train_gnn --at 2026-03-13T00:00Z",
)
TEXT = """\
Sextant: shop, train_gnn has failed, interval that ends at 2026-03-13T00:00Z

The loss is not finite.

Next: sextant stage shop train_gnn --at 2026-03-13T00:00Z"""


@pytest.fixture
def posts() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a web server, and what was posted to it."""
    with posted() as found:
        yield found


@pytest.fixture
def mails() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a mail server, and the messages that it took."""
    got: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            for line in self.rfile:
                if line[:4].upper() == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    got.append(b"".join(lines))
                if line[:4].upper() == b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                self.wfile.write(b"250 fine\r\n")

    server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
    with receiver(server):
        yield server.server_address[1], got


def test_a_webhook_gets_all_facts(posts: tuple[str, list[bytes]]) -> None:
    url, got = posts
    assert tell(ALERT, [WebhookTarget(to="webhook", url=url)]) == []
    assert [json.loads(body) for body in got] == [
        {
            "kind": "failed",
            "pipeline": "shop",
            "stage": "train_gnn",
            "interval_end": "2026-03-13T00:00Z",
            "message": "The loss is not finite.",
            "next_command": "sextant stage shop train_gnn --at 2026-03-13T00:00Z",
        }
    ]


def test_slack_gets_one_text_at_a_secret_address(
    posts: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = posts
    monkeypatch.setenv("HOOK", url)
    assert tell(ALERT, [WebhookTarget(to="webhook", url="${HOOK}", format="slack")]) == []
    assert [json.loads(body) for body in got] == [{"text": TEXT}]


def test_a_mail_server_gets_a_message(mails: tuple[int, list[bytes]]) -> None:
    port, got = mails
    target = EmailTarget(
        to="email",
        host="127.0.0.1",
        port=port,
        sender="s@example.org",
        recipients=("a@b.c", "d@e.f"),
    )
    assert tell(ALERT, [target]) == []
    message = message_from_bytes(got[0], policy=default)
    assert message["To"] == "a@b.c, d@e.f"
    assert message["Subject"].strip() == TEXT.splitlines()[0]
    assert message.get_content().split("\r\n") == [*TEXT.split("\n"), ""]


def test_a_target_that_does_not_answer_keeps_no_other_from_hearing(
    posts: tuple[str, list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    url, got = posts
    faults = tell(
        ALERT,
        [
            WebhookTarget(to="webhook", url="http://127.0.0.1:9/none"),
            LogTarget(to="log"),
            WebhookTarget(to="webhook", url=url),
        ],
    )
    assert [fault.split(":")[0] for fault in faults] == ["alert to webhook"]
    assert len(got) == 1
    assert TEXT in caplog.messages


def test_an_address_that_is_none_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "file:///etc/secret")
    assert tell(ALERT, [WebhookTarget(to="webhook", url="${HOOK}")]) == [
        "alert to webhook: UsageError: its address begins with neither http:// nor https://"
    ]


def test_mail_that_asks_for_encryption_is_not_sent_without(
    mails: tuple[int, list[bytes]],
) -> None:
    port, got = mails
    target = EmailTarget(
        to="email", host="127.0.0.1", port=port, starttls=True, sender="s@example.org",
        recipients=("a@b.c",),
    )  # fmt: skip
    assert tell(ALERT, [target]) == [
        "alert to email: SMTPNotSupportedError: STARTTLS extension not supported by server."
    ]
    assert got == []
