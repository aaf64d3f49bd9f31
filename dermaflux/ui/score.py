"""The total dermoscopy score beside the form: its arithmetic, its band and remarks on it."""

from html import escape

from dermaflux.errors import InputError
from dermaflux.lesion import BANDS, DIAGNOSES, WEIGHTS, LesionAttributes, band, total_dermoscopy_score

LOWEST, HIGHEST = 1.0, BANDS[-1].upto
EDGES = (LOWEST, 4.75, 5.45, HIGHEST)


def card(attributes: LesionAttributes) -> str:
    """The score of `attributes` as HTML: number, band, scale, arithmetic and remarks."""
    try:
        score = total_dermoscopy_score(attributes)
    except InputError as error:
        return _wrap("–", "", "", escape(str(error)), remarks(attributes, None))
    name = band(score).name
    return _wrap(
        f"{score:.1f}", name, _marker(score), f"{arithmetic(attributes)} = {score:.1f}", remarks(attributes, score)
    )


def arithmetic(attributes: LesionAttributes) -> str:
    """The weighted sum in words of numbers, such as 1.3 × 2 + 0.1 × 4 + 0.5 × 3 + 0.5 × 3."""
    counts = {"asymmetry": attributes.asymmetry, "border": attributes.border}
    counts |= {"colours": len(attributes.colours), "structures": len(attributes.structures)}
    return " + ".join(f"{weight / 10:.1f} × {counts[name]}" for name, weight in WEIGHTS.items())


def remarks(attributes: LesionAttributes, score: float | None) -> list[str]:
    """What a reader should know about the score: discordance with the label, and where the rule does not hold."""
    found = []
    if score is not None and attributes.label == "benign" and score > EDGES[2]:
        found.append("Discordant: benign, with a score that is highly suspicious. It will be drawn as asked.")
    if score is not None and attributes.label == "malignant" and score < EDGES[1]:
        found.append("Discordant: malignant, with a score in the benign band. It will be drawn as asked.")
    diagnosis = DIAGNOSES.get(attributes.diagnosis or "")
    if diagnosis and not diagnosis.melanocytic:
        found.append(f"The score is meant for melanocytic lesions; a {diagnosis.name} is not one.")
    if attributes.capture == "clinical":
        found.append("The score is meant for dermoscopy, not for clinical photographs.")
    return found


def _marker(score: float) -> str:
    place = (score - LOWEST) / (HIGHEST - LOWEST) * 100
    return f'<i class="df-marker" style="left:{place:.1f}%"></i>'


def _wrap(number: str, name: str, marker: str, line: str, notes: list[str]) -> str:
    spans = zip(EDGES, EDGES[1:], ("low", "middle", "high"), strict=False)
    parts = "".join(f'<span class="df-{level}" style="flex:{high - low:.2f}"></span>' for low, high, level in spans)
    level = {found.name: level for found, level in zip(BANDS, ("low", "middle", "high"), strict=True)}.get(name, "none")
    said = "".join(f"<p class='df-remark'>{escape(note)}</p>" for note in notes)
    return (
        f'<div class="df-score" role="status" aria-label="Total dermoscopy score">'
        f'<div class="df-score-head"><span>Total dermoscopy score</span><b>{number}</b>'
        f'<span class="df-band df-band-{level}">{escape(name)}</span></div>'
        f'<div class="df-scale" aria-hidden="true">{parts}{marker}</div>'
        f'<p class="df-sum">{line}</p>{said}</div>'
    )
