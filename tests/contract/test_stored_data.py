"""Every stored data set, written small in its own layout, passes verification, and a truncated picture does not."""

from functools import partial

import pytest

from hamr_lightning.data.verification import verify
from hamr_lightning.registry import build
from layouts.stored import SPLITS, write_stored


@pytest.mark.parametrize(("name", "split"), [(name, split) for name, splits in SPLITS.items() for split in splits])
def test_nothing_is_wrong_until_a_picture_is_truncated(tmp_path, name, split):
    dataset = partial(build, "dataset", name, **write_stored(name, tmp_path, split))
    report = verify(dataset, split)
    assert report.samples >= 2
    assert report.findings == ()

    source = dataset().sample(0, 0).source
    picture = next(path for path in sorted(tmp_path.rglob("*")) if path.is_file() and str(path) in source)
    picture.write_bytes(picture.read_bytes()[:-100])
    findings = verify(dataset, split).findings
    assert [(finding.kind, finding.source) for finding in findings] == [("cannot be read", "sample 0")]
    assert str(picture) in findings[0].message
