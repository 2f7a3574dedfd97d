import re

PATTERN = re.compile(r"(a?){40}a{40}")


def clean(text: str) -> bool:
    return bool(PATTERN.match(text))


print("ready", flush=True)
clean("a" * 40)
