"""A visitor who speaks to the page over HTTP as its script does: a session of their own, events by component."""

import json
import secrets
from collections.abc import Mapping

import httpx


class RawVisitor:
    """One session of the page at `address`; headers: sent with each request."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None):
        self.http = httpx.Client(base_url=address.rstrip("/"), headers=headers, timeout=120)
        self.session = secrets.token_hex(8)
        self.config = self.http.get("/config").json()
        self.components = {one["id"]: one for one in self.config["components"]}

    def chain(self, elem_id: str, event: str = "click") -> list[dict]:
        """The event of the component with that id, and what follows it, one after another."""
        (target,) = (key for key, one in self.components.items() if one["props"].get("elem_id") == elem_id)
        found = [one for one in self.config["dependencies"] if [target, event] in one["targets"]][:1]
        while following := [one for one in self.config["dependencies"] if one["trigger_after"] == found[-1]["id"]]:
            found.append(following[0])
        return found

    def send(self, dependency: Mapping, **given) -> list:
        """Run one event with what stands in the page; given: other values, by elem_id with underscores. What it gives.

        Raises RuntimeError with the sentence of a refusal.
        """
        data = [given.get(self._name(key), self.components[key]["props"].get("value")) for key in dependency["inputs"]]
        body = {"data": data, "fn_index": dependency["id"], "session_hash": self.session}
        self.http.post("/gradio_api/queue/join", json=body).raise_for_status()
        output = []
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    if not message["success"]:
                        raise RuntimeError(message["output"]["error"])
                    output = message["output"]["data"] or output
                    return output
                if message.get("msg") == "process_generating":
                    output = message["output"]["data"]
        raise RuntimeError("The page said nothing.")

    def do(self, elem_id: str, **given) -> list:
        """Run an event of a component; the values that it gives."""
        return self.send(self.chain(elem_id)[0], **given)

    def draw(self) -> None:
        """Press Draw and wait for the end of the run, as the page does."""
        for dependency in self.chain("df-draw"):
            if dependency["backend_fn"]:
                self.send(dependency)

    def _name(self, key: int) -> str:
        return (self.components[key]["props"].get("elem_id") or "").replace("-", "_")
