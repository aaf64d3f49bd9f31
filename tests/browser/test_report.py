"""The report of a study, as a browser shows it."""

import pytest

from dermaflux.study import report, simulate


@pytest.mark.parametrize("width", (1440, 390))
def test_the_report_fits_a_desk_and_a_telephone(width, browser, tmp_path):
    readings = simulate.readings(1, simulate.panel(1, 3), 24)
    report.write(readings.assign(comment="word" * 200), tmp_path, resamples=50)
    page, said = browser.new_page(viewport={"width": width, "height": 900}), []
    page.on("console", lambda message: said.append(message.text))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width and said == []
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page.close()
