"""A model of many small layers with seeded weights, to see which type each layer gets when it is quantized."""

from pathlib import Path

import gguf
import numpy as np

DIM, VOCAB = 256, 260


def write_layers(
    path: Path, n_layers: int, ffn: int, *, has_output: bool, n_kv: int = 2, n_experts: int = 0
) -> Path:
    """F16 matrices, F32 norms; an `ffn` that is no multiple of 256 does not fit into K-quant blocks. 4 query heads share `n_kv`
    key/value heads; with experts each layer has that many feed-forward networks, and a gate before them."""
    random = np.random.default_rng(20260101)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(n_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(DIM)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(4)
    writer.add_head_count_kv(n_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("no_vocab")
    shapes: dict[str, tuple[int, ...]] = {
        "attn_q": (DIM, DIM),
        "attn_k": (DIM * n_kv // 4, DIM),
        "attn_v": (DIM * n_kv // 4, DIM),
        "attn_output": (DIM, DIM),
    }
    networks: dict[str, tuple[int, ...]] = {
        "ffn_gate": (ffn, DIM),
        "ffn_up": (ffn, DIM),
        "ffn_down": (DIM, ffn),
    }
    if n_experts:
        writer.add_expert_count(n_experts)
        writer.add_expert_used_count(2)
        networks = {f"{name}_exps": (n_experts, *shape) for name, shape in networks.items()}
        networks["ffn_gate_inp"] = (n_experts, DIM)
    shapes |= networks
    for name in ["token_embd", *(["output"] if has_output else [])]:
        writer.add_tensor(f"{name}.weight", random.normal(size=(VOCAB, DIM)).astype(np.float16))
    writer.add_tensor("output_norm.weight", np.ones(DIM, np.float32))
    for layer in range(n_layers):
        for name, shape in shapes.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", random.normal(size=shape).astype(np.float16))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(DIM, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
