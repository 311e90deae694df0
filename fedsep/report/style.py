"""The page's style sheet: light and dark from one set of variables, one column on a phone."""

from __future__ import annotations

# Eight hues that stay apart for the common colour blindnesses (after Okabe and Ito), darkened for a white ground and
# lightened for a dark one until lines and text reach a contrast of 3:1; markers and dashes tell methods apart as well.
_LIGHT = ("#0072b2", "#d55e00", "#00855f", "#b0468f", "#9a7000", "#3a8fc4", "#6b6b6b", "#6d4fc2")
_DARK = ("#5ab4f0", "#ff8c42", "#2fcb9c", "#ec9bcd", "#e6bb3f", "#a3d8ff", "#b4b4b4", "#b9a2ff")


def _palette(colours: tuple[str, ...]) -> str:
    return "".join(f"--c{at}:{colour};" for at, colour in enumerate(colours))


PALETTE = f"""
:root{{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#1c1e21;--soft:#5a5f66;--grid:#e0e0dc;--line:#d9d9d4;
--mark:#0a62a8;--warn:#8a4b00;--warnbg:#fff6e6;{_palette(_LIGHT)}}}
@media (prefers-color-scheme:dark){{:root{{--page:#111316;--card:#1a1d21;--ink:#e8eaed;--soft:#a2a8b0;--grid:#33383e;
--line:#30353b;--mark:#7cc0ff;--warn:#ffc76b;--warnbg:#2b2415;{_palette(_DARK)}}}}}
"""
"""The colours, light and dark."""

CSS = (
    PALETTE
    + """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
main,header,footer{max-width:76rem;margin:0 auto;padding:0 clamp(1rem,3vw,2rem)}
header{padding-top:clamp(1.5rem,5vw,3rem)}
h1{font-size:clamp(1.5rem,1.1rem + 2vw,2.2rem);line-height:1.2;letter-spacing:-.015em;margin:0 0 .6rem;
text-wrap:balance}
h2{font-size:1.3rem;letter-spacing:-.01em;margin:0 0 .8rem}
h3{font-size:1rem;line-height:1.35;margin:0}
p{margin:0 0 .8rem;max-width:48rem}
section{margin:2.6rem 0 0;scroll-margin-top:1rem}
a{color:var(--mark)}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;margin:1.1rem 0 0;padding:.6rem 0;border-block:1px solid var(--line);
font-size:.92rem}
nav a{text-decoration:none;padding:.15rem 0}
nav a:hover{text-decoration:underline}
.note{border-left:4px solid var(--warn);background:var(--warnbg);border-radius:0 8px 8px 0;padding:.8rem 1rem;
margin:1.4rem 0 0}
.note h2{font-size:1rem;margin:0 0 .3rem;color:var(--warn)}
ul{margin:0;padding-left:1.15rem}
li{margin:.15rem 0}
.table{margin:0 0 1.3rem}
.caption{color:var(--soft);font-size:.88rem;margin:0 0 .45rem;max-width:60rem}
.caption b{color:var(--ink);font-weight:600}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px}
.scroll:focus-visible,pre:focus-visible{outline:2px solid var(--mark);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.5rem .7rem;border-top:1px solid var(--line);vertical-align:baseline}
thead th{border-top:0;color:var(--soft);font-weight:500;font-size:.85rem;vertical-align:bottom}
tbody th{font-weight:600}
th:first-child{padding-left:.9rem}
.figures th,.figures td{white-space:nowrap}
.figures tbody th{white-space:normal;min-width:9.5rem;max-width:20rem;position:sticky;left:0;background:var(--card)}
.facts th{font-weight:500}
.facts th:first-child{width:9rem}
.method{display:inline-flex;gap:.5rem;align-items:baseline}
.method>span{min-width:0}
.key{flex:none;width:1.75rem;height:.75rem;overflow:visible;transform:translateY(.05rem)}
.legend{display:flex;flex-wrap:wrap;gap:.1rem 1rem;font-size:.85rem;margin:.35rem 0 .2rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:1rem}
figure{margin:0;padding:.9rem 1rem;background:var(--card);border:1px solid var(--line);border-radius:10px;
display:flex;flex-direction:column;min-width:0}
figure>svg{display:block;width:100%;height:auto;color:var(--ink);margin:.2rem 0 .5rem;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
figure path,figure line{stroke-linejoin:round}
figcaption{color:var(--soft);font-size:.82rem;line-height:1.45}
.calls{list-style:none;padding:0;margin:0 0 1rem}
.calls li{display:flex;gap:.5rem;align-items:baseline;margin:.3rem 0}
.calls code{overflow-wrap:anywhere;min-width:0}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.88em}
pre{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.8rem 1rem;overflow-x:auto;
margin:0 0 1rem}
pre code{font-size:.84rem}
details{margin:0 0 .7rem}
summary{cursor:pointer;padding:.35rem 0}
.part{display:flex;gap:.5rem;align-items:center}
.bar{flex:none;width:4.5rem;height:.5rem;border-radius:3px;background:var(--grid);overflow:hidden}
.bar>span{display:block;height:100%;background:var(--soft)}
footer{margin-top:3rem;padding-bottom:2.5rem;color:var(--soft);font-size:.85rem}
@media (max-width:36rem){body{font-size:15px}section{margin-top:2.1rem}figure{padding:.8rem .7rem}
th,td{padding:.45rem .65rem}.figures tbody th{min-width:8.5rem;max-width:12rem}
.scroll,figure,pre{border-radius:8px}}
@media print{body{background:#fff}.scroll{overflow:visible}nav{display:none}figure,tr{break-inside:avoid}}
"""
)
