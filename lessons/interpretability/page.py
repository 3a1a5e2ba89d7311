"""One decision explained on one page, in plain words: for a reader who is no expert, and may be concerned by it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from coursekit.files import write_atomically
from coursekit.plots import DARK_PAGE, INK, LIGHT_PAGE


@dataclass(frozen=True)
class Reason:
    """One thing that the network looked at.

    Args:
        name: in the reader's words.
        detail: what it was in this case and what is usual.
        push: how strongly it spoke for the answer; negative where it spoke against it.
        says: the same in words.
    """

    name: str
    detail: str
    push: float
    says: str


@dataclass(frozen=True)
class Check:
    """One test of the explanation, with what came out for this very case.

    Args:
        asks: the question, in the reader's words.
        answer: what was measured.
        passed: whether that speaks for the explanation.
    """

    asks: str
    answer: str
    passed: bool


@dataclass(frozen=True)
class Page:
    """All that the page says.

    Args:
        title: the question that it answers.
        answer: what the network said, and how sure it was.
        model: what the network is, and how often it is right: paragraphs.
        reasons: what it looked at, strongest first.
        remainder: what all that is not listed adds up to.
        checks: how far the explanation can be trusted.
        verdict: what follows from the checks.
        limits: what the explanation cannot say.
        use: what may be done with it and what may not: paragraphs.
        picture: a PNG file to show, if there is one.
        picture_alt: what it shows.
        made: how the numbers came about, for the expert at the reader's side.
    """

    title: str
    answer: str
    model: Sequence[str]
    reasons: Sequence[Reason]
    remainder: str
    checks: Sequence[Check]
    verdict: str
    limits: Sequence[str]
    use: Sequence[str]
    made: str
    picture: Path | None = None
    picture_alt: str = ""


def write_page(path: Path, page: Page) -> Path:
    """Write the page as one HTML file that asks nothing of the network, atomically.

    Raises:
        OutputError: it cannot be written; an older one is unharmed.
    """
    largest = max((abs(reason.push) for reason in page.reasons), default=0.0) or 1.0
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    picture = b64encode(page.picture.read_bytes()).decode() if page.picture else ""
    text = template.from_string(_TEMPLATE).render(
        page=page,
        widths=[50 * abs(reason.push) / largest for reason in page.reasons],
        picture=picture,
        colours={"light": LIGHT_PAGE, "dark": DARK_PAGE, "ink": INK},
    )
    return write_atomically(path, text)


_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ page.title }}</title>
<style>
:root {
  color-scheme: light dark; --page: {{ colours.light }}; --ink: {{ colours.ink }}; --muted: #59616b;
  --line: #dcdfe3; --panel: #f5f6f8; --for: #b35806; --against: #5e4b9b;
}
@media (prefers-color-scheme: dark) {
  :root { --page: {{ colours.dark }}; --ink: #e3e6ea; --muted: #a4acb6; --line: #31363d; --panel: #1a1d21;
    --for: #f1a340; --against: #a99ddb; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; }
main { max-width: 50rem; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
h1, h2 { font-family: ui-serif, Charter, Georgia, "Noto Serif", "Liberation Serif", serif; line-height: 1.2;
  text-wrap: balance; font-weight: 600; }
h1 { font-size: 1.9rem; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; margin: 1.75rem 0 .5rem; }
p, ul { margin: 0 0 .75rem; }
ul { padding-left: 1.2rem; }
.answer { font-size: 1.15rem; padding: .9rem 1.1rem; background: var(--panel); border-left: .25rem solid var(--ink); }
.muted { color: var(--muted); font-size: .9rem; }
.reason { display: grid; grid-template-columns: 18rem 8rem 1fr; gap: .1rem 1rem; align-items: center;
  padding: .3rem 0; border-top: 1px solid var(--line); break-inside: avoid; }
.reason:last-of-type { border-bottom: 1px solid var(--line); }
.reason b { font-weight: 600; }
.reason span { display: block; }
.bar { position: relative; height: 1rem;
  background: linear-gradient(var(--line), var(--line)) center / 1px 100% no-repeat; }
.bar i { position: absolute; top: .1rem; bottom: .1rem; display: block; }
.bar i.for { left: 50%; background: var(--for); }
.bar i.against { right: 50%; background: var(--against); }
.ends { display: grid; grid-template-columns: 18rem 8rem 1fr; gap: 0 1rem; font-size: .8rem; color: var(--muted); }
.ends span { display: flex; justify-content: space-between; }
img { display: block; max-width: 100%; height: auto; margin: .5rem 0 1rem; background: {{ colours.light }}; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
tbody th { width: 45%; font-weight: 400; }
td:last-child { white-space: nowrap; padding-right: 0; font-weight: 600; }
@media (max-width: 38rem) {
  .reason { grid-template-columns: 1fr; }
  .ends { display: none; }
}
@media print {
  :root { --page: #fff; --ink: #000; --muted: #444; --panel: #fff; }
  @page { size: A4; margin: 11mm 15mm; }
  html { font-size: 11px; }
  body { line-height: 1.35; }
  main { max-width: none; padding: 0; }
  h1 { font-size: 1.6rem; }
  h2 { margin-top: 1.1rem; }
  .reason, .ends { grid-template-columns: 26rem 9rem 1fr; }
  img { max-height: 4cm; width: auto; }
  .bar, .bar i { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
</style>
</head>
<body>
<main>
<h1>{{ page.title }}</h1>
<p class="answer">{{ page.answer }}</p>
<h2>What gave this answer</h2>
{% for text in page.model %}
<p>{{ text }}</p>
{% endfor %}
<h2>What it looked at in this case</h2>
{% if picture %}
<img src="data:image/png;base64,{{ picture }}" alt="{{ page.picture_alt }}">
{% endif %}
{% if page.reasons %}
<div class="ends" aria-hidden="true"><span></span><span><span>against</span><span>for</span></span><span></span></div>
{% endif %}
{% for reason in page.reasons %}
<div class="reason">
<div><b>{{ reason.name }}</b><span class="muted">{{ reason.detail }}</span></div>
<div class="bar" aria-hidden="true"><i class="{{ 'for' if reason.push >= 0 else 'against' }}" style="width: {{
  '%.1f' % widths[loop.index0] }}%"></i></div>
<div>{{ reason.says }}</div>
</div>
{% endfor %}
<p class="muted" style="margin-top: .6rem">{{ page.remainder }}</p>
<h2>How far this explanation can be trusted</h2>
<table>
<thead><tr><th scope="col">We asked</th><th scope="col">We found</th><th scope="col">Good sign?</th></tr></thead>
<tbody>
{% for check in page.checks %}
<tr><th scope="row">{{ check.asks }}</th><td>{{ check.answer }}</td><td>{{ "yes" if check.passed else "no" }}</td></tr>
{% endfor %}
</tbody>
</table>
<p style="margin-top: .75rem"><b>{{ page.verdict }}</b></p>
<h2>What this page cannot tell you</h2>
<ul>
{% for text in page.limits %}
<li>{{ text }}</li>
{% endfor %}
</ul>
<h2>What it is good for</h2>
{% for text in page.use %}
<p>{{ text }}</p>
{% endfor %}
<p class="muted">{{ page.made }}</p>
</main>
</body>
</html>
"""
