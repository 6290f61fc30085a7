"""Tests of the signer for AWS requests: its signatures are compared with those that AWS has published, and with
botocore's for random requests.

They also cover API keys of Bedrock, and the CPU time of signing.
"""

import random
from dataclasses import replace
from hashlib import sha256
from urllib.parse import quote

import pytest

from gateway.upstream.credentials.sigv4 import EMPTY_PAYLOAD, Credentials, Signable, Signer
from tests.helpers.aws import botocores_api_key, botocores_headers
from tests.helpers.cpu_time import cpu_units

EXAMPLE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AT = 1440938160.0  # 2015-08-30T12:36:00Z, the time of all published signatures
HOST = "example.amazonaws.com"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
UNRESERVED = "-._~0123456789" + LETTERS
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthA"
    "x7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9"
    "q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
FORM = {"content-type": "application/x-www-form-urlencoded"}
PUBLISHED = {
    # name in aws-sig-v4-test-suite (a copy is in bazelbuild/bazel, third_party): (request, signature)
    "get-vanilla-query": (("GET", "/"), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-vanilla-query-order-key": (
        ("GET", "/", "Param1=value2&Param1=Value1"), "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
    ),
    "get-vanilla-query-order-value": (
        ("GET", "/", "Param1=value2&Param1=value1"), "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    "get-vanilla-query-unreserved": (
        ("GET", "/", f"{UNRESERVED}={UNRESERVED}"), "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    "get-vanilla-utf8-query": (
        ("GET", "/", f"{quote('ሴ')}=bar"), "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    "get-utf8": (("GET", "/ሴ"), "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    "get-unreserved": (
        ("GET", f"/{UNRESERVED}"), "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "get-space": (("GET", "/example space/"), "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
    "get-slashes": (("GET", "//example//"), "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
    "get-slash-pointless-dot": (
        ("GET", "/./example"), "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
    ),
    "get-relative-relative": (
        ("GET", "/example1/example2/../.."), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-header-value-trim": (
        ("GET", "/", "", {"my-header1": " value1", "my-header2": ' "a   b   c"'}),
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "get-header-value-order": (
        ("GET", "/", "", {"my-header1": "value4,value1,value3,value2"}),
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    "post-header-key-sort": (
        ("POST", "/", "", {"my-header1": "value1"}), "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    "post-header-value-case": (
        ("POST", "/", "", {"my-header1": "VALUE1"}), "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    "post-vanilla-empty-query-value": (
        ("POST", "/", "Param1=value1"), "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    "post-x-www-form-urlencoded": (
        ("POST", "/", "", FORM, b"Param1=value1"), "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}  # fmt: skip


def published(method, path, query="", headers=None, body=b""):
    return Signable(method, HOST, path, query, headers or {}, sha256(body).hexdigest())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_signature_is_that_which_aws_published(name):
    request, signature = PUBLISHED[name]
    headers = Signer(EXAMPLE, "us-east-1", "service").headers(published(*request), AT)
    assert headers["authorization"].partition("Signature=")[2] == signature
    assert headers["x-amz-date"] == "20150830T123600Z"


def test_a_session_token_is_signed_as_aws_published():
    signer = Signer(Credentials("AKIDEXAMPLE", EXAMPLE.secret_access_key, TOKEN), "us-east-1", "service")
    headers = signer.headers(published("POST", "/"), AT)
    assert headers["authorization"].endswith(
        "SignedHeaders=host;x-amz-date;x-amz-security-token, "
        "Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
    )
    assert headers["x-amz-security-token"] == TOKEN


MODELS = (
    "anthropic.claude-haiku-4-5-20251001-v1:0", "us.amazon.nova-lite-v1:0", "m",
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
    "arn:aws-cn:bedrock:cn-north-1:123456789012:custom-model-deployment/x.y~z", "naïve modèle/+ %&=;@!$'()*,?#[]",
)  # fmt: skip
BODY = bytes(2000)
OPERATIONS = ("converse", "converse-stream", "invoke", "invoke-with-response-stream", "count-tokens")
TEXTS = LETTERS + "0123456789 -._~%/+=&:;@\t"


def random_request(rng):
    """Return a random request, most often one to bedrock-runtime."""

    def text(longest=40):
        return "".join(rng.choices(TEXTS, k=rng.randrange(longest)))

    model = rng.choice(MODELS) if rng.random() < 0.7 else text() or "m"
    path = f"/model/{quote(model, safe='')}/{rng.choice(OPERATIONS)}"
    if rng.random() < 0.2:
        path = quote(rng.choice(("/anthropic/v1/messages", "/", "//a//b/", "/./a/../b", f"/{text()}", "/a/.b/..")))
    pairs = [(quote(text(9) or "k", safe="-._~"), quote(text(9), safe="-._~")) for _ in range(rng.randrange(4))]
    headers = {"content-type": rng.choice(("application/json", "application/json;  charset=utf-8"))}
    headers |= {f"x-amzn-bedrock-{rng.choice(LETTERS)}".lower(): text() for _ in range(rng.randrange(4))}
    body = rng.randbytes(rng.choice((0, 1, 100, 5000)))
    host = rng.choice(
        ("bedrock-runtime.us-east-1.amazonaws.com", "127.0.0.1:8123", "vpce-1.eu-west-1.vpce.amazonaws.com")
    )
    query = "&".join(f"{name}={value}" if rng.random() < 0.9 else name for name, value in pairs)
    request = Signable(rng.choice(("GET", "POST", "PUT")), host, path, query, headers, sha256(body).hexdigest())
    return request, body


def random_signer(rng):
    secret = "".join(rng.choices(LETTERS + "+/0123456789", k=40))
    token = rng.randbytes(200).hex() if rng.random() < 0.5 else ""
    region, service = rng.choice((("us-east-1", "bedrock"), ("eu-west-3", "sts"), ("cn-north-1", "bedrock-mantle")))
    return Signer(Credentials("AKIA" + "".join(rng.choices(LETTERS, k=16)).upper(), secret, token), region, service)


def test_random_requests_have_the_signature_of_botocore(pytestconfig):
    """Compare signatures of random requests with botocore's. The option `--signatures` sets the number of requests."""
    rng = random.Random(20261123)
    for _ in range(pytestconfig.getoption("--signatures")):
        signer, at = random_signer(rng), float(rng.randrange(1_400_000_000, 4_000_000_000))
        request, body = random_request(rng)
        for moment in (at, at + rng.choice((0, 1, 90_000))):
            assert signer.headers(request, moment) == botocores_headers(signer, request, body, moment), request


def test_a_key_is_that_of_awss_generator():
    rng = random.Random(20261124)
    for _ in range(100):
        signer, at = random_signer(rng), float(rng.randrange(1_400_000_000, 4_000_000_000))
        assert signer.api_key(at, 3600) == botocores_api_key(signer, at, 3600)


def test_secrets_are_in_no_repr():
    credentials = Credentials("AKIDEXAMPLE", "secret-canary", "token-canary")
    assert repr(credentials) == "Credentials(access_key_id='AKIDEXAMPLE', expires_at=inf, source='')"
    assert "canary" not in repr(Signer(credentials, "us-east-1"))


def test_two_hundred_signatures_cost_no_more_than_two_megabytes_of_json():
    """Check that computing 200 signatures takes less CPU time than decoding 1.6 MB of JSON.

    This includes hashing a body of 2,000 bytes for each signature.
    """
    signer = random_signer(random.Random(1))
    path = f"/model/{quote(MODELS[3], safe='')}/converse-stream"
    headers = {"content-type": "application/json", "accept": "application/json"}
    request = Signable("POST", "bedrock-runtime.us-east-1.amazonaws.com", path, "", headers, EMPTY_PAYLOAD)

    def sign():
        for _ in range(200):
            signer.headers(replace(request, payload=sha256(BODY).hexdigest()), AT)

    assert cpu_units(sign, enough=1.6) < 1.6
