"""docs/opcua.md and docs/mqtt.md name what is there, and nothing else."""

import re
from pathlib import Path

import pytest

from edged.bridges.opcua_result import FIELDS
from edged.bridges.opcua_space import STATUS
from edged.bridges.settings_base import BridgeSection
from edged.bridges.settings_mqtt import MqttConfig
from edged.bridges.settings_opcua import OpcuaConfig
from edged.bridges.sparkplug import DEVICE_METRICS

DOCS = Path(__file__).parents[4] / "docs"


def test_fields_of_results() -> None:
    text = (DOCS / "opcua.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (String|DateTime|U?Int\d+|Byte|Boolean|Double) \|", text, re.M)
    assert dict(rows) == FIELDS
    assert set(re.findall(r"`edged/(\w+)`", text)) == set(STATUS) | {"Cell", "Expect", "LastResult"}


def test_metrics() -> None:
    text = (DOCS / "mqtt.md").read_text(encoding="utf-8")
    for group, fields in DEVICE_METRICS.items():
        (row,) = re.findall(rf"^\| `{group}/…` \| (.*) \|$", text, re.M)
        told: dict[str, str] = {}
        waiting: list[str] = []
        for name, kind in re.findall(r"`(\w+)`|\((String|UInt64|UInt8|Boolean|Double|DateTime)", row):
            if name:
                waiting.append(name)
            else:
                told |= dict.fromkeys(waiting, kind)
                waiting = []
        assert told == fields


@pytest.mark.parametrize(("page", "section"), [("opcua.md", OpcuaConfig), ("mqtt.md", MqttConfig)])
def test_every_key_is_explained(page: str, section: type[BridgeSection]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    table = text.split("| key | default | meaning |")[1].split("\n\n")[0]
    told = set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in table.splitlines() if "|" in row)))
    assert told | {"acknowledge_as"} == set(section.model_fields) | {"acknowledge_as"}
