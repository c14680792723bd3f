"""The decoder with learned increments, in TransformerLens' names and shapes."""

from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.transformer import LRopeTransformer

__all__ = ["LRopeConfig", "LRopeTransformer"]
