"""Ways to use a data set that the literature measures: class-incremental sessions, long tails."""

from __future__ import annotations

from ddn_etf.protocols.frequency import frequency_groups, group_accuracies
from ddn_etf.protocols.seli import seli_distance, seli_mean_gram, seli_weight_gram
from ddn_etf.protocols.sessions import Session, few_shot_sessions, predict_seen

__all__ = [
    "Session",
    "few_shot_sessions",
    "frequency_groups",
    "group_accuracies",
    "predict_seen",
    "seli_distance",
    "seli_mean_gram",
    "seli_weight_gram",
]
