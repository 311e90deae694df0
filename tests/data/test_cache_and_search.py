from __future__ import annotations

import io
import json
import os
import sys
import types

import numpy as np
import pytest

from fedsep.core import FedSepError
from fedsep.data import cifar100, mnist, npz, parquet
from fedsep.data import imagetable as reader

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
Image = pytest.importorskip("PIL.Image")


def write(path, count=20, shade=0, kind="PNG", label="label"):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = []
    for number in range(count):
        stream = io.BytesIO()
        Image.fromarray(np.full((4, 4), shade + number, np.uint8)).save(stream, kind)
        images.append({"bytes": stream.getvalue(), "path": None})
    pq.write_table(pa.table({"image": images, label: [0, 1] * (count // 2)}), path)


@pytest.fixture
def source(tmp_path):
    write(tmp_path / "data" / "mnist" / "train-0.parquet")
    write(tmp_path / "data" / "mnist" / "test-0.parquet", 4)
    return tmp_path / "data"


@pytest.fixture
def decodings(monkeypatch):
    """How often images were decoded."""
    count = []
    decode = reader.decode

    def counted(*args, **kwargs):
        count.append(1)
        return decode(*args, **kwargs)

    monkeypatch.setattr(reader, "decode", counted)
    return count


def entries(own_cache):
    return list((own_cache / "decoded").iterdir()) if (own_cache / "decoded").exists() else []


def same(first, second):
    assert first.partition.hash == second.partition.hash
    assert (first.train.x == second.train.x).all()
    assert (first.train.all().x == second.train.all().x).all()


def test_images_are_decoded_once(source, own_cache, decodings):
    first = mnist(data_dir=source, clients=2)
    again = mnist(data_dir=source, clients=2)
    assert len(decodings) == 2
    same(first, again)
    assert len(entries(own_cache)) == 1


def test_a_changed_source_is_noticed_and_its_old_cache_deleted(source, own_cache, decodings):
    mnist(data_dir=source, clients=2)
    file = source / "mnist" / "train-0.parquet"
    times = os.stat(file)
    write(file, shade=50)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert mnist(data_dir=source, clients=2).train.x.min() >= 50
    assert len(decodings) == 4
    assert len(entries(own_cache)) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "x.npy").write_bytes((folder / "x.npy").read_bytes()[:-30]),
        lambda folder: (folder / "x.npy").write_bytes((folder / "x.npy").read_bytes()[:-1] + b"\xff"),
        lambda folder: (folder / "y.npy").write_bytes(b""),
        lambda folder: (folder / "x_test.npy").unlink(),
        lambda folder: (folder / "source.json").write_text("{"),
        lambda folder: (folder / "source.json").write_text(json.dumps({"crc": {}, "groups": [], "labels": []})),
    ],
)
def test_a_damaged_cache_is_made_again(spoil, source, own_cache, decodings):
    first = mnist(data_dir=source, clients=2)
    spoil(entries(own_cache)[0])
    same(first, mnist(data_dir=source, clients=2))
    assert len(decodings) == 4
    mnist(data_dir=source, clients=2)
    assert len(decodings) == 4


def test_without_a_writable_cache_things_work(source, own_cache, decodings):
    own_cache.write_text("a file where the folder should be")
    same(mnist(data_dir=source, clients=2), mnist(data_dir=source, clients=2))
    assert len(decodings) == 4


def test_a_cached_table_keeps_what_is_to_be_scaled_and_grouped(tmp_path, own_cache):
    from fedsep.data import csv, natural

    (tmp_path / "t.csv").write_text("a,b,s,y\n" + "".join(f"{i},{'uv'[i % 2]},{i % 3},{i % 2}\n" for i in range(30)))
    first, again = (csv(tmp_path / "t.csv", target="y", partition=natural("s")) for _ in range(2))
    assert len(entries(own_cache)) == 1
    same(first, again)
    assert again.clients == 3


def test_places_are_searched_in_order(source, tmp_path, monkeypatch, own_cache):
    for place, shade in (("env", 60), ("cache", 90), ("beside", 120)):
        write(tmp_path / place / "mnist" / "train.parquet", shade=shade)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "shared").mkdir()
    (tmp_path / "beside").rename(tmp_path / "shared" / "data")
    monkeypatch.setattr("fedsep.data.search.__file__", str(tmp_path / "x" / "fedsep" / "data" / "search.py"))
    assert mnist(clients=2).train.x.min() // 30 == 4
    own_cache.mkdir(exist_ok=True)
    (tmp_path / "cache" / "mnist").rename(own_cache / "mnist")
    assert mnist(clients=2).train.x.min() // 30 == 3
    monkeypatch.setenv("FEDSEP_DATA", str(tmp_path / "env"))
    assert mnist(clients=2).train.x.min() // 30 == 2
    assert mnist(clients=2, data_dir=source).train.x.min() == 0
    assert mnist(clients=2, data_dir=source / "mnist").train.x.min() == 0


