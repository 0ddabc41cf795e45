"""Sets of UIDs against Python's own sets, and at sizes where going through them one by one would not end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inboxd import uids as uids_module
from inboxd.errors import ProtocolError
from inboxd.imap.lines import parse_search
from inboxd.uids import MAX_UID, UidSet

# Small numbers, so that neighbours and overlaps are frequent.
SETS = st.sets(st.integers(1, 60), max_size=40)
EVERY = UidSet([(1, MAX_UID)])


@given(st.lists(st.integers(1, 60)))
def test_a_uid_set_is_the_set_of_its_uids_in_order(uids: list[int]) -> None:
    made = UidSet.of(uids)
    assert list(made) == sorted(set(uids))
    assert len(made) == len(set(uids))
    assert made.highest == max(uids, default=0)
    assert bool(made) == bool(uids)


@given(SETS)
def test_ranges_are_as_few_as_possible(uids: set[int]) -> None:
    ranges = UidSet.of(uids).ranges
    assert all(first <= last for first, last in ranges)
    assert all(low[1] + 1 < high[0] for low, high in pairwise(ranges))


@given(SETS)
def test_what_is_written_is_read_again(uids: set[int]) -> None:
    made = UidSet.of(uids)
    if uids:
        assert UidSet.parse(str(made).encode()).ranges == made.ranges
    else:
        assert str(made) == ""
        with pytest.raises(ProtocolError):
            UidSet.parse(b"")


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1))
def test_ranges_are_read_in_any_order_and_direction(pairs: list[tuple[int, int]]) -> None:
    text = ",".join(f"{a}:{b}" if a != b else str(a) for a, b in pairs)
    wanted = {uid for a, b in pairs for uid in range(min(a, b), max(a, b) + 1)}
    assert list(UidSet.parse(text.encode())) == sorted(wanted)


@given(SETS, st.integers(0, 70))
def test_above_keeps_the_greater_uids(uids: set[int], uid: int) -> None:
    assert list(UidSet.of(uids).above(uid)) == sorted(u for u in uids if u > uid)


@given(SETS, SETS)
@example({1, 2, 3}, {2})
@example({1, 2, 3}, {1, 2, 3})
@example({1, 2, 5, 6}, {2, 3, 4, 5})
def test_without_is_the_difference(uids: set[int], gone: set[int]) -> None:
    assert list(UidSet.of(uids).without(UidSet.of(gone))) == sorted(uids - gone)


@given(st.lists(SETS))
def test_joined_is_the_union(sets: list[set[int]]) -> None:
    joined = UidSet.joined(map(UidSet.of, sets))
    assert joined.ranges == UidSet.of(set[int]().union(*sets)).ranges


@given(SETS, st.integers(0, 70))
def test_membership_is_that_of_the_set(uids: set[int], uid: int) -> None:
    assert (uid in UidSet.of(uids)) == (uid in uids)


@given(SETS, st.integers(1, 50))
def test_chunks_are_full_ascending_and_complete(uids: set[int], most: int) -> None:
    chunks = [list(chunk) for chunk in UidSet.of(uids).chunks(most)]
    assert [uid for chunk in chunks for uid in chunk] == sorted(uids)
    assert all(len(chunk) == most for chunk in chunks[:-1])
    assert all(chunks)


def test_a_range_of_four_billion_costs_nothing() -> None:
    """A server can list every UID there is in twelve octets; nothing here may go through them one by one."""
    assert len(EVERY) == MAX_UID
    assert str(EVERY) == f"1:{MAX_UID}"
    assert EVERY.above(5).ranges == [(6, MAX_UID)]
    assert EVERY.without(UidSet.of({1, 7, MAX_UID})).ranges == [(2, 6), (8, MAX_UID - 1)]
    assert UidSet.joined([EVERY, EVERY]).ranges == EVERY.ranges
    assert next(EVERY.chunks(500)).ranges == [(1, 500)]
    assert 12345 in EVERY


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=40),
    st.sampled_from([1, 2, 7, 30, 1 << 18]),
)
def test_a_list_taken_a_part_at_a_time_is_the_whole_list(pairs: list[tuple[int, int]], size: int) -> None:
    listed = {uid for a, b in pairs for uid in range(min(a, b), max(a, b) + 1)}
    ranges = b",".join(b"%d:%d" % pair if pair[0] != pair[1] else b"%d" % pair[0] for pair in pairs)
    words = b"  ".join(b"%d" % a for a, _ in pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uids_module, "_SLICE_BYTES", size)
        assert set(UidSet.parse(ranges)) == listed
        assert set(parse_search(b'* ESEARCH (TAG "A1") UID ALL ' + ranges) or ()) == listed
        assert set(parse_search(b"* SEARCH " + words + b" (MODSEQ 9)") or ()) == {a for a, _ in pairs}
        for wrong in (ranges + b",", b"," + ranges, ranges + b",,1", ranges + b",x", ranges + b",1:y"):
            with pytest.raises(ProtocolError):
                UidSet.parse(wrong)


def test_a_list_of_too_many_parts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uids_module, "_MOST_RANGES", 100)
    monkeypatch.setattr(uids_module, "_SLICE_BYTES", 64)
    assert len(UidSet.parse(b",".join(b"%d" % uid for uid in range(1, 201, 2)))) == 100
    with pytest.raises(ProtocolError, match="too long"):
        UidSet.parse(b",".join(b"%d" % uid for uid in range(1, 203, 2)))
