"""Tokens of an OpenID Connect provider (Auth0, Keycloak, Entra, Google ...), checked by PyJWT.

pip install 'pyjwt[crypto]'
"""

import asyncio
import os

import jwt

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime, Reject, Response, User, text_agent

ISSUER = os.environ.get("OIDC_ISSUER", "https://login.example.com/")
AUDIENCE = os.environ.get("OIDC_AUDIENCE", "copilot")
# The provider's keys are fetched when one is needed that is not known yet, and kept.
KEYS = jwt.PyJWKClient(os.environ.get("OIDC_KEYS", f"{ISSUER}.well-known/jwks.json"))


def identify_user(request):
    """The function is plain, so it is called in a thread, because fetching keys blocks."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        key = KEYS.get_signing_key_from_jwt(token)
        # The algorithms are named here, because a token must not choose how it is checked.
        options = {"require": ["exp", "iss", "aud", "sub"]}
        claims = jwt.decode(
            token, key, ["RS256", "ES256"], options, audience=AUDIENCE, issuer=ISSUER
        )
    except jwt.PyJWKClientConnectionError:
        raise  # The provider is away, which is no fault of the user's: 500, and the log has it.
    except jwt.PyJWTError:
        header = {"www-authenticate": 'Bearer error="invalid_token"'}
        raise Reject(Response.json({"error": "invalid token"}, 401, header)) from None
    # "sub" is unique for its issuer, and never given to somebody else. An e-mail address may be.
    return User(claims["sub"], data=claims)


@text_agent
async def hello(input, context):
    yield f"Hello {context.user.id}"


# The agent needs no token of the user's, so that none is forwarded to it.
runtime = CopilotRuntime({"default": hello}, identify_user=identify_user)

if __name__ == "__main__":
    asyncio.run(serve(runtime, port=4000))
