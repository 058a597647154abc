"""Judges STIX bundles by the reference tools: check_stix.py BUNDLE...

Valid by stix2-validator, readable by stix2, the ids of observables as stix2 makes them, and readable by misp-stix. Prints
what is in them as JSON.
"""

import collections
import json
import sys

import stix2
import stix2validator
from misp_stix_converter import ExternalSTIX2toMISPParser

types, warnings, in_misp = collections.Counter(), set(), collections.Counter()
for path in sys.argv[1:]:
    results = stix2validator.validate_file(path, stix2validator.ValidationOptions(version="2.1"))
    stix2validator.print_results([results]) if not results.is_valid else None
    assert results.is_valid, path
    for result in results.object_results if hasattr(results, "object_results") else [results]:
        warnings.update(str(warning) for warning in result.warnings or [])
    with open(path) as file:
        bundle = stix2.parse(file.read(), allow_custom=False)
    for thing in bundle.objects:
        types[thing["type"]] += 1
        if thing["type"] in ("ipv4-addr", "ipv6-addr", "domain-name"):
            assert stix2.parse({"type": thing["type"], "value": thing["value"]}, version="2.1")["id"] == thing["id"], thing
        if thing["type"] == "file":
            assert stix2.v21.File(hashes=dict(thing["hashes"]))["id"] == thing["id"], thing
        if thing["type"] == "sighting":
            assert thing["last_seen"] >= thing["first_seen"] and thing["modified"] >= thing["created"], thing
    parser = ExternalSTIX2toMISPParser()
    parser.load_stix_bundle(bundle)
    parser.parse_stix_bundle(single_event=True)
    assert not parser.errors, parser.errors
    for attribute in parser.misp_event.attributes:
        in_misp["attributes"] += 1
        in_misp["sightings"] += len(attribute.sightings)
print(json.dumps({"types": types, "warnings": sorted(warnings), "misp": in_misp}))
