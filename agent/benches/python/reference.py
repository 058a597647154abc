"""Reads the file of each line of standard input, KIND<TAB>PATH, and says how long that took: CPU seconds, or an error."""

import json
import sys
import time
import warnings

import pymisp
import stix2


def read_stix(data):
    """Every object made, every pattern parsed. A member that the specification does not know is no error."""
    bundle = stix2.parse(data, allow_custom=True)
    return sum(thing["type"] == "indicator" for thing in bundle["objects"])


def read_misp(data):
    event = pymisp.MISPEvent()
    event.load(data)
    return len(event.attributes) + sum(len(thing.attributes) for thing in event.objects)


def read_json(data):
    """No more than taking the text apart, which is done in C."""
    json.loads(data)
    return 0


READERS = {"stix2": read_stix, "PyMISP": read_misp, "json": read_json}

warnings.simplefilter("ignore")
for line in sys.stdin:
    kind, path = line.rstrip("\n").split("\t")
    start = time.process_time()
    try:
        with open(path, "rb") as file:
            read = READERS[kind](file.read())
        answer = {"seconds": time.process_time() - start, "read": read}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"[:200]}
    print(json.dumps(answer), flush=True)
