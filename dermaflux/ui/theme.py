"""How the page looks: one theme, one accent, the style sheet and the page's few lines of script."""

from pathlib import Path

import gradio as gr

from dermaflux.lesion import COLOURS, MONK_TONES

ACCENT = gr.themes.Color(
    name="teal",
    c50="#effafa",
    c100="#d6f1f1",
    c200="#aee2e3",
    c300="#7ccdd0",
    c400="#46b0b6",
    c500="#1f929a",
    c600="#0f747d",
    c700="#0d5f67",
    c800="#0f4c53",
    c900="#113f45",
    c950="#06272b",
)
STYLE = Path(__file__).with_name("style.css")


def theme() -> gr.themes.ThemeClass:
    """The clinical theme: white or near-black surfaces, a teal accent, 16 px text, fonts served by the app itself."""
    return gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=gr.themes.colors.slate,
        text_size=gr.themes.sizes.text_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        radius_size=gr.themes.sizes.radius_md,
        font=[gr.themes.utils.fonts.LocalFont("IBM Plex Sans", (400, 700)), "system-ui", "sans-serif"],
    ).set(
        body_background_fill="#f5f7f8",
        body_background_fill_dark="#0d1416",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#131c1f",
        background_fill_secondary="#f5f7f8",
        background_fill_secondary_dark="#0d1416",
        body_text_color="#17262b",
        body_text_color_dark="#e4edee",
        body_text_color_subdued="#526469",
        body_text_color_subdued_dark="#9db0b4",
        border_color_primary="#d8e0e2",
        border_color_primary_dark="#2a383c",
        block_background_fill="#ffffff",
        block_background_fill_dark="#131c1f",
        block_border_color="#d8e0e2",
        block_border_color_dark="#2a383c",
        block_border_width="1px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0",
        block_label_border_width_dark="0",
        block_label_text_color="#38494e",
        block_label_text_color_dark="#c1d0d3",
        block_title_text_color="#38494e",
        block_title_text_color_dark="#c1d0d3",
        block_title_text_size="*text_sm",
        block_title_text_weight="700",
        block_info_text_size="*text_sm",
        block_info_text_color="#526469",
        block_info_text_color_dark="#9db0b4",
        input_background_fill="#ffffff",
        input_background_fill_dark="#0d1416",
        input_border_width="1px",
        input_border_color="#b9c6c9",
        input_border_color_dark="#3c4d52",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#1a262a",
        button_secondary_background_fill_hover="#eef3f4",
        button_secondary_background_fill_hover_dark="#233237",
        button_secondary_border_color="#b9c6c9",
        button_secondary_border_color_dark="#3c4d52",
        button_border_width="1px",
        button_transition="none",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
    )


def style() -> str:
    """The style sheet, with a rule for each dermoscopic colour and skin tone of the vocabulary."""
    return "\n".join((STYLE.read_text(encoding="utf-8"), *_swatches()))


def _swatches():
    for place, colour in enumerate(COLOURS.values(), 1):
        yield f"#df-colours label:nth-of-type({place}) {{ --swatch: {colour.swatch}; }}"
    for place, swatch in enumerate(MONK_TONES, 2):
        yield f"#df-tone label:nth-of-type({place}) {{ --swatch: {swatch}; }}"


SCROLL_TO_STAGE = """() => {
  const stage = document.querySelector('#df-stage'), box = stage.getBoundingClientRect();
  const seen = Math.min(box.bottom, window.innerHeight) - Math.max(box.top, 0);
  if (seen < 0.7 * box.height) stage.scrollIntoView({block: 'center'});
}"""
"""Script that brings the stage into view where less than most of it can be seen."""
