"""Two Ray nodes, joined by RAY_ADDRESS, train one model together."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from shop_world import make_shop

pytestmark = pytest.mark.slow

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Whoever reaches a node can run code on it."""
RAY = Path(sys.executable).with_name("ray")


@contextmanager
def ray_node(log: Path, *arguments: str) -> Iterator[None]:
    """A node of one CPU, ended with the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(RAY), "start", "--block", "--num-cpus", "1", "--disable-usage-stats", *arguments],
            env={**os.environ, **TOKEN},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_for(log: Path, text: str) -> None:
    """Until a log says something."""
    deadline = time.monotonic() + 120
    while text not in log.read_text():
        assert time.monotonic() < deadline, f"{text!r} never came:\n{log.read_text()}"
        time.sleep(0.2)


@pytest.fixture
def ray_address(tmp_path: Path) -> Iterator[str]:
    """The address of a head; a second node has joined it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with ExitStack() as started:
        started.enter_context(
            ray_node(
                tmp_path / "head.log",
                *["--head", "--port", str(port), "--node-ip-address", "127.0.0.1"],
                *["--include-dashboard", "false"],
            )
        )
        wait_for(tmp_path / "head.log", "Ray runtime started")
        started.enter_context(ray_node(tmp_path / "other.log", "--address", address))
        wait_for(tmp_path / "other.log", "Ray runtime started")
        yield address


def test_a_model_is_trained_by_two_nodes(tmp_path: Path, ray_address: str) -> None:
    shop = make_shop(tmp_path / "shop", models="popularity, {transformer: {size: debug}}")
    shop.set_spec("k: 5, similar_items: 3, blend: {item_knn: 1.0}", "k: 5")
    # Each node has one CPU and a worker takes one, so the two workers are on the two nodes.
    done = shop.command(
        "run", "shop", "--select", "+train_transformer", "--env", "ray",
        RAY_ADDRESS=ray_address, **TOKEN,
    )  # fmt: skip
    assert "transformer  epoch 12/12" in done.stdout + done.stderr
