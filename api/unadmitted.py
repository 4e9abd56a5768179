"""Why somebody who shows a token or a key is not let in: one class a reason.

A part of `api/refusals.py`. No message repeats what was shown, or whom it names.
"""

from __future__ import annotations

from api.refusals import TokenRefused
from ledger.errors import LedgerError


class TokenMalformed(TokenRefused):
    """The Authorization header holds no token of this system."""

    code = "token-malformed"
    zh = "Authorization 请求头中没有本系统的令牌。"


class TokenAlgorithm(TokenRefused):
    """A token is signed with {algorithm} and nothing else."""

    code = "token-algorithm"
    zh = "令牌只能以 {algorithm} 签名。"


class TokenForged(TokenRefused):
    """The token's signature was not made with its issuer's key."""

    code = "token-forged"
    zh = "令牌的签名不是由其签发方的密钥作出。"


class TokenWrongType(TokenRefused):
    """This is no access token for any bearer: its typ must be {types}, and ID tokens are none."""

    code = "token-wrong-type"
    zh = "这不是可由持有人使用的访问令牌：typ 须为 {types}，身份令牌（ID token）不是访问令牌。"


class TokenKeyUnknown(TokenRefused):
    """The token names no key that {issuer} shows now."""

    code = "token-key-unknown"
    zh = "令牌所指的密钥不在 {issuer} 现行公布的密钥之中。"


class TokenLivesTooLong(TokenRefused):
    """The token is good for longer than {hours} hour(s), which nobody could take back."""

    code = "token-lives-too-long"
    zh = "令牌有效期超过 {hours} 小时，其间无法收回。"


class TokenExpired(TokenRefused):
    """The token has expired; ask for a new one."""

    code = "token-expired"
    zh = "令牌已过期，请申请新的令牌。"


class TokenNotYetValid(TokenRefused):
    """The token is not valid yet; compare the clocks."""

    code = "token-not-yet-valid"
    zh = "令牌尚未生效，请核对时钟。"


class TokenWrongIssuer(TokenRefused):
    """The token was not issued by {issuer}."""

    code = "token-wrong-issuer"
    zh = "令牌不是由 {issuer} 签发。"


class TokenWrongAudience(TokenRefused):
    """The token was not issued for {audience}."""

    code = "token-wrong-audience"
    zh = "令牌不是为 {audience} 签发。"


class ApiKeyMalformed(TokenRefused):
    """This is no whole API key: a character is wrong or missing."""

    code = "api-key-malformed"
    zh = "API 密钥不完整：有字符错误或缺失。"


class ApiKeyUnknown(TokenRefused):
    """There is no such API key here."""

    code = "api-key-unknown"
    zh = "本系统没有该 API 密钥。"


class ApiKeyExpired(TokenRefused):
    """The API key {key}… has expired; ask for a new one."""

    code = "api-key-expired"
    zh = "API 密钥 {key}… 已过期，请申请新的密钥。"


class ApiKeyRevoked(TokenRefused):
    """The API key {key}… was revoked; ask for a new one."""

    code = "api-key-revoked"
    zh = "API 密钥 {key}… 已被吊销，请申请新的密钥。"


class BearerNotAdmitted(LedgerError):
    """A token of {issuer} is good, but admits nobody here: {why}."""

    code = "bearer-not-admitted"
    status = 403
    zh = "{issuer} 的令牌有效，但不足以在此获准：{why}。"


class ScopeMissing(LedgerError):
    """The token or key may not {does}: it lacks the scope {scope}."""

    code = "scope-missing"
    status = 403
    zh = "该令牌或密钥不得{does}：缺少范围 {scope}。"


class IssuerUnavailable(LedgerError):
    """Tokens of {issuer} cannot be judged now, since its keys are not known: {why}."""

    code = "issuer-unavailable"
    status = 503
    zh = "目前无法判断 {issuer} 的令牌，因为未能取得其公钥：{why}。"
