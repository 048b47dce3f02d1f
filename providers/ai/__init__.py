"""AI: ask a model, whatever the service."""

from __future__ import annotations

from .base import AIConfig, AIProvider, Price
from .model import (
    Chunk,
    Completion,
    FinishReason,
    Image,
    Message,
    ModelInfo,
    Prompt,
    RequestOptions,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)

__all__ = [
    "AIConfig",
    "AIProvider",
    "Chunk",
    "Completion",
    "FinishReason",
    "Image",
    "Message",
    "ModelInfo",
    "Price",
    "Prompt",
    "RequestOptions",
    "Text",
    "Tool",
    "ToolCall",
    "ToolResult",
    "Usage",
]
