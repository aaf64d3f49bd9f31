"""Make the embedded text encoders: a CLIP and a T5 with small tokenizers, trained to read captions.

Both are trained to predict, from a caption, the attributes that it words. The pooled CLIP vector and the T5 tokens
then carry each attribute in a form that the flow can use at once; they stay frozen from there on.
"""

import json
import random
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.optimization import get_cosine_schedule_with_warmup
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from dermaflux import lesion
from dermaflux.caption import caption
from dermaflux.lesion import LesionAttributes
from dermaflux.training.loop import checked, fit, settings, update
from dermaflux.training.precision import mixed_precision

WIDTH = 128
CLIP_LENGTH, T5_LENGTH = 112, 32
END = "<|endoftext|>"
PRINTABLE = [chr(i) for i in range(33, 127)]

SINGLE = {
    "label": lesion.LABELS,
    "diagnosis": tuple(lesion.DIAGNOSES),
    "asymmetry": range(lesion.MAX_ASYMMETRY + 1),
    "border": range(lesion.MAX_BORDER + 1),
    "size_mm": range(lesion.MIN_SIZE_MM, lesion.MAX_SIZE_MM + 1),
    "site": lesion.SITES,
    "tone": range(1, len(lesion.MONK_TONES) + 1),
    "capture": lesion.CAPTURES,
}
MULTIPLE = {
    "colours": tuple(lesion.COLOURS),
    "structures": lesion.STRUCTURES,
    "artefacts": lesion.ARTEFACTS,
}


@dataclass(frozen=True)
class TextOptions:
    """How the text encoders are trained. captions: of how many random ones the tokenizers learn their pieces."""

    steps: int = 1500
    batch: int = 96
    learning_rate: float = 1e-3
    seed: int = 0
    captions: int = 8_000

    def __post_init__(self):
        checked(self)


def random_caption(rng: random.Random) -> tuple[str, LesionAttributes]:
    """A caption of attributes drawn independently, of which each may be left out, and those attributes."""
    attributes = LesionAttributes(
        **{name: rng.choice(values) for name, values in SINGLE.items()},
        **{name: tuple(v for v in values if rng.random() < 0.4) for name, values in MULTIPLE.items()},
    )
    attributes = drop(attributes, rng, rng.choice((0.0, 0.1, 0.3, 0.6)))
    return caption(attributes, rng.randrange(2**31)), attributes


def drop(attributes: LesionAttributes, rng: random.Random, share: float) -> LesionAttributes:
    """`attributes` with each one left unspecified with probability `share`."""
    empty = LesionAttributes()
    left_out = [field.name for field in fields(attributes) if rng.random() < share]
    return replace(attributes, **{name: getattr(empty, name) for name in left_out})


def targets(attributes: LesionAttributes) -> list[float]:
    """`attributes` as numbers: the index of each value (one past the last if unspecified), 0 or 1 for the sets."""
    single = [
        float(len(values) if getattr(attributes, name) is None else values.index(getattr(attributes, name)))
        for name, values in SINGLE.items()
    ]
    return single + [float(value in getattr(attributes, name)) for name, values in MULTIPLE.items() for value in values]


def make_tokenizers(captions: list[str]) -> tuple[CLIPTokenizer, PreTrainedTokenizerFast]:
    """A byte-pair CLIP tokenizer and a unigram tokenizer for the T5, both learned from `captions`.

    The pieces of the second may span words, so that a phrase is one token and a caption takes T5_LENGTH at most; single
    characters spell whatever else is written.
    """
    template = CLIPTokenizer()._tokenizer
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    bpe.normalizer, bpe.pre_tokenizer = template.normalizer, template.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<|startoftext|>", END],
        initial_alphabet=[letter for letter in PRINTABLE if not letter.isupper()],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]

    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer, unigram.decoder = pre_tokenizers.Metaspace(split=False), decoders.Metaspace(split=False)
    trainer = trainers.UnigramTrainer(
        vocab_size=3000,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        initial_alphabet=PRINTABLE,
        max_piece_length=48,
        show_progress=False,
    )
    unigram.train_from_iterator(captions, trainer)
    unigram.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    phrases = PreTrainedTokenizerFast(
        tokenizer_object=unigram,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=T5_LENGTH,
    )
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=CLIP_LENGTH), phrases


