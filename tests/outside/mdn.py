"""A mixture density network (Bishop 1994): p(x|y) as a mixture of Gaussians, with a training loop of its own."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from pullback.methods import (
    Infer,
    Method,
    MethodSpec,
    PosteriorSamples,
    Scaling,
    event_normals,
    event_uniforms,
    generator,
    integer_seed,
    load_artifact,
)


class Mdn(Method):
    """The network gives weights, means and widths of the components from y."""

    def network(self):
        import torch

        outputs = self.spec.components * (1 + 2 * self.problem.x.shape[0])
        return torch.nn.Sequential(
            torch.nn.Linear(self.problem.y.shape[0], self.spec.width),
            torch.nn.SiLU(),
            torch.nn.Linear(self.spec.width, outputs),
        )

    def mixture(self, network, z_y):
        """Log weights (event, component), means and log widths (event, component, x)."""
        logits, rest = network(z_y).split((self.spec.components, 2 * self.spec.components * self.problem.x.shape[0]), 1)
        mean, log_width = rest.unflatten(1, (2, self.spec.components, -1)).unbind(1)
        return logits.log_softmax(1), mean, log_width

    def loss(self, network, z_x, z_y):
        log_weight, mean, log_width = self.mixture(network, z_y)
        normal = -0.5 * ((z_x[:, None] - mean) / log_width.exp()).square() - log_width
        return -(log_weight + normal.sum(2)).logsumexp(1).mean()

    def train(self, data, job):
        import torch

        rng = generator(*self.context.address, "train")
        torch.manual_seed(integer_seed(*self.context.address))
        scaling = data.fit_scaling(rng)
        sets = {}
        for split in ("train", "validation"):
            x, y, _ = (np.concatenate(part) for part in zip(*data.pairs(split), strict=True))
            sets[split] = torch.from_numpy(scaling.encode_x(x, y)), torch.from_numpy(scaling.encode_y(y))
        network, curves = self.network(), []
        adam = torch.optim.Adam(network.parameters(), self.spec.learning_rate)
        for step in self.context.progress(range(1, self.spec.steps + 1)):
            rows = torch.from_numpy(rng.integers(len(sets["train"][0]), size=256))
            loss = self.loss(network, *(values[rows] for values in sets["train"]))
            adam.zero_grad()
            loss.backward()
            adam.step()
            if step % 100 == 0 or step == self.spec.steps:
                with torch.no_grad():
                    held = self.loss(network, *sets["validation"])
                curves.append({"step": step, "train_loss": loss.item(), "validation_loss": held.item()})
        return job.write(network.state_dict(), {"scaling": scaling.to_dict()}, curves)

    def load(self, artifact, prior, seen):
        weights, meta = load_artifact(artifact)
        self.scaling, self.trained = Scaling.from_dict(meta["scaling"]), self.network()
        self.trained.load_state_dict(weights)

    def sample(self, state, y, event_id):
        import torch

        draws = self.settings.draws
        with torch.no_grad():
            found = self.mixture(self.trained, torch.from_numpy(self.scaling.encode_y(y)))
        log_weight, mean, log_width = (values.numpy() for values in found)
        u = event_uniforms((*self.context.address, "component"), event_id, (draws,))
        below = np.exp(log_weight).cumsum(1)[:, None, :-1] < u[:, :, None]
        row, which = np.arange(len(y))[:, None], below.sum(2)
        eps = event_normals((*self.context.address, "draw"), event_id, (draws, mean.shape[2]))
        z = mean[row, which] + self.settings.widen * np.exp(log_width[row, which]) * eps
        x = self.scaling.decode_x(z, y[:, None])
        self.cost.network_calls += len(y)
        return PosteriorSamples(x, np.zeros(x.shape[:2]), np.isfinite(x).all(2))


class MdnInfer(Infer):
    """Settings of one inference."""

    widen: float = Field(default=1.0, gt=0, description="factor on the widths of the components")


class MdnSpec(MethodSpec):
    """Mixture density network: a mixture of Gaussians for each observation."""

    code: ClassVar = Mdn
    returns: ClassVar = "approximate"
    trains: ClassVar = True
    needs_seen: ClassVar = True
    single_process_reason: ClassVar = "its loop shares no steps"
    advice: ClassVar = "more components or training steps"

    components: int = Field(default=4, ge=1, description="Gaussians in the mixture")
    width: int = Field(default=32, ge=1, description="of the hidden layer")
    steps: int = Field(default=500, ge=1, description="training steps, of 256 events each")
    learning_rate: float = Field(default=3e-3, gt=0)
    infer: Mapping[str, MdnInfer] = Field(default={"default": MdnInfer()}, min_length=1)

    def check(self, problem):
        if problem.spec.arrays:
            yield "kind", f"{' and '.join(sorted(problem.spec.arrays))} are arrays, wanted vectors: take cfm"
