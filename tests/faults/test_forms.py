"""The long forms of faults are longer."""

SIZE = 1
LONG = {"SIZE": 2}


def test_the_long_form_has_the_sizes_of_the_long_form(request):
    assert (LONG["SIZE"] if request.node.name.endswith("[long]") else 1) == SIZE
