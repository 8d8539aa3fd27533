"""Files of other tools, with every trap that they have: what would go unnoticed has to be handled, or refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from prompts import files
from prompts.files import FLIPPED, FRESH, JOHN, MARY, OTHER_YEAR, TEXT, YEAR, identity, lines, table
from prompts.words import tokenizer
from selfrepair.choices import PROMPT_FORMATS
from selfrepair.errors import SelfRepairError
from selfrepair.prompts import Prompts, PromptsDropped

PLAIN, FRONT = tokenizer(), tokenizer(front=True)


def ids(text: str) -> list[int]:
    return PLAIN(text, add_special_tokens=False)["input_ids"]


@pytest.fixture
def read(tmp_path):
    """Reads what is given as a file of a name."""

    def made(content: str | bytes, name: str = "prompts.jsonl", model=PLAIN, **options) -> Prompts:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Prompts.read(path, model, **options)

    return made


def test_every_format_is_told_by_its_content(read):
    year = {"clean": YEAR, "corrupted": OTHER_YEAR}
    examples = {
        "own": [(lines(files.OWN), "a.jsonl"), (json.dumps([files.OWN]), "a.json")],
        "auto-circuit": [(json.dumps(files.AUTO_CIRCUIT), "a.json")],
        "eap-ig": [(table(files.EAP_IOI), "a.csv"), (table(year | {"correct_idx": 32}), "a.csv")],
        "mib": [(lines(files.MIB_IOI), "a.jsonl"), (lines(year | {"year": "1732"}), "a.jsonl")],
        "circuit-kit": [(files.KIT_TABLE, "a.csv")],
        "coax": [(json.dumps([files.COAX]), "a.json"), (lines(files.COAX), "a.jsonl")],
        "causalab": [(lines(files.CAUSALAB), "a.jsonl")],
    }
    assert {*examples, "acdc"} == set(PROMPT_FORMATS)
    for name, some in examples.items():
        for content, file in some:
            made = read(content, file, ids_of=PLAIN if "826" in content else None)
            assert made.provenance["format"] == name and made.provenance["file"] == file
            assert len(str(made.provenance["sha256"])) == 64 and json.dumps(made.provenance)


def test_ours_with_everything(read):
    made = read(lines(files.OWN), model=FRONT)
    assert (made.ids, made.groups, made.weights.tolist()) == (("a",), ("ABBA",), [2.0])
    assert made.spans == ({"IO": (2, 3), "S2": (10, 11)},) and made.positions.tolist() == [14]
    assert made.corrupt[0, 1:].tolist() == ids(FRESH)


def test_ours_as_parquet(read, tmp_path):
    rows = [files.OWN, {**files.OWN, "id": "b", "spans": {"IO": [1, 2]}}]  # Parquet gives both rows both spans
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    made = Prompts.read(tmp_path / "a.parquet", PLAIN)
    assert made.fingerprint == read(lines(*rows)).fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answer": [" Mary"]}, "the key 'answer'; keys are id, group"),
        ({"tokens": [1]}, "both text and tokens"),
        ({"text": 3}, "text is no text"),
        ({"text": None}, "neither text nor tokens"),
        ({"answers": " Mary"}, "are a text; a list was expected"),
        ({"answers": [1.0]}, "no list of token ids"),
        ({"answers": [True]}, "no list of token ids"),
        ({"position": 3.0}, "no whole number"),
        ({"weight": "2"}, "no number"),
        ({"spans": {"IO": [1]}}, "[start, end] was expected"),
        ({"spans": [1]}, "spans are expected as"),
    ],
)
def test_rows_of_ours_that_say_something_else(read, changes, words):
    with pytest.raises(SelfRepairError) as refused:
        read(lines({**files.OWN, **changes}), format="own")
    assert words in str(refused.value)


def test_auto_circuit_counts_positions_without_what_stands_in_front(read):
    content = json.dumps(files.AUTO_CIRCUIT)
    for model, moved in ((PLAIN, 0), (FRONT, 1)):
        made = read(content, "a.json", model)
        assert made.spans[0]["S2"] == (9 + moved, 10 + moved)
        assert made.tokens[0, made.spans[0]["S2"][0]] == JOHN
        assert made.tokens[0, made.spans[0]["end"][0]] == made.tokens[0, made.positions[0]] == identity(" to")


def test_auto_circuit_positions_of_another_tokenizer_are_left_out_and_recorded(read):
    longer = {**files.AUTO_CIRCUIT["prompts"][0], "clean": "The war, " + TEXT.replace("When", " When")}
    del longer["corrupt"]
    for labelled in (True, False):  # then `end` says for how many tokens positions were counted
        document = {**files.AUTO_CIRCUIT, "prompts": [*files.AUTO_CIRCUIT["prompts"], longer]}
        document = document if labelled else {name: document[name] for name in ("prompts", "word_idxs")}
        made = read(json.dumps(document), "a.json")
        assert [sorted(spans) for spans in made.spans] == [["IO", "S1", "S2", "end"], []]
        assert str(made.provenance["spans_left_out"]).startswith("1 of 2 prompts have another number of tokens")


def test_auto_circuit_keeps_several_answers_and_their_spaces(read):
    prompt = {"clean": TEXT, "answers": [" Mary", " Anna"], "wrong_answers": [" John"]}
    assert read(json.dumps({"prompts": [prompt]}), "a.json").answers == ((MARY, identity(" Anna")),)
    bare = {"clean": TEXT, "answers": ["Mary"], "wrong_answers": [" John"]}
    with pytest.raises(SelfRepairError, match="Write ' Mary', with the space in front"):
        read(json.dumps({"prompts": [bare]}), "a.json")


def test_auto_circuit_in_token_ids(read):
    prompt = {"clean": ids(TEXT), "corrupt": ids(FRESH), "answers": [MARY], "wrong_answers": [JOHN]}
    made = read(json.dumps({"prompts": [prompt]}), "a.json")
    assert made.tokens[0].tolist() == ids(TEXT) and made.provenance["token_ids"] == "taken for the model's own"
    other = tokenizer(special="<s>")
    assert read(json.dumps({"prompts": [prompt]}), "a.json", ids_of=other).fingerprint == made.fingerprint
    with pytest.raises(SelfRepairError, match="to one tokenizer only"):
        read(json.dumps({"prompts": [{**prompt, "clean": TEXT}]}), "a.json")
    padded = {**prompt, "clean": [0, 0, *ids(TEXT)], "corrupt": [0, 0, *ids(FRESH)]}  # AutoCircuit pads on the left
    with pytest.raises(SelfRepairError, match="padding on the left"):
        read(json.dumps({"prompts": [padded]}), "a.json")
    micro = {**prompt, "clean": [[1.0, 2.0]], "corrupt": [[1.0, 2.0]]}
    with pytest.raises(SelfRepairError, match="matrix of numbers, the input of a micro model"):
        read(json.dumps({"prompts": [micro]}), "a.json")


def shifted(by: int):
    """A tokenizer that knows the same words by other numbers."""

    class Shifted:
        all_special_tokens, all_special_ids = (), ()

        def __call__(self, text, **_options):
            return {"input_ids": [number + by for number in ids(text)]}

        def decode(self, numbers, **_options):
            return PLAIN.decode([number - by for number in numbers])

    return Shifted()


def test_token_ids_of_a_table_belong_to_a_tokenizer_that_has_to_be_named(read):
    content = table({**files.EAP_IOI, "correct_idx": MARY + 100, "incorrect_idx": JOHN + 100})
    with pytest.raises(SelfRepairError, match="'correct_idx' of a\\.csv has token ids, which mean something to one"):
        read(content, "a.csv")
    made = read(content, "a.csv", ids_of=shifted(100))
    assert made.answers == ((MARY,),) and made.wrong == ((JOHN,),) and made.ids == ("1",)
    with pytest.raises(SelfRepairError, match=r"correct_idx stands for .*Are its ids those of the tokenizer"):
        read(content, "a.csv", ids_of=shifted(98))
    with pytest.raises(SelfRepairError, match="cannot be loaded"):
        read(content, "a.csv", ids_of="no/such/folder")


def test_token_ids_that_do_not_come_back_are_refused(read):
    """Some tokenizers leave a single token's space out when they decode it: another word would be measured."""

    class Stripping(type(shifted(0))):
        def decode(self, numbers, **options):
            return super().decode(numbers, **options).strip()

    with pytest.raises(SelfRepairError, match="stands for 'Mary', which its tokenizer would write otherwise"):
        read(table(files.EAP_IOI), "a.csv", ids_of=Stripping())