class Reader(nn.Module):
    """Both encoders with a linear head each that reads the attributes; the heads are thrown away after training."""

    def __init__(self, clip: CLIPTextModel, t5: T5EncoderModel):
        super().__init__()
        self.clip, self.t5 = clip, t5
        outputs = sum(len(values) + 1 for values in SINGLE.values()) + sum(len(values) for values in MULTIPLE.values())
        self.clip_head, self.t5_head = nn.Linear(WIDTH, outputs), nn.Linear(WIDTH, outputs)

    def forward(self, clip_ids: torch.Tensor, t5_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """clip_ids (N, L), t5_ids (N, M) -> the logits of either head, (N, outputs)."""
        pooled = self.clip(clip_ids).pooler_output
        return self.clip_head(pooled), self.t5_head(self.t5(t5_ids).last_hidden_state.mean(1))


def reading_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the single-valued attributes plus binary cross-entropy over the names of the sets."""
    loss, at = 0.0, 0
    for i, values in enumerate(SINGLE.values()):
        loss = loss + F.cross_entropy(logits[:, at : at + len(values) + 1], target[:, i].long())
        at += len(values) + 1
    return loss + 4 * F.binary_cross_entropy_with_logits(logits[:, at:], target[:, len(SINGLE) :])


def main(out: Path, options: TextOptions) -> None:
    """Train tokenizers and encoders; writes the four folders of a FluxPipeline to `out`."""
    rng = random.Random(options.seed)
    clip_tokenizer, t5_tokenizer = make_tokenizers([random_caption(rng)[0] for _ in range(options.captions)])
    torch.manual_seed(options.seed)
    reader = Reader(
        CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip_tokenizer),
                hidden_size=WIDTH,
                intermediate_size=4 * WIDTH,
                projection_dim=WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=CLIP_LENGTH,
                bos_token_id=clip_tokenizer.bos_token_id,
                eos_token_id=clip_tokenizer.eos_token_id,
                pad_token_id=clip_tokenizer.pad_token_id,
            )
        ),
        T5EncoderModel(
            T5Config(
                vocab_size=len(t5_tokenizer),
                d_model=WIDTH,
                d_kv=32,
                d_ff=4 * WIDTH,
                num_layers=2,
                num_heads=4,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
            )
        ),
    )
    accelerator = Accelerator(mixed_precision=mixed_precision())
    optimizer = torch.optim.AdamW(reader.parameters(), lr=options.learning_rate)
    schedule = get_cosine_schedule_with_warmup(optimizer, options.steps * 3 // 10, options.steps)
    reader, optimizer, schedule = accelerator.prepare(reader, optimizer, schedule)

    def step(i: int) -> dict[str, float]:
        rng = random.Random(options.seed * 1_000_003 + i)
        captions, attributes = zip(*(random_caption(rng) for _ in range(options.batch)), strict=True)
        target = torch.tensor([targets(one) for one in attributes])
        clip_ids = clip_tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=CLIP_LENGTH, return_tensors="pt"
        ).input_ids
        t5_ids = t5_tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=T5_LENGTH, return_tensors="pt"
        ).input_ids
        with accelerator.autocast():
            clip_logits, t5_logits = reader(clip_ids, t5_ids)
        clip_loss, t5_loss = reading_loss(clip_logits.float(), target), reading_loss(t5_logits.float(), target)
        update(accelerator, clip_loss + t5_loss, optimizer, schedule, list(reader.parameters()))
        return {"clip": float(clip_loss), "t5": float(t5_loss)}

    fit(accelerator, step, steps=options.steps, out=out, seed=options.seed, made_of=settings(options))
    trained = accelerator.unwrap_model(reader)
    parts = {
        "text_encoder": trained.clip,
        "text_encoder_2": trained.t5,
        "tokenizer": clip_tokenizer,
        "tokenizer_2": t5_tokenizer,
    }
    for name, part in parts.items():
        part.save_pretrained(out / name)
