"""Layers: what wins, what merges, and where a value came from."""

import pytest

from pipelines.document import parse
from pipelines.errors import SpecError, UsageError
from pipelines.merge import merge, parse_setting
from pipelines.spec import load_pipeline

BASE = """\
pipeline: shop
sources: {demo: {users: 100}}
models: [popularity, transformer]
environment: {spark: {memory: 1g}}
"""
CI = """\
candidates: {k: 7}
environment:
  lake: elsewhere
  spark: {settings: {a.b: x}}
"""


@pytest.fixture
def load(tmp_path):
    """Returns `load(*sets, env=..., text=..., environment=...)`: the merged pipeline."""

    def load(*sets, env="ci", text=BASE, environment=CI):
        for folder, name, content in (
            ("pipelines", "shop", text),
            ("environments", "ci", environment),
        ):
            (tmp_path / "configs" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "configs" / folder / f"{name}.yaml").write_text(content)
        return load_pipeline("shop", root=tmp_path, env=env, sets=sets)

    return load


@pytest.fixture(autouse=True)
def _models_and_contracts(tmp_path, request):
    project = request.path.parent / "project"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/models").symlink_to(project / "configs/models")
    (tmp_path / "data_contracts").symlink_to(project / "data_contracts")


@pytest.mark.parametrize(
    ("lower", "upper", "merged"),
    [
        ("{a: 1, b: 2}", "{b: 3, c: 4}", {"a": 1, "b": 3, "c": 4}),
        ("{a: {x: 1, y: 2}}", "{a: {y: 3}}", {"a": {"x": 1, "y": 3}}),
        ("{a: [1, 2]}", "{a: [3]}", {"a": [3]}),
        ("{a: {x: 1}}", "{a: 5}", {"a": 5}),
        ("{a: 5}", "{a: {x: 1}}", {"a": {"x": 1}}),
        ("{a: {x: 1}}", "{a: null}", {"a": None}),
        ("{}", "{a: {x: {y: 1}}}", {"a": {"x": {"y": 1}}}),
    ],
)
def test_mappings_merge_and_all_else_replaces(lower, upper, merged):
    assert merge([parse(lower, "lower"), parse(upper, "upper")]).plain() == merged


def test_merging_leaves_the_layers_as_they_are():
    lower = parse("{a: {x: 1}}", "lower")
    merge([lower, parse("{a: {x: 2}}", "upper")])
    assert lower.plain() == {"a": {"x": 1}}


def test_each_value_remembers_its_layer():
    tree = merge([parse("a: {x: 1, y: 2}", "lower"), parse("a: {y: 3}", "upper")])
    assert [tree.nearest(("a", key)).at.file for key in ("x", "y")] == ["lower", "upper"]


def test_precedence_of_defaults_file_environment_and_set(load):
    shop = load("environment.spark.memory=4g", "candidates.k=9")
    assert shop.environment.lake == "elsewhere"  # the environment over the default
    assert shop.environment.reports == "reports"  # the default
    assert shop.environment.spark.memory == "4g"  # --set over the file
    assert shop.environment.spark.settings == {"a.b": "x"}  # beside what the file gives
    assert shop.candidates.k == 9  # --set over the environment
    assert shop.sources.demo.users == 100  # the file over the default
    assert load(env="local").environment.lake == "lake"


def test_the_last_setting_wins(load):
    assert load("seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seed=7", {"seed": 7}),
        ("gate.metric=mrr", {"gate": {"metric": "mrr"}}),
        ("a.b=[1, x]", {"a": {"b": [1, "x"]}}),
        ("a={b: 1.5}", {"a": {"b": 1.5}}),
        ("a=", {"a": None}),
        ("a=x=y", {"a": "x=y"}),
        ('a="7"', {"a": "7"}),
    ],
)
def test_a_setting_is_a_dotted_key_and_yaml(setting, value):
    assert parse_setting(setting).plain() == value


