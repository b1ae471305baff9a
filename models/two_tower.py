"""The two-tower model, in torch: training only. Serving runs the arrays it exports.

    item tower: id + category + subcategory + log price -> D -> unit vector
    user tower: newest items, weighted by place, beside their mean -> D -> unit vector

An item that nobody has touched has a zero id embedding and still gets a vector from its content.

Throughout: B is the batch, N the catalogue, D the embedding, H the hidden width, T the history.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.losses import log_expected_count, sampled_softmax
from models.user_tower import UserTower


@dataclass(frozen=True, slots=True)
class TwoTowerSettings:
    """Defaults for a few thousand users on two cores."""

    width: int = 32  # D
    hidden: int = 64  # H
    history: int = 50  # T
    batch: int = 512  # B
    uniform: int = 512  # uniform negatives per batch
    epochs: int = 8
    max_steps: int = 3000  # a bound on time, whatever the data
    learning_rate: float = 3e-3
    temperature: float = 0.1  # cosines are divided by it
    id_dropout: float = 0.1  # share of items whose content must do without the id
    use_log_q: bool = True  # False only to show what goes wrong


@dataclass(frozen=True, slots=True)
class ItemContent:
    """What is known of each item besides its id."""

    category: np.ndarray  # (N,) codes, -1 = unknown
    subcategory: np.ndarray  # (N,) codes, -1 = unknown
    price: np.ndarray  # (N,) NaN = unknown


@dataclass(frozen=True, slots=True)
class Trained:
    """What leaves the training process."""

    item_vectors: np.ndarray  # (N, D) float32, unit length
    tower: UserTower
    losses_nats: list[float]  # mean per epoch


class TwoTower(nn.Module):
    """Both towers; they share the item embeddings, so a clicked item moves its user towards it."""

    def __init__(self, content: ItemContent, settings: TwoTowerSettings) -> None:
        super().__init__()
        n, d = len(content.price), settings.width
        self.ids = nn.Embedding(n, d)
        nn.init.zeros_(self.ids.weight)  # what never gets a gradient must stay neutral
        self.categories = nn.Embedding(int(content.category.max(initial=-1)) + 2, d)
        self.subcategories = nn.Embedding(int(content.subcategory.max(initial=-1)) + 2, d)
        self.price = nn.Linear(1, d)
        self.item_hidden = nn.Linear(d, settings.hidden)
        self.item_out = nn.Linear(settings.hidden, d)
        self.place_logit = nn.Parameter(-0.1 * torch.arange(settings.history, dtype=torch.float32))
        self.hidden = nn.Linear(2 * d, settings.hidden)
        self.out = nn.Linear(settings.hidden, d)
        self.register_buffer("category_ix", torch.from_numpy(content.category + 1))
        self.register_buffer("subcategory_ix", torch.from_numpy(content.subcategory + 1))
        self.register_buffer("log_price", _standard_log(content.price))

    def content(self) -> Tensor:
        """(N, D) what the items look like without their ids."""
        return (
            self.categories(self.category_ix)
            + self.subcategories(self.subcategory_ix)
            + self.price(self.log_price[:, None])
        )

    def items(self, inputs: Tensor) -> Tensor:
        """(…, D) unit vectors of the item tower."""
        hidden = torch.relu(self.item_hidden(inputs))
        return nn.functional.normalize(inputs + self.item_out(hidden), dim=-1)

    def users(self, inputs: Tensor, history_ix: Tensor) -> Tensor:
        """(B, D) unit vectors of histories (B, T), newest first, -1 = nothing (at the end)."""
        known = history_ix >= 0  # (B, T)
        # embedding(), not inputs[...]: the gradient of plain indexing is a tenfold slower scatter.
        items = (
            nn.functional.embedding(history_ix.clamp(min=0), inputs) * known[..., None]
        )  # (B, T, D)
        logit = self.place_logit[: history_ix.shape[1]].masked_fill(~known, -torch.inf)
        recent = (torch.softmax(logit, dim=1)[..., None] * items).sum(dim=1)
        mean = items.sum(dim=1) / known.sum(dim=1, keepdim=True)
        hidden = torch.relu(self.hidden(torch.cat([recent, mean], dim=1)))
        return nn.functional.normalize(recent + self.out(hidden), dim=-1)


def train(
    target_ix: np.ndarray,
    history_ix: np.ndarray,
    content: ItemContent,
    seed: int,
    settings: TwoTowerSettings | None = None,
    progress: Callable[[Iterable[int], int], Iterable[int]] = lambda steps, total: steps,
) -> Trained:
    """Fit both towers.

    Args:
        target_ix: (E,) positives.
        history_ix: (E, T) what came before each, from `sampling.histories`.
        content: of all N items, also those that nobody has touched.
        seed: of the weights, the batches and the negatives.
        settings: defaults above.
        progress: wraps the steps, for a progress bar.

    Raises:
        ValueError: nobody has two positives at different times.
    """
    settings = settings or TwoTowerSettings()
    taught = (history_ix >= 0).any(axis=1)  # a first positive has no past to learn from
    if not taught.any():
        raise ValueError("no positive has an earlier one of the same user; nothing to learn from")
    targets = torch.from_numpy(target_ix[taught].astype(np.int64))
    pasts = torch.from_numpy(history_ix[taught].astype(np.int64))
    torch.set_num_threads(1)  # batches this small lose more to waiting threads than they gain
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # matrices this small lose more by waiting for threads than they gain
    model = TwoTower(content, settings)
    share = torch.bincount(targets, minlength=len(content.price)).double()
    share = (share / share.sum()).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    batches = _batches(len(targets), settings)
    losses: list[float] = []
    for step in progress(range(len(batches)), len(batches)):
        rows = batches[step]
        loss = _loss(model, targets[rows], pasts[rows], share, settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    per_epoch = max(1, len(targets) // settings.batch)
    means = [float(np.mean(losses[at : at + per_epoch])) for at in range(0, len(losses), per_epoch)]
    vectors, tower = _export(model)
    return Trained(vectors, tower, means)


def _loss(
    model: TwoTower, targets: Tensor, pasts: Tensor, share: Tensor, settings: TwoTowerSettings
) -> Tensor:
    known = torch.nonzero(share > 0).squeeze(1)
    negatives = known[torch.randint(len(known), (settings.uniform,))]
    columns = torch.cat([targets, negatives])  # (V,)
    content = model.content()
    inputs = content + model.ids.weight  # (N, D)
    keep = torch.rand(len(columns), 1) >= settings.id_dropout
    column_inputs = content[columns] + model.ids.weight[columns] * keep
    logits = model.users(inputs, pasts) @ model.items(column_inputs).T / settings.temperature
    log_q = torch.zeros(len(columns))
    if settings.use_log_q:
        log_q = log_expected_count(share, columns, len(targets), settings.uniform)
    return sampled_softmax(logits, log_q)


def _batches(n: int, settings: TwoTowerSettings) -> list[Tensor]:
    """Shuffled rows for all epochs, at most `max_steps` batches; a rest below B is left out."""
    size = min(settings.batch, n)
    batches: list[Tensor] = []
    for _ in range(settings.epochs):
        order = torch.randperm(n)
        batches.extend(order[at : at + size] for at in range(0, n - size + 1, size))
    return batches[: settings.max_steps]


def _standard_log(price: np.ndarray) -> Tensor:
    """(N,) log price with mean 0 and deviation 1; unknown = 0."""
    known = np.isfinite(price) & (price > 0)
    out = np.zeros(len(price), dtype=np.float32)
    if known.any():
        logs = np.log(price[known])
        out[known] = (logs - logs.mean()) / max(float(logs.std()), 1e-6)
    return torch.from_numpy(out)


@torch.no_grad()
def _export(model: TwoTower) -> tuple[np.ndarray, UserTower]:
    inputs = model.content() + model.ids.weight
    tower = UserTower(
        item_inputs=inputs.numpy(),
        place_logit=model.place_logit.numpy(),
        hidden_weight=model.hidden.weight.numpy(),
        hidden_bias=model.hidden.bias.numpy(),
        out_weight=model.out.weight.numpy(),
        out_bias=model.out.bias.numpy(),
    )
    return model.items(inputs).numpy(), tower
