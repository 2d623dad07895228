"""The wire between the stages: what is encoded comes back, and damage is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import FormatError
from schemas.profiles import Delta, DeltaRow, decode, decode_ints, decode_sparse, encode, encode_ints, encode_sparse

INT64 = st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1)


@given(st.lists(INT64, max_size=200))
def test_integers_come_back_as_they_were(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    assert decode_ints(encode_ints(array)).tolist() == values


@given(st.dictionaries(st.integers(0, 5000), INT64.filter(bool), max_size=100))
def test_a_sparse_vector_comes_back_as_it_was(entries: dict[int, int]) -> None:
    flat = np.zeros(5001, dtype=np.int64)
    flat[list(entries)] = list(entries.values())
    index, values = decode_sparse(encode_sparse(flat))
    assert dict(zip(index.tolist(), values.tolist(), strict=True)) == entries


@given(st.binary(max_size=60))
def test_damaged_bytes_are_a_format_error_or_a_vector(raw: bytes) -> None:
    try:
        index, values = decode_sparse(raw)
    except FormatError:
        return
    assert index.size == values.size


def test_a_delta_of_a_newer_format_is_refused() -> None:
    delta = Delta(
        source=0, begin=0, end=1, part=0, parts=1, seq=1, model="m", layout="x", max_ts=0, width=3,
        rows=[DeltaRow(0, "", ())], body=encode_sparse(np.array([1, 0, 2])), format=99,
    )  # fmt: skip
    with pytest.raises(FormatError, match="format 99"):
        decode(encode(delta))


@given(st.binary(max_size=80))
def test_hostile_bytes_on_the_profiles_topic_are_a_format_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        decode(b"\xc1" + raw)
