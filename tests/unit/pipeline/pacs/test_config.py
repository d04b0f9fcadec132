from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.pipeline.pacs.listeners import CONTENT

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model.catalogue import available_models
from pneumoseg.pipeline.pacs.config import load_listen_config

EXAMPLE = Path(__file__).parents[4] / "examples" / "archive" / "listen.yaml"


def write(folder: Path, **values: Any) -> Path:
    path = folder / "listen.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, "spool": "spool", **values}))
    return path


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    config = load_listen_config(write(tmp_path, tls={"certificate": "a.pem", "key": "/keys/a.key"}))
    assert config.spool == tmp_path / "spool"
    assert config.analysis.model == tmp_path / "model"
    assert config.tls is not None
    assert (config.tls.certificate, config.tls.key) == (tmp_path / "a.pem", Path("/keys/a.key"))


def test_the_model_is_the_reference_where_none_is_named(tmp_path: Path) -> None:
    reference = available_models()["reference"]
    for analysis in ({}, {"model": "reference"}):
        assert load_listen_config(write(tmp_path, analysis=analysis)).analysis.model == reference


def test_a_model_folder_beside_the_configuration_goes_before_a_name_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, elsewhere = tmp_path / "config", tmp_path / "elsewhere"
    for folder in (config, elsewhere / "reference"):
        folder.mkdir(parents=True)
    path = write(config, analysis={"model": "reference"})
    monkeypatch.chdir(elsewhere)
    assert load_listen_config(path).analysis.model == available_models()["reference"]
    (config / "reference").mkdir()
    assert load_listen_config(path).analysis.model == config / "reference"


def test_the_example_is_valid() -> None:
    assert [rule.run for rule in load_listen_config(EXAMPLE).rules] == [False, True]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peers": []}, "peers: "),
        ({"peers": [{"ae_title": "x" * 17, "address": "10.0.0.1"}]}, "peers.0.ae_title: .*16"),
        ({"peers": [{"ae_title": "A", "address": "host.example"}]}, "peers.0.address"),
        ({"rules": [{"name": "a", "send_to": "nowhere"}]}, "rules.a.send_to: nowhere is none of .*pacs"),
        ({"rules": [{"name": "a"}]}, "`outputs` and `send_to`"),
        ({"rules": [{"name": "../a", "send_to": "pacs"}]}, "rules.0.name"),
        ({"rules": [{"name": "a", "send_to": "pacs"} for _ in range(2)]}, "the name a occurs twice"),
        ({"rules": [{"name": "a", "outputs": ["png"], "send_to": "pacs"}]}, "rules.0.outputs.0.*'seg'"),
        ({"limit": {}}, "limit: is no key that is known here$"),
        ({"quiet_s": float("inf")}, "quiet_s: .*finite"),
        ({"limits": {"timeout_s": float("inf")}}, "limits.timeout_s: .*finite"),
        ({"analysis": {"model": 5}}, "analysis.model: .*path"),
        ({"destinations": {"web": {"protocol": "dicomweb", "url": "http://u:p@host"}}}, "destinations.web"),
    ],
)
def test_an_invalid_value_is_named_in_one_line(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        load_listen_config(write(tmp_path, **values))
    assert "\n" not in str(raised.value)


def test_a_misspelt_key_is_named_before_the_key_that_is_missing_for_it(tmp_path: Path) -> None:
    (tmp_path / "listen.yaml").write_text("spol: spool\n")
    with pytest.raises(UsageError, match=r"listen\.yaml: spol: is no key that is known here \(and 4 more\)$"):
        load_listen_config(tmp_path / "listen.yaml")
    (tmp_path / "listen.yaml").write_text("")
    with pytest.raises(UsageError, match=r"listen\.yaml: spool: is missing \(and 3 more\)$"):
        load_listen_config(tmp_path / "listen.yaml")
