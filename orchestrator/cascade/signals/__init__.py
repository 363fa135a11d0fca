"""Signals: measurements of a draft. Each kind is one module; `signal_set.KINDS` lists them."""

from orchestrator.cascade.signals.features import draft_features, task_features
from orchestrator.cascade.signals.reading_out import confidence_of, signals_from_json, signals_to_json
from orchestrator.cascade.signals.signal_set import SignalSet, compile_signals

__all__ = [
    "SignalSet", "compile_signals", "confidence_of", "draft_features", "signals_from_json", "signals_to_json",
    "task_features",
]
