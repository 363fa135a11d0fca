"""Every example is run as its user runs it: one command, offline, in a folder of its own."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from examples.support_tickets.classifier import NaiveBayes, best, lines

ROOT = Path(__file__).resolve().parent.parent
SERVED = "accepted|approved|repaired|redone"


def run(module: str, folder: Path, *arguments: str) -> str:
    """What the example prints. A warning that nobody handles is an error there too."""
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{module}", *arguments], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDEVMODE": "", "PYTHONDONTWRITEBYTECODE": "1"}, timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_order_lines_fills_a_file_and_resumes_with_the_same_command(tmp_path: Path) -> None:
    first = run("order_lines.run", tmp_path, "here")
    lines = [orjson.loads(line) for line in (tmp_path / "here" / "done.jsonl").read_bytes().splitlines()]
    assert [line["status"] for line in lines if not re.fullmatch(SERVED, line["status"])] == []
    assert len({line["id"] for line in lines}) == 10
    assert re.search(r"^10 tasks, \d+ escalated, 0 done before$", first, re.MULTILINE)
    assert "Cost per successful outcome" in first
    again = run("order_lines.run", tmp_path, "here")
    assert re.search(r"^10 tasks, \d+ escalated, 10 done before$", again, re.MULTILINE)
    assert len((tmp_path / "here" / "done.jsonl").read_bytes().splitlines()) == 10


def test_the_service_answers_once_takes_feedback_and_refuses_an_empty_order(tmp_path: Path) -> None:
    said = run("fastapi_service.service", tmp_path)
    assert re.search(rf"^({SERVED}): {{'item': ", said)
    assert "because " in said
    assert "asked again: the same run, True" in said
    assert "feedback: 204" in said
    assert "an empty order: 422, input.text" in said
    assert list(tmp_path.iterdir()) == []


def test_the_node_fills_the_callers_own_state(tmp_path: Path) -> None:
    said = run("langgraph_node.mail_room", tmp_path).splitlines()
    assert [line.partition(":")[0] for line in said] == ["ann@example.org", "bob@example.org"]
    assert all(re.search(rf"we have noted \d+ x .*\(({SERVED}), 0\.\d+ USD\)$", line) for line in said)
    assert list(tmp_path.iterdir()) == []


def test_tickets_are_sorted_handed_off_and_extracted_step_by_step(tmp_path: Path) -> None:
    said = run("support_tickets.run", tmp_path)
    tickets = dict(re.findall(r"^(ticket-\d\d): (\w+)", said, re.MULTILINE))
    assert len(tickets) == 24
    assert tickets["ticket-22"] == "handed_off", "a ticket in a language the classifier never saw"
    steps = {name: re.findall(rf"    {name}: (\w+)", said) for name in ("triage", "extract")}
    assert len(steps["triage"]) == 24
    assert steps["extract"].count("skipped") == 12
    extracted = [status for status in steps["extract"] if status != "skipped"]
    assert extracted
    assert all(re.fullmatch(SERVED, status) for status in extracted)
    assert "UNCERTIFIED" in said
    assert "Cost per successful outcome" in said
    assert list(tmp_path.iterdir()) == []


def labelled() -> list[dict[str, str]]:
    return [orjson.loads(line) for line in (ROOT / "examples/support_tickets/labelled.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("label", ["kind", "urgency"])
def test_the_classifier_is_right_about_as_often_as_it_says(label: str) -> None:
    """Ten folds: each ticket is judged by a classifier that did not see it."""
    tickets = [(ticket["text"], ticket[label]) for ticket in labelled()]
    models = [NaiveBayes([t for i, t in enumerate(tickets) if i % 10 != fold]) for fold in range(10)]
    judged = [(best(models[i % 10].log_probabilities(text)), said) for i, (text, said) in enumerate(tickets)]
    right = sum(found == said for (found, _), said in judged) / len(judged)
    claimed = sum(math.exp(log) for (_, log), _ in judged) / len(judged)
    assert right > 0.8
    assert abs(right - claimed) < 0.07


def test_the_classifier_finds_the_line_of_the_order() -> None:
    tickets = labelled()
    found = 0
    orders = [t for t in tickets if t["line"]]
    for held_out in orders:
        rest = [t for t in tickets if t is not held_out]
        model = NaiveBayes([(x, "order" if x == t["line"] else "talk") for t in rest for x in lines(t["text"])])
        guess = max(lines(held_out["text"]), key=lambda x: model.log_probabilities(x)["order"])
        found += guess == held_out["line"]
    assert found / len(orders) > 0.95
