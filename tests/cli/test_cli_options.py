"""Every option of every command arrives in what computes.

Each command runs with its options on, up to the call of the package's function, which is watched. An
option without a check fails the first test; a check that the command passes without its option, the second.
"""

from __future__ import annotations

import inspect
import pkgutil
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_words import Cli

import lrope_interp
from lrope_interp.data import Document, read_manifest
from lrope_interp.folders import REPLICATE, Reservation
from lrope_interp.probes.studies.entities.pairs import PAIRS
from lrope_interp.training.config import train_config

Check = Callable[[Any], object]


class Reached(Exception):
    """The function that computes was called."""


# What is watched: where it lives, and whether it is the last that is called.
WATCHED = {
    "reserved": "lrope_interp.folders",
    "list_runs": "lrope_interp.runs",
    "gold_documents": "lrope_interp.data.texts",
    "held_out_corpus": "lrope_interp.probes.studies.entities.text",
    "select_passages": "lrope_interp.probes.studies.entities.text",
    "select_corpus": "lrope_interp.probes.capture.selection",
    "select_text": "lrope_interp.probes.capture.selection",
    "select_gold": "lrope_interp.probes.capture.selection",
    "read_pairs": "lrope_interp.probes.studies.entities.pairs",
    "resolve_device": "lrope_interp.models.config",
    "resolve_dtype": "lrope_interp.training.distribution",
    "ablated": "lrope_interp.probes.ablations.attach",
    "layer_mean": "lrope_interp.probes.ablations.interventions",
    "fit_increments": "lrope_interp.probes.capture.increment_statistics",
    "prepare": "lrope_interp.training.preparation",
    "check": "lrope_interp.training.replication",
    "opened": "lrope_interp.training.replication",
    "train_missing": "lrope_interp.training.replication",
}
COMPUTING = {
    "boundaries": "lrope_interp.probes.boundaries.boundaries",
    "ablate": "lrope_interp.probes.ablations.ablations",
    "probe": "lrope_interp.probes.concepts.concepts",
    "entities": "lrope_interp.probes.studies.entities.entities",
    "evaluate": "lrope_interp.probes.evaluation.evaluation",
    "distance": "lrope_interp.probes.distances.distances",
    "definition_uses": "lrope_interp.probes.studies.definitions.definitions",
    "show": "lrope_interp.probes.spacing.spacing",
    "measure_costs": "lrope_interp.probes.studies.context.context",
    "train": "lrope_interp.training.loop",
    "_compare": "lrope_interp.commands.replicate",
}


def same(where: str, words: str, **others: str) -> dict[str, Check]:
    """Options that arrive as attributes of `where`, under their own names or `others`."""
    typed, checks = shlex.split(words), dict[str, Check]()
    for word, value in zip(typed, [*typed[1:], "--"], strict=True):
        if word.startswith("--"):
            name = word.removeprefix("--").replace("-", "_")
            path, wanted = f"{where}.{others.get(name, name)}", "True" if value.startswith("--") else value
            checks[word] = lambda seen, path=path, wanted=wanted: str(attrgetter(path)(seen)) == wanted
    return checks


