"""Names of models in captions: figures, and the warnings about their letters, reach terminals; pages have titles."""

from types import SimpleNamespace

from selfrepair.report import captions


def test_names_of_models_in_captions_steer_nothing():
    run = SimpleNamespace(interventions=SimpleNamespace(attrs={"model": "m[v2]\x1b[31m\u202e"}))
    assert captions.fact(run, "model") == "m[v2]\u241b[31m\N{REPLACEMENT CHARACTER}"
    assert captions.fact(run, "text") == "unknown"
