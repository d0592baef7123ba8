import numpy as np
import pytest
import torch
from medusa_gravity import plugin
from medusa_gravity.plugin import GRAVITY
from medusa_gravity.task import Gravity, TiltErrors
from medusa_gravity.up import pitch_and_roll, up_direction

from medusa_core.api import Sample
from medusa_core.testing import plugin_host, task_checks
from medusa_core.testing.fakes import fake_image


def turned(pitch: float, roll: float) -> np.ndarray:
    """What turns directions of the world (y up) into those of a camera, for degrees."""
    p, r = np.radians((pitch, roll))
    nod = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    lean = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return lean @ nod


def room(size: tuple[int, int], camera: np.ndarray) -> np.ndarray:
    """Normals of a floor below two walls, seen by a camera; the first rows were not measured."""
    normals = np.zeros((*size, 3))
    normals[:, : size[1] // 2] = (1, 0, 0)
    normals[:, size[1] // 2 :] = (0, 0, 1)
    normals[size[0] // 2 :] = (0, 1, 0)
    normals = normals @ camera.T
    normals[:3] = 0
    return normals.astype(np.float32)


def sample(size: tuple[int, int], seed: int) -> Sample:
    camera = turned(8 * seed - 10, 5 - 4 * seed)
    return Sample(f"room-{seed}", fake_image(size, seed), {"normals": room(size, camera)})


def measured(size: tuple[int, int], seed: int) -> Sample:
    up = (9.81 * turned(8 * seed - 10, 5 - 4 * seed)[:, 1]).astype(np.float32)
    return Sample(f"phone-{seed}", fake_image(size, seed), {"gravity": up})


@task_checks(plugin, "gravity", sample=sample)
def test_gravity_keeps_the_contract(check):
    check()


@task_checks(plugin, "gravity_measured", sample=measured)
def test_measured_gravity_keeps_the_contract(check):
    check()


@pytest.mark.parametrize("pitch", [-35, -12, 0, 7, 30])
@pytest.mark.parametrize("roll", [-25, 0, 3, 20])
def test_the_direction_is_found_however_the_camera_is_held(pitch, roll):
    up = up_direction(room((48, 64), turned(pitch, roll)))
    assert np.linalg.norm(up) == pytest.approx(1, abs=1e-6)
    assert pitch_and_roll(up) == pytest.approx((pitch, roll), abs=0.01)


def test_noise_and_other_surfaces_do_not_lead_it_astray():
    noise = np.random.default_rng(0)
    normals = room((96, 128), turned(6, -4)) + noise.normal(0, 0.1, (96, 128, 3))
    normals[:, 40:60] = noise.normal(size=(96, 20, 3))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    assert pitch_and_roll(up_direction(normals.astype(np.float32))) == pytest.approx(
        (6, -4), abs=1.5
    )


def test_without_a_level_surface_there_is_no_target():
    assert not up_direction(np.zeros((20, 30, 3), np.float32)).any()
    walls = np.zeros((20, 30, 3), np.float32)
    walls[:, :15, 0] = walls[:, 15:, 2] = 1
    assert not up_direction(walls).any()


def test_mirrored_normals_give_the_mirrored_direction():
    normals = room((48, 64), turned(-9, 14))
    mirrored = normals[:, ::-1] * np.array([-1, 1, 1], np.float32)
    expected = up_direction(normals) * np.array([-1, 1, 1])
    assert np.allclose(up_direction(mirrored), expected, atol=1e-5)


def ups(*cameras: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([camera[:, 1] for camera in cameras]).astype(np.float32))


def test_errors_are_those_of_pitch_and_roll():
    true = ups(turned(10, 0), turned(0, 170), turned(0, 0))
    found = ups(turned(4, 0), turned(0, -170), turned(50, 50))
    rows = TiltErrors().statistics(found, true, torch.tensor([True, True, False]))
    figures = TiltErrors().compute(rows.sum(0))
    assert figures["pitch_error"] == pytest.approx(3, abs=1e-3)
    assert figures["roll_error"] == pytest.approx(10, abs=1e-3)
    assert figures["mean_angle"] == pytest.approx(13, abs=1e-3)


def test_an_unknown_direction_can_be_drawn():
    image = fake_image((200, 300))
    assert Gravity(GRAVITY).render(image, np.zeros(3, np.float32)).shape == (200, 300, 3)


def test_the_plugin_loads_on_its_own():
    assert plugin_host(plugin).tasks.names == ("gravity", "gravity_measured")
