"""Configuration files: every key is known and typed, errors name file, key and the nearest known one."""

from __future__ import annotations

from pathlib import Path

import pytest

from placet import compute_config, config
from placet.errors import BadConfig


@pytest.fixture
def compute_yaml(tmp_path: Path) -> Path:
    return tmp_path / "compute.yaml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rezise: false", "rezise: unknown key (did you mean 'resize'?)"),
        ("resize: 3", "resize: expected true or false, found 3"),
        ("uuid: abc", "uuid: 'abc' is not a UUID"),
        ("etcd: {hosst: a}", "etcd.hosst: unknown key (did you mean 'host'?)"),
        ("etcd: {port: x}", "etcd.port: expected a whole number"),
        ("etcd: 5", "etcd: expected keys and values"),
        ("etcd: {timeout: abc}", "etcd.timeout: expected seconds above 0"),
        ("etcd: {timeout: 0}", "etcd.timeout: expected seconds above 0"),
        ("etcd: {ca_cert: 5}", "etcd.ca_cert: expected text"),
        ("placement: {timeout_s: 0}", "placement.timeout_s: expected seconds above 0"),
        ("inventory: {VCPU: {allocation_ratio: .inf}}", "not above 0 and finite"),
        ("placement: {endpoint: [a]}", "placement.endpoint: expected text, found a list"),
        ("placement: {endpont: a}", "placement.endpont: unknown key (did you mean 'endpoint'?)"),
        ("network: {range: 10.0.0.0/33}", "network.range:"),
        ("network: {range: 198.19.0.0/26}", "no IPv4 network of /24 or wider"),
        ("network: {range: 'fd00::/48'}", "network.range: fd00::/48 is no IPv4 network"),
        ("network: {range6: none-of-it}", "network.range6:"),
        ("network: {range6: 'fd00::/56'}", "fd00::/56 is no IPv6 network of /48"),
        ("network: {range6: 10.0.0.0/8}", "10.0.0.0/8 is no IPv6 network of /48"),
        ("network: {range: 0.0.0.0/4}", "more /24s than a /48 has /64s"),
        ("network: {bridge: 'a b'}", "network.bridge: 'a b' is no name of a bridge"),
        ("inventory: {VCPU: {total: -1}}", "inventory.VCPU.total: -1 is not from 0 to"),
        ("inventory: {VCPU: {total: 2147483648}}", "inventory.VCPU.total: 2147483648 is not from 0 to"),
        ("inventory: {VCPU: {step_size: 0}}", "inventory.VCPU.step_size: 0 is not from 1 to"),
        ("inventory: {VCPU: {min_unit: 4, max_unit: 2}}", "inventory.VCPU.max_unit: 2 is below min_unit, 4"),
        ("inventory: {vcpus: {total: 1}}", "inventory.vcpus: no resource class (did you mean 'VCPU'?)"),
        ("inventory: {CUSTOM_GPÜ: {total: 1}}", "inventory.CUSTOM_GPÜ: no resource class"),
        ("traits: CUSTOM_SSD", "traits: expected a list"),
        ("traits: [custom_ssd]", "traits: 'custom_ssd' is no trait"),
        ("traits: [COMPUTE_STATUS_DISABLED]", "traits: COMPUTE_STATUS_DISABLED is not a node's to have"),
        ("inventory: {VCPU: {allocation_ratio: -1}}", "not above 0"),
        ("driver: xen", "neither 'libvirt' nor 'fake'"),
        ("workers: 0", "workers must be at least 1"),
        ("log_level: loud", "log_level"),
        ("max_image_gb: 0", "max_image_gb: 0 is not above 0"),
        ("image_cache_gb: -1", "image_cache_gb: -1 is not above 0"),
        ("image_timeout_s: .nan", "image_timeout_s: nan is not above 0"),
        ("image_hosts: ['http://a']", "image_hosts: 'http://a' is no name, address or .suffix"),
        ("image_hosts: [A.example]", "image_hosts: 'A.example' is no name, address or .suffix"),
        ("image_hosts: a", "image_hosts: expected a list"),
        ("- a", "expected keys and values, found a list"),
        ("a: [", "line 2: not valid YAML"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(compute_yaml: Path, text: str, words: str) -> None:
    compute_yaml.write_text(text + "\n")
    with pytest.raises(BadConfig) as caught:
        compute_config.load_compute(str(compute_yaml))
    assert words in str(caught.value)
    assert str(compute_yaml) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_seed_files_keys_keep_their_meaning(compute_yaml: Path) -> None:
    compute_yaml.write_text(
        "uuid: 7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10\netcd: {host: e, port: 1, ca_cert: /c}\n"
        "placement: {endpoint: http://p}\nresize: false\nbridge: br0\n"
    )
    found = compute_config.load_compute(str(compute_yaml))
    assert found.uuid == "7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10"
    assert found.etcd == {"host": "e", "port": 1, "ca_cert": "/c"}
    assert found.placement.endpoint == "http://p"
    assert (found.resize, found.bridge) == (False, "br0")


def test_an_empty_file_is_all_defaults(compute_yaml: Path) -> None:
    compute_yaml.write_text("")
    assert compute_config.load_compute(str(compute_yaml)).placement.endpoint == "http://localhost:8080"


def test_a_config_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(BadConfig, match=r"/nonexistent\.yaml: no such file"):
        config.load_schedule("/nonexistent.yaml")


def test_the_state_directorys_file_comes_before_the_one_beside_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACET_STATE_DIR", str(tmp_path))
    (tmp_path / "schedule.yaml").write_text("project: mine\n")
    assert config.load_schedule(None).project == "mine"


@pytest.mark.parametrize("name", ["compute.yaml", "schedule.yaml"])
def test_the_files_beside_the_scripts_are_valid(name: str) -> None:
    path = str(config.BESIDE_SCRIPT / name)
    assert compute_config.load_compute(path) if name == "compute.yaml" else config.load_schedule(path)


def test_every_key_is_documented() -> None:
    text = (config.BESIDE_SCRIPT / "docs" / "configuration.md").read_text()
    ours = (compute_config.ComputeConfig, compute_config.NetworkConfig)
    for cls in (*ours, config.ScheduleConfig, config.PlacementConfig):
        for name in cls.__dataclass_fields__:
            assert f"`{name}`" in text or f".{name}`" in text, f"{name} is not in docs/configuration.md"
