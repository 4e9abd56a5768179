"""The counterparty of a contract: a random reference, never a name.

One client keeps one reference per provider, which the vault gives (`ledger/vault.py`): so distinct
clients can be counted, and still can when one was erased. Two spellings of one name are two clients
unless they differ in width, spaces or case alone.
"""

from __future__ import annotations

import unicodedata

from ledger.errors import CounterpartyMissing
from ledger.events import ContractCompleted, Data
from ledger.private import changed
from ledger.sealing import PlainText
from ledger.vault_errors import NotTheCounterparty

KIND = "client"


def client_to_refer_to(command: Data) -> str | None:
    """The name, in one spelling, of a client whose reference the command leaves to the vault."""
    if isinstance(command, ContractCompleted) and command.counterparty is None:
        return client_told(command)
    return None


def client_told(data: Data) -> str | None:
    """The name, in one spelling, of the client whom a contract tells by the name."""
    if not isinstance(data, ContractCompleted) or data.agreement is None:
        return None
    name = data.agreement.client
    if not isinstance(name, PlainText):
        return None
    return " ".join(unicodedata.normalize("NFKC", name.text).casefold().split())


def with_counterparty(command: ContractCompleted) -> ContractCompleted:
    """The contract with its agreement in the counterparty's name.

    Raises CounterpartyMissing or NotTheCounterparty.
    """
    if command.counterparty is None:
        raise CounterpartyMissing(item="CONTRACT_COMPLETED")
    agreement = command.agreement
    if agreement is None:
        return command
    if agreement.person not in (None, command.counterparty):
        raise NotTheCounterparty(counterparty=command.counterparty)
    if agreement.person is None:
        agreement = changed(agreement, person=command.counterparty)
        return changed(command, agreement=agreement)
    return command
