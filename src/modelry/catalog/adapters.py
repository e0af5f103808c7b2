"""LoRA adapters, read without trust: what they change, or why they cannot be used.

Two forms are known: a folder as PEFT writes it (`adapter_config.json` beside
`adapter_model.safetensors`), and a GGUF file as llama.cpp takes it. What would change a
model in a way that only some engines know, or silently differently, is refused here,
where there still is somebody to tell. It does not know any base; see `adapter_fit.py`.

PEFT: https://huggingface.co/docs/peft/package_reference/lora
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from modelry.catalog.headers import DamagedFile, Header, read_gguf, read_safetensors
from modelry.errors import InvalidRequest

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The files of a PEFT folder."""

_CONFIG_MAX = 1024 * 1024
_RANK_MAX = 1024
_ALPHA_MAX = 1_000_000
_PREFIX = "base_model.model."


class UnusableAdapter(InvalidRequest):
    """It is no adapter, or one of a kind that is not served."""

    code = "unusable_adapter"


@dataclass(frozen=True)
class LoraPair:
    """The two matrices that change one of the base's: `rank` × `inputs`, `outputs` × `rank`."""

    rank: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Adapter:
    """`pairs`: by the name of the base's tensor, as Hugging Face's library has it for `peft`, as
    llama.cpp has it for `gguf`. `rslora`: alpha is meant over the root of the rank.
    `architecture` is told by GGUF alone. `base_model`: whose it says it is; a name, no proof.
    """

    kind: Literal["peft", "gguf"]
    path: Path
    alpha: float
    pairs: Mapping[str, LoraPair]
    size_bytes: int
    rslora: bool = False
    base_model: str | None = None
    architecture: str | None = None

    @property
    def rank(self) -> int:
        """The largest of its ranks; engines make room by it."""
        return max(pair.rank for pair in self.pairs.values())

    @property
    def target_modules(self) -> tuple[str, ...]:
        """What parts of a layer it changes: `q_proj` …, or `attn_q` … in GGUF."""
        return tuple(sorted({name.removesuffix(".weight").split(".")[-1] for name in self.pairs}))


def read_adapter(path: Path) -> Adapter:
    """The adapter in a folder or file. Raises `UnusableAdapter` or `DamagedFile`."""
    if path.is_dir():
        return _read_peft(path)
    if not path.is_file():
        raise UnusableAdapter(f"there is no adapter {path}")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UnusableAdapter(
                f"{path.name} is no GGUF file",
                hint=f"name a GGUF adapter, or the folder that holds {CONFIG} and {WEIGHTS}",
            )
    return _read_gguf(path)


def is_adapter(header: Header) -> bool:
    """Whether a GGUF file is an adapter, and no model."""
    return header.metadata.get("general.type") == "adapter"


# -- PEFT ------------------------------------------------------------------------------


