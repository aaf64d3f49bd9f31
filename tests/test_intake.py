"""Images of folders and ZIPs by name: which are read, and what they are called."""

from sample_files import PNG, archive

from dermaflux.errors import InputError
from dermaflux.intake import opened


def test_of_a_folder_hidden_files_and_what_a_screen_rejected_are_passed_over(tmp_path):
    drawn = tmp_path / "drawn"
    for name in ("a.png", "._a.png", ".cache/b.png", "deeper/c.png", "rejected/d.png", "deeper/rejected/e.png"):
        (drawn / name).parent.mkdir(parents=True, exist_ok=True)
        (drawn / name).write_bytes(PNG)
    (drawn / "manifest.csv").write_text("file,label\na.png,benign\n")
    found = dict(opened([drawn]))
    assert list(found) == [str(drawn / name) for name in ("a.png", "deeper/c.png", "deeper/rejected/e.png")]
    assert not any(isinstance(image, InputError) for image in found.values())
    assert [name for name, _ in opened([drawn / "rejected"])] == [str(drawn / "rejected" / "d.png")]
    assert [name for name, _ in opened([drawn / ".cache"])] == [str(drawn / ".cache" / "b.png")]


def test_images_of_a_zip_are_named_by_their_place_in_it(tmp_path):
    path = tmp_path / "z.zip"
    path.write_bytes(archive({"patient1/img.png": PNG, "patient2/img.png": PNG}))
    assert [name for name, _ in opened([path])] == [f"{path}/patient1/img.png", f"{path}/patient2/img.png"]
