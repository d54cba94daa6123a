"""Refuses recipients who have left, and clients that go on guessing."""

import json
from dataclasses import dataclass

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import on_data, on_rcpt
from wit_world.exports.configure import Registration
from wit_world.imports import config, kv, log
from wit_world.imports.log import Level
from wit_world.imports.types import EnhancedStatus, Reply

HOUR = 3600


@dataclass
class Settings:
    refused: frozenset[str]  # addresses, in lower case
    patience: int  # so many refusals in an hour, then the client is disconnected

    @classmethod
    def read(cls) -> "Settings":
        table = json.loads(config.json())
        refused = table.get("refused")
        if not isinstance(refused, list) or not all(isinstance(one, str) for one in refused):
            raise Err("`refused` has to be a list of addresses")
        patience = table.get("patience", 3)
        if type(patience) is not int or patience < 0:
            raise Err("`patience` has to be a number from 0 on")
        return cls(frozenset(one.lower() for one in refused), patience)


# A cache: an instance may vanish between any two stages and be configured anew. What has to
# outlive a call belongs in kv.
settings: Settings


class Configure(exports.Configure):
    def configure(self) -> Registration:
        global settings
        settings = Settings.read()
        return Registration("{{name}}", "0.1.0", "Refuses recipients who have left")


class OnRcpt(exports.OnRcpt):
    def rcpt(self, session, transaction, recipient) -> on_rcpt.Decision:
        address = recipient.address.lower()
        if address not in settings.refused:
            return on_rcpt.Decision(on_rcpt.Verdict_Next(), None, None)
        refusals = count(session.info().client.ip)
        if refusals > settings.patience:
            reply = Reply(421, EnhancedStatus(7, 0), ["Too many recipients who are not here"])
            verdict = on_rcpt.Verdict_Disconnect(reply)
            return on_rcpt.Decision(verdict, f"refusal {refusals} within the hour", "patience")
        reply = Reply(550, EnhancedStatus(1, 1), [f"{address} is not here any more"])
        return on_rcpt.Decision(on_rcpt.Verdict_Reject(reply), f"{address} is listed", "refused")


class OnData(exports.OnData):
    def data(self, session, transaction, content) -> on_data.Decision:
        refusals = kv.get(key(session.info().client.ip))
        if refusals is None:
            return on_data.Decision(on_data.Verdict_Next(), None, None)
        number = refusals.decode()
        content.prepend_header("X-Refused-Recipients", number)
        transaction.add_tag("guesser")
        return on_data.Decision(on_data.Verdict_Next(), f"{number} refused before", "guesser")


def count(client: str) -> int:
    """One more refusal for this client; how many that makes within the hour."""
    try:
        refusals = kv.increment(key(client), 1, HOUR)
    except Err as error:  # without the store nobody is disconnected
        log.write(Level.WARN, "refusals are not counted", [("error", str(error.value))])
        return 0
    log.write(Level.INFO, "refused", [("client", client), ("refusals", str(refusals))])
    return refusals


def key(client: str) -> str:
    return f"refused/{client}"
