"""Prompts with two names, and the benchmark on them: figures against their definitions, on a small random model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from typer.testing import CliRunner

from selfrepair import SelfRepairError, load
from selfrepair.ablation.sites import Head
from selfrepair.bench.evidence import EVERY, GROWTH, LINE
from selfrepair.bench.ioi import benchmark, published
from selfrepair.bench.ioi.benchmark import IoiQuestion, IoiSetting, doubtful, ioi_benchmark, table_of
from selfrepair.bench.ioi.texts import TEMPLATES, Words, ioi_prompts
from selfrepair.bench.ranking import auc
from selfrepair.cli.app import app
from selfrepair.engine.replay import ReplayEngine
from zoo.families import randomise

ENGINE = ReplayEngine(fold=4)
QUICK = IoiQuestion(templates=1, prompts=3, ablations=("zero",), primaries=(1,), replicates=5)
ASKED = IoiQuestion(templates=2, prompts=4, primaries=(1, 2, 3), replicates=20)
WORDS = sorted(
    {
        word
        for template in (*TEMPLATES, published.TEMPLATE)
        for words in (Words(), published.WORDS)
        for text in [template.format(io="", s="", again="", place="", thing="")]
        for word in (*text.replace(",", " , ").replace(".", " . ").split(), *words.names, *words.places, *words.things)
    }
)


def tokenizer(words=WORDS):
    """Every word is a token."""
    vocabulary = {word: place for place, word in enumerate(["<unk>", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


@pytest.fixture(scope="module")
def small():
    config = GPT2Config(vocab_size=len(WORDS) + 1, n_positions=32, n_embd=24, n_layer=3, n_head=4, bos_token_id=0)
    config.eos_token_id = 0
    return load(randomise(GPT2LMHeadModel(config), "gpt2").double().eval(), tokenizer())


@pytest.fixture(scope="module")
def settings(small) -> list[IoiSetting]:
    return ioi_benchmark(small, ASKED, ENGINE)


def test_prompts_name_two_people_and_twins_three_others():
    words = tokenizer()
    for template in TEMPLATES:
        prompts = ioi_prompts(words, template, 6, 3)
        assert len(prompts) == 6 and len(set(prompts.lengths.tolist())) == 1
        for place in range(6):
            text, twin = (words.convert_ids_to_tokens(table[place]) for table in (prompts.tokens, prompts.corrupt))
            (right,), (wrong,) = (words.convert_ids_to_tokens(side[place]) for side in (prompts.answers, prompts.wrong))
            assert text.count(right) == 1 and text.count(wrong) == 2
            others = [name for name in twin if name in Words().names]
            assert len(set(others)) == 3 and not {right, wrong} & set(others)
            assert sum(a != b for a, b in zip(text, twin, strict=True)) == 3
    again, other = (ioi_prompts(words, TEMPLATES[0], 6, seed) for seed in (3, 4))
    assert (ioi_prompts(words, TEMPLATES[0], 6, 3).tokens == again.tokens).all() and (
        again.tokens != other.tokens
    ).any()


def test_words_of_several_tokens_are_left_out_and_too_few_are_refused():
    class Letters:
        def __call__(self, text, add_special_tokens=True):
            return type("Encoding", (), {"input_ids": [ord(letter) for letter in text.strip()]})()

    with pytest.raises(SelfRepairError, match="at least 5 names"):
        ioi_prompts(Letters(), TEMPLATES[0], 2, 0)


def test_every_template_ablation_and_set_is_measured(settings):
    assert len(settings) == 2 * 2 * 3
    for one, size in zip(settings, (1, 2, 3) * 4, strict=True):
        assert len(one.primaries) == size and len(one.evidence.sites) == 12 - size == one.heads - size
        assert not set(one.primaries) & set(one.evidence.sites)
    assert [one.ablation for one in settings[:6]] == ["zero"] * 3 + ["corrupt"] * 3


def test_primaries_are_the_heads_with_the_largest_direct_effects(settings):
    one = settings[2]
    clean = dict(zip(one.evidence.sites, one.evidence.direct_effects.mean(0), strict=True))
    alone = {next(iter(set(settings[place].primaries) - set(settings[place - 1].primaries))) for place in (1, 2)}
    assert settings[0].primaries[0] not in alone
    left = settings[0].evidence  # all but the first
    effects = dict(zip(left.sites, left.direct_effects.mean(0), strict=True))
    assert min(effects[head] for head in alone) >= max(clean.values())
    assert settings[0].lost.mean() > 0


def test_freeze_tests_and_lines_add_up_where_nothing_is_in_between(settings):
    """Heads of the last layer have only norms behind them, and below the set nobody responds."""
    for one in settings:
        first = min(head.layer for head in one.primaries)
        below = [place for place, site in enumerate(one.evidence.sites) if site.port.layer <= first]
        assert (one.evidence.frozen[:, below] == 0).all() and not one.evidence.lines[:, below].any()


def test_figures_are_their_definitions(settings):
    table = table_of(settings, ASKED)
    for one, row in zip(settings, table.to_dict("records"), strict=True):
        frozen, line = one.evidence.frozen.mean(0), one.evidence.lines.mean(0)
        positive = np.isin(np.arange(len(frozen)), np.argsort(-frozen, kind="stable")[:4])
        assert row["auc line"] == pytest.approx(auc(positive, line), nan_ok=True)
        growth = (one.evidence.conditional - one.evidence.marginal).mean(0)
        assert row["auc CoAx growth"] == pytest.approx(auc(positive, growth))
        assert row["beyond_growth"] == pytest.approx(row["auc line"] - row["auc CoAx growth"])
        assert row["beyond_growth_low"] <= row["beyond_growth_high"]
        assert row["accuracy"] == (one.clean > 0).mean() and row["smallest_freeze"] == frozen[positive].min()
        assert sorted(row["repairers"]) == sorted(str(one.evidence.sites[place]) for place in np.flatnonzero(positive))
    assert set(doubtful(settings)) == {one.template for one in settings if (one.clean > 0).mean() < 0.9}


def test_the_published_protocol_draws_the_papers_prompts_and_labels(small):
    prompts = published.published_prompts(small.tokenizer, 3, 1)
    rng = np.random.default_rng(1)
    right, wrong = rng.choice(published.WORDS.names, size=2, replace=False)
    assert prompts.texts[0].startswith(f"When {right} and {wrong} went to the ") and prompts.corrupt is None
    heads, backups = (Head(0, 1), Head(0, 2)), (Head(1, 0), Head(2, 3))
    found = published.published_benchmark(small, (1, 8), 3, primaries=heads, backups=backups, engine=ENGINE)
    (one,) = benchmark.measure_setting(
        small,
        prompts,
        published.TEMPLATE,
        "zero",
        [benchmark.together("name movers", heads)],
        ENGINE,
    )
    labels = np.array([site in backups for site in one.evidence.sites])
    for score in (LINE, GROWTH):
        assert found.aucs[score.name][0] == pytest.approx(auc(labels, score.of(one.evidence, EVERY)))
    stated = {name: value for name, (value, _) in found.rows().items()}
    assert (stated["CoAx growth"], stated["CoAx ratio"], stated["single ablation"]) == (0.941, 0.984, 0.603)
    assert stated["line"] is None and not published.is_gpt2_small(small)


def test_the_command_prints_the_figures_with_the_caution(small, monkeypatch):
    from selfrepair.model import load as module

    monkeypatch.setattr(module, "load", lambda _name: small)
    monkeypatch.setattr(
        benchmark, "QUICK", IoiQuestion(templates=1, prompts=3, ablations=("zero",), primaries=(1,), replicates=5)
    )
    shown = CliRunner().invoke(app, ["bench", "coax", "tiny", "--quick", "--quiet"], env={"COLUMNS": "250"})
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.output.split())
    assert (
        "nearly circular" in words
        and "Primaries a: L" in words
        and "CoAx ratio (1 + 2N)" in words
        and "Template 1: When {io} and {s}" in words
    )
    ended = CliRunner().invoke(app, ["bench", "coax", "tiny", "--quick", "--quiet", "--json", "--positives", "2"])
    found = json.loads(ended.stdout)
    assert (
        "circular" in found["caution"] and len(found["settings"]) == 1 and len(found["settings"][0]["repairers"]) == 2
    )


def test_published_figures_stand_beside_what_was_found(capsys):
    from selfrepair.bench.bench_tables import print_published
    from selfrepair.terminal import Console

    found = published.Published({"CoAx growth": np.array([0.9, 0.92]), "line": np.array([1.0, 1.0])}, (1, 8), 96)
    print_published(Console(width=150), found)
    shown = capsys.readouterr().out
    assert "0.941" in shown and "0.910 ± 0.010" in shown and "-0.031" in shown


def test_gpt2_small_is_known_by_its_shape_and_measured_as_published(small, monkeypatch):
    from types import SimpleNamespace

    from selfrepair.model import load as module

    def shaped(kind: str, layers: int, rows: int):
        anatomy = SimpleNamespace(layers=layers, heads=12, unembedding=SimpleNamespace(weight=range(rows)))
        return SimpleNamespace(network=SimpleNamespace(config=SimpleNamespace(model_type=kind)), anatomy=anatomy)

    assert published.is_gpt2_small(shaped("gpt2", 12, 50257))
    for other in (("gpt2", 24, 50257), ("gpt2", 12, 50304), ("opt", 12, 50257)):
        assert not published.is_gpt2_small(shaped(*other))
    found = published.Published({"CoAx ratio": np.array([0.98])}, (1,), 96)
    monkeypatch.setattr(module, "load", lambda _name: small)
    monkeypatch.setattr(published, "is_gpt2_small", lambda _model: True)
    monkeypatch.setattr(published, "published_benchmark", lambda _model: found)
    monkeypatch.setattr(benchmark, "IoiQuestion", lambda **_asked: QUICK)
    shown = CliRunner().invoke(app, ["bench", "coax", "tiny", "--quiet"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "0.984" in shown.output and "-0.004" in shown.output and "documented backups" in shown.output
    ended = CliRunner().invoke(app, ["bench", "coax", "tiny", "--quiet", "--json"])
    assert json.loads(ended.stdout)["published"]["auc"]["CoAx ratio"] == {"stated": 0.984, "here": [0.98]}
