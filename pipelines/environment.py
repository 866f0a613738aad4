"""Where a pipeline lives and what it runs on: the section ``environment`` of a spec."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipelines.records import (
    Count,
    Location,
    Record,
    RefusedError,
    check_location,
    has_variable,
)

_MEMORY = re.compile(r"[1-9]\d*[mg]")
_MASTER = re.compile(r"local(\[(\*|[1-9]\d*)\])?|yarn|(spark|k8s)://\S+")
_RAY = re.compile(r"auto|ray://\S+|[\w.-]+:\d+")
_TRACKING = re.compile(r"(sqlite:///|https?://|file:|postgresql(\+\w+)?://|mysql(\+\w+)?://)\S+")
_DATABASE = re.compile(r"(sqlite:////|postgresql\+psycopg2://|mysql\+mysqldb://)\S+")
_SETTING = re.compile(r"AIRFLOW__[A-Z0-9_]+__[A-Z0-9_]+")


def _matching(pattern: re.Pattern[str], noun: str, examples: str) -> AfterValidator:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None and not has_variable(value):
            raise RefusedError(f"is no {noun}", f"Write such as {examples}.")
        return value

    return AfterValidator(check)


Memory = Annotated[str, _matching(_MEMORY, "amount of memory", "2g or 512m")]


def _check_tracking(value: str) -> str:
    if _TRACKING.fullmatch(value) is None and not has_variable(value):
        raise RefusedError(
            "is no address of MLflow",
            "Write such as sqlite:///mlruns/mlflow.db or http://127.0.0.1:5000.",
        )
    if value.startswith("sqlite:///"):
        check_location(value.removeprefix("sqlite:///"))
    return value


class MLflow(Record):
    """Where runs and models are registered."""

    tracking_uri: Annotated[str, AfterValidator(_check_tracking)] = Field(
        "sqlite:///mlruns/mlflow.db", description="SQLite file, server or database of MLflow."
    )
    artifacts: Location = Field("mlruns/artifacts", description="Where model files lie.")


class Spark(Record):
    """Where the tables are computed."""

    master: Annotated[
        str, _matching(_MASTER, "Spark master", "local[2], spark://host:7077 or yarn")
    ] = Field("local[2]", description="Spark's master.")
    memory: Memory = Field("2g", description="Memory of the driver.")
    settings: dict[str, str] = Field({}, description="Further settings of Spark, each as text.")


class Ray(Record):
    """Where the models train."""

    address: (
        Annotated[str, _matching(_RAY, "address of Ray", "auto or ray://host:10001")] | None
    ) = Field(None, description="Ray's address; a Ray of its own in this process when null.")
    workers: Count = Field(1, description="Workers of each training.")
    cpus_per_worker: Count = Field(2, description="CPU cores of each.")
    gpu: bool = Field(False, description="Whether each has a GPU.")


def _check_setting(value: str) -> str:
    if _SETTING.fullmatch(value) is None:
        raise RefusedError(
            f"`{value}` is no setting of Airflow",
            "Write such as AIRFLOW__CELERY__BROKER_URL: AIRFLOW__, its section, __, its key.",
        )
    return value


class Airflow(Record):
    """What runs the DAGs."""

    database: (
        Annotated[
            str,
            _matching(
                _DATABASE, "database of Airflow", "postgresql+psycopg2://user:word@host:5432/name"
            ),
        ]
        | None
    ) = Field(None, description="Airflow's database; an SQLite file of `sextant up` when null.")
    executor: Literal["LocalExecutor", "CeleryExecutor", "KubernetesExecutor"] = Field(
        "LocalExecutor", description="What runs the tasks."
    )
    settings: dict[Annotated[str, AfterValidator(_check_setting)], str] = Field(
        {}, description="Further settings of Airflow by the names of their variables."
    )


class Resources(Record):
    """What a stage asks a cluster for, where each stage has a machine or pod of its own."""

    cpus: Annotated[float, Field(gt=0)] | None = Field(None, description="CPU cores.")
    memory: Memory | None = Field(None, description="Memory; it gets no more.")
    gpus: Count | None = Field(None, description="GPUs.")


class Environment(Record):
    """Where everything lives. Relative paths start at the project's folder."""

    lake: Location = Field("lake", description="Folder or URI of the Delta tables.")
    reports: Location = Field("reports", description="Folder of the reports.")
    mlflow: MLflow = Field(MLflow(), description="Where runs and models are registered.")
    spark: Spark = Field(Spark(), description="Where the tables are computed.")
    ray: Ray = Field(Ray(), description="Where the models train.")
    airflow: Airflow = Field(Airflow(), description="What runs the DAGs.")
