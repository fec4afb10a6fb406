"""What clients see: the nodes below `edged`, kept coherent, and the event of each result.

All values of a result are set before anybody can read one: the loop that answers readers does not run in between.
They carry one source timestamp, the decision's, so a client that collects them one by one can tell as well.
"""

import dataclasses
import datetime
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asyncua import Node, ua
from asyncua.common.structures104 import new_struct, new_struct_field
from asyncua.server.event_generator import EventGenerator
from asyncua.server.history import HistoryDict

from edged.bridges.opcua_limits import BoundedServer
from edged.bridges.opcua_result import FIELDS, entities_of, result_of

__all__ = ["NAMESPACE", "Space"]

NAMESPACE = "urn:edged:verdicts"
MAX_PROGRAMS = 256
MAX_ARGUMENT_CHARS = 128
"""What the daemon's control socket takes."""

STATUS: dict[str, tuple[ua.VariantType, Any]] = {
    "Ready": (ua.VariantType.Boolean, False),
    "Fault": (ua.VariantType.Boolean, True),
    "Armed": (ua.VariantType.Boolean, False),
    "ArmedPrograms": (ua.VariantType.String, []),
    "DaemonState": (ua.VariantType.String, "connecting"),
    "IsSimulated": (ua.VariantType.Boolean, False),
    "Software": (ua.VariantType.String, ""),
    "LastSequenceNumber": (ua.VariantType.UInt64, 0),
    "LostResults": (ua.VariantType.UInt64, 0),
    "RefusedClients": (ua.VariantType.UInt64, 0),
}
"""Node below `edged` → its type, and its value before the daemon is heard. These are the bridge's own words: Good."""

