"""
The AI family: ask a model, whatever the service.

Importing this package makes the built-in types known; it imports none of their libraries.
"""

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
from .types import AI_TYPES

__all__ = [
    "AI_TYPES",
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
