"""The champions' best unseen items for every active user, into staging."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.digests import digest
from pipelines.errors import StageError
from pipelines.graph import EVERYBODY
from pipelines.sections import BASELINE
from pipelines.stages import network
from pipelines.stages.decisions import note_moves
from pipelines.stages.media import with_new_items
from pipelines.stages.snapshot import micros
from pipelines.stages.train import champions, registry

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.project import Project
    from training.histories import Histories
    from training.topk import ItemLists


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``staged_candidates`` and ``staged_similar_items``.

    Raises:
        StageError: Before any model is champion.
    """
    import pyarrow.compute as pc

    from training.candidates import SIMILAR_ITEMS, knows_likeness, similar_items

    options = context.project.pipeline.candidates
    note_moves(context, registry(context.project))
    models, versions = champions_of(context)
    who = audience(context, active_users(context))
    models = with_ties(who, models)
    lists = make_lists(context, who, models, versions)
    stamp = {"run_id": context.run_id, "interval_end": context.interval.end}
    context.write_interval(
        "staged_candidates", stamped(lists, {**stamp, "created_at": _made_at(context)})
    )
    alike = SIMILAR_ITEMS.empty_table()
    version = versions[BASELINE]
    weights = weights_of(context.project, models)
    able = [name for name in weights if knows_likeness(models[name])]
    if able:
        source = max(able, key=lambda name: weights[name])
        alike, version = similar_items(models[source], k=options.similar_items), versions[source]
    context.write_interval(
        "staged_similar_items", stamped(alike, {"model_version": version, **stamp})
    )
    own = lists.filter(pc.not_equal(lists["user_id"], EVERYBODY))
    outside = network.out_of_network(own, who.users, who.follows, who.items)
    told = "" if outside is None else f", {outside:.0%} by people they do not follow"
    served = ", ".join(f"{name} v{versions[name]} x {weights[name]:g}" for name in weights)
    return StageResult(
        f"{lists.num_rows:,} rows for {len(who.users) - 1:,} active users from "
        f"{served or f'{BASELINE} v{versions[BASELINE]} alone'}{told}",
        rows_in=len(who.histories.items),
        rows_out=lists.num_rows + alike.num_rows,
        detail={
            "users": len(who.users) - 1,
            "weights": weights,
            "versions": versions,
            "out_of_network_share": outside,
        },
    )


@dataclass(frozen=True)
class Audience:
    """Whom lists are made for, and what is known at the interval's end."""

    users: pa.Array
    """Their ids; the first is `EVERYBODY`."""
    items: pa.Table
    """Id, title and author of each item that is known, by id."""
    sequences: pa.Table
    """Histories of all users, these or not."""
    network: pa.Table
    """Who follows whom, of all users."""
    follows: pa.Table
    """Whom these users follow."""
    histories: Histories
    """What these users did."""
    seen: ItemLists
    """What each of them has met."""


def audience(context: StageContext, users: pa.Array) -> Audience:
    """What is known of some users, and of what can be recommended to them."""
    items = _known_items(context)
    sequences = context.arrow("sequences", interval_end=context.interval.end)
    histories, seen = _histories(context, users, items["item_id"], sequences)
    everybody = network.all_follows(context)
    follows = network.follows_of(everybody, users)
    return Audience(users, items, sequences, everybody, follows, histories, seen)


def with_ties(who: Audience, models: dict[str, Any]) -> dict[str, Any]:
    """The models, with what everybody likes and whom everybody follows where one reads it."""
    if not any(model.reads_ties for model in models.values()):
        return models
    ties = network.ties(
        who.network, who.items["item_id"], who.sequences, who.histories.positive_from
    )
    return {name: model.with_ties(ties) for name, model in models.items()}


def make_lists(
    context: StageContext, who: Audience, models: dict[str, Any], versions: dict[str, str]
) -> pa.Table:
    """The blended lists of some users; see `training.candidates.build_candidates`."""
    import pyarrow as pa

    from training.candidates import build_candidates

    options = context.project.pipeline.candidates
    weights = weights_of(context.project, models)
    catalogue = who.items["item_id"]
    return pa.concat_tables(
        build_candidates(
            {name: models[name] for name in weights},
            weights,
            who.histories,
            who.seen,
            k=options.k,
            popular=models[BASELINE],
            versions=versions,
            titles=who.items["title"].to_pylist(),
            circles=network.circles(
                who.follows, who.users, catalogue, who.sequences, who.histories.positive_from
            ),
            batch=options.batch,
            progress=_every_tenth(context, len(who.histories)),
        )
    )


def champions_of(context: StageContext) -> tuple[dict[str, Any], dict[str, str]]:
    """The champions that the spec blends, and the baseline; and the version of each.

    Raises:
        StageError: They are others than those that the run was planned with, or there is no
            baseline.
    """
    from training.models import load_model

    found = registry(context.project)
    serving = champions(context.project, context.interval.end)
    if digest(serving) != context.inputs["champions"]:
        raise StageError(
            "A champion was moved since this stage was planned. What was published before stays "
            "served; the next attempt takes the champions as they are then.",
            next_command=context.project.command("run", context.interval),
        )
    versions = {name: serving[name] for name in blended(context.project) if name in serving}
    if BASELINE not in versions:
        raise StageError(
            f"{context.project.registered_name(BASELINE)} has no champion, and it serves users "
            "without a history.\n  Set the alias `champion` on one of its versions in MLflow."
        )
    models = {
        name: found.get(context.project.registered_name(name), version)
        for name, version in versions.items()
    }
    return {
        name: with_new_items(context, load_model(found.fetch(model)))
        for name, model in models.items()
    }, versions


