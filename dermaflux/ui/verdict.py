"""HTML of a classification: verdict, requested against measured, saliency maps and measured appearance.

Every text that does not come from this file is escaped. Images are embedded as data URIs, so nothing is cached.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from dermaflux.lesion import COLOURS, FIELD_MM, MAX_ASYMMETRY, MAX_BORDER, MONK_TONES
from dermaflux.saliency import METHODS, NOTHING, RELATIVE, SaliencyMap, heat_map

if TYPE_CHECKING:
    from dermaflux.appearance import Appearance, Comparison
    from dermaflux.classifier import Prediction
    from dermaflux.classifier_card import Card
    from dermaflux.images import Provenance

NOT_A_LESION = "This does not look like a dermoscopic lesion"
_SHOWN = 640
_TITLES = {
    "asymmetry": "Asymmetry",
    "border": "Border",
    "colours": "Colours, by area",
    "tone": "Apparent skin tone",
    "size_mm": "Size",
}
_HEADS = ("Attribute", "Measured", "Requested", "Match")
STYLE = Path(__file__).with_name("verdict.css")
_AGREES = {True: ("agrees", "✓ agrees"), False: ("differs", "✗ differs"), None: ("unknown", "not measurable")}


def style() -> str:
    """The style sheet of these cards, as an HTML element."""
    return f"<style>{STYLE.read_text(encoding='utf-8')}</style>"


def placeholder(text: str, kind: str) -> str:
    """A card of its final height with a sentence in it, so that results arrive without moving the page."""
    return f'<div class="dfx dfx-card dfx-{kind} dfx-empty"><p>{escape(text)}</p></div>'


def problem(text: str) -> str:
    """The verdict card when the file could not be used."""
    return (
        '<div class="dfx dfx-card dfx-verdict" role="alert"><h3>This file cannot be used</h3>'
        f"<p>{escape(text)}</p></div>"
    )


def verdict(prediction: "Prediction", card: "Card", measured: "Appearance", synthetic: str = "") -> str:
    """The verdict card. What is not lesion-like says so first, with the probability folded away."""
    figures = _figures(prediction, card)
    reasons = _doubts(prediction, measured)
    if reasons:
        figures = (
            f"<h3>{NOT_A_LESION}</h3><p>{' '.join(reasons)} A probability of malignancy says little about such an "
            f"image.</p><details><summary>Show the probability anyway</summary>{figures}</details>"
        )
    return f'<div class="dfx dfx-card dfx-verdict" aria-live="polite">{synthetic}{figures}</div>'


def _doubts(prediction: "Prediction", measured: "Appearance") -> list[str]:
    doubts = []
    if not measured.found:
        doubts.append("No lesion-like region was found in it.")
    if not prediction.lesion_like:
        doubts.append("It lies far from the images that the classifier was trained on.")
    return doubts


def _figures(prediction: "Prediction", card: "Card") -> str:
    point = card.operating_point
    views = f"the mean over {card.views} mirrored and turned views of the image, " if card.views > 1 else ""
    chance, threshold = percent(prediction.p_malignant), percent(point.threshold)
    return f"""<p class="quiet">Probability of malignancy</p>
<p class="dfx-figure">{chance}</p>
<div class="dfx-bar" role="img" aria-label="Probability {chance} on a bar from 0 to 100 %; threshold at {threshold}">
<div class="fill" style="width:{100 * prediction.p_malignant:.1f}%"></div>
<div class="mark" style="left:{100 * point.threshold:.1f}%"></div></div>
<div class="dfx-scale"><span class="at" style="--at:{100 * point.threshold:.1f}%">threshold {threshold}</span>
<span class="end">100 %</span></div>
<p class="dfx-decision">Decision: <strong>{escape(prediction.decision)}</strong></p>
<table><tbody>{_rate("Sensitivity", point.sensitivity, point.sensitivity_interval)}
{_rate("Specificity", point.specificity, point.specificity_interval)}</tbody></table>
<p class="quiet">Sensitivity and specificity at this stored operating point were measured on
{escape(point.measured_on)} (n = {point.n}). The probability is {views}calibrated by a fitted temperature
(T = {card.temperature:.2f}) and bias.</p>
<p class="quiet">The classifier was trained on {escape(card.trained_on)}.</p>"""


def _rate(name: str, share: float, interval: tuple[float, float]) -> str:
    low, high = (100 * bound for bound in interval)
    return (
        f'<tr><th scope="row">{name}</th><td>{100 * share:.1f}\u00a0% '
        f'<span class="quiet">(95\u00a0% interval {low:.1f}–{high:.1f}\u00a0%)</span></td></tr>'
    )


def percent(share: float) -> str:
    """A share of 1 in per cent with one decimal; what would round to 0 or 100 is said to be beyond it."""
    if 0 < share < 0.0005:
        return "< 0.1\u00a0%"
    if 0.9995 <= share < 1:
        return "> 99.9\u00a0%"
    return f"{100 * share:.1f}\u00a0%"


def synthetic(provenance: "Provenance", decision: str | None = None) -> str:
    """The banner of a synthetic image, with the label asked for against the classifier's decision, if there is one."""
    label = provenance.attributes.label
    asked = f" Requested as {label}" if label else ""
    asked += f"; the classifier decides {decision}." if asked and decision else "." if asked else ""
    return (
        f'<div class="dfx-banner"><p><strong>Synthetic image.</strong> It shows no patient.{escape(asked)}</p>'
        f"<details><summary>Its caption</summary><p>{escape(provenance.caption)}</p>"
        f'<p class="quiet">Drawn by {escape(provenance.model)} with seed {provenance.seed}.</p></details></div>'
    )


