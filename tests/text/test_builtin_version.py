"""The built-in text depends on the Python version, and whatever names it says so."""

import platform

from selfrepair.text import windows
from selfrepair.text.document_sources import source_in_words


def test_the_built_in_text_names_its_python_and_other_texts_do_not(tokenizer, tmp_path):
    version = platform.python_version()
    made = windows(tokenizer, "builtin", tokens=64, length=32)
    assert source_in_words(made.provenance) == f"builtin (Python {version})"
    assert f"of builtin (Python {version})" in repr(made)
    (tmp_path / "own.txt").write_text("Some words of one's own, more than enough of them for a window or two. " * 9)
    own = windows(tokenizer, str(tmp_path / "own.txt"), tokens=64, length=32)
    assert "Python" not in source_in_words(own.provenance) and "Python" not in repr(own)
