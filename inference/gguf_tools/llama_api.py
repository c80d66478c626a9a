"""llama.cpp's C API, as the xllamacpp wheel exports it, by ctypes: the kernels, and what reading activations takes.

Nothing tells what a C struct looks like, so these are the structs of the pinned wheel. `check_layout` compares their
defaults, and tensors that llama.cpp makes, with what they have to be: another wheel ends in a sentence, never in garbage."""

import ctypes
from ctypes import (
    POINTER,
    c_bool,
    c_char,
    c_char_p,
    c_float,
    c_int,
    c_int8,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_void_p,
)
from functools import cache
from typing import Any, ClassVar

F32, I32 = 0, 26  # of enum ggml_type
EvalCallback = ctypes.CFUNCTYPE(c_bool, c_void_p, c_bool, c_void_p)  # tensor, ask, user data
# Behind the last field that is known: what a later version adds there is neither written past nor lost.
ROOM = ("room", c_uint8 * 128)


class LayoutError(RuntimeError):
    """This llama.cpp is another one than the structs here are made for."""


class ModelParams(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("devices", "tensor_buft_overrides")),
        *((name, c_int32) for name in ("n_gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu")),
        *(
            (name, c_void_p)
            for name in ("tensor_split", "progress_callback", "progress_data", "kv_overrides")
        ),
        *((name, c_bool) for name in ("vocab_only", "check_tensors", "use_extra_bufts", "no_host")),
        *((name, c_bool) for name in ("no_alloc", "load_mtp")),
        ROOM,
    ]


class ContextParams(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq")),
        *((name, c_uint32) for name in ("n_outputs_max", "n_outputs_max_per_seq")),
        *((name, c_int32) for name in ("n_threads", "n_threads_batch", "ctx_type", "rope_scaling_type")),
        *((name, c_int32) for name in ("pooling_type", "attention_type", "flash_attn_type")),
        *((name, c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor")),
        *((name, c_float) for name in ("yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow")),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", EvalCallback),
        ("cb_eval_data", c_void_p),
        ("type_k", c_int),
        ("type_v", c_int),
        *((name, c_void_p) for name in ("abort_callback", "abort_data", "unknown")),
        *((name, c_bool) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload")),
        *((name, c_bool) for name in ("swa_full", "kv_unified")),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
        ROOM,
    ]


class Batch(ctypes.Structure):
    """Without positions and sequences the tokens follow what sequence 0 holds."""

    _fields_: ClassVar = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        *((name, c_void_p) for name in ("embd", "pos", "n_seq_id", "seq_id")),
        ("logits", POINTER(c_int8)),  # for which tokens the last layer is computed to its end
    ]


class Tensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("type", c_int),
        ("buffer", c_void_p),
        ("ne", c_int64 * 4),
        ("nb", c_size_t * 4),
        ("op", c_int),
        ("op_params", c_int32 * 16),
        ("flags", c_int32),
        ("src", c_void_p * 10),
        ("view_src", c_void_p),
        ("view_offs", c_size_t),
        ("data", c_void_p),
        ("name", c_char * 64),
    ]


class _InitParams(ctypes.Structure):
    _fields_: ClassVar = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


# What a field is not told here is 0, NULL or false.
MODEL_DEFAULTS = {
    "n_gpu_layers": -1,
    "split_mode": 1,
    "load_mode": -1,
    "lazy_mode": 1,
    "use_extra_bufts": True,
}
CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_outputs_max_per_seq": 1,
    **dict.fromkeys(("n_threads", "n_threads_batch"), 4),
    **dict.fromkeys(("rope_scaling_type", "pooling_type", "attention_type", "flash_attn_type"), -1),
    **dict.fromkeys(("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"), -1.0),
    "defrag_thold": -1.0,
    "type_k": 1,
    "type_v": 1,
    **dict.fromkeys(("offload_kqv", "no_perf", "op_offload", "swa_full"), True),
}
PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "ggml_quantize_init": (None, [c_int]),
    "ggml_quantize_chunk": (c_size_t, [c_int, c_void_p, c_void_p, *[c_int64] * 3, c_void_p]),
    "ggml_init": (c_void_p, [_InitParams]),
    "ggml_free": (None, [c_void_p]),
    "ggml_new_tensor_3d": (c_void_p, [c_void_p, c_int, *[c_int64] * 3]),
    "ggml_mul_mat": (c_void_p, [c_void_p] * 3),
    "ggml_mul_mat_id": (c_void_p, [c_void_p] * 4),
    "ggml_set_name": (c_void_p, [c_void_p, c_char_p]),
    "ggml_nbytes": (c_size_t, [c_void_p]),
    "ggml_backend_tensor_get": (None, [c_void_p, c_void_p, c_size_t, c_size_t]),
    "llama_version": (c_char_p, []),
    "llama_backend_init": (None, []),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_model_has_encoder": (c_bool, [c_void_p]),
    **{f"llama_{name}": (c_uint32, [c_void_p]) for name in ("n_ctx", "n_batch", "n_ubatch")},
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_batch_init": (Batch, [c_int32] * 3),
    "llama_batch_free": (None, [Batch]),
    "llama_batch_get_one": (Batch, [POINTER(c_int32), c_int32]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
}