def test_missing_data_say_where_they_were_sought_and_how_to_get_them(tmp_path, monkeypatch, own_cache):
    (tmp_path / "given" / "cifar100").mkdir(parents=True)
    monkeypatch.setenv("FEDSEP_DATA", str(tmp_path / "absent"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FedSepError) as error:
        cifar100(data_dir=tmp_path / "given")
    text = str(error.value)
    assert text.startswith("the data set cifar100 was not found. Looked in\n")
    assert f"{tmp_path / 'given' / 'cifar100'} (--data-dir): nothing readable in it" in text
    assert f"{tmp_path / 'absent'} (FEDSEP_DATA): no such folder" in text
    assert f"{own_cache} (the user's cache): no such folder" in text
    assert "(a data folder beside the checkout)" in text
    assert "--download" in text
    assert "https://huggingface.co/datasets/uoft-cs/cifar100" in text
    assert "pip install 'fedsep[hf]'" in text


def test_a_data_folder_that_is_not_there_is_a_mistake(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(FedSepError, match=r"data_dir must be a folder .* \(got '.*dat', did you mean 'data'\?\)"):
        mnist(data_dir=tmp_path / "dat")


def test_paths_are_also_looked_for_in_the_data_folders(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parquet("mnist", data_dir=source, clients=2).train.size == 20
    np.savez(source / "toy.npz", x=np.zeros((10, 2)), y=np.arange(10) % 2)
    assert npz("toy.npz", data_dir=source, clients=2).train.size == 8
    with pytest.raises(FedSepError) as error:
        npz("toys.npz", data_dir=source)
    assert f"{source / 'toys.npz'} (--data-dir): no such file or folder" in str(error.value)


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch, own_cache):
    hub = types.ModuleType("huggingface_hub")
    asked = []

    def snapshot_download(repo_id, repo_type, allow_patterns, local_dir):
        asked.append((repo_id, repo_type))
        write(local_dir / "cifar100" / "train-0.parquet", label="fine_label")

    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(FedSepError):
        cifar100(clients=2)
    assert asked == []
    assert cifar100(clients=2, download=True).train.size == 16
    assert cifar100(clients=2).train.size == 16
    assert asked == [("uoft-cs/cifar100", "dataset")]


def test_a_failed_download_is_explained(monkeypatch, own_cache):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FedSepError, match=r"cifar100: downloading needs the extra hf: pip install 'fedsep\[hf\]'"):
        cifar100(download=True)
    hub = types.ModuleType("huggingface_hub")

    def snapshot_download(**_):
        raise ConnectionError("no route to host\nand a long story")

    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(FedSepError, match=r"uoft-cs/cifar100 could not be downloaded .*\(no route to host\)"):
        cifar100(download=True)


def test_a_jpeg_copy_of_a_lossless_data_set_is_noted(tmp_path):
    write(tmp_path / "mnist" / "train.parquet", kind="JPEG")
    assert "lossy copy" in mnist(data_dir=tmp_path, clients=2).note
    assert "lossy copy" in mnist(data_dir=tmp_path, clients=2).describe()
    assert parquet(tmp_path / "mnist", clients=2).note == ""
