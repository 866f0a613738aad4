"""A seeded simulator of a short-video and social platform, with a known truth behind its log."""

from transforms.demo.config import DemoConfig, DemoConfigError
from transforms.demo.truth import Truth
from transforms.demo.world import DemoWorld

__all__ = ["DemoConfig", "DemoConfigError", "DemoWorld", "Truth"]
