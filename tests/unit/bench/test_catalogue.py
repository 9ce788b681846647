import pytest
from bench.catalogue import chosen

KNOWN = ["mqtt-sqlite-1", "mqtt-sqlite-10", "http-single-sqlite"]


def test_without_names_all_run():
    assert chosen([], KNOWN) == KNOWN


def test_a_whole_name_stands_for_itself_alone():
    assert chosen(["mqtt-sqlite-1"], KNOWN) == ["mqtt-sqlite-1"]


def test_a_beginning_stands_for_all_that_begin_so():
    assert chosen(["http", "mqtt-"], KNOWN) == KNOWN


def test_an_unknown_name_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"nothing.*mqtt-sqlite-1"):
        chosen(["nothing"], KNOWN)


def test_what_is_missing_is_left_out_of_all_and_of_beginnings():
    missing = {"mqtt-sqlite-10": "nothing to run it with"}
    assert chosen([], KNOWN, missing) == ["mqtt-sqlite-1", "http-single-sqlite"]
    assert chosen(["mqtt-sqlite-"], KNOWN, missing) == ["mqtt-sqlite-1"]


def test_what_is_missing_and_asked_for_by_its_name_is_an_error_that_says_why():
    with pytest.raises(ValueError, match="mqtt-sqlite-10: nothing to run it with"):
        chosen(["mqtt-sqlite-10"], KNOWN, {"mqtt-sqlite-10": "nothing to run it with"})
