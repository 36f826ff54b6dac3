import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import SettingsInvalid
from service.settings import PREFIX, Settings, client_key, listed, read_settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*(n for n in os.environ if n.startswith(PREFIX)), "HOST", "PORT"]:  # noqa: TID251
        monkeypatch.delenv(name, raising=False)


def test_the_defaults_are_valid() -> None:
    assert read_settings() == Settings()


def test_the_environment_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_MAX_AUDIO_S", "60")
    monkeypatch.setenv("ASR_ENGINE", "fake")

    assert read_settings().max_audio_s == 60
    assert read_settings().engine == "fake"


@pytest.mark.parametrize("prefix", ["", "ASR_"])
def test_host_and_port_have_their_usual_names_too(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{prefix}HOST", "0.0.0.0")
    monkeypatch.setenv(f"{prefix}PORT", "9000")

    assert (read_settings().host, read_settings().port) == ("0.0.0.0", 9000)


def test_the_command_line_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("ASR_MODEL", "one")

    settings = read_settings(port=9001, model=None)

    assert (settings.port, settings.model) == (9001, "one")


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_MAX_AUDIO", "60")

    with pytest.raises(SettingsInvalid, match="got 'ASR_MAX_AUDIO'"):
        read_settings()


def test_a_value_out_of_range_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_MAX_REQUESTS", "0")

    with pytest.raises(SettingsInvalid, match="max_requests"):
        read_settings()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="nonsense"):
        read_settings(nonsense="1")


def test_keys_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_API_KEYS", "web:standard:a-key-that-is-long-enough")

    settings = read_settings()

    assert settings.api_keys is not None
    assert "long-enough" in settings.api_keys.get_secret_value()
    for shown in (repr(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "long-enough" not in shown


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TRUSTED_PROXIES", "10.0.0.0/8, proxy.example", "trusted_proxies"),
        ("ALLOWED_ORIGINS", "captions.example.org", "https://captions.example.org"),
        ("ALLOWED_ORIGINS", "https://captions.example.org/path", "https://captions.example.org"),
        ("TLS_CERTIFICATE", "server.pem", "tls_certificate and tls_key together"),
        ("RESERVED_STREAMS", "32", "reserved_streams below max_streams"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ASR_{name}", value)

    with pytest.raises(SettingsInvalid, match=message):
        read_settings()


@pytest.mark.parametrize("engine", ["onnx", "fake"])
def test_only_torch_runs_on_a_gpu(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_DEVICE", "cuda")

    with pytest.raises(SettingsInvalid, match=f"torch for device cuda, got {engine}"):
        read_settings(engine=engine)
    assert read_settings(engine="auto").device == "cuda"


def test_lists_stand_between_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1 ::1,*")

    assert listed(read_settings().trusted_proxies) == ("10.0.0.0/8", "192.0.2.1", "::1", "*")


def test_the_command_lines_key_is_no_setting_of_the_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASR_API_KEY", "from-the-environment")
    (tmp_path / "key").write_text("from-the-file\n", encoding="utf-8")

    assert read_settings() == Settings()
    assert client_key(None) == "from-the-environment"
    assert client_key(tmp_path / "key") == "from-the-file"
    with pytest.raises(SettingsInvalid, match="expected a readable file with a key"):
        client_key(tmp_path / "none")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


@given(st.sampled_from(sorted(Settings.model_fields)))
def test_every_setting_says_what_it_is(name: str) -> None:
    assert Settings.model_fields[name].description
