"""An OpenID Connect provider in the Hub's place, which grants every login at once to one user (needs gradio[oauth])."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey


@contextmanager
def serving(user: Mapping[str, object]) -> Iterator[str]:
    """The address of a provider that says of everybody that they are `user`."""
    key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
    asked = {}

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self):
            place, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            if place == "/.well-known/openid-configuration":
                return self.answer(
                    {
                        "issuer": address,
                        "authorization_endpoint": f"{address}/authorize",
                        "token_endpoint": f"{address}/token",
                        "jwks_uri": f"{address}/keys",
                        "id_token_signing_alg_values_supported": ["RS256"],
                    }
                )
            if place == "/keys":
                return self.answer({"keys": [key.as_dict(private=False)]})
            asked.update(nonce=query["nonce"][0], client=query["client_id"][0])
            back = query["redirect_uri"][0]
            granted = urlencode({"code": "granted", "state": query["state"][0]})
            self.send_response(302)
            self.send_header("Location", f"{back}{'&' if '?' in back else '?'}{granted}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            now = int(time.time())
            claims = dict(user) | {"iss": address, "aud": asked["client"], "nonce": asked["nonce"]}
            claims |= {"iat": now, "exp": now + 600}
            token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, key)
            kind = {"access_token": "hf_oauth_x", "token_type": "Bearer", "expires_in": 600, "scope": "openid profile"}
            self.answer(kind | {"id_token": token})

        def answer(self, content: dict) -> None:
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield address
    server.shutdown()
