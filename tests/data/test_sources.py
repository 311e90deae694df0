from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch

from fedsep.core import FedSepError
from fedsep.data import arrays, classes, dataset, folder, natural, npz, parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
Image = pytest.importorskip("PIL.Image")


def pixels(count, size=(5, 6), channels=1, seed=0):
    shape = (count, *size) if channels == 1 else (count, *size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def table(images, labels, image="image", label="label", names=("cat", "dog"), kind="PNG", **columns):
    """A table as Hugging Face's libraries write it."""
    held = {image: [{"bytes": encoded(i, kind), "path": None} for i in images], label: labels, **columns}
    features = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": list(names)}}
    found = pa.table(held)
    return found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def written(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(found, path)
    return path


def in_order(federation):
    """Training images and labels back in the order of the source."""
    order = np.argsort(federation.partition.train.flat)
    return federation.train.x.numpy()[order], federation.train.y.numpy()[order]


def test_a_parquet_folder_is_read_as_it_was_written(tmp_path):
    train, test = pixels(20), pixels(8, seed=1)
    written(tmp_path / "toy" / "data" / "train-00000-of-00002.parquet", table(train[:12], [0, 1] * 6))
    written(tmp_path / "toy" / "data" / "train-00001-of-00002.parquet", table(train[12:], [1, 0] * 4))
    written(tmp_path / "toy" / "data" / "test-00000-of-00001.parquet", table(test, [0, 1] * 4))
    federation = parquet(tmp_path / "toy", clients=2)
    x, y = in_order(federation)
    assert (x[:, 0] == train).all()
    assert y.tolist() == [0, 1] * 6 + [1, 0] * 4
    assert federation.test.size == 8
    assert federation.labels == ("cat", "dog")
    assert federation.name == "toy"
    assert federation.note == ""
    assert federation.shape == (1, 5, 6)


def test_colour_stays_colour_and_one_colour_image_makes_all_colour(tmp_path):
    colour = pixels(6, channels=3)
    written(tmp_path / "toy" / "train.parquet", table(colour, [0, 1] * 3))
    assert (in_order(parquet(tmp_path / "toy", clients=1, test=0.3))[0].shape[1:]) == (3, 5, 6)
    mixed = [*pixels(5), colour[0]]
    written(tmp_path / "mixed" / "train.parquet", table(mixed, [0, 1] * 3))
    assert parquet(tmp_path / "mixed", clients=1).shape == (3, 5, 6)


@pytest.mark.parametrize("place", ["train/0.parquet", "default/train/0000.parquet", "a-train.parquet", "0000.parquet"])
def test_files_are_found_wherever_they_lie(place, tmp_path):
    written(tmp_path / place, table(pixels(10), [0, 1] * 5))
    written(tmp_path / "validation" / "0.parquet", table(pixels(4), [0, 1] * 2))
    federation = parquet(tmp_path, clients=1)
    assert (federation.train.size, federation.test.size) == (10, 4)


def test_a_file_alone_gives_a_stratified_test_part(tmp_path):
    path = written(tmp_path / "toy.parquet", table(pixels(40), [0] * 30 + [1] * 10))
    federation = parquet(path, clients=2, test=0.2)
    assert np.bincount(federation.test.y).tolist() == [6, 2]


def test_columns_are_told_by_type_or_named(tmp_path):
    found = pa.table({
        "picture": [encoded(i) for i in pixels(10)], "kind": ["b", "a"] * 5, "where": ["x"] * 10,
    })  # fmt: skip
    path = written(tmp_path / "toy.parquet", found)
    with pytest.raises(FedSepError) as error:
        parquet(path)
    assert "label must name a column of toy: which one cannot be told (kind, where could be it)" in str(error.value)
    with pytest.raises(FedSepError, match=r"label must be a column of toy \(got 'kin', did you mean 'kind'\?"):
        parquet(path, label="kin")
    federation = parquet(path, label="kind", clients=1)
    assert federation.labels == ("a", "b")
    assert in_order(parquet(path, label="kind", clients=1))[1].sum() == 4


def test_a_column_of_groups_makes_natural_clients(tmp_path):
    path = written(tmp_path / "toy.parquet", table(pixels(20), [0, 1] * 10, writer=["a", "b", "b", "c"] * 5))
    federation = parquet(path, partition=natural("writer"))
    assert federation.clients == 3
    assert federation.partition.train.sizes.tolist() == pytest.approx([4, 8, 4], abs=2)
    with pytest.raises(FedSepError, match=r"natural: column must be a column of toy .*did you mean 'writer'"):
        parquet(path, partition=natural("writr"))


def test_images_of_different_sizes_need_a_size(tmp_path):
    mixed = [*pixels(5), *pixels(5, size=(7, 7))]
    path = written(tmp_path / "toy.parquet", table(mixed, [0, 1] * 5))
    with pytest.raises(FedSepError, match="image 5 is 7 x 7 pixels, the first one 5 x 6: give size=6 to resize all"):
        parquet(path)
    assert parquet(path, size=8, clients=1).shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-100]), "toy.parquet: not a readable parquet file"),
        (lambda p: p.write_bytes(b""), "toy.parquet: not a readable parquet file"),
        (lambda p: written(p, table(pixels(4), [0, 1, 2, 0])), "classes outside of 0 .. 1 (got 2, 1 times)"),
        (lambda p: written(p, table(pixels(4), [0, 1, None, 0])), "'label' has 1 missing values, the first in row 2"),
        (lambda p: written(p, _with_bad_image()), "toy: image 1 is not a readable image"),
        (lambda p: written(p, pa.table({"a": [1.0]})), "image must name a column of toy"),
        (lambda p: p.unlink(), "path must be a file or folder that exists"),
    ],
)
def test_spoilt_parquet_is_refused(spoil, words, tmp_path):
    path = written(tmp_path / "toy.parquet", table(pixels(10), [0, 1] * 5))
    spoil(path)
    with pytest.raises(FedSepError) as error:
        parquet(path)
    assert words in str(error.value)


