"""Llama 3.2, with and without eyes, of the classes and files that transformers loads, of random weights."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessor,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)

WORDS = ("a", "the", "lesion", "is", "benign", "malignant", "brown", "border", "pigment", "with", "even", "red", "dark")
SPECIAL = dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token="<|pad|>", unk_token="<|unk|>")
IMAGE = "<|image|>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}" + IMAGE + "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)
TEXT = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)


def writer(folder: Path) -> Path:
    """A LlamaForCausalLM with its tokenizer."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **TEXT, **_ids(tokenizer)))
    _talkative(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def describer(folder: Path) -> Path:
    """An MllamaForConditionalGeneration with its processor."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    text = dict(TEXT, vocab_size=len(tokenizer) - 1, cross_attention_layers=[1], rope_scaling=None, **_ids(tokenizer))
    vision = dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_global_layers=1,
        attention_heads=2,
        image_size=28,
        patch_size=14,
        max_num_tiles=1,
        intermediate_layers_indices=[0],
        vision_output_dim=64,
        supported_aspect_ratios=[[1, 1]],
    )
    config = MllamaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids(IMAGE)
    )
    _talkative(MllamaForConditionalGeneration(config)).save_pretrained(folder)
    pictures = MllamaImageProcessor(size=dict(height=28, width=28), max_image_tiles=1)
    MllamaProcessor(pictures, tokenizer, chat_template=TEMPLATE).save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    names = [*SPECIAL.values(), *WORDS, IMAGE]
    plain = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=SPECIAL["unk_token"]))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, additional_special_tokens=[IMAGE], **SPECIAL)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@torch.no_grad()
def _talkative(model):
    """`model`, made to prefer words to special tokens, the end among them."""
    model.lm_head.weight[: len(SPECIAL)] = 0
    return model


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
