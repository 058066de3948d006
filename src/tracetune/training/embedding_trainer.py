"""The trainer of an encoder. Imported only by a running job, because its parents are heavy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import (
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler, NoDuplicatesBatchSampler
from sentence_transformers.sentence_transformer import losses

from tracetune.errors import ConfigurationError
from tracetune.training import encoder, trainers
from tracetune.training.checkpoints import Place
from tracetune.training.embedding_arguments import LOSS_NAMES
from tracetune.training.job import TrainingJob

ADAPTER_WEIGHTS = "adapter_model.safetensors"


class EpochBatches(DefaultBatchSampler):
    """Batches whose order depends on seed and epoch alone.

    The sampler of sentence-transformers goes on with one generator from epoch to epoch, so that a
    run continued in a later epoch would see the order of the first one again.
    """

    def __init__(self, dataset: Any, batch_size: int, drop_last: bool, **kwargs: Any) -> None:
        """Takes what sentence-transformers gives to a sampler."""
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, **kwargs)
        self.rows = len(dataset)

    def __iter__(self) -> Iterator[list[int]]:
        """Row numbers batch by batch."""
        draw = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.rows, generator=draw).tolist()
        for start in range(0, self.rows, self.batch_size):
            batch = order[start : start + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        """Number of batches."""
        whole, rest = divmod(self.rows, self.batch_size)
        return whole + bool(rest and not self.drop_last)


class EncoderTrainer(SentenceTransformerTrainer):
    """Checkpoints hold weights as safetensors and nothing about the machine.

    No model card (it holds times and would ask the hub) and no pickled arguments are written.
    """

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save(str(folder), create_model_card=False)

    def _load_from_checkpoint(self, checkpoint_path: str, model: Any = None) -> None:
        weights = Path(checkpoint_path) / ADAPTER_WEIGHTS
        if not weights.is_file():
            super()._load_from_checkpoint(checkpoint_path)
            return
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        set_peft_model_state_dict(self.model.transformers_model, load_file(weights), "default")

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Leaves out the model card."""


def make_trainer(job: TrainingJob, place: Place, rows: Any, model: Any) -> EncoderTrainer:
    """The trainer of a job, ready to train.

    Args:
        job: The job.
        place: Its work folder.
        rows: ``train`` and ``validation`` triplets.
        model: The encoder, with its adapter if the job has one.
    """
    from datasets import Dataset

    def dataset(triplets: Any) -> Any:
        return Dataset.from_list(
            [{"anchor": r.anchor, "positive": r.positive, "negative": r.negative} for r in triplets]
        )

    values = trainers.config_values(job, place, rows)
    for name in LOSS_NAMES:
        values.pop(name, None)
    no_twins = job.trainer["loss"] == "multiple_negatives"
    values["batch_sampler"] = NoDuplicatesBatchSampler if no_twins else EpochBatches
    return EncoderTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**values),
        train_dataset=dataset(rows.train),
        eval_dataset=dataset(rows.validation) if rows.validation else None,
        loss=make_loss(job, model),
    )


def make_loss(job: TrainingJob, model: Any) -> Any:
    """The loss of a job."""
    if job.trainer["loss"] == "triplet":
        return losses.TripletLoss(
            model,
            distance_metric=losses.TripletDistanceMetric.COSINE,
            triplet_margin=job.trainer["margin"],
        )
    return losses.MultipleNegativesRankingLoss(model, scale=job.trainer["scale"])


def load_policy(job: TrainingJob) -> Any:
    """The encoder to train, with a new adapter if the job has one."""
    model = encoder.load(job.base, cpu=bool(job.trainer.get("use_cpu")))
    model.train()
    if job.lora:
        from peft import LoraConfig

        trainers.check_targets(model.transformers_model, job.lora["target_modules"])
        try:
            config = LoraConfig(task_type="FEATURE_EXTRACTION", **job.lora)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"PEFT does not take these settings: {error}",
                where="embedding.lora",
                remedy="correct them",
            ) from error
        model.add_adapter(config)
    return model


def invariants(job: TrainingJob, model: Any, triplets: Any) -> dict[str, float]:
    """What must hold before the first step, and how the encoder ranks some triplets then.

    The loss in the trainer's own code is compared with its definition, worked out here from the
    vectors: ``mean(max(0, cos(a, n) - cos(a, p) + margin))`` for triplets, the cross-entropy of the
    positives among all documents of the batch for multiple negatives.
    """
    import torch.nn.functional as functional

    from tracetune.errors import GateError

    rows = triplets[:16]
    model.eval()
    with torch.no_grad():
        a, p, n = (
            torch.as_tensor(model.encode([getattr(row, side) for row in rows]))
            for side in ("anchor", "positive", "negative")
        )
        a, p, n = (functional.normalize(x.double(), dim=1).cpu() for x in (a, p, n))
        near, far = (a * p).sum(1), (a * n).sum(1)
        if job.trainer["loss"] == "triplet":
            expected = torch.relu(far - near + job.trainer["margin"]).mean()
        else:
            scores = job.trainer["scale"] * a @ torch.cat([p, n]).T
            expected = functional.cross_entropy(scores, torch.arange(len(rows)))
        sides = [[getattr(row, s) for row in rows] for s in ("anchor", "positive", "negative")]
        features = [
            {
                k: v.to(model.device) if hasattr(v, "to") else v
                for k, v in model.preprocess(x).items()
            }
            for x in sides
        ]
        found = float(make_loss(job, model)(features, None))
    model.train()
    if abs(found - float(expected)) > 1e-3 * max(1.0, float(expected)):
        raise GateError(
            f"the loss of the trainer at step 0 is {found:.6f}, its definition gives "
            f"{float(expected):.6f}",
            where="embedding training",
            remedy="report this with the versions of sentence-transformers and the encoder",
        )
    return {
        "loss": round(found, 6),
        "expected": round(float(expected), 6),
        "positive_nearer": float((near > far).double().mean()),
    }
