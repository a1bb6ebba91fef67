"""One call to a wrapped model: its arguments as a `ModelRequest`, and the answer back, whole or as a stream."""

from langchain_tokopt.call.arguments import BoundTools, Call
from langchain_tokopt.call.chunks import amodel_chunks, model_chunks, told
from langchain_tokopt.call.streamed import StreamedAnswer

__all__ = ["BoundTools", "Call", "StreamedAnswer", "amodel_chunks", "model_chunks", "told"]