def not_classified(banner: str) -> str:
    """The verdict card of an image that was only measured."""
    return f'<div class="dfx dfx-card dfx-verdict">{banner}<p class="quiet">Measured below, not classified.</p></div>'


def maps(image: Image.Image, found: SaliencyMap) -> str:
    """Original, heat map and overlay side by side.

    The overlay's opacity is the CSS variable --saliency-opacity, by the rule of saliency.overlay: a place is covered
    by the opacity times its value.
    """
    method = METHODS[found.method]
    about = escape(f"{method.title} for the class {found.target}")
    heat = heat_map(found)
    layer = heat.copy()
    layer.putalpha(Image.fromarray(np.uint8(np.round(found.values * 255))))
    base = uri(image)
    figures = (
        _figure("Original", _img(base, "The image as it was classified")),
        _figure("Heat map", _img(uri(heat), f"Heat map: {about}"), _ramp()),
        _figure("Overlay", _img(base, "") + _img(uri(layer), f"The image under its heat map: {about}", "heat")),
    )
    notes = (NOTHING if found.empty else RELATIVE, f"{method.title}: {method.note}")
    return _maps(figures, notes)


def no_maps() -> str:
    """Three empty frames of the size of the maps."""
    figures = (_figure("Original", ""), _figure("Heat map", "", _ramp()), _figure("Overlay", ""))
    return _maps(figures, (RELATIVE, ""))


def _maps(figures: Sequence[str], notes: Sequence[str]) -> str:
    lines = "".join(f'<p class="quiet">{escape(note)}</p>' for note in notes)
    return f'<div class="dfx"><div class="dfx-maps">{"".join(figures)}</div><div class="dfx-notes">{lines}</div></div>'


def _ramp() -> str:
    scale = SaliencyMap(np.linspace(0, 1, 256, dtype=np.float32)[None], "", "", False)
    return f'<span class="dfx-ramp">low {_img(uri(heat_map(scale)), "Colour bar from low to high")} high</span>'


def measured(annotated: Image.Image, found: "Appearance", comparisons: "Sequence[Comparison]" = ()) -> str:
    """The measured appearance: the annotated image beside a table, for a synthetic image against what was requested."""
    drawn = "the lesion's outline drawn on it" if found.found else "no lesion found in it"
    figure = _figure("Outline, axes and abruptly cut segments", _img(uri(annotated), f"The image, with {drawn}"))
    nothing = "" if found.found else "<p>No lesion-like region was found, so only the skin was measured.</p>"
    left = "; ".join(f"{line.attribute} {line.requested}" for line in comparisons if line.agrees is None)
    others = f"<p>Requested, but not to be measured: {escape(left)}.</p>" if left else ""
    return f"""<div class="dfx dfx-card dfx-measured"><div class="dfx-two">{figure}<div>{nothing}
{_measures_table(found, comparisons)}{others}<p class="quiet">Measured from the pixels by a program, without
the classifier. It can be wrong, above all where hair, rulers or dark corners are in the image.</p></div></div></div>"""


def _measures_table(found: "Appearance", comparisons: "Sequence[Comparison]") -> str:
    asked = {line.attribute: line for line in comparisons}
    rows = []
    for name, value in _measures(found).items():
        cells = '<td class="unknown" data-label="Requested">not specified</td><td></td>' if asked else ""
        if line := asked.get(name):
            style, match = _AGREES[line.agrees]
            cells = f'<td data-label="Requested">{escape(line.requested)}</td><td class="{style}">{match}</td>'
        rows.append(f'<tr><th scope="row">{_TITLES[name]}</th><td>{value}</td>{cells}</tr>')
    heads = "".join(f'<th scope="col">{title}</th>' for title in _HEADS) if asked else ""
    return f'<table class="dfx-measures"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _measures(found: "Appearance") -> dict[str, str]:
    """What was measured, as HTML, by the attribute's name."""
    tone = f"{escape(found.tone_name)}, ITA {found.ita:.0f}°; nearest Monk swatch {found.tone}"
    skin = {"tone": _swatch(MONK_TONES[found.tone - 1]) + tone}
    if not found.found:
        return dict.fromkeys(("asymmetry", "border", "colours"), "–") | skin | {"size_mm": "–"}
    shares = sorted(found.colours.items(), key=lambda pair: -pair[1])
    colours = "".join(f"<span>{_swatch(COLOURS[name].swatch)}{name} {share:.0%}</span>" for name, share in shares)
    return {
        "asymmetry": f"{found.asymmetry} of {MAX_ASYMMETRY} axes",
        "border": f"{found.border} of {MAX_BORDER} segments cut abruptly",
        "colours": f'<span class="dfx-swatches">{colours or "none of the six"}</span>',
        **skin,
        "size_mm": f"{found.lesion_share:.1%} of the frame; {found.size_mm:.1f} mm across "
        f"if the frame is {FIELD_MM:.0f} mm wide",
    }


def _swatch(colour: str) -> str:
    return f'<i class="dfx-swatch" style="background:{colour}"></i>'


def _figure(title: str, content: str, extra: str = "") -> str:
    return f'<figure><div class="dfx-frame">{content}</div><figcaption>{title}{extra}</figcaption></figure>'


def _img(source: str, alt: str, kind: str = "") -> str:
    return f'<img src="{source}" alt="{escape(alt)}" class="{kind}">'


def uri(image: Image.Image) -> str:
    """A data URI of the image, at most 640 px on its longer side: JPEG, or PNG where it is transparent or tiny."""
    shown = image.copy()
    shown.thumbnail((_SHOWN, _SHOWN))
    kind, options = ("PNG", {}) if shown.mode == "RGBA" or shown.height < 16 else ("JPEG", dict(quality=92))
    buffer = io.BytesIO()
    shown.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
