import time


def wait_for_model() -> None:
    print("ready", flush=True)
    time.sleep(10_000)


wait_for_model()