@cache
def library() -> ctypes.CDLL:
    import xllamacpp.xllamacpp as wheel

    found = ctypes.CDLL(wheel.__file__)
    for name, (result, arguments) in PROTOTYPES.items():
        if (function := getattr(found, name, None)) is not None:
            function.restype, function.argtypes = result, arguments
    return found


@cache
def check_layout() -> tuple[int, int]:
    """The numbers of the operations MUL_MAT and MUL_MAT_ID in this build. Raises LayoutError."""
    api = library()
    if missing := [name for name in PROTOTYPES if not hasattr(api, name)]:
        raise LayoutError(_sentence(f"it has no {missing[0]}"))
    different = [
        *_different(api.llama_model_default_params(), MODEL_DEFAULTS),
        *_different(api.llama_context_default_params(), CONTEXT_DEFAULTS),
        *_different_batch(api),
    ]
    tensors, operations = _different_tensors(api)
    if different + tensors:
        raise LayoutError(_sentence(", ".join((different + tensors)[:3])))
    return operations


def _sentence(what: str) -> str:
    return (
        f"The installed xllamacpp is another one than activations can be read with ({what}): install the pinned version, "
        "or use an importance matrix from a file."
    )


def _different(found: ctypes.Structure, expected: dict[str, Any]) -> list[str]:
    names = [field[0] for field in found._fields_ if field[0] != "room"]
    values = {name: getattr(found, name) or 0 for name in names}
    return [
        f"{name} is {value} by default"
        for name, value in values.items()
        if (bool(value) if name == "cb_eval" else value) != expected.get(name, 0)
    ]


def _different_batch(api: Any) -> list[str]:
    tokens = (c_int32 * 3)(5, 6, 7)
    one = api.llama_batch_get_one(tokens, 3)
    alike = one.n_tokens == 3 and one.token[2] == 7 and not (one.embd or one.pos or one.seq_id or one.logits)
    full = api.llama_batch_init(4, 0, 1)
    alike &= bool(full.token and full.pos and full.n_seq_id and full.seq_id and full.logits and not full.embd)
    api.llama_batch_free(full)
    return [] if alike else ["its batches are others"]


def _different_tensors(api: Any) -> tuple[list[str], tuple[int, int]]:
    """Two products, looked at through our struct."""
    context = api.ggml_init(_InitParams(1 << 20, None, True))
    try:
        weights = api.ggml_new_tensor_3d(context, F32, 4, 6, 1)
        experts = api.ggml_new_tensor_3d(context, F32, 4, 6, 3)
        values = api.ggml_new_tensor_3d(context, F32, 4, 2, 5)
        ids = api.ggml_new_tensor_3d(context, I32, 2, 5, 1)
        api.ggml_set_name(weights, b"blk.0.a.weight")
        plain = Tensor.from_address(api.ggml_mul_mat(context, weights, values))
        chosen = Tensor.from_address(api.ggml_mul_mat_id(context, experts, values, ids))
        first = Tensor.from_address(weights)
        alike = (
            (first.type, first.name, list(first.ne), first.op) == (F32, b"blk.0.a.weight", [4, 6, 1, 1], 0)
            and list(first.nb) == [4, 16, 96, 96]
            and list(plain.src[:3]) == [weights, values, None]
            and list(plain.ne) == [6, 2, 5, 1]
            and list(chosen.src[:4]) == [experts, values, ids, None]
            and 0 < plain.op < chosen.op
        )
        return [] if alike else ["its tensors are others"], (plain.op, chosen.op)
    finally:
        api.ggml_free(context)
