"""Judges OCSF events, a line of JSON each on standard input, by the published schema of the version that each names.

Prints how many there were. Unknown attributes, values that an enumeration lacks and wrong types are errors.
"""

import json
import sys

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

count = 0
validators = {}
for line in sys.stdin:
    event = json.loads(line)
    metadata = event["metadata"]
    key = (metadata["version"], event["class_uid"], tuple(metadata["profiles"]))
    if key not in validators:
        schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=key[0]))
        schema = schemas.get_class_schema(schemas.lookup_class_name_from_uid(key[1]), profiles=list(key[2]))
        validators[key] = jsonschema.Draft202012Validator(schema)
    for error in validators[key].iter_errors(event):
        sys.exit(f"{metadata.get('uid', event['class_uid'])}: {list(error.absolute_path)}: {error.message}")
    count += 1
print(count)
