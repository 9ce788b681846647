import pytest

from heliograph.store.migrations.statements import split


def statements(script, *, sqlite=False):
    return list(split(script, sqlite=sqlite))


def test_statements_end_at_semicolons():
    assert statements("CREATE TABLE a (x);\n\nDROP TABLE b;\n") == [
        "CREATE TABLE a (x);",
        "DROP TABLE b;",
    ]


def test_comments_before_a_statement_are_left_out_and_those_within_kept():
    script = "-- first; comment's\n-- second\nCREATE TABLE a ( -- x; y\n    b\n);\n-- the end\n"
    assert statements(script) == ["CREATE TABLE a ( -- x; y\n    b\n);"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT ';';",
        "SELECT 'it''s;';",
        'SELECT 1 AS ";";',
        "SELECT /* a; \n b; */ 1;",
        "CREATE FUNCTION f() AS $$ BEGIN; END; $$;",
        "CREATE FUNCTION f() AS $body$ $$; $body$;",
    ],
)
def test_what_is_quoted_ends_nothing(statement):
    assert statements(f"SELECT 0;\n{statement}\nSELECT 2;") == [
        "SELECT 0;",
        statement,
        "SELECT 2;",
    ]


def test_a_trigger_of_sqlite_is_one_statement():
    trigger = "CREATE TRIGGER t AFTER INSERT ON a\nBEGIN\n    DELETE FROM b;\n    SELECT 1;\nEND;"
    assert statements(f"{trigger}\nSELECT 2;", sqlite=True) == [trigger, "SELECT 2;"]


def test_a_statement_without_an_end_is_an_error():
    with pytest.raises(ValueError, match="no end to: SELECT 2"):
        statements("SELECT 1;\n-- so\nSELECT 2")
