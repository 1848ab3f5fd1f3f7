"""InversionNet and VelocityGAN: turns, resumption, averages, what one process alone can train, and that they learn."""

import numpy as np
import pytest
import torch

from pullback.core.context import Context
from pullback.diffusion.checkpoint import load_artifact
from pullback.diffusion.share import Noise, Share
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.fields import Field
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.amortised.model import AmortisedModel
from pullback.methods.amortised.velocity_gan import VelocityGan
from pullback.methods.train import RunError, train
from pullback.problems.fwi import Fwi
from pullback.simulators.wave_settings import FwiSimulator
from pullback.study.base import canonical
from pullback.study.kinds import PointInfer, parse

torch.set_num_threads(1)

X = Field.array("x", ("depth", "offset"), (8, 8), "m/s", low=(-9.0,), high=(9.0,))
Y = Field.array("y", ("source", "time", "receiver"), (2, 24, 8), "1")
MAP = np.random.default_rng(9).standard_normal((64, 2 * 24 * 8)) / 8


def write(path, sizes, seed=0):
    """Images of three modes and their linear gathers; ensembles of the given sizes."""
    rng = np.random.default_rng(seed)
    modes = np.random.default_rng(8).standard_normal((3, 64))
    x = rng.standard_normal((sum(sizes), 3)) @ modes
    with EnsembleWriter(path, x=X, y=Y, spec="{}") as writer:
        writer.append((x @ MAP).reshape(-1, *Y.shape), np.arange(len(x)), x=x.reshape(-1, 8, 8))
        if len(sizes) > 1:
            edges = np.concatenate([[0], np.cumsum(sizes)])
            writer.ensembles(edges, np.zeros((len(sizes), 1)), ["none"])
    return EnsembleReader(path)


TRAIN = {
    "steps": 20, "sets_per_step": 1, "set_size": [16, 16],
    "validate_every": 6, "checkpoint_every": 5, "learning_rate": 2e-3,
    "ema": 0.9,
}  # fmt: skip


def spec(kind="velocity-gan", **more):
    network = {"kind": "inversion-net", "width": 4}
    own = {"critic_steps": 2, "critic_width": 4} if kind == "velocity-gan" else {"loss": "l1-l2"}
    settings = {**TRAIN, **more.pop("train", {})}
    return parse("methods", {"kind": kind, "network": network, **own, **more, "train": settings})


def model_of(spec, progress=None):
    cls = VelocityGan if spec.kind == "velocity-gan" else AmortisedModel
    more = {"progress": progress} if progress else {}
    return cls(spec, None, Context(("study", "toy", spec.kind, 0), threads=1, accelerator="cpu", **more))


def make_data(folder, sizes=(200,)):
    folder.mkdir(exist_ok=True)
    files = [write(folder / f"{name}.h5", sizes, seed) for seed, name in enumerate(("train", "validation"))]
    return TrainingData([files[0]], [files[1]], 100)


def train_here(folder, spec, dies_at=None, sizes=(200,)):
    def progress(iterable, total=None, label=""):
        for step in iterable:
            if step == dies_at:
                raise KeyboardInterrupt
            yield step

    job = TrainPaths(folder / "model.pt", folder / "curves.csv", folder / "checkpoints")
    model_of(spec, progress).train(make_data(folder, sizes), job)
    return job


def ready(folder, spec, sizes=(200,)):
    """A new network, its loss, and the data as networks see them."""
    method, data = model_of(spec), make_data(folder, sizes)
    scaling = data.fit_scaling(np.random.default_rng(0))
    data.use(scaling)
    return method._build(scaling, None), method._loss(), data


def draw(data, split="train", sets=1, size=16):
    return data.sets(np.random.default_rng(3), sets, (size, size), split).tensors("cpu")


def noise():
    return Noise(4, Share(1))


def test_critic_and_generator_take_turns(tmp_path):
    """Of three steps two are the critic's and the third is the generator's; each moves its own weights only."""
    net, loss, data = ready(tmp_path, spec())
    sets = draw(data)
    turns = []
    for _ in range(9):
        net.zero_grad(set_to_none=True)
        loss(net, sets, noise())[0].backward()
        with_gradient = {name.partition(".")[0] for name, p in net.named_parameters() if p.grad is not None}
        assert len(with_gradient) == 1
        turns += with_gradient
    assert turns == ["critic", "critic", "network"] * 3


