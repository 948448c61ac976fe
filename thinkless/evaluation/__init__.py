"""How good a model is at choosing: reports, routers to compare with, calibration, and a prediction."""

from thinkless.evaluation.report import Report, evaluate, load_report

__all__ = ["Report", "evaluate", "load_report"]
