"""Redaction: no planted secret survives, whatever it is written in; what is harmless stays."""

import pytest

from headway.diagnose.redaction import hide_arguments, hide_secrets, is_secret_name

PLANTED = "s3cr3tPlanted"


@pytest.mark.parametrize(
    "text",
    [
        "HF_TOKEN={}",
        "export WANDB_API_KEY='{}' other",
        "env AWS_SECRET_ACCESS_KEY={} python train.py",
        "hub_token: {}",
        "  - api_key: {}  # mine",
        "password: two words {}",
        "secret: |\n  first\n  {}\nnext: 1",
        "secret:\n  - {}\n",
        '{{"apiKey": "{}", "b": 2}}',
        "{{'authorization': 'token {}'}}",
        "python train.py --token {} --lr 1",
        "python train.py --hub-token={}",
        "+wandb.api_key={}",
        "Authorization: Bearer {}",
        "curl -H 'Authorization: Basic {}'",
        "connect(password={}, user=1)",
        "https://user:{}@host/path",
        "postgres://user:{}@host/db",
        "https://host/x?token={}&a=1",
        "https://hooks.slack.com/services/T0/B0/{}",
        "https://discord.com/api/webhooks/1/{}",
        "--notify https://ntfy.sh/{}",
        'bash -c "HF_TOKEN={} python train.py"',
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n{}",
        "docker run --env=HF_TOKEN={} image",
        "cmd='HF_TOKEN={} python train.py'",
        "os.environ['HF_TOKEN'] = '{}'",
        'os.environ.setdefault("HF_TOKEN", "{}")',
        "login('{}')",
        "PGPASSWORD={} psql",
        "AWS_ACCESS_KEY_ID={}",
        "env: {{HF_TOKEN: {}}}",
        "HF_TOKEN=a|b&c,d;{}",
        "a=b,c=d,HF_TOKEN={}",
        "DATABASE_URL=postgres://user:{}@host/db",
        "Cookie: a=b; session={}",
        "AccountKey={};EndpointSuffix=core",
        "the client said hf_abcdefgh{}12345678",
        "ghp_0123456789abcdef{}",
        "sk-proj-0123456789{}",
    ],
)
def test_no_secret_survives(text: str) -> None:
    assert PLANTED not in hide_secrets(text.format(PLANTED))


@pytest.mark.parametrize(
    "text",
    [
        "pad_token: <pad>",
        "sorted(rows, key=lambda row: row.size)",
        'if key == "config" and other_key != "b":',
        "self.keys = self.keys.to(device)",
        "eos_token: </s>",
        "max_tokens: 500",
        "token: true",
        "--use-auth-token --lr 2e-4",
        "tokenizer: /models/a",
        "the key is here and a token of it",
        "step 3/100 · loss 2.45",
        "learning_rate: 0.0002\nseed: 5\n",
        'File "/a/train.py", line 3, in <module>',
    ],
)
def test_what_is_harmless_stays(text: str) -> None:
    assert hide_secrets(text) == text


def test_what_follows_a_secret_stays() -> None:
    told = hide_secrets(f"secret:\n  a: {PLANTED}\nseed: 5\npassword: {PLANTED}\nbatch_size: 8\n")
    assert told.splitlines() == ["secret:", "seed: 5", "password: ...", "batch_size: 8"]


def test_arguments() -> None:
    words = ("python", "t.py", "--token", PLANTED, "--hub-token=" + PLANTED, "--use-auth-token")
    more = ("--lr", "2e-4", "-p", "x", f"HF_TOKEN={PLANTED}", "--max-tokens", "5")
    assert hide_arguments((*words, *more)) == (
        *("python", "t.py", "--token", "...", "--hub-token=...", "--use-auth-token"),
        *("--lr", "2e-4", "-p", "x", "HF_TOKEN=...", "--max-tokens", "5"),
    )


@pytest.mark.parametrize(
    "words",
    [("wandb", "login", PLANTED), ("curl", "-u", f"me:{PLANTED}"), ("x", f"--env=KEY={PLANTED}")],
)
def test_arguments_of_other_programs(words: tuple[str, ...]) -> None:
    assert PLANTED not in " ".join(hide_arguments(words))


@pytest.mark.parametrize("piece", ['"a":1,', "a=", "--a ", "token=x ", "a:", "'", "sk-", "key "])
def test_a_line_of_any_length_takes_no_longer_than_it_should(piece: str) -> None:
    """Nothing recurs and nothing is tried twice: a megabyte in one line, as logs may have."""
    assert PLANTED not in hide_secrets(piece * (300_000 // len(piece)) + f" HF_TOKEN={PLANTED}")


def test_an_argument_that_looks_random_is_a_secret_and_a_path_is_none() -> None:
    random, path = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "/Users/Ada/Project2/checkpoints/x1"
    assert hide_arguments(("cmd", random, path)) == ("cmd", "...", path)


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "apiKey", "--api-key", "AWS_ACCESS_KEY_ID", "pwd", "PGPASSWORD"]
)
def test_names_that_promise_a_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["pad_token", "monkey", "tokenizer", "author", "max_tokens", ""])
def test_names_that_do_not(name: str) -> None:
    assert not is_secret_name(name)