PLACE: dict[str, Check] = {
    "--model": lambda s: s.computes.model.came_from == Path("other"),
    "--out": lambda s: s.reserved.path == Path("there") and not s.reserved.is_numbered,
    "--overwrite": lambda s: s.reserved.overwrite,
    "--device": lambda s: s.from_pretrained.device == "the cuda",
    "--json": lambda s: s.Voice.as_json,
    "--quiet": lambda s: s.Voice.is_quiet,
    "--verbose": lambda s: s.Voice.is_verbose,
    "--open": lambda s: s.Analysis.open_page,
    "--format": lambda s: s.Analysis.image == "svg",
}
PLACE_WORDS = (
    "--model other --out there --overwrite --device cuda --json --quiet --verbose --open --format svg"
)
SPOKEN = {name: PLACE[name] for name in ("--json", "--quiet")}
SAID = SPOKEN | {name: PLACE[name] for name in ("--verbose", "--open", "--format")}
ENCODING = "--encoding-errors replace"
LIMITS = f"--max-bytes 777 {ENCODING}"
COLUMN = "--text-column body"
CORPUS_WORDS = f"--data wiki {LIMITS} {COLUMN}"
CORPUS = same("select_corpus", f"{LIMITS} {COLUMN}") | {
    "--data": lambda s: s.select_corpus.name == "wiki" and chose(s, "corpus")
}
TEXT_WORDS, GOLD_WORDS = f"--text mine.txt {LIMITS}", f"--gold mine.txt {LIMITS}"
TEXT = same("select_text", LIMITS) | {
    "--text": lambda s: s.select_text.text == Path("mine.txt") and chose(s, "text")
}
GOLD = same("select_gold", LIMITS) | {
    "--gold": lambda s: s.select_gold.path == Path("mine.txt") and chose(s, "gold")
}
SEED_WORDS = "--seed 7 --batch-size 3"
COMPUTING_HOW = same("computes", SEED_WORDS)
LAYER: dict[str, Check] = {"--layer": lambda s: s.computes.layers == [1]}
TWIN: dict[str, Check] = {"--fixed-model": lambda s: s.computes.fixed_model.came_from == Path("twin")}
WHOLE = "--text mine.txt --encoding-errors replace"
ON_COSTS = "--skip-forward-above 32 --repeats 2 --dtype bfloat16 --seed 7"
ON_RUNS = "--preset small --data file:mine.txt --steps 9 --device cpu --encoding-errors replace"
ON_TRAINING = (
    f"{ON_RUNS} --increments shared --per-head --batch-size 6 --lr 0.5 --schedule wsd --grad-accumulation 2 "
    "--seed 7 --tokenizer bpe:300 --checkpoint-every 5 --text-column body --max-train-bytes 777 --despaced"
)