Expect = Callable[[str, str, str], Awaitable[tuple[bool, str, str]]]
"""(program, part_id, seam_ref) → accepted, seam_id, why not. Raises TimeoutError."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Structures:
    result: Any
    entity: Any


class Space:
    """The nodes of one cell. `build` before the server starts; everything else on its loop."""

    def __init__(self, server: BoundedServer, cell: str, history: int, expect: Expect) -> None:
        self._server, self._cell, self._history_count, self._expect = server, cell, history, expect
        self._storage = HistoryDict()
        self._nodes: dict[str, Node] = {}
        self._programs: dict[str, ua.NodeId] = {}
        self._last: dict[ua.NodeId, ua.DataValue] = {}
        self._is_usable = False

    async def build(self) -> None:
        """Make types, nodes and the method; `index` is the namespace's from then on."""
        self.index = await self._server.register_namespace(NAMESPACE)
        self._types = await self._structures()
        root = await self._server.nodes.objects.add_object(self._id("edged"), self._name("edged"))
        await root.write_attribute(
            ua.AttributeIds.Description, ua.DataValue(ua.Variant(ua.LocalizedText(f"Verdicts of {self._cell}")))
        )
        cell = await root.add_variable(self._id("edged/Cell"), self._name("Cell"), self._cell)
        await self._announce(cell)
        for name, (kind, value) in STATUS.items():
            self._nodes[name] = await root.add_variable(self._id(f"edged/{name}"), self._name(name), value, kind)
        self._last_result = await self._result_node(root, "edged/LastResult", "LastResult")
        for name, type_name in FIELDS.items():
            path = f"edged/LastResult/{name}"
            node = await self._last_result.add_variable(
                self._id(path),
                self._name(name),
                ua.get_default_value(ua.VariantType[type_name]),
                ua.VariantType[type_name],
            )
            self._nodes[path] = node
        self._folder = await root.add_folder(self._id("edged/Programs"), self._name("Programs"))
        await self._keep_history(self._last_result)
        self._event = await self._event_type(root)
        await self._method(root)
        await self.unusable(ua.StatusCodes.BadWaitingForInitialData)

    async def show(self, topic: str, sequence: int, journal_id: str, message: Mapping[str, Any]) -> None:
        """A verdict: structure, variables, history, event. Values that are shown are Good again."""
        fields = result_of(topic, sequence, journal_id, message)
        made_at = fields["CreationTime"]
        whole = self._types.result(
            **fields, AssociatedEntities=[self._types.entity(*entity) for entity in entities_of(message)]
        )
        value = _good(ua.Variant(whole, ua.VariantType.ExtensionObject), made_at)
        self._last[self._last_result.nodeid] = value
        for name, kind in FIELDS.items():
            node_id = self._nodes[f"edged/LastResult/{name}"].nodeid
            self._last[node_id] = _good(ua.Variant(fields[name], ua.VariantType[kind]), made_at)
        if topic != "part" and (program := await self._program(topic.partition("/")[2])) is not None:
            self._last[program] = value
        await self._storage.save_node_value(self._last_result.nodeid, value)
        if self._is_usable:
            await self._write_all(self._last)
        await self._trigger(fields)

    async def usable(self) -> None:
        """The daemon is heard: the last results are what they say again."""
        self._is_usable = True
        await self._write_all(self._last)

    async def unusable(self, code: int = ua.StatusCodes.BadNoCommunication) -> None:
        """Nobody knows what is so now: every result turns bad, so that no old OK is taken for a new one."""
        self._is_usable = False
        bad = ua.DataValue(
            Value=ua.Variant(None, ua.VariantType.Null), StatusCode=ua.StatusCode(code), SourceTimestamp=_now()
        )
        nodes = [self._last_result.nodeid, *(self._nodes[f"edged/LastResult/{name}"].nodeid for name in FIELDS)]
        await self._write_all(dict.fromkeys([*nodes, *self._programs.values()], bad))

    async def say(self, **status: Any) -> None:
        """Set nodes of `STATUS` that changed."""
        for name, value in status.items():
            kind, _ = STATUS[name]
            node_id = self._nodes[name].nodeid
            before = self._server.read_attribute_value(node_id).Value
            if before is None or before.Value != value:
                await self._server.write_attribute_value(node_id, _good(ua.Variant(value, kind), _now()))

    async def _write_all(self, values: Mapping[ua.NodeId, ua.DataValue]) -> None:
        """First every value, in one go; then those who subscribed are told."""
        nodes = self._server.iserver.aspace
        for node_id, value in values.items():
            nodes[node_id].attributes[ua.AttributeIds.Value].value = value
        for node_id, value in list(values.items()):
            await self._server.write_attribute_value(node_id, value)

    async def _structures(self) -> _Structures:
        text = ua.VariantType.String
        entity, _ = await new_struct(
            self._server,
            self._id("EdgedEntityDataType"),
            self._name("EdgedEntityDataType"),
            [new_struct_field("Name", text), new_struct_field("EntityId", text)],
        )
        fields = [new_struct_field(name, ua.VariantType[kind]) for name, kind in FIELDS.items()]
        fields.append(new_struct_field("AssociatedEntities", entity, array=True))
        self._result_type, _ = await new_struct(
            self._server, self._id("EdgedResultDataType"), self._name("EdgedResultDataType"), fields
        )
        await self._server.load_data_type_definitions()
        classes = ua.extension_objects_by_datatype
        return _Structures(classes[self._result_type.nodeid], classes[entity.nodeid])

    async def _result_node(self, parent: Node, path: str, name: str) -> Node:
        empty = ua.Variant(self._types.result(), ua.VariantType.ExtensionObject)
        return await parent.add_variable(self._id(path), self._name(name), empty, datatype=self._result_type.nodeid)

    async def _program(self, name: str) -> ua.NodeId | None:
        if name not in self._programs:
            if len(self._programs) >= MAX_PROGRAMS:
                return None
            node = await self._result_node(self._folder, f"edged/Programs/{name}", name)
            self._programs[name] = node.nodeid
        return self._programs[name]

    async def _keep_history(self, node: Node) -> None:
        """Written by `show` itself: asyncua's own way, over a subscription, may drop some of a burst."""
        self._server.iserver.history_manager.set_storage(self._storage)
        await self._storage.new_historized_node(node.nodeid, None, self._history_count)
        await node.write_attribute(ua.AttributeIds.Historizing, ua.DataValue(True))
        for attribute in (ua.AttributeIds.AccessLevel, ua.AttributeIds.UserAccessLevel):
            await node.set_attr_bit(attribute, ua.AccessLevel.HistoryRead)

    async def _event_type(self, root: Node) -> EventGenerator:
        base = self._server.get_node(ua.NodeId(ua.ObjectIds.BaseEventType))
        kind = await base.add_object_type(self._id("EdgedResultEventType"), self._name("EdgedResultEventType"))
        for name, type_name in FIELDS.items():
            type_ = ua.VariantType[type_name]
            path = f"EdgedResultEventType/{name}"
            await kind.add_property(self._id(path), self._name(name), ua.get_default_value(type_), varianttype=type_)
        event = await self._server.get_event_generator(kind)
        event.event.SourceNode, event.event.SourceName = root.nodeid, "edged"
        return event

    async def _trigger(self, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            setattr(self._event.event, name, value)
        self._event.event.Severity = 100 if fields["ResultEvaluationCode"] == 1 else 600
        said = (
            f"{fields['Name']} {fields['ResultId']}: {('INDETERMINATE', 'OK', 'NOK')[fields['ResultEvaluationCode']]}"
        )
        await self._event.trigger(time_attr=fields["CreationTime"], message=said)

    async def _method(self, root: Node) -> None:
        text, yes = ua.VariantType.String, ua.VariantType.Boolean
        given = [_argument("Program", text), _argument("PartId", text), _argument("SeamRef", text)]
        got = [_argument("Accepted", yes), _argument("SeamId", text), _argument("Error", text)]
        await root.add_method(self._id("edged/Expect"), self._name("Expect"), self._called, given, got)

    async def _called(self, _parent: ua.NodeId, *arguments: ua.Variant) -> Any:
        if len(arguments) != 3 or any(each.VariantType != ua.VariantType.String for each in arguments):
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        texts = [each.Value or "" for each in arguments]
        try:
            if any(len(text) > MAX_ARGUMENT_CHARS for text in texts):
                accepted, seam_id, error = False, "", f"a text has more than {MAX_ARGUMENT_CHARS} characters"
            else:
                accepted, seam_id, error = await self._expect(*texts)
        except TimeoutError:
            return ua.StatusCode(ua.StatusCodes.BadTimeout)
        return [
            ua.Variant(accepted, ua.VariantType.Boolean),
            ua.Variant(seam_id, ua.VariantType.String),
            ua.Variant(error, ua.VariantType.String),
        ]

    async def _announce(self, node: Node) -> None:
        await node.write_attribute(
            ua.AttributeIds.Description, ua.DataValue(ua.Variant(ua.LocalizedText("cell.name of edged's config")))
        )

    def _id(self, path: str) -> ua.NodeId:
        return ua.NodeId(path, self.index)

    def _name(self, name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, self.index)


def _argument(name: str, kind: ua.VariantType) -> ua.Argument:
    return ua.Argument(Name=name, DataType=ua.NodeId(kind.value), ValueRank=-1)


def _good(variant: ua.Variant, at: datetime.datetime) -> ua.DataValue:
    return ua.DataValue(Value=variant, SourceTimestamp=at, ServerTimestamp=_now())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
