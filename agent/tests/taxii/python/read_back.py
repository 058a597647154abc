"""Reads a collection with the reference client into a bundle: read_back.py URL TITLE USER PASSWORD FILE"""

import json
import sys

from taxii2client.v21 import Server, as_pages

url, title, user, password, path = sys.argv[1:]
server = Server(url, user=user, password=password)
collections = [collection for root in server.api_roots for collection in root.collections if collection.title == title]
objects = [thing for page in as_pages(collections[0].get_objects, per_request=50) for thing in page.get("objects", [])]
newest = {}
for thing in objects:
    # OpenTAXII 0.9.3 gives the type for the version of STIX.
    if thing["spec_version"] == thing["type"]:
        thing["spec_version"] = "2.1"
    known = newest.get(thing["id"])
    if known is None or known.get("modified", "") <= thing.get("modified", ""):
        newest[thing["id"]] = thing
with open(path, "w") as file:
    json.dump({"type": "bundle", "id": "bundle--5c0d0a3e-54ab-4c2c-9c4e-7b8f7a3c1d11", "objects": list(newest.values())}, file)
