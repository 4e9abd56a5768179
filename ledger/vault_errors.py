"""What the vault can refuse; of the one family of errors (`ledger/errors.py`)."""

from __future__ import annotations

from ledger.errors import LedgerError


class PersonErased(LedgerError):
    """A person whom this concerns was erased: nothing more can be sealed for {person}."""

    code = "person-erased"
    zh = "所涉人员的资料已被删除，不能再为 {person} 封存任何内容。"


class NotTheCounterparty(LedgerError):
    """The agreement of a contract is sealed for its counterparty {counterparty}, nobody else."""

    code = "not-the-counterparty"
    zh = "合同内容只能以合同相对方 {counterparty} 的名义封存。"


class NotYourPerson(LedgerError):
    """Reference {person} is somebody's under whom {organisation} has sealed nothing yet.

    Leave `person` out: a new reference is drawn; a client is told by the name.
    """

    code = "not-your-person"
    zh = (
        "编号 {person} 已属他人，而 {organisation} 尚未以其名义封存过内容："
        "请勿填写 person，由系统另编编号；客户以名称识别。"
    )


class SealingOff(LedgerError):
    """This process has no vault keys: it can neither seal a text nor open one."""

    code = "sealing-off"
    status = 503
    zh = "本进程没有保险库密钥，既不能封存文本，也不能开启已封存的文本。"


class VaultKeyMissing(LedgerError):
    """The vault key of epoch {epoch}, with which this was sealed, is not in the key folder."""

    code = "vault-key-missing"
    status = 503
    zh = "密钥目录中没有封存时所用的第 {epoch} 期保险库密钥。"


class SealBroken(LedgerError):
    """The sealed text {path} of event {event} is not what was sealed there."""

    code = "seal-broken"
    status = 500
    zh = "事件 {event} 中封存的文本 {path} 与封存时不符。"


class UnknownPerson(LedgerError):
    """There is no person {person} in this ledger."""

    code = "unknown-person"
    status = 404
    zh = "本账本没有编号为 {person} 的人员。"


class PersonNotHeld(LedgerError):
    """No erasure of person {person} is on hold, so there is no hold to end."""

    code = "person-not-held"
    zh = "人员 {person} 的删除请求未被暂缓，无可解除。"


class OfficerOnRecord(LedgerError):
    """Reference {person} is somebody's who acts here: it stays known as long as acts are kept.

    Otherwise one officer could come back as two.
    """

    code = "officer-on-record"
    zh = (
        "编号 {person} 属于在本账本办理过事项的工作人员：办理记录保存期内须可辨识其人，不得删除，"
        "以免同一人以两人身份办理。"
    )
