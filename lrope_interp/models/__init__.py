"""The decoder with learned increments, in TransformerLens' names and shapes."""

from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.hooks import HookPoint
from lrope_interp.models.kv_cache import crop, reorder
from lrope_interp.models.transformer import LRopeTransformer

__all__ = ["HookPoint", "LRopeConfig", "LRopeTransformer", "crop", "reorder"]