def test_losses_are_those_of_the_paper(tmp_path):
    """Each written out here: E[D(G(y))] - E[D(x)] + 10 E[(|grad D| - 1)^2], then 100 l1 + 100 l2 - E[D(G(y))]."""
    net, loss, data = ready(tmp_path, spec(critic_steps=1))
    sets = draw(data)
    x, y = sets["x"][0], sets["y"][0]
    made = net.network(x, torch.zeros(1), y).detach()
    place = noise().uniform((1, 16))[0][:, None, None]
    between = (place * x + (1 - place) * made).requires_grad_()
    (slope,) = torch.autograd.grad(net.critic(between).sum(), between)
    penalty = (slope.square().sum(dim=(1, 2)).sqrt() - 1).square()
    wanted = net.critic(made).mean() - net.critic(x).mean() + 10 * penalty.mean()
    total, count = loss(net, sets, noise())
    assert count == 16
    torch.testing.assert_close(total / count, wanted)
    total, count = loss(net, sets, noise())
    error = 100 * (made - x).abs().mean() + 100 * (made - x).square().mean()
    torch.testing.assert_close(total / count, error - net.critic(made).mean())


def test_validation_does_not_ask_the_critic(tmp_path):
    net, loss, data = ready(tmp_path, spec())
    net.eval()
    sets = draw(data, "validation")
    with torch.no_grad():
        made = net.network(sets["x"][0], torch.zeros(1), sets["y"][0])
        wanted = 100 * (made - sets["x"][0]).abs().mean() + 100 * (made - sets["x"][0]).square().mean()
        for _ in range(4):
            for parameter in net.critic.parameters():
                parameter.normal_()
            total, count = loss(net, sets, noise())
            torch.testing.assert_close(total / count, wanted)
    assert int(net.turn) == 0


@pytest.mark.parametrize("kind", ["velocity-gan", "regression"])
def test_killed_in_the_middle_of_a_turn_it_goes_on_bit_for_bit(tmp_path, kind):
    """Checkpoints of steps 5 and 10 of turns of three."""
    whole = train_here(tmp_path / "whole", spec(kind))
    folder = tmp_path / "killed"
    for step in (7, 12):
        with pytest.raises(KeyboardInterrupt):
            train_here(folder, spec(kind), dies_at=step)
        assert not (folder / "model.pt").exists()
        assert any((folder / "checkpoints").iterdir())
    again = train_here(folder, spec(kind))
    assert again.artifact.read_bytes() == whole.artifact.read_bytes()
    assert again.curves.read_text() == whole.curves.read_text()


def test_averaged_statistics_are_those_of_averaged_weights(tmp_path):
    """What each layer of the kept network normalises by is what it sees: means to 0.2 standard deviations, variances to
    30 % (of a batch of 16, by which they were estimated, 25 and 35 %)."""
    job = train_here(tmp_path, spec("regression", train={"steps": 150, "ema": 0.98, "validate_every": 50}))
    weights, meta = load_artifact(job.artifact)
    assert meta["kept"]["step"] > 100
    net, _, data = ready(tmp_path / "again", spec("regression"))
    net.load_state_dict(weights)
    net.eval()
    seen = {}
    layers = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for layer in layers:
        layer.register_forward_hook(lambda m, given, _: seen.update({m: given[0].detach()}))
    sets = draw(data, size=200)
    net.network(sets["x"][0], torch.zeros(1), sets["y"][0])
    assert len(seen) == len(layers) > 5
    for layer, values in seen.items():
        mean, variance = values.mean(dim=(0, 2, 3)), values.var(dim=(0, 2, 3))
        assert ((mean - layer.running_mean).abs() / variance.sqrt()).median() < 0.2
        assert (layer.running_var / variance).log().abs().median() < np.log(1.3)


class Counted(Noise):
    """The same numbers for the same members, however they are cut into sets of 16."""

    def uniform(self, shape):
        return (torch.arange(shape[0] * shape[1]) / 40).reshape(shape)