# The command with nothing that is checked, then the same with options and what must have arrived.
CALLS: list[tuple[str, str, dict[str, Check]]] = [
    (
        "boundaries",
        f"{PLACE_WORDS} {CORPUS_WORDS} {SEED_WORDS} --layer 1 --labels words,whitespace --align last "
        "--fixed-model twin --match third --suite full",
        PLACE | CORPUS | COMPUTING_HOW | LAYER | TWIN | same("computes", "--align last --suite full")
        | {
            "--labels": lambda s: s.computes.labels == ["words", "whitespace"],
            "--match": lambda s: s.computes.match.came_from == Path("third"),
        },
    ),
    ("boundaries", TEXT_WORDS, TEXT),
    ("boundaries", GOLD_WORDS, GOLD),
    (
        "ablate",
        f"{PLACE_WORDS} {CORPUS_WORDS} {SEED_WORDS} --suite full --where whitespace --heads",
        PLACE | CORPUS | COMPUTING_HOW | same("computes", "--suite full --where whitespace --heads"),
    ),
    (
        "ablate",
        f"{TEXT_WORDS} --freeze lexical --layer 1",
        TEXT | LAYER | same("computes", "--freeze lexical"),
    ),
    ("ablate", "--freeze 1 --layer each", {"--layer": lambda s: s.computes.is_each}),
    ("ablate", GOLD_WORDS, GOLD),
    (
        "probe",
        f"{PLACE_WORDS} {CORPUS_WORDS} {SEED_WORDS} --concept place,person --layer 1 "
        "--features resid,positions --suite full --fixed-model twin --max-spans 55",
        PLACE | CORPUS | COMPUTING_HOW | LAYER | TWIN | same("computes", "--suite full --max-spans 55")
        | {
            "--concept": lambda s: s.computes.concepts == ["place", "person"],
            "--features": lambda s: s.computes.features == ["resid", "positions"],
        },
    ),
    ("probe", TEXT_WORDS, TEXT),
    (
        "probe",
        "--spans mine.txt --max-bytes 777",
        same("computes", "--max-bytes 777")
        | {"--spans": lambda s: s.computes.spans == Path("mine.txt") and s.computes.data is None},
    ),
    (
        "study entities",
        f"{PLACE_WORDS} {CORPUS_WORDS} {SEED_WORDS} --pairs mine.txt",
        PLACE | CORPUS | COMPUTING_HOW
        | {
            "--pairs": lambda s: s.read_pairs.path == Path("mine.txt") and s.computes.pairs == PAIRS[:3],
            "--data": lambda s: s.select_corpus.name == s.held_out_corpus.name == "wiki"
            and s.select_passages.corpus == "held out" and chose(s, "passages"),
            "--max-bytes": lambda s: s.select_corpus.max_bytes == s.select_passages.max_bytes == 777,
            "--encoding-errors": lambda s: s.select_corpus.encoding_errors
            == s.held_out_corpus.how["encoding_errors"] == "replace",
            "--text-column": lambda s: s.select_corpus.text_column
            == s.held_out_corpus.how["text_column"] == "body",
        },
    ),
    ("study entities", TEXT_WORDS, TEXT),
    (
        "eval",
        f"{PLACE_WORDS} {CORPUS_WORDS} {SEED_WORDS}",
        PLACE | COMPUTING_HOW | same("computes", CORPUS_WORDS)
        | {"--data": lambda s: s.computes.data == "wiki" and s.computes.text is None},
    ),
    ("eval", WHOLE, same("computes", WHOLE)),
    (
        "show",
        f"{PLACE_WORDS} 'abc def' --layer 1 --start 2 --length 3 --attention 1.0 --at 4",
        PLACE | LAYER | same("computes", "--start 2 --length 3 --attention 1.0 --at 4")
        | {"[TEXT]": lambda s: s.computes.text == "abc def"},
    ),
    ("show", WHOLE, same("computes", WHOLE)),
    (
        "show",
        f"--gold mine.txt {ENCODING}",
        same("gold_documents", ENCODING)
        | {"--gold": lambda s: s.gold_documents.path == Path("mine.txt") and s.computes.text.text == "gold"},
    ),
    (
        "distance",
        f"{PLACE_WORDS} 'abc def' --from 0:2 --to def --layer 1",
        PLACE | LAYER
        | {
            "[TEXT]": lambda s: s.computes.text == "abc def",
            "--from": lambda s: s.computes.a == (0, 2),
            "--to": lambda s: s.computes.b == "def",
        },
    ),
    ("distance", WHOLE, same("computes", WHOLE)),
    (
        "study definitions",
        f"{PLACE_WORDS} {SEED_WORDS} --data code --max-pairs 66 {LIMITS}",
        PLACE | COMPUTING_HOW | same("select_corpus", LIMITS)
        | {
            "--data": lambda s: s.select_corpus.name == "code" and chose(s, "corpus"),
            "--max-pairs": lambda s: s.computes.most_pairs == 66,
        },
    ),
    (
        "generate",
        "hello --model other --device cuda --json --quiet --max-new-tokens 9 --temperature 0.5 --top-k 4 "
        "--top-p 0.25 --no-cache --seed 7 --freeze mean --layer 1",
        SPOKEN
        | same("generate_stream", "--max-new-tokens 9 --temperature 0.5 --top-k 4 --top-p 0.25 --seed 7")
        | {
            "[PROMPT]": lambda s: s.generate_stream.input == "hello",
            "--model": lambda s: s.generate_stream.self.came_from == Path("other"),
            "--device": PLACE["--device"],
            "--cache": lambda s: not s.generate_stream.use_past_kv_cache,
            "--freeze": lambda s: s.layer_mean.fitted == "fitted" and s.ablated.written is s.MEAN,
            "--layer": lambda s: s.ablated.layers == [1],
        },
    ),
    (
        "study context",
        f"--preset tiny --contexts 8,32,128,512 --max-context 128 --arms shared {ON_COSTS} --out there "
        "--overwrite --device cuda --json --quiet --verbose --open --format svg",
        SAID | same("computes.plan", ON_COSTS)
        | {
            "--preset": lambda s: s.computes.plan.shape["d_model"] == train_config("tiny").d_model,
            "--contexts": lambda s: s.computes.plan.contexts[0] == 8,
            "--max-context": lambda s: s.computes.plan.contexts[-1] == 128,
            "--arms": lambda s: s.computes.plan.arms == ("fixed", "shared"),
            "--device": lambda s: s.computes.plan.device == "the cuda",
            "--out": PLACE["--out"],
            "--overwrite": PLACE["--overwrite"],
        },
    ),
    ("study context", "--model other", {"--model": lambda s: s.computes.plan.shape["d_model"] == 16}),
    (
        "study replicate",
        f"--arms shared,per-layer --seeds 3 --looks 2 --reference shared --margin 0.5 {ON_RUNS} "
        "--out there --overwrite --json --quiet --verbose --open --format svg",
        SAID | same("train_missing.replication.base", ON_RUNS, steps="n_steps")
        | same("computes.comparison", "--looks 2 --reference shared --margin 0.5")
        | {
            "--arms": lambda s: s.train_missing.replication.arms == ("shared", "per_layer"),
            "--seeds": lambda s: s.train_missing.replication.n_seeds == 3,
            "--out": lambda s: s.train_missing.replication.folder == Path("there"),
            "--overwrite": lambda s: s.check.is_replaced and s.opened.overwrite,
        },
    ),
    (
        "train",
        f"{ON_TRAINING} --out there --checkpoint-minutes 2.5 --log-to tensorboard --overwrite --json --quiet",
        SPOKEN | same("computes.config", ON_TRAINING, steps="n_steps")
        | same("computes", "--out there --overwrite", out="run_folder")
        | same("computes.recording", "--checkpoint-minutes 2.5")
        | {"--log-to": lambda s: s.computes.recording.log_to == ("tensorboard",)},
    ),
    ("train", "--resume --out other", {"--resume": lambda s: s.computes.resume}),
    ("list runs", "elsewhere --json", {"[FOLDER]": lambda s: s.list_runs.root == Path("elsewhere"),
                                  "--json": PLACE["--json"]}),
    ("list runs", "--found --json", {"--found": lambda s: '"found"' in s.answer.out}),
    ("list corpora", "--json", {"--json": PLACE["--json"]}),
]  # fmt: skip
PLAIN = {
    "show": "show plain",
    "distance": "distance plain",
    "generate": "generate --max-new-tokens 5",
    "study replicate": "study replicate --data file:else.txt",
}


