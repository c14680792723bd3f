"""How the page of concepts names features, controls, units and verdicts."""

from __future__ import annotations

INCREMENTS = "increments"
FEATURES = (INCREMENTS, "positions", "resid")
DOCUMENT, TYPE = "document", "type"
BEYOND, WINS, UNMEASURED = "beyond controls", "control wins", "not measured"
OF_FEATURES = ("untrained", "random_head", "fixed")
CONTROLS = ("byte_window", "ngram", "static_position", "entropy", "joint", *OF_FEATURES, "majority")
FEATURE_NAMES = {INCREMENTS: "increments", "positions": "positions", "resid": "hidden states"}
SPLIT_NAMES = {DOCUMENT: "Unseen documents", TYPE: "Unseen words"}
_CONTROL_NAMES = {
    "byte_window": "bytes",
    "ngram": "n-grams",
    "static_position": "place",
    "entropy": "entropies",
    "untrained": "untrained",
    "random_head": "random head",
    "fixed": "fixed twin",
    "majority": "chance",
    "lexical": "mean of byte",
    "ngram_3": "mean of 3 bytes",
    "surprisal": "surprisal",
    "bytes": "byte count",
    "right": "right",
    "left": "left",
    "balanced": "balanced",
    "random": "random",
    "joint": "all of the text",
    "": "increments",
}
CONTROL_MEANINGS = {
    "byte_window": "the bytes of the span and around it, by place",
    "ngram": "character n-grams of the span",
    "static_position": "where the span stands, and how long it is",
    "entropy": "the model's entropy and surprisal around the span",
    "joint": "bytes, n-grams, place and entropies in one probe",
    "untrained": "the same features of untrained models, five seeds",
    "random_head": "the same features from random projections of the trained model's states, five seeds",
    "fixed": "the same features of a model that was trained with fixed increments",
    "majority": "0.5, what guessing has",
}


def control_name(control: str) -> str:
    """Name a control or a signal in a few letters; a name of later versions stays as it is."""
    return _CONTROL_NAMES.get(control, control.replace("_", " "))


def signal_name(signal: str) -> str:
    """Name a signal that is read at single gaps."""
    return "entropy" if signal == "entropy" else control_name(signal)


def feature_name(features: str) -> str:
    """Name a kind of features."""
    return FEATURE_NAMES.get(features, features)


def place_name(layer: int, head: int = -1) -> str:
    """Name a layer, or a head; -1 is all layers together."""
    if layer < 0:
        return "all layers"
    return f"layer {layer}" if head < 0 else f"head {layer}.{head}"


def tick(layer: int, head: int = -1) -> str:
    """Name a layer, or a head, on an axis of layers."""
    if layer < 0:
        return "all"
    return f"{layer}" if head < 0 else f"{layer}.{head}"
