from fedsep.report.svg import embed

FOREIGN = """<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="20pt" height="10pt"
 onload="alert(1)">
 <metadata>2026-01-01</metadata><script>alert(1)</script><style>@import url(http://a.example)</style>
 <defs><clipPath id="clip"><path d="M 0.123456 1 L 2 3"/></clipPath></defs>
 <g id="unused" clip-path="url(#clip)"><use href="#mark" xlink:href="#mark"/><path id="mark" style="fill: #010101"/></g>
 <image xlink:href="http://a.example/x.png"/><text style="font: 9px 'DejaVu Sans'; fill: #010101">a &lt; b</text>
</svg>"""


def test_a_foreign_picture_is_made_safe():
    svg = embed(FOREIGN, "f1-", 'a "picture"', {"#010101": "currentColor"})
    assert "http" not in svg
    assert "alert" not in svg
    assert "2026" not in svg
    assert "unused" not in svg
    assert svg.startswith('<svg viewBox="0 0 20 10" role="img" aria-label="a &quot;picture&quot;">')


def test_ids_get_the_prefix_where_they_stand_and_where_they_are_used():
    svg = embed(FOREIGN, "f1-", "", {})
    assert svg.count("f1-clip") == 2
    assert 'href="#f1-mark"' in svg
    assert 'id="f1-mark"' in svg


def test_text_colours_and_numbers():
    svg = embed(FOREIGN, "f1-", "", {"#010101": "currentColor"})
    assert "a &lt; b</text>" in svg
    assert "font-size: 9px; fill: currentColor" in svg
    assert "0.12 1" in svg
    assert "DejaVu" not in svg
