"""The groups of users that a spec names: who belongs to each, by what their demographics say."""

from __future__ import annotations

from pipelines.context import StageContext
from pipelines.errors import StageError, closest


def named_groups(context: StageContext) -> dict[str, frozenset[str]]:
    """Ids of the users of each group of `evaluation.groups`; nothing is read where there is none.

    Raises:
        StageError: A group asks for a key that nobody's demographics have, though some have others.
    """
    groups = context.project.pipeline.evaluation.groups
    if not groups:
        return {}
    rows = context.arrow("users", columns=["user_id", "demographics"]).to_pylist()
    told = {row["user_id"]: dict(row["demographics"] or ()) for row in rows}
    known = sorted({key for demographics in told.values() for key in demographics})
    for group, wanted in groups.items():
        unknown = sorted(set(wanted) - set(known))
        if known and unknown:
            hint = f"{closest(unknown[0], known)} Known: {', '.join(known)}.".strip()
            raise StageError(
                f"The group of users `{group}` asks for `{unknown[0]}`, which no user's "
                f"demographics have.\n"
                f"  Write another key in evaluation.groups.{group}. {hint}"
            )
    return {
        group: frozenset(
            user
            for user, demographics in told.items()
            if all(demographics.get(key) in values for key, values in wanted.items())
        )
        for group, wanted in groups.items()
    }
