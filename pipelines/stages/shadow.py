"""What users would be shown if a challenger were champion, beside what they are shown."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.digests import digest
from pipelines.graph import EVERYBODY
from pipelines.stages.candidates import (
    Audience,
    active_users,
    audience,
    blended,
    champions_of,
    make_lists,
    stamped,
    with_ties,
)
from pipelines.stages.evaluate import champion_of
from pipelines.stages.media import with_new_items
from pipelines.stages.train import registry
from pipelines.stages.user_groups import named_groups

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from training.evaluation import MetricRow
    from training.registry import Registry, Version

_USERS = 10_000
"""Largest number of users whose lists are compared: enough for intervals of half a percent."""
_FIRST = 10
"""Places that count as the top of a list."""


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``shadow_candidates``: lists with one challenger each in its place.

    A challenger is the newest version as of the interval where that is not the champion, whatever
    the gate said of it: a person may promote it still.
    """
    import pyarrow as pa

    from training.evaluation import named_values
    from training.models import load_model

    found = registry(context.project)
    rivals = _rivals(context, found)
    if not rivals:
        context.write_interval("shadow_candidates", _schema().empty_table())
        return StageResult("no challenger but the champions", detail={"shadow": {}})
    models, versions = champions_of(context)
    who = audience(context, _sample(active_users(context)))
    served = _codes(context.arrow("staged_candidates", interval_end=context.interval.end), who)
    tables, told = [], {}
    for name, version in rivals.items():
        model = with_new_items(context, load_model(found.fetch(version)))
        others = with_ties(who, {**models, name: model})
        lists = make_lists(context, who, others, {**versions, name: version.version})
        rows = _compare(context, who, served, _codes(lists, who))
        _show(context, found, version, versions.get(name), rows, len(who.users) - 1)
        told[name] = {"version": version.version, "metrics": named_values(rows)}
        tables.append(
            stamped(
                lists,
                {
                    "challenger": name,
                    "challenger_version": version.version,
                    "run_id": context.run_id,
                    "interval_end": context.interval.end,
                },
            )
        )
        context.progress(f"{name:<12} version {version.version:<3} {summary(told[name])}")
    shadow = pa.concat_tables(tables).cast(_schema())
    context.write_interval("shadow_candidates", shadow)
    return StageResult(
        f"{', '.join(told)} beside the champions for {len(who.users) - 1:,} users",
        rows_in=len(who.histories.items),
        rows_out=shadow.num_rows,
        detail={"shadow": told},
    )


def summary(found: dict[str, Any]) -> str:
    """One line of a challenger's lists, from the record of this stage."""
    values = found["metrics"]
    return (
        f"{values.get(f'overlap@{_FIRST}', float('nan')):.0%} of the first {_FIRST} shared, "
        f"another first item for {values.get('first_changed', float('nan')):.0%}"
    )


def _rivals(context: StageContext, models: Registry) -> dict[str, Version]:
    """The newest version of each blended model as of the interval, where it is not champion."""
    rivals = {}
    for name in blended(context.project):
        registered = context.project.registered_name(name)
        known = [
            version
            for version in models.versions(registered)
            if version.interval_end <= context.interval.end and version.status != "archived"
        ]
        champion = champion_of(context, models, name)
        newest = max(known, key=lambda one: (one.interval_end, int(one.version)), default=None)
        if newest is None or (champion is not None and newest.version == champion.version):
            continue
        rivals[name] = newest
    return rivals


def _sample(users: pa.Array) -> pa.Array:
    """At most so many users, the same ones in every interval; and everybody, who comes first."""
    import pyarrow as pa

    ids = users.to_pylist()[1:]
    chosen = sorted(sorted(ids, key=digest)[:_USERS]) if len(ids) > _USERS else ids
    return pa.array([EVERYBODY, *chosen])


def _codes(lists: pa.Table, who: Audience) -> np.ndarray:
    """(U, K) codes of the listed items of the users but everybody; -1 for empty places."""
    import numpy as np
    import pyarrow.compute as pc

    row_R = pc.index_in(lists["user_id"], value_set=who.users.slice(1))
    here_R = pc.is_valid(row_R)
    lists, row_R = lists.filter(here_R), row_R.filter(here_R).to_numpy()
    item_R = pc.index_in(lists["item_id"], value_set=who.items["item_id"].combine_chunks())
    place_R = lists["rank"].to_numpy() - 1
    codes_UK = np.full((len(who.users) - 1, int(place_R.max(initial=0)) + 1), -1)
    codes_UK[row_R, place_R] = item_R.to_numpy()
    return codes_UK


def _compare(
    context: StageContext, who: Audience, served_UK: np.ndarray, shadow_UK: np.ndarray
) -> list[MetricRow]:
    import numpy as np
    import pyarrow.compute as pc

    from training.evaluation import groups_by_likes, members_of
    from training.shadow import compare

    judging = context.project.pipeline.evaluation
    histories = who.histories
    liked_T = histories.strengths >= np.float32(histories.positive_from)
    liked_U = np.bincount(histories.rows()[liked_T], minlength=len(who.users))[1:]
    items = who.items["item_id"].combine_chunks()
    code_T = pc.index_in(pc.list_flatten(who.sequences["item_ids"]), value_set=items)
    strength_T = pc.list_flatten(who.sequences["strengths"]).to_numpy().astype(np.float32)
    counted_T = pc.is_valid(code_T).to_numpy() & (strength_T >= np.float32(histories.positive_from))
    liked_N = np.bincount(pc.fill_null(code_T, 0).to_numpy()[counted_T], minlength=len(items))
    # One of them may be shorter throughout.
    length = max(served_UK.shape[1], shadow_UK.shape[1])
    served_UK, shadow_UK = (
        np.pad(codes, ((0, 0), (0, length - codes.shape[1])), constant_values=-1)
        for codes in (served_UK, shadow_UK)
    )
    return compare(
        served_UK,
        shadow_UK,
        groups={
            **groups_by_likes(
                liked_U, light_below=judging.light_below, new_below=judging.new_below
            ),
            **members_of(
                who.users.slice(1).to_numpy(zero_copy_only=False).astype(str), named_groups(context)
            ),
        },
        popularity_N=liked_N,
        k=_FIRST,
        resamples=judging.bootstrap,
        confidence=judging.confidence,
        seed=context.step.options["seed"],
    )


def _show(
    context: StageContext,
    models: Registry,
    version: Version,
    champion: str | None,
    rows: list[MetricRow],
    users: int,
) -> None:
    """Log the differences to the challenger's run, by its age, and write them into its card."""
    from training.card import with_shadow
    from training.evaluation import named_values

    age = (context.interval.end - version.interval_end) // timedelta(hours=1)
    values = {f"shadow/{key}": value for key, value in named_values(rows).items()}
    models.log_metrics(version, values, step=age)
    card = with_shadow(
        models.card(version),
        rows,
        users=users,
        interval_end=context.interval.end_text,
        champion=champion,
        k=_FIRST,
    )
    models.describe(version, card)


def _schema() -> pa.Schema:
    import pyarrow as pa

    from training.candidates import CANDIDATES

    text = [(name, pa.string()) for name in ("challenger", "challenger_version", "run_id")]
    extra = pa.schema([*text, ("interval_end", pa.timestamp("us", tz="UTC"))])
    return pa.unify_schemas([CANDIDATES, extra])