def test_token_ids_that_are_several_tokens_here_are_refused(read):
    class Other:
        all_special_tokens, all_special_ids = (), ()

        def __call__(self, text, **_options):
            return {"input_ids": [5] if text == " Montreal" else [6] if text == " Rome" else [7]}

        def decode(self, numbers, **_options):
            return {5: " Montreal", 6: " Rome"}[numbers[0]]

    row = {"clean": TEXT, "corrupted": FRESH, "country_idx": 5, "corrupted_country_idx": 6}
    content = table({**row, "country": "Montreal", "corrupted_country": "Rome"})
    with pytest.raises(SelfRepairError, match="' Montreal' is 2 tokens"):
        read(content, "a.csv", ids_of=Other())


def test_eap_twins_are_chosen_and_recorded(read):
    plain, hard = (
        read(table(files.EAP_IOI), "a.csv", ids_of="model", counterfactual=name) for name in (None, "corrupted_hard")
    )
    assert plain.corrupt[0].tolist() == ids(FRESH) and plain.provenance["counterfactual"] == "corrupted"
    assert hard.corrupt[0].tolist() == ids(FLIPPED) and hard.provenance["counterfactual"] == "corrupted_hard"
    with pytest.raises(SelfRepairError, match="There are: corrupted, corrupted_hard"):
        read(table(files.EAP_IOI), "a.csv", ids_of="model", counterfactual="hard")


