import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_jax.runtime import manifest

NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r/\0"), min_size=1, max_size=9)
    .filter(lambda part: part not in (".", "..")),
    min_size=1,
    max_size=3,
).map("/".join)  # fmt: skip
SUMS = st.dictionaries(NAMES, st.text("0123456789abcdef", min_size=64, max_size=64), min_size=1)


@given(SUMS)
def test_parse_is_the_inverse_of_dump(sums):
    assert manifest.parse(manifest.dump(sums)) == sums


@given(SUMS, st.data())
def test_no_changed_byte_passes(sums, data):
    content = bytearray(manifest.dump(sums))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(manifest.ManifestError):
        manifest.parse(bytes(content))


@given(SUMS, st.data())
def test_no_truncation_passes(sums, data):
    content = manifest.dump(sums)
    keep = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(manifest.ManifestError):
        manifest.parse(content[:keep])


@given(st.binary(max_size=300))
def test_no_other_bytes_pass(content):
    with pytest.raises(manifest.ManifestError):
        manifest.parse(content)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "."])
def test_a_name_outside_of_the_folder(name):
    with pytest.raises(manifest.ManifestError, match="must be a path in the folder"):
        manifest.parse(manifest.dump({name: "0" * 64}))


def test_sha256sum_reads_it(tmp_path):
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "x").write_text("x")
    (tmp_path / "y").write_text("y")
    manifest.write(tmp_path)
    manifest.check(tmp_path)
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", manifest.NAME],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "a folder/x: OK\ny: OK\n", done.stderr
    assert done.returncode == 0
    (tmp_path / "more").write_text("a file that it does not name")
    manifest.check(tmp_path)
