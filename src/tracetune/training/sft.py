"""Supervised fine-tuning with TRL and LoRA: learn the approved answers."""

from __future__ import annotations

from typing import Any

from tracetune.training import trainers
from tracetune.training.checkpoints import Place
from tracetune.training.job import TrainingJob
from tracetune.training.trainers import Rows


def make_trainer(job: TrainingJob, place: Place, rows: Rows, tokenizer: Any) -> Any:
    """The SFT trainer of a job, ready to train.

    Rows go in as conversations with prompt and completion, so TRL trains the completion alone.
    """
    from trl.trainer.sft_config import SFTConfig

    return trainers.build(_trainer_class(), SFTConfig, job, place, rows, tokenizer)


def _trainer_class() -> Any:
    """TRL's trainer; with ``group_by_length`` it takes the project's samplers."""
    from trl.trainer.sft_trainer import SFTTrainer

    class GroupingTrainer(SFTTrainer):
        def _grouped(self) -> bool:
            return str(self.args.train_sampling_strategy) == "group_by_length"

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if not self._grouped():
                return super()._get_train_sampler(train_dataset)
            from tracetune.training.grouping import LengthGroups

            rows: Any = self.train_dataset if train_dataset is None else train_dataset
            lengths = [len(ids) for ids in rows["input_ids"]]
            return LengthGroups(lengths, self.args.train_batch_size, self.args.seed)

        def _get_eval_sampler(self, eval_dataset: Any) -> Any:
            if not self._grouped():
                return super()._get_eval_sampler(eval_dataset)
            from tracetune.training.grouping import ByLength

            return ByLength([len(ids) for ids in eval_dataset["input_ids"]])

    return GroupingTrainer


def invariants(trainer: Any) -> dict[str, Any]:
    """SFT has no value that must hold before the first step."""
    return {}
