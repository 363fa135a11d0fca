"""Pools made from public per-query records. Licences and origins: docs/decision_benchmarks.md.

    gsm8k      anytime_gsm8k joined with RouteLLM's GSM8K on the question: one draft, its self-reported confidence
    gsm8k_4    the same tasks, all four drafts of each paid for, so that their agreement is known
    mixtral    RouteLLM's GSM8K: Mixtral's recorded answers, no confidence; the score is how short the answer is
    mmlu       RouteLLM's MMLU: Mixtral and GPT-4; the score is an out-of-fold classifier on the prompt alone
    banking77  recorded by `python -m benchmarks.banking77`, as JSONL of {score, draft_ok, validator_ok, draft_cost,
               validator_cost, features: {name: number or null}}
    clinc150   the same by `python -m benchmarks.clinc150`

Costs are RouteLLM's prices (arXiv 2406.18665: 0.24 USD a million tokens for Mixtral, 24.7 for GPT-4) on recorded text
at four characters a token; no tokens are recorded.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pools import RECORDED, Item, Pool, pool, ranks

MIXTRAL, GPT4 = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
USD_PER_CHARACTER = {"draft": 0.24e-6 / 4, "validator": 24.7e-6 / 4}
BUDGETS = (1, 2, 3, 4)
SERVED = 2  # the budget whose answer is the draft: the most often right


@dataclass(frozen=True, slots=True)
class Problem:
    """A GSM8K question with the student's four recorded drafts, by budget, and GPT-4's and Mixtral's answers."""

    question: str
    drafts: dict[int, dict[str, Any]]
    mixtral_ok: bool
    mixtral_text: str
    validator_ok: bool
    validator_text: str


def loaders(data: Path, recorded_files: Mapping[str, Path | None]) -> dict[str, Callable[[], Pool]]:
    """By name. `recorded_files` has one for each of the pools RECORDED, None where it is not given."""
    return {
        "gsm8k": lambda: gsm8k(data), "gsm8k_4": lambda: gsm8k(data, four=True), "mixtral": lambda: mixtral(data),
        "mmlu": lambda: mmlu(data), **{name: partial(recorded, name, recorded_files[name]) for name in RECORDED},
    }