@pytest.mark.parametrize("kind", ["velocity-gan", "regression"])
def test_padding_does_not_enter_batch_statistics(tmp_path, kind):
    """Two sets, of which one has 5 members beside 11 of padding: as the 21 members alone."""
    found = []
    for padded in (True, False):
        net, loss, data = ready(tmp_path, spec(kind))
        one, other = draw(data, size=16), draw(data, split="validation", size=5)
        if padded:
            rest = {"x": torch.zeros(1, 11, 8, 8), "y": torch.zeros(1, 11, *Y.shape), "mask": torch.zeros(1, 11) > 0}
            other = {name: torch.cat([other[name], rest[name]], dim=1) for name in rest}
            sets = {name: torch.cat([one[name], other[name]]) for name in rest}
        else:
            sets = {name: torch.cat([one[name], other[name]], dim=1) for name in ("x", "y", "mask")}
        total, count = loss(net, sets, Counted(4, Share(len(sets["x"]))))
        assert count == 21
        found.append((total.detach(), {k: v.clone() for k, v in net.state_dict().items() if "running" in k}))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    for name, value in found[0][1].items():
        torch.testing.assert_close(value, found[1][1][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ({"kind": "velocity-gan", "network": {"kind": "unet"}}, "its generator and its critic learn in turns"),
        (
            {"kind": "regression", "network": {"kind": "inversion-net"}},
            "inversion-net normalises over all events of a step",
        ),
    ],
)
def test_several_processes_are_refused_before_they_start(tmp_path, method, reason):
    problem = {"kind": "fwi", "simulator": {}}
    job = {"address": [0], "problem": problem, "threads": 1, "accelerator": "cpu", "method": method}
    files = {name: tmp_path / name for name in ("artifact", "curves", "checkpoints")}
    says = f"{method['kind']} trains in one process, as {reason}; found 2 processes: ask for one GPU"
    with pytest.raises(RunError) as error:
        train(canonical(job), [], [], **files, code="{}", processes=2)
    assert str(error.value) == says
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    """Velocities that rise with depth, and their gathers: 250 models to learn from, 40 to judge by."""
    folder = tmp_path_factory.mktemp("gradients")
    problem = Fwi(FwiSimulator(boundary="sponge", absorbing_cells=28))
    files = {}
    for seed, (name, events) in enumerate({"train": 250, "validation": 40, "test": 40}.items()):
        rng = np.random.default_rng(seed)
        x = problem.sample_prior(rng, events, {"geology": "gradient"})
        y, ok = problem.apply(x)
        assert ok.all()
        with EnsembleWriter(folder / f"{name}.h5", x=problem.x, y=problem.y, spec="{}") as writer:
            writer.append(y, np.arange(events), x=x)
        files[name] = folder / f"{name}.h5"
    return files


@pytest.mark.parametrize("kind", ["regression", "velocity-gan"])
def test_it_learns_velocities_from_waves(gradients, tmp_path, kind):
    """Truths at random differ from a truth by E|v - v'|; an estimate within a fourth of that has read the gathers."""
    steps = {"regression": 60, "velocity-gan": 120}[kind]
    settings = {"steps": steps, "set_size": [32, 32], "validate_every": steps // 3, "learning_rate": 4e-3}
    more = {"critic_steps": 1} if kind == "velocity-gan" else {}
    chosen = spec(kind, train=settings, **more)
    data = TrainingData([EnsembleReader(gradients["train"])], [EnsembleReader(gradients["validation"])], 100)
    job = TrainPaths(tmp_path / "model.pt", tmp_path / "curves.csv", tmp_path / "checkpoints")
    model_of(chosen).train(data, job)
    method = model_of(chosen)
    method.load(job.artifact, None, [])
    with EnsembleReader(gradients["test"]) as reader:
        infer = PointInfer()
        state = method.using(infer).condition(reader)
        chunk = method.using(infer).sample(state, reader.read("y"), reader.read("event_id"))
        truth = reader.read("x")
    assert chunk.x.shape == (40, 1, 32, 32)
    assert chunk.ok.all()
    error = np.abs(chunk.x[:, 0] - truth).mean()
    at_random = np.abs(truth - np.roll(truth, 1, axis=0)).mean()
    assert error < 0.25 * at_random
    # One network call for each event, whatever was trained against it.
    assert method.cost.network_calls == 40