@pytest.mark.parametrize(
    ("columns", "words", "more"),
    [
        (("correct_idx", "incorrect_idx"), (" Mary", " John"), {}),
        (
            ("country_idx", "corrupted_country_idx"),
            (" Paris", " Rome"),
            {"country": "Paris is", "corrupted_country": "Rome"},
        ),
        (("clean_answer_idx", "corrupted_answer_idx"), (" she", " he"), {}),
        (
            ("answers_idx", "corrupted_answers_idx"),
            (" house", " drink"),
            {"answers": "['a', 'house']", "corrupted_answers": "['drink']"},
        ),
    ],
)
def test_token_ids_of_eap_are_those_of_the_words_that_are_expected(read, columns, words, more):
    row = {"clean": TEXT, "corrupted": FRESH, **more, **dict(zip(columns, map(identity, words), strict=True))}
    made = read(table(row), "a.csv", ids_of="model")
    assert [made.answers, made.wrong] == [((identity(word),),) for word in words]
    with pytest.raises(SelfRepairError, match=f"{columns[0]} stands for ' war', which is not in"):
        read(table({**row, columns[0]: identity(" war")}), "a.csv", ids_of="model")


def test_lists_of_token_ids_are_read_and_never_evaluated(read, tmp_path):
    row = {
        "clean": TEXT,
        "corrupted": FRESH,
        "answers_idx": f"[{MARY}, {identity(' Anna')}]",
        "corrupted_answers_idx": f"[{JOHN}]",
    }
    assert read(table(row), "a.csv", ids_of="model").answers == ((MARY, identity(" Anna")),)
    trap = tmp_path / "trap"
    code = f"[__import__('pathlib').Path({str(trap)!r}).touch() or {MARY}]"
    with pytest.raises(SelfRepairError, match="is no list of token ids"):
        read(table({**row, "answers_idx": code}), "a.csv", ids_of="model")
    assert not trap.exists()


@pytest.mark.parametrize("column", ["correct_idx", "label", "year"])
def test_the_column_of_greater_than_is_a_year_and_no_token_id(read, column):
    row = {"clean": YEAR, "corrupted": OTHER_YEAR, column: "1732" if column == "year" else 32}
    made = read(table(row), "a.csv")
    assert [PLAIN.decode([one]) for one in made.answers[0]] == [f"{year:02d}" for year in range(33, 100)]
    assert [PLAIN.decode([one]) for one in made.wrong[0]] == [f"{year:02d}" for year in range(33)]
    for bad, words in (("99", "no two-digit year"), ("14235", "no two-digit year"), ("44", "1744 is not in its text")):
        if column != "year":
            with pytest.raises(SelfRepairError, match=words):
                read(table({**row, column: bad}), "a.csv")
    with pytest.raises(SelfRepairError, match="no use for it"):
        read(table(row), "a.csv", ids_of=PLAIN)


def test_greater_than_needs_years_of_one_token(read):
    from loading import tiny_models

    with pytest.raises(SelfRepairError, match="The year 00 is 2 tokens"):
        read(table({"clean": YEAR, "corrupted": OTHER_YEAR, "correct_idx": 32}), "a.csv", tiny_models.tokenizer())


