"""Sentence-transformers models of a few kilobytes, with weights by chance, for tests of what is done to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = """how do i reset my password pin card what is the capital of norway sweden ? . , ' a in for to"""


def make_tiny_model(folder: Path, *, pooling: str = "mean", dense: bool = False, seed: int = 0) -> Path:
    """A BERT of one layer and 32 dimensions, saved in `folder`."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(seed)
    parts = folder.parent / f"{folder.name}-parts"
    parts.mkdir(parents=True)
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*WORDS.split(), *letters])]
    vocabulary += [f"##{letter}" for letter in letters]
    (parts / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(tokenizer_object=BertWordPieceTokenizer(str(parts / "vocab.txt"))._tokenizer).save_pretrained(
        parts
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.5,  # or every text has nearly the same vector
    )
    BertModel(config).save_pretrained(parts)
    transformer = Transformer(str(parts))
    transformer.max_seq_length = 64
    modules: list[Any] = [transformer, Pooling(32, pooling_mode=pooling)]
    if dense:
        modules.append(Dense(32, 16))
    SentenceTransformer(modules=[*modules, Normalize()], device="cpu").save(str(folder))
    return folder