def _read_peft(folder: Path) -> Adapter:
    config = _config(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        if (folder / "adapter_model.bin").exists():
            raise UnusableAdapter(
                "the adapter's weights are in adapter_model.bin, which can run a program when it "
                "is opened",
                hint=f"save the adapter again, as safetensors: {WEIGHTS}",
                code="unsafe_weights",
            )
        raise UnusableAdapter(f"the adapter's folder has no {WEIGHTS}")
    rank, alpha = _peft_numbers(config)
    _refuse_variants(config)
    try:
        header = read_safetensors(folder / WEIGHTS)
    except DamagedFile as error:
        raise DamagedFile(f"{WEIGHTS} is damaged: {error.message}") from None
    pairs = _peft_pairs(header)
    for name, pair in pairs.items():
        if pair.rank != rank:
            raise UnusableAdapter(
                f"the adapter says its rank is {rank}, and has rank {pair.rank} for {name}"
            )
    told = config.get("base_model_name_or_path")
    return Adapter(
        "peft",
        folder,
        alpha,
        pairs,
        (folder / WEIGHTS).stat().st_size,
        rslora=config.get("use_rslora") is True,
        base_model=told if isinstance(told, str) and 0 < len(told) <= 512 else None,
    )


def _config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UnusableAdapter(
            f"the adapter's folder has no {CONFIG}",
            hint=f"an adapter is a folder with {CONFIG} and {WEIGHTS}, or a GGUF file",
        )
    with file.open("rb") as opened:
        data = opened.read(_CONFIG_MAX + 1)
    if len(data) > _CONFIG_MAX:
        raise UnusableAdapter(f"{CONFIG} is larger than {_CONFIG_MAX} bytes")
    try:
        config = json.loads(data)
    except (ValueError, RecursionError):
        raise UnusableAdapter(f"{CONFIG} is no JSON") from None
    if not isinstance(config, dict):
        raise UnusableAdapter(f"{CONFIG} is no JSON object")
    return config


def _peft_numbers(config: dict[str, Any]) -> tuple[int, float]:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnusableAdapter(f"the adapter's peft_type is {_shown(kind)}; LORA is what is served")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= _RANK_MAX:
        raise UnusableAdapter(f"{CONFIG}: r is {_shown(rank)}, and must be 1 to {_RANK_MAX}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= _ALPHA_MAX:
        raise UnusableAdapter(
            f"{CONFIG}: lora_alpha is {_shown(alpha)}, and must be above 0 and up to {_ALPHA_MAX}"
        )
    return rank, float(alpha)


_MUST_BE_UNSET = {
    "use_dora": "it is a DoRA adapter",
    "use_qalora": "it is a QALoRA adapter",
    "use_bdlora": "it is a BD-LoRA adapter",
    "velora_config": "it is a VeLoRA adapter",
    "kasa_config": "it is a KaSA adapter",
    "monteclora_config": "it is a MonteCLoRA adapter",
    "arrow_config": "it routes between adapters",
    "alora_invocation_tokens": "it is an activated LoRA, on after certain tokens only",
    "modules_to_save": "it replaces whole modules of the base (modules_to_save)",
    "trainable_token_indices": "it changes single tokens' embeddings (trainable_token_indices)",
    "target_parameters": "it changes parameters that are no modules (target_parameters)",
    "layer_replication": "it repeats layers of the base (layer_replication)",
    "fan_in_fan_out": "its base has transposed weights (fan_in_fan_out)",
    "lora_bias": "it has biases (lora_bias)",
    "rank_pattern": "its ranks differ between modules (rank_pattern)",
    "alpha_pattern": "its scales differ between modules (alpha_pattern)",
}
"""Fields of adapter_config.json under which an adapter means something else than plain LoRA."""

_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""`init_lora_weights` under which the base stayed as it was. Others (PiSSA, OLoRA, CorDA,
LoftQ …) subtract from it first, and their adapters are right on the changed base alone."""


def _refuse_variants(config: dict[str, Any]) -> None:
    reason = next((why for key, why in _MUST_BE_UNSET.items() if config.get(key)), None)
    bias, start = config.get("bias", "none"), config.get("init_lora_weights")
    if reason is None and bias != "none":
        reason = f"it changes biases of the base (bias: {_shown(bias)})"
    if reason is None and start not in _PLAIN_STARTS:
        reason = f"it was trained on a changed base (init_lora_weights: {_shown(start)})"
    if reason is not None:
        raise UnusableAdapter(
            f"the adapter is not served: {reason}",
            hint="merge it into its base and deploy the result as a model",
        )


def _peft_pairs(header: Header) -> dict[str, LoraPair]:
    halves: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in header.tensors.items():
        half = next((each for each in "AB" if name.endswith(f".lora_{each}.weight")), None)
        if half is None or not name.startswith(_PREFIX):
            raise UnusableAdapter(f"the adapter has {_shown(name)}, which is no part of plain LoRA")
        if header.dtypes[name] not in ("F32", "F16", "BF16"):
            raise UnusableAdapter(
                f"the adapter's {name} is of {header.dtypes[name]}; F32, F16 and BF16 are known"
            )
        module = name.removeprefix(_PREFIX).removesuffix(f".lora_{half}.weight")
        halves.setdefault(f"{module}.weight", {})[half] = shape
    return _paired(halves)


# -- GGUF ------------------------------------------------------------------------------


def _read_gguf(path: Path) -> Adapter:
    header = read_gguf(path)
    told = header.metadata
    if not is_adapter(header):
        kind = told.get("general.type", "model")
        raise UnusableAdapter(
            f"{path.name} is no adapter: its type is {_shown(kind)}", hint="deploy it as a model"
        )
    if told.get("adapter.type") != "lora":
        raise UnusableAdapter(
            f"the adapter's type is {_shown(told.get('adapter.type'))}; lora is what is served"
        )
    alpha, architecture = told.get("adapter.lora.alpha"), told.get("general.architecture")
    if type(alpha) is not float or not isfinite(alpha) or not 0 < alpha <= _ALPHA_MAX:
        raise UnusableAdapter(
            f"adapter.lora.alpha is {_shown(alpha)}, and must be above 0 and up to {_ALPHA_MAX}"
        )
    if not isinstance(architecture, str):
        raise UnusableAdapter("the adapter does not say of which architecture its base is")
    base_model = told.get("general.base_model.0.name")
    return Adapter(
        "gguf",
        path,
        alpha,
        _gguf_pairs(header),
        path.stat().st_size,
        base_model=base_model if isinstance(base_model, str) and len(base_model) <= 512 else None,
        architecture=architecture,
    )


def _gguf_pairs(header: Header) -> dict[str, LoraPair]:
    halves: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in header.tensors.items():
        base, _, ending = name.rpartition(".")
        if ending in ("lora_a", "lora_b"):
            # Their fastest dimension comes first; and of an embedding, A is transposed.
            flipped = base == "token_embd.weight" and ending == "lora_a"
            told = shape if flipped else shape[::-1]
            halves.setdefault(base, {})[ending[-1].upper()] = told
        elif not name.endswith("_norm.weight"):  # which llama.cpp passes over
            raise UnusableAdapter(f"the adapter has {_shown(name)}, which is no part of plain LoRA")
    pairs = _paired(halves)
    embedding = pairs.get("token_embd.weight")
    if embedding is not None:
        # A row is looked up by A, and B makes the vector: they stand the other way round.
        pairs["token_embd.weight"] = LoraPair(embedding.rank, embedding.outputs, embedding.inputs)
    return pairs


def _paired(halves: Mapping[str, Mapping[str, tuple[int, ...]]]) -> dict[str, LoraPair]:
    if not halves:
        raise UnusableAdapter("the adapter changes nothing: it has no LoRA tensors")
    return {name: _pair(name, found) for name, found in sorted(halves.items())}


def _pair(name: str, halves: Mapping[str, tuple[int, ...]]) -> LoraPair:
    a, b = halves.get("A"), halves.get("B")
    if a is None or b is None:
        raise UnusableAdapter(f"the adapter has one half of a pair for {_shown(name)}")
    if len(a) != 2 or len(b) != 2:
        raise UnusableAdapter(
            f"the adapter's tensors for {_shown(name)} have {_list({len(a), len(b)})} dimensions; "
            "2 is what is served"
        )
    (rank, inputs), (outputs, same) = a, b
    if rank != same:
        raise UnusableAdapter(
            f"the adapter's tensors for {_shown(name)} do not pair: {rank} × {inputs} "
            f"and {outputs} × {same}"
        )
    if not 1 <= rank <= _RANK_MAX or not inputs or not outputs:
        raise UnusableAdapter(
            f"the adapter has rank {rank} for {_shown(name)}; it must be 1 to {_RANK_MAX}"
        )
    return LoraPair(rank, inputs, outputs)


def _list(values: Iterable[object]) -> str:
    return " and ".join(sorted(map(str, values)))


def _shown(value: object) -> str:
    """What somebody else chose, short enough for a message and on one line."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "…"
