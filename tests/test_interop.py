"""The network against PyTorch (tests/fixtures/make_torch.py), and its weights there and back."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax.interop import from_torch_state_dict, network_of, to_torch_state_dict
from cifar_jax.models import SeparableResNet

FIXTURE = Path(__file__).parent / "fixtures" / "torch.npz"


@pytest.fixture(scope="module")
def torch():
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


def part(torch, prefix):
    return {name.removeprefix(prefix): a for name, a in torch.items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def state(torch):
    return part(torch, "state/")


@pytest.fixture(scope="module")
def variables(state):
    return from_torch_state_dict(state)


@pytest.fixture(scope="module", params=["plain", "native"])
def model(request):
    """Either way to convolve."""
    native = request.param == "native"
    lanes = request.getfixturevalue("library") if native else 0
    return SeparableResNet(dropout=0.0, lanes=lanes)


@pytest.fixture(scope="module")
def step(torch, variables, model):
    """Loss, gradients and statistics of one step, the last two under PyTorch's names."""

    def loss_fn(params, batch_stats):
        logits, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            jnp.asarray(torch["images"]),
            train=True,
            mutable=["batch_stats"],
        )
        log_p = jax.nn.log_softmax(logits)
        return -jnp.mean(log_p[np.arange(8), torch["labels"]]), updates

    grad_fn = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, updates), gradients = grad_fn(variables["params"], variables["batch_stats"])
    return loss, to_torch_state_dict({"params": gradients, **updates})


def small_variables(stages=(6, 8)):
    """Random variables of a network that has a shortcut in its first stage."""
    model = SeparableResNet(num_classes=3, stem=4, stages=stages, blocks=1)
    image = jax.ShapeDtypeStruct((1, 8, 8, 5), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), leaf.dtype), shapes
    )


def assert_same_bits(left, right):
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert left.tobytes() == right.tobytes()


def test_logits_in_evaluation(torch, variables, model):
    logits = jax.jit(model.apply)(variables, torch["images"])
    assert np.abs(torch["logits"]).max() > 1
    assert torch["logits"].std(axis=0).min() > 0.1  # the images tell
    np.testing.assert_allclose(logits, torch["logits"], rtol=0, atol=2e-5)


def test_loss_of_a_training_step(torch, step):
    np.testing.assert_allclose(step[0], torch["loss"], rtol=1e-5)


def test_gradients_of_a_training_step(torch, state, step, model):
    """Roughly the native ones: an activation is so near to zero that rounding opens its ReLU.

    They are compared closely with the plain ones in tests/models.
    """
    tolerance = 0.3 if model.lanes else 1e-4
    gradients = part(torch, "gradient/")
    assert sum(gradient.size for gradient in gradients.values()) == 150_690
    for name, gradient in gradients.items():
        largest = np.abs(gradient).max()
        np.testing.assert_allclose(
            step[1][name], gradient, rtol=0, atol=tolerance * largest, err_msg=name
        )


def running(torch, ending):
    after = {name: a for name, a in part(torch, "after/").items() if name.endswith(ending)}
    assert len(after) == 1 + 8 * 2 + 3
    return after.items()


def test_running_means_after_a_training_step(torch, state, step):
    for name, after in running(torch, "running_mean"):
        assert np.abs(after - state[name]).max() > 0.01
        np.testing.assert_allclose(step[1][name], after, rtol=0, atol=1e-5, err_msg=name)


def test_running_variances_differ_by_bessels_correction_alone(torch, state, step):
    for name, after in running(torch, "running_var"):
        stage = int(name[5]) - 1 if name.startswith("layer") else 0
        pixels = 32 >> stage
        count = 8 * pixels**2
        ours, before = step[1][name], 0.9 * state[name]
        corrected = before + (ours - before) * count / (count - 1)
        np.testing.assert_allclose(corrected, after, rtol=1e-5, err_msg=name)
        if stage == 3:
            assert np.abs(ours / after - 1).max() > 1e-4  # without it they differ


def test_torch_to_variables_and_back_is_exact(state, variables):
    back = to_torch_state_dict(variables)
    assert back.keys() == state.keys()
    for name, array in back.items():
        assert_same_bits(array, state[name])
        assert array.flags["C_CONTIGUOUS"]
        assert array.flags["WRITEABLE"]


def test_variables_to_torch_and_back_is_exact():
    variables = small_variables()
    state = to_torch_state_dict(variables)
    assert state["layer1.0.shortcut.0.weight"].shape == (6, 4, 1, 1)
    assert state["layer2.0.conv2.depthwise.weight"].shape == (8, 1, 3, 3)
    assert "layer1.1.bn1.weight" not in state
    back = from_torch_state_dict(state)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    jax.tree.map(assert_same_bits, back, variables)


