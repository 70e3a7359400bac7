import gzip
import json

from harness.fetch.readers.interfaces import amazon, google

LONG = (
    "This describes at some length what the {} does with the widgets that it was given by whoever called it, and why."
)


def described(what: str) -> str:
    return LONG.format(what) + " It may take a minute or two."


def test_amazon_s_newest_manual_of_each_service_says_everything_once(tmp_path, wheel):
    def model(version: str) -> bytes:
        return gzip.compress(json.dumps({
            "documentation": f"<p>{described('service in ' + version)}</p>",
            "operations": {"MakeWidget": {"documentation": f"<p>{described('<i>operation</i>')}</p>"}, "Bare": {}},
            "shapes": {"WidgetRequest": {"members": {
                "Size": {"documentation": f"<p>{described('size')}</p>"},
                "Same": {"documentation": f"<p>{described('size')}</p>"},
                "Label": {"documentation": "<p>The label.</p>"},
            }}},
        }).encode())  # fmt: skip

    files = {f"botocore/data/widgets/{v}/service-2.json.gz": model(v) for v in ("2014-01-01", "2020-05-31")}
    files["botocore/data/widgets/2020-05-31/waiters-2.json"] = b"{}"
    (page,) = amazon(wheel(tmp_path, "botocore", "1.0", files))
    assert page.group == "widgets"
    assert [block for block in "".join(page.pieces).strip().split("\n\n") if block] == [
        described("service in 2020-05-31"), "MakeWidget", described("operation"), "WidgetRequest", "Same",
        described("size"),
    ]  # fmt: skip


def test_google_s_stable_manual_of_each_service(tmp_path, wheel):
    document = {
        "description": described("service"),
        "schemas": {
            "Widget": {"description": described("[widget](https://example.org/w)"), "type": "object"},
            "Label": {"description": "A label."},
        },
    }
    folder = "googleapiclient/discovery_cache/documents"
    files = {f"{folder}/widgets.{v}.json": json.dumps(document | {"v": v}) for v in ("v1", "v2", "v3beta1")}
    (page,) = google(wheel(tmp_path, "tiny", "1.0", files))
    assert page.group == "widgets"
    assert "".join(page.pieces).strip().split("\n\n") == [described("service"), "Widget", described("widget")]