def blended(project: Project) -> list[str]:
    """Names of the models whose champions make the lists: the baseline, and those with a weight."""
    return [name for name in project.models if name == BASELINE or _weight(project, name) > 0]


def weights_of(project: Project, models: Iterable[str]) -> dict[str, float]:
    """The weight in the blend of each model but the baseline, which serves where others cannot."""
    return {name: _weight(project, name) for name in models if name != BASELINE}


def _weight(project: Project, name: str) -> float:
    """A model's weight in the blend; all learnt models count the same where the spec has none."""
    blend = project.pipeline.candidates.blend
    return 1.0 if blend is None else blend.get(name, 0.0)


def _known_items(context: StageContext) -> pa.Table:
    """Ids, titles and authors of the items known before the interval's end, by id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    items = context.arrow("items", columns=["item_id", "title", "author_id", "created_at"])
    known = pc.fill_null(pc.less(items["created_at"], pa.scalar(context.interval.end)), True)
    return items.filter(known).sort_by("item_id")


def active_users(context: StageContext) -> pa.Array:
    """All with an event or a new account shortly before the interval's end; and everybody."""
    import pyarrow as pa
    import pyarrow.compute as pc

    end = context.interval.end
    since = pa.scalar(end - context.project.pipeline.candidates.active_within)
    events = context.arrow("events", columns=["user_id", "timestamp"], before={"timestamp": end})
    users = context.arrow("users", columns=["user_id", "created_at"], before={"created_at": end})
    active = events.filter(pc.greater_equal(events["timestamp"], since))["user_id"]
    joined = users.filter(pc.greater_equal(users["created_at"], since))["user_id"]
    found = pc.unique(pa.chunked_array([*active.chunks, *joined.chunks], pa.string()))
    return pa.concat_arrays([pa.array([EVERYBODY]), found.take(pc.sort_indices(found))])


def _histories(
    context: StageContext, users: pa.Array, catalogue: pa.ChunkedArray, sequences: pa.Table
) -> tuple[Histories, ItemLists]:
    """What the users did before the interval's end, and the items they have met."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from training.histories import EVENT_TYPES, Histories, Marks
    from training.topk import ItemLists

    end = context.interval.end
    items = catalogue.combine_chunks()
    row_S = pc.index_in(sequences["user_id"], value_set=users)
    sequences = sequences.append_column("row", row_S).filter(pc.is_valid(row_S)).sort_by("row")
    lengths = pc.list_value_length(sequences["item_ids"]).to_numpy()
    row_T = np.repeat(sequences["row"].to_numpy(), lengths)
    code_T = pc.index_in(pc.list_flatten(sequences["item_ids"]), value_set=items)
    time_T = pc.list_flatten(sequences["timestamps"]).cast(pa.int64()).to_numpy()
    strength_T = pc.list_flatten(sequences["strengths"]).to_numpy().astype(np.float32)
    known_T = pc.is_valid(code_T).to_numpy()
    marks = Marks.unknown(len(known_T))
    types = pc.index_in(pc.list_flatten(sequences["event_types"]), value_set=pa.array(EVENT_TYPES))
    marks.types[:] = pc.fill_null(types, -1).to_numpy()
    marks.watch_shares[:] = pc.list_flatten(sequences["watch_shares"]).to_numpy()
    counts = np.bincount(row_T[known_T], minlength=len(users))
    histories = Histories(
        user_ids=users.to_numpy(zero_copy_only=False).astype(str),
        catalogue=items.to_numpy(zero_copy_only=False).astype(str),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=pc.fill_null(code_T, -1).to_numpy()[known_T].astype(np.int32),
        timestamps=time_T[known_T],
        strengths=strength_T[known_T],
        as_of=micros(end),
        positive_from=context.project.pipeline.features.label.threshold,
        marks=marks[known_T],
    )
    # Histories are cut to a length; what was seen is not.
    events = context.arrow(
        "events", columns=["user_id", "item_id", "timestamp"], before={"timestamp": end}
    )
    user_E = pc.index_in(events["user_id"], value_set=users)
    item_E = pc.index_in(events["item_id"], value_set=items)
    met_E = pc.and_(pc.is_valid(user_E), pc.is_valid(item_E))
    seen = ItemLists.from_pairs(
        user_E.filter(met_E).to_numpy(), item_E.filter(met_E).to_numpy(), len(users)
    )
    return histories, seen


def _made_at(context: StageContext) -> datetime:
    """When these very lists were first made, so that a rollback restores them to the byte."""
    mine = [
        run
        for run in context.history.runs
        if (run.stage, run.fingerprint) == (context.step.name, context.fingerprint)
    ]
    made = [run.started_at for run in mine if run.status == "succeeded"]
    return made[0] if made else mine[-1].started_at


def stamped(rows: pa.Table, values: dict[str, Any]) -> pa.Table:
    """The rows with columns that hold one value."""
    import pyarrow as pa

    for name, value in values.items():
        kind = pa.timestamp("us", tz="UTC") if isinstance(value, datetime) else pa.string()
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, kind), rows.num_rows))
    return rows


def _every_tenth(context: StageContext, users: int) -> Any:
    """Tell how far it is about ten times, and not at all when it is quick."""
    told = [0]

    def progress(done: int) -> None:
        if users > 10_000 and done - told[0] >= users / 10:
            told[0] = done
            context.progress(f"{done:,} of {users:,} users")

    return progress
