"""OpenTAXII with an account, one API root and two collections: serve_opentaxii.py DIRECTORY PORT"""

import json
import os
import sys

directory, port = sys.argv[1], int(sys.argv[2])
config = os.path.join(directory, "opentaxii.yml")
with open(config, "w") as file:
    file.write(f"""
domain: "127.0.0.1:{port}"
support_basic_auth: yes
auth_api:
  class: opentaxii.auth.sqldb.SQLDatabaseAPI
  parameters: {{db_connection: "sqlite:///{directory}/auth.db", create_tables: yes, secret: for-a-test}}
taxii1:
taxii2:
  title: a test
  max_content_length: 10000
  public_discovery: no
  persistence_api:
    class: opentaxii.persistence.sqldb.Taxii2SQLDatabaseAPI
    parameters: {{db_connection: "sqlite:///{directory}/data.db", create_tables: yes}}
logging: {{opentaxii: warning, root: warning}}
""")
os.environ["OPENTAXII_CONFIG"] = config
# OpenTAXII 0.9.3 hands UUIDs to json.dumps, which takes none.
json.JSONEncoder.default = lambda encoder, value: str(value)

from opentaxii.cli import app  # noqa: E402: it reads the environment when imported

with app.app_context():
    for username, is_admin in [("agent", True), ("guest", False)]:
        app.taxii_server.auth.api.create_account(username=username, password="pw", is_admin=is_admin)
    api = app.taxii_server.servers.taxii2.persistence.api
    root = api.add_api_root(title="intel", description=None, default=True)
    for title, alias in [("feed", "in"), ("sightings", None)]:
        api.add_collection(api_root_id=root.id, title=title, alias=alias)
app.run(host="127.0.0.1", port=port, debug=False, use_reloader=False)
