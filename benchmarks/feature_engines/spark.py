"""The features by Spark: the functions of `transforms/`, on the Delta tables."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

from benchmarks.feature_engines.task import INTERESTS, TEXT_COLUMNS, Task, run


def start(task: Task) -> Callable[[str], None]:
    from pyspark.sql import DataFrame
    from pyspark.sql import functions as F

    from pipelines.bootstrap import delta_jars, java_home
    from transforms.behaviour import item_engagement, user_behaviour
    from transforms.examples import examples
    from transforms.interactions import LabelRule
    from transforms.intervals import between
    from transforms.item_features import item_features
    from transforms.session import spark_session
    from transforms.user_features import user_features

    os.environ["JAVA_HOME"] = str(java_home())
    spark = spark_session(
        master=f"local[{task.threads}]", memory=f"{task.memory_gb}g", jars=delta_jars()
    )
    table = {name: spark.read.format("delta").load(f"{task.lake}/{name}") for name in task.files}
    events, users, follows = table["events"], table["users"], table["follows"]
    items = table["items"].withColumn("tag_times", F.lit(None).cast("array<timestamp>"))
    end = F.lit(task.interval_end)
    past = events.filter(F.col("timestamp") < end)
    windows = {
        "history": timedelta(days=task.history_days),
        "session_gap": timedelta(minutes=task.session_gap_minutes),
    }

    def points(frame: DataFrame, key: str) -> DataFrame:
        return frame.filter(F.col("created_at") < end).select(key, end.alias("as_of"))

    def compute(name: str) -> None:
        if name == "user_features":
            start = task.interval_end - windows["history"]
            behaved = user_behaviour(
                points(users, "user_id"),
                between(events, "timestamp", start, task.interval_end),
                items,
                **windows,
            )
            found = user_features(
                behaved,
                users,
                follows,
                history=windows["history"],
                interests=INTERESTS,
                earliest=task.interval_end,
            )
        elif name == "item_features":
            engaged = item_engagement(points(items, "item_id"), past, earliest=task.interval_end)
            found = item_features(
                engaged,
                items,
                users,
                follows,
                categories={},
                earliest=task.interval_end,
            )
        else:
            found = examples(
                events,
                items,
                users,
                follows,
                start=task.interval_end - timedelta(days=task.training_window_days),
                end=task.interval_end,
                every=(6, "h"),
                rule=LabelRule(),
                categories={},
                **windows,
            )
        left_out = [*TEXT_COLUMNS, *(f"item_{column}" for column in TEXT_COLUMNS)]
        found.drop("as_of", "interval_end", *left_out).write.parquet(task.result(name))

    return compute


if __name__ == "__main__":
    run(start)
