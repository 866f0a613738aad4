"""What the pictures show, and that nothing in them covers anything else."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from training import plots
from training.evaluation import MetricRow
from training.plots import Judged, coverage_against_popularity, ndcg_by_group


def judged(model: str, version: str, role: str, ndcg: float, few: str = "") -> Judged:
    sizes = {"all": 1_500, "new": 300, "light": 500, "heavy": 700}
    rows = [
        MetricRow("ndcg@10", group, ndcg, ndcg - 0.02, ndcg + 0.03, 19 if group == few else users)
        for group, users in sizes.items()
    ]
    rows.append(MetricRow("mean_popularity@10", "all", 1_000 * ndcg, None, None, 1_500))
    rows.append(MetricRow("coverage@10", "all", 1 - ndcg, None, None, 1_500))
    return Judged(model, version, role, rows)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn."""
    drawn: list[Figure] = []
    save = plots._save

    def keep(figure: Figure, file: Path) -> None:
        drawn.append(figure)
        save(figure, file)

    monkeypatch.setattr(plots, "_save", keep)
    return drawn


def texts(figure: Figure) -> list:
    """All that is written in a figure."""
    (axes,) = figure.axes
    labels = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
    found = [*labels, axes.title, axes._left_title, *axes.get_legend().get_texts()]
    return [text for text in found if text.get_text()]


def assert_readable(figure: Figure, file: Path) -> None:
    assert file.read_bytes()[:4] == b"\x89PNG"
    figure.draw_without_rendering()  # saving moved all to where the picture was cut
    boxes = {text.get_text(): text.get_window_extent() for text in texts(figure)}
    for one, other in combinations(boxes, 2):
        assert not boxes[one].overlaps(boxes[other]), f"{one!r} covers {other!r}"


def test_groups_stand_beside_those_of_the_champion(figures, tmp_path):
    ours = judged("transformer", "3", "challenger", 0.2, few="new")
    theirs = judged("transformer", "1", "champion", 0.15)
    ndcg_by_group(ours, theirs, k=10, confidence=0.9, file=tmp_path / "a.png")
    (figure,) = figures
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "all\n1,500 users",
        "new\nunder 20 users",
        "light\n500 users",
        "heavy\n700 users",
    ]
    assert axes._left_title.get_text() == "NDCG@10 by user group, 90% intervals over users"
    drawn = {box.get_label(): box for box in axes.containers}
    assert {label: list(box.lines[0].get_ydata()) for label, box in drawn.items()} == {
        "transformer 3, challenger": [0.2] * 3,
        "transformer 1, champion": [0.15] * 4,
    }
    (bars,) = drawn["transformer 3, challenger"].lines[2]
    assert [end for _, end in bars.get_segments()[0]] == pytest.approx([0.18, 0.23])
    assert_readable(figure, tmp_path / "a.png")


def test_a_version_without_a_reference_is_drawn_alone(figures, tmp_path):
    alone = judged("popularity", "1", "challenger", 0.05)
    ndcg_by_group(alone, None, k=10, confidence=0.95, file=tmp_path / "a.png")
    (figure,) = figures
    assert len(figure.axes[0].containers) == 1
    assert_readable(figure, tmp_path / "a.png")


def test_every_model_has_its_point_and_champions_are_hollow(figures, tmp_path):
    names = ("popularity", "item_knn", "transformer", "gnn", "social_gnn", "spectral")
    everyone = [judged(name, "12", "challenger", 0.1 + 0.001 * n) for n, name in enumerate(names)]
    everyone.append(judged("gnn", "11", "champion", 0.104))
    coverage_against_popularity(everyone, k=10, file=tmp_path / "a.png")
    (figure,) = figures
    points = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(points) == [one.label for one in everyone]
    assert points["gnn 12, challenger"].get_xydata()[0] == pytest.approx([103, 0.897])
    hollow = [label for label, line in points.items() if line.get_markerfacecolor() == "white"]
    assert hollow == ["gnn 11, champion"]
    assert len({line.get_marker() for line in points.values()}) == 6
    assert_readable(figure, tmp_path / "a.png")


def test_equal_rows_give_equal_bytes(tmp_path):
    one = judged("gnn", "1", "challenger", 0.1)
    for name in ("a.png", "b.png"):
        ndcg_by_group(one, None, k=10, confidence=0.95, file=tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_was_not_judged_leaves_a_picture_without_points(figures, tmp_path):
    nobody = Judged("gnn", "1", "challenger", [MetricRow("mrr", "all", None, None, None, 0)])
    ndcg_by_group(nobody, None, k=10, confidence=0.95, file=tmp_path / "a.png")
    coverage_against_popularity([nobody], k=10, file=tmp_path / "b.png")
    assert all((tmp_path / name).exists() for name in ("a.png", "b.png"))
