from __future__ import annotations

import numpy as np
import pytest
import torch

from fedsep.core import FedSepError
from fedsep.data import csv, natural

pytest.importorskip("pyarrow")

COLOURS, FLAGS, ANSWERS = ("blue", "red", "red"), ("false", "true"), ("no", "yes")
ROWS = [f"{i},{i * 1.5},{COLOURS[i % 3]},{FLAGS[i % 2]},s{i % 4},{ANSWERS[i % 2]}" for i in range(40)]
TABLE = "\n".join(["number,size,colour,flag,site,bought", *ROWS]) + "\n"


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "shop.csv"
    file.write_text(TABLE)
    return file


def test_columns_become_numbers(path):
    federation = csv(path, target="bought", drop=["number"], partition=natural("site"))
    assert (federation.clients, federation.shape, federation.labels) == (4, (4,), ("no", "yes"))
    rows = federation.partition.train.flat
    x = federation.train.x
    assert x[:, 0].mean() == pytest.approx(0, abs=1e-12)
    assert x[:, 0].std(correction=0) == pytest.approx(1)
    assert x[:, 1].tolist() == [float(i % 3 == 0) for i in rows]
    assert x[:, 2].tolist() == [float(i % 3 != 0) for i in rows]
    assert x[:, 3].tolist() == [float(i % 2) for i in rows]
    assert x.dtype == torch.get_default_dtype()
    for site, part in enumerate(federation.partition.train):
        assert set(part % 4) == {site}


def test_the_target_decides_what_is_learnt(path):
    assert csv(path, target="size", clients=2).train.y.is_floating_point()
    assert csv(path, target="number", clients=2).train.y.is_floating_point()
    assert csv(path, target="site", kind="classification", clients=1).classes == 4
    with pytest.raises(FedSepError, match=r"got 0\.2 of 40 samples, of no class more than one"):
        csv(path, target="number", kind="classification")
    assert csv(path, target="flag", clients=2).labels == ("False", "True")


def test_numbers_can_be_categories(path):
    assert csv(path, target="bought", drop=["size", "colour", "flag", "site"], clients=1).shape == (1,)
    categories = csv(path, target="bought", drop=["size", "colour", "flag", "site"], categorical=["number"], clients=1)
    assert categories.shape == (40,)
    assert (categories.train.x.sum(dim=1) == 1).all()


def test_missing_numbers_become_the_training_mean_and_missing_text_a_category(tmp_path):
    lines = [f"{'' if i == 3 else i},{'?' if i == 4 else 'ab'[i % 2]},{i % 2}" for i in range(20)]
    (tmp_path / "gaps.csv").write_text("\n".join(["n,c,y", *lines]))
    federation = csv(tmp_path / "gaps.csv", target="y", clients=1)
    assert federation.shape == (4,)
    assert federation.note == "1 missing numbers set to the training mean"
    partition = federation.partition
    for samples, part in ((federation.train, partition.train[0]), (federation.test, partition.test[0])):
        for row, x in zip(part, samples.x, strict=True):
            assert (x[0] == 0) == (row == 3)
            assert x[1] == float(row == 4)


def test_a_folder_with_train_and_test_and_tabs(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "train.tsv").write_text("a\ty\n" + "".join(f"{i}\t{i % 2}\n" for i in range(10)))
    (tmp_path / "t" / "test.tsv").write_text("y\ta\n" + "".join(f"{i % 2}\t{i}\n" for i in range(4)))
    federation = csv(tmp_path / "t", target="y", clients=2)
    assert (federation.train.size, federation.test.size, federation.shape) == (10, 4, (1,))
    mean, deviation = np.arange(10).mean(), np.arange(10).std()
    order = np.argsort(federation.partition.test.flat)
    assert federation.test.x[order, 0].tolist() == pytest.approx(((np.arange(4) - mean) / deviation).tolist())


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (TABLE, {"target": "bougth"}, "target must be a column of shop (got 'bougth', did you mean 'bought'?"),
        (TABLE, {"drop": ["colr"]}, "drop must be a column of shop (got 'colr', did you mean 'colour'?"),
        (TABLE, {"partition": natural("sites")}, "must be a column of shop (got 'sites', did you mean 'site'?"),
        (TABLE + "1,2\n", {}, "shop.csv: not a readable table (CSV parse error: Expected 6 columns, got 2"),
        ("", {}, "shop.csv: not a readable table (Empty CSV file)"),
        (b"a,bought\n\xff\xfe\x00\x00,1\n\xff,2\n", {}, "column 'a' is not text in UTF-8"),
        ("a,a,bought\n1,2,3\n", {}, "column 'a' occurs more than once in the header"),
        ("a,bought\n1,\n2,3\n", {}, "target 'bought' is missing in 1 rows, the first is row 1"),
        ("bought\n1\n2\n", {}, "there are no input columns beside bought"),
        (TABLE, {"delimiter": ",,"}, "delimiter must be one character"),
        (
            "a,bought\n" + "".join(f"{i}.5,1\n" for i in range(300)) + "oops,0\n", {},
            "column 'a' has 301 different values, and 1 of them are no numbers, the first 'oops' in row 301",
        ),
        ("a,bought\n" + "".join(f"name{i},{i % 2}\n" for i in range(300)), {}, "too many for categories (at most 256)"),
        (TABLE, {"target": "colour", "kind": "regression"}, "must be finite numbers for a regression"),
    ],
)  # fmt: skip
def test_spoilt_tables_are_refused(text, more, words, path):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FedSepError) as error:
        csv(path, **{"target": "bought", **more})
    assert words in str(error.value)
