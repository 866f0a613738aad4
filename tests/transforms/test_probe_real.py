"""The leak probe on real data: KuaiRand's counters are found, and nothing honest is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from transforms.probe import Log, column_leaks

pytestmark = pytest.mark.shared_data

DATA = Path(os.environ.get("SEXTANT_SHARED_DATA", "")).resolve()


def log_of(ids, index, others, times, positives, noun, *, all_known):
    codes = pd.Index(index).get_indexer(ids)
    there = codes >= 0
    cut = int(np.median(times))
    first = np.full(len(index), np.iinfo(np.int64).max)
    np.minimum.at(first, codes[there], times[there])
    return Log(
        codes[there], pd.factorize(others)[0][there].astype(np.int64), times[there],
        positives[there], cut, (first < cut) | all_known, noun,
    )  # fmt: skip


def plain(frame):
    return {
        name: column.astype(float).to_numpy()
        if pd.api.types.is_numeric_dtype(column)
        else column.astype(object).where(column.notna(), None).to_numpy()
        for name, column in frame.items()
    }


@pytest.fixture(scope="module")
def kuairand():
    return {
        name: pd.read_parquet(DATA / "kuairand" / f"{name}.parquet")
        for name in ("events", "videos", "users")
    }


def test_the_counters_of_kuairand_are_found(kuairand):
    events, videos = kuairand["events"], kuairand["videos"]
    columns = plain(videos.drop(columns="video_id"))
    columns["tags"] = videos["tag"].str.count(",").astype(float).to_numpy()
    log = log_of(
        events.video_id, videos.video_id, events.user_id, events.time_ms.to_numpy(),
        (events.is_click > 0).to_numpy(), "items", all_known=True,
    )  # fmt: skip
    found = {leak.column for leak in column_leaks(columns, log)}
    first = list(videos).index("counts")
    counters = set(list(videos)[first:])
    # Reports are too rare to be told from an honest column.
    assert counters - found == {"report_cnt", "report_user_num"}
    assert found <= counters


def test_nothing_of_kuairands_users_is_found(kuairand):
    events, users = kuairand["events"], kuairand["users"]
    log = log_of(
        events.user_id, users.user_id, events.video_id, events.time_ms.to_numpy(),
        (events.is_click > 0).to_numpy(), "users", all_known=True,
    )  # fmt: skip
    assert column_leaks(plain(users.drop(columns="user_id")), log) == []


def test_movielens_is_clean_until_its_means_are_planted():
    ratings = pd.read_parquet(DATA / "ml-latest-small" / "ratings.parquet")
    movies = pd.read_csv(DATA / "ml-latest-small" / "movies.csv.gz")
    log = log_of(
        ratings.movieId, movies.movieId, ratings.userId, ratings.timestamp.to_numpy(),
        (ratings.rating >= 3.5).to_numpy(), "items", all_known=False,
    )  # fmt: skip
    honest = {
        "genres": movies.genres.str.count(r"\|").astype(float).to_numpy(),
        "first genre": movies.genres.str.split("|").str[0].to_numpy(object),
        "year": pd.to_numeric(movies.title.str.extract(r"\((\d{4})\)")[0]).to_numpy(float),
        "title": movies.title.to_numpy(object),
    }
    assert column_leaks(honest, log) == []
    by_film = ratings.groupby("movieId").rating
    planted = {
        "ratings": by_film.size().reindex(movies.movieId).to_numpy(float),
        "mean rating": by_film.mean().reindex(movies.movieId).to_numpy(float),
    }
    found = {leak.column: leak.kind for leak in column_leaks(honest | planted, log)}
    assert found == {"ratings": "popularity", "mean rating": "taste"}
