"""Every pipeline of configs/pipelines as an Airflow DAG, one task a stage."""

from pathlib import Path

from pipelines.targets.airflow import load_dags

globals().update(load_dags(Path(__file__).resolve().parents[1]))
