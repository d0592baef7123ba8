"""`docs/how-to/deploy.md`, run as it is printed: an exported model says what the model says."""

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy.md"
SHAPES = [(1, 3, 64, 64), (2, 3, 96, 160), (3, 3, 160, 64)]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def exported(model):
    """What the blocks of the page define, one after the other."""
    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    return names, [lambda block=block: exec(block, names) for block in blocks]


@pytest.mark.slow
def test_exported_heads_say_the_same(exported):
    names, (as_program, as_onnx) = exported
    as_program()
    expected = names["Decoded"]()
    loaded = torch.export.load("heads.pt2").module()
    images = [torch.rand(*shape, generator=torch.Generator().manual_seed(0)) for shape in SHAPES]
    for some in images:
        found, wanted = loaded(some), expected(some)
        assert found.keys() == wanted.keys() == {"depth", "semseg"}
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    as_onnx()
    for some in images:
        depth, semseg = names["session"].run(["depth", "semseg"], {"images": some.numpy()})
        wanted = expected(some)
        torch.testing.assert_close(torch.from_numpy(depth), wanted["depth"], rtol=1e-4, atol=1e-5)
        assert (torch.from_numpy(semseg) == wanted["semseg"]).float().mean() > 0.999
