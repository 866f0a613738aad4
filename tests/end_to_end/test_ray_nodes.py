"""Two Ray nodes, joined by RAY_ADDRESS, train one model together."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from nodes import node, said
from ports import free_port
from shop_world import make_shop

pytestmark = pytest.mark.slow

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Whoever reaches a node can run code on it."""
RAY = Path(sys.executable).with_name("ray")


def ray_node(log: Path, *arguments: str) -> AbstractContextManager[None]:
    """A node of one CPU."""
    command = [str(RAY), "start", "--block", "--num-cpus", "1", "--disable-usage-stats"]
    return node(log, [*command, *arguments], TOKEN)


@pytest.fixture
def ray_address(tmp_path: Path) -> Iterator[str]:
    """The address of a head; a second node has joined it."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    with ExitStack() as started:
        started.enter_context(
            ray_node(
                tmp_path / "head.log",
                *["--head", "--port", str(port), "--node-ip-address", "127.0.0.1"],
                *["--include-dashboard", "false"],
            )
        )
        said(tmp_path / "head.log", "Ray runtime started")
        started.enter_context(ray_node(tmp_path / "other.log", "--address", address))
        said(tmp_path / "other.log", "Ray runtime started")
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
