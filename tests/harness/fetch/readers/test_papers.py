import gzip

from harness.fetch.readers.papers import abstracts, jats_text, journal

LONG = "Widgets were weighed in <i>vivo</i> &lt; 3 times. " * 6
RECORDS = f"""<?xml version="1.0"?><PubmedArticleSet>
<PubmedArticle><MedlineCitation><PMID>11</PMID><Article><ArticleTitle>On <i>small</i> widgets.</ArticleTitle>
<Abstract><AbstractText Label="AIM">{LONG}</AbstractText><AbstractText>And
 more.</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>
<PubmedArticle><MedlineCitation><PMID>12</PMID><Article><ArticleTitle>[Translated title].</ArticleTitle>
<Abstract><AbstractText>{LONG}</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>
<PubmedArticle><MedlineCitation><PMID>13</PMID><Article><ArticleTitle>No abstract.</ArticleTitle></Article>
</MedlineCitation></PubmedArticle>
<PubmedArticle><MedlineCitation><PMID>14</PMID><Article><ArticleTitle>Short.</ArticleTitle>
<Abstract><AbstractText>Few words.</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>
</PubmedArticleSet>"""


def test_abstracts_are_titles_and_labelled_parts(tmp_path, wheel):
    made = wheel(tmp_path, "tiny", "1.0", {"data/a.xml.gz": gzip.compress(RECORDS.encode()), "data/b.txt": "no"})
    pages = list(abstracts(made, r".*\.xml\.gz"))
    text = ("Widgets were weighed in vivo < 3 times. " * 6).strip()
    assert {page.group: "".join(page.pieces) for page in pages} == {
        "11": f"On small widgets.\n\nAIM: {text}\nAnd more.\n",
        "12": f"Translated title.\n\n{text}\n",
    }


def paper(licence: str) -> bytes:
    return f"""<article xmlns:xlink="http://www.w3.org/1999/xlink"><front><article-meta><title-group>
<article-title>A paper on <italic>widgets</italic></article-title></title-group>
<permissions><copyright-statement>Somebody</copyright-statement><license><p>{licence}</p></license></permissions>
<abstract><p>What was found.</p></abstract><abstract abstract-type="summary"><p>For editors.</p></abstract>
</article-meta></front><body><sec><title>Methods</title>
<p>We weighed <xref ref-type="bibr" rid="b1">1</xref> them [<xref ref-type="bibr" rid="b2">2</xref>,
<xref ref-type="bibr" rid="b3">3</xref>], see <xref ref-type="fig" rid="f1">Figure 1</xref>
<inline-formula>x</inline-formula> twice.</p>
<fig><caption><p>A caption.</p></caption></fig><table-wrap><table><tr><td>1</td></tr></table></table-wrap>
<sec><title>Scales</title><p>Of iron.</p></sec></sec></body>
<back><ref-list><ref><p>Smith 2001</p></ref></ref-list></back></article>""".encode()


def test_a_paper_is_its_paragraphs_and_states_its_licence():
    text, licence = jats_text(paper("under the Creative Commons Attribution License"))
    assert licence == "CC-BY"
    assert text.split("\n\n") == [
        "A paper on widgets", "What was found.", "Methods", "We weighed them, see Figure 1 twice.", "Scales",
        "Of iron.",
    ]  # fmt: skip
    assert jats_text(paper("dedicated to the public domain"))[1] == "CC0-1.0"
    assert jats_text(paper("ask the publisher"))[1] == ""


def test_papers_without_a_licence_are_left_out(tmp_path, wheel):
    files = {"c/journal.1.xml": paper("Attribution"), "c/journal.2.xml": paper("ask the publisher")}
    (page,) = journal(wheel(tmp_path, "tiny", "1.0", files), r"c/(?P<name>.*)\.xml")
    assert (page.group, page.licence) == ("journal.1", "CC-BY")
