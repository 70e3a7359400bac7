import re

from harness.fetch.readers.html import html_text, manual

PAGE = """<!DOCTYPE html><html><head><title>Not text</title><style>p {color: red}</style></head>
<body><nav><a href="/">Home</a></nav><div role="navigation">next | previous</div>
<header>Site name</header>
<h1>Widgets<a class="headerlink" href="#widgets">¶</a></h1>
<p>A widget &amp; its <em>parts</em>,
split over lines.</p>
<ul><li>one</li><li>two</li></ul>
<p>Code:</p><pre>for x in y:
    print(x)
</pre>
<script>var x = 1;</script><form><input value="search"></form>
<p>Copyright 2001, 2024 the makers. All rights reserved.</p>
<div class="sphinxsidebar">Contents</div><footer>Last built yesterday.</footer></body></html>"""


def test_a_page_is_its_text():
    text = html_text(PAGE)
    blocks = [block.strip() for block in re.split(r"\n{2,}", text.strip())]
    assert blocks == [
        "Widgets",
        "A widget & its parts, split over lines.",
        "• one\n  • two",
        "Code:",
        "for x in y:\n    print(x)",
    ]


def test_a_manual_is_its_pages_without_indexes_and_what_they_share(tmp_path, wheel):
    files = {
        f"doc/manual/part{k}.html": f"<p>The makers' manual</p><h1>Part {k}</h1><p>{f'Sentence {k}. ' * 30}</p>"
        for k in range(6)
    }
    files |= {f"doc/manual/{name}.html": "<p>" + "word " * 200 for name in ("genindex", "search", "py-modindex")}
    files |= {"doc/manual/stub.html": "<p>Moved.</p>", "doc/other/x.html": "<p>" + "other " * 200}
    made = wheel(tmp_path, "tiny", "1.0", files)
    pages = list(manual(made, "doc/manual/(?P<name>.*)"))
    assert [page.group for page in pages] == [f"part{k}.html" for k in range(6)]
    for k, page in enumerate(pages):
        assert "".join(page.pieces) == f"Part {k}\n\n{' '.join([f'Sentence {k}.'] * 30)}\n"
