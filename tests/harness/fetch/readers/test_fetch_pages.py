import pytest

from harness.fetch.readers.pages import is_english, prose, tidy, without_shared_edges


def test_tidying_leaves_the_words_and_one_blank_line():
    untidy = "\n\nA\u00a0soft\u00adhyphen \r\n\r\n \n\t\n  indented\u200b\t\nend\n\n"
    assert tidy(untidy) == "A softhyphen\n\n  indented\nend\n"


def test_prose_is_cut_and_stubs_are_left_out():
    long = "\n\n".join(f"Paragraph {k} of some length, so that it has to be cut somewhere." for k in range(200))
    pages = list(prose([("stub", "Moved."), ("long", long)]))
    assert [page.group for page in pages] == ["long"]
    assert "".join(pages[0].pieces) == long + "\n"
    assert all(len(piece) <= 4000 for piece in pages[0].pieces) and len(pages[0].pieces) > 3


def test_what_pages_share_at_their_edges_goes_and_inside_stays():
    menu, footer = ["Motto.", "", "• Home", "• About"], ["Page of the suite", "Last updated 2024"]
    bodies = {f"page{k}": [f"Title {k}", "Motto.", "NAME", f"text {k}", "• Home", f"end {k}"] for k in range(20)}
    pages = [(name, "\n".join([*menu, *body, *footer])) for name, body in bodies.items()]
    assert without_shared_edges(pages) == [(name, "\n".join(body)) for name, body in bodies.items()]


def test_a_line_of_few_pages_is_their_own():
    pages = [(f"page{k}", f"Note\ntext {k}" if k < 3 else f"text {k}") for k in range(50)]
    assert without_shared_edges(pages) == pages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It was the best of times, it was the worst of times, it was the age of wisdom.", True),
        ("Please send me the patch for this, and I will have a look at it on Monday.", True),
        ("Es war die beste und die schönste aller Zeiten, ein Zeitalter der Weisheit und des Glaubens.", False),
        ("C'était le meilleur et le pire de tous les temps, le siècle de la sagesse et de la folie.", False),
        ("Era el mejor de los tiempos y era el peor de los tiempos; la edad de la sabiduría.", False),
        ("2002 3.5 $$$ 100%", False),
    ],
)
def test_english_is_told_from_other_languages(text, expected):
    assert is_english(text) is expected
