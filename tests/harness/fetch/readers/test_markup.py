import bz2

from harness.fetch.readers.archives import text_pages
from harness.fetch.readers.markup import pod_text, rst_text, wiki_text, wikipedia

RST = """.. cmake-manual-description: not text

add_widget
----------

.. versionadded:: 3.1

.. |name| replace:: nothing

Adds *one* widget with :command:`make` or :ref:`other things <label>`, see `the site <https://example.org>`_,
``literal``, **strongly**, and 2 * 3 * 4::

  add_widget(NAME)

.. note::
  Kept text.

.. code-block:: c
  :linenos:

  int x;

.. toctree::
   :maxdepth: 1

   /dropped
   /list

Last |name|.
"""
RST_TEXT = """add_widget

Adds one widget with make or other things, see the site,
literal, strongly, and 2 * 3 * 4:

  add_widget(NAME)

  Kept text.

  int x;

Last name.
"""


def squeezed(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines()]
    kept = [line for k, line in enumerate(lines) if line or (k and lines[k - 1])]
    return "\n".join(kept).strip("\n") + "\n"


def test_rst_without_its_markup():
    assert squeezed(rst_text(RST)) == RST_TEXT


POD = """#!/usr/bin/perl
code();

=encoding utf8

=head1 NAME

widget - makes B<bold C<< $x->{y} >>> things E<lt>quicklyE<gt>

=over 4

=item * first

Text with L<a link|https://example.org>, L<perlfunc/open>, L<https://example.org/a/b> and F<file>.X<index entry>

=item *

second

=back

    my $verbatim = "B<kept>";

=begin html

<p>dropped</p>

=end html

=head1 AUTHOR AND COPYRIGHT

Copyright Somebody.

=head1 SEE ALSO

Others.

=cut

more_code();
"""
POD_TEXT = """NAME

widget - makes bold $x->{y} things <quickly>

* first

Text with a link, perlfunc open, https://example.org/a/b and file.

* second

    my $verbatim = "B<kept>";

SEE ALSO

Others.
"""


def test_pod_without_its_markup():
    assert pod_text(POD) == POD_TEXT


def test_manuals_are_a_group_a_file(tmp_path, wheel):
    long = "Sentence after sentence. " * 20
    files = {"doc/a.rst": f"Title\n=====\n\n{long}", "doc/b.pod": f"=head1 TITLE\n\n{long}\n", "doc/c.rst": "Stub."}
    made = wheel(tmp_path, "tiny", "1.0", files)
    rst = list(text_pages(made, r"doc/(?P<name>.*\.rst)", rst_text))
    pod = list(text_pages(made, r"doc/(?P<name>.*\.pod)", pod_text))
    assert [(page.group, "".join(page.pieces)) for page in rst] == [("a.rst", f"Title\n\n{long.strip()}\n")]
    assert [(page.group, "".join(page.pieces)) for page in pod] == [("b.pod", f"TITLE\n\n{long.strip()}\n")]


WIKI = """{{Infobox widget|name=Widget
|image={{CSS|x}}}}
[[File:Widget.jpg|thumb|A [[caption]] that goes]]
'''Widgets''' are ''small'' [[machine|machines]]<ref name="x">Smith</ref> of [[iron]] ({{lang|la|vidgetum}}).<ref/>

== History ==
* Made since &nbsp;1900.
{| class="wikitable"
! A !! B
|-
| 1 || 2
|}
They weigh <math>x^2</math> little. [https://example.org A site] says so.

== See also ==
* [[Gadget]]

== References ==
{{reflist}}
[[Category:Widgets]]
"""


def test_an_article_is_its_sentences():
    lines = [line.strip() for line in wiki_text(WIKI).splitlines() if line.strip()]
    assert lines == [
        "Widgets are small machines of iron.",
        "History",
        "Made since 1900.",
        "They weigh little. A site says so.",
    ]


def test_articles_of_a_dump_that_was_cut_off(tmp_path, wheel):
    body = "The '''widget''' is known to all of us. " * 10
    pages = [
        f"<page><title>Widget</title><ns>0</ns><revision><text>{body}</text></revision></page>",
        '<page><title>Gizmo</title><ns>0</ns><redirect title="Widget" /><revision><text>x</text></revision></page>',
        f"<page><title>Talk:Widget</title><ns>1</ns><revision><text>{body}</text></revision></page>",
        "<page><title>Cut",
    ]
    dump = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">' + "".join(pages)
    made = wheel(tmp_path, "tiny", "1.0", {"data/dump.bz2": bz2.compress(dump.encode())})
    (page,) = wikipedia(made, "data/dump.bz2")
    text = "The widget is known to all of us. " * 10
    assert (page.group, "".join(page.pieces)) == ("Widget", f"Widget\n\n{text.strip()}\n")