def test_subject_verb_agreement_has_its_verbs_recorded(read):
    row = {"clean": "The store", "corrupted": "The house", "group": "simple", "plural": 0}
    made = read(table(row, {**row, "plural": 1}), "a.csv")
    singular, plural = (identity(" is"),), (identity(" are"),)
    assert (made.answers, made.wrong) == ((singular, plural), (plural, singular)) and made.groups == ("simple",) * 2
    assert made.provenance["verbs"] == [[" is", " are"]]  # of several pairs, the one of single tokens
    with pytest.raises(SelfRepairError, match="0 or 1 was expected"):
        read(table({**row, "plural": 2}), "a.csv")


def test_groups_are_a_column(read):
    rows = [{**files.EAP_IOI, "template": name} for name in ("x", "y")]
    assert read(table(*rows), "a.csv", ids_of="model", groups="template").groups == ("x", "y")
    with pytest.raises(SelfRepairError, match="no column 'templates' to take groups from"):
        read(table(*rows), "a.csv", ids_of="model", groups="templates")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_mib_names_get_a_space_and_the_counterfactual_is_recorded(read, tmp_path, suffix):
    def made(**options):
        if suffix == "jsonl":
            return read(lines(files.MIB_IOI), **options)
        pd.DataFrame([files.MIB_IOI]).to_parquet(tmp_path / "a.parquet")
        return Prompts.read(tmp_path / "a.parquet", PLAIN, **options)

    default = made()
    assert (default.answers, default.wrong) == (((MARY,),), ((JOHN,),))
    assert default.corrupt[0].tolist() == ids(FLIPPED)
    assert default.provenance["counterfactual"] == "s2_io_flip_counterfactual"
    for name in ("abc", "abc_counterfactual"):
        other = made(counterfactual=name)
        assert other.corrupt[0].tolist() == ids(FRESH) and other.provenance["counterfactual"] == "abc_counterfactual"
    with pytest.raises(SelfRepairError, match="Choose one with --counterfactual: s2_io_flip_counterfactual, abc_"):
        made(counterfactual="random")


def test_mib_choices_are_places_and_get_no_space(read):
    made = read(lines(files.MIB_CHOICE))
    assert (made.answers, made.wrong) == (((identity("B"),),), ((identity("D"),),))
    assert made.provenance["counterfactual"] == "symbol_counterfactual"
    for key in (2, -1, "B"):
        with pytest.raises(SelfRepairError, match="no place among its choices' labels"):
            read(lines({**files.MIB_CHOICE, "answerKey": key}))


def test_mib_arithmetic(read):
    rows = [files.ARITHMETIC, {**files.ARITHMETIC, "label": 132}, {**files.ARITHMETIC, "random_counterfactual": None}]
    with pytest.warns(PromptsDropped) as seen:
        made = read(lines(*rows))
    assert made.answers == ((identity("32"),),) and made.groups == ("+",) and made.corrupt is not None
    reasons = [one.reason for one in made.dropped]
    assert "is 2 tokens" in reasons[0] and "It has no random_counterfactual" in reasons[1]
    assert "2 of 3 prompts" in str(seen[0].message)


def test_ewok_answers_are_several_tokens(read):
    with pytest.raises(SelfRepairError, match=r"tokens .*; one is measured"):
        read(lines(files.EWOK))
    made = read(lines(files.EWOK), first_token=True, twins="none")
    assert (made.answers, made.wrong, made.groups) == (((MARY,),), ((JOHN,),), ("places",))


def test_circuit_kit_answers_get_the_space_that_they_lack(read):
    made = read(files.KIT_TABLE, "a.csv")
    assert made.answers == ((identity(" Paris"),), (identity("17"),))
    assert made.answers[0] != (identity("Paris"),) and made.provenance["answers_given_a_space"] == 1


def task(read, tmp_path, content: str = files.KIT_TASK, table: str = files.KIT_TABLE) -> Prompts:
    (tmp_path / "capitals.csv").write_text(table)
    return read(content, "task.yaml")


