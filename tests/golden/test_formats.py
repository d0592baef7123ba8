"""Files that earlier versions wrote open for ever, compute what they did, and can be changed."""

import json
import shutil
import warnings
from pathlib import Path

import pytest

from medusa_core.errors import StoreError
from medusa_core.model import open_model
from medusa_core.store import head_file
from medusa_core.store.check import check
from medusa_core.store.folder import ModelFolder
from medusa_core.store.manifest import SCHEMA_VERSION
from medusa_core.workflows.head_files import add_head, export_head
from medusa_core.workflows.heads import remove_task, rename_head
from medusa_core.workflows.verify import verify
from tests.golden import make_v1

HERE = Path(__file__).parent
DIGEST = {1: "edef59355d7613009a8e0f181acf8c4e94b93e26e7e2e3c4d6add8e948a442a7"}
"""Of all files of a format: a golden file that changes proves nothing."""

pytestmark = pytest.mark.filterwarnings("ignore::medusa_core.errors.MedusaWarning")


@pytest.fixture(params=sorted(DIGEST))
def golden(request, tmp_path) -> Path:
    return Path(shutil.copytree(HERE / f"v{request.param}", tmp_path / "golden"))


def test_every_format_is_kept():
    assert set(DIGEST) == set(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("version", sorted(DIGEST))
def test_the_files_are_as_they_were(version):
    root = HERE / f"v{version}"
    assert make_v1.digest(root) == DIGEST[version]
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 1_000_000


def test_the_script_that_wrote_them_gives_the_same_files_each_time(tmp_path):
    digests = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        make_v1.write(tmp_path / name)
        digests.append(make_v1.digest(tmp_path / name))
    assert digests[0] == digests[1]


def test_it_opens_and_computes_what_it_records(golden):
    report = verify(golden / "model")
    assert report["ok"], report["problems"]
    assert report["problems"] == []
    assert set(report["probes"]) == {"depth", "rooms_classes"}
    assert set(report["probes"].values()) <= {"equal", "close"}
    with warnings.catch_warnings():
        model = open_model(golden / "model")
    assert set(model.heads) == {"depth", "rooms_classes"}
    assert model.heads["depth"].unit == "m"
    assert model.heads["rooms_classes"].labels is not None


def test_it_can_be_changed_by_this_version(golden):
    model = golden / "model"
    added = add_head(golden / "rooms_classes.medusa", model=model, name="again")
    assert added["head"]["probe"] in ("equal", "close")
    with ModelFolder.open(model) as folder:
        assert folder.read_head_bytes("again") == folder.read_head_bytes("rooms_classes")
        assert folder.head_document("again") == folder.head_document("rooms_classes")
    rename_head("depth", "metres", model=model)
    remove_task(["again"], model=model)
    assert check(model) == []
    assert verify(model)["ok"]
    export_head("rooms_classes", golden / "new.medusa", model=model)
    old, new = (
        head_file.read(golden / "rooms_classes.medusa"),
        head_file.read(golden / "new.medusa"),
    )
    assert old == new


@pytest.mark.parametrize("file", ["model.json", "head.json"])
def test_a_newer_format_is_refused_and_names_what_to_install(golden, file):
    [path, *_] = (golden / "model").rglob(file)
    document = json.loads(path.read_text())
    document["schema_version"] = SCHEMA_VERSION + 1
    if file == "model.json":
        document["medusa_version"] = "7.3"
    else:
        document["provenance"]["versions"]["medusa"] = "7.3"
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="by medusa 7.3 in format") as caught:
        open_model(golden / "model", tasks=["depth", "rooms_classes"])
    assert "'medusa-heads>=7.3'" in caught.value.hint
