"""What is known of each user as of the interval's end."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``user_features``, from the interval's ``user_behaviour``."""
    from pyspark.sql import functions as F

    from pipelines.stages.frames import write_feature_table
    from transforms.user_features import user_features

    options = context.project.pipeline.features
    end = context.interval.end
    behaviour, users, follows = map(context.read, context.step.reads)
    frame = user_features(
        behaviour.filter(F.col("interval_end") == F.lit(end)).withColumnRenamed(
            "interval_end", "as_of"
        ),
        users,
        follows,
        history=options.history,
        interests=options.interests,
        earliest=end,
    )
    return write_feature_table(context, "user_features", frame, "users")