def _with_bad_image():
    found = table(pixels(3), [0, 1, 0])
    images = found["image"].to_pylist()
    images[1]["bytes"] = b"\x89PNG\r\n\x1a\nnothing"
    return found.set_column(0, "image", pa.array(images))


def test_an_empty_folder_and_a_near_miss_are_named(tmp_path):
    (tmp_path / "toys").mkdir()
    with pytest.raises(FedSepError, match=r"toys: the folder has no \.parquet file"):
        parquet(tmp_path / "toys")
    with pytest.raises(FedSepError, match=r"got '.*toyz', did you mean 'toys'\?"):
        parquet(tmp_path / "toyz")


def test_images_in_one_folder_per_class(tmp_path):
    images = pixels(12, channels=3)
    for number, image in enumerate(images):
        path = tmp_path / "pets" / "train" / ("cat", "dog", "eel")[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image))
    flat = folder(tmp_path / "pets" / "train", clients=1)
    assert flat.labels == ("cat", "dog", "eel")
    test = tmp_path / "pets" / "test" / "dog" / "1.png"
    test.parent.mkdir(parents=True)
    test.write_bytes(encoded(images[1]))
    federation = folder(tmp_path / "pets", clients=2, partition=classes(3))
    assert (federation.name, federation.train.size, federation.test.y.tolist()) == ("pets", 12, [1])
    x, y = in_order(federation)
    assert y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (x[1] == images[3].transpose(2, 0, 1)).all()


def test_spoilt_image_folders_are_refused(tmp_path):
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    with pytest.raises(FedSepError, match="there are no images in folders inside it"):
        folder(tmp_path / "pets")
    bad = tmp_path / "pets" / "cat" / "1.png"
    bad.write_bytes(b"no image")
    with pytest.raises(FedSepError, match=r"cat/1\.png is not a readable image"):
        folder(tmp_path / "pets")
    with pytest.raises(FedSepError, match=r"path must be a folder .*got the file"):
        folder(bad)
    bad.write_bytes(encoded(pixels(1)[0]))
    (tmp_path / "pets" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "test" / "cow").mkdir(parents=True)
    (tmp_path / "pets" / "train" / "cat" / "1.png").write_bytes(encoded(pixels(1)[0]))
    (tmp_path / "pets" / "test" / "cow" / "1.png").write_bytes(encoded(pixels(1)[0]))
    with pytest.raises(FedSepError, match="class 'cow' has no folder in"):
        folder(tmp_path / "pets")


@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test", "y_test"), ("x", "y")])
def test_npz(names, tmp_path):
    held = dict(zip(names, (pixels(20), np.arange(20) % 2, pixels(5), np.zeros(5, int)), strict=False))
    np.savez_compressed(tmp_path / "toy.npz", **held)
    federation = npz(tmp_path / "toy.npz", clients=2)
    assert federation.shape == (1, 5, 6)
    assert (federation.train.size, federation.test.size) == ((20, 5) if len(names) == 4 else (16, 4))


