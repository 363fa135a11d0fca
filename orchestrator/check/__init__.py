"""`orchestrator check`: what a pipeline would do, found out without spending."""

from orchestrator.check.prices import PricedModel, how_to_price, priced_models
from orchestrator.check.report import CheckReport, check_pipeline

__all__ = ["CheckReport", "PricedModel", "check_pipeline", "how_to_price", "priced_models"]
