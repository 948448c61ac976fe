"""Is a final answer right? Its text, its meaning, and a sandbox for what only mathematics can decide."""

from thinkless.grading.grade import final_answer, is_correct

__all__ = ["final_answer", "is_correct"]
