"""Where a receipt leads: the links of the published schema (OpenAPI 3.1, Link Object).

Made from the document alone: what every write answers leads to its event; what is written of a
provider, to its score from that event on; a recorded fact, to the later decisions on it.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

EVENT = "/v1/events/{position}"
SCORE = "/v1/providers/{identifier}/score"
PROVIDERS = "/v1/providers"
PROVIDER = PROVIDERS + "/{identifier}/"
DECISION = PROVIDER + "decisions/{id}/"
FACTS = ("breaches", "complaint-outcomes", "listings", "penalties", "rewards")
"""What later decisions are made on; the ledger tells which fits which."""
POSITION, ID = "$response.body#/position", "$response.body#/id"


def connect(document: Json) -> None:
    """Write the links into the receipts of a document."""
    paths = document["paths"]
    for path, methods in paths.items():
        receipt = methods.get("post", {}).get("responses", {}).get("201")
        if receipt is None or "Receipt" not in str(receipt["content"]):
            continue
        links = {"event": _link(paths[EVENT]["get"], position=POSITION)}
        if path.startswith(PROVIDERS):
            written = "body#/" if path == PROVIDERS else "path."
            identifier = f"$request.{written}identifier"
            links["score"] = _link(
                paths[SCORE]["get"], identifier=identifier, min_position=POSITION
            )
            if path.removeprefix(PROVIDER) in FACTS:
                links |= {
                    act.removeprefix(DECISION): _link(one["post"], identifier=identifier, id=ID)
                    for act, one in paths.items()
                    if act.startswith(DECISION)
                }
        receipt["links"] = links


def _link(operation: Json, **parameters: str) -> Json:
    return {"operationId": operation["operationId"], "parameters": parameters}
