"""Claims are read with their traps, judged by intervals, and undecided is no pass."""

from __future__ import annotations

import numpy as np
import pytest

from selfrepair import SelfRepairError, load
from selfrepair.bench.planted.circuits import build, draw_circuit
from selfrepair.bench.planted.planted_prompts import planted_prompts
from selfrepair.engine.replay import ReplayEngine
from selfrepair.questions.claims.claims_file import Claim, ClaimsFile, read_claims
from selfrepair.questions.claims.judging import KINDS, Judged, compared, exit_code, judge
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings
from selfrepair.statistics.estimates import Estimate

HEAD = "prompts: {file: prompts.jsonl}\n"


def read(tmp_path, text: str):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    return read_claims(path, KINDS)


def test_a_file_is_read_as_it_says(tmp_path):
    claims = read(
        tmp_path,
        "model: {id: default}\n" + HEAD + "ablation: zero\nseed: 3\nclaims:\n"
        "  - one: {direct_effect: L1H0, at_least: 0.5}\n"
        '  - two: {covers: "2.10", for: "1.0", share: {at_least: 0.25}, beats_controls: true}\n',
    )
    assert claims.settings == {"ablation": "zero", "seed": 3}
    assert [(one.name, one.kind, one.subject) for one in claims.claims] == [
        ("one", "direct_effect", "L1H0"),
        ("two", "covers", "2.10"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no claims"),
        ("claims: [}", "cannot be read"),
        (HEAD + "claims: []\n", "holds no claims"),
        ("claims:\n  - a: {direct_effect: L0H0, at_least: 1}\n", "name no prompts"),
        (HEAD + "colour: red\nclaims:\n  - a: {direct_effect: L0H0}\n", "unknown part 'colour'"),
        (HEAD + "model: {name: x}\nclaims:\n  - a: {direct_effect: L0H0}\n", "unknown part 'name'"),
        (HEAD + "claims:\n  - a: {importance: L0H0}\n", "nothing that is known"),
        (HEAD + "claims:\n  - a: {direct_effect: L0H0, total_effect: L0H1}\n", "direct_effect and total_effect"),
        (HEAD + "claims:\n  - just text\n", "one name with its terms"),
        (HEAD + "claims:\n  - a: {direct_effect: L0H0}\n    b: {direct_effect: L0H1}\n", "one name with its terms"),
        (HEAD + "claims: &x\n  - a: *x\n", "cannot be read"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, text, words):
    with pytest.raises(SelfRepairError, match=words):
        read(tmp_path, text)


def test_files_lie_beside_the_claims_and_nowhere_else(tmp_path):
    folder = tmp_path / "claims"
    folder.mkdir()
    (tmp_path / "secret.jsonl").write_text("{}")
    claims = ClaimsFile(folder, {}, {}, {}, ())
    for name in ("../secret.jsonl", str(tmp_path / "secret.jsonl")):
        with pytest.raises(SelfRepairError, match="outside the folder"):
            claims.beside(name)
    with pytest.raises(SelfRepairError, match="no 'absent"):
        claims.beside("absent.jsonl")


@pytest.fixture(scope="module")
def planted():
    circuit = draw_circuit(1)
    model = load(build(circuit, "gpt2", False).module)
    prompts, _ = planted_prompts(24, 1)
    settings = AuditSettings(ablation="zero", operators=(), controls=8, least_share=0.005, engine=ReplayEngine(fold=8))
    return circuit, Question(model, prompts, settings)


def claim(kind, subject, **terms) -> Claim:
    return Claim("it", kind, subject, terms)


def judged(question, one: Claim) -> Judged:
    from pathlib import Path

    return judge(question, one, ClaimsFile(Path(), {}, {}, {}, ()))


def names(sites) -> str:
    return ",".join(map(str, sites))


def test_every_kind_holds_and_fails_where_it_should(planted):
    circuit, question = planted
    primaries = names(circuit.primaries)
    backup = next(str(site) for site, part in circuit.parts.items() if part.role == "backup")
    idle = next(str(site) for site, part in circuit.parts.items() if part.role == "mover")
    direct = float(question.components.direct_effects(question.measure([])).mean(0)[0])
    expected = {
        "holds": [
            claim("direct_effect", str(circuit.primaries[0]), at_least=direct / 2),
            claim("total_effect", primaries, at_most=0),
            claim("repaired_share", primaries, at_least=0.1),
            claim("covers", backup, **{"for": primaries}, share={"at_least": 0.001}, beats_controls=True),
            claim("necessity", primaries, at_least=0.01),
            claim("same_sign_under", ["zero", "mean"], **{"for": primaries}),
        ],
        "fails": [
            claim("direct_effect", str(circuit.primaries[0]), at_least=direct * 3),
            claim("total_effect", primaries, at_least=0.5),
            claim("repaired_share", primaries, at_most=0.01),
            claim("covers", idle, **{"for": primaries}, share={"at_least": 0.2}),
            claim("uncovered_repair", primaries, at_most=0.05),
            claim("faithfulness", primaries, at_most=-5),
        ],
    }
    for status, claims in expected.items():
        for one in claims:
            assert judged(question, one).status == status, (status, one, judged(question, one).reason)


def test_an_uncovered_circuit_names_what_is_missing(planted):
    circuit, question = planted
    found = judged(question, claim("uncovered_repair", names(circuit.primaries), at_most=0.05))
    backup = next(str(site) for site, part in circuit.parts.items() if part.role == "backup")
    assert "missing: " in found.reason and backup in found.reason


def estimate(value, error):
    half = 2 * error
    return Estimate(*(np.asarray(one) for one in (value, error, value - half, value + half, 20)))


def test_undecided_is_no_pass_and_says_how_many_would_decide(planted):
    _, question = planted
    one = claim("total_effect", "L0H0", at_least=1.0)
    near = compared(question, one, estimate(1.1, 0.2), one.terms, "effect")
    assert near.status == "undecided" and near.decisive == pytest.approx(24 * (1.96 * 0.2 / 0.1) ** 2, abs=1)
    assert compared(question, one, estimate(2.0, 0.2), one.terms, "effect").status == "holds"
    assert compared(question, one, estimate(0.1, 0.2), one.terms, "effect").status == "fails"
    unbounded = Estimate(*(np.asarray(part) for part in (1.1, 9.0, -np.inf, np.inf, 20)))
    assert compared(question, one, unbounded, one.terms, "effect").status == "not measurable"


@pytest.mark.parametrize(
    ("statuses", "code"),
    [(["holds"], 0), (["holds", "undecided"], 3), (["not measurable"], 3), (["undecided", "fails", "holds"], 1)],
)
def test_exit_codes(statuses, code):
    assert exit_code([Judged(claim("total_effect", "L0H0"), status, "") for status in statuses]) == code


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (claim("direct_effect", "L0H0"), "has no bound"),
        (claim("direct_effect", "L0H0", at_least="much"), "Give a number"),
        (claim("direct_effect", "L0H0", at_leest=1), "unknown term 'at_leest'"),
        (claim("covers", "L1H0", share={"at_least": 0.1}), "for whom"),
        (claim("covers", "L1H0,L1H1", **{"for": "L0H0"}), "names several"),
        (claim("same_sign_under", "zero"), "incomplete"),
        (claim("direct_effect", "L77H0", at_least=1), "L77H0"),
    ],
)
def test_claims_that_make_no_sense_are_refused_with_the_usual_fix(planted, one, words):
    with pytest.raises(SelfRepairError, match=words):
        judged(planted[1], one)
