"""Pipelines: many pictures and recordings, and the flashcards they are for."""

from __future__ import annotations

from .batch import Batch
from .cards import (
    CardOptions,
    CardsEvent,
    CardsResult,
    RowFinished,
    RowOutcome,
    RowResult,
    push_cards,
)
from .errors import PipelineError, TableError, TableFault
from .jobs import ImageJob, Job, Product, PronunciationJob
from .pipeline import Assigned, Pipeline
from .result import (
    BatchEvent,
    BatchResult,
    Estimate,
    ItemFinished,
    ItemOutcome,
    ItemResult,
    ItemStarted,
    Observer,
)
from .table import Row, Table, read_table

__all__ = [
    "Assigned",
    "Batch",
    "BatchEvent",
    "BatchResult",
    "CardOptions",
    "CardsEvent",
    "CardsResult",
    "Estimate",
    "ImageJob",
    "ItemFinished",
    "ItemOutcome",
    "ItemResult",
    "ItemStarted",
    "Job",
    "Observer",
    "Pipeline",
    "PipelineError",
    "Product",
    "PronunciationJob",
    "Row",
    "RowFinished",
    "RowOutcome",
    "RowResult",
    "Table",
    "TableError",
    "TableFault",
    "push_cards",
    "read_table",
]
