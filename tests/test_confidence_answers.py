"""What was answered, where the schema lists what may be: kept as a number, fitted on, applied."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from orchestrator import Pipeline, Task
from orchestrator.cascade.confidence import FittedConfidence, tag
from orchestrator.config.closed_answers import closed_answers
from orchestrator.quality.fitted.confidence import fit_confidence
from orchestrator.quality.fitted.fitted_models import fit_logistic
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.draft_arrays import data_of, table
from tests.pipelines import write_pipeline

COLOURS = {"type": "string", "enum": ["red", "green", None, "blue"]}


@pytest.mark.parametrize("doubted_by", [None, "lp_mean"])
def test_answers_of_the_artefact_add_what_scikit_learn_found(doubted_by: str | None) -> None:
    names, x, right = table(500, 5)
    places = np.arange(500) % 7.0
    right = np.where(places == 3, np.minimum(right, np.arange(500) % 4 == 0), right)
    places[places == 5] = np.nan
    data = data_of(names, x, right, {"answer:kind": places}, doubted_by)
    fitted = fit_logistic(data, 1.0)
    body = fitted.body([True] * len(names))
    assert min(body["offsets"]["answer:kind"], key=body["offsets"]["answer:kind"].__getitem__) == "3"
    apply = FittedConfidence({"features": names, "model": body, "calibration": {"kind": "none"}})
    for i, z in enumerate(fitted.log_odds(data).tolist()):
        row = dict(zip(names, x[i].tolist(), strict=True))
        tags = dict(tag(name) for name in names if name.startswith("tag.") and row[name])
        place = None if np.isnan(places[i]) else places[i]
        assert apply.log_odds(row | {"answer:kind": place}, tags) == pytest.approx(z, abs=1e-9)


def test_an_answer_often_wrong_is_trusted_less_where_all_else_is_equal() -> None:
    draw = np.random.default_rng(3)
    lp, kinds = -draw.exponential(0.5, 800), draw.integers(6, size=800)
    right = draw.random(800) < np.exp(lp) * np.where(kinds == 2, 0.4, 1.0)
    features = [{"lp_mean": float(x), "answer:kind": float(k)} for x, k in zip(lp, kinds, strict=True)]
    fitted = fit_confidence(features, right.tolist(), seed=1)
    assert fitted.measured["auroc"] > fitted.measured["raw"]["auroc"] + 0.03
    often_wrong, other = ({"lp_mean": -0.2, "answer:kind": kind} for kind in (2.0, 4.0))
    assert (fitted.probability(often_wrong, {}) or 1.0) < (fitted.probability(other, {}) or 0.0) - 0.2
    never_seen = {"lp_mean": -0.2, "answer:kind": 77.0}
    assert fitted.probability(never_seen, {}) == fitted.probability({"lp_mean": -0.2, "answer:kind": None}, {})
    assert fitted.probability({"lp_mean": -0.2}, {}) is None


def test_what_is_learned_of_an_answer_in_doubt_is_not_held_against_sure_ones() -> None:
    draw = np.random.default_rng(5)
    lp, kinds = -draw.exponential(0.5, 900), draw.integers(6, size=900)
    right = draw.random(900) < np.exp(lp) * np.where((kinds == 2) & (lp < -0.3), 0.2, 1.0)
    features = [{"lp_mean": float(x), "answer:kind": float(k)} for x, k in zip(lp, kinds, strict=True)]
    fitted = fit_confidence(features, right.tolist(), seed=1)
    assert fitted.model["doubted_by"] == "lp_mean"
    doubted, sure = ([fitted.probability({"lp_mean": x, "answer:kind": kind}, {}) or 0.0 for kind in (2.0, 4.0)]
                     for x in (-0.7, -0.001))
    assert doubted[0] < doubted[1] - 0.3
    assert sure[0] == pytest.approx(sure[1], abs=0.02)


def test_few_labels_with_answers_leave_out_features_that_are_not_clearly_better() -> None:
    draw = np.random.default_rng(4)
    lp, kinds = -draw.exponential(0.5, 300), draw.integers(6, size=300)
    right = draw.random(300) < np.exp(lp) * np.where(kinds == 2, 0.2, 1.0)
    noise = [{f"noise_{i}": float(draw.normal()) for i in range(12)} for _ in range(300)]
    features = [
        {"lp_mean": float(x), "answer:kind": float(k)} | more for x, k, more in zip(lp, kinds, noise, strict=True)
    ]
    fitted = fit_confidence(features, right.tolist(), seed=1)
    assert fitted.features == ("lp_mean",)
    assert list(fitted.model["offsets"]) == ["answer:kind"]
    assert "fitted on lp_mean, tags and answers alone" in fitted.words


def test_lists_are_found_through_objects_references_and_what_may_be_null() -> None:
    schema = {
        "type": "object", "$defs": {"Colour": COLOURS},
        "properties": {
            "colour": {"$ref": "#/$defs/Colour"},
            "item": {"type": "object", "properties": {
                "sold": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "size": {"enum": [1, 2, "large"]},
            }},
            "either": {"anyOf": [{"const": "yes"}, {"const": "no"}]},
            "text": {"type": "string"}, "only": {"const": "x"}, "parts": {"enum": [[1], [2]]},
            "open": {"anyOf": [{"enum": ["a", "b"]}, {"type": "string"}]},
            "sure": {"type": ["boolean", "null"]}, "all": {"allOf": [{"$ref": "#/$defs/Colour"}]},
        },
    }
    found = {one.name: one for one in closed_answers(schema)}
    assert list(found) == [
        "answer:colour", "answer:either", "answer:sure", "answer:all", "answer:item.sold", "answer:item.size",
    ]
    said = {"colour": "blue", "item": {"sold": True, "size": 1}, "either": "no", "sure": False, "all": "red"}
    assert [one.place(said) for one in found.values()] == [2, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("said", [
    None, "red", [], {}, {"colour": None}, {"colour": "pink"}, {"colour": ["red"]}, {"colour": 1.0}, {"colour": True},
])
def test_what_is_none_of_the_list_has_no_place(said: Any) -> None:
    (colour,) = closed_answers({"type": "object", "properties": {"colour": COLOURS}})
    assert colour.place(said) is None


def test_true_is_not_one_and_a_whole_answer_may_be_of_a_list() -> None:
    (whole,) = closed_answers({"enum": [1, True, "1"]})
    assert whole.name == "answer:value"
    assert [whole.place(said) for said in (1, True, "1", False)] == [0, 1, 2, None]


def test_a_schema_that_names_itself_ends() -> None:
    node: dict[str, Any] = {"type": "object", "properties": {"next": {"$ref": "#"}, "end": {"type": "boolean"}}}
    assert [one.name for one in closed_answers(node)] == [
        f"answer:{'next.' * deep}end" for deep in range(4)
    ]
    many = {f"next_{i}": {"$ref": "#"} for i in range(50)}
    assert closed_answers({"type": "object", "properties": many}) == ()


@pytest.mark.parametrize(("keep", "kept"), [("30d", [1, 0]), ("none", [None, None])])
async def test_the_place_is_kept_with_the_draft_unless_no_content_is(
    keep: str, kept: list[int | None], tmp_path: Path
) -> None:
    path = write_pipeline(tmp_path / "p", content={"keep": keep})
    (tmp_path / "p" / "output.json").write_bytes(orjson.dumps({
        "type": "object", "properties": {"label": {"enum": ["a", "b"]}, "sure": {"type": "boolean"}},
    }))
    clients = {name: ScriptedModel([{"label": "b", "sure": False}], name=name) for name in ("drafter", "validator")}
    file = tmp_path / "store.db"
    async with Pipeline.load(path, store=f"sqlite:///{file}", clients=clients) as pipeline:
        await pipeline.arun(Task(id="t", input={"text": "x"}))
    with contextlib.closing(sqlite3.connect(file)) as connection:
        ((numbers,),) = connection.execute("SELECT features_json FROM step")
        ((body,),) = connection.execute("SELECT body_json FROM config")
    assert orjson.loads(numbers)[-2:] == kept
    assert orjson.loads(body)["features"]["label"][-2:] == ["answer:label", "answer:sure"]


async def test_what_is_forgotten_has_no_place_among_the_answers(tmp_path: Path) -> None:
    path, file = write_pipeline(tmp_path / "p"), tmp_path / "store.db"
    clients = {name: ScriptedModel([{"label": "b"}] * 2, name=name) for name in ("drafter", "validator")}
    async with Pipeline.load(path, store=f"sqlite:///{file}", clients=clients) as pipeline:
        gone, stays = [await pipeline.arun(Task(id=name, input={"text": name})) for name in ("gone", "stays")]
    async with contextlib.aclosing(await Store.open(f"sqlite:///{file}")) as store:
        await store.forget(run_ids=[gone.run_id])
    with contextlib.closing(sqlite3.connect(file)) as connection:
        kept = {run: orjson.loads(numbers) for run, numbers in connection.execute(
            "SELECT run_id, features_json FROM step"
        )}
    assert (kept[gone.run_id][-1], kept[stays.run_id][-1]) == (None, 1)
    assert kept[gone.run_id][1:-1] == kept[stays.run_id][1:-1], "lengths and checks stay"


async def test_another_order_of_what_is_allowed_measures_a_cached_answer_anew(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", drafter={"structured": False}, cache={"ttl": "1d"})
    places = []
    for allowed in (["a", "b"], ["b", "a"]):
        (tmp_path / "p" / "output.json").write_bytes(orjson.dumps({"properties": {"label": {"enum": allowed}}}))
        clients = {name: ScriptedModel([{"label": "b"}], name=name) for name in ("drafter", "validator")}
        file = tmp_path / "store.db"
        async with Pipeline.load(path, store=f"sqlite:///{file}", clients=clients) as pipeline:
            found = await pipeline.arun(Task(id=allowed[0], input={"text": "x"}))
        with contextlib.closing(sqlite3.connect(file)) as connection:
            ((numbers,),) = connection.execute("SELECT features_json FROM step WHERE run_id = ?", (found.run_id,))
        places.append((len(found.calls), orjson.loads(numbers)[-1]))
    assert places == [(1, 1), (0, 0)], "the second answer was in the cache"
