"""The protobuf messages of Sparkplug B (Eclipse Sparkplug 3.0 §6.4), as the library reads and writes them."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import Edition, FeatureSet, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

MAX_VALUES = 100_000
"""Values that one message may have: metrics, members, properties, cells, booleans. Each costs far more than its bytes.
"""

_PACKAGE = "org.eclipse.tahu.protobuf"

_SCALARS = {
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
    "float": FieldDescriptorProto.TYPE_FLOAT,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
}

_MESSAGES = {
    "Payload": "1 uint64 timestamp, 2 Metric* metrics, 3 uint64 seq, 4 string uuid, 5 bytes body",
    "Metric": "1 string name, 2 uint64 alias, 3 uint64 timestamp, 4 uint32 datatype, 5 bool is_historical,"
    "6 bool is_transient, 7 bool is_null, 8 MetaData metadata, 9 PropertySet properties, 10 uint32 int_value,"
    "11 uint64 long_value, 12 float float_value, 13 double double_value, 14 bool boolean_value,"
    "15 string string_value, 16 bytes bytes_value, 17 DataSet dataset_value, 18 Template template_value,"
    "19 Extension extension_value",
    "MetaData": "1 bool is_multi_part, 2 string content_type, 3 uint64 size, 4 uint64 seq, 5 string file_name,"
    "6 string file_type, 7 string md5, 8 string description",
    "PropertySet": "1 string* keys, 2 PropertyValue* values",
    "PropertySetList": "1 PropertySet* propertyset",
    "PropertyValue": "1 uint32 type, 2 bool is_null, 3 uint32 int_value, 4 uint64 long_value, 5 float float_value,"
    "6 double double_value, 7 bool boolean_value, 8 string string_value, 9 PropertySet propertyset_value,"
    "10 PropertySetList propertysets_value, 11 Extension extension_value",
    "DataSet": "1 uint64 num_of_columns, 2 string* columns, 3 uint32* types, 4 Row* rows",
    "Row": "1 DataSetValue* elements",
    "DataSetValue": "1 uint32 int_value, 2 uint64 long_value, 3 float float_value, 4 double double_value,"
    "5 bool boolean_value, 6 string string_value, 7 Extension extension_value",
    "Template": "1 string version, 2 Metric* metrics, 3 Parameter* parameters, 4 string template_ref,"
    "5 bool is_definition",
    "Parameter": "1 string name, 2 uint32 type, 3 uint32 int_value, 4 uint64 long_value, 5 float float_value,"
    "6 double double_value, 7 bool boolean_value, 8 string string_value, 9 Extension extension_value",
    "Extension": "",
}
"""Each message's fields: number, type (`*`: repeated) and name. What ends in `_value` is in the oneof `value`."""


def _file() -> FileDescriptorProto:
    """Return the messages' descriptor. It differs from the published proto2 one in what the wire does not show: the
    messages are not nested, and of an edition that refuses text which is not UTF-8."""
    file = FileDescriptorProto(
        name="sparkplug_b.proto", package=_PACKAGE, syntax="editions", edition=Edition.EDITION_2023
    )
    file.options.features.repeated_field_encoding = FeatureSet.EXPANDED
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in filter(None, fields.split(",")):
            number, kind, field_name = text.split()
            repeated = kind.endswith("*")
            kind = kind.removesuffix("*")
            field = message.field.add(
                name=field_name,
                number=int(number),
                label=FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL,
                type=_SCALARS.get(kind, FieldDescriptorProto.TYPE_MESSAGE),
                type_name=None if kind in _SCALARS else f".{_PACKAGE}.{kind}",
            )
            if field_name.endswith("_value"):
                if not message.oneof_decl:
                    message.oneof_decl.add(name="value")
                field.oneof_index = 0
    return file


_POOL = DescriptorPool()  # its own: an application may have the published one in the common pool
_POOL.AddSerializedFile(_file().SerializeToString())

Payload: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.Payload"))
"""The class of a payload; the library makes its attributes as it runs."""