def problems(data: Path) -> list[Problem]:
    """All 1,319, joined on the question with whitespace and quotes normalised; ValueError where one is left over."""
    drafts: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    with (data / "anytime_gsm8k" / "preds_student_full.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            drafts[same_question(row["problem"])][row["t"]] = row
    answers = {same_question(row["prompt"]): row for row in _rows(data / "routellm" / "gsm8k_responses.csv")}
    if left := drafts.keys() ^ answers.keys():
        raise ValueError(f"{len(left)} questions are in one file only, like {next(iter(left))!r}")
    return [
        Problem(row["prompt"], drafts[question], row[MIXTRAL] == "True", row[f"{MIXTRAL}_response"],
                row[GPT4] == "True", row[f"{GPT4}_response"])
        for question, row in answers.items()
    ]


def same_question(text: str) -> str:
    for curly, plain in (("\u2019", "'"), ("\u2018", "'"), ("\u201c", '"'), ("\u201d", '"')):
        text = text.replace(curly, plain)
    return " ".join(text.split())


def gsm8k(data: Path, *, four: bool = False) -> Pool:
    joined = problems(data)
    covariates = ranks([len(p.question) for p in joined])
    budgets = BUDGETS if four else (SERVED,)
    items = [
        Item(
            score=p.drafts[SERVED]["conf"], draft_ok=bool(p.drafts[SERVED]["correct"]), validator_ok=p.validator_ok,
            draft_cost=sum(_cost("draft", p.question, p.drafts[t]["raw_text"]) for t in budgets),
            validator_cost=_cost("validator", p.question, p.validator_text),
            features=question_features(p.question) | draft_features(p.drafts[SERVED])
            | (agreement_features(p.drafts) if four else {}),
            covariate=float(covariate),
        )
        for p, covariate in zip(joined, covariates, strict=True)
    ]
    if four:
        return pool("gsm8k_4", "the same, four drafts a task", items)
    return pool("gsm8k", "self-reported confidence of one draft", items)


def mixtral(data: Path) -> Pool:
    joined = problems(data)
    covariates = ranks([len(p.question) for p in joined])
    items = [
        Item(
            score=-float(len(p.mixtral_text)), draft_ok=p.mixtral_ok, validator_ok=p.validator_ok,
            draft_cost=_cost("draft", p.question, p.mixtral_text),
            validator_cost=_cost("validator", p.question, p.validator_text),
            features=question_features(p.question) | text_features(p.mixtral_text), covariate=float(covariate),
        )
        for p, covariate in zip(joined, covariates, strict=True)
    ]
    return pool("mixtral", "recorded answers without a confidence: shorter is surer", items)


def question_features(question: str) -> dict[str, float | None]:
    return {"question_length": float(len(question)), "question_numbers": _numbers(question)}


def text_features(text: str) -> dict[str, float | None]:
    return {
        "length": float(len(text)), "numbers": _numbers(text), "lines": float(text.count("\n")),
        "equations": float(text.count("=")), "finished": float("####" in text),
    }


def draft_features(draft: dict[str, Any]) -> dict[str, float | None]:
    answer = draft["answer"] or ""
    return text_features(draft["raw_text"]) | {
        "confidence": draft["conf"], "confidence_given": float(draft["conf"] is not None),
        "answered": float(bool(answer)), "answer_length": float(len(answer)), "fraction": float("." in answer),
    }


def agreement_features(drafts: dict[int, dict[str, Any]]) -> dict[str, float | None]:
    """What the other budgets add: their confidences, their lengths, and who agrees with the answer that is served."""
    answers = [drafts[t]["answer"] for t in BUDGETS]
    found: dict[str, float | None] = {
        "agree": float(answers.count(answers[SERVED - 1])), "distinct": float(len(set(answers))),
    }
    for t in BUDGETS:
        found[f"confidence_{t}"] = drafts[t]["conf"]
        found[f"length_{t}"] = float(len(drafts[t]["raw_text"]))
    return found


def mmlu(data: Path) -> Pool:
    """14,042 prompts. No answer is recorded, so a call is its prompt and one token."""
    files = sorted((data / "routellm" / "mmlu").glob("*.csv"))
    if not files:
        raise FileNotFoundError(f"no mmlu/*.csv under {data.name}/routellm")
    rows = [row for file in files for row in _rows(file)]
    prompts, draft_ok = [row["prompt"] for row in rows], [row[MIXTRAL] == "True" for row in rows]
    scores, covariates = out_of_fold(prompts, draft_ok), ranks([len(prompt) for prompt in prompts])
    items = [
        Item(score=s, draft_ok=right, validator_ok=row[GPT4] == "True", covariate=float(c),
             draft_cost=_cost("draft", row["prompt"], "A"), validator_cost=_cost("validator", row["prompt"], "A"))
        for row, right, s, c in zip(rows, draft_ok, scores, covariates, strict=True)
    ]
    return pool("mmlu", "out-of-fold classifier on the prompt", items)


def out_of_fold(prompts: Sequence[str], right: Sequence[bool], folds: int = 5) -> list[float]:
    """P(draft right | prompt) from the other folds: TF-IDF and logistic regression, kept in the temporary folder."""
    named = json.dumps([version("scikit-learn"), folds, list(prompts), list(right)]).encode()
    kept = Path(tempfile.gettempdir()) / "draftgate-benchmarks" / f"{hashlib.sha256(named).hexdigest()[:16]}.json"
    if kept.exists():
        return [float(score) for score in json.loads(kept.read_text())]
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=2.0, max_iter=1000)
    )
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    scores = cross_val_predict(model, prompts, np.array(right), cv=split, method="predict_proba")[:, 1].tolist()
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(scores))
    return [float(score) for score in scores]


def recorded(name: str, file: Path | None) -> Pool:
    if file is None:
        raise FileNotFoundError(f"record it with `python -m benchmarks.{name}` and give --{name} FILE")
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    covariates = ranks([hash_to_unit(json.dumps(row, sort_keys=True)) for row in rows])
    items = [
        Item(score=float("nan") if row["score"] is None else row["score"], draft_ok=row["draft_ok"],
             validator_ok=row["validator_ok"], draft_cost=float(row["draft_cost"]),
             validator_cost=float(row["validator_cost"]), features=row["features"], covariate=float(c))
        for row, c in zip(rows, covariates, strict=True)
    ]
    return pool(name, "a tiny drafter served by a real vLLM", items)


def hash_to_unit(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16.0**13


def _rows(file: Path) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 24)
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _cost(role: str, prompt: str, answer: str) -> float:
    return USD_PER_CHARACTER[role] * (len(prompt) + len(answer))


def _numbers(text: str) -> float:
    return float(len(re.findall(r"\d+", text)))
