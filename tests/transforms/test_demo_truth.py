"""What is planted in the demo world can be found in its tables again."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from transforms.demo import DemoConfig, DemoWorld

START = datetime(2026, 1, 5, tzinfo=UTC)
CONFIG = DemoConfig(
    users=1000, items=600, days=16, drift_at=START + timedelta(days=12), vectors=False
)
MIDNIGHT_HOURS = (22, 23, 0, 1, 2, 3, 4)


@pytest.fixture(scope="module")
def world() -> DemoWorld:
    return DemoWorld(CONFIG)


@pytest.fixture(scope="module")
def events(world: DemoWorld) -> pa.Table:
    return world.events()


@pytest.fixture(scope="module")
def impressions(events: pa.Table) -> pa.Table:
    return events.filter(pc.equal(events["event_type"], "impression"))


@pytest.fixture(scope="module")
def looks(events: pa.Table) -> pa.Table:
    """Views and clicks."""
    return events.filter(pc.is_in(events["event_type"], pa.array(["view", "click"])))


def in_network_share(world: DemoWorld) -> tuple[float, set[str]]:
    """Return the share of active users all of whose interactions are with followed authors."""
    events = world.events()
    engaged = events.filter(
        pc.invert(pc.is_in(events["event_type"], pa.array(["impression", "skip"])))
    )
    items, follows = world.items(), world.follows()
    author = dict(zip(items["item_id"].to_pylist(), items["author_id"].to_pylist(), strict=True))
    since = {(row["follower_id"], row["followee_id"]): row["since"] for row in follows.to_pylist()}
    active, outside = set(), set()
    for row in engaged.to_pylist():
        active.add(row["user_id"])
        moment = since.get((row["user_id"], author[row["item_id"]]))
        if moment is None or moment >= row["timestamp"]:
            outside.add(row["user_id"])
    return 1 - len(outside) / len(active), outside


def test_sixty_in_a_hundred_users_stay_inside_their_network(world):
    share, outside = in_network_share(world)
    assert share == pytest.approx(0.60, abs=0.02)
    assert not outside & world.truth.in_network_only
    assert len(world.truth.in_network_only) == 600


@pytest.mark.parametrize("asked", [0.0, 0.25, 1.0])
def test_the_in_network_share_is_a_setting(asked):
    config = DemoConfig(
        users=400, items=300, days=14, in_network_share=asked, vectors=False, drift="none"
    )
    assert in_network_share(DemoWorld(config))[0] == pytest.approx(asked, abs=0.03)


def test_exploration_has_its_share_and_is_uniform(world, impressions):
    explored = impressions.filter(impressions["exploration"])
    share = explored.num_rows / impressions.num_rows
    # Four standard errors of a share of 0.15.
    assert share == pytest.approx(0.15, abs=4 * (0.15 * 0.85 / impressions.num_rows) ** 0.5)
    old = [item for item in world.truth.item_ids.tolist() if item not in world.truth.new_items]

    def chi_square_per_item(table: pa.Table) -> float:
        counts = Counter(table["item_id"].to_pylist())
        shown = np.array([counts[item] for item in old])
        return float(((shown - shown.mean()) ** 2).sum() / shown.mean() / (len(old) - 1))

    assert chi_square_per_item(explored) == pytest.approx(1.0, abs=0.25)
    others = impressions.filter(pc.invert(impressions["exploration"]))
    assert chi_square_per_item(others) > 5.0


def test_new_users_and_items_arrive_during_the_period(world):
    truth = world.truth
    users, items = world.users(), world.items()
    arrived = users.filter(pc.greater_equal(users["created_at"], pa.scalar(START)))
    published = items.filter(pc.greater_equal(items["created_at"], pa.scalar(START)))
    assert set(arrived["user_id"].to_pylist()) == truth.new_users
    assert set(published["item_id"].to_pylist()) == truth.new_items
    assert (len(truth.new_users), len(truth.new_items)) == (50, 90)
    assert pc.max(users["created_at"]).as_py() < CONFIG.end


def test_events_per_user_day_is_met(events):
    days = pc.floor_temporal(events["timestamp"], unit="day")
    active = events.select(["user_id"]).append_column("day", days)
    user_days = active.group_by(["user_id", "day"]).aggregate([]).num_rows
    assert events.num_rows / user_days == pytest.approx(CONFIG.events_per_user_day, rel=0.1)


def test_night_active_users_peak_at_night(world, impressions):
    hours: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    for row in impressions.select(["user_id", "timestamp"]).to_pylist():
        hours[row["user_id"] in world.truth.night_active][row["timestamp"].hour] += 1

    def at_night(counts: Counter[int]) -> float:
        return sum(counts[hour] for hour in MIDNIGHT_HOURS) / counts.total()

    assert len(world.truth.night_active) == 150
    assert at_night(hours[True]) > 0.8
    assert at_night(hours[False]) < 0.25
    assert hours[True].most_common(1)[0][0] in (23, 0, 1, 2)
    assert hours[False].most_common(1)[0][0] in (19, 20, 21)


def test_weekends_are_busier_than_working_days(impressions):
    weekdays = Counter(moment.weekday() for moment in impressions["timestamp"].to_pylist())
    # The period of 16 days has three Mondays and Tuesdays, and two of every other weekday.
    a_day = {day: count / (3 if day < 2 else 2) for day, count in weekdays.items()}
    weekend, working = (np.mean([a_day[day] for day in days]) for days in ((5, 6), (0, 1, 2, 3, 4)))
    assert 1.1 < weekend / working < 1.5


def test_a_higher_position_gets_fewer_looks(impressions, looks):
    shown = Counter(impressions["position"].to_pylist())
    looked = Counter(looks["position"].to_pylist())
    places = ((1,), (2,), (3, 4, 5, 6))
    rate = [sum(looked[at] for at in place) / sum(shown[at] for at in place) for place in places]
    assert rate == sorted(rate, reverse=True)
    assert rate[0] > 1.1 * rate[2]


def test_follows_stay_in_the_community_and_near_in_taste(world):
    truth, follows = world.truth, world.follows()
    code = {user: index for index, user in enumerate(truth.user_ids.tolist())}
    follower, followee = (
        np.array([code[user] for user in follows[column].to_pylist()])
        for column in ("follower_id", "followee_id")
    )
    community = truth.communities_U
    assert (community[follower] == community[followee]).mean() > 0.6
    taste = truth.tastes(START)
    stranger = np.random.default_rng(0).permutation(followee)
    near = (taste[follower] * taste[followee]).sum(axis=1).mean()
    assert near > 1.5 * (taste[follower] * taste[stranger]).sum(axis=1).mean()


def hit_rates(world: DemoWorld, looks: pa.Table, cut: datetime) -> dict[str, float]:
    """Return the share of users with a hit in the first ten, for users not bound to a network."""
    truth = world.truth
    before = looks.filter(pc.less(looks["timestamp"], pa.scalar(cut)))
    after = looks.filter(pc.greater_equal(looks["timestamp"], pa.scalar(cut)))
    user_code = {user: index for index, user in enumerate(truth.user_ids.tolist())}
    item_code = {item: index for index, item in enumerate(truth.item_ids.tolist())}
    matrix = {}
    for name, part in (("seen", before), ("target", after)):
        dense = np.zeros((len(user_code), len(item_code)), dtype=bool)
        users = [user_code[user] for user in part["user_id"].to_pylist()]
        dense[users, [item_code[item] for item in part["item_id"].to_pylist()]] = True
        matrix[name] = dense
    target = matrix["target"] & ~matrix["seen"]
    free = np.array([user not in truth.in_network_only for user in truth.user_ids.tolist()])
    asked = np.flatnonzero(free & target.any(axis=1) & matrix["seen"].any(axis=1))
    popularity = matrix["seen"].sum(axis=0).astype(float)
    together = matrix["seen"].T.astype(float) @ matrix["seen"].astype(float)
    np.fill_diagonal(together, 0.0)
    together /= np.sqrt(np.outer(popularity, popularity)) + 10.0
    scores = {
        "chance": np.random.default_rng(0).random((len(asked), len(item_code))),
        "popularity": np.tile(popularity, (len(asked), 1)),
        "item_knn": matrix["seen"][asked] @ together,
        "oracle": truth.relevance(truth.user_ids[asked], cut),
    }
    rates = {}
    for name, score in scores.items():
        ranked = np.argsort(-np.where(matrix["seen"][asked], -np.inf, score), axis=1)[:, :10]
        rates[name] = float(np.take_along_axis(target[asked], ranked, axis=1).any(axis=1).mean())
    return rates


def test_popularity_has_skill_and_taste_has_far_more(world, looks):
    rates = hit_rates(world, looks, CONFIG.end - timedelta(days=2))
    assert rates["popularity"] > 1.5 * rates["chance"]
    assert rates["item_knn"] > 2.0 * rates["popularity"]
    assert rates["oracle"] > 2.0 * rates["popularity"]


def test_a_look_tells_the_next_one_beyond_the_taste(world, looks):
    truth = world.truth
    niche = dict(zip(truth.item_ids.tolist(), truth.item_niches_N.tolist(), strict=True))
    history: dict[str, list[int]] = {}
    for row in looks.select(["user_id", "item_id"]).to_pylist():
        history.setdefault(row["user_id"], []).append(niche[row["item_id"]])
    # A pair of neighbours and a pair of looks far apart in time, of the same users.
    chains = [chain for chain in history.values() if len(chain) >= 12]
    near = np.mean([chain[at] == chain[at + 1] for chain in chains for at in range(11)])
    far = np.mean([chain[0] == later for chain in chains for later in chain[8:12]])
    assert near > 1.3 * far


def totals(events: pa.Table, column: str) -> dict[str, float]:
    counts = Counter(events[column].to_pylist())
    return {key: count / counts.total() for key, count in counts.items()}


def distance(one: dict[str, float], other: dict[str, float]) -> float:
    """Return the total variation distance of two distributions."""
    return 0.5 * sum(abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in one | other)


@pytest.mark.parametrize(
    ("drift", "device", "topic"),
    [("taste", True, True), ("device", True, False), ("none", False, False)],
)
def test_the_drift_shows_after_its_moment_and_not_before(drift, device, topic):
    moment = CONFIG.drift_at
    config = DemoConfig(
        users=1000,
        items=600,
        days=16,
        drift=drift,
        drift_at=None if drift == "none" else moment,
        vectors=False,
    )
    world = DemoWorld(config)
    items = world.items()
    topics = [categories[0] for categories in items["categories"].to_pylist()]
    topic_of = dict(zip(items["item_id"].to_pylist(), topics, strict=True))
    spans = {
        "reference": (moment - timedelta(days=8), moment - timedelta(days=4)),
        "before": (moment - timedelta(days=4), moment),
        "after": (moment, moment + timedelta(days=4)),
    }
    devices, shown = {}, {}
    for name, (start, end) in spans.items():
        events = world.events_between(start, end)
        looks = events.filter(pc.is_in(events["event_type"], pa.array(["view", "click"])))
        devices[name] = totals(looks, "device")
        names = pa.array([topic_of[item] for item in looks["item_id"].to_pylist()])
        shown[name] = totals(pa.table({"topic": names}), "topic")
    assert distance(devices["reference"], devices["before"]) < 0.05
    # Interests that last from session to session move the shares of topics a little anyway.
    assert distance(shown["reference"], shown["before"]) < 0.08
    assert (distance(devices["reference"], devices["after"]) > 0.2) is device
    assert (distance(shown["reference"], shown["after"]) > 0.08) is topic


def test_only_the_planted_users_change_taste(world):
    truth = world.truth
    before, after = truth.tastes(START), truth.tastes(CONFIG.drift_at)
    moved = {
        user
        for user, change in zip(
            truth.user_ids.tolist(), np.abs(after - before).sum(axis=1), strict=True
        )
        if change > 1e-9
    }
    assert moved == truth.taste_changed
    assert len(moved) == 300
    assert truth.drift_kinds == ("taste", "device")
    assert np.array_equal(before, truth.tastes(CONFIG.drift_at - timedelta(microseconds=1)))
    assert np.allclose(after.sum(axis=1), 1.0)


def test_the_oracle_knows_no_stranger(world):
    with pytest.raises(KeyError, match="u999999"):
        world.truth.relevance(np.array(["u999999"]), START)


@pytest.mark.slow
def test_the_default_world_is_a_quarter_of_a_million_events():
    world = DemoWorld()
    assert 220_000 < world.events().num_rows < 280_000
    assert in_network_share(world)[0] == pytest.approx(0.60, abs=0.02)
