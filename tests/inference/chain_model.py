"""Small models made by code whose next token is a fixed function of the last: they say a script, whatever they are asked."""

from pathlib import Path

import gguf
import numpy as np
from gguf import TokenType

DIM, HEADS, FFN, CONTEXT = 512, 4, 256, 4096
SPECIALS = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
THINK_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
    "{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
TOOL_TEMPLATE = (
    "{% if tools %}<|system|>Tools: {{ tools | tojson }}<|end|>{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% if message.tool_calls %}{% for call in message.tool_calls %}<tool_call>"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "</tool_call>{% endfor %}{% else %}{{ message.content }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_letters() -> dict[int, str]:
    """The letters that GPT-2's byte-level vocabulary writes for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    rest = [byte for byte in range(256) if byte not in letters]
    return letters | {byte: chr(256 + number) for number, byte in enumerate(rest)}


def write_chain(
    path: Path,
    pieces: list[bytes],
    *,
    template: str = TEMPLATE,
    loop: bool = False,
    embedding: bool = False,
    bos: bool = False,
) -> Path:
    """A model that says `pieces` (one token each) and ends, or (`loop`) says them for ever.

    `bos`: its tokenizer puts token 0 before each text."""
    letters = byte_letters()
    tokens = [
        *SPECIALS,
        *letters.values(),
        "th",
    ]  # one merge, because llama.cpp wants a list that is not empty
    kinds = [TokenType.CONTROL] * len(SPECIALS) + [TokenType.NORMAL] * 257
    script = []
    for number, piece in enumerate(pieces):
        word = "".join(letters[byte] for byte in piece)
        if len(piece) > 1:  # a word of its own per place, so that a word may come twice
            script.append(len(tokens))
            tokens.append(word if word not in tokens else f"{word}{chr(0x400 + number)}")
            kinds.append(TokenType.NORMAL)
        else:
            script.append(tokens.index(word))
    n = len(tokens)
    assert n <= DIM
    following = dict.fromkeys(range(n), script[0])
    following |= dict(zip(script, [*script[1:], script[0] if loop else 1], strict=True))
    output = np.zeros((n, DIM), np.float32)
    for token, after in following.items():
        output[after, token] = 1.0

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(DIM)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(DIM // HEADS)
    writer.add_vocab_size(n)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(bos)
    writer.add_chat_template(template)
    if embedding:
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    zeros = {"attn_q": (DIM, DIM), "attn_k": (DIM, DIM), "attn_v": (DIM, DIM), "attn_output": (DIM, DIM)}
    zeros |= {"ffn_gate": (FFN, DIM), "ffn_up": (FFN, DIM), "ffn_down": (DIM, FFN)}
    writer.add_tensor("token_embd.weight", np.eye(n, DIM, dtype=np.float32))
    for name, shape in zeros.items():
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros(shape, np.float32))
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(DIM, np.float32))
    writer.add_tensor("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
