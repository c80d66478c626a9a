"""Writes trained weights as one F16 GGUF file that llama.cpp and Ollama load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np

from inference.sample_model import corpus

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor


def write_gguf(path: Path, weights: Mapping[str, "Tensor"], tokenizer: "Tokenizer") -> None:
    """`weights` carry GGUF's names without `.weight`; matrices become F16, norms stay F32."""
    from inference.sample_model import train as shape

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("AICleaner sample")
    writer.add_description("Answers a room and what is seen in it with one cleaning task per mess.")
    writer.add_license("MIT")
    writer.add_size_label("3.8M")
    writer.add_block_count(shape.N_LAYERS)
    writer.add_context_length(shape.CONTEXT)
    writer.add_embedding_length(shape.DIM)
    writer.add_feed_forward_length(shape.FFN)
    writer.add_head_count(shape.N_HEADS)
    writer.add_head_count_kv(shape.N_KV_HEADS)
    writer.add_layer_norm_rms_eps(shape.EPSILON)
    writer.add_rope_freq_base(shape.ROPE_BASE)
    writer.add_rope_dimension_count(shape.HEAD)
    writer.add_vocab_size(shape.VOCAB)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    special = {token: tokens.index(token) for token in corpus.SPECIALS}
    types = [gguf.TokenType.CONTROL if each in special else gguf.TokenType.NORMAL for each in tokens]
    # So small a language has no more pairs to merge; the rows that are left over stay unused.
    n_unused = shape.VOCAB - len(tokens)
    tokens += [f"<|unused{number}|>" for number in range(n_unused)]
    types += [gguf.TokenType.UNUSED] * n_unused
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in model["merges"]])
    writer.add_pad_token_id(special["<|pad|>"])
    writer.add_bos_token_id(special["<|bos|>"])
    writer.add_eos_token_id(special["<|end|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(corpus.CHAT_TEMPLATE)

    for name, tensor in weights.items():
        values = tensor.detach().float().numpy()
        writer.add_tensor(f"{name}.weight", values.astype(np.float16) if values.ndim == 2 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
