"""`docs/how-to/deploy.md`, run as it is printed: an exported model says what the model says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy.md"
COMPARED = """
images = [torch.rand(*s) for s in ((1, 3, 64, 64), (2, 3, 96, 160), (3, 3, 160, 64))]
loaded, expected = torch.export.load("heads.pt2").module(), Decoded()
for some in images:
    found, wanted = loaded(some), expected(some)
    assert found.keys() == wanted.keys() == {"depth", "semseg"}
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    depth, semseg = session.run(["depth", "semseg"], {"images": some.numpy()})
    torch.testing.assert_close(torch.from_numpy(depth), wanted["depth"], rtol=1e-4, atol=1e-5)
    assert (torch.from_numpy(semseg) == wanted["semseg"]).float().mean() > 0.999
print("alike")
"""


@pytest.mark.slow
def test_exported_heads_say_the_same(model):
    """In a process of its own: its threads would be in the way of tests that fork."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 2
    script = "\n".join([*blocks, COMPARED])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=model.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("alike\n"), done.stderr