@pytest.fixture
def watch(
    cli: Cli, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], SimpleNamespace]:
    """Run a command up to what computes; returns what was called, each with its arguments by name."""
    for name in ("other", "twin", "third"):
        shutil.copytree(run_copy, tmp_path / name)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine.txt").write_text("read", encoding="utf-8")
    seen = SimpleNamespace()
    for one in pkgutil.iter_modules(lrope_interp.__path__, "lrope_interp."):
        if not one.name.endswith("__main__"):
            import_module(one.name)  # before anything is replaced, so that nothing keeps it afterwards
    from lrope_interp.commands.analysis import Analysis
    from lrope_interp.commands.output import Voice
    from lrope_interp.models import LRopeTransformer
    from lrope_interp.probes.ablations.interventions import freeze
    from lrope_interp.probes.capture.selection import select_corpus

    selection = select_corpus(read_manifest(run_copy), max_bytes=200)
    mean = freeze(1.0)

    def chosen(name: str) -> Callable[..., Any]:
        return lambda *_, **__: replace(selection, data={"name": name})

    def in_its_place(folder: Path) -> Reservation:
        return Reservation(folder, folder, REPLICATE, None)

    def always(value: Any) -> Callable[..., Any]:
        return lambda *_, **__: value

    answers: dict[str, Callable[..., Any]] = {
        "gold_documents": always((Document("mine", "gold", "text", "en"),)),
        "held_out_corpus": always("held out"),
        "select_passages": chosen("passages"),
        "select_corpus": chosen("corpus"),
        "select_text": chosen("text"),
        "select_gold": chosen("gold"),
        "read_pairs": always(PAIRS[:3]),
        "resolve_device": lambda asked, *_, **__: f"the {asked}",
        "resolve_dtype": lambda asked, *_, **__: asked.replace("auto", "float32"),
        "layer_mean": always(mean),
        "fit_increments": always("fitted"),
        "ablated": lambda *_, **__: nullcontext(),
        "prepare": always(SimpleNamespace(manifest={})),
        "check": always(None),
        "opened": lambda asked, **_: nullcontext(in_its_place(asked.folder.absolute())),
        "train_missing": always([]),
    }

    def watched(name: str, original: Callable[..., Any], answer: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def called(*arguments: Any, **named: Any) -> Any:
            bound = signature.bind(*arguments, **named)
            bound.apply_defaults()
            setattr(seen, name, SimpleNamespace(**bound.arguments))
            if name in COMPUTING:
                seen.computes = getattr(seen, name)
                raise Reached
            return answer(*arguments, **named)

        return called

    def put(name: str, home: str) -> None:
        original = getattr(import_module(home), name)
        one = watched(name, original, answers.get(name) or original)
        for module in [module for key, module in sys.modules.items() if key.startswith("lrope_interp")]:
            if vars(module).get(name) is original:
                monkeypatch.setattr(module, name, one)

    load = LRopeTransformer.from_pretrained

    def from_pretrained(source: Path, device: str = "auto", **_: Any) -> LRopeTransformer:
        seen.from_pretrained = SimpleNamespace(source=source, device=device)
        model = load(source, device="cpu")
        vars(model)["came_from"] = source
        return model

    homes = {**WATCHED, **COMPUTING}
    for home in homes.values():
        import_module(home)
    for name, home in homes.items():
        put(name, home)
    monkeypatch.setattr(LRopeTransformer, "from_pretrained", staticmethod(from_pretrained))
    asked = watched("Analysis", Analysis.__init__, Analysis.__init__)
    monkeypatch.setattr(Analysis, "__init__", lambda *words, **named: asked(*words, **named))
    monkeypatch.setitem(sys.modules, "kaleido", lrope_interp)  # as if it were installed
    initialised = watched("Voice", Voice.__init__, Voice.__init__)
    monkeypatch.setattr(Voice, "__init__", lambda *words, **named: initialised(*words, **named))
    stream = watched("generate_stream", LRopeTransformer.generate_stream, lambda *_, **__: iter(["written"]))
    monkeypatch.setattr(LRopeTransformer, "generate_stream", stream)

    def run(words: str) -> SimpleNamespace:
        vars(seen).clear()
        seen.MEAN = mean
        try:
            answer = cli(*shlex.split(words))
            assert answer.code == 0, answer.err
            seen.answer = answer
        except Reached:
            pass
        return seen

    return run


def holds(check: Check, seen: SimpleNamespace) -> bool:
    """Whether a check passes; what it looks for may not be there at all."""
    try:
        return bool(check(seen))
    except (AttributeError, KeyError, TypeError):
        return False


def chose(seen: SimpleNamespace, name: str) -> bool:
    """Whether what is computed on is what the watched choice `name` returned."""
    return (vars(seen.computes).get("selection") or seen.computes.data).data["name"] == name


def test_every_option_of_the_golden_list_has_a_check(repository: Path) -> None:
    golden, command = dict[str, set[str]](), ""
    for line in (repository / "tests" / "cli" / "golden.txt").read_text().splitlines():
        if line.startswith("  "):
            golden[command].add(line.split()[0])
        else:
            command = line
            golden[command] = set()
    assert golden.pop("lrope-interp") == {"--version", "--install-completion", "--show-completion"}
    checked = {command: set() for command in golden}
    for command, _, checks in CALLS:
        checked[command] |= set(checks)
    assert checked == golden


@pytest.mark.parametrize(
    ("command", "words", "checks"), CALLS, ids=[f"{command} {words[:24]}" for command, words, _ in CALLS]
)
def test_what_is_asked_for_arrives_and_nothing_else_looks_like_it(
    watch: Callable[[str], SimpleNamespace], command: str, words: str, checks: dict[str, Check]
) -> None:
    seen = watch(f"{command} {words}")
    assert [name for name, check in checks.items() if not holds(check, seen)] == []
    plain = watch(PLAIN.get(command, command))
    assert [name for name, check in checks.items() if holds(check, plain)] == [], "holds without the option"