def test_settings_refine_models_however_they_were_listed(load):
    assert load("models.transformer.layers=3").models["transformer"].options == {"layers": 3}
    no_models = BASE.replace("models: [popularity, transformer]\n", "")
    refined = load("models.gnn.loss=bpr", text=no_models).models
    assert list(refined) == ["popularity", "item_knn", "transformer", "gnn"]
    assert refined["gnn"].options == {"loss": "bpr"}
    assert list(load("models=[popularity]").models) == ["popularity"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "candidates.kk=5",
            "--set candidates.kk=5: `candidates`: unknown key `kk`\n    = Did you mean `k`? Keys "
            "here: k, blend, active_within, similar_items, batch.",
        ),
        (
            "gate.metrik=mrr",
            "--set gate.metrik=mrr: `gate`: unknown key `metrik`\n    = Did you mean `metric`? "
            "Keys here: mode, metric, min_lift, floors, ceilings, groups, on_drift, confidence, "
            "bootstrap.",
        ),
        (
            "candidates.k=many",
            "--set candidates.k=many: `candidates.k`: must be a whole number, not the text `many`",
        ),
        (
            "models.transformer.layer=2",
            "--set models.transformer.layer=2: `models.transformer.layer`: `transformer` has no "
            "option `layer`\n    = Did you mean `layers`? Options: size, layers, dropout, widths, "
            "max_items.",
        ),
        (
            "candidates.blend={gnn: 1}",
            "--set candidates.blend={gnn: 1}: `candidates.blend.gnn`: is not among the models of "
            "this pipeline\n    = Models of this pipeline: popularity, transformer.",
        ),
        (
            "seed",
            "--set seed: is no KEY=VALUE\n    = Write a dotted key, such as --set candidates.k=20.",
        ),
        (
            "a..b=1",
            "--set a..b=1: is no KEY=VALUE\n"
            "    = Write a dotted key, such as --set candidates.k=20.",
        ),
        (
            "seed=[1",
            "--set seed=[1: this is no YAML: while parsing a flow sequence, did not find expected "
            "',' or ']'\n    = Look at this line and the one before it: a missing colon, blank, "
            "quote or bracket.",
        ),
        (
            "seed=!!python/name:os.system",
            "--set seed=!!python/name:os.system: tags such as `!!python/name:os.system` are not "
            "accepted\n    = Write the plain value: a spec holds data only, never code.",
        ),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named_instead_of_a_line(load, setting, message):
    with pytest.raises(SpecError) as caught:
        load(setting)
    assert str(caught.value) == message


def test_mistakes_of_all_layers_are_told_at_once(load):
    with pytest.raises(SpecError) as caught:
        load("gate.min_lift=-1", text=f"{BASE}seed: x\n", environment="environment: {lak: lake}\n")
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [
        ("configs/pipelines/shop.yaml", 5),
        ("--set gate.min_lift=-1", 0),
        ("configs/environments/ci.yaml", 1),
    ]


def test_unknown_environment_lists_those_that_exist(load):
    with pytest.raises(UsageError) as caught:
        load(env="cii")
    assert str(caught.value) == (
        "There is no environment `cii`: configs/environments/cii.yaml does not exist."
        " Did you mean `ci`?\n  Environments: ci"
    )


def test_a_setting_replaces_a_variable_that_is_not_set(load, monkeypatch):
    monkeypatch.delenv("SHOP_LAKE", raising=False)
    environment = 'environment: {lake: "${SHOP_LAKE}"}\n'
    with pytest.raises(SpecError) as caught:
        load(environment=environment)
    assert str(caught.value) == (
        "configs/environments/ci.yaml:1:21: `environment.lake`: the environment variable "
        "`SHOP_LAKE` is not set\n"
        '  1 | environment: {lake: "${SHOP_LAKE}"}\n'
        "    |                     ^\n"
        "    = Run `export SHOP_LAKE=...`, or give `--set environment.lake=...`."
    )
    assert load("environment.lake=here", environment=environment).environment.lake == "here"
