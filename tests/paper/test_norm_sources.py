"""Appendix G's arithmetic, and which donors Figures 4, 5 and 16 take, from an oracle's ledgers in float64."""

import numpy as np
import pytest
import torch

from selfrepair.ablation.sites import Head
from selfrepair.paper import make
from selfrepair.paper.experiments import norm
from selfrepair.paper.inputs.corpus import Corpus
from selfrepair.paper.inputs.recipe import original
from support import corpus, language_model, oracle_ledger

NAME = "llama"


def ledger(text, head, operator, donors):
    """The oracle's ledger of a text, head by head and token by token."""
    tokens = torch.from_numpy(text.tokens)
    return oracle_ledger(NAME, language_model(NAME), operator, Head(*head), tokens, tokens[torch.from_numpy(donors)])


def test_significance_is_the_mean_ratio_times_ten_logits():
    text = corpus(lengths=(9,) * 24, documents=range(24))
    body, head = Corpus(language_model(NAME), text), Head(2, 1)
    study = norm.study_norm(body, [head], ["resample", "zero"], fraction=0.1)
    exhibit = norm.significance(study)
    rows = exhibit.table.set_index("operator")
    assert exhibit.table["repair"][0] == pytest.approx(0.2)
    assert exhibit.numbers[0].value == pytest.approx(0.2)
    for operator in ("resample", "zero"):
        book = ledger(text, head, operator, body.donors)
        effect, ratio = (values[:, 1:].numpy().ravel() for values in (book.direct_effect, book.sigma_ratio))
        top = np.argsort(-effect)[: int(0.1 * effect.size)]
        assert rows["ratio"][operator] == pytest.approx(ratio[top].mean(), rel=1e-9)
        assert rows["repair"][operator] == pytest.approx(10 * (ratio[top].mean() - 1), rel=1e-6)
    for share, percentile in ((0.98, "98"), (0.999, "99.9")):
        wanted = np.quantile(effect, share)
        assert exhibit.number(f"{head}: {percentile}th percentile of DE").value == pytest.approx(wanted, rel=1e-5)
    logit = centred_logits(text)[:, 1:].ravel()
    wanted = np.quantile(logit, 0.95) - np.quantile(logit, 0.05)
    spread = exhibit.number("spread of target logits, 5th to 95th percentile").value
    assert spread == pytest.approx(wanted, rel=1e-5)


def centred_logits(text):
    """The next token's logit less the vocabulary's mean, [window, P]."""
    model, tokens = language_model(NAME), torch.from_numpy(text.tokens)
    with model.running():
        logits = model.logits(tokens)[:, :-1]
    centred = logits - logits.mean(-1, keepdim=True)
    return centred.gather(-1, tokens[:, 1:, None])[..., 0].numpy()


def test_figures_5_and_16_take_donors_rolled_by_two_and_figure_4_as_they_come():
    """Row i of a batch gets the next one's row i in Figure 4, row i - 2 in Figures 5 and 16 (docs/methods.md 6.2)."""
    text = corpus(lengths=(9,) * 12, documents=range(12))
    model, recipe = language_model(NAME), original(4)
    run = make.sweep(model, text, recipe, progress=False)
    made = {
        exhibit.name: exhibit for exhibit in make.make(make.Study(model, text, run, recipe), ["layernorm"]).exhibits
    }
    batches = np.arange(12).reshape(3, 4)
    following = np.roll(batches, -1, axis=0)
    figure_5, figure_4 = (made[name].table for name in ("figure-05-one-head", "figure-04-scale-ratio"))
    for table, roll, name in ((figure_5, 2, "total"), (figure_4, 0, "ratio")):
        part = table[table["operator"] == "resample"]
        head = Head(*(int(number) for number in part["head"].iloc[0][1:].split("H")))
        part = part[part["head"] == str(head)]
        book = ledger(text, head, "resample", np.roll(following, roll, axis=1).ravel())
        wanted = {"total": book.total_effect, "ratio": book.sigma_ratio}[name].numpy()
        assert len(part)
        np.testing.assert_allclose(part[name], wanted[part["window"], part["position"]], rtol=1e-5, atol=1e-6)
        other = ledger(text, head, "resample", np.roll(following, 2 - roll, axis=1).ravel())
        expected = {"total": other.total_effect, "ratio": other.sigma_ratio}[name].numpy()
        assert np.abs(part[name] - expected[part["window"], part["position"]]).max() > 1e-4
        if roll == 2:
            rolled = norm.study_norm(Corpus(model, text, recipe, roll=2), [head]).lengths[head, "resample"]
            lengths = made["figure-16-stream-length"].table.groupby("operator")["count"]
            assert lengths.get_group("resample").tolist() == rolled.tolist()
