"""Pictures of trainings, as PNG files."""

import numpy as np
import pytest

from rnnfast import plot
from rnnfast.history import History

pytest.importorskip("matplotlib", reason="draws pictures")


def history(losses=9):
    kept = History()
    for step in range(1, losses + 1):
        kept.add_loss(step, 1.0 / step, losses)
    kept.add_evaluation(4, {"bits": 0.5, "share": 0.1})
    kept.add_evaluation(9, {"bits": 0.25, "share": 0.7})
    return kept


@pytest.fixture
def drawn(monkeypatch):
    """The figures written, as they are written."""
    figures, write = [], plot.write

    def keep(figure, path):
        figures.append(figure)
        return write(figure, path)

    monkeypatch.setattr(plot, "write", keep)
    return figures


def shown(path):
    from matplotlib.image import imread

    picture = imread(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert picture[..., :3].std() > 0.01  # something is drawn
    return picture.shape


def test_curves_have_the_losses_and_each_figure(tmp_path, drawn):
    path = tmp_path / "curves.png"
    assert plot.curves(history(), "text", path) == path
    shown(path)
    first, second, third = drawn[0].axes
    np.testing.assert_allclose(first.lines[0].get_xydata(), history().losses)
    assert first.get_title() == "text"
    np.testing.assert_allclose(second.lines[0].get_xydata(), [(4, 0.5), (9, 0.25)])
    np.testing.assert_allclose(third.lines[0].get_xydata(), [(4, 0.1), (9, 0.7)])
    labels = [axes.get_ylabel() for axes in drawn[0].axes]
    assert labels == ["training loss", "bits", "share"]
    assert third.get_xlabel() == "step"


def test_curves_without_losses(tmp_path, drawn):
    plot.curves(history(losses=0), "text", tmp_path / "curves.png")
    shown(tmp_path / "curves.png")
    assert len(drawn[0].axes[0].lines[0].get_xydata()) == 0


def test_a_confusion_matrix_tells_the_counts(tmp_path, drawn):
    counts = np.array([[50, 3, 0], [1234, 7, 9], [0, 0, 0]])
    path = tmp_path / "confusion.png"
    assert plot.confusion(counts, ("no", "perhaps", "yes"), path) == path
    shown(path)
    (axes,) = drawn[0].axes
    written = {t.get_position(): t.get_text() for t in axes.texts}
    assert written == {(c, r): f"{counts[r, c]:,}" for r in range(3) for c in range(3)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [t.get_text() for t in axes.get_yticklabels()] == ["no", "perhaps", "yes"]
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares[:2].sum(axis=1), 1.0)
    assert not shares[2].any()


def test_pictures_replace_at_once(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    plot.curves(history(), "text", path)
    kept = path.read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        plot.curves(history(), "other", path)
    assert path.read_bytes() == kept
    assert [entry.name for entry in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize("count", [2, 60])
def test_any_labels_can_be_drawn(tmp_path, count):
    labels = tuple(f"a$^$b_{{{i}" for i in range(count))
    path = plot.confusion(np.ones((count, count), np.int64), labels, tmp_path / "confusion.png")
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20], "big") < 2500
