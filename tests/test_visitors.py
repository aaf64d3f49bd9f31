"""Visitors of one page, over HTTP: what each sees, how much each may ask for, and ratings without a name."""

import json

import pytest
import tiny
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from raw_visitor import RawVisitor

from dermaflux.classifier import Classifier
from dermaflux.feedback import open_ratings
from dermaflux.settings import Settings
from dermaflux.slot import once
from dermaflux.ui import visitors
from dermaflux.ui.shell import build_app, launch_options

LIMIT = 3
DRAW = dict(steps=2, size=64, api_name="/generate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="module")
def page(tiny_generator, folder):
    """The address of a page behind a proxy, which says by a header who a visitor is."""
    settings = Settings(host="127.0.0.1", port=0, root_path="/skin", images_per_hour=LIMIT, feedback=str(folder))
    ratings = once(lambda: open_ratings(settings.ratings, folder))
    app = build_app(settings, tiny.slot(tiny_generator), once(lambda: Classifier.load("nano")), ratings)
    _, url, _ = app.launch(**launch_options(settings), prevent_thread_lock=True, quiet=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(visitors, "CLASSIFIED_PER_DRAWN", 2)
        yield url
    app.close()


@pytest.fixture(scope="module")
def lesion(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("lesion") / "lesion.png"
    Image.new("RGB", (64, 64), "tan").save(path)
    return str(path)


def client(page: str, address: str, tmp_path) -> Client:
    return Client(page, headers={"X-Forwarded-For": address}, verbose=False, download_files=str(tmp_path))


def visitor(page: str, address: str) -> RawVisitor:
    return RawVisitor(page, {"X-Forwarded-For": address})


def test_a_visitor_draws_as_much_as_is_allowed_whatever_session_or_way(page, tmp_path):
    client(page, "8.8.1.1", tmp_path).predict(count=2, **DRAW)
    visitor(page, "8.8.1.1").draw()
    with pytest.raises(AppError, match=r"limited to 3 an hour for each visitor; you have 0 left. Try again in 60 min"):
        client(page, "8.8.1.1, 10.0.0.1", tmp_path).predict(**DRAW)
    assert len(client(page, "8.8.1.2", tmp_path).predict(count=LIMIT, **DRAW)) == LIMIT


@pytest.mark.parametrize(("elem_id", "number"), [("df-draw", 1), ("df-compare-draw", 2), ("df-sweep-draw", 3)])
def test_the_buttons_of_the_page_refuse_in_the_status_line(page, tmp_path, elem_id, number):
    address = f"8.8.2.{number}"
    client(page, address, tmp_path).predict(count=LIMIT, **DRAW)
    someone = visitor(page, address)
    said = someone.send(someone.chain(elem_id)[1])
    assert "limited to 3 an hour" in json.dumps(said)


def test_a_refused_parameter_costs_nothing(page, tmp_path):
    someone = client(page, "8.8.3.1", tmp_path)
    for _ in range(LIMIT + 1):
        with pytest.raises(AppError, match="64, 128"):
            someone.predict(**DRAW | {"size": 65})
    assert len(someone.predict(count=LIMIT, **DRAW)) == LIMIT


def test_classifying_and_measuring_share_a_limit_of_their_own(page, tmp_path, lesion):
    someone = client(page, "8.8.4.1", tmp_path)
    someone.predict(count=LIMIT, **DRAW)
    for name in ["/measure"] * (2 * LIMIT - 1) + ["/classify"]:
        someone.predict(handle_file(lesion), api_name=name)
    for name in ("/classify", "/measure"):
        with pytest.raises(AppError, match=r"Classified or measured images are limited to 6 an hour"):
            someone.predict(handle_file(lesion), api_name=name)


def test_one_visitor_sees_nothing_of_anothers(page, folder):
    one, other = visitor(page, "8.8.5.1"), visitor(page, "8.8.5.2")
    one.draw()
    (mine,) = one.do("df-zip")
    assert one.http.get(mine["url"]).content.startswith(b"PK")
    with pytest.raises(RuntimeError, match="no images to download yet"):
        other.do("df-zip")
    with pytest.raises(RuntimeError, match="Choose an image first"):
        other.do("df-rate-save", df_rate_score=5, df_rate_remark="not mine")
    hashed = mine["path"].split("/")[-2]
    assert len(hashed) == 64
    for guess in (mine["path"].replace(hashed, "0" * 64), mine["path"].rsplit("/", 2)[0], str(folder), "/etc/passwd"):
        assert other.http.get(f"/gradio_api/file={guess}").status_code in (403, 404), guess


def test_a_file_of_the_machine_cannot_be_classified_by_its_path(page, lesion):
    someone, marked = visitor(page, "8.8.6.1"), {"meta": {"_type": "gradio.FileData"}}
    shown, classify = someone.chain("classify-image", "upload")[0], someone.chain("classify-run")[0]
    for given in ({"path": lesion} | marked, {"path": lesion}, {"path": f"/tmp/gradio/..{lesion}"}, lesion):
        for event in (shown, classify):
            try:
                told = json.dumps(someone.send(event, classify_image=given))
            except RuntimeError:
                continue
            assert "Choose an image first" in told and "gradio_api/file" not in told


def test_a_rating_is_kept_without_who_gave_it_and_can_be_changed(page, folder):
    someone = visitor(page, "8.8.7.1")
    someone.draw()
    first, csv, _ = someone.do("df-rate-save", df_rate_score=2, df_rate_remark="=no network")
    again, _, _ = someone.do("df-rate-save", df_rate_score=4, df_rate_remark="")
    assert "rated this image 2 of 5" in first and "4 of 5" in again
    kept = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert [one["score"] for one in kept] == [2, 4] and kept[0]["id"] == kept[1]["id"]
    text = json.dumps(kept)
    assert someone.session not in text and "8.8.7.1" not in text and "127.0.0.1" not in text
    assert "'=no network" in someone.http.get(csv["value"]["url"]).text


def test_about_says_where_ratings_are_kept_and_names_no_folder_of_the_machine_to_others(page, folder):
    told = json.dumps(visitor(page, "8.8.8.1").config)
    assert "kept with its recipe in a folder of the machine that runs this page" in told
    assert str(folder) not in told


def test_a_visitor_of_whom_nothing_can_be_kept_is_told(tiny_generator, tmp_path):
    (tmp_path / "file").write_text("")
    settings = Settings(host="127.0.0.1", port=0, feedback=str(tmp_path / "file"))
    ratings = once(lambda: open_ratings(settings.ratings, tmp_path))
    app = build_app(settings, tiny.slot(tiny_generator), once(lambda: Classifier.load("nano")), ratings)
    _, url, _ = app.launch(**launch_options(settings), prevent_thread_lock=True, quiet=True)
    try:
        someone = RawVisitor(url)
        someone.draw()
        with pytest.raises(RuntimeError, match="Ratings cannot be written to the folder"):
            someone.do("df-rate-save", df_rate_score=5, df_rate_remark="")
    finally:
        app.close()