def test_has_the_tree_of_init(variables):
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(SeparableResNet().init, jax.random.key(0), image)
    assert jax.tree.structure(variables) == jax.tree.structure(shapes)
    for leaf, shape in zip(jax.tree.leaves(variables), jax.tree.leaves(shapes), strict=True):
        assert isinstance(leaf, jax.Array)
        assert (leaf.shape, leaf.dtype) == (shape.shape, shape.dtype)


def test_takes_what_numpy_takes_and_needs_no_counters(state, variables):
    class Tensor:
        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return self.array

    tensors = {k: Tensor(a) for k, a in state.items() if not k.endswith("num_batches_tracked")}
    jax.tree.map(assert_same_bits, from_torch_state_dict(tensors), variables)


def test_copies(state):
    mine = {name: array.copy() for name, array in state.items()}
    variables = from_torch_state_dict(mine)
    back = to_torch_state_dict(variables)
    for array in [*mine.values(), *back.values()]:
        array[...] = 7
    jax.tree.map(assert_same_bits, variables, from_torch_state_dict(state))


def test_every_missing_name_is_told():
    state = to_torch_state_dict(small_variables(stages=(6,)))
    for name in state:
        if name.endswith("num_batches_tracked"):
            continue
        with pytest.raises(ValueError, match=rf"^{name}: must be an array .*, got no such name$"):
            from_torch_state_dict({k: a for k, a in state.items() if k != name})


def test_every_wrong_shape_is_told():
    state = to_torch_state_dict(small_variables(stages=(6,)))
    for name, array in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        wider = np.concatenate([array, array])
        with pytest.raises(ValueError, match=r"^\S+: must have shape .*, got .*\)$"):
            from_torch_state_dict({**state, name: wider})


def test_a_wrong_number_of_axes_is_told(state):
    for name in ("conv1.weight", "bn1.bias", "layer3.0.conv1.pointwise.weight", "fc.weight"):
        with pytest.raises(ValueError, match=rf"^{name}: must have .*, got .* 1\)$"):
            from_torch_state_dict({**state, name: state[name][..., None]})


@pytest.mark.parametrize(
    "name", ["layer1.0.conv3.weight", "module.fc.weight", "fc.num_batches_tracked", "conv1.bias"]
)
def test_unexpected_names_are_told(state, name):
    with pytest.raises(ValueError, match=rf"^{name}: must be a name of .*, got an array of \(2,\)"):
        from_torch_state_dict({**state, name: np.zeros(2)})


def test_names_of_more_blocks_than_arrays_cost_no_time():
    """Each stage and each block by one name; all of them would be traced for hours."""
    state = to_torch_state_dict(small_variables(stages=(6,)))
    state |= {f"layer{i}.0.conv1.pointwise.weight": np.zeros((6, 6, 1, 1)) for i in range(1, 1001)}
    state |= {f"layer1.{i}.bn1.bias": np.zeros(6) for i in range(1, 1000)}
    with pytest.raises(ValueError, match=r"^1000000 blocks must have as many arrays or more, got"):
        from_torch_state_dict(state)


def test_empty_mappings_are_told():
    for convert in (from_torch_state_dict, to_torch_state_dict):
        with pytest.raises(ValueError, match=r"^conv1\.weight: .*, got no such name$"):
            convert({})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("params/stem/gain", "got params/stem/gain"),
        ("params/norm1/scale", "got params/norm1/scale"),  # a block's layer, outside of any
        ("batch_stats/stem/kernel", "got batch_stats/stem/kernel"),
        ("params/stage1_block1/extra/head/kernel", "got params/stage1_block1/extra/head/kernel"),
        ("params/stage1_block2/norm1/scale", r"layer1\.1\.\S*: must be an array"),
    ],
)
def test_unexpected_variables_are_told(path, message):
    variables = small_variables()
    *parents, leaf = path.split("/")
    tree = variables
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[leaf] = jnp.ones(4)
    with pytest.raises(ValueError, match=message):
        to_torch_state_dict(variables)


def test_params_alone_are_not_enough(variables):
    with pytest.raises(ValueError, match=r"running_mean: must be .*, got no such name$"):
        to_torch_state_dict({"params": variables["params"]})


def test_more_stages_than_halve_an_image():
    """The original halves in each; where it does, it has a shortcut of its own."""
    model = SeparableResNet(num_classes=3, stem=4, stages=(4,) * 8, blocks=1, halvings=7)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    variables = jax.tree.map(lambda x: np.ones(x.shape, np.float32), dict(variables))
    arrays = to_torch_state_dict(variables)
    assert network_of(arrays) == model.clone(dropout=0.2)
    assert "layer8.0.shortcut.0.weight" in arrays
    chex.assert_trees_all_equal(from_torch_state_dict(arrays), variables)
