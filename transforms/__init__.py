"""Spark and Arrow code: pure functions from tables to tables."""