def test_circuit_kit_task_files(read, tmp_path):
    made = task(read, tmp_path)
    assert made.wrong[0] == (identity(" Rome"),) and made.provenance["table"] == "capitals.csv"
    renamed = files.KIT_TASK.replace("prompt: question", "prompt: q").replace("answer: answer", "answer: a")
    with pytest.raises(SelfRepairError, match="no column 'q'"):
        task(read, tmp_path, renamed)
    filled = task(read, tmp_path, files.KIT_TASK + 'prompt_template: "When {{ question }} the"\n')
    assert filled.texts[0] == "When Paris is the"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("corrupted: corrupted, ", ""), None),
        (("metric:", "corruption: {strategy: entity_swap}\nmetric:"), None),
        (("corrupted: corrupted, corrupted_answer: corrupt_answer", "x: y"), "The schema of task.yaml has 'x'"),
        (("type: csv", "type: hf"), "a csv or jsonl file was expected"),
        (("elsewhere/capitals.csv", "elsewhere/.."), "no .csv file"),
        (("metric: logit_diff", "prompt_template: '{% for x in y %}{% endfor %}'"), "is a program"),
        (("metric: logit_diff", "a: &x [1]\nb: *x"), "aliases, which may stand for any amount"),
        (("metric: logit_diff", "a: !!python/object/apply:os.getcwd []"), "cannot be read"),
        (("name: capitals", "name: [" + "[" * 2000), "cannot be read"),
    ],
)
def test_circuit_kit_task_files_that_ask_for_more(read, tmp_path, changed, words):
    content = files.KIT_TASK.replace(*changed)
    assert content != files.KIT_TASK
    if words is None:
        assert len(task(read, tmp_path, content)) == 2
        return
    with pytest.raises(SelfRepairError) as refused:
        task(read, tmp_path, content)
    assert words in str(refused.value)


def test_twins_that_circuit_kit_would_make_are_not_passed_over(read, tmp_path):
    content = files.KIT_TASK.replace("corrupted: corrupted, ", "") + "corruption: {strategy: entity_swap}\n"
    with pytest.raises(SelfRepairError, match="asks CircuitKIT to make twins"):
        task(read, tmp_path, content)


def test_a_task_file_names_no_file_elsewhere(read, tmp_path):
    (tmp_path / "sub").mkdir()
    outside = tmp_path / "outside.csv"
    outside.write_text(files.KIT_TABLE)
    (tmp_path / "sub/task.yaml").write_text(files.KIT_TASK.replace("elsewhere/capitals.csv", str(outside)))
    with pytest.raises(SelfRepairError, match=r"There is no file .*sub/outside\.csv"):
        Prompts.read(tmp_path / "sub/task.yaml", PLAIN)


def test_causalab_takes_the_first_counterfactual_and_says_so(read):
    made = read(lines(files.CAUSALAB))
    assert made.corrupt[0].tolist() == ids(FLIPPED) and made.wrong == ((JOHN,),)
    assert made.provenance["counterfactual"] == "the first; 1 of 1 prompts have more"


def test_items_of_transformer_lens_have_their_answer_in_the_prompt():
    """With a tokenizer that puts a token in front of every text, names begin with it too."""
    for front in ([], [0]):
        item = {
            "prompt": torch.tensor([*front, *ids(TEXT), MARY]),
            **{"IO": torch.tensor([*front, MARY]), "S": torch.tensor([*front, JOHN])},
        }
        made = Prompts.of([item], FRONT if front else PLAIN)
        assert made.tokens[0].tolist() == [*front, *ids(TEXT)] and made.positions.tolist() == [13 + len(front)]
        assert (made.answers, made.wrong) == (((MARY,),), ((JOHN,),))
    with pytest.raises(SelfRepairError, match="not in its answer"):
        Prompts.of([{**item, "prompt": torch.tensor(ids(TEXT))}], PLAIN)
    with pytest.raises(SelfRepairError, match="are the same"):
        Prompts.of([{**item, "S": item["IO"]}], PLAIN)
    two = {
        "prompt": torch.tensor(ids(TEXT + " Montreal")),
        "IO": torch.tensor(ids(" Montreal")),
        "S": torch.tensor([JOHN]),
    }
    with pytest.raises(SelfRepairError, match="is 2 tokens"):
        Prompts.of([two], PLAIN)
    assert Prompts.of([two], PLAIN, first_token=True).answers == ((identity(" Mon"),),)


def test_coax_was_written_without_anything_in_front(read):
    made = read(lines(files.COAX), model=FRONT)
    assert made.provenance["written_for"] == "nothing in front of the text" and made.provenance["prefix"] == [0]
    assert read(lines(files.COAX), model=FRONT, bos="never").tokens[0].tolist() == ids(TEXT)