def test_npz_with_groups(tmp_path):
    np.savez(tmp_path / "toy.npz", x=pixels(20), y=np.arange(20) % 2, site=np.arange(20) % 5)
    assert npz(tmp_path / "toy.npz", partition=natural("site")).clients == 5
    with pytest.raises(FedSepError, match="natural: toy has no column 'sites'"):
        npz(tmp_path / "toy.npz", partition=natural("sites"))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p: p.write_bytes(b"PK\x03\x04 broken"), "not a readable .npz file"),
        (lambda p: p.write_bytes(b""), "not a readable .npz file"),
        (lambda p: p.write_bytes(b"junk"), "(it is no zip archive, or an incomplete one)"),
        (lambda p: np.savez(p, x=np.array([{}], dtype=object), y=[0]), "not a readable .npz file of plain arrays"),
        (lambda p: np.savez(p, a=[0]), "needs the arrays x_train, y_train, x_test, y_test, or x and y (got a)"),
        (lambda p: np.savez(p, x_train=[0], y_train=[0], x_test=[0]), "needs the arrays"),
        (lambda p: np.savez(p, x=np.zeros((3, 2)), y=np.zeros(4, int)), "x has 3 samples but there are 4 targets"),
        (lambda p: np.savez(p, x=np.zeros((0, 2)), y=np.zeros(0, int)), "there are no training samples"),
        (lambda p: np.savez(p, x=[[np.nan], [1]], y=[0, 1]), "toy: x has 1 values that are not finite"),
    ],
)
def test_spoilt_npz_is_refused(write, words, tmp_path):
    write(tmp_path / "toy.npz")
    with pytest.raises(FedSepError) as error:
        npz(tmp_path / "toy.npz")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (pixels(20), (1, 5, 6)),
        (pixels(20, channels=3), (3, 5, 6)),
        (pixels(20, channels=3).transpose(0, 3, 1, 2), (3, 5, 6)),
        (pixels(20).astype(np.int64), (1, 5, 6)),
        (np.ones((20, 7)), (7,)),
        (np.ones(20), (1,)),
        (np.ones((20, 5, 6)), (5, 6)),
        (torch.ones(20, 1, 5, 6), (1, 5, 6)),
    ],
)
def test_arrays_of_any_layout(x, shape):
    federation = arrays(x, np.arange(20) % 2, clients=2)
    assert federation.shape == shape
    assert (federation.train.x.dtype == torch.uint8) == (len(shape) == 3 and not torch.is_tensor(x))


def test_classes_of_any_type_are_numbered_in_order():
    x = np.arange(20.0)[:, None]
    assert arrays(x, np.array(["b", "a"] * 10), clients=1).labels == ("a", "b")
    assert arrays(x, np.array([7, 3] * 10), clients=1).labels == ("3", "7")
    assert arrays(x, np.array([True, False] * 10), clients=1).classes == 2
    assert arrays(x, np.array([7.0, 3.0] * 10), clients=1, kind="classification").labels == ("3", "7")
    assert arrays(x, np.arange(20), clients=1, kind="regression").train.y.is_floating_point()


@pytest.mark.parametrize(
    ("x", "y", "more", "words"),
    [
        (np.zeros((4, 2)), np.zeros((4, 2), int), {}, "must be one class per sample, of shape (n,)"),
        ([[1, 2], [3]], [0, 1], {}, "x must be a rectangular array"),
        (np.array(["a", "b"]), [0, 1], {}, "x must be an array of numbers"),
        (np.zeros((4, 2)), [0, 1, 0, 1], {"x_test": np.zeros((2, 3)), "y_test": [0, 1]}, "test inputs have shape (3,)"),
        (np.zeros((4, 2)), [0.0, np.inf, 1, 2], {}, "must be finite numbers for a regression"),
        (np.zeros((4, 2)), [0, 1, 0, 1], {"groups": {"g": [1, 2]}}, "groups must have one value per training sample"),
        (np.zeros((2, 2)), [0, 1], {}, "test must hold out at least one sample"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(x, y, more, words):
    with pytest.raises(FedSepError) as error:
        arrays(x, np.array(y), **more)
    assert words in str(error.value)


class Feature:
    def __init__(self, names):
        self.names = names


class ClassLabel(Feature):
    pass


class FakeDataset:
    """As much of ``datasets.Dataset`` as is used."""

    def __init__(self, found):
        self.found = found.replace_schema_metadata(None)
        self.features = {"image": type("Image", (), {})(), "label": ClassLabel(["cat", "dog"])}

    def with_format(self, kind):
        assert kind == "arrow"
        return self

    def __getitem__(self, rows):
        return self.found


def test_a_hugging_face_dataset_is_taken_by_its_looks():
    train, test = FakeDataset(table(pixels(20), [0, 1] * 10)), FakeDataset(table(pixels(4), [0, 1] * 2))
    federation = dataset({"train": train, "test": test}, clients=2)
    assert (federation.train.size, federation.test.size, federation.labels) == (20, 4, ("cat", "dog"))
    assert dataset(train, clients=2).test.size == 4
    assert dataset(train, test_set=test, clients=2).train.size == 20
    with pytest.raises(FedSepError, match=r"dataset must be a Hugging Face Dataset.* \(got list\)"):
        dataset([1, 2])
    with pytest.raises(FedSepError, match=r"must have a split called train \(got dev\)"):
        dataset({"dev": train})


def test_a_real_hugging_face_dataset():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    images = pixels(20)
    held = {"image": [{"bytes": encoded(i), "path": None} for i in images], "label": [0, 1] * 10}
    federation = dataset(datasets.Dataset.from_dict(held, features=features), clients=1)
    assert federation.labels == ("cat", "dog")
    assert (federation.train.x.numpy()[:, 0] == images[federation.partition.train[0]]).all()