def test_mappings_from_python():
    assert Prompts.of([files.COAX, files.OWN], PLAIN).answers == ((MARY,), (MARY,))
    with pytest.raises(SelfRepairError, match="'question', of no known format"):
        Prompts.of([{"question": TEXT}], PLAIN)


def test_arrays_of_acdc_have_no_answers(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, validation_data=np.array([ids(TEXT)]), validation_patch_data=np.array([ids(FRESH)]))
    made = Prompts.read(path, PLAIN)
    assert made.answers == ((),) and made.corrupt[0].tolist() == ids(FRESH) and made.provenance["format"] == "acdc"
    np.savez(path, validation_data=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SelfRepairError, match="cannot be read"):
        Prompts.read(path, PLAIN)


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "a.jsonl", "of no known prompt format"),
        (b'{"question": "x"}', "a.jsonl", "its columns are 'question'"),
        (b"[1, 2]", "a.json", "of no known prompt format"),
        (b"[" * 1000, "a.json", "nested more than 100 levels deep"),
        (b'{"text": 1}\n{', "a.jsonl", "line 2 is not valid JSON"),
        (b"[]\n", "a.jsonl", "line 1 is no JSON object"),
        (b"a,b\n1\n", "a.csv", "line 2 has 1 values and the header 2"),
        (b"a,a\n1,2\n", "a.csv", "the same name"),
        (b"\xff\xfe", "a.csv", "cannot be read"),
        (b"PAR1", "a.parquet", "does not end as a Parquet file does"),
        (b"PK", "a.npz", "no archive of arrays"),
        (b"\x80\x04K\x01.", "a.pkl", "never read: they run code"),
        (b"\x80\x04K\x01.", "a.pt", "never read: they run code"),
    ],
)
def test_files_that_are_something_else(read, content, name, words):
    with pytest.raises(SelfRepairError) as refused:
        read(content, name)
    assert words in str(refused.value)


def test_sizes_in_files_are_not_believed(read, monkeypatch):
    from selfrepair.prompts.formats import content

    monkeypatch.setattr(content, "JSON_VALUES", 50)
    with pytest.raises(SelfRepairError, match="at most 0 are read"):
        read(lines(*[{"text": "x"}] * 60))
    with pytest.raises(SelfRepairError, match="more than 50 values"):
        read("a,b\n" + "1,2\n" * 60, "a.csv")
    with pytest.raises(SelfRepairError, match="There is no file"):
        Prompts.read("no/such.jsonl", PLAIN)


def test_a_wish_that_a_format_cannot_grant_is_not_passed_over(read):
    for wish in ({"ids_of": PLAIN}, {"counterfactual": "abc"}):
        with pytest.raises(SelfRepairError, match="no use for it"):
            read(lines(files.COAX), **wish)
    with pytest.raises(SelfRepairError, match="No prompt format is called 'x'"):
        read(lines(files.COAX), format="x")


def test_every_format_can_be_written_as_ours(read, tmp_path):
    from selfrepair.prompts.formats.read import Wishes, prompts_in
    from selfrepair.prompts.prompt import Prompt
    from selfrepair.prompts.writing import json_lines

    np.savez(tmp_path / "a.npz", validation_data=np.array([ids(TEXT)]), validation_patch_data=np.array([ids(FRESH)]))
    for content, name in [
        (lines(files.OWN), "a.jsonl"),
        (json.dumps(files.AUTO_CIRCUIT), "a.json"),
        (table(files.EAP_IOI), "a.csv"),
        (table({"clean": YEAR, "corrupted": OTHER_YEAR, "correct_idx": 32}), "b.csv"),
        (lines(files.MIB_IOI), "b.jsonl"),
        (files.KIT_TABLE, "c.csv"),
        ((tmp_path / "a.npz").read_bytes(), "c.npz"),
    ]:
        made = read(content, name, FRONT, ids_of=PLAIN if name == "a.csv" else None)
        wishes = Wishes(PLAIN if name == "a.csv" else None)
        found, _ = prompts_in(tmp_path / name, FRONT, None, wishes)
        written = json_lines(one for one in found if isinstance(one, Prompt))
        assert read(written, "written.jsonl", FRONT).fingerprint == made.fingerprint, name
